"""The facts that checks look at, each gathered when it is first asked for."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from autotrain.doctor.check import NotDone
from autotrain.doctor.decoding import DecodeTimes, PillowFacts, decode_times, pillow_facts, simplejpeg_missing
from autotrain.doctor.folders import DataFacts, FolderFacts, data_facts, temporary_folder
from autotrain.doctor.gpu_load import GpuLoad, gpu_loads
from autotrain.doctor.installed import Installed, installed, namesakes
from autotrain.doctor.interpreter import Interpreter, interpreter
from autotrain.doctor.own_gpus import VARIABLE, own_gpus
from autotrain.doctor.torch_facts import TorchFacts, torch_facts
from autotrain.hardware.cpu import CpuFacts, cpu_facts
from autotrain.hardware.gpu_health import GpuHealth, gpu_health, nvidia_devices
from autotrain.hardware.limits import FileLimit, file_limit
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.hardware.memory import MemoryFacts, memory_facts
from autotrain.hardware.paging import Paging, paging
from autotrain.hardware.pressure import Pressure, pressure
from autotrain.hardware.programs import OtherPrograms, other_programs
from autotrain.hardware.throttling import Clock, Throttling, clock, throttling

WATCHED_S, WATCHED_QUICK_S = 1.0, 0.3
"""How long other programs are watched. The kernel may count in ticks of 0.01 s."""


class Facts:
    """The facts of an environment; what cannot be had raises ``NotDone`` with the reason, again at each use.

    Args:
        data: folder with the training's files; None without.
        quick: no torch, and little reading: about a second in all.
        environ: environment variables, those of this process where None.
        root: where ``proc``, ``sys`` and ``dev`` lie.
        known: facts by name that are not gathered but taken as given.
    """

    def __init__(
        self,
        *,
        data: Path | None = None,
        quick: bool = False,
        environ: Mapping[str, str] | None = None,
        root: Path = Path("/"),
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self.data_folder = data
        self.quick = quick
        self.environ = dict(os.environ if environ is None else environ)
        self.root = root
        self.__dict__.update(known or {})

    @cached_property
    def cpu(self) -> CpuFacts:
        """The CPU, and what this process may use of it."""
        return cpu_facts(self.root)

    @cached_property
    def machine(self) -> Machine:
        """The record that sessions and plans carry."""
        return machine_facts()

    @cached_property
    def memory(self) -> MemoryFacts:
        """Memory and its limits."""
        return memory_facts(self.root)

    @cached_property
    def paging(self) -> Paging:
        """Swap space and huge pages."""
        return paging(self.root)

    @cached_property
    def pressure(self) -> Pressure:
        """Waiting for CPU, memory and storage."""
        return pressure(self.root)

    @cached_property
    def throttling(self) -> Throttling | None:
        """How often the control group's quota ran out."""
        return throttling(self.root)

    @cached_property
    def clock(self) -> Clock | None:
        """The CPU's clock."""
        return clock(self.root)

    @cached_property
    def file_limit(self) -> FileLimit | None:
        """Open files."""
        return file_limit(self.root)

    @cached_property
    def others(self) -> OtherPrograms:
        """What other programs do now."""
        return other_programs(WATCHED_QUICK_S if self.quick else WATCHED_S)

    @cached_property
    def interpreter(self) -> Interpreter:
        """How Python was built and started."""
        return interpreter()

    @cached_property
    def installed(self) -> Installed:
        """The distributions in this environment."""
        return installed()

    @cached_property
    def namesakes(self) -> tuple[str, ...]:
        """Other distributions that bring a module of autotrain's name."""
        return namesakes()

    @cached_property
    def pillow(self) -> PillowFacts:
        """The Pillow that decodes images here."""
        return pillow_facts()

    @cached_property
    def simplejpeg_missing(self) -> str | None:
        """Why simplejpeg cannot be used; None where it can."""
        return simplejpeg_missing()

    @cached_property
    def decode_times(self) -> DecodeTimes:
        """How long an image takes to decode, measured."""
        return decode_times(repeats=3 if self.quick else 12)

    @cached_property
    def torch(self) -> TorchFacts:
        """What torch believes and does here."""
        if importlib.util.find_spec("torch") is None:
            raise NotDone("torch is not installed")
        if self.quick:
            raise NotDone("--quick does not import torch")
        usable = self.cpu.usable  # before the import: OpenMP may bind this thread to one core
        _ = self.visible_gpus  # and before torch itself uses them
        return torch_facts(usable)

    @cached_property
    def gpus(self) -> tuple[GpuHealth, ...]:
        """The state of the GPUs that this process may use; at least one."""
        if not self.visible_gpus:
            raise NotDone("no NVIDIA driver here" if not self.nvidia_devices else "the NVIDIA driver does not answer")
        if not self.own_gpus:
            raise NotDone(f"{VARIABLE}='{self.environ.get(VARIABLE)}' leaves no whole GPU to this process")
        return self.own_gpus

    @cached_property
    def own_gpus(self) -> tuple[GpuHealth, ...]:
        """The state of the GPUs that this process may use: those of others on a shared machine are none of its own."""
        if not self.visible_gpus:
            return ()
        try:
            devices = self.torch.devices
        except NotDone:
            devices = ()
        return own_gpus(self.visible_gpus, devices, self.environ.get(VARIABLE))

    @cached_property
    def visible_gpus(self) -> tuple[GpuHealth, ...]:
        """The state of the GPUs that the driver shows; none without a driver."""
        return gpu_health(self.root)

    @cached_property
    def gpu_loads(self) -> tuple[GpuLoad, ...]:
        """The GPUs at work, those that torch can use; none with ``quick``, or where torch cannot be imported."""
        try:
            found = self.torch
        except NotDone:  # what NVML tells is worth looking at without
            return ()
        return gpu_loads(found.devices) if found.cuda_works else ()

    @cached_property
    def nvidia_devices(self) -> int:
        """NVIDIA GPUs on the bus, with or without a driver."""
        return nvidia_devices(self.root)

    @cached_property
    def temporary(self) -> FolderFacts:
        """The folder for temporary files."""
        return temporary_folder(self.root)

    @cached_property
    def data(self) -> DataFacts:
        """The training's files, and how fast they come from storage."""
        if self.data_folder is None:
            raise NotDone("no folder to look at: give --data DIR")
        return data_facts(self.data_folder, readers=min(8, self.cpu.usable), quick=self.quick, root=self.root)
