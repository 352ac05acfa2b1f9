"""Lightning, live: a callback that applies a plan to a module, and a DataModule with autotrain's own input path."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from autotrain.data.batch import HostBatch
from autotrain.data.transfer import DeviceBatch
from autotrain.errors import InstallationError, TaskError
from autotrain.hardware.machine import machine_facts
from autotrain.integrations.loading import Epochs, input_settings, open_workload
from autotrain.knobs.registry import KNOBS
from autotrain.plan.plan import Plan
from autotrain.world import VARIABLES, World

try:
    from lightning.pytorch import Callback, LightningDataModule
    from lightning.pytorch.strategies import DDPStrategy
except ImportError as problem:
    raise InstallationError("Lightning is not installed, which this needs: pip install lightning") from problem


class PlanCallback(Callback):
    """Applies the settings that a Trainer has no argument for: memory format, optimizer kernel, TF32, threads.

    Flags and thread count are put back when the Trainer is done; the weights keep their layout.
    """

    def __init__(self, plan: Plan) -> None:
        self._settings = plan.settings
        self._stack = ExitStack()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Set flags, and lay out the weights before the optimizer is made."""
        del trainer, stage
        for knob in KNOBS:
            value = getattr(self._settings, knob.name)
            self._stack.enter_context(knob.flags(value))
            knob.model(pl_module, value)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Switch the optimizers to the plan's kernel."""
        del pl_module
        for optimizer in trainer.optimizers:
            for knob in KNOBS:
                knob.optimizer(optimizer, getattr(self._settings, knob.name))

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put flags and threads back."""
        del trainer, pl_module, stage
        self._stack.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Put flags and threads back."""
        del trainer, pl_module, exception
        self._stack.close()


def live_arguments(plan: Plan, trainer: dict[str, Any], ddp: dict[str, Any], *, compressed: bool) -> dict[str, Any]:
    """Return the Trainer's arguments with the callback, and the strategy where the plan says how gradients travel."""
    if ddp or compressed:
        if compressed:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            ddp["ddp_comm_hook"] = bf16_compress_hook
        trainer["strategy"] = DDPStrategy(**ddp)
    return {**trainer, "callbacks": [PlanCallback(plan)]}


class TunedDataModule(LightningDataModule):
    """Training batches by autotrain's own input path under a plan: decoder, cache, workers, augmentation, transfer.

    ``training_step`` is given ``(images, labels)`` on the device, augmented and normalised; with ``mixup`` or
    ``cutmix`` the labels are a named tuple of labels, others and share. Order and draws are those of ``autotrain.fit``,
    also where a training goes on from a checkpoint at the end of an epoch.

    Args:
        plan: a plan, or the path of one.
        dataset: as for ``autotrain.fit``.
        validation: a loader that is passed on as it is.
        task_options: fields of the Task, such as ``batch_size=128`` and ``image_size=96``; batches are those of all
            ranks together.
    """

    def __init__(self, plan: Plan | Path | str, dataset: Any, *, validation: Any = None, **task_options: Any) -> None:
        super().__init__()
        self._plan = Plan.load(plan) if isinstance(plan, str | Path) else plan
        self._dataset = dataset
        if validation is not None:  # a method that gives nothing would have the Trainer warn
            self.val_dataloader = lambda: validation
        self._options = task_options
        self._epochs: Epochs | None = None
        self._named: list[str] = []
        """Variables that were set for the training."""

    def train_dataloader(self) -> Epochs:
        """Return the batches, an epoch per iteration.

        Raises:
            AutotrainError: dataset, options and plan do not fit each other, or this machine.
        """
        trainer = self.trainer
        if trainer is None:
            raise TaskError("TunedDataModule: give it to Trainer.fit(module, datamodule=...)")
        self._close()
        machines = max(1, trainer.num_nodes)
        world = World(
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            local_rank=trainer.local_rank,
            local_world_size=max(1, trainer.world_size // machines),
        )
        self._name_ranks(world)
        module, device = trainer.lightning_module, str(trainer.strategy.root_device)
        workload = open_workload(module, self._dataset, self._options, plan=self._plan, device=device, world=world)
        settings = input_settings(self._plan, workload, machine_facts())
        parts = self._plan.settings.micro_batches
        self._epochs = Epochs(workload, settings, parts=parts, epoch=trainer.current_epoch)
        return self._epochs

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy a training batch as autotrain does, on CUDA beside the step before."""
        if isinstance(batch, HostBatch) and self._epochs is not None:
            return self._epochs.move(batch)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Do the device's share of a training batch: augment, scale, normalise."""
        if isinstance(batch, DeviceBatch) and self._epochs is not None:
            return self._epochs.finish(batch)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """End the workers."""
        del stage
        self._close()
        for name in self._named:
            os.environ.pop(name, None)
        self._named = []

    def _name_ranks(self, world: World) -> None:
        """Set what torchrun would have set, of which Lightning's own launcher sets a part only."""
        if not world.is_distributed:
            return
        facts = world.rank, world.world_size, world.local_rank, world.local_world_size
        for name, value in zip(VARIABLES, facts, strict=True):
            if name not in os.environ:
                os.environ[name] = str(value)
                self._named.append(name)

    def _close(self) -> None:
        if self._epochs is not None:
            self._epochs.close()
            self._epochs = None
