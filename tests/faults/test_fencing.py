"""Machines that stay when their unit is removed by force: the etcd that is left behind stops."""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import threading
import time
from typing import TYPE_CHECKING

import jubilant
import pytest
from cluster_under_test import Cluster, chaos, eventually

import errors
from etcd import client as clients
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.minijuju

UNITS = 4
GAP = 10
"""Seconds at most without a write where a quorum stands, on a busy machine."""
DOWN = ("inactive", "failed")
BOUND = 15
"""Seconds until an etcd that is left behind has stopped, once it can know."""


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, pack_charm: Callable[..., pathlib.Path], charms) -> Cluster:
    """Units on machines that another application's units keep."""
    juju.deploy(pack_charm(charms / "probe"), "companion", num_units=UNITS)
    juju.wait(lambda status: len(kept_machines(status)) == UNITS, timeout=120)
    machines = sorted(kept_machines(juju.status()), key=int)
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, to=",".join(machines))
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def kept_machines(status: jubilant.Status) -> list[str]:
    """Machines with a unit of the companion."""
    return [unit.machine for unit in status.apps["companion"].units.values() if unit.machine]


class Pinned:
    """A client that writes to one member alone, and remembers when that acknowledged."""

    def __init__(self, address: str, folder: pathlib.Path) -> None:
        where = next(folder.rglob("ca.crt")).parent
        self.tls = pem_files.TLSFiles(where / "ca.crt", where / "client.crt", where / "client.key")
        self.url = f"https://{address}:2379"
        self.times: list[float] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stop.is_set():
            online = clients.Client([self.url], self.tls, timeout=3)
            with contextlib.suppress(errors.EtcdError), online:
                while not self.stop.wait(0.1):
                    online.put("contended", self.url)
                    self.times.append(time.monotonic())
            self.stop.wait(0.1)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(10)


@pytest.fixture
def pinned(cluster: Cluster, tmp_path: pathlib.Path) -> Iterator[Callable[[str], Pinned]]:
    folder = cluster.credentials(tmp_path)
    made: list[Pinned] = []

    def pin(address: str) -> Pinned:
        made.append(Pinned(address, folder))
        return made[-1]

    yield pin
    for one in made:
        one.end()


def on(cluster: Cluster, machine: str, command: str) -> str:
    """What a command prints as root on a machine, whatever units it has."""
    return cluster.juju.ssh(machine, f"sudo sh -c '{command} || true'")


def stands_still(cluster: Cluster, machine: str) -> bool:
    """Whether etcd is down on a machine."""
    return on(cluster, machine, "systemctl is-active etcd").strip() in DOWN


def never_starts(cluster: Cluster, machine: str) -> None:
    """Neither by hand nor at boot."""
    on(cluster, machine, "timeout 20 systemctl start etcd")
    assert stands_still(cluster, machine)
    cluster.juju.cli("chaos", "reboot", machine)
    eventually(
        lambda: (
            on(cluster, machine, "systemctl is-system-running").strip() in ("running", "degraded")
        ),
        timeout=60,
    )
    assert stands_still(cluster, machine)
    assert on(cluster, machine, "pgrep -x etcd") == ""


def longest_gap(times: list[float]) -> float:
    """Seconds at most between two acknowledged writes."""
    return max((after - before for before, after in itertools.pairwise(times)), default=0)


def test_given_a_unit_removed_by_force_when_its_machine_stays_then_its_etcd_stops(
    cluster: Cluster, pinned: Callable[[str], Pinned]
):
    known, kept = cluster.units(), {cluster.leader(), cluster.raft_leader()}
    gone = next(unit for unit in known if unit not in kept)
    machine, other = known[gone].machine, known[next(iter(kept))]
    here, rest = pinned(known[gone].public_address), pinned(other.public_address)
    eventually(lambda: here.times and rest.times)
    cluster.remove_dead(gone)
    since = time.monotonic()
    eventually(lambda: stands_still(cluster, machine), timeout=BOUND, every=0.5)
    print(f"stopped {time.monotonic() - since:.1f} s after Juju forgot the unit")
    assert on(cluster, machine, "ls -d /var/lib/juju/agents/unit-etcd-*") == ""
    cluster.wait_healthy(UNITS - 1)
    assert here.times[-1] < since + BOUND
    assert longest_gap(rest.times) < GAP
    eventually(lambda: on(cluster, machine, "systemctl is-active etcd-keeper").strip() in DOWN)
    never_starts(cluster, machine)


def test_given_an_old_majority_left_behind_when_it_meets_the_recovered_cluster_then_it_stops(
    cluster: Cluster, pinned: Callable[[str], Pinned]
):
    known, survivor = cluster.units(), cluster.leader()
    old = {unit: known[unit] for unit in known if unit != survivor}
    machines = [unit.machine for unit in old.values()]
    before = [pinned(unit.public_address) for unit in old.values()]
    after = pinned(known[survivor].public_address)
    for machine in machines:  # neither the controller nor the survivor reaches them
        on(cluster, machine, f"systemctl stop jujud-machine-{machine}")
    with chaos(cluster.juju, "cut", known[survivor].machine, undo="heal"):
        eventually(lambda: not cluster.serves(survivor))
        cluster.remove_dead(*old)
        told = cluster.run("recover").results
        for name, unit in old.items():
            assert f"{name} at {unit.public_address}:2380" in told["message"]
            assert "cannot be reached" in told["members"][name.replace("/", "-")]
        assert "cannot reach" in told["message"]
        cluster.recover()
        cluster.wait_healthy(1, timeout=400)
        since = time.monotonic()
        eventually(lambda: after.times[-1:] and after.times[-1] > since)
        assert max(one.times[-1] for one in before) > since, "nobody is there to be fenced"
    healed = time.monotonic()
    for machine in machines:
        left = BOUND - (time.monotonic() - healed)
        eventually(lambda m=machine: stands_still(cluster, m), timeout=left, every=0.5)
    print(f"stopped {time.monotonic() - healed:.1f} s after they could reach the new cluster")
    time.sleep(3)  # whoever still took writes would be seen
    assert max(one.times[-1] for one in before) < healed + BOUND
    print(f"last write of the old: {max(o.times[-1] for o in before) - healed:.1f} s")
    for machine in machines:
        marked = json.loads(on(cluster, machine, "cat /var/lib/etcd/current/fenced"))
        assert marked["number"] == 2
        assert known[survivor].public_address in marked["where"]
        assert on(cluster, machine, "ls -d /var/lib/juju/agents/unit-etcd-*") != ""
    never_starts(cluster, machines[0])
    assert cluster.serves(survivor)
    assert longest_gap([at for at in after.times if at > since]) < GAP
    cluster.wait_healthy(1)
