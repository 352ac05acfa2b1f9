"""Chains are unpacked; what is known is told from what merely looks like it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.transforms.steps import Form, Step, flatten, form, key, trace


class OwnResize(v1.Resize):
    def forward(self, img: Any) -> Any:
        return super().forward(img.rotate(90))


def step(transform: Any) -> Step:
    return Step(transform=transform, before=Form.PICTURE, after=Form.PICTURE)


def hooked() -> nn.Module:
    resize = v1.Resize(8)
    resize.register_forward_hook(lambda module, given, result: result)
    return resize


def patched() -> nn.Module:
    resize = v2.Resize(8)
    resize.transform = lambda image, params: image  # type: ignore[method-assign]
    return resize


def test_containers_of_any_depth_are_unpacked() -> None:
    leaves = [v1.Resize(8), v2.RandomHorizontalFlip(), v1.ToTensor(), v2.Normalize([0.5], [0.5])]
    nested = v1.Compose([leaves[0], v2.Compose([v2.Compose([leaves[1]]), nn.Sequential(), leaves[2]]), leaves[3]])
    assert list(flatten(nested)) == leaves
    assert list(flatten(leaves[0])) == leaves[:1]
    assert list(flatten(None)) == []


def test_containers_that_choose_stay_whole() -> None:
    choice = v2.RandomApply([v2.Resize(8)])
    assert list(flatten(v1.Compose([choice]))) == [choice]


@pytest.mark.parametrize(
    "transform",
    [v1.Resize(8), v1.Pad(2, fill=(1, 2, 3)), v2.CenterCrop(8), v2.RGB(), v2.ToImage(), v1.Grayscale(3), nn.Identity()],
)
def test_known_transforms_are_deterministic(transform: Any) -> None:
    assert step(transform).deterministic


@pytest.mark.parametrize(
    "transform",
    [
        *(OwnResize(8), hooked(), patched(), v1.Lambda(lambda image: image), lambda image: image, v1.RandomCrop(8)),
        *(v2.RandomHorizontalFlip(p=0.0), v1.RandomApply([v1.Resize(8)], p=1.0)),
    ],
    ids=["subclass", "hook", "replaced method", "Lambda", "function", "random", "random of 0", "container"],
)
def test_what_is_not_known_is_not_deterministic(transform: Any) -> None:
    assert not step(transform).deterministic


def test_a_key_tells_classes_and_parameters_apart() -> None:
    chains = [
        [v1.Resize(8)],
        [v1.Resize((8, 8))],
        [v1.Resize(8, max_size=9)],
        [v1.Resize(8, interpolation=v1.InterpolationMode.BICUBIC)],
        [v2.Resize(8)],
        [v1.CenterCrop(8)],
        [v1.Pad(2)],
        [v1.Pad(2, fill=1)],
        [v2.Pad(2)],
        [v2.Pad(2, fill={"others": 3})],
        [v2.Pad(2, padding_mode="reflect")],
        [v1.Resize(8), v1.CenterCrop(8)],
        [v1.CenterCrop(8), v1.Resize(8)],
        [v1.Normalize([0.1, 0.2], [0.3, 0.4])],
        [v1.Normalize(torch.tensor([0.1, 0.2]), [0.3, 0.4])],
        [v2.ToDtype(torch.uint8)],
        [v2.ToDtype(torch.float32)],
    ]
    keys = [key(tuple(map(step, chain))) for chain in chains]
    assert len(set(keys)) == len(keys)
    assert key((step(v1.Resize(8)), step(v1.Pad(2)))) == key((step(v1.Resize(8)), step(v1.Pad(2))))


def test_a_parameter_without_a_full_text_has_no_key() -> None:
    resize = v1.Resize(8)
    resize.size = object()
    with pytest.raises(TypeError, match="text"):
        key((step(resize),))


def test_a_trace_tells_what_each_step_is_given() -> None:
    steps = trace([v1.Resize(8), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)], Image.new("RGB", (20, 20)))
    assert [entry.before for entry in steps] == [Form.PICTURE, Form.PICTURE, Form.BYTES]
    assert steps[-1].after is Form.FLOAT


@pytest.mark.parametrize("image", [torch.zeros(3, 4, 4, dtype=torch.float16), torch.zeros(4), "image", None])
def test_what_is_no_image_has_another_form(image: Any) -> None:
    assert form(image) is Form.OTHER


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        (v1.RandomResizedCrop(224), "RandomResizedCrop(224)"),
        (v2.Resize([224, 192]), "Resize(224x192)"),
        (v1.Resize(256), "Resize(256)"),
        (v1.ToTensor(), "ToTensor"),
        (step, "step"),
    ],
)
def test_a_step_is_called_what_people_call_it(transform: Any, name: str) -> None:
    assert str(step(transform)) == name
