"""GPU facts from a made-up NVML binding that counts initialisations."""

import sys
from types import SimpleNamespace

import pytest

from autotrain.hardware.gpu import GpuFacts, GpuState, gpu_facts, gpu_state


class NVMLError(Exception):
    pass


class FakeNvml:
    """Two GPUs; functions named in ``missing`` are not supported by the device."""

    NVMLError = NVMLError

    def __init__(self, missing=(), broken=False):
        self.missing, self.broken, self.open, self.calls = missing, broken, 0, 0

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in self.missing:

            def refuse(*args):
                raise NVMLError(name)

            return refuse
        return super().__getattribute__(name)

    def nvmlInit(self):
        if self.broken:
            raise NVMLError("driver not loaded")
        self.open += 1
        self.calls += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):
        return b"550.54"

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        if index not in (0, 1):
            raise NVMLError("no such device")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return self.nvmlDeviceGetHandleByIndex(["GPU-a", "GPU-b"].index(uuid) if uuid in ("GPU-a", "GPU-b") else 9)

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA H100"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=80 << 30, used=handle + 1)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle):
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle):
        return 16

    def nvmlDeviceGetUUID(self, handle):
        return "GPU-" + "ab"[handle]

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetClockInfo(self, handle, kind):
        assert kind == 1
        return 1980

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0
        return 55

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0x1 | 0x4 | 0x40


@pytest.fixture
def nvml(monkeypatch):
    def install(**options):
        fake = FakeNvml(**options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


def test_facts_of_every_gpu(nvml):
    fake = nvml()
    first, second = gpu_facts()
    assert first == GpuFacts(
        index=0,
        name="NVIDIA H100",
        memory_bytes=80 << 30,
        driver="550.54",
        pcie_generation=5,
        pcie_width=16,
        uuid="GPU-a",
    )
    assert (second.index, second.uuid) == (1, "GPU-b")
    assert (fake.open, fake.calls) == (0, 1)


@pytest.mark.parametrize("which", [1, "GPU-b", "b"])
def test_state_by_index_or_uuid(nvml, which):
    fake = nvml()
    assert gpu_state(which) == GpuState(
        utilisation_percent=37,
        memory_used_bytes=2,
        sm_clock_mhz=1980,
        temperature_c=55,
        throttle_reasons=("software power cap", "hardware thermal slowdown"),
    )
    assert fake.open == 0


@pytest.mark.parametrize("which", [7, "GPU-z"])
def test_no_state_of_an_unknown_gpu(nvml, which):
    fake = nvml()
    assert gpu_state(which) is None
    assert fake.open == 0


def test_what_a_device_does_not_tell_is_none(nvml):
    nvml(
        missing=(
            "nvmlDeviceGetMemoryInfo",
            "nvmlDeviceGetMaxPcieLinkWidth",
            "nvmlDeviceGetUtilizationRates",
            "nvmlDeviceGetCurrentClocksEventReasons",
        )
    )
    assert (gpu_facts()[0].memory_bytes, gpu_facts()[0].pcie_width) == (None, None)
    state = gpu_state(0)
    assert (state.utilisation_percent, state.memory_used_bytes, state.throttle_reasons) == (None, None, ())


def test_no_driver_is_no_gpu(nvml):
    fake = nvml(broken=True)
    assert gpu_facts() == ()
    assert gpu_state(0) is None
    assert fake.open == 0


def test_no_binding_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_facts() == ()


def test_the_library_is_closed_when_a_reading_fails(nvml, monkeypatch):
    fake = nvml()
    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetName", lambda self, handle: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gpu_facts()
    assert fake.open == 0


def test_this_machine():
    for gpu in gpu_facts():
        assert gpu_state(gpu.uuid) is not None
