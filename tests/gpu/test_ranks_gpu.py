"""Ranks with a GPU each train what one process would have trained, batch statistics included where they are shared."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]

JOBS = Path(__file__).parents[1] / "ranked.py"


def launch(job: str, folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*command, str(JOBS), job, str(folder)],
        env={**os.environ, "DEVICE": "cuda"},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def ranked(own_draws: None) -> Any:
    """The module of jobs."""
    spec = importlib.util.spec_from_file_location("ranked_on_gpus", JOBS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("job", ["steps", "synced"])
def test_ranks_equal_one_process(job: str, ranked: Any, tmp_path: Path) -> None:
    launch(job, tmp_path)
    layer = nn.GroupNorm(2, 8) if job == "steps" else nn.BatchNorm2d(8)
    alone = ranked.facts(ranked.train(ranked.network(layer), device="cuda"))
    found = torch.load(tmp_path / f"{job}-0.pt", map_location="cuda")
    torch.testing.assert_close(found["weights"], alone["weights"], rtol=1e-3, atol=1e-5)
    assert found["losses"] == pytest.approx(alone["losses"], rel=1e-3)


def test_ranks_probe_together(tmp_path: Path) -> None:
    launch("probed", tmp_path)
    assert torch.load(tmp_path / "plan-0.pt") == torch.load(tmp_path / "plan-1.pt")
