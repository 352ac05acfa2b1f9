"""Ray Train: what each worker is given, and what its training function does; live, Ray's own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotrain.integrations.draft import TF32, Draft, ddp_arguments, torch_loader
from autotrain.integrations.target import Target, python_dict
from autotrain.plan.plan import Plan

if TYPE_CHECKING:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig

AUTOCAST = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}

_FUNCTIONS = '''

def begin():
    """Set what a worker's process needs; call it first in the training function."""
{begin}

def prepared(model):
    """Return the model as ``ray.train.torch.prepare_model`` makes it, laid out and compiled as the plan says."""
{prepared}

def autocast():
    """Return the context for forward pass and loss."""
    return {autocast}


def scaling_config():
    """Return how many workers there are and what each is given."""
    return ScalingConfig(**SCALING)
'''


class Ray(Target):
    """A Python module to be imported by the script that makes the TorchTrainer."""

    name, title = "ray", "Ray Train"
    form = (
        "TorchTrainer(train, scaling_config=scaling_config()); in train(): begin(), prepared(model), "
        "DataLoader(dataset, shuffle=True, **LOADER) in ray.train.torch.prepare_data_loader, **OPTIMIZER for the torch "
        "optimizer, and autocast() around forward pass and loss."
    )

    def draft(self, plan: Plan) -> Draft:
        """Return resources, DataLoader and optimizer arguments, and what the functions do."""
        draft = Draft(plan)
        settings = draft.settings
        gpu = draft.made.device == "cuda"
        draft.put("scaling", num_workers=max(1, draft.made.processes), use_gpu=gpu, resources_per_worker=_share(draft))
        if settings.precision == "fp16":
            draft.by_hand("precision", "torch.amp.GradScaler around backward and step, beside autocast()")
        else:
            draft.keep("precision", "functions", autocast=AUTOCAST.get(settings.precision, settings.precision))
        for name in ("memory_format", "compile", "cudnn_benchmark", "threads"):
            if draft.changed(name):
                draft.keep(name, "functions", **{name: getattr(settings, name)})
        if settings.optimizer_kernel != "own":
            draft.keep("optimizer_kernel", "optimizer", **{settings.optimizer_kernel: True})
        parts = settings.micro_batches
        draft.by_hand("micro_batches", f"in the loop: {parts} batches, losses / {parts}, for one optimizer step")
        if draft.images_per_pass is not None:
            draft.put("loader", batch_size=draft.images_per_pass, drop_last=True)
        torch_loader(draft)
        for name, (argument, value) in ddp_arguments(settings).items():
            draft.keep(name, "ddp", **{argument: value})
        draft.by_hand("gradient_precision", "model.register_comm_hook(None, bf16_compress_hook) after prepared(model)")
        draft.by_hand("sharding", "prepare_model(model, parallel_strategy='fsdp')")
        return draft

    def body(self, draft: Draft) -> str:
        """Return the module."""
        settings = draft.settings
        names = ("scaling", "loader", "optimizer", *(("ddp",) if "ddp" in draft.sections else ()))
        dictionaries = [python_dict(name.upper(), dict(draft.section(name))) for name in names]
        autocast, kind = "nullcontext()", draft.made.device or "cuda"
        if settings.precision in AUTOCAST:
            autocast = f'torch.autocast("{kind}", dtype={AUTOCAST[settings.precision]})'
        imports = ["from contextlib import nullcontext", ""] if settings.precision not in AUTOCAST else []
        imports += ["import torch", "from ray.train import ScalingConfig", "from ray.train.torch import prepare_model"]
        functions = _FUNCTIONS.format(begin=_begin(draft), prepared=_prepared(draft), autocast=autocast)
        return "\n".join(imports) + "\n\n" + "".join(dictionaries) + functions


def _share(draft: Draft) -> dict[str, int]:
    """Return what a worker is given: of the cores one and one per loader process, on a CPU its share of all."""
    made = draft.made
    wanted = 1 + draft.settings.workers
    share = max(1, made.usable_cpus // max(1, made.processes_per_machine)) if made.usable_cpus else wanted
    if made.device == "cuda":
        return {"CPU": min(wanted, share), "GPU": 1}
    return {"CPU": share}


def _begin(draft: Draft) -> str:
    settings = draft.settings
    lines = list(TF32) if settings.precision == "tf32" else []
    lines += ["torch.backends.cudnn.benchmark = True"] if settings.cudnn_benchmark else []
    # Ray sets a worker's thread count by its CPUs, loader workers included.
    lines += [f"torch.set_num_threads({settings.threads})"] if settings.threads else []
    return "".join(f"    {line}\n" for line in lines)


def _prepared(draft: Draft) -> str:
    settings = draft.settings
    lines = []
    if settings.memory_format == "channels_last":
        lines.append("model = model.to(memory_format=torch.channels_last)")
    more = ", parallel_strategy_kwargs=DDP" if draft.section("ddp") else ""
    lines.append(f"model = prepare_model(model{more})")
    compiled = f'torch.compile(model, mode="{settings.compile}")' if settings.compile != "none" else "model"
    lines.append(f"return {compiled}")
    return "".join(f"    {line}\n" for line in lines)


def scaling_config(plan: Plan) -> ScalingConfig:
    """Return Ray's workers and their resources, as the plan was made for; Ray places them."""
    from ray.train import ScalingConfig

    return ScalingConfig(**Ray().draft(plan).section("scaling"))


def torch_config(plan: Plan) -> TorchConfig:
    """Return how Ray's workers meet: NCCL between GPUs, else Gloo."""
    from ray.train.torch import TorchConfig

    return TorchConfig(backend="nccl" if plan.provenance.device == "cuda" else "gloo")


def loader_arguments(plan: Plan) -> dict[str, Any]:
    """Return keyword arguments of torch's DataLoader that say what they can of a plan's input path."""
    return dict(Ray().draft(plan).section("loader"))


__all__ = ["Ray", "loader_arguments", "scaling_config", "torch_config"]
