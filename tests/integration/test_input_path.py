"""The input path as people use it: fits and probes with every kind of loading, and what goes wrong in them."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder

import autotrain
from autotrain.api import FitResult
from autotrain.data.caching import WarmSets
from autotrain.data.images import unreadable
from autotrain.data.source import open_source
from autotrain.decode.dali import BatchDecoder
from autotrain.decode.decoder import decoder
from autotrain.engine.events import EpochDone
from autotrain.errors import AutotrainError, CandidateError, DataError, SettingsError
from autotrain.measure.burst import BurstOptions, burst
from autotrain.measure.contender import HeatOptions
from autotrain.plan.plan import Plan
from autotrain.search.duel import DuelOptions, duel
from autotrain.settings import Settings

SIDE = 24
without_dali = pytest.mark.skipif(decoder("dali").unavailable() is not None, reason="NVIDIA DALI is not installed")
LOADING: list[dict[str, Any]] = [
    {},
    {"workers": 2},
    {"workers": 2, "loader": "threads"},
    {"workers": 2, "loader": "threads", "cache": "ram"},
    {"workers": 2, "cache": "disk", "decoder": "simplejpeg"},
    pytest.param({"decoder": "dali"}, marks=without_dali),
    pytest.param({"decoder": "dali", "workers": 2, "loader": "threads"}, marks=without_dali),
]
by_loading = pytest.mark.parametrize("values", LOADING, ids=str)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, nothing_leaks: None, tmp_path: Path) -> Iterator[None]:
    """One thread, an empty folder, and short bursts and duels where there is a probe."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    short = BurstOptions(window_s=0.03, windows=3, limit_s=0.15, warmup_s=0.03)
    turns = DuelOptions(pairs=5, heat=HeatOptions(turn_s=0.04, warmup_s=0.03, behind=None))
    monkeypatch.setattr("autotrain.search.recorder.burst", lambda rig, **rest: burst(rig, **rest | {"options": short}))
    monkeypatch.setattr("autotrain.search.proof.duel", lambda *sides, **rest: duel(*sides, **rest | {"options": turns}))
    yield
    torch.set_num_threads(before)


class Images(Dataset[Any]):
    """A dataset of a user's own, of which nothing is known."""

    def __init__(self, length: int = 9, label: Any = None) -> None:
        self.length, self.label = length, label

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        label = index % 3 if self.label is None else self.label(index)
        return Image.new("RGB", (30 + index, 33), (9 * index, 0, 0)), label


