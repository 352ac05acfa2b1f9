"""Several ranks probe: what needs a model that lies in parts on them is done by all at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranked_probe
import torch

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, jpeg_folder: Path) -> Path:
    """Where two ranks wrote down what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.create_server(("127.0.0.1", 0)) as server:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "IMAGES": str(jpeg_folder)}
    started = [
        subprocess.Popen(
            [sys.executable, ranked_probe.__file__, str(folder)],
            env={**os.environ, **world, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=170)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return folder


@pytest.fixture
def found(folder: Path) -> list[dict[str, Any]]:
    """What their guard said, by rank."""
    return [torch.load(folder / f"guarded-{rank}.pt") for rank in range(2)]


def test_the_guard_judges_what_fits_on_no_device(found: list[dict[str, Any]]) -> None:
    """It used to put the whole model onto the first rank's."""
    first, second = found
    problem, losses, checks = first["healthy"]
    assert problem is None
    assert len(losses) == 6
    assert {"whole gradient", "update", "optimizer state"} <= set(checks)
    assert losses == second["healthy"][1], "all go by the mean of their losses"
    assert first["untouched"]
    assert second["untouched"]


def test_what_the_first_rank_finds_counts_for_all(found: list[dict[str, Any]]) -> None:
    """Whoever went on alone would wait for the others without end."""
    first, second = found
    assert first["rank 0"][0] == "planted"
    assert second["rank 0"][0] == "as rank 0 has found"
    assert first["rank 1"][0] is second["rank 1"][0] is None


def test_ranks_keep_images_in_one_place_on_disk(folder: Path) -> None:
    """They fill it together, while they train what they would have trained without."""
    for rank in range(2):
        assert torch.load(folder / f"cached-{rank}.pt") == {
            "same": True,
            "filled": 36,
            "images": 4,
            "with those of the probe": 3,
            "left": 1,
        }
