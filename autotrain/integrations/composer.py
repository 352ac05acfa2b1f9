"""Composer: arguments of its Trainer and of torch's DataLoader, and its algorithms, as YAML."""

from __future__ import annotations

from autotrain.integrations.draft import Draft, ddp_arguments, torch_loader
from autotrain.integrations.target import Target, yaml_text
from autotrain.plan.plan import Plan

TF32 = ("torch.backends.cuda.matmul.allow_tf32 = True", "torch.backends.cudnn.allow_tf32 = True")
"""Lines that do what precision = tf32 does, in the versions of torch that Composer takes."""

PRECISIONS = {"fp32": "fp32", "bf16": "amp_bf16", "fp16": "amp_fp16"}


class Composer(Target):
    """YAML with a section for each thing that a script makes."""

    name, title = "composer", "Composer"
    form = (
        "Read it with yaml.safe_load; then Trainer(**trainer, algorithms=[composer.algorithms.ChannelsLast()] where "
        "algorithms names it), DataLoader(dataset, **loader) and **optimizer for the torch optimizer."
    )

    def draft(self, plan: Plan) -> Draft:
        """Return Trainer, DataLoader and optimizer arguments."""
        draft = Draft(plan)
        settings = draft.settings
        if draft.made.device in ("cpu", "cuda", "mps"):
            draft.put("trainer", device="gpu" if draft.made.device == "cuda" else draft.made.device)
        if settings.precision == "tf32":
            draft.put("trainer", precision="fp32")
            draft.by_hand("precision", "; ".join(TF32))
        elif draft.made.device == "cpu" and settings.precision != "fp32":
            draft.put("trainer", precision="fp32")
            draft.lose("precision", "on a CPU Composer computes in fp32 only")
        else:
            draft.keep("precision", "trainer", precision=PRECISIONS[settings.precision])
        if settings.memory_format == "channels_last":
            draft.keep("memory_format", "algorithms", channels_last={})
        if settings.compile != "none":
            draft.keep("compile", "trainer", compile_config={"mode": settings.compile})
        if settings.optimizer_kernel != "own":
            draft.keep("optimizer_kernel", "optimizer", **{settings.optimizer_kernel: True})
        draft.by_hand("cudnn_benchmark", "torch.backends.cudnn.benchmark = True")
        _batches(draft)
        draft.by_hand("threads", f"torch.set_num_threads({settings.threads}), or OMP_NUM_THREADS={settings.threads}")
        torch_loader(draft)
        for name in (*ddp_arguments(settings), "gradient_precision"):
            draft.lose(name, "Composer makes DistributedDataParallel itself, without arguments for it")
        draft.by_hand("sharding", "Trainer(parallelism_config={'fsdp': {...}}), which suits the model")
        return draft

    def body(self, draft: Draft) -> str:
        """Return the sections that hold something."""
        names = ("trainer", "algorithms", "loader", "optimizer")
        return yaml_text({name: dict(draft.section(name)) for name in names if name in draft.sections})


def _batches(draft: Draft) -> None:
    """Name the batch, and the part of it that passes the model at once: Composer divides batches itself."""
    images, parts = draft.images_per_pass, draft.settings.micro_batches
    if images is not None:
        draft.put("loader", batch_size=images * parts, drop_last=True)
        draft.keep("micro_batches", "trainer", device_train_microbatch_size=images)
    elif parts > 1:
        draft.by_hand("micro_batches", f"Trainer(device_train_microbatch_size=...), a {parts}th of the batch")


__all__ = ["Composer"]
