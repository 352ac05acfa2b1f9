"""The state of a training as plain values and tensors, from which it goes on as if it had never stopped."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from autotrain.augment.draws import sample_seeds
from autotrain.engine.lease import lay_out_state
from autotrain.engine.restore import seed_everything
from autotrain.engine.rig import Rig
from autotrain.engine.sharded import in_parts, whole
from autotrain.errors import CheckpointError, first_line
from autotrain.knobs.optimizer_kernel import FLAGS


def live_state(rig: Rig) -> dict[str, Any]:
    """Return model, optimizer, loss scaler and random states of an active rig; the tensors are its own, not copies.

    A model that lies in parts on several ranks is made whole on the first one, which all have to ask for.
    """
    step, keep = rig.step, rig.workload.team.leads
    model, optimizer = step.model.state_dict(), step.optimizer.state_dict()
    return {
        "model": whole(model, keep=keep) if rig.sharded else model,
        "buffers": _lasting_buffers(step.model),
        "optimizer": whole(optimizer, keep=keep) if rig.sharded else optimizer,
        "scaler": None if step.scaler is None else step.scaler.state_dict(),
        "random": _random_states(rig.device),
    }


def first_not_finite(model: torch.nn.Module, state: dict[str, Any]) -> str | None:
    """Return the name of the first parameter in a state that holds NaN or infinity, None where all are finite."""
    names = [name for name, _ in model.named_parameters() if isinstance(state.get(name), torch.Tensor)]
    if not names:
        return None
    finite = torch.stack([torch.isfinite(state[name]).all() for name in names]).tolist()
    return next((name for name, fine in zip(names, finite, strict=True) if not fine), None)


def bring_back(rig: Rig, contents: dict[str, Any], *, where: str) -> None:
    """Put a saved state into an active rig, whose tensors keep their places and strides.

    Raises:
        CheckpointError: it does not fit the model or the optimizer.
    """
    step = rig.step
    model, optimizer = contents["model"], contents["optimizer"]
    try:
        if rig.sharded:
            live = step.model.state_dict()
            model = {name: in_parts(value, live.get(name, value)) for name, value in model.items()}
            optimizer = _optimizer_in_parts(optimizer, step.optimizer)
        step.model.load_state_dict(model)
        own = _lasting_buffers(step.model)
        for name, value in contents["buffers"].items():
            if name in own:  # else the model makes it at its first pass
                own[name].copy_(value)
        step.optimizer.load_state_dict(_with_kernels_of(step.optimizer, optimizer))
    except (RuntimeError, ValueError, LookupError) as problem:
        raise _misfit(where, problem) from problem
    if not rig.sharded:
        lay_out_state(step.optimizer)
    if step.scaler is not None and contents["scaler"] is not None:
        step.scaler.load_state_dict(contents["scaler"])
    _set_random_states(contents["random"], rig.device)


def bring_back_average(average: torch.nn.Module, saved: dict[str, Any] | None, *, where: str) -> None:
    """Put a saved moving average of the weights back; where none was kept so far, it begins here.

    Raises:
        CheckpointError: it does not fit the model.
    """
    if saved is None:
        return
    try:
        average.load_state_dict(saved)
    except RuntimeError as problem:
        raise _misfit(where, problem) from problem


def bring_back_random(rig: Rig, contents: dict[str, Any], *, rank: int, ranks: int) -> None:
    """Set the random states of a rank other than the first: its own, or where there were other ranks, fresh ones."""
    others = contents.get("others", [])
    if len(others) == ranks - 1:
        _set_random_states(others[rank - 1], rig.device)
        return
    step = np.asarray([contents["step"]], dtype=np.int64)
    seed_everything(int(sample_seeds(rig.workload.rank_seed, rank, step)[0]), rig.device)


def _with_kernels_of(live: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Return a saved state with the kernels of the live optimizer, which the plan has chosen: they are no state."""
    groups = [
        {**kept, **{name: own[name] for name in FLAGS if name in own and name in kept}}
        for kept, own in zip(saved["param_groups"], live.param_groups, strict=True)
    ]
    return {**saved, "param_groups": groups}


def _optimizer_in_parts(saved: dict[str, Any], live: Optimizer) -> dict[str, Any]:
    """Return an optimizer's saved state with this rank's parts of what is as large as a weight."""
    weights = [entry for group in live.param_groups for entry in group["params"]]
    state = {
        place: {name: in_parts(value, weights[place]) for name, value in own.items()}
        for place, own in saved["state"].items()
    }
    return {**saved, "state": state}


def _misfit(where: str, problem: Exception) -> CheckpointError:
    return CheckpointError(
        f"{where}: does not fit this model or optimizer: {first_line(problem)}. "
        "Train what it was made with, or resume='never'"
    )


def _lasting_buffers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that a state_dict leaves out."""
    kept = set(model.state_dict())
    return {name: entry for name, entry in model.named_buffers() if name not in kept}


def _random_states(device: torch.device) -> dict[str, Any]:
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, list(words), gauss],
        "numpy": {
            "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
            "pos": int(legacy["state"]["pos"]),
            "has_gauss": int(legacy["has_gauss"]),
            "gauss": float(legacy["gauss"]),
        },
    }


def _set_random_states(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    key = states["numpy"]["key"].numpy().astype(np.uint32)
    numbers = states["numpy"]
    np.random.set_state(("MT19937", key, numbers["pos"], numbers["has_gauss"], numbers["gauss"]))
