"""A machine is powered off in each phase of a restore: all units end old, or all end new."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Iterator

import bucket
import jubilant
import pytest
from cluster_under_test import Cluster, eventually

HOLDER = pathlib.Path(__file__).with_name("holder.py")
PLAN, HELD = "/run/etcd-hold", "/run/etcd-held"

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

pytestmark = [pytest.mark.minijuju, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", params=[1, 3, 5])
def cluster(request, juju_binary, etcd_charm) -> Iterator[Cluster]:
    """So many units, one backup that holds `kept` as `before`."""
    with jubilant.temp_model() as juju:
        juju.wait_timeout = 300
        _, address = bucket.serve(juju)
        juju.deploy(etcd_charm, "etcd", num_units=request.param, config={"backup-interval": "0"})
        bucket.use(juju, address)
        deployed = Cluster(juju)
        deployed.wait_healthy(request.param)
        deployed.put("kept", "before")
        deployed.run("create-backup", wait=180)
        yield deployed


def hold(cluster: Cluster, unit: str, boundary: str) -> None:
    """Let the next hook of a unit that comes to this boundary stay there."""
    cluster.juju.scp(str(HOLDER), f"{unit}:/tmp/holder.py")
    venv = f"/var/lib/juju/agents/unit-{unit.replace('/', '-')}/charm/venv"
    cluster.shell(
        unit,
        f"echo '{boundary}' > {PLAN}; rm -f {HELD}; for d in {venv}/lib/python3*/site-packages; "
        "do cp /tmp/holder.py $d/; echo import holder > $d/holder.pth; done",
    )


def held(cluster: Cluster, unit: str, boundary: str) -> bool:
    return boundary in cluster.shell(unit, f"cat {HELD} 2>/dev/null || true")


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


@pytest.mark.parametrize("who", ["leader", "follower"])
@pytest.mark.parametrize("phase", list(PHASES))
def test_given_a_restore_when_a_machine_is_off_in_a_phase_then_all_end_old_or_all_new(
    cluster: Cluster, phase: str, who: str
):
    units = cluster.units()
    if who == "follower" and len(units) == 1:
        pytest.skip("one unit has no follower")
    cluster.put("kept", "after")
    leader = cluster.leader()
    victim = leader if who == "leader" else next(unit for unit in units if unit != leader)
    keeper, boundary = PHASES[phase]
    halted = victim if keeper == "victim" else leader
    number = records(cluster)[0]["number"]
    hold(cluster, halted, boundary)

    cluster.run("restore", leader, backup_id="latest")
    eventually(lambda: held(cluster, halted, boundary), timeout=180, every=0.3)
    cluster.juju.cli("chaos", "kill", units[victim].machine)
    if halted != victim:
        cluster.shell(halted, f"rm -f {PLAN}")
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
