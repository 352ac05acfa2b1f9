"""An environment of its own for each rival, which sees this one's torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

SHARED = "zz-shared-torch.pth"
"""Read after all else in the environment's packages, so that what lies there comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A package that tunes training, and the script that lets it search."""

    package: str
    version: str
    module: str
    script: str
    needs_cuda: bool = False

    @property
    def name(self) -> str:
        """Package and version."""
        return f"{self.package} {self.version}"


TOOLS = (
    Tool(package="loadtune", version="0.3.0", module="loadtune", script="search_loadtune.py"),
    Tool(package="fournex", version="0.3.1", module="fournex", script="search_fournex.py"),
    Tool(
        package="pytorch-autotune",
        version="2.0.0",
        module="pytorch_autotune",
        script="search_autotune.py",
        needs_cuda=True,
    ),
)


def environment(tool: Tool, folder: Path) -> Path:
    """Return the Python of the tool's environment in a folder, made where it is not there yet.

    pip finds torch and torchvision installed, since the environment sees this one's packages behind its own, and
    installs what else the tool requires.

    Raises:
        subprocess.CalledProcessError: the environment cannot be made; pip has said why.
    """
    place = folder / tool.package
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if python.exists() and installed(tool, python):
        return python
    print(f"making {place} with {tool.name}, torch shared from {shared()}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    (Path(asked.stdout.strip()) / SHARED).write_text(f"{shared()}\n")
    wanted = f"{tool.package}=={tool.version}"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted], check=True)
    return python


def shared() -> Path:
    """Return the folder of packages that holds torch."""
    return Path(torch.__file__).resolve().parent.parent


def installed(tool: Tool, python: Path) -> bool:
    """Return whether an environment holds the tool's version and finds torch."""
    version = f"print(importlib.metadata.version({tool.package!r}))"
    code = f"import importlib.metadata, importlib.util; assert importlib.util.find_spec('torch'); {version}"
    asked = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True)
    return asked.stdout.strip() == tool.version
