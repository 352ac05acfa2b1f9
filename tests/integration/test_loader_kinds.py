"""Real worker processes: another Pillow in them, a main script that is not run again, and a parent that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import PIL
import psutil
import pytest

from autotrain.augment.policy import policy
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import open_source
from autotrain.data.stream import Stream
from autotrain.errors import CandidateError

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, signal, sys

with open("runs", "a") as runs:
    print("run", file=runs)

import PIL
from autotrain.augment.policy import policy
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import open_source
from autotrain.data.stream import Stream

def environment():
    return {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}  # torch's own

images, pillow = sys.argv[1], sys.argv[2] or None
main, path, before, home = sys.modules["__main__"], list(sys.path), environment(), PIL.__file__
reader = Reader(open_source(images), Recipe(seed=0, policy=policy("none"), image_size=8))
loader = Loader(reader, Stream(36, 4, seed=0), LoaderOptions(workers=1 if pillow else 2, prefetch=1, pillow=pillow))
assert sys.modules["__main__"] is main and sys.path == path
assert environment() == before and sys.modules["PIL"].__file__ == home
for step in range(4):
    assert next(loader).step == step
assert loader.pause()
print(loader.start_method, *loader.pids, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def other_pillow(tmp_path: Path) -> Path:
    """A folder with the installed Pillow in another place, as ``pip --target`` would lay out another one."""
    installed = Path(PIL.__file__).parent
    for entry in (installed, installed.parent / "pillow.libs"):
        if entry.exists():
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def survivors(pids: list[int], seconds: float = 5.0) -> list[int]:
    """Return the processes that are still there after a while, having killed them."""
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < until:
        time.sleep(0.01)
    for pid in left:
        psutil.Process(pid).kill()
    return left


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are tied to their parent on Linux")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_frozen_workers_end_when_their_parent_is_killed(
    method: str, jpeg_folder: Path, other_pillow: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also: fresh workers import the Pillow asked for, and do not run the main script again."""
    folder = tmp_path_factory.mktemp("script")
    (folder / "main.py").write_text(SCRIPT)
    pillow = str(other_pillow) if method == "spawn" else ""
    with open(folder / "told", "w") as told:  # not a pipe, which a worker that survives would keep open
        run = subprocess.run(
            [sys.executable, "main.py", str(jpeg_folder), pillow],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=told,
            timeout=60,
        )
    assert run.returncode == -9
    start_method, *numbers = (folder / "told").read_text().split()
    assert start_method == method
    assert len(numbers) == (2 if method == "fork" else 1)
    assert survivors([int(number) for number in numbers]) == []
    assert (folder / "runs").read_text() == "run\n"


def test_workers_with_another_pillow_than_asked_for_are_a_failed_candidate(jpeg_folder: Path, tmp_path: Path) -> None:
    reader = Reader(open_source(jpeg_folder), Recipe(seed=0, policy=policy("none"), image_size=8))
    options = LoaderOptions(workers=1, prefetch=1, pillow=str(tmp_path))
    with Loader(reader, Stream(36, 4, seed=0), options) as loader:
        assert loader.start_method == "spawn"
        with pytest.raises(CandidateError) as caught:
            next(loader)
    home = Path(PIL.__file__).parents[1]
    assert str(caught.value) == f"asked for the Pillow in {tmp_path}, but Pillow {PIL.__version__} from {home} runs"