class Means(nn.Module):
    """A model whose outputs are the images' mean colours: whatever is done to an image shows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images.mean((2, 3))


@pytest.fixture
def fit(tiny_model: Any, tmp_path: Path) -> Any:
    def run(
        dataset: Any,
        values: dict[str, Any] | None = None,
        *,
        augmentation: str = "crop",
        model: Any = None,
        **rest: Any,
    ) -> FitResult:
        plan = Plan(settings=Settings(augmentation=augmentation, **values or {}))
        options = {
            "batch_size": 4,
            "image_size": SIDE,
            "duration": "9step",
            "device": "cpu",
            "cache_dir": tmp_path / "kept",
            "augmentation": augmentation,
            **rest,
        }
        return autotrain.fit(model or tiny_model(), dataset, plan=plan, progress=False, **options)

    return run


@by_loading
def test_a_fit_comes_to_the_same_however_images_are_loaded(fit: Any, jpeg_folder: Path, values: dict[str, Any]) -> None:
    reference = fit(str(jpeg_folder), validation=str(jpeg_folder)).history[-1]
    again = fit(str(jpeg_folder), values, validation=str(jpeg_folder)).history[-1]
    tolerance = 1e-3 if values.get("decoder") == "dali" else 1e-6
    assert again.loss == pytest.approx(reference.loss, rel=tolerance)
    assert again.validation_loss == pytest.approx(reference.validation_loss, rel=tolerance)


@pytest.mark.parametrize("placement", ["worker", "device"])
def test_validation_images_are_neither_mixed_nor_changed(fit: Any, jpeg_folder: Path, placement: str) -> None:
    """A model that does not learn is scored the same whatever is done to the training images."""
    model = Means()
    options = {"validation": str(jpeg_folder), "optimizer": lambda entries: torch.optim.SGD(entries, lr=0.0)}
    extras = {"mixup": 0.4, "cutmix": 1.0, "erasing": 1.0, "color_jitter": (0.4, 0.4, 0.4, 0.1)}
    plain, mixed = (
        fit(str(jpeg_folder), {"placement": placement}, model=model, duration="1step", **options, **more).history[-1]
        for more in ({}, extras)
    )
    assert plain.loss != mixed.loss
    assert (plain.validation_loss, plain.accuracy) == (mixed.validation_loss, mixed.accuracy)


@pytest.mark.parametrize("kind", ["own", "subset"])
def test_threads_train_beside_a_validation_set_that_needs_processes(fit: Any, jpeg_folder: Path, kind: str) -> None:
    validation = Images() if kind == "own" else Subset(ImageFolder(str(jpeg_folder)), [0, 14, 30])
    record = fit(str(jpeg_folder), {"loader": "threads", "workers": 2}, validation=validation).history[-1]
    assert record.accuracy is not None


LABELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rows": (lambda index: torch.tensor([1.0, 0.0, float(index % 2)]), {}),
    "dictionary": (
        lambda index: {"kind": index % 3, "name": f"x{index}"},
        {"loss": lambda outputs, labels: functional.cross_entropy(outputs, labels["kind"])},
    ),
    "truth": (lambda index: bool(index % 2), {}),
    "numpy": (lambda index: np.int64(index % 3), {}),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("mixed", [False, True])
def test_labels_of_all_kinds_are_trained_on_and_scored(fit: Any, kind: str, mixed: bool) -> None:
    label, options = LABELS[kind]
    extras = {"mixup": 0.4, "cutmix": 1.0} if mixed else {}
    record = fit(Images(label=label), {}, validation=Images(5, label), batch_size=3, **options, **extras).history[-1]
    assert np.isfinite(record.loss)
    assert np.isfinite(record.validation_loss)


@by_loading
def test_a_truncated_file_is_named_in_one_line(fit: Any, jpeg_folder: Path, tmp_path: Path, values: Any) -> None:
    path = _copy(jpeg_folder, tmp_path / "data") / "boat" / "05.jpg"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"boat/05\.jpg: cannot be read as an image .*Repair it") as caught:
        fit(str(tmp_path / "data"), values, duration="2ep")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("content", [None, b"", b"text"], ids=["missing", "empty", "text"])
def test_a_file_that_is_no_image_is_named_in_one_line(
    tiny_model: Any, jpeg_folder: Path, tmp_path: Path, cache: str, content: bytes | None
) -> None:
    path = _copy(jpeg_folder, tmp_path / "data") / "cat" / "03.jpg"
    dataset = ImageFolder(str(tmp_path / "data"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    plan = Plan(settings=Settings(augmentation="crop", cache=cache))
    options: dict[str, Any] = {"batch_size": 4, "duration": "2ep", "device": "cpu", "cache_dir": tmp_path / "kept"}
    with pytest.raises(DataError, match=r"cat/03\.jpg: cannot be read as an image") as caught:
        autotrain.fit(tiny_model(), dataset, plan=plan, progress=False, image_size=SIDE, **options)
    assert "object at" not in str(caught.value)


def test_a_plan_whose_cache_has_no_room_trains_without_it(
    fit: Any, jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("autotrain.data.caching.memory_budget", lambda *facts, **rest: 20_000)
    assert fit(str(jpeg_folder), {"cache": "ram", "workers": 1}).steps == 9
    assert "cache = ram does less than it could" in caplog.text


def test_a_folder_for_caches_that_cannot_be_made_is_said_and_done_without(
    fit: Any, jpeg_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert fit(str(jpeg_folder), {"cache": "disk"}, cache_dir=tmp_path / "file" / "in it").steps == 9
    assert "Each sample is made anew" in caplog.text
    with pytest.raises(AutotrainError, match="is not a folder"):
        fit(str(jpeg_folder), {"cache": "disk"}, cache_dir=tmp_path / "file")


@pytest.mark.parametrize(
    ("fixed", "reason"),
    [
        ({"cache": "disk"}, "give cache_dir="),
        ({"decoder": "pillow_simd"}, "needs worker processes"),
        ({"decoder": "pillow_simd", "workers": 2}, "holds no package PIL"),
        ({"decoder": "nvjpeg"}, "CUDA"),
    ],
    ids=str,
)
def test_fixed_settings_that_cannot_be_are_refused_before_anything_is_measured(
    tiny_model: Any, jpeg_folder: Path, fixed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        autotrain.probe(tiny_model(), str(jpeg_folder), fix=fixed, device="cpu", batch_size=4, progress=False)


@pytest.mark.parametrize(
    "fixed",
    [
        {"cache": "disk", "loader": "threads", "workers": 2},
        pytest.param({"decoder": "dali", "workers": 0, "cache": "none"}, marks=without_dali),
    ],
    ids=str,
)
def test_a_probe_leaves_no_thread_file_or_process(
    tiny_model: Any, jpeg_folder: Path, tmp_path: Path, fixed: dict[str, Any]
) -> None:
    fixed = {**fixed, "threads": 0}  # torch keeps the threads that it once made
    options = {"batch_size": 8, "image_size": SIDE, "budget": "5s", "cache_dir": tmp_path / "a" / "b", "fix": fixed}
    before = _process(tmp_path)
    session = autotrain.probe(tiny_model(), str(jpeg_folder), progress=False, device="cpu", **options).session
    assert any(fixed.items() <= entry.settings.as_dict().items() for entry in session.measurements)
    assert _process(tmp_path) == before


@without_dali
def test_a_child_forked_beside_live_decoders_may_end_and_use_them(jpeg_folder: Path) -> None:
    """Ending the parent's pipeline in a child, as its garbage collection may, would crash it."""
    datas = [(jpeg_folder / "cat" / f"{index:02d}.jpg").read_bytes() for index in range(2)]
    out, again = (np.zeros((2, SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2))
    choices = [lambda height, width: (0, 0, height, width)] * 2
    with BatchDecoder(channels=3) as live:
        live.decode_batch(datas, choices, SIDE, out)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                live.close()
                gc.collect()
                live.decode_batch(datas, choices, SIDE, again)
                code = 0 if np.array_equal(out, again) else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_ctrl_c_ends_a_fit_with_threads(fit: Any, jpeg_folder: Path, tmp_path: Path, cache: str) -> None:
    pressed: list[int] = []

    def observer(event: Any) -> None:
        if isinstance(event, EpochDone) and not pressed:
            pressed.append(event.record.step)
            os.kill(os.getpid(), signal.SIGINT)

    before = _process(tmp_path)
    values = {"loader": "threads", "workers": 2, "cache": cache}
    assert fit(str(jpeg_folder), values, duration="1000ep", fit_observer=observer).interrupted
    assert _process(tmp_path) == before


def test_images_of_a_loader_of_the_users_own_are_not_kept(fit: Any, jpeg_folder: Path) -> None:
    dataset = ImageFolder(str(jpeg_folder), loader=_turned)
    assert not open_source(dataset).pure
    with pytest.raises(AutotrainError, match="may draw random numbers"):
        fit(dataset, {"loader": "threads", "workers": 2})


def test_what_another_pillow_cannot_read_is_the_candidates_fault(jpeg_folder: Path) -> None:
    source = open_source(str(jpeg_folder))
    for name, kind in (("pillow", DataError), ("pillow_simd", CandidateError)):
        assert type(unreadable(source, 0, OSError("odd"), decoder(name))) is kind


def test_one_cache_serves_a_folder_named_from_anywhere(
    fit: Any, jpeg_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders of the same relative name have a cache each; one folder has one, however it is named."""
    for place in ("one", "other"):
        _copy(jpeg_folder, tmp_path / place / "data")
        monkeypatch.chdir(tmp_path / place)
        fit("data", {"cache": "disk"})
        fit(str(tmp_path / place / "data"), {"cache": "disk"})
    assert sum(entry.is_dir() for entry in (tmp_path / "kept").iterdir()) == 2


def test_warm_sets_remove_every_folder_that_they_made(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    sets = WarmSets(4, inner)
    inner.mkdir(parents=True)
    sets.close()
    assert not (tmp_path / "a").exists()


def _turned(path: str) -> Image.Image:
    return Image.open(path).convert("RGB").rotate(90 * random.randrange(4))


def _copy(folder: Path, to: Path) -> Path:
    for path in folder.rglob("*.jpg"):
        place = to / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return to


def _process(folder: Path) -> dict[str, Any]:
    gc.collect()
    own = psutil.Process()
    return {
        "children": [child.pid for child in own.children(recursive=True)],
        "Python threads": sorted(thread.name for thread in threading.enumerate()),
        "all threads": own.num_threads(),
        "files": sorted(str(path) for path in folder.rglob("*") if "kept" not in path.parts),
        "open caches": [entry for entry in _open_files() if "autotrain-cache" in entry or "samples.bin" in entry],
    }


def _open_files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with_path = f"/proc/self/fd/{number}"
        if os.path.lexists(with_path):
            found.append(os.readlink(with_path))
    return found
