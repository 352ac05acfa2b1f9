"""A look at what else is installed: another project on PyPI has a module and a command of the same name."""

import importlib.metadata
from collections.abc import Callable

from autotrain.errors import InstallationError

RIVAL = "autotrain-advanced"
"""The other distribution; whichever is installed last overwrites files of the first."""


def check_installation(version: Callable[[str], str] = importlib.metadata.version) -> None:
    """Refuse to run beside a distribution that overwrites this one.

    Args:
        version: returns the installed version of a distribution.

    Raises:
        InstallationError: it is installed.
    """
    try:
        found = version(RIVAL)
    except importlib.metadata.PackageNotFoundError:
        return
    remove, install = reinstallation(RIVAL)
    raise InstallationError(
        f"{RIVAL} {found} is installed in this environment too, and both projects have a module and a command named "
        "'autotrain', so each overwrites the other's files. Use an environment of its own for each, or: "
        f"{remove}, then from your copy of autotrain's repository: {install}"
    )


def reinstallation(rival: str) -> tuple[str, str]:
    """Return the commands that remove another distribution and put back, from a copy of the repository, this one."""
    return f"pip uninstall {rival}", "pip install --force-reinstall --no-deps ."
