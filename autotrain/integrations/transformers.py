"""Hugging Face Trainer: TrainingArguments as the JSON that HfArgumentParser reads; live, as keyword arguments."""

from __future__ import annotations

import json
from typing import Any

from autotrain.integrations.draft import Draft, ddp_arguments, input_path
from autotrain.integrations.target import Target
from autotrain.plan.plan import Plan


class Transformers(Target):
    """A JSON file, which has no comments: what is lost is told beside it."""

    name, title = "transformers", "the Hugging Face Trainer"
    form = "HfArgumentParser(TrainingArguments).parse_json_file(THIS_FILE)"
    comments = False

    def draft(self, plan: Plan) -> Draft:
        """Return fields of TrainingArguments."""
        draft = Draft(plan)
        if draft.made.device == "cpu":
            draft.put("arguments", use_cpu=True)
        _compute(draft)
        _loading(draft)
        _ranks(draft)
        return draft

    def body(self, draft: Draft) -> str:
        """Return the JSON; ``output_dir`` is the Trainer's own default."""
        return json.dumps({"output_dir": "trainer_output", **draft.section("arguments")}, indent=2) + "\n"


def _compute(draft: Draft) -> None:
    settings = draft.settings
    precisions = {"bf16": {"bf16": True}, "fp16": {"fp16": True}, "tf32": {"tf32": True}}
    if settings.precision in precisions:
        draft.keep("precision", "arguments", **precisions[settings.precision])
    if settings.compile != "none":
        draft.keep("compile", "arguments", torch_compile=True, torch_compile_mode=settings.compile)
    draft.keep("micro_batches", "arguments", gradient_accumulation_steps=settings.micro_batches)
    if draft.images_per_pass is not None:
        draft.put("arguments", per_device_train_batch_size=draft.images_per_pass)
    draft.by_hand("memory_format", "model = model.to(memory_format=torch.channels_last), before the Trainer is made")
    own = f"Trainer(optimizers=(Optimizer(..., {settings.optimizer_kernel}=True), None))"
    fused = settings.optimizer_kernel == "fused"
    draft.by_hand("optimizer_kernel", f'{own}, or "optim": "adamw_torch_fused" for AdamW' if fused else own)
    draft.by_hand("cudnn_benchmark", "torch.backends.cudnn.benchmark = True")
    draft.by_hand("threads", f"torch.set_num_threads({settings.threads}), or OMP_NUM_THREADS={settings.threads}")


def _loading(draft: Draft) -> None:
    settings = draft.settings
    if settings.loader == "threads" and settings.workers:
        draft.lose("workers", "the Trainer loads in processes only; how many of those pay was not measured")
        draft.lose("loader", "the Trainer loads in processes only")
    else:
        draft.keep("workers", "arguments", dataloader_num_workers=settings.workers)
        if settings.workers:
            draft.put("arguments", dataloader_persistent_workers=True)
            draft.keep("prefetch", "arguments", dataloader_prefetch_factor=settings.prefetch)
    draft.keep("pinning", "arguments", dataloader_pin_memory=settings.pinning)
    draft.put("arguments", dataloader_drop_last=True)
    input_path(draft)


def _ranks(draft: Draft) -> None:
    settings, names = draft.settings, {"bucket_mib": "ddp_bucket_cap_mb", "static_graph": "ddp_static_graph"}
    for name, (_, value) in ddp_arguments(settings).items():
        if name in names:
            draft.keep(name, "arguments", **{names[name]: value})
        else:
            draft.lose(name, "TrainingArguments have no field for it")
    draft.lose("gradient_precision", "TrainingArguments have no field for it")
    draft.by_hand("sharding", '"fsdp": "full_shard", with an fsdp_config that suits the model')


def training_arguments(plan: Plan) -> dict[str, Any]:
    """Return keyword arguments of ``transformers.TrainingArguments`` that say what they can of a plan.

    Model layout, optimizer kernel and flags are not among them: see what ``autotrain export --to transformers`` names.
    """
    return dict(Transformers().draft(plan).section("arguments"))


__all__ = ["Transformers", "training_arguments"]
