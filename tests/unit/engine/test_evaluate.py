"""Evaluation sees every sample once, and its numbers are those of a computation by hand."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from autotrain.engine.evaluate import Score, check_metrics, evaluate
from autotrain.engine.events import EpochRecord
from autotrain.engine.held_out import HeldOut
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError, TaskError
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import Team
from autotrain.training import RECORDED, Training
from autotrain.workload import Workload

SIDE = 16
DEFAULT = Settings()


def pixels(count: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return (images.float() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@contextmanager
def rig_of(model: nn.Module, settings: Settings = DEFAULT, **options: Any) -> Iterator[Rig]:
    given: dict[str, Any] = {
        "dataset": (pixels(12, seed=1), torch.arange(12) % 3),
        "validation": (pixels(11), torch.arange(11) % 3),
        "batch_size": 4,
        "device": "cpu",
        **options,
    }
    workload: Workload = prepare_workload(Task(model=model, **given))
    with Rig(workload, settings) as rig, rig.active():
        yield rig


def score(
    model: nn.Module, settings: Settings = DEFAULT, *, metrics: Mapping[str, Any] | None = None, **options: Any
) -> Score:
    with rig_of(model, settings, **options) as rig:
        return evaluate(rig, metrics=metrics or {})


@pytest.mark.parametrize(
    "settings", [DEFAULT, Settings(workers=2), Settings(augmentation="rand")], ids=["default", "workers", "augmented"]
)
def test_loss_and_accuracy_are_those_by_hand(tiny_model: Callable[..., nn.Module], settings: Settings) -> None:
    """11 samples in batches of 4: the short last batch counts for its 3 samples; nothing is augmented."""
    model = tiny_model()
    result = score(model, settings)
    with torch.no_grad():
        outputs = tiny_model().eval()(normalized(pixels(11)))
    labels = torch.arange(11) % 3
    assert result.samples == 11
    assert result.loss == pytest.approx(float(functional.cross_entropy(outputs, labels)), rel=1e-5)
    assert result.accuracy == int((outputs.argmax(1) == labels).sum()) / 11


def test_it_leaves_the_model_as_it_is(tiny_model: Callable[..., nn.Module]) -> None:
    workload = prepare_workload(
        Task(
            model=tiny_model(),
            dataset=(pixels(8), torch.arange(8) % 3),
            validation=(pixels(8), torch.arange(8) % 3),
            device="cpu",
        )
    )
    with Rig(workload, Settings()) as rig, rig.active():
        model = rig.step.model
        model[1].eval()
        modes = [module.training for module in model.modules()]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        first, second = evaluate(rig), evaluate(rig)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert first == second
        assert all(entry.grad is None for entry in model.parameters())


def test_it_restores_the_modes_when_the_model_raises(tiny_model: Callable[..., nn.Module]) -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_model()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if not self.training:
                raise ZeroDivisionError
            outputs: torch.Tensor = self.body(images)
            return outputs

    model = Failing()
    with pytest.raises(ZeroDivisionError):
        score(model)
    assert all(module.training for module in model.modules())


def test_images_of_a_folder_are_cut_in_the_middle(tiny_model: Callable[..., nn.Module], jpeg_folder: Path) -> None:
    with_policy = score(tiny_model(), Settings(augmentation="rand"), dataset=jpeg_folder, validation=jpeg_folder)
    without = score(tiny_model(), dataset=jpeg_folder, validation=jpeg_folder, augmentation="none")
    assert with_policy == without
    assert without.samples == 36


def test_a_task_without_classes_has_no_accuracy(tiny_model: Callable[..., nn.Module]) -> None:
    targets = torch.linspace(-1, 1, 11)
    result = score(
        tiny_model(classes=1), dataset=(pixels(12), torch.linspace(0, 1, 12)), validation=(pixels(11), targets)
    )
    with torch.no_grad():
        outputs = tiny_model(classes=1).eval()(normalized(pixels(11)))
    assert result.accuracy is None
    assert result.loss == pytest.approx(float((outputs.squeeze(1) - targets).square().mean()), rel=1e-5)


def test_a_step_of_the_users_gives_the_loss(tiny_model: Callable[..., nn.Module]) -> None:
    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        assert not model.training
        return functional.cross_entropy(model(batch[0]), batch[1])

    result, usual = score(tiny_model(), step=step), score(tiny_model())
    assert result.loss == usual.loss
    assert result.accuracy is None


def test_a_loss_of_shape_one_is_a_number_here_too(tiny_model: Callable[..., nn.Module]) -> None:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels).reshape(1)

    assert score(tiny_model(), loss=loss).loss == score(tiny_model()).loss


def test_labels_of_the_validation_set_are_checked_before_training(tiny_model: Callable[..., nn.Module]) -> None:
    workload = prepare_workload(
        Task(
            model=tiny_model(),
            dataset=(pixels(8), torch.arange(8) % 3),
            validation=(pixels(8), torch.arange(8) % 4),
            device="cpu",
        )
    )
    with Rig(workload, Settings()) as rig, rig.active(), pytest.raises(TaskError, match="validation set has label 3"):
        rig.check(rig.input.next())


# Accuracy


def own_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Takes the outputs for whatever it likes."""
    return outputs.square().mean() + 0.0 * labels.sum()


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        functional.cross_entropy,
        functools.partial(functional.cross_entropy, label_smoothing=0.1),
        nn.NLLLoss(),
        functional.nll_loss,
        nn.MultiMarginLoss(),
    ],
    ids=lambda loss: getattr(loss, "__name__", type(loss).__name__),
)
def test_losses_over_classes_have_an_accuracy(tiny_model: Callable[..., nn.Module], loss: Any) -> None:
    assert score(tiny_model(), loss=loss).accuracy == score(tiny_model()).accuracy is not None


