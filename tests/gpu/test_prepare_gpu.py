"""On CUDA a step in pieces is the whole step in every precision, and a compiled model keeps its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import autotrain
from autotrain.plan.plan import Plan
from autotrain.prepared import Prepared
from autotrain.settings import Settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator), torch.arange(40) % 3


def prepared(model: nn.Module, **settings: Any) -> Prepared:
    plan = Plan(settings=Settings(**settings))
    return autotrain.prepare(model, data(), validation=data(), plan=plan, batch_size=8, clip_norm=1.0, device="cuda")


def whole(job: Prepared) -> list[float]:
    return [float(job.step(images, labels)) for images, labels in job.loader]


def in_pieces(job: Prepared) -> list[float]:
    losses = []
    for images, labels in job.loader:
        with job.autocast():
            loss = functional.cross_entropy(job.model(images), labels)
        job.backward(loss)
        job.update()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_step_in_pieces_is_the_whole_step(tiny_model: Any, precision: str) -> None:
    found = []
    for loop in (whole, in_pieces):
        model = tiny_model()
        with prepared(model, precision=precision, memory_format="channels_last", workers=1, pinning=True) as job:
            images, _ = next(iter(job.loader))
            assert images.is_cuda
            assert images.is_contiguous(memory_format=torch.channels_last)
            found.append([*loop(job), *loop(job)])
            assert job.evaluate().accuracy is not None
        assert model[3].weight.is_contiguous()
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert all(value == value for losses in found for value in losses)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_model_trains_in_pieces_under_its_own_names(
    tiny_model: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])  # setuptools adds to it, which the compiler imports
    with prepared(tiny_model()) as job:
        expected = [*whole(job), *in_pieces(job)]
    with prepared(tiny_model(), compile=mode) as job:
        found = [*whole(job), *in_pieces(job)]
        assert list(job.model.state_dict()) == list(tiny_model().state_dict())
        assert job.evaluate().samples == 40
    assert found == pytest.approx(expected, rel=1e-2)
