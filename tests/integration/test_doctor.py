"""Planted problems, each of them real: ``python -m autotrain doctor --json`` has to find every one, and none without.

Each environment is examined once, by a process of its own, and holds several harms that do not touch each other.
"""

import json
import math
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autotrain.doctor.checks import CHECKS
from autotrain.doctor.switches import SWITCHES
from autotrain.doctor.threads import BINDINGS, COUNTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plants its problems by means of Linux")

ROOT = Path(__file__).resolve().parents[2]

LIMITED = """
import os, resource, sys
cores, files = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
os.execv(sys.executable, [sys.executable, "-m", "autotrain", "doctor", "--json", *sys.argv[3:]])
"""
"""Limits cores and open files (0: not), then becomes the doctor."""

SPINNING = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
while True:
    pass
"""

TINY_SHM = 'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"'


@dataclass(frozen=True)
class Examined:
    """What the doctor found in an environment."""

    code: int
    found: dict[str, Any]

    def problems(self, check: str) -> list[dict[str, Any]]:
        """Return the problems of one check."""
        return [problem for problem in self.found["problems"] if problem["check"] == check]


def environment(**more: str) -> dict[str, str]:
    """This process's variables without any that the doctor knows, and some more."""
    known = {*COUNTS, *BINDINGS, *(switch.name for switch in SWITCHES)}
    known |= {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES"}
    known |= {"PYTHONDEVMODE", "PYTHONTRACEMALLOC"}
    kept = {name: value for name, value in os.environ.items() if name not in known}
    path = os.pathsep.join(filter(None, (more.pop("PYTHONPATH", ""), str(ROOT), kept.get("PYTHONPATH", ""))))
    return kept | more | {"PYTHONPATH": path}


def doctor(
    *options: str, environ: dict[str, str], cores: int = 10**6, files: int = 0, within: tuple[str, ...] = ()
) -> Examined:
    """Run the doctor on some cores, with a limit on open files, within another command."""
    command = [*within, sys.executable, "-c", LIMITED, str(cores), str(files), *options]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return Examined(done.returncode, json.loads(done.stdout))


def own_mounts() -> tuple[str, ...]:
    """Return the command that mounts a tiny /dev/shm for what follows; empty where that is not permitted."""
    for options in (["-m"], ["-r", "-m"]):
        prefix = ("unshare", *options, "sh", "-c", TINY_SHM, "sh")
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        ):
            return prefix
    return ()


@pytest.fixture(scope="module")
def starved() -> Examined:
    """One core, eight threads, 64 open files, and 8 MiB of shared memory where it is permitted to mount it."""
    environ = environment(OMP_NUM_THREADS="8")
    return doctor("--quick", environ=environ, cores=1, files=64, within=own_mounts())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """Metadata of the other autotrain and of Pillow and Pillow-SIMD in one folder, and a broken simplejpeg."""
    folder = tmp_path_factory.mktemp("site")
    for name, version in (("autotrain_advanced", "0.8.36"), ("pillow", "13.0.0"), ("Pillow_SIMD", "9.5.0.post2")):
        place = folder / f"{name}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "simplejpeg.py").write_text('raise ImportError("libturbojpeg.so.0: cannot open shared object file")\n')
    return doctor("--quick", environ=environment(PYTHONPATH=str(folder)))


