"""A training that is stopped, however, goes on as if it had not been: bit for bit on the CPU."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import autotrain
from autotrain.engine.checkpoint import CheckpointFolder, read_checkpoint
from autotrain.engine.events import CheckpointFailed, CheckpointSaved, EpochDone, FitEvent, Resumed, StepDone
from autotrain.errors import CheckpointError, TaskError
from autotrain.plan.plan import Plan
from autotrain.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread", "own_draws")

SIDE, BATCH, STEPS = 16, 4, 5
"""Pixels, images in a step, steps in an epoch."""


def data(count: int = BATCH * STEPS + 2, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 3


class Stop:
    """Sends this process a signal after a step."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number = at, number
        self.events: list[FitEvent] = []

    def __call__(self, event: FitEvent) -> None:
        self.events.append(event)
        if isinstance(event, StepDone) and event.step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)


@pytest.fixture
def make(tiny_model: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(0)
        model = tiny_model()
        model.insert(3, nn.Dropout(0.3))
        return model

    return make


def fit(model: nn.Module, settings: Settings = Settings(), **options: Any) -> autotrain.api.FitResult:
    given = {"dataset": data(), "batch_size": BATCH, "device": "cpu", "duration": "4ep", "progress": False}
    given = {**given, "augmentation": "crop", **options}
    settings = Settings(**{**settings.as_dict(), "augmentation": given["augmentation"]})
    return autotrain.fit(model, plan=Plan(settings=settings), **given)


def facts(result: autotrain.api.FitResult) -> list[dict[str, Any]]:
    """Return the history but for what takes as long as it takes."""
    return [
        {name: value for name, value in record.as_dict().items() if not name.endswith("_s") and name != "seconds"}
        for record in result.history
    ]


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("at", [1, 7, 10, 19], ids=lambda step: f"step {step}")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"settings": Settings(memory_format="channels_last", precision="bf16", optimizer_kernel="fused")},
        {"settings": Settings(workers=2), "optimizer": lambda given: torch.optim.SGD(given, lr=0.1, momentum=0.9)},
        {"validation": data(7, seed=1), "every": "2step", "schedule": "linear(1ep) > step(7step, gamma=0.5)"},
    ],
    ids=["plain", "bf16 channels-last", "workers and momentum", "validation"],
)
def test_what_goes_on_ends_where_it_would_have(
    make: Callable[[], nn.Module], tmp_path: Path, options: dict[str, Any], at: int
) -> None:
    whole, first, again = make(), make(), make()
    kept = {"checkpoints": tmp_path / "run", "resume": "auto"}
    expected = fit(whole, **options)
    with pytest.raises(SystemExit) as ended:
        fit(first, **options, **kept, fit_observer=Stop(at, signal.SIGTERM))
    assert ended.value.code == 143
    seen: list[FitEvent] = []
    result = fit(again, **options, **kept, fit_observer=seen.append)
    assert next(event.step for event in seen if isinstance(event, Resumed)) == at
    assert next(event.step for event in seen if isinstance(event, StepDone)) == at + 1
    assert equal(again, whole)
    assert facts(result) == facts(expected)
    assert (result.steps, result.interrupted) == (4 * STEPS, False)
    assert result.seconds > sum(record.seconds for record in result.history) * 0.99


