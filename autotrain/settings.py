"""Settings: one plain value per knob, saying how to run and (but for the policy's name) never what to learn."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from autotrain.errors import SettingsError, unknown

Value = str | int | bool
"""What a knob can be set to: a value that YAML and JSON write as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a training job runs. The defaults are PyTorch's own; change a copy with ``dataclasses.replace``."""

    precision: str = "fp32"
    """Arithmetic of forward and backward: fp32, tf32 (CUDA), bf16 or fp16 autocast; weights stay in fp32."""

    memory_format: str = "contiguous"
    """Layout of images and weights: contiguous (NCHW) or channels_last (NHWC)."""

    compile: str = "none"
    """What torch.compile makes of the model in training: none (the model as it is), default, reduce-overhead or
    max-autotune; the last two with CUDA graphs."""

    optimizer_kernel: str = "own"
    """How the optimizer updates the weights: own (as it is set up), foreach (lists of tensors at once) or fused (one
    kernel)."""

    cudnn_benchmark: bool = False
    """Let cuDNN try its convolution algorithms at the first step and keep the fastest (CUDA)."""

    micro_batches: int = 1
    """Parts that a batch passes the model in, one after the other, for one update; fewer images in memory at once."""

    sharding: str = "none"
    """What ranks keep of weights, gradients and optimizer state: none (each one all of it) or full (each one a part);
    without effect for one process alone."""

    bucket_mib: int = 25
    """Size of the parts in which gradients travel between ranks, in MiB; likewise."""

    gradient_precision: str = "fp32"
    """In what gradients travel between ranks: fp32 (as they are) or bf16; likewise."""

    gradient_views: bool = False
    """Let gradients lie in the buffers that travel between ranks, which saves a copy; likewise."""

    static_graph: bool = False
    """Promise that every step takes the same way through the model, so that ranks need not look; likewise."""

    augmentation: str = "none"
    """Policy that every training image goes through: none, flip, crop, trivial, rand, autoaugment or augmix."""

    placement: str = "worker"
    """Where the policy's pixel work happens: per image in a loader worker, or per batch on the device."""

    decoder: str = "pillow"
    """What decodes image files: pillow, torchvision, simplejpeg, dali, nvjpeg (CUDA), pillow_simd; with ``_draft`` or
    ``_scaled`` at the end JPEGs are decoded at a half, a quarter or an eighth where the crop allows."""

    resize: str = "pillow"
    """What resizes crops, bilinear and antialiased: pillow or torch."""

    cache: str = "none"
    """Where decoded images (or what else does not depend on chance) are kept: none, ram or disk."""

    threads: int = 0
    """Intra-op threads of the training process; 0 leaves torch's own count."""

    loader: str = "processes"
    """What loads batches: worker processes, or threads of the training process; without effect at 0 workers."""

    workers: int = 0
    """Loader processes or threads; 0 loads in the training process, between the steps."""

    prefetch: int = 2
    """Batches that each worker keeps ready; without effect at 0 workers."""

    pinning: bool = False
    """Page-locked host memory for batches, so that copies to a CUDA device overlap with work."""

    def as_dict(self) -> dict[str, Value]:
        """Return name and value of every setting, in the order of declaration."""
        return {name: getattr(self, name) for name in self.names()}

    def changes(self, other: "Settings") -> dict[str, Value]:
        """Return the settings whose value here differs from ``other``'s, with the value here."""
        theirs = other.as_dict()
        return {name: value for name, value in self.as_dict().items() if value != theirs[name]}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return cls.__slots__

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Build settings from names and values; what is left out has its default.

        Raises:
            SettingsError: a name is unknown or a value has another type than the setting.
        """
        known = {entry.name: entry.default for entry in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise SettingsError(unknown("setting", name, known))
            if type(value) is not type(known[name]):
                wanted = type(known[name]).__name__
                raise SettingsError(f"setting '{name}': {value!r} is not of type {wanted}")
        return cls(**dict(values))
