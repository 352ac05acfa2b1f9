"""Several ranks train what one process would have trained, fail together, and go on in other numbers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from torch import nn

from autotrain.settings import Settings

pytestmark = [pytest.mark.usefixtures("one_thread", "own_draws"), pytest.mark.slow]

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def by_torchrun(ranks: int, job: str, folder: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """Start a job on several ranks of this machine, as people do."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.run(
        [*command, ranked.__file__, job, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def launch(ranks: int, job: str, folder: Path, **environment: object) -> list[tuple[int, str]]:
    """Start a job on several ranks with the variables that torchrun sets, seconds sooner; return codes and outputs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = []
    for rank in range(ranks):
        given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, **environment}
        said = (folder / f"said-{job}-{rank}").open("w+")
        process = subprocess.Popen(
            [sys.executable, ranked.__file__, job, str(folder)],
            env={
                **os.environ,
                **{name: str(value) for name, value in given.items()},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            },
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        started.append((process, said))
    ended = []
    for process, said in started:
        code = process.wait(220)
        said.seek(0)
        ended.append((code, said.read()))
        said.close()
    return ended


def succeeded(ended: list[tuple[int, str]]) -> None:
    assert not any(code for code, _ in ended), "\n".join(said for _, said in ended)


def found(folder: Path, name: str, rank: int = 0) -> Any:
    return torch.load(folder / f"{name}-{rank}.pt")


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    torch.testing.assert_close(one["weights"], other["weights"], **CLOSE)
    assert one["losses"] == pytest.approx(other["losses"], rel=1e-4)
    assert one["validation"] == [pytest.approx(entry, rel=1e-4) for entry in other["validation"]]
    assert (one["images"], one["steps"]) == (other["images"], other["steps"])


@pytest.mark.parametrize("ranks", [2, 4])
def test_gradients_and_losses_are_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    """Ten images do not divide by four: the ranks' parts differ in size, and count for what they are."""
    succeeded(launch(ranks, "equal", tmp_path))
    alone = {
        "step": ranked.facts(ranked.train(ranked.network(), duration="1step")),
        "epochs": ranked.facts(ranked.train(ranked.network(nn.Identity()))),
        "parts": ranked.facts(ranked.train(ranked.network(), clip_norm=0.5, ema=0.9)),
        "loader": ranked.facts(ranked.train(ranked.network())),
    }
    for name, expected in alone.items():
        same(found(tmp_path, name), expected)
        for rank in range(1, ranks):
            weights = found(tmp_path, name, rank)["weights"]
            assert all(torch.equal(weights[key], value) for key, value in found(tmp_path, name)["weights"].items())


def test_what_goes_wrong_on_one_rank_concerns_all(tmp_path: Path) -> None:
    succeeded(launch(2, "odd", tmp_path))
    same(found(tmp_path, "halved"), ranked.facts(ranked.train(ranked.network(nn.Identity()))))
    assert found(tmp_path, "events").count("Halved") == 1
    first, second = found(tmp_path, "skips"), found(tmp_path, "skips", 1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["3.never"], torch.ones(3))
    assert not torch.equal(first["3.first"], torch.ones(1))
    assert found(tmp_path, "refused") == found(tmp_path, "refused", 1)


def test_a_training_whose_ranks_die_goes_on_in_other_numbers(tmp_path: Path) -> None:
    killed = by_torchrun(2, "stopped", tmp_path, STOP_RANK=1, STOP_STEP=8, STOP_SIGNAL=int(signal.SIGKILL))
    assert killed.returncode != 0
    assert list((tmp_path / "kept").iterdir())
    killed = by_torchrun(1, "stopped", tmp_path, STOP_RANK=0, STOP_STEP=7, STOP_SIGNAL=int(signal.SIGKILL))
    assert killed.returncode != 0
    ended = by_torchrun(2, "stopped", tmp_path)
    assert ended.returncode == 0, ended.stderr
    same(found(tmp_path, "end"), ranked.facts(ranked.train(ranked.network(), Settings(), duration="6ep")))


def test_a_rank_that_is_told_to_end_takes_the_others_along(tmp_path: Path) -> None:
    """SIGTERM on one rank ends all after the same step, kept; the rest is the training that would have been."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    succeeded(launch(2, "stopped", whole, DROPOUT=1))
    told = launch(2, "stopped", halves, DROPOUT=1, STOP_RANK=1, STOP_STEP=6, STOP_SIGNAL=int(signal.SIGTERM))
    assert [code for code, _ in told] == [143, 143], told
    succeeded(launch(2, "stopped", halves, DROPOUT=1))
    one, other = found(whole, "end"), found(halves, "end")
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    assert one["losses"] == other["losses"]


def test_all_ranks_probe_together_and_what_fails_on_one_fails_on_all(tmp_path: Path) -> None:
    succeeded(launch(2, "probed", tmp_path))
    for name in ("plan", "failures", "kinds", "untouched", "end"):
        assert found(tmp_path, name) == found(tmp_path, name, 1)
    assert found(tmp_path, "untouched")
    assert found(tmp_path, "end") == 20
    assert any(reason.startswith("rank 1 on") for reason in found(tmp_path, "failures"))
    assert {"FULL", "COMPUTE", "INPUT"} <= set(found(tmp_path, "kinds"))
    assert "processes: 2" in found(tmp_path, "plan")
