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
    raise InstallationError(
        f"{RIVAL} {found} is installed in this environment too, and both projects have a module and a command named "
        "'autotrain', so each overwrites the other's files. Use an environment of its own for each, or: "
        f"pip uninstall {RIVAL} && pip install --force-reinstall --no-deps autotrain-torch"
    )
