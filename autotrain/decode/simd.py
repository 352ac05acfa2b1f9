"""Pillow-SIMD in a directory of its own: it has Pillow's import name, and installed beside Pillow it destroys it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import PIL

from autotrain.errors import InstallationError, UnsupportedError
from autotrain.hardware.cpu import cpu_facts

VARIABLE = "AUTOTRAIN_PILLOW_SIMD"
"""Environment variable that names the directory, in place of the one that ``autotrain simd`` makes."""

Installer: TypeAlias = Callable[[Path, dict[str, str]], "subprocess.CompletedProcess[str]"]
"""Installs Pillow-SIMD into a directory, with environment variables set in addition."""

_MACHINES = ("x86_64", "amd64")
_APT = "sudo apt-get install gcc python3-dev libjpeg-dev zlib1g-dev"
_PIP_MISSING = (
    "this environment has no pip, which builds Pillow-SIMD. Run: python -m ensurepip --upgrade "
    "(with uv: uv pip install pip)"
)
_CHECK = """
import io, sys
sys.path.insert(0, sys.argv[1])
import PIL
from PIL import Image
assert PIL.__file__.startswith(sys.argv[1]), PIL.__file__
file = io.BytesIO()
Image.new("RGB", (40, 30), (200, 100, 50)).save(file, "JPEG")
picture = Image.open(file).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
assert abs(picture.getpixel((4, 4))[0] - 200) < 8, picture.getpixel((4, 4))
"""


def home() -> Path:
    """Return the folder of all that ``autotrain simd`` builds (XDG Base Directory Specification)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share"
    return base / "autotrain" / "pillow-simd"


def tag() -> str:
    """Return what a build is for: Python version, architecture and instructions, as homes are shared by machines."""
    parts = [sys.implementation.cache_tag or "python", platform.machine().lower()]
    return "-".join([*parts, "avx2"] if _avx2() else parts)


def installed() -> Path | None:
    """Return the directory that holds Pillow-SIMD for this Python and CPU, the newest version; None without one."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named) if (Path(named) / "PIL").is_dir() else None
    return max(_builds(), key=lambda build: build.stat().st_mtime, default=None)


def unavailable() -> str | None:
    """Return the reason why there is no Pillow-SIMD here, with the remedy."""
    if installed() is not None:
        return None
    named = os.environ.get(VARIABLE)
    if named:
        return f"{VARIABLE} is {named}, which holds no package PIL: correct or unset it"
    if platform.machine().lower() not in _MACHINES:
        return f"Pillow-SIMD is for x86-64, not for {platform.machine()}"
    return "Pillow-SIMD is not built here: run 'autotrain simd'"


def in_use() -> str:
    """Return the Pillow that this process runs, such as ``Pillow 13.0.0`` or ``Pillow-SIMD 9.5.0.post2``."""
    return f"Pillow-SIMD {PIL.__version__}" if _is_simd() else f"Pillow {PIL.__version__}"


def misplaced() -> str | None:
    """Return the reason why this process cannot decode with Pillow-SIMD; None where it is what it runs."""
    return None if _is_simd() else f"this process runs {in_use()}, not Pillow-SIMD"


def build(install: Installer | None = None) -> Path:
    """Build Pillow-SIMD from its source and put it into its directory; nothing that is installed is touched.

    Args:
        install: does the building, pip where not given.

    Raises:
        UnsupportedError: this is no x86-64 CPU.
        InstallationError: pip, a compiler or a header file is missing, or the result does not work.
    """
    if platform.machine().lower() not in _MACHINES:
        raise UnsupportedError(f"Pillow-SIMD is for x86-64 CPUs, this is {platform.machine()}: use another decoder")
    try:
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=home()) as folder:
            target = Path(folder) / "target"
            done = (install or _pip)(target, _compiler())
            if done.returncode != 0:
                raise InstallationError(_explained(done.stdout + done.stderr))
            _check(target)
            return _put_in_place(target)
    except OSError as problem:
        raise InstallationError(
            f"{home()}: {problem.strerror or problem}. Set XDG_DATA_HOME to a writable folder"
        ) from problem


def remove() -> tuple[Path, ...]:
    """Delete what ``build`` made, for every Python version; return the directories that were there."""
    found = tuple(sorted(entry for entry in home().glob("*") if entry.is_dir())) if home().is_dir() else ()
    for entry in found:
        shutil.rmtree(entry)
    return found


def version(directory: Path) -> str:
    """Return the version of the Pillow-SIMD in a directory, ``unknown`` where its metadata lacks."""
    for entry in sorted(directory.glob("*.dist-info")):
        name, _, number = entry.name.removesuffix(".dist-info").partition("-")
        if name.lower().replace("_", "-") == "pillow-simd":
            return number
    return "unknown"


def _builds() -> list[Path]:
    return [entry for entry in home().glob(f"{tag()}-*") if (entry / "PIL").is_dir() and _same_tag(entry)]


def _same_tag(entry: Path) -> bool:
    """Tell builds without AVX2 from those with it, whose names begin alike."""
    return not entry.name.removeprefix(f"{tag()}-").startswith("avx2-")


def _is_simd() -> bool:
    return ".post" in PIL.__version__  # its releases are Pillow's version and .postN, which Pillow itself never had


@cache
def _avx2() -> bool:
    return platform.machine().lower() in _MACHINES and "avx2" in cpu_facts().features


def _compiler() -> dict[str, str]:
    """Return the compiler's setting: without it, Pillow-SIMD is built for SSE4."""
    return {"CC": f"{os.environ.get('CC', 'cc')} -mavx2"} if _avx2() else {}


def _pip(target: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        raise InstallationError(_PIP_MISSING)
    options = ["--no-deps", "--no-binary", "pillow-simd", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", "--target", str(target), *options, "pillow-simd"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _check(target: Path) -> None:
    """Let a process of its own import and decode with what was built."""
    command = [sys.executable, "-c", _CHECK, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise InstallationError(
            f"Pillow-SIMD was built but does not work ({_last_line(done.stderr)}). Use another decoder"
        )


def _put_in_place(target: Path) -> Path:
    place = home() / f"{tag()}-{version(target)}"
    if place.exists():  # a directory cannot be renamed onto another; the old one goes with the temporary folder
        place.rename(target.with_name("old"))
    target.rename(place)
    return place


_REMEDIES = (
    (
        ("no matching distribution", "connection", "could not find a version", "timed out"),
        "pip cannot reach the package index",
    ),
    (("library files could not be found for jpeg", "jpeglib.h"), f"libjpeg's header files are missing. Run: {_APT}"),
    (("library files could not be found for zlib", "zlib.h"), f"zlib's header files are missing. Run: {_APT}"),
    (("python.h",), f"Python's header files are missing. Run: {_APT}"),
    (("no such file or directory: 'cc'", "command 'cc' failed", "unable to execute", "command 'gcc' failed"), ""),
)


def _explained(output: str) -> str:
    """Return what to do about a failed build."""
    lowered = output.lower()
    for signs, words in _REMEDIES:
        if any(sign in lowered for sign in signs):
            reason = words or f"the C compiler is missing or failed. Run: {_APT}"
            return f"Pillow-SIMD cannot be built: {reason} (pip: {_last_line(output)})"
    return f"Pillow-SIMD cannot be built. It needs a C compiler and header files: {_APT} (pip: {_last_line(output)})"


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1][:200]