def test_ctrl_c_finishes_the_step_and_keeps_it(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    whole, again = make(), make()
    fit(whole)
    kept = {"checkpoints": tmp_path, "resume": "auto"}
    result = fit(make(), **kept, fit_observer=Stop(8, signal.SIGINT))
    assert (result.interrupted, result.steps) == (True, 8)
    assert [entry.step for entry in CheckpointFolder(tmp_path).saved()] == [8, 5]
    fit(again, **kept)
    assert equal(again, whole)


def test_a_second_sigterm_changes_nothing(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """Launchers send it to a process, and to the group that it is in."""

    def stop(event: FitEvent) -> None:
        if isinstance(event, StepDone) and event.step == 7:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        fit(make(), checkpoints=tmp_path / "run", fit_observer=stop)
    assert ended.value.code == 143
    assert CheckpointFolder(tmp_path / "run").saved()[0].step == 7


class Unreadable(torch.utils.data.Dataset[Any]):
    """Images of which one cannot be read."""

    def __init__(self, broken: int | None) -> None:
        self.images, self.labels = data()
        self.broken = broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.broken:
            raise OSError("storage is gone")
        return self.images[index], int(self.labels[index])


def test_what_fails_between_steps_is_kept(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """An image that cannot be read, or a callback that raises: the steps before it are not lost."""
    kept = tmp_path / "run"
    options: dict[str, Any] = {"augmentation": "none", "duration": "2ep"}
    whole, broken, again = make(), make(), make()
    expected = fit(whole, dataset=Unreadable(None), **options)
    with pytest.raises(Exception, match="storage is gone"):
        fit(broken, dataset=Unreadable(3), checkpoints=kept, **options)

    def callback(event: FitEvent) -> None:
        if isinstance(event, EpochDone):
            raise ZeroDivisionError("a callback")

    with pytest.raises(ZeroDivisionError, match="a callback"):
        fit(make(), dataset=Unreadable(None), checkpoints=kept, resume="auto", callbacks=[callback], **options)
    assert CheckpointFolder(kept).saved()[0].step == STEPS
    result = fit(again, dataset=Unreadable(None), checkpoints=kept, resume="auto", **options)
    assert facts(result) == facts(expected)
    assert equal(again, whole)


class Broken:
    """A metric that breaks."""

    def reset(self) -> None:
        """Do nothing."""

    def update(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Do nothing."""

    def compute(self) -> float:
        """Break."""
        raise ZeroDivisionError("a metric")


def test_an_evaluation_that_fails_is_made_up_for(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    options: dict[str, Any] = {"validation": data(7, seed=1), "checkpoints": tmp_path / "run", "resume": "auto"}
    whole, again = make(), make()
    expected = fit(whole, **{**options, "checkpoints": None, "resume": "never"})
    with pytest.raises(ZeroDivisionError, match="a metric"):
        fit(make(), metrics={"broken": Broken()}, **options)
    result = fit(again, **options)
    assert facts(result) == facts(expected)
    assert equal(again, whole)


def test_sigterm_does_not_wait_for_an_evaluation(
    make: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process evaluates instead, also after the last epoch."""
    from autotrain.engine import loop as module

    evaluate, calls = module.evaluate, []

    def slow(*given: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*given, **options)

    options: dict[str, Any] = {"validation": data(7, seed=1), "duration": "2ep"}
    whole, again = make(), make()
    expected = fit(whole, **options)
    monkeypatch.setattr(module, "evaluate", slow)
    kept = {"checkpoints": tmp_path / "run", "resume": "auto"}
    with pytest.raises(SystemExit) as ended:
        fit(make(), **options, **kept)
    assert ended.value.code == 143
    result = fit(again, **options, **kept)
    assert facts(result) == facts(expected)
    assert [record.accuracy for record in result.history if record.accuracy is None] == []
    assert equal(again, whole)


def test_weights_that_are_no_numbers_replace_no_checkpoint(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """What a diverged training is gone on from is the last checkpoint before."""
    events: list[FitEvent] = []

    def observe(event: FitEvent) -> None:
        events.append(event)
        if isinstance(event, StepDone) and event.step == 12:
            with torch.no_grad():
                model[-1].weight[0, 0] = float("nan")

    model = make()
    result = fit(model, checkpoints=tmp_path / "run", fit_observer=observe)
    assert [entry.step for entry in CheckpointFolder(tmp_path / "run").saved()] == [10, 5]
    (failed,) = [event for event in events if isinstance(event, CheckpointFailed)]
    assert "has weights that are no finite numbers, so no checkpoint is written" in failed.reason
    assert result.unsaved is not None
    assert result.unsaved.endswith("so no checkpoint is written")


def test_numbers_of_numpys_can_be_read_again(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    import numpy as np

    def optimizer(weights: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(weights, lr=1e-3, weight_decay=np.float64(0.05))  # type: ignore[arg-type]

    kept = {"checkpoints": tmp_path / "run", "optimizer": optimizer}
    whole, again = make(), make()
    fit(whole, optimizer=optimizer)
    fit(make(), duration="2ep", schedule="constant", **kept)
    fit(again, resume="auto", schedule="constant", duration="2ep", **kept)
    (latest, *_) = CheckpointFolder(tmp_path / "run").saved()
    groups = read_checkpoint(latest.path)["optimizer"]["param_groups"]
    assert type(groups[0]["weight_decay"]) is float


class Extra(nn.Module):
    """Has a state that only code could read."""

    def get_extra_state(self) -> Any:
        """Return an object."""
        return Harmful()

    def set_extra_state(self, state: Any) -> None:
        """Take it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return them as they are."""
        return images


def test_what_could_not_be_read_again_is_not_written(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    events: list[FitEvent] = []
    model = make()
    model.append(Extra())
    result = fit(model, duration="1ep", checkpoints=tmp_path / "run", fit_observer=events.append)
    assert CheckpointFolder(tmp_path / "run").saved() == []
    assert result.unsaved is not None
    assert "_extra_state is a Harmful; checkpoints hold numbers, text and tensors" in result.unsaved


def test_the_plan_says_which_kernel_goes_on(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """Also where the checkpoint is another's: kernels are no state."""

    def optimizer(weights: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.AdamW(weights, lr=1e-3))
        return made[-1]

    made: list[torch.optim.Optimizer] = []
    kept = {"checkpoints": tmp_path / "run", "optimizer": optimizer}
    fit(make(), Settings(optimizer_kernel="fused"), duration="1ep", **kept)
    seen: list[Any] = []

    def observe(event: FitEvent) -> None:
        if isinstance(event, StepDone):
            seen.append(made[-1].param_groups[0]["fused"])

    fit(make(), Settings(optimizer_kernel="foreach"), duration="2ep", resume="auto", fit_observer=observe, **kept)
    assert seen
    assert not any(seen)


def test_a_second_ctrl_c_ends_it_at_once(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    stop = Stop(8, signal.SIGINT)

    def twice(event: FitEvent) -> None:
        stop(event)
        stop(event)

    result = fit(make(), checkpoints=tmp_path, fit_observer=twice)
    assert result.interrupted
    assert [entry.step for entry in CheckpointFolder(tmp_path).saved()] == [5]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_finished_training_is_not_trained_again(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    whole, again = make(), make()
    expected = fit(whole, checkpoints=tmp_path)
    result = fit(again, checkpoints=tmp_path, resume="auto")
    assert equal(again, whole)
    assert facts(result) == facts(expected)


def test_it_may_go_on_for_longer(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    fit(make(), checkpoints=tmp_path, schedule="constant")
    whole, again = make(), make()
    fit(whole, duration="6ep", schedule="constant")
    fit(again, checkpoints=tmp_path, resume="auto", duration="6ep", schedule="constant")
    assert equal(again, whole)


def test_what_goes_on_has_the_plan_that_it_was_begun_with(
    make: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        fit(make(), Settings(workers=1), checkpoints=tmp_path, fit_observer=Stop(3, signal.SIGTERM))
    monkeypatch.setattr("autotrain.api._probe", None)
    result = autotrain.fit(
        make(),
        data(),
        batch_size=BATCH,
        device="cpu",
        duration="4ep",
        augmentation="crop",
        checkpoints=tmp_path,
        resume="auto",
        progress=False,
    )
    assert result.plan.settings.workers == 1
    assert result.steps == 4 * STEPS


def test_the_last_few_and_the_best_are_kept(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    seen: list[FitEvent] = []
    result = fit(
        make(),
        checkpoints=tmp_path,
        every="3step",
        keep=2,
        validation=data(9, seed=1),
        best_by="validation_loss",
        fit_observer=seen.append,
    )
    folder = CheckpointFolder(tmp_path)
    assert [entry.step for entry in folder.saved()] == [20, 18]
    scores = [record.validation_loss for record in result.history]
    best = folder.best()
    assert best is not None
    assert best.step == STEPS * (1 + scores.index(min(scores)))
    told = [event for event in seen if isinstance(event, CheckpointSaved)]
    assert {event.step for event in told} >= {3, 6, 9, 12, 18, 20}
    assert [event.step for event in told if event.best][-1] == best.step
    again = make()
    again.load_state_dict(torch.load(best.path, weights_only=True)["model"])
    assert sum(event.record.validation_loss == min(scores) for event in seen if isinstance(event, EpochDone)) == 1


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(
    make: Callable[[], nn.Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, again = make(), make()
    fit(whole, checkpoints=tmp_path, every="4step")
    latest, before, *_ = CheckpointFolder(tmp_path).saved()
    content = bytearray(latest.path.read_bytes())
    content[len(content) // 2] ^= 1
    latest.path.write_bytes(content)
    seen: list[FitEvent] = []
    with caplog.at_level(logging.WARNING):
        fit(again, checkpoints=tmp_path, every="4step", resume="auto", fit_observer=seen.append)
    assert next(event.step for event in seen if isinstance(event, Resumed)) == before.step
    assert f"{latest.path}: the file is damaged" in caplog.text
    assert "the one before it is taken" in caplog.text
    assert equal(again, whole)
    for entry in CheckpointFolder(tmp_path).saved():
        entry.path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of its 3 checkpoints can be read"):
        fit(make(), checkpoints=tmp_path, resume="auto")


def rewritten(path: Path, **changes: Any) -> Path:
    """Write a checkpoint again with other contents, under a name without a digest."""
    contents = torch.load(path, weights_only=True) | changes
    other = path.with_name("other.pt")
    torch.save(contents, other)
    return other


def test_what_cannot_be_gone_on_from_is_refused_with_a_remedy(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    fit(make(), checkpoints=tmp_path, duration="1ep")
    path = CheckpointFolder(tmp_path).saved()[0].path
    with pytest.raises(CheckpointError, match=r"newer autotrain \(schema 2, this one reads up to 1\). Upgrade"):
        fit(make(), resume=rewritten(path, schema=2))
    with pytest.raises(CheckpointError, match="is no checkpoint of autotrain's"):
        fit(make(), resume=rewritten(path, format="other"))
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        fit(make(), resume=tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="belongs to another training, its model, data or batch size"):
        fit(make(), resume=path, batch_size=5)
    with pytest.raises(CheckpointError, match="belongs to another training, its seed"):
        fit(make(), resume=path, seed=1)
    with pytest.raises(CheckpointError, match=r"there are checkpoints of a training. Go on with resume='auto'"):
        fit(make(), checkpoints=tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this model or optimizer"):
        fit(make(), resume=rewritten(path, model={}))
    with pytest.raises(TaskError, match="resume: 'auto' looks for checkpoints, so name their folder"):
        fit(make(), resume="auto")
    with pytest.raises(TaskError, match="keep: 0 checkpoints"):
        fit(make(), checkpoints=tmp_path / "new", keep=0)
    with pytest.raises(TaskError, match="best_by: unknown metric 'f1'"):
        fit(make(), checkpoints=tmp_path / "new", best_by="f1")
    with pytest.raises(TaskError, match="best_by: computed on a validation set, and there is none"):
        fit(make(), checkpoints=tmp_path / "new", best_by="accuracy")
    assert not (tmp_path / "new").exists()


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_no_code_comes_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "harmful.pt"
    torch.save({"format": "autotrain checkpoint", "schema": 1, "model": Harmful()}, path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "harmed").exists()


def test_a_folder_that_cannot_be_written_does_not_end_the_training(
    make: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be listed: Not a directory"):
        fit(make(), checkpoints=tmp_path / "file" / "run")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autotrain.engine.checkpoint.os.fsync", full)
    whole, model = make(), make()
    fit(whole)
    with caplog.at_level(logging.WARNING, logger="autotrain"):
        result = fit(model, checkpoints=tmp_path / "run")
    assert equal(model, whole)
    assert "the checkpoint cannot be written: No space left on device" in str(result.unsaved)
    told = caplog.text.count("No space left on device; training does not stop for that")
    assert told == 5, "one per epoch, and a last try"
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [".lock"]


def test_what_could_not_be_written_is_tried_again(
    make: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def full_for_a_while(file: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        sync(file)

    monkeypatch.setattr("autotrain.engine.checkpoint.os.fsync", full_for_a_while)
    seen: list[FitEvent] = []
    result = fit(make(), checkpoints=tmp_path, fit_observer=seen.append, validation=data(7, seed=1))
    assert result.unsaved is None
    assert len([event for event in seen if isinstance(event, CheckpointFailed)]) == 1
    assert len(calls) > 2
    assert [entry.step for entry in CheckpointFolder(tmp_path).saved()] == [20, 15, 10]


def test_a_disk_that_is_full_is_named_and_what_is_kept_stays(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    fit(make(), checkpoints=tmp_path, duration="1ep")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))  # torch's writer gets the refusal, not a Python call
    try:
        result = fit(make(), checkpoints=tmp_path, resume="auto", duration="2ep")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert "the checkpoint cannot be written: File too large" in str(result.unsaved)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_two_trainings_do_not_share_a_folder(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    def second(event: FitEvent) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            with pytest.raises(CheckpointError, match="another training writes its checkpoints there"):
                fit(make(), checkpoints=tmp_path)

    fit(make(), checkpoints=tmp_path, fit_observer=second)
    fit(make(), checkpoints=tmp_path, resume="auto")


def test_what_branches_off_needs_a_folder_of_its_own(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    whole, again = make(), make()
    fit(whole, checkpoints=tmp_path / "first")
    middle = CheckpointFolder(tmp_path / "first").saved()[1].path
    with pytest.raises(CheckpointError, match=r"has later checkpoints \(step 20\)"):
        fit(make(), checkpoints=tmp_path / "first", resume=middle)
    fit(again, checkpoints=tmp_path / "second", resume=middle)
    assert equal(again, whole)
    assert [entry for entry in threading.enumerate() if "checkpoint" in entry.name] == []


KILLED = """
import sys, torch, autotrain
from autotrain.plan.plan import Plan
from autotrain.settings import Settings
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(8),
                      nn.Flatten(), nn.Linear(4096, 256), nn.Linear(256, 3))
images = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
autotrain.fit(model, (images, torch.arange(40) % 3), batch_size=4, duration="12ep", device="cpu", augmentation="crop",
              plan=Plan(settings=Settings(augmentation="crop")), checkpoints=sys.argv[1], every="1step",
              resume="auto", progress=False)
torch.save(model.state_dict(), sys.argv[2])
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    """A checkpoint is written after every step, so that most kills hit one that is being written."""
    script = tmp_path / "train.py"
    script.write_text(KILLED)

    def start(folder: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, script, tmp_path / folder, tmp_path / f"{folder}.pt"])

    whole = start("whole")
    reached = []
    for _ in range(3):
        process = start("killed")
        before = reached[-1] if reached else 0
        while not (found := CheckpointFolder(tmp_path / "killed").saved()) or found[0].step < before + 20:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        reached.append(CheckpointFolder(tmp_path / "killed").saved()[0].step)
    assert start("killed").wait(120) == 0
    assert whole.wait(120) == 0
    assert not any(name.startswith(".writing-") for name in os.listdir(tmp_path / "killed"))
    one, other = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert reached == sorted(reached)
