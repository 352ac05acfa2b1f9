import importlib.metadata
import subprocess
import sys

import pytest

from autotrain import __version__
from autotrain.cli import main as cli
from autotrain.errors import InstallationError, TaskError
from autotrain.installation import check_installation


def test_help_imports_no_torch():
    script = (
        "import sys\nfrom autotrain.cli.main import run\n"
        "codes = [run(['--help']), run(['probe', '--help']), run(['fit', '--help'])]\n"
        "print(codes, sorted({'torch', 'torchvision', 'optuna', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] []"
    assert "--batch-size" in done.stdout
    assert "--install-completion" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "autotrain", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"autotrain {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["prob"], ["probe", "--modle", "x"], ["probe", "--batch-size", "0"], ["fit", "a", "b"]]
)
def test_usage_errors_exit_with_2(autotrain, arguments):
    done = autotrain(*arguments)
    assert done.code == 2
    assert "Usage: autotrain" in done.err
    assert "Traceback" not in done.err


def test_an_expected_error_is_one_line(api, target, autotrain):
    api.raises = TaskError("labels out of range:\n  label 12")
    done = autotrain("probe", target)
    assert (done.code, done.err) == (2, "autotrain: error: labels out of range: label 12\n")


def test_an_unexpected_error_is_one_line_and_a_hint(api, target, autotrain):
    api.raises = ZeroDivisionError("division by zero")
    done = autotrain("probe", target)
    assert done.code == 1
    assert done.err == (
        "autotrain: error: unexpected ZeroDivisionError: division by zero. Run again with --debug to see where\n"
    )


@pytest.mark.parametrize(("problem", "code"), [(TaskError("no"), 2), (ZeroDivisionError("no"), 1)])
def test_debug_shows_the_traceback(api, target, autotrain, problem, code):
    api.raises = problem
    done = autotrain("probe", target, "--debug")
    assert done.code == code
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("autotrain: error: ")


def test_ctrl_c_where_there_is_nothing_to_keep(api, target, autotrain):
    api.raises = KeyboardInterrupt()
    done = autotrain("probe", target)
    assert (done.code, done.err) == (130, "autotrain: interrupted\n")


def test_the_other_project_of_this_name_is_detected(autotrain, monkeypatch):
    with pytest.raises(InstallationError, match=r"autotrain-advanced 0\.8 .*pip uninstall autotrain-advanced"):
        check_installation(lambda name: "0.8")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    check_installation(missing)

    monkeypatch.setattr(cli, "check_installation", lambda: check_installation(lambda name: "0.8"))
    done = autotrain("--version")
    assert done.code == 2
    assert done.err.startswith("autotrain: error: autotrain-advanced 0.8 is installed")