@pytest.fixture(scope="module")
def switched() -> Examined:
    """Switches left on, and a program that takes half of the two cores that are left to the doctor."""
    switches = {"CUDA_LAUNCH_BLOCKING": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONDEVMODE": "1"}
    cores = min(2, len(os.sched_getaffinity(0)))
    programs = [
        subprocess.Popen([sys.executable, "-S", "-c", SPINNING, str(cores)]) for _ in range(math.ceil(cores / 2))
    ]
    try:
        return doctor("--quick", environ=environment(**switches), cores=cores)
    finally:
        for program in programs:
            program.kill()
            program.wait()


@pytest.fixture(scope="module")
def bound() -> Examined:
    """OpenMP that binds threads to cores and lets them spin; torch is imported, so both are measured."""
    return doctor(environ=environment(OMP_PROC_BIND="true", OMP_WAIT_POLICY="ACTIVE"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examined | None]:
    """Images on storage that gives a megabyte per second to the doctor; None where that cannot be had."""
    folder = tmp_path_factory.mktemp("images")
    draws = random.Random(0)
    for number in range(100):
        picture = Image.frombytes("RGB", (128, 128), draws.randbytes(3 * 128 * 128))
        with open(folder / f"{number}.jpg", "wb") as file:
            picture.save(file, "JPEG", quality=95)
            file.flush()
            os.fsync(file.fileno())  # pages that are not written yet stay in the page cache
    group = Path("/sys/fs/cgroup/blkio") / f"doctor-{os.getpid()}"
    number = folder.stat().st_dev
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / "blkio.throttle.read_bps_device").write_text(f"{os.major(number)}:{os.minor(number)} 1000000\n")
        within = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        yield doctor("--quick", "--data", str(folder), environ=environment(), within=within)
    except OSError:
        yield None
    finally:
        group.rmdir()


@pytest.fixture(scope="module")
def untouched(jpeg_folder: Path) -> Examined:
    """Nothing planted, and everything looked at."""
    return doctor("--data", str(jpeg_folder), environ=environment())


PLANTED = [
    ("starved", "cores", "slow", "one usable core", "affinity 1"),
    ("starved", "threads", "slow", "8 threads on 1 usable core", "OMP_NUM_THREADS=8"),
    ("starved", "open-files", "crash", "no more than 64 open files", "RLIMIT_NOFILE 64"),
    ("starved", "shared-memory", "crash", "8.0 MiB free in /dev/shm", "room for 0 of"),
    ("mixed", "name-clash", "crash", "autotrain-advanced 0.8.36", "overwrites"),
    ("mixed", "overwritten", "crash", "pillow and pillow-simd", "9.5.0.post2"),
    ("mixed", "simplejpeg", "slow", "cannot be used", "cannot open shared object file"),
    ("switched", "switches", "slow", "TORCHDYNAMO_DISABLE=1", "environment"),
    ("switched", "switches", None, "CUDA_LAUNCH_BLOCKING=1", "environment"),
    ("switched", "python", "slow", "development mode", "PYTHONDEVMODE"),
    ("switched", "other-programs", "slow", "other programs use", "python"),
    ("bound", "binding", "slow", "bound to the main thread's core", "OMP_PROC_BIND=true"),
    ("bound", "spinning", "slow", "burn their cores", "OMP_WAIT_POLICY=ACTIVE"),
]


@pytest.mark.parametrize(("where", "check", "severity", "what", "evidence"), PLANTED, ids=[case[3] for case in PLANTED])
def test_a_planted_problem_is_found(request, where, check, severity, what, evidence):
    if len(os.sched_getaffinity(0)) < 2 and check in ("cores", "binding", "spinning"):
        pytest.skip("needs a machine with two cores to take one away")
    if check == "shared-memory" and not own_mounts():
        pytest.skip("mounting is not permitted here (unshare)")
    examined = request.getfixturevalue(where)
    matching = [problem for problem in examined.problems(check) if what in problem["what"]]
    assert len(matching) == 1, examined.found
    (problem,) = matching
    assert evidence in problem["evidence"]
    assert severity is None or problem["severity"] == severity
    assert problem["cost"]
    assert problem["remedy"]
    assert examined.code == 3


def test_slow_storage_is_measured(slow):
    if slow is None:
        pytest.skip("may not slow storage down here (cgroup v1, blkio, on the device of temporary files)")
    (problem,) = slow.problems("data-speed")
    rate = int(re.search(r"storage gives ([\d,]+) images/s", problem["what"])[1].replace(",", ""))
    assert 5 < rate < 200  # files of about 30 kB
    assert problem["cost"].startswith("measured: the first epoch loads at most ")


def test_what_was_bound_and_spun_is_measured(bound):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    assert "after the import of torch the main thread may run on 1 core of" in bound.problems("binding")[0]["evidence"]
    assert bound.problems("spinning")[0]["cost"].startswith("measured: ")


MOMENTARY = {
    *("other-programs", "stalls", "clock", "quota", "free-memory", "swap", "data-speed", "gpu-clocks", "gpu-sharing")
}
"""Checks whose outcome depends on what else this machine does at that moment."""


def limits() -> set[str]:
    """Return the checks of limits that this machine really has, as a container's: small ones are no false alarm."""
    cores, shm = len(os.sched_getaffinity(0)), Path("/dev/shm")
    small = {
        "cores": cores == 1,
        "shared-memory": not shm.exists() or shutil.disk_usage(shm).free < 1 << 30,
        "open-files": 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 512,
        "temporary": shutil.disk_usage(tempfile.gettempdir()).free < 2 << 30,
    }
    return {name for name, really in small.items() if really}


def test_nothing_is_found_where_nothing_was_planted(untouched):
    grave = [problem for problem in untouched.found["problems"] if problem["severity"] != "note"]
    assert [problem for problem in grave if problem["check"] not in MOMENTARY | limits()] == []
    assert untouched.code == (3 if grave else 0)
    assert untouched.found["failed"] == []
    told = [entry["check"] for part in ("problems", "passed", "left_out") for entry in untouched.found[part]]
    assert set(told) == {check.name for check in CHECKS}
    reasons = " ".join(entry["reason"] for entry in untouched.found["left_out"])
    assert "import torch" not in reasons
    assert "--data" not in reasons
