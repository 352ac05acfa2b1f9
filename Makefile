# `make demo` and `make test` need Python 3.11 or newer, make and a network; everything else goes into .venv.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-integrations lint docs accessibility clean rebuild

# A Python of your choice: make test PYTHON=/path/to/python3.12
PYTHON ?=
# More options for pip, such as an index of your own
PIP_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)

# An environment whose Python is gone, or that was made for a copy of this folder, is made anew.
WORKS := import os, autotrain; assert os.path.samefile(os.path.dirname(autotrain.__file__), "autotrain")
ifneq ($(wildcard $(VENV)/.installed),)
ifneq ($(shell $(RUN) -I -c '$(WORKS)' 2>/dev/null && echo works),works)
$(VENV)/.installed: rebuild
endif
endif

help:
	@echo "make demo    make images, probe a small network on them, train it with the plan (5 minutes)"
	@echo "make test    run the tests (under 10 minutes)"
	@echo "make test-integrations"
	@echo "             run the tests with Lightning, Accelerate, transformers, timm and Ray"
	@echo "make lint    run the linters"
	@echo "make docs    write the API reference to site/, from the docstrings"
	@echo "make accessibility   check the HTML report with axe-core; needs Chromium and npm"
	@echo "make clean   remove .venv, the demo's images and all caches"
	@echo
	@echo "demo, test, lint and docs first make .venv and install into it: several GB, once."

demo: $(VENV)/.installed
	@$(RUN) examples/demo.py

# Three processes share the tests, but for those whose outcome depends on how fast something is: they come last, alone.
test: $(VENV)/.installed-dev
	@if [ -n "$(PYTEST_ARGS)" ]; then $(RUN) -m pytest $(PYTEST_ARGS); exit; fi; \
	code=0; \
	$(RUN) -m pytest -q -n 3 --dist loadfile -m "not alone" || code=$$?; \
	$(RUN) -m pytest -q -m alone || code=$$?; \
	exit $$code

test-integrations: $(VENV)/.installed-dev
	@PIP_ARGS="$(PIP_ARGS)" bash tests/integrations.sh

lint: $(VENV)/.installed-dev
	@failed=""; \
	check() { echo "$$*"; "$(VENV)/bin/$$@" || failed="$$failed $$1"; }; \
	check ruff check; \
	check ruff format --check; \
	check mypy; \
	check lint-imports --no-cache; \
	check hadolint Dockerfile; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed" >&2; exit 1; fi

# What people call and are given, in the order of a newcomer's questions
PUBLIC := api prepared task settings training plan.plan schedules.schedule engine.events errors

docs: $(VENV)/.installed-dev
	@$(RUN) -m pdoc --docformat google --no-show-source -o site $(PUBLIC:%=autotrain.%)
	@echo "site/index.html: ready"

accessibility: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(RUN) tests/accessibility.py

clean:
	rm -rf $(VENV) .venv-integrations .venv-composer .demo plan.yaml build dist site
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find autotrain tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last. An environment with .making in it was left half-made; it goes, and so does one without
# a working pip. One that you made yourself is kept and installed into.
$(VENV)/.installed: pyproject.toml
	@set -e; \
	if [ -e $(VENV)/.making ] || ! $(RUN) -m pip --version >/dev/null 2>&1; then rm -rf $(VENV); fi; \
	if [ ! -d $(VENV) ]; then \
		$(find_python); \
		echo "Making $(VENV) with $$python ($$("$$python" --version 2>&1))."; \
		mkdir $(VENV); touch $(VENV)/.making; \
		"$$python" -m venv $(VENV); \
	fi; \
	echo "Installing: this downloads several GB (torch above all) and takes minutes."; \
	$(RUN) -m pip install -qq --disable-pip-version-check $(PIP_ARGS) -e .; \
	rm -f $(VENV)/.making; \
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the test tools."; \
	$(RUN) -m pip install -qq --disable-pip-version-check $(PIP_ARGS) -e '.[dev]' && touch $@

rebuild:
	@echo "$(VENV) does not work here any more; making it anew."; rm -rf $(VENV)

# Sets $python to the first interpreter that is new enough and can make environments (Debian ships venv apart).
define find_python
python=""; old=""; bare=""; \
for name in $(PYTHONS); do \
	"$$name" -c "" >/dev/null 2>&1 || continue; \
	if ! "$$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then old="$$name"; continue; fi; \
	if "$$name" -c "import venv, ensurepip" >/dev/null 2>&1; then python="$$name"; break; fi; \
	bare="$${bare:-$$name}"; \
done; \
if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	echo "$$bare cannot make virtual environments: its venv module is missing." >&2; \
	echo "On Debian and Ubuntu: sudo apt install $$("$$bare" -c "import sys; print('python%d.%d-venv' % sys.version_info[:2])")" >&2; \
	exit 1; \
fi; \
if [ -z "$$python" ]; then \
	echo "No Python 3.11 or newer found (looked for: $(PYTHONS))." >&2; \
	if [ -n "$$old" ]; then echo "$$old is $$("$$old" --version 2>&1), which is too old." >&2; fi; \
	echo "Install one from your system's packages or python.org, or name yours: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1; \
fi
endef
