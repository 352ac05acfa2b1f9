"""Two hosts, each a network namespace with an address of its own, meet through torchrun's rendezvous."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ranked
import torch

pytestmark = [pytest.mark.usefixtures("one_thread", "own_draws"), pytest.mark.slow]

ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 29477


@dataclass(frozen=True)
class Host:
    """A namespace with one network interface."""

    name: str
    address: str
    interface: str

    def start(self, folder: Path, *, nodes: str, **environment: object) -> subprocess.Popen[str]:
        """Start one rank of the job here."""
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", "--nproc-per-node=1"]
        meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}", "--rdzv-id=test"]
        meeting += [f"--rdzv-conf=is_host={int(self.address == ADDRESSES[0])}"]  # no name leads to these addresses
        inside = ["ip", "netns", "exec", self.name]
        return subprocess.Popen(
            [*inside, *launcher, *meeting, f"--local-addr={self.address}", ranked.__file__, "stopped", str(folder)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": self.interface,
                **{name: str(value) for name, value in environment.items()},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need the command ip and the rights of root")
    tag = uuid.uuid4().hex[:6]
    found = tuple(Host(f"at-{tag}-{n}", address, f"at{tag}{n}") for n, address in enumerate(ADDRESSES))
    try:
        for host in found:
            run("ip", "netns", "add", host.name)
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"network namespaces are not permitted here: {problem.stderr.strip()}")
    try:
        first, second = found
        run("ip", "link", "add", first.interface, "type", "veth", "peer", "name", second.interface)
        for host in found:
            run("ip", "link", "set", host.interface, "netns", host.name)
            run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
            for interface in (host.interface, "lo"):
                run("ip", "-n", host.name, "link", "set", interface, "up")
        yield first, second
    finally:
        for host in found:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def ended(*processes: subprocess.Popen[str], timeout: float = 150.0) -> list[tuple[int, str]]:
    """Wait for processes; return codes and outputs."""
    return [(entry.wait(), said) for entry in processes for said, _ in [entry.communicate(timeout=timeout)]]


def test_a_training_on_two_hosts_loses_one_and_goes_on(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """Having lost each other, and gone on from the last checkpoint, they end where one process would have ended."""
    first, second = hosts
    options = {"SLOW_S": 0.4, "AUTOTRAIN_PATIENCE": 5}
    one, other = first.start(tmp_path, nodes="2", **options), second.start(tmp_path, nodes="2", **options)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "kept").glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    run("ip", "-n", second.name, "link", "set", second.interface, "down")
    ((code, said),) = ended(one)
    assert code != 0, said
    os.killpg(other.pid, signal.SIGKILL)
    other.communicate()
    run("ip", "-n", second.name, "link", "set", second.interface, "up")
    results = ended(first.start(tmp_path, nodes="2"), second.start(tmp_path, nodes="2"))
    assert [code for code, _ in results] == [0, 0], results
    alone = ranked.facts(ranked.train(ranked.network(), duration="6ep"))
    for rank in (0, 1):
        end = torch.load(tmp_path / f"end-{rank}.pt")
        assert end["steps"] == alone["steps"] == 6 * ranked.STEPS
        torch.testing.assert_close(end["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
