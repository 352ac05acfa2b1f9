"""The lease: a model is lent to a burst and comes back bit for bit, strides, gradients and modes included."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.knobs.optimizer_kernel import FLAGS, place_counters

_INTERNAL = frozenset(vars(nn.Module()))
"""What torch itself keeps in a module: parameters, buffers, submodules, hooks and the mode."""

_LEASED = frozenset(("state", "param_groups"))
"""What a lease of an optimizer treats apart from its other attributes."""

_MARKS = ("_step_supports_amp_scaling", "_need_device_dtype_check_for_fused")
"""What torch's fused optimizers note about themselves beside the flag."""

_Attributes = dict[str, tuple[Any, Any]]
"""By name: the value, and a copy of what a list, dict or set holds (None for other values)."""

_Snapshot = tuple[Any, list[dict[str, Any]], _Attributes]
"""Of an optimizer: state, options of each group, other attributes."""


class ModelLease:
    """Gives a model tensors of its own while it is lent; the user's tensors are set aside, never written.

    ``lend`` and ``take_back`` may alternate: several leases of one model can live at the same time, one lent at a time.

    Args:
        model: the user's model.
        device: where the lent tensors live.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self._parameters = {id(entry): entry for entry in model.parameters()}
        self._own = {key: _copied(entry.data, device) for key, entry in self._parameters.items()}
        self._own_gradients: dict[int, torch.Tensor | None] = dict.fromkeys(self._parameters)
        copies: dict[int, torch.Tensor] = {}
        self._own_buffers: dict[tuple[int, str], torch.Tensor | None] = {
            (id(module), name): copies.setdefault(id(entry), _copied(entry, device))
            for module in model.modules()
            for name, entry in module._buffers.items()
            if entry is not None
        }
        self._modes = {id(module): module.training for module in model.modules()}
        self._own_modes: dict[int, bool] | None = None
        self._theirs: dict[int, tuple[torch.Tensor, torch.Tensor | None]] | None = None
        self._their_buffers: dict[tuple[int, str], torch.Tensor | None] = {}
        self._their_attributes: dict[int, _Attributes] = {}
        self._own_attributes: dict[int, _Attributes] = {}

    @property
    def lent(self) -> bool:
        """Whether the model holds the lease's tensors now."""
        return self._theirs is not None

    def lend(self) -> None:
        """Put the lease's tensors into the model, in training mode at the first time."""
        assert not self.lent
        theirs = {}
        for key, entry in self._parameters.items():
            theirs[key] = (entry.data, entry.grad)
            entry.grad = None
            entry.data = self._own[key]
            entry.grad = self._own_gradients[key]
        self._theirs = theirs
        for module in self.model.modules():
            self._their_attributes[id(module)] = _attributes(module)
            if id(module) in self._own_attributes:
                _set_attributes(module, self._own_attributes[id(module)])
            for name in module._buffers:
                self._their_buffers[id(module), name] = module._buffers[name]
                if (id(module), name) in self._own_buffers:
                    module._buffers[name] = self._own_buffers[id(module), name]
            self._modes[id(module)] = module.training
            if self._own_modes is not None and module.training != self._own_modes[id(module)]:
                module.training = self._own_modes[id(module)]
        if self._own_modes is None:
            self.model.train()  # through the user's own train(), which may keep some layers in evaluation mode

    def end(self) -> None:
        """Take the model back if it is lent."""
        if self.lent:
            self.take_back()

    def take_back(self) -> None:
        """Put the user's tensors back as they were; the lease keeps what was trained, for the next time."""
        assert self._theirs is not None
        for key, entry in self._parameters.items():
            self._own[key], self._own_gradients[key] = entry.data, entry.grad
            data, gradient = self._theirs[key]
            entry.grad = None
            entry.data = data
            entry.grad = gradient
        self._own_modes = {id(module): module.training for module in self.model.modules()}
        for module in self.model.modules():
            if module.training != self._modes[id(module)]:  # torch's setattr costs more than all else here
                module.training = self._modes[id(module)]
            for name, buffer in list(module._buffers.items()):
                if (id(module), name) not in self._their_buffers:
                    del module._buffers[name]
                    continue
                self._own_buffers[id(module), name] = buffer
                module._buffers[name] = self._their_buffers[id(module), name]
            self._own_attributes[id(module)] = _attributes(module)
            _set_attributes(module, self._their_attributes[id(module)])
        self._theirs = None
        self._their_buffers, self._their_attributes = {}, {}


