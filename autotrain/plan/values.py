"""What a plan may say about each setting, as one check that knows the value alone."""

from collections.abc import Mapping
from types import MappingProxyType

from autotrain.errors import unknown
from autotrain.files import printable
from autotrain.settings import Settings

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "precision": ("fp32", "tf32", "bf16", "fp16"),
        "memory_format": ("contiguous", "channels_last"),
        "compile": ("none", "default", "reduce-overhead", "max-autotune"),
        "optimizer_kernel": ("own", "foreach", "fused"),
        "gradient_precision": ("fp32", "bf16"),
        "augmentation": ("none", "flip", "crop", "trivial", "rand", "autoaugment", "augmix"),
        "placement": ("worker", "device"),
        "decoder": (
            *("pillow", "torchvision", "simplejpeg", "pillow_draft", "simplejpeg_scaled"),
            *("pillow_simd", "pillow_simd_draft", "dali", "nvjpeg"),
        ),
        "resize": ("pillow", "torch"),
        "cache": ("none", "ram", "disk"),
        "loader": ("processes", "threads"),
        "sharding": ("none", "full"),
    }
)
"""Settings that are one word of a closed set."""

LEAST: Mapping[str, int] = MappingProxyType(
    {"micro_batches": 1, "bucket_mib": 1, "threads": 0, "workers": 0, "prefetch": 1}
)
"""Settings that are a whole number, with the smallest one allowed."""

SWITCHES: tuple[str, ...] = ("cudnn_benchmark", "gradient_views", "static_graph", "pinning")
"""Settings that are true or false."""

OF_RANKS: tuple[str, ...] = ("sharding", "bucket_mib", "gradient_precision", "gradient_views", "static_graph")
"""Settings without effect on one process alone; a plan says nothing of them where they have their defaults."""

_SHOWN_CHARACTERS = 60


def check_value(name: str, value: object) -> str | None:
    """Return why setting ``name`` cannot be ``value``, with the remedy; None where it can.

    Whether this machine can run the value is not asked: a plan made elsewhere is still a valid plan.
    """
    if name in CHOICES:
        if value in CHOICES[name] and isinstance(value, str):
            return None
        return unknown("value", shown(value), CHOICES[name])
    if name in LEAST:
        if type(value) is not int:
            return f"{shown(value)} is not a whole number. Write a number of at least {LEAST[name]}"
        return None if value >= LEAST[name] else f"{value} is too small. Write a number of at least {LEAST[name]}"
    if name in SWITCHES:
        return None if isinstance(value, bool) else f"{shown(value)} is neither true nor false. Write one of the two"
    return unknown("knob", shown(name), Settings.names())


def check_settings(settings: Settings) -> str | None:
    """Return the first reason why ``settings`` cannot stand in a plan, with the setting's name; or None."""
    for name, value in settings.as_dict().items():
        reason = check_value(name, value)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def shown(value: object) -> str:
    """Return ``value`` as YAML would show it: on one line, printable and short, whatever it holds."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text[: _SHOWN_CHARACTERS - 3] + "..." if len(text) > _SHOWN_CHARACTERS else text
    return printable(text)
