#!/usr/bin/env bash
# Tests exported plans with the real libraries: bash tests/integrations.sh [composer]
#
# Makes .venv-integrations (about 450 MB), which sees what .venv has and adds Lightning, Accelerate, transformers, timm
# and Ray. With the word composer it also makes .venv-composer (about 6 GB: Composer takes torch below 2.7.1).
# Python of .venv: PYTHON=/path/to/python. More options for pip: PIP_ARGS.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
read -ra pip_args <<<"${PIP_ARGS:-}"

install() { # environment, packages...
    local place=$1; shift
    echo "Installing into $place: $*"
    "$place/bin/python" -m pip install -q --disable-pip-version-check "${pip_args[@]}" "$@"
}

libraries() { "$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["integrations"], sep="\n")'; }

own=.venv-integrations
if [ ! -e $own/.installed ]; then
    rm -rf $own
    "$python" -m venv $own
    site=$("$own/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/autotrain-base.pth"
    mapfile -t wanted < <(libraries)
    install $own "${wanted[@]}"
    touch $own/.installed
fi

if [ "${1:-}" = composer ]; then
    if [ ! -e .venv-composer/.installed ]; then
        rm -rf .venv-composer
        "$python" -m venv .venv-composer
        install .venv-composer "mosaicml>=0.32"
        touch .venv-composer/.installed
    fi
    export AUTOTRAIN_COMPOSER_PYTHON=$PWD/.venv-composer/bin/python
fi

PYTHONPATH=$PWD exec $own/bin/python -m pytest -v tests/integration/test_integrations.py tests/unit/plan/test_plan_schema.py
