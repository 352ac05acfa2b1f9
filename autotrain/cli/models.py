"""Models by name: torchvision's, then timm's where timm is installed."""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotrain.errors import TaskError

if TYPE_CHECKING:
    from torch import nn

EXTRA = "autotrain-torch[timm]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A model that was built from a name."""

    model: nn.Module
    """With fresh weights."""

    channels: int
    """Channels of the images that it takes."""


def build_model(name: str, *, classes: int, channels: int, image_size: int | None, seed: int) -> Named:
    """Build a classifier with fresh weights that depend on the seed alone.

    Args:
        name: torchvision's or timm's.
        classes: number of outputs.
        channels: of the images; torchvision's models take three whatever is asked for.
        image_size: side in pixels, for models that are built for one size.
        seed: of the initial weights.

    Raises:
        TaskError: there is no such model, or it cannot be built.
    """
    import torch
    from torchvision import models

    known = models.list_models(module=models)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if name in known:
                options = _options(name, image_size)
                return Named(model=models.get_model(name, weights=None, num_classes=classes, **options), channels=3)
            if _timm_has(name):
                return Named(model=_from_timm(name, classes, channels, image_size), channels=channels)
        except Exception as problem:
            reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            raise TaskError(f"--model {name}: cannot be built: {reason}") from problem
    raise TaskError(f"--model {name}: {_unknown(name, known)}")


def _options(name: str, image_size: int | None) -> dict[str, Any]:
    """Return what some of torchvision's models need: one output only, and the size that they are built for."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if image_size is not None and name.startswith("vit_"):
        return {"image_size": image_size}
    if image_size is not None and name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def _timm_has(name: str) -> bool:
    if importlib.util.find_spec("timm") is None:
        return False
    import timm

    return bool(timm.is_model(name))


def _from_timm(name: str, classes: int, channels: int, image_size: int | None) -> nn.Module:
    import timm

    options: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    if image_size is not None:
        try:
            sized: nn.Module = timm.create_model(name, img_size=image_size, **options)
        except TypeError:  # most models take any size and no such option
            pass
        else:
            return sized
    model: nn.Module = timm.create_model(name, **options)
    return model


def _unknown(name: str, known: list[str]) -> str:
    names = list(known)
    where = f"torchvision has {len(known)} classification models"
    if importlib.util.find_spec("timm") is not None:
        import timm

        names += timm.list_models()
        where += f", timm {len(names) - len(known):,} more"
    else:
        where += f"; timm, which has more, is not installed (pip install '{EXTRA}')"
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.75)
    hint = f" Did you mean {' or '.join(repr(entry) for entry in close)}?" if close else ""
    return f"unknown model.{hint} {where}"
