"""Lightning: a module with Trainer and DataLoader arguments; live, a callback and a DataModule under the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotrain.integrations.draft import TF32, Draft, ddp_arguments, torch_loader
from autotrain.integrations.target import Target, python_dict
from autotrain.plan.plan import Plan

if TYPE_CHECKING:
    from autotrain.integrations.lightning_live import PlanCallback, TunedDataModule

PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_CHANNELS_LAST = '''
class ChannelsLast(Callback):
    """Lays the weights out channels-last; the first convolution brings the images into that layout."""

    def setup(self, trainer, pl_module, stage):
        pl_module.to(memory_format=torch.channels_last)

'''

_STRATEGY = '''
def strategy():
    """Return what sends the gradients."""
    return DDPStrategy({arguments})

'''

_COMPILED = '''
def compiled(model):
    """Return the model for ``Trainer.fit``, compiled."""
    return torch.compile(model, mode="{mode}")

'''

_TRAINER = '''
def trainer_arguments():
    """Return keyword arguments of ``lightning.pytorch.Trainer``."""
    return {{**TRAINER{more}}}
'''


class Lightning(Target):
    """A Python module to be imported by the script that makes the Trainer."""

    name, title = "lightning", "Lightning"
    form = (
        "Trainer(**trainer_arguments()), DataLoader(dataset, shuffle=True, **LOADER), and **OPTIMIZER for the torch "
        "optimizer in configure_optimizers. To keep autotrain's own input path too: "
        "autotrain.integrations.lightning.TunedDataModule."
    )

    def draft(self, plan: Plan) -> Draft:
        """Return Trainer, DataLoader and optimizer arguments."""
        draft = Draft(plan)
        draft.put("trainer", **_where(draft))
        _compute(draft)
        _ranks(draft)
        torch_loader(draft)
        if draft.images_per_pass is not None:
            draft.put("loader", batch_size=draft.images_per_pass, drop_last=True)
        return draft

    def body(self, draft: Draft) -> str:
        """Return the module."""
        code, settings = draft.section("code"), draft.settings
        callback, ranks = "channels_last" in code, "ddp" in draft.sections
        imports = ["import torch"] if callback or code or ranks else []
        imports += ["from lightning.pytorch.callbacks import Callback"] if callback else []
        imports += ["from lightning.pytorch.strategies import DDPStrategy"] if ranks else []
        if "bf16_gradients" in code:
            imports.append("from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook")
        parts = ["\n".join(imports) + "\n\n" if imports else ""]
        parts += [f"{line}\n" for line in code.get("lines", ())]
        parts += ["\n"] if code.get("lines") else []
        names = ("trainer", "loader", "optimizer", *(("ddp",) if ranks else ()))
        parts += [python_dict(name.upper(), dict(draft.section(name))) for name in names]
        if callback:
            parts += ["\n", _CHANNELS_LAST]
        if ranks:
            hook = ", ddp_comm_hook=bf16_compress_hook" if "bf16_gradients" in code else ""
            parts += ["\n", _STRATEGY.format(arguments=f"**DDP{hook}")]
        if "compile" in code:
            parts += ["\n", _COMPILED.format(mode=settings.compile)]
        more = (', "callbacks": [ChannelsLast()]' if callback else "") + (', "strategy": strategy()' if ranks else "")
        text = "".join([*parts, "\n", _TRAINER.format(more=more)])
        while "\n\n\n\n" in text:
            text = text.replace("\n\n\n\n", "\n\n\n")
        return text


def _where(draft: Draft) -> dict[str, Any]:
    """Return where the plan was made to run, so far as it says."""
    made, where = draft.made, {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}
    found: dict[str, Any] = {}
    if made.device in where:
        found["accelerator"] = where[made.device]
    if made.processes:
        found["devices"] = made.processes_per_machine or made.processes
        found["num_nodes"] = max(1, made.processes // found["devices"])
    return found


def _compute(draft: Draft) -> None:
    settings = draft.settings
    draft.keep("precision", "trainer", precision=PRECISIONS[settings.precision])
    lines = list(TF32) if settings.precision == "tf32" else []
    if settings.memory_format == "channels_last":
        draft.keep("memory_format", "code", channels_last=True)
    if settings.compile != "none":
        draft.keep("compile", "code", compile=settings.compile)
    if settings.optimizer_kernel != "own":
        draft.keep("optimizer_kernel", "optimizer", **{settings.optimizer_kernel: True})
    draft.keep("cudnn_benchmark", "trainer", benchmark=settings.cudnn_benchmark)
    draft.keep("micro_batches", "trainer", accumulate_grad_batches=settings.micro_batches)
    if settings.threads:
        line = f"torch.set_num_threads({settings.threads})"
        lines.append(line)
        draft.keep("threads", "code", threads=settings.threads)
    if lines:
        draft.put("code", lines=tuple(lines))


def _ranks(draft: Draft) -> None:
    settings = draft.settings
    if settings.sharding == "full":
        draft.keep("sharding", "trainer", strategy="fsdp")
        for name in ("bucket_mib", "gradient_views", "static_graph", "gradient_precision"):
            draft.lose(name, "an argument of DDP; the model is sharded")
        return
    for name, (argument, value) in ddp_arguments(settings).items():
        draft.keep(name, "ddp", **{argument: value})
    if settings.gradient_precision == "bf16":
        draft.keep("gradient_precision", "code", bf16_gradients=True)
        draft.put("ddp")


def trainer_arguments(plan: Plan) -> dict[str, Any]:
    """Return keyword arguments of ``lightning.pytorch.Trainer`` that run a training under a plan.

    Beside the Trainer's own arguments there is a callback, which sets what the Trainer has no argument for (memory
    format, optimizer kernel, TF32, threads) and puts flags and threads back at the end. ``compile`` is left to
    ``torch.compile``. Where the plan divides batches, loaders must give that much smaller ones.
    """
    from autotrain.integrations.lightning_live import live_arguments

    draft = Lightning().draft(plan)
    hook = "bf16_gradients" in draft.section("code")
    return live_arguments(plan, dict(draft.section("trainer")), dict(draft.section("ddp")), compressed=hook)


def __getattr__(name: str) -> Any:
    """Import what needs Lightning itself at its first use."""
    if name in ("PlanCallback", "TunedDataModule"):
        from autotrain.integrations import lightning_live

        return getattr(lightning_live, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


__all__ = ["Lightning", "PlanCallback", "TunedDataModule", "trainer_arguments"]
