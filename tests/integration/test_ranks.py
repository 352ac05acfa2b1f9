"""Several ranks train what one process would have trained, fail together, and go on in other numbers."""

from __future__ import annotations

import os
import shutil
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

from autotrain.engine import sharded as engine_sharded
from autotrain.settings import Settings

pytestmark = [pytest.mark.usefixtures("one_thread", "own_draws"), pytest.mark.slow]

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def by_torchrun(
    ranks: int, job: str, folder: Path, *, restarts: int = 0, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Start a job on several ranks of this machine, as people do."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
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


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks found, one thing after the other: most of the time of such a test goes into their start."""
    folder = tmp_path_factory.mktemp("two")
    succeeded(launch(2, "equal,ways,odd,statistics,tried,sharded,began,whole,clock,released,prepared", folder))
    return folder


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return how far two sets of weights lie apart."""
    return float(torch.cat([(one[name] - value).reshape(-1) for name, value in other.items()]).norm())


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of four."""
    folder = tmp_path_factory.mktemp("four")
    succeeded(launch(4, "equal", folder))
    return folder


@pytest.mark.parametrize("ranks", [2, 4])
def test_gradients_and_losses_are_those_of_one_process(ranks: int, request: pytest.FixtureRequest) -> None:
    """Ten images do not divide by four: the ranks' parts differ in size, and count for what they are."""
    folder = request.getfixturevalue("two" if ranks == 2 else "four")
    alone = {
        "step": ranked.facts(ranked.train(ranked.network(), duration="1step")),
        "epochs": ranked.facts(ranked.train(ranked.network(nn.Identity()))),
        "parts": ranked.facts(ranked.train(ranked.network(), clip_norm=0.5, ema=0.9)),
        "loader": ranked.facts(ranked.train(ranked.network())),
    }
    for name, expected in alone.items():
        same(found(folder, name), expected)
        for rank in range(1, ranks):
            weights = found(folder, name, rank)["weights"]
            assert all(torch.equal(weights[key], value) for key, value in found(folder, name)["weights"].items())


def test_by_the_clock_all_train_with_the_same_rate_and_end_together(two: Path) -> None:
    """Clocks, pauses and what is told are each rank's own."""
    first, second = found(two, "clock"), found(two, "clock", 1)
    assert first["rates"] == second["rates"]
    assert first["rates"][-1] < 0.1 * max(first["rates"])
    assert first["steps"] == second["steps"] > 8
    assert all(torch.equal(first["weights"][name], value) for name, value in second["weights"].items())
    assert 3.0 < first["seconds"] < 5.5


def test_however_gradients_travel_they_are_those_of_one_process(two: Path) -> None:
    """Rounded to bfloat16 on their way, within what that may come to.

    Each rank's part and the sum are off by 2**-9 of themselves at most, together by 2**-8 of the larger part, which
    may be some times the sum where the ranks' parts differ; so the weights end within a small multiple of 2**-8 of the
    way that they have gone.
    """
    alone = ranked.facts(ranked.train(ranked.wide()))
    for name in ranked.WAYS:
        own = found(two, f"ways-{name}")
        if name != "bf16":
            same(own, alone)
        weights = found(two, f"ways-{name}", 1)["weights"]
        assert all(torch.equal(weights[key], value) for key, value in own["weights"].items())
    rounded = found(two, "ways-bf16")
    gone = distance(ranked.wide().state_dict(), alone["weights"])
    assert 0 < distance(rounded["weights"], alone["weights"]) < 4 * 2**-8 * gone
    assert distance(found(two, "ways-plain")["weights"], alone["weights"]) < 2**-4 * 2**-8 * gone
    assert rounded["losses"] == pytest.approx(alone["losses"], rel=1e-2)
    asked = dict(zip(ranked.WAYS, found(two, "made"), strict=True))
    assert all(entry["find_unused_parameters"] is False for entry in asked.values())
    assert [name for name, entry in asked.items() if entry["gradient_as_bucket_view"]] == ["views", "all"]
    assert [name for name, entry in asked.items() if entry["static_graph"]] == ["static", "all"]
    assert [name for name, entry in asked.items() if entry["bucket_cap_mb"] == 1] == ["buckets", "all"]


def test_ranks_with_batch_statistics_of_their_own_are_told_once(two: Path) -> None:
    (said,) = found(two, "statistics")
    assert "each layer's statistics are of 5 images, a rank's own, and not of all 10 of a batch" in said
    assert "torch.nn.SyncBatchNorm.convert_sync_batchnorm" in said
    assert found(two, "statistics", 1) == []


def test_a_rank_that_fails_in_the_midst_of_a_step_leaves_the_next_candidates_whole(two: Path) -> None:
    for rank in range(2):
        for name, steps in (("fails", 5), ("fails-in-parts", 5), ("fails-first-in-parts", 1)):
            failed = found(two, f"tried-{name}", rank)
            assert "a label that nobody knows" in failed["said"]
            assert (failed["steps"], failed["whole"]) == (steps, 2.0)
            assert failed["seconds"] < 30
        for name in ("runs", "runs-in-parts"):
            ran = found(two, f"tried-{name}", rank)
            assert (ran["said"], ran["steps"], ran["whole"]) == ("", 8, 2.0)


def test_nothing_of_a_rig_waits_for_pythons_collector(two: Path) -> None:
    for rank in range(2):
        assert found(two, "released", rank) == {"borrowed": [], "own": []}


def test_a_loop_of_ones_own_trains_what_one_process_would_have(two: Path, tmp_path: Path) -> None:
    ranked.prepared(tmp_path)
    ranked.left_open.close()
    one, first, second = found(tmp_path, "prepared"), found(two, "prepared"), found(two, "prepared", 1)
    means = [(own + other) / 2 for own, other in zip(first["losses"], second["losses"], strict=True)]
    assert means == pytest.approx(one["losses"], rel=1e-4)
    torch.testing.assert_close(first["weights"], one["weights"], **CLOSE)
    assert all(torch.equal(second["weights"][name], value) for name, value in first["weights"].items())
    assert first["validation"] == second["validation"] == pytest.approx(one["validation"], rel=1e-4)
    assert sorted(first["sizes"] + second["sizes"], reverse=True) == one["sizes"]
    assert "update: with several processes" in first["refused"]
    assert "in parts on several processes, which only fit trains" in first["parts"]
    assert not one["refused"]
    assert not any("Traceback" in entry.read_text() for entry in two.glob("said-*"))


def test_what_goes_wrong_on_one_rank_concerns_all(two: Path) -> None:
    same(found(two, "halved"), ranked.facts(ranked.train(ranked.network(nn.Identity()))))
    assert found(two, "events").count("Halved") == 1
    same(found(two, "late"), ranked.facts(ranked.train(ranked.network(nn.Identity()))))
    assert found(two, "late-events").count("Halved") == 1
    assert [entry["static_graph"] for entry in found(two, "late-made")] == [False]
    first, second = found(two, "skips"), found(two, "skips", 1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["3.never"], torch.ones(3))
    assert not torch.equal(first["3.first"], torch.ones(1))
    assert found(two, "refused") == found(two, "refused", 1)


def test_a_model_in_parts_learns_what_one_process_would(two: Path) -> None:
    """Weights, gradients and optimizer state lie in parts; 25 validation images make an odd number of batches."""
    same(found(two, "sharded"), ranked.facts(ranked.train(ranked.network(nn.Identity()))))
    same(found(two, "sharded-parts"), ranked.facts(ranked.train(ranked.network(), clip_norm=0.5)))
    for rank in range(2):
        assert found(two, "class", rank) == "Sequential"  # the user's own model, not a copy of torch's making
        assert "sharding = full" in found(two, "sharded-refused", rank)
        assert "in 5 parts, and a rank has 4 of its images" in found(two, "too-many-parts", rank)
    weights = found(two, "sharded", 1)["weights"]
    assert all(torch.equal(weights[name], value) for name, value in found(two, "sharded")["weights"].items())


def test_a_training_in_parts_goes_on_in_other_numbers(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has the whole model: what two have written of their parts is whole, and back again."""
    shutil.copytree(two / "began", tmp_path / "kept")
    monkeypatch.setenv("UNTIL", "2ep")
    monkeypatch.setattr(engine_sharded, "UNIT", engine_sharded.UNIT)
    ranked.moved(tmp_path)
    succeeded(launch(2, "moved", tmp_path, UNTIL="3ep"))
    same(found(tmp_path, "end"), ranked.facts(ranked.adam(duration="3ep")))


def test_a_training_whose_ranks_die_goes_on_in_other_numbers(tmp_path: Path) -> None:
    killed = launch(2, "stopped", tmp_path, STOP_RANK=1, STOP_STEP=8, STOP_SIGNAL=int(signal.SIGKILL))
    assert all(code != 0 for code, _ in killed)
    assert list((tmp_path / "kept").iterdir())
    killed = launch(1, "stopped", tmp_path, STOP_RANK=0, STOP_STEP=7, STOP_SIGNAL=int(signal.SIGKILL))
    assert all(code != 0 for code, _ in killed)
    again = {"STOP_RANK": 0, "STOP_STEP": 3, "STOP_SIGNAL": int(signal.SIGKILL)}
    ended = by_torchrun(2, "stopped", tmp_path, restarts=1, **again)  # torchrun itself starts them once more
    assert ended.returncode == 0, ended.stderr
    assert "exitcode: -9" in ended.stderr
    same(found(tmp_path, "end"), ranked.facts(ranked.train(ranked.network(), Settings(), duration="6ep")))


def test_a_rank_that_is_told_to_end_takes_the_others_along(two: Path, tmp_path: Path) -> None:
    """SIGTERM on one rank ends all after the same step, kept; the rest is the training that would have been."""
    told = launch(2, "stopped", tmp_path, DROPOUT=1, STOP_RANK=1, STOP_STEP=6, STOP_SIGNAL=int(signal.SIGTERM))
    assert [code for code, _ in told] == [143, 143], told
    succeeded(launch(2, "stopped", tmp_path, DROPOUT=1))
    one, other = found(two, "whole"), found(tmp_path, "end")
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
