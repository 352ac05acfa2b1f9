"""timm: arguments of its training script ``train.py``."""

from __future__ import annotations

import shlex
from typing import Any

from autotrain.integrations.draft import Draft, ddp_arguments, input_path
from autotrain.integrations.target import Target
from autotrain.plan.plan import Plan

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


class Timm(Target):
    """Arguments, an option a line; the script is in timm's repository, not in its package."""

    name, title = "timm", "timm's train.py"
    form = "python train.py --data-dir DIR --model NAME $(grep -v '^#' THIS_FILE)"

    def draft(self, plan: Plan) -> Draft:
        """Return options; True stands for an option without a value."""
        draft = Draft(plan)
        settings = draft.settings
        draft.put("options", device=draft.made.device or "cuda")
        _compute(draft)
        if settings.loader == "threads" and settings.workers:
            draft.lose("workers", "it loads in processes only; how many of those pay was not measured (its default: 4)")
            draft.lose("loader", "it loads in processes only")
        elif settings.workers:
            draft.keep("workers", "options", workers=settings.workers)
        else:
            draft.put("options", workers=1)
            draft.given("workers", "1: it keeps workers, which torch refuses where there are none", default=True)
        if settings.workers and settings.prefetch != 2:
            draft.lose("prefetch", "it takes torch's own 2")
        if settings.pinning:
            draft.keep("pinning", "options", **{"pin-mem": True})
        _policy(draft)
        input_path(draft)
        for name in (*ddp_arguments(settings), "gradient_precision", "sharding"):
            draft.lose(name, "it makes DistributedDataParallel itself, without arguments for it")
        return draft

    def body(self, draft: Draft) -> str:
        """Return an option a line."""
        lines = []
        for name, value in draft.section("options").items():
            lines.append(f"--{name}" if value is True else f"--{name} {shlex.quote(str(value))}")
        return "\n".join(lines) + "\n"


def _compute(draft: Draft) -> None:
    settings = draft.settings
    if settings.precision in AUTOCAST:
        draft.keep("precision", "options", amp=True, **{"amp-dtype": AUTOCAST[settings.precision]})
    elif draft.changed("precision"):
        draft.given("precision", "on CUDA the script turns TF32 on by itself")
    elif draft.made.device == "cuda":
        draft.lose("precision", "the script turns TF32 on by itself, and has no option against it", default=True)
    if settings.memory_format == "channels_last":
        draft.keep("memory_format", "options", **{"channels-last": True})
    if settings.compile != "none":
        draft.keep("compile", "options", torchcompile="inductor", **{"torchcompile-mode": settings.compile})
    if settings.optimizer_kernel != "own":
        draft.keep("optimizer_kernel", "options", **{"opt-kwargs": f"{settings.optimizer_kernel}=True"})
    draft.given("cudnn_benchmark", "on CUDA the script turns it on by itself")
    if settings.micro_batches > 1:
        draft.keep("micro_batches", "options", **{"grad-accum-steps": settings.micro_batches})
    if draft.images_per_pass is not None:
        draft.put("options", **{"batch-size": draft.images_per_pass})
    if draft.made.image_size:
        draft.put("options", **{"img-size": draft.made.image_size})
    draft.by_hand("threads", f"OMP_NUM_THREADS={settings.threads} before the command")


def _policy(draft: Draft) -> None:
    """Express the policies that the script has too; others of the same name have other operators there."""
    options: dict[str, dict[str, Any]] = {"none": {"no-aug": True}, "crop": {"color-jitter": 0.0}}
    name = draft.settings.augmentation
    if name in options:
        draft.keep("augmentation", "options", **options[name])
    else:
        draft.lose("augmentation", f"policy '{name}' has other definitions there; choose --aa, --scale and --hflip")


__all__ = ["Timm"]
