"""A task's defaults are filled in sensibly, and the random states and the model stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, DistributedSampler, Subset
from torchvision.datasets import FakeData

from autotrain.errors import DataError, TaskError
from autotrain.preparation import prepare_workload
from autotrain.schedules.schedule import Constant, WarmupCosine, WarmupLinear
from autotrain.task import Task
from autotrain.workload import Workload, check_fit

Make = Callable[..., Workload]


class Listed(Dataset[Any]):
    def __init__(self, samples: list[Any], **facts: Any) -> None:
        self.samples = samples
        vars(self).update(facts)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def pixels(count: int = 12, channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.zeros(count, channels, side, side, dtype=torch.uint8)


@pytest.fixture
def make(tiny_model: Callable[..., nn.Module]) -> Make:
    def workload(dataset: Any = None, **options: Any) -> Workload:
        data = (pixels(), torch.arange(12) % 3) if dataset is None else dataset
        return prepare_workload(Task(**{"model": tiny_model(), "dataset": data, "device": "cpu", **options}))

    return workload


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (torch.arange(12) % 3, "cross-entropy"),
        ((torch.arange(12) % 3).to(torch.uint8), "cross-entropy"),
        (torch.eye(12)[:, :4], "binary cross-entropy"),
        (torch.linspace(0, 1, 12), "mean squared error"),
        (torch.linspace(0, 1, 48).view(12, 4), "mean squared error"),
    ],
)
def test_the_loss_follows_from_the_labels(make: Make, labels: torch.Tensor, name: str) -> None:
    assert make((pixels(), labels)).loss_name == name


def test_mean_squared_error_takes_outputs_with_a_column(make: Make) -> None:
    loss = make((pixels(), torch.linspace(0, 1, 12))).loss
    assert float(loss(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0], dtype=torch.float64))) == 2.0


def test_a_loss_of_the_users_is_used(make: Make) -> None:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, label_smoothing=0.1)

    workload = make(loss=loss)
    assert workload.loss is loss
    assert workload.loss_name == "loss"


def test_a_loss_module_is_copied_so_that_its_buffers_stay_the_users(make: Make) -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    workload = make(loss=loss)
    assert isinstance(workload.loss, nn.CrossEntropyLoss)
    assert workload.loss is not loss
    assert torch.equal(workload.loss.weight, loss.weight)
    assert workload.loss.weight.data_ptr() != loss.weight.data_ptr()
    assert workload.loss_name == "CrossEntropyLoss"


@pytest.mark.usefixtures("own_draws")
def test_a_loss_with_parameters_is_refused_with_a_remedy(make: Make) -> None:
    with pytest.raises(TaskError, match="make it part of the model"):
        make(loss=nn.Linear(2, 2))


@pytest.mark.parametrize(("length", "size"), [(12, 1), (80, 10), (512, 64), (5000, 64), (2, 1)])
def test_the_batch_size_suits_the_dataset(make: Make, length: int, size: int) -> None:
    assert make((pixels(length, side=2), torch.zeros(length, dtype=torch.int64))).batch_size == size


def test_images_of_one_small_size_keep_it_and_others_get_224(make: Make, jpeg_folder: Path) -> None:
    assert make().image_size == 8
    assert make(image_size=5).image_size == 5
    assert make(jpeg_folder).image_size == 224
    assert make((pixels(side=8)[..., :6], torch.arange(12) % 3)).image_size == 224
    assert make((pixels().float(), torch.arange(12) % 3)).image_size is None


@pytest.mark.parametrize(
    ("image", "channels"),
    [
        (Image.new("RGB", (8, 8)), 3),
        (Image.new("L", (8, 8)), 1),
        (Image.new("P", (8, 8)), 3),
        (np.zeros((8, 8), np.uint8), 1),
        (np.zeros((8, 8, 1), np.uint8), 1),
        (np.zeros((8, 8, 3), np.uint8), 3),
        (np.zeros((8, 8, 4), np.uint8), 3),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), 5),
    ],
)
def test_channels_and_their_statistics_follow_from_the_first_image(make: Make, image: Any, channels: int) -> None:
    workload = make(Listed([(image, 0)] * 4))
    assert workload.channels == channels
    usual = (0.485, 0.456, 0.406) if channels == 3 else (0.5,) * channels
    assert workload.mean == usual
    assert len(workload.std) == channels


def test_only_folders_are_augmented_unasked(make: Make, jpeg_folder: Path) -> None:
    assert make(jpeg_folder).augmentation == "crop"
    assert make().augmentation == "none"
    assert make(jpeg_folder, augmentation="rand").augmentation == "rand"
    assert make(augmentation="auto").augmentation == "crop"  # where the search for the strength begins
    assert make((pixels().float(), torch.arange(12) % 3), augmentation="auto").augmentation == "none"
    assert make(jpeg_folder, collate=list, loss=nn.MSELoss()).augmentation == "none"


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [("cosine", WarmupCosine()), ("Linear ", WarmupLinear()), ("constant", Constant()), (Constant(), Constant())],
)
def test_the_schedule_is_understood_at_once(make: Make, schedule: Any, kind: Any) -> None:
    assert make(schedule=schedule).schedule == kind


def test_preparing_leaves_the_model_alone(make: Make, tiny_model: Callable[..., nn.Module]) -> None:
    """The random states are looked after by the leak guard; the dataset here draws from torch's."""
    model = tiny_model().eval()
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    make(FakeData(8, (3, 8, 8)), model=model)
    assert not any(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][0]
        assert torch.equal(value, before[name][1])


