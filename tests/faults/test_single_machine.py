"""One machine of three is hurt while clients write; the cluster and the machine come back."""

from __future__ import annotations

import contextlib
import pathlib
import time
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, chaos, eventually
from load import Load, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.minijuju

LEASE = 60  # seconds that Juju keeps a silent unit as the leader


@contextlib.contextmanager
def unharmed(cluster: Cluster, hurt: str, folder: pathlib.Path) -> Iterator[Load]:
    """A load on the others; at the end the members are the same and hold every write."""
    cluster.credentials(folder)
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    others = [cluster.address(unit) for unit in cluster.units() if unit != hurt]
    with running(others, folder) as load:
        yield load
        cluster.wait_healthy(3, timeout=420)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before
    assert load.times
    assert load.missing(cluster.endpoints()) == []
    assert load.missing(cluster.endpoints(hurt)) == []
    assert len(cluster.hashes()) == 1
    print(f"{len(load.times)} writes, longest gap {load.longest_gap():.2f} s")


def writes_within(load: Load, seconds: float) -> None:
    """A write is acknowledged within so many seconds from now."""
    began = time.monotonic()
    eventually(lambda: load.times[-1:] and load.times[-1] > began, timeout=seconds, every=0.2)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_given_a_machine_paused_beyond_the_lease_when_it_resumes_then_it_is_the_same_member(
    cluster: Cluster, tmp_path: pathlib.Path, role: str
):
    units, juju_leader = cluster.units(), cluster.leader()
    if role == "leader":
        hurt = juju_leader
        member = next(
            m["ID"]
            for m in cluster.members(hurt)["members"]
            if m["name"] == hurt.replace("/", "-")
        )
        if cluster.raft_leader() != hurt:
            cluster.run("move-leader", hurt, to=f"{member:x}")
    else:
        hurt = next(u for u in units if u not in (juju_leader, cluster.raft_leader()))
    with unharmed(cluster, hurt, tmp_path) as load:
        with chaos(cluster.juju, "pause", units[hurt].machine, undo="resume"):
            writes_within(load, 20)
            time.sleep(2 * LEASE)
            writes_within(load, 5)
            led = next(name for name, unit in cluster.units().items() if unit.leader)
            assert led != hurt
        cluster.wait_healthy(3, timeout=420)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_given_a_full_disk_when_there_is_room_again_then_the_member_comes_back_by_itself(
    cluster: Cluster, tmp_path: pathlib.Path, role: str
):
    leads = cluster.raft_leader()
    hurt = leads if role == "leader" else next(u for u in cluster.units() if u != leads)
    machine = cluster.units()[hurt].machine
    with unharmed(cluster, hurt, tmp_path) as load:
        with chaos(cluster.juju, "fill-disk", machine, undo="free-disk"):
            said = eventually(
                lambda: (
                    message
                    if "disk is full" in (message := cluster.units()[hurt].workload_status.message)
                    else ""
                ),
                timeout=240,
            )
            print(said)
            writes_within(load, 5)
        cluster.wait_healthy(3, timeout=420)
