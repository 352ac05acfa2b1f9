import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import tv_tensors
from torchvision.transforms import v2

from autotrain.augment.draws import uniforms
from autotrain.augment.geometry import center_window, crop_window


def windows(height: int, width: int, *, number: int) -> np.ndarray:
    rows = uniforms(0, 0, np.arange(number), count=22, purpose=1)
    return np.array([crop_window(row, height, width) for row in rows])


@pytest.mark.parametrize(("height", "width"), [(300, 400), (64, 64), (50, 20)])
def test_windows_are_distributed_as_in_torchvision(height: int, width: int) -> None:
    number = 2000
    ours = windows(height, width, number=number)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    transform, image = v2.RandomResizedCrop(8), tv_tensors.Image(torch.zeros(1, height, width))
    drawn = [transform.make_params([image]) for _ in range(number)]
    torch.set_rng_state(state)
    theirs = np.array([[entry[name] for name in ("top", "left", "height", "width")] for entry in drawn])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
    for combine in (np.multiply, np.divide):
        values = [combine(entry[:, 3], entry[:, 2]) for entry in (ours, theirs)]
        assert stats.ks_2samp(*values).pvalue > 1e-4


def test_an_image_too_narrow_for_any_try_gives_its_central_window() -> None:
    never = np.full(22, 0.99)
    assert crop_window(never, 400, 30) == (180, 0, 40, 30)
    assert crop_window(never, 30, 400) == (0, 180, 30, 40)


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ((256, 256), 224, (16, 16, 224, 224)),
        ((512, 768), 224, (32, 160, 448, 448)),
        ((375, 500), 224, (24, 86, 328, 328)),
        ((32, 32), 32, (0, 0, 32, 32)),
        ((240, 240), 224, (8, 8, 224, 224)),
        ((100, 90), 224, (5, 0, 90, 90)),
        ((1, 50), 224, (0, 24, 1, 1)),
    ],
)
def test_the_evaluation_window_is_central(sides: tuple[int, int], size: int, expected: tuple[int, ...]) -> None:
    assert center_window(*sides, size) == expected
