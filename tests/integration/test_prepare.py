"""A prepared job puts back all that it touched, however its loop ends; the trained weights stay."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from autotrain import api
from autotrain.errors import TaskError
from autotrain.plan.plan import Plan
from autotrain.prepared import Prepared
from autotrain.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

SIDE, BATCH = 16, 5
STEPS = 4
"""In an epoch; two images are left over."""

CHANGED = Settings(workers=2, memory_format="channels_last", optimizer_kernel="fused", threads=2, cache="ram")


@pytest.fixture(autouse=True)
def quiet(one_thread: None, own_draws: None) -> None:
    """One thread, and draws of a test's own."""


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (STEPS * BATCH + 2, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws)
    return images, torch.arange(len(images)) % 3


def prepare(model: nn.Module, settings: Settings = CHANGED, **options: Any) -> Prepared:
    given = {"dataset": data(), "validation": data(), "batch_size": BATCH, "device": "cpu", **options}
    return api.prepare(model, plan=Plan(settings=settings), **given)


def whole(job: Prepared) -> None:
    for _ in range(2):
        for images, labels in job.loader:
            job.step(images, labels)
        job.evaluate()


def left_early(job: Prepared) -> None:
    for images, labels in job.loader:
        job.step(images, labels)
        break


def raising(job: Prepared) -> None:
    left_early(job)
    raise ZeroDivisionError


def interrupted(job: Prepared) -> None:
    for number, (images, labels) in enumerate(job.loader):
        job.step(images, labels)
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass


def touching(job: Prepared) -> None:
    """A loop that draws, and changes modes and threads itself."""
    random.random()
    np.random.rand()
    for images, labels in job.loader:
        with job.autocast():
            loss = functional.cross_entropy(job.model(images) + torch.rand(3), labels)
        job.backward(loss)
        job.update()
    job.model.eval()
    torch.set_grad_enabled(False)
    torch.set_num_threads(3)


