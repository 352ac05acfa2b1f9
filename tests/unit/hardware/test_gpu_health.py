"""The state of GPUs from a made-up NVML binding and a made-up /sys."""

import sys
from types import SimpleNamespace

import pytest

from autotrain.hardware.gpu_health import gpu_health, nvidia_devices


class NVMLError(Exception):
    pass


class FakeNvml:
    """One GPU: an x16 device of generation 5 in a slot with 8 lanes of generation 4, throttled and in use."""

    NVMLError = NVMLError
    answers = {
        "nvmlSystemGetDriverVersion": b"580.95.05",
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "NVIDIA H100",
        "nvmlDeviceGetUUID": "GPU-a",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 << 30, used=3 << 30),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37),
        "nvmlDeviceGetCurrentClocksEventReasons": 0x44,
        "nvmlDeviceGetClockInfo": 990,
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetTemperature": 91,
        "nvmlDeviceGetEnforcedPowerLimit": 350_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
        "nvmlDeviceGetPciInfo": SimpleNamespace(busId=b"00000000:3B:00.0"),
        "nvmlDeviceGetMaxPcieLinkGeneration": 4,
        "nvmlDeviceGetGpuMaxPcieLinkGeneration": 5,
        "nvmlDeviceGetCurrPcieLinkWidth": 8,
        "nvmlDeviceGetMaxPcieLinkWidth": 8,
        "nvmlDeviceGetPersistenceMode": 0,
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=811)],
        "nvmlDeviceGetComputeMode": 0,
        "nvmlDeviceGetEccMode": [1, 1],
        "nvmlDeviceGetTotalEccErrors": 2,
        "nvmlDeviceGetRemappedRows": (0, 1, 1, 0),
    }

    def __init__(self, silent=False):
        self.silent = silent

    def nvmlInit(self):
        pass

    def nvmlShutdown(self):
        pass

    def __getattr__(self, name):
        if name not in self.answers or (
            self.silent and name not in ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
        ):

            def refuse(*arguments):
                raise NVMLError(name)

            return refuse
        return lambda *arguments: self.answers[name]


@pytest.fixture
def nvml(monkeypatch):
    def install(**options):
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(**options))

    return install


def test_everything_that_the_driver_tells(nvml, tmp_path):
    nvml()
    device = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "max_link_width").write_text("16\n")
    (found,) = gpu_health(tmp_path)
    assert found.reasons == ("software power cap", "hardware thermal slowdown")
    assert (found.sm_clock_mhz, found.sm_clock_max_mhz, found.temperature_c) == (990, 1980, 91)
    assert (found.application_clock_mhz, found.power_limit_w, found.power_default_w) == (None, 350.0, 700.0)
    assert (found.pcie_generation, found.pcie_generation_device) == (4, 5)
    assert (found.pcie_width, found.pcie_width_device) == (8, 16)
    assert (found.persistence, found.utilisation_percent, found.processes) == (False, 37, (811,))
    assert (found.ecc, found.memory_errors, found.remapping, found.driver) == (True, 2, True, "580.95.05")


def test_without_sysfs_the_slot_is_the_measure(nvml, tmp_path):
    nvml()
    assert gpu_health(tmp_path)[0].pcie_width_device == 8


def test_a_silent_driver_gives_none(nvml, tmp_path):
    nvml(silent=True)
    (found,) = gpu_health(tmp_path)
    told = {name: getattr(found, name) for name in found.__slots__}
    assert told.pop("index") == 0
    assert told.pop("name") == "unknown GPU"
    assert told.pop("driver") == "unknown"
    assert told.pop("uuid") == ""
    assert set(told.values()) == {None, ()}


def test_devices_without_a_driver_are_seen_on_the_bus(tmp_path):
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        folder = tmp_path / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
    assert nvidia_devices(tmp_path) == 1
    assert nvidia_devices(tmp_path / "nothing") == 0
