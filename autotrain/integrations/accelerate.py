"""Accelerate: its configuration file for ``accelerate launch``; live, keyword arguments of the Accelerator."""

from __future__ import annotations

from typing import Any

from autotrain.integrations.draft import TF32, Draft, ddp_arguments, torch_loader
from autotrain.integrations.target import Target, yaml_text
from autotrain.plan.plan import Plan

PRECISIONS = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


class Accelerate(Target):
    """The file that ``accelerate config`` writes; what it has no field for takes lines in the script."""

    name, title = "accelerate", "Accelerate"
    form = "accelerate launch --config_file THIS_FILE script.py"

    def draft(self, plan: Plan) -> Draft:
        """Return the fields of the configuration; the rest is by hand."""
        draft = Draft(plan)
        made, settings = draft.made, draft.settings
        machines = max(1, made.processes // max(1, made.processes_per_machine)) if made.processes else 1
        kind = "NO" if made.processes <= 1 else "MULTI_CPU" if made.device == "cpu" else "MULTI_GPU"
        draft.put(
            "config",
            compute_environment="LOCAL_MACHINE",
            distributed_type=kind,
            num_processes=max(1, made.processes),
            num_machines=machines,
            use_cpu=made.device == "cpu",
        )
        if settings.precision != "tf32":
            draft.keep("precision", "config", mixed_precision=PRECISIONS[settings.precision])
        if settings.compile != "none":
            dynamo = {"dynamo_backend": "INDUCTOR", "dynamo_mode": settings.compile}
            draft.keep("compile", "config", dynamo_config=dynamo)
        _by_hand(draft)
        _ranks(draft)
        return draft

    def body(self, draft: Draft) -> str:
        """Return the configuration."""
        return yaml_text(dict(draft.section("config")))


def _by_hand(draft: Draft) -> None:
    settings = draft.settings
    if settings.precision == "tf32":
        draft.by_hand("precision", f"the file has no word for it: {'; '.join(TF32)}")
    draft.by_hand("memory_format", "model = model.to(memory_format=torch.channels_last)")
    draft.by_hand("optimizer_kernel", f"the torch optimizer's argument {settings.optimizer_kernel}=True")
    draft.by_hand("cudnn_benchmark", "torch.backends.cudnn.benchmark = True")
    parts = settings.micro_batches
    draft.by_hand(
        "micro_batches",
        f"Accelerator(gradient_accumulation_steps={parts}), accelerator.accumulate(model), and batches of a {parts}th",
    )
    draft.by_hand("threads", f"torch.set_num_threads({settings.threads}), or OMP_NUM_THREADS={settings.threads}")
    script = Draft(draft.plan)
    torch_loader(script)
    for entry in script.entries:  # the loader is made in the script
        if entry.setting in ("workers", "prefetch", "pinning") and entry.fate.value == "kept":
            draft.by_hand(entry.setting, f"DataLoader({entry.words.partition(': ')[2]})")
        elif entry.fate.value != "kept":
            draft.entries.append(entry)


def _ranks(draft: Draft) -> None:
    settings = draft.settings
    if settings.sharding == "full":
        draft.by_hand("sharding", "distributed_type: FSDP with an fsdp_config, which accelerate config asks for")
    for name, (argument, value) in ddp_arguments(settings).items():
        handler = f"DistributedDataParallelKwargs({argument}={value!r})"
        draft.by_hand(name, f"{handler} among Accelerator's kwargs_handlers")
    if settings.gradient_precision == "bf16":
        handler = "DistributedDataParallelKwargs(comm_hook=DDPCommunicationHookType.BF16)"
        draft.by_hand("gradient_precision", f"{handler} among Accelerator's kwargs_handlers")


def accelerator_arguments(plan: Plan) -> dict[str, Any]:
    """Return keyword arguments of ``accelerate.Accelerator`` that say what it can of a plan.

    Model layout, optimizer kernel and flags are not its business: see what ``autotrain export --to accelerate`` names.
    With micro-batches the loader must give that much smaller batches.
    """
    from accelerate import DataLoaderConfiguration
    from accelerate.utils import DDPCommunicationHookType, DistributedDataParallelKwargs, TorchDynamoPlugin

    settings = plan.settings
    found: dict[str, Any] = {
        "mixed_precision": PRECISIONS[settings.precision],
        "gradient_accumulation_steps": settings.micro_batches,
        "cpu": plan.provenance.device == "cpu",
        "dataloader_config": DataLoaderConfiguration(non_blocking=settings.pinning),
    }
    if settings.compile != "none":
        found["dynamo_plugin"] = TorchDynamoPlugin(backend="inductor", mode=settings.compile)
    arguments = dict(ddp_arguments(settings).values())
    if settings.gradient_precision == "bf16":
        arguments["comm_hook"] = DDPCommunicationHookType.BF16
    if arguments:
        found["kwargs_handlers"] = [DistributedDataParallelKwargs(**arguments)]
    return found


__all__ = ["Accelerate", "accelerator_arguments"]