class OptimizerLease:
    """Gives an optimizer that the user made a state and options of its own while it is lent.

    Args:
        optimizer: the user's optimizer.
        device: where the lent state lives.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        theirs = self._snapshot(copied=False)
        self._own = self._snapshot(copied=True)
        self._put(self._own)
        move_state(optimizer, device)
        self._put(theirs)
        self._theirs: _Snapshot | None = None

    def lend(self) -> None:
        """Put the lease's state into the optimizer."""
        self._theirs = self._snapshot(copied=False)
        self._put(self._own)

    def take_back(self) -> None:
        """Put the user's state back."""
        assert self._theirs is not None
        self._own = self._snapshot(copied=False)
        self._put(self._theirs)
        self._theirs = None

    def _snapshot(self, *, copied: bool) -> _Snapshot:
        state: Any = self.optimizer.state
        if copied:
            state = defaultdict(dict, {key: copy.deepcopy(entry) for key, entry in state.items()})
        options = [
            {name: (copy.deepcopy(value) if copied else value) for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        return state, options, _attributes(self.optimizer, _LEASED)

    def _put(self, snapshot: _Snapshot) -> None:
        state, options, attributes = snapshot
        _set_attributes(self.optimizer, attributes, _LEASED)
        self.optimizer.state = state
        for group, values in zip(self.optimizer.param_groups, options, strict=True):
            for name in set(group) - set(values) - {"params"}:
                del group[name]
            group.update(values)


def move_state(optimizer: Optimizer, device: torch.device) -> None:
    """Move an optimizer's state to the device that its parameters are trained on.

    Step counts stay in host memory unless the optimizer reads them on the device, as in ``Optimizer.load_state_dict``.
    """
    for group in optimizer.param_groups:
        counts_too = bool(group.get("capturable") or group.get("fused"))
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor) and (value.ndim or counts_too):
                    optimizer.state[parameter][name] = value.to(device)


def restore_strides(model: nn.Module) -> Callable[[], None]:
    """Return a function that lays the model's tensors out as they are now, keeping the values they have then."""
    strides = {id(entry): entry.stride() for entry in (*model.parameters(), *model.buffers())}

    def restore() -> None:
        for entry in (*model.parameters(), *model.buffers()):
            before = strides.get(id(entry), entry.stride())
            if entry.stride() != before:
                laid_out = torch.empty_strided(entry.shape, before, dtype=entry.dtype, device=entry.device)
                entry.data = laid_out.copy_(entry.data)

    return restore


def restore_kernel(optimizer: Optimizer) -> Callable[[], None]:
    """Return a function that sets the optimizer's kernel to what it is now, its step counters where that wants them.

    The state then goes on, and loads, as if the kernel had never been another.
    """
    flags = [{flag: group[flag] for flag in FLAGS if flag in group} for group in optimizer.param_groups]
    marks = {name: vars(optimizer)[name] for name in _MARKS if name in vars(optimizer)}

    def restore() -> None:
        if all(before.items() <= group.items() for group, before in zip(optimizer.param_groups, flags, strict=True)):
            return
        for group, before in zip(optimizer.param_groups, flags, strict=True):
            group.update(before)
        for name in _MARKS:
            vars(optimizer).pop(name, None)
        vars(optimizer).update(marks)
        place_counters(optimizer)

    return restore


def lay_out_state(optimizer: Optimizer) -> None:
    """Lay the optimizer's state out as its parameters are, which fused optimizers need."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
                continue
            laid_out = torch.empty_strided(value.shape, parameter.stride(), dtype=value.dtype, device=value.device)
            if value.stride() != laid_out.stride():
                state[name] = laid_out.copy_(value)


def _copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.detach().to(device=device, copy=True)


def _attributes(owner: object, apart: frozenset[str] = _INTERNAL) -> _Attributes:
    return {
        name: (value, value.copy() if type(value) in (list, dict, set) else None)
        for name, value in vars(owner).items()
        if name not in apart
    }


def _set_attributes(owner: object, attributes: _Attributes, apart: frozenset[str] = _INTERNAL) -> None:
    present = vars(owner)
    for name in present.keys() - attributes.keys() - apart:
        del present[name]
    for name, (value, held) in attributes.items():
        present[name] = value
        if held is None:
            continue
        if isinstance(value, list):
            value[:] = held
        else:
            value.clear()
            value.update(held)
