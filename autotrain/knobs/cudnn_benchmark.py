"""cuDNN benchmark: the library times its convolution algorithms, instead of guessing from the shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Value
from autotrain.workload import Workload


class CudnnBenchmark(Knob):
    """The first step with each shape takes longer; another algorithm rounds differently."""

    name, effect, side = "cudnn_benchmark", Effect.NUMERICS, Side.COMPUTE
    known = (False, True)
    about = "Whether cuDNN times its convolution algorithms at the first step of each shape."
    meanings = {
        False: "cuDNN guesses an algorithm from the shapes.",
        True: (
            "cuDNN takes the fastest that it has timed; pays where all batches have one shape, and costs at every "
            "new one."
        ),
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it on CUDA, where the flag is not set already."""
        del machine
        reason = None
        if workload.device.type != "cuda":
            reason = "a flag of CUDA's library for convolutions"
        elif not any(isinstance(module, nn.modules.conv._ConvNd) for module in workload.model.modules()):
            reason = "the model has no convolution"
        elif torch.backends.cudnn.benchmark:
            reason = "torch.backends.cudnn.benchmark is on already, for every setting"
        elif torch.backends.cudnn.deterministic:
            reason = "torch.backends.cudnn.deterministic is on"
        if reason is None:
            return Choices(allowed=self.known)
        return Choices(allowed=(False,), left_out=((True, reason),))

    def flags(self, value: Value) -> AbstractContextManager[object]:
        """Turn the flag on; False leaves it as it is."""
        return _benchmark() if value else nullcontext()


@contextmanager
def _benchmark() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