def test_an_optimizer_is_made_or_kept(make: Make) -> None:
    workload = make()
    parameters = list(workload.model.parameters())
    made = workload.make_optimizer(parameters)
    assert type(made) is torch.optim.AdamW
    assert made.param_groups[0]["lr"] == 1e-3
    own = torch.optim.SGD(parameters, lr=0.1)
    assert make(optimizer=own).make_optimizer(parameters) is own
    function = make(optimizer=lambda entries: torch.optim.Adam(entries, lr=0.5))
    assert function.make_optimizer(parameters).param_groups[0]["lr"] == 0.5


def test_a_validation_set_with_other_class_numbers_is_refused(make: Make) -> None:
    samples = [(Image.new("RGB", (8, 8)), 0)] * 4
    same = Listed(samples, classes=["ant", "bee", "cow"])
    assert make(same, validation=Listed(samples, classes=("ant", "bee", "cow"))).validation is not None
    assert make(same, validation=Listed(samples)).validation is not None
    assert make(same, validation=Subset(same, [0, 1])).validation is not None
    assert make(same, validation=Listed(samples, classes=3)).validation is not None
    with pytest.raises(DataError, match="they are in another order"):
        make(same, validation=Listed(samples, classes=["bee", "ant", "cow"]))
    with pytest.raises(DataError, match="'cow' is in one of them only"):
        make(same, validation=Listed(samples, classes=["ant", "bee"]))


def test_raw_training_images_go_with_transformed_validation_images(make: Make) -> None:
    assert make(validation=(pixels().float(), torch.arange(12) % 3)).validation is not None
    with pytest.raises(TaskError, match=r"^validation: the tensors gives images"):
        make((pixels().float(), torch.arange(12) % 3), validation=(pixels(), torch.arange(12) % 3))


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), None),
        (torch.zeros(4, 7), torch.tensor([0, 1, 2, 0]), None),
        (torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]), "the dataset has label 2"),
        (torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 2, 0]), "wants (4, classes)"),
        (torch.zeros(4), torch.tensor([0, 1, 2, 0]), "shape (4,) for 4 labels"),
        ("words", torch.tensor([0]), None),
    ],
)
def test_outputs_and_labels_are_compared(make: Make, outputs: Any, labels: torch.Tensor, words: str | None) -> None:
    """With all labels that the dataset has, not those of one batch."""
    workload = make()
    if words is None:
        check_fit(workload, outputs, labels)
        return
    with pytest.raises(TaskError) as caught:
        check_fit(workload, outputs, labels)
    assert words in str(caught.value)


def test_where_labels_are_not_known_class_names_and_the_batch_are_looked_at(make: Make) -> None:
    samples = [(Image.new("RGB", (8, 8)), 0)] * 4
    with pytest.raises(TaskError, match="3 outputs, but the dataset has 4 classes"):
        check_fit(make(Listed(samples, classes=list("abcd"))), torch.zeros(2, 3), torch.tensor([0, 0]))
    with pytest.raises(TaskError, match="has label 5: labels must be 0 to 2"):
        check_fit(make(Listed(samples)), torch.zeros(2, 3), torch.tensor([0, 5]))
    check_fit(make(Listed(samples, classes=list("ab"))), torch.zeros(2, 3), torch.tensor([0, 0]))


def test_other_losses_are_the_users_business(make: Make) -> None:
    check_fit(make(loss=functional.mse_loss), torch.zeros(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))


def test_the_fingerprint_tells_what_speed_depends_on(make: Make, tiny_model: Callable[..., nn.Module]) -> None:
    usual = make().fingerprint
    assert make().fingerprint == make(seed=5, duration="3ep", schedule="linear").fingerprint == usual
    others = [
        make(batch_size=2),
        make(image_size=6),
        make(model=tiny_model(classes=4)),
        make((pixels(13), torch.arange(13) % 3)),
        make(loss=nn.MultiMarginLoss()),
    ]
    assert len({usual, *(entry.fingerprint for entry in others)}) == 6


@pytest.mark.parametrize("parts", [1, 2])
def test_a_sampler_that_divides_the_data_itself_is_refused(make: Make, parts: int) -> None:
    """Of its part each process would get a part."""
    sampler = DistributedSampler(range(12), num_replicas=parts, rank=0)  # type: ignore[arg-type]
    if parts == 1:
        assert make(sampler=sampler, batch_size=4).stream().steps_per_epoch == 3
        return
    with pytest.raises(TaskError, match=r"DistributedSampler picks one of 2 parts .* leave sampler= out"):
        make(sampler=sampler)
