"""A machine is powered off in each phase of a restore: all units end old, or all end new."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import bucket
import jubilant
import pytest
import steps
from cluster_under_test import Cluster, eventually

PHASES = {
    "propose": ("victim", "before Prepare"),
    "prepare": ("victim", "after Prepare"),
    "commit": ("leader", "before Commit"),
    "adopt": ("victim", "before Adopt"),
    "start": ("victim", "before Start"),
    "started": ("victim", "after Start"),
    "confirm": ("leader", "before Commit confirmed"),
    "confirmed": ("leader", "after Commit confirmed"),
    "finish": ("victim", "before Finish"),
}
"""Phase to who is held at which step's boundary when the victim's machine goes off."""

CASES = [
    *((3, phase, who) for phase in PHASES for who in ("leader", "follower")),
    *((1, phase, "leader") for phase in ("prepare", "adopt", "confirmed")),
    *((5, phase, who) for phase, who in (("commit", "leader"), ("started", "follower"))),
]
"""Units, phase and whose machine: all phases of three, those that matter of one and five."""

pytestmark = [pytest.mark.minijuju, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def deployed(juju_binary, etcd_charm) -> Iterator[Callable[[int], Cluster]]:
    """So many units with one backup that holds `kept` as `before`; one model at a time."""
    made: dict[int, Cluster] = {}
    with contextlib.ExitStack() as stack:

        def cluster(size: int) -> Cluster:
            if size not in made:
                stack.close()
                made.clear()
                juju = stack.enter_context(jubilant.temp_model())
                made[size] = _deploy(juju, etcd_charm, size)
            return made[size]

        yield cluster


@pytest.fixture
def cluster(deployed: Callable[[int], Cluster], size: int) -> Cluster:
    """The units of one case."""
    return deployed(size)


def _deploy(juju: jubilant.Juju, charm: pathlib.Path, size: int) -> Cluster:
    juju.wait_timeout = 300
    _, address = bucket.serve(juju)
    juju.deploy(charm, "etcd", num_units=size, config={"backup-interval": "0"})
    bucket.use(juju, address)
    cluster = Cluster(juju)
    cluster.wait_healthy(size)
    cluster.put("kept", "before")
    cluster.run("create-backup", wait=180)
    return cluster


def records(cluster: Cluster) -> tuple[dict, str]:
    """The committed record, and the proposal's text."""
    unit = next(iter(cluster.units()))
    shown = json.loads(cluster.juju.cli("show-unit", unit, "--format", "json"))[unit]
    (peers,) = [r for r in shown["relation-info"] if r["endpoint"] == "cluster"]
    bag = peers["application-data"]
    return json.loads(bag["generation"]), bag.get("proposal", "")


def ended(cluster: Cluster, before: int) -> bool:
    """The restore came to be, was given up, or was undone."""
    record, proposal = records(cluster)
    if proposal or not record["confirmed"]:
        return False
    return record["number"] > before or all(
        unit.workload_status.message.startswith("Healthy") for unit in cluster.units().values()
    )


@pytest.mark.parametrize(("size", "phase", "who"), CASES)
def test_given_a_restore_when_a_machine_is_off_in_a_phase_then_all_end_old_or_all_new(
    cluster: Cluster, phase: str, who: str
):
    units = cluster.units()
    cluster.put("kept", "after")
    leader = cluster.leader()
    victim = leader if who == "leader" else next(unit for unit in units if unit != leader)
    keeper, boundary = PHASES[phase]
    halted = victim if keeper == "victim" else leader
    number = records(cluster)[0]["number"]
    steps.order(cluster, halted, [f"hold {boundary}"])

    cluster.run("restore", leader, backup_id="latest")
    eventually(lambda: steps.is_held(cluster, halted, boundary), timeout=180, every=0.3)
    cluster.juju.cli("chaos", "kill", units[victim].machine)
    if halted != victim:
        steps.release(cluster, halted)
    if who == "leader" and len(units) > 1:
        eventually(
            lambda: any(unit.leader for name, unit in cluster.units().items() if name != victim)
        )
    else:
        time.sleep(5)
    cluster.juju.cli("chaos", "start", units[victim].machine)

    eventually(lambda: ended(cluster, number), timeout=480)
    cluster.wait_healthy(len(units), timeout=480)
    record, _ = records(cluster)
    stamps = {
        json.loads(cluster.shell(unit, "cat /var/lib/etcd/current/stamp.json"))["token"]
        for unit in units
    }
    assert stamps == {record["token"]}
    assert cluster.get("kept") in ("before", "after")
    assert len(cluster.hashes()) == 1
    print(f"{len(units)} {phase} {who}: {cluster.get('kept')}, {record['source']}")