def test_a_loss_of_the_users_own_has_one_where_there_are_as_many_outputs_as_classes(
    tiny_model: Callable[..., nn.Module],
) -> None:
    def weighted(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, weight=torch.tensor([1.0, 2.0, 1.0]))

    assert score(tiny_model(), loss=weighted).accuracy == score(tiny_model()).accuracy is not None


def test_a_loss_of_the_users_own_has_no_accuracy_otherwise(tiny_model: Callable[..., nn.Module]) -> None:
    """Its outputs may be an embedding, or one logit, whose largest is always the first."""
    assert score(tiny_model(classes=8), loss=own_loss).accuracy is None
    assert score(tiny_model(classes=1), loss=own_loss).accuracy is None


def test_one_output_for_all_classes_is_never_right(tiny_model: Callable[..., nn.Module]) -> None:
    nothing = torch.zeros(11, dtype=torch.int64)
    with_one = score(
        tiny_model(classes=1),
        dataset=(pixels(12), torch.zeros(12, dtype=torch.int64)),
        validation=(pixels(11), nothing),
    )
    assert with_one.accuracy is None


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), functional.binary_cross_entropy_with_logits])
@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_right_by_its_sign(tiny_model: Callable[..., nn.Module], loss: Any, flat: bool) -> None:
    class Centred(nn.Module):
        """Its outputs for the held-out images have both signs."""

        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_model(classes=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.body(images) - centre
            return outputs.flatten() if flat else outputs

    with torch.no_grad():
        centre = tiny_model(classes=1).eval()(normalized(pixels(11))).median()
        right = (tiny_model(classes=1).eval()(normalized(pixels(11))) > centre).flatten()
    labels = right.float()
    labels[:3] = 1 - labels[:3]
    shape = (-1,) if flat else (-1, 1)
    result = score(
        Centred(),
        loss=loss,
        dataset=(pixels(12, seed=1), (torch.arange(12) % 2).float().view(shape)),
        validation=(pixels(11), labels.view(shape)),
    )
    assert result.accuracy == 8 / 11


# Metrics


class Outputs:
    """Keeps all outputs until it is reset, as some of torchmetrics do, and computes what it is told to."""

    def __init__(self, compute: Callable[[torch.Tensor], Any] = lambda outputs: outputs.mean()) -> None:
        self.outputs: list[torch.Tensor] = []
        self.asked, self._compute = 0, compute

    def reset(self) -> None:
        self.outputs = []

    def update(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        assert len(outputs) == len(labels)
        self.outputs.append(outputs)
        self.asked += 1

    def compute(self) -> Any:
        return self._compute(torch.cat(self.outputs))


class Synchronised(nn.Module):
    """One that computes over all ranks."""

    def __init__(self, *, sync_on_compute: bool = True) -> None:
        super().__init__()
        self.sync_on_compute = sync_on_compute

    def sync(self) -> None: ...


def by_class(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.mean(dim=0)


def test_metrics_hold_on_to_nothing_afterwards(tiny_model: Callable[..., nn.Module]) -> None:
    metric = Outputs()
    with torch.no_grad():
        outputs = tiny_model().eval()(normalized(pixels(11)))
    assert score(tiny_model(), metrics={"mean": metric}).metrics == {"mean": pytest.approx(float(outputs.mean()))}
    assert metric.asked == 3
    assert metric.outputs == []


def test_a_metric_of_several_numbers_has_one_name_for_each(tiny_model: Callable[..., nn.Module]) -> None:
    several = Outputs(lambda outputs: {"mean": outputs.mean(), "deep": {"least": outputs.min()}, "count": len(outputs)})
    found = score(tiny_model(), metrics={"own": several}).metrics
    assert list(found) == ["own_mean", "own_deep_least", "own_count"]
    assert found["own_count"] == 11.0
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("value", "words"), [(by_class, r"of shape \(3,\)"), (lambda outputs: None, "of type NoneType")]
)
def test_a_metric_that_is_no_number_is_refused(tiny_model: Callable[..., nn.Module], value: Any, words: str) -> None:
    metric = Outputs(value)
    with pytest.raises(TaskError, match=rf"metrics: 'f1' computes something {words}, not a number. Have it averaged"):
        score(tiny_model(), metrics={"f1": metric})
    assert metric.outputs == []
    with rig_of(tiny_model()) as rig, pytest.raises(TaskError, match="metrics: 'f1' computes"):
        check_metrics(rig, HeldOut(rig), Training(metrics={"f1": metric}))


@pytest.mark.parametrize("batches", [1, 2])
def test_metrics_of_one_ranks_share_are_refused(batches: int) -> None:
    """They would be rank 0's alone, and torchmetrics' cannot add up what a rank without images has."""
    team = SimpleNamespace(alone=False, world=SimpleNamespace(world_size=2))
    rig: Any = SimpleNamespace(workload=SimpleNamespace(team=team))
    held_out: Any = SimpleNamespace(counted=batches)
    collection = nn.ModuleDict({"one": Synchronised(), "other": Synchronised(sync_on_compute=False)})
    words = "metrics: 'f1' would cover the images of one of 2 processes alone"
    refused: list[Any] = [Outputs(), Synchronised(sync_on_compute=False), collection]
    if batches == 1:
        refused, words = [Synchronised()], "metrics: the validation set has 1 batches for 2 processes"
    for metric in refused:
        metrics = {"good": Synchronised(), "f1": metric}
        with pytest.raises(TaskError, match=words):
            evaluate(rig, held_out=held_out, metrics=metrics)
        training = Training(metrics={name: with_methods(entry) for name, entry in metrics.items()})
        with pytest.raises(TaskError, match=words):
            check_metrics(rig, held_out, training)


def with_methods(metric: Any) -> Any:
    """Return a metric with what ``Training`` looks for."""
    for name in ("update", "compute", "reset"):
        if not hasattr(metric, name):
            setattr(metric, name, len)
    return metric


def test_metrics_that_compute_over_all_ranks_are_taken(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Whole(Outputs):
        def sync(self) -> None: ...

    with rig_of(tiny_model()) as rig:
        monkeypatch.setattr(Team, "alone", property(lambda team: False))
        assert evaluate(rig, metrics={"mean": Whole()}).metrics.keys() == {"mean"}


def test_names_of_the_record_are_not_for_metrics(tiny_model: Callable[..., nn.Module]) -> None:
    """They would take the place of an epoch's own numbers in the logs, by whose steps a training goes on."""
    assert {entry.name for entry in dataclasses.fields(EpochRecord)} | {"images_per_s"} == RECORDED
    for name in RECORDED:
        with pytest.raises(TaskError, match=f"metrics: every epoch has a number '{name}'; name yours otherwise"):
            Training(metrics={name: Outputs()})
    validation_loss = Outputs(lambda outputs: {"loss": 1.0})
    for metrics, words in (
        ({"validation": validation_loss}, "'validation' computes 'validation_loss', which is taken"),
        ({"own_loss": Outputs(), "own": validation_loss}, "'own' computes 'own_loss', which is taken"),
    ):
        with rig_of(tiny_model()) as rig, pytest.raises(TaskError, match=words):
            check_metrics(rig, HeldOut(rig), Training(metrics=metrics))


def test_metrics_are_tried_before_training_and_left_as_they_are(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of torchmetrics' decides on its first batch which of its metrics are one: so copies are tried."""
    copies: list[Outputs] = []
    deepcopy = copy.deepcopy

    def noted(metric: Any) -> Any:
        copies.append(deepcopy(metric))
        return copies[-1]

    metric = Outputs()
    with rig_of(tiny_model()) as rig:
        rig.step.model[1].eval()
        modes = [module.training for module in rig.step.model.modules()]
        before, state = deepcopy(rig.step.model.state_dict()), torch.get_rng_state()
        monkeypatch.setattr("autotrain.engine.evaluate.copy.deepcopy", noted)
        check_metrics(rig, HeldOut(rig), Training(metrics={"mean": metric}, best_by="mean"))
        assert [module.training for module in rig.step.model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in rig.step.model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
    assert (metric.asked, copies[0].asked, len(copies[0].outputs[0])) == (0, 1, 8)


def test_what_cannot_be_tried_is_left_to_the_evaluation(tiny_model: Callable[..., nn.Module]) -> None:
    class Unique(Outputs):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError

    def more(outputs: torch.Tensor) -> float:
        if len(outputs) < 10:
            raise ValueError("needs 10 images")
        return 1.0

    metrics = {"unique": Unique(by_class), "more": Outputs(more)}
    with rig_of(tiny_model()) as rig:
        check_metrics(rig, HeldOut(rig), Training(metrics=metrics, best_by="more"))


def test_a_metric_that_takes_no_such_outputs_is_refused(tiny_model: Callable[..., nn.Module]) -> None:
    class Picky(Outputs):
        def update(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
            raise ValueError("expected 5 classes")

    words = (
        r"metrics: 'f1' raised ValueError on outputs of shape \(8, 3\) and labels of shape \(8,\): expected 5 classes"
    )
    with rig_of(tiny_model()) as rig, pytest.raises(TaskError, match=words):
        check_metrics(rig, HeldOut(rig), Training(metrics={"f1": Picky()}))


def test_the_best_goes_by_one_number_that_there_is(tiny_model: Callable[..., nn.Module]) -> None:
    class Several(Outputs):
        error = SimpleNamespace(higher_is_better=False)

    metrics = {"own": Several(lambda outputs: {"error": outputs.mean(), "least": outputs.min()})}
    with rig_of(tiny_model()) as rig:
        held_out = HeldOut(rig)
        for best_by in ("own_error", "own_least", "accuracy", "validation_loss"):
            check_metrics(rig, held_out, Training(metrics=metrics, best_by=best_by))
        for best_by in ("own", "own_most"):
            with pytest.raises(TaskError, match=f"best_by: unknown metric '{best_by}'.*own_error, own_least"):
                check_metrics(rig, held_out, Training(metrics=metrics, best_by=best_by))
    training = Training(metrics=metrics)
    assert (training.better("own_error"), training.better("own_least")) == (-1.0, 1.0)
    with (
        rig_of(tiny_model(classes=8), loss=own_loss) as rig,
        pytest.raises(TaskError, match="there is no accuracy, since the loss"),
    ):
        check_metrics(rig, HeldOut(rig), Training(best_by="accuracy"))


# Stopping


class Told:
    """Tells to stop from the n-th question on."""

    def __init__(self, at: int) -> None:
        self.at, self.asked = at, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.at


class Noted(HeldOut):
    """Notes what it is told of evaluations."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.noted: list[str] = []

    def took(self, seconds: float) -> None:
        self.noted.append("took")

    def failed(self) -> bool:
        self.noted.append("failed")
        return len(self.noted) == 1


def test_an_evaluation_stops_between_batches(tiny_model: Callable[..., nn.Module]) -> None:
    metric, told = Outputs(), Told(3)
    with rig_of(tiny_model()) as rig:
        held_out = Noted(rig)
        modes = [module.training for module in rig.step.model.modules()]
        assert evaluate(rig, held_out=held_out, metrics={"mean": metric}, told=told) is None
        assert [module.training for module in rig.step.model.modules()] == modes
        assert (metric.asked, metric.outputs, held_out.noted, held_out.kept) == (2, [], [], False)
        whole = evaluate(rig, held_out=held_out, told=Told(9))
        assert whole is not None
        assert whole == evaluate(rig)
        assert held_out.noted == ["took"]


@pytest.mark.parametrize("at", [1, 99])
def test_workers_that_a_signal_killed_have_not_failed(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    def dead(held_out: HeldOut) -> Iterator[Any]:
        raise CandidateError("a loader worker died")
        yield

    monkeypatch.setattr(HeldOut, "batches", dead)
    with rig_of(tiny_model()) as rig:
        held_out = Noted(rig)
        if at == 1:
            assert evaluate(rig, held_out=held_out, told=Told(at)) is None
            assert held_out.noted == []
        else:
            with pytest.raises(CandidateError):
                evaluate(rig, held_out=held_out, told=Told(at))
            assert held_out.noted == ["failed", "failed"]


def test_several_ranks_do_not_stop_apart(tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(1)
    with rig_of(tiny_model()) as rig:
        monkeypatch.setattr(Team, "alone", property(lambda team: False))
        result = evaluate(rig, told=told)
    assert result is not None
    assert told.asked == 0