@pytest.mark.parametrize("loop", [whole, left_early, raising, interrupted, touching], ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("settings", [CHANGED, Settings(workers=1, loader="threads")], ids=["processes", "threads"])
def test_however_the_loop_ends_nothing_but_the_weights_is_left(
    loop: Callable[[Prepared], None], settings: Settings, tiny_model: Any, traces: ModuleType, empty_home: Path
) -> None:
    model = tiny_model()
    model[1].eval()
    before = traces.of_model(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with traces.unchanged(folders=[empty_home]):
        expected = {raising: ZeroDivisionError, interrupted: KeyboardInterrupt}.get(loop)
        with (
            nullcontext() if expected is None else pytest.raises(expected),
            prepare(model, settings, optimizer=optimizer) as job,
        ):
            loop(job)
    after = traces.of_model(model)
    for kind in ("parameters", "buffers"):
        for name, facts in before[kind].items():
            assert {key: facts[key] for key in ("object", "strides", "device", "requires_grad")} == {
                key: after[kind][name][key] for key in ("object", "strides", "device", "requires_grad")
            }
    assert [after[kind] == before[kind] for kind in ("attributes", "hooks", "modules", "class")] == [True] * 4
    assert not torch.equal(model.state_dict()["0.weight"], weights["0.weight"])
    state = [entry for own in optimizer.state.values() for entry in own.values() if isinstance(entry, torch.Tensor)]
    assert state
    assert optimizer.param_groups[0]["fused"] is None


def test_within_the_process_and_the_model_are_as_the_plan_says(tiny_model: Any) -> None:
    model, threads = tiny_model(), torch.get_num_threads()
    with prepare(model) as job:
        images, _ = next(iter(job.loader))
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.dtype == torch.float32
        assert model[3].weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.get_num_threads() == 2 != threads
        assert job.optimizer.param_groups[0]["fused"]
        assert job.model is model
        assert list(model.state_dict()) == list(tiny_model().state_dict())


def test_close_does_what_the_end_of_a_with_does(tiny_model: Any) -> None:
    job = prepare(tiny_model())
    batches = iter(job.loader)
    images, labels = next(batches)
    assert "4 steps per epoch; memory_format=channels_last" in repr(job)
    job.close()
    job.close()
    assert torch.get_num_threads() == 1
    assert "closed" in repr(job)
    assert job.validation is not None
    for use in (
        lambda: job.step(images, labels),
        lambda: next(batches),
        lambda: next(iter(job.loader)),
        lambda: next(iter(job.validation)),
        lambda: job.evaluate(),
        lambda: job.autocast(),
        lambda: job.update(),
        lambda: job.state_dict(),
    ):
        with pytest.raises(TaskError, match="this job is closed"):
            use()


def test_a_second_job_closes_the_first(tiny_model: Any, caplog: pytest.LogCaptureFixture) -> None:
    first = prepare(tiny_model())
    next(iter(first.loader))
    with caplog.at_level(logging.WARNING), prepare(tiny_model(), Settings(threads=3)) as second:
        assert "still open" in caplog.text
        assert torch.get_num_threads() == 3
        with pytest.raises(TaskError, match="closed"):
            first.step(*next(iter(second.loader)))
    assert torch.get_num_threads() == 1


def test_what_nothing_refers_to_is_closed(tiny_model: Any) -> None:
    """A job that is never closed; its loader keeps it."""
    loader = prepare(tiny_model()).loader
    assert len(list(loader)) == STEPS
    assert torch.get_num_threads() == 2
    del loader
    assert torch.get_num_threads() == 1


def test_a_script_that_never_closes_ends(tmp_path: Path) -> None:
    script = """
        import autotrain, torch
        from torch import nn
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        data = torch.zeros(40, 3, 8, 8, dtype=torch.uint8), torch.arange(40) % 3
        for settings in (autotrain.Settings(workers=1, loader="threads"), autotrain.Settings(workers=2)):
            job = autotrain.prepare(model, data, batch_size=4, plan=autotrain.Plan(settings=settings), device="cpu")
            images, labels = next(iter(job.loader))
            print(job.step(images, labels).ndim)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (0, "0\n0\n")
    assert "Traceback" not in run.stderr


# The loader


def places(job: Prepared) -> list[list[int]]:
    return [labels.tolist() for _, labels in job.loader]


def numbered() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose labels say which they are."""
    images, labels = data()
    return images, torch.arange(len(labels))


@pytest.fixture
def numbers(tiny_model: Any) -> Iterator[Prepared]:
    with prepare(tiny_model(classes=22), Settings(workers=1), dataset=numbered(), validation=None) as job:
        yield job


def test_an_iteration_is_an_epoch_and_the_next_one_the_next(numbers: Prepared) -> None:
    first, second = places(numbers), places(numbers)
    assert len(first) == len(second) == len(numbers.loader) == STEPS
    assert first != second
    assert all(len({number for batch in epoch for number in batch}) == STEPS * BATCH for epoch in (first, second))
    assert (numbers.loader.step, numbers.loader.epoch) == (2 * STEPS, 2)


def test_an_iteration_that_is_left_early_ends_its_epoch(numbers: Prepared, tiny_model: Any) -> None:
    next(iter(numbers.loader))
    second = places(numbers)
    with prepare(tiny_model(classes=22), Settings(), dataset=numbered(), validation=None) as other:
        assert [places(other), places(other)][1] == second


def test_a_batch_that_an_interrupt_lost_comes_again(
    numbers: Prepared, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a notebook, just after the loader gave an epoch's first batch; the loop is then started again."""
    source = numbers._loop.rig.input
    give = source.next

    def interrupted() -> Any:
        give()
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iter(numbers.loader))
    first = places(numbers)
    with prepare(tiny_model(classes=22), Settings(), dataset=numbered(), validation=None) as other:
        assert places(other) == first


def test_two_iterations_at_a_time_are_refused(numbers: Prepared) -> None:
    with pytest.raises(TaskError, match="another iteration has begun"):
        list(zip(numbers.loader, numbers.loader, strict=True))


def test_the_validation_set_comes_whole_in_order_every_time(tiny_model: Any) -> None:
    with prepare(tiny_model(), Settings(workers=1)) as job:
        assert job.validation is not None
        for _ in range(2):
            sizes = [len(labels) for _, labels in job.validation]
            labels = torch.cat([labels for _, labels in job.validation])
            assert sizes == [5, 5, 5, 5, 2]
            assert len(job.validation) == 5
            assert torch.equal(labels, data()[1])
    with prepare(tiny_model(), validation=None) as job:
        assert job.validation is None
        with pytest.raises(TaskError, match="there is no validation set"):
            job.evaluate()


def test_a_validation_of_ones_own_agrees_with_evaluate(tiny_model: Any) -> None:
    with prepare(tiny_model()) as job:
        left_early(job)
        score = job.evaluate()
        assert job.model.training
        job.model.eval()
        right, losses = 0, 0.0
        with torch.no_grad():
            for images, labels in job.validation or ():
                outputs = job.model(images)
                right += int((outputs.argmax(1) == labels).sum())
                losses += float(job.loss(outputs, labels)) * len(labels)
    assert score.accuracy == right / score.samples
    assert score.loss == pytest.approx(losses / score.samples)
