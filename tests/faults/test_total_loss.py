"""Every disk is gone, or the application is a new one: who founds from a backup, and who never."""

from __future__ import annotations

import json
from collections.abc import Iterator

import bucket
import jubilant
import pytest
from cluster_under_test import Cluster, chaos, eventually

UNITS = 3

pytestmark = [pytest.mark.minijuju, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def address(juju) -> str:
    """A bucket that outlives every cluster here."""
    return bucket.serve(juju)[1]


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, address) -> Cluster:
    """Three units that may recover by themselves, and one proven backup."""
    config = {"backup-interval": "0", "recover-total-loss": True, "cluster-name": "first"}
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config=config)
    bucket.use(juju, address)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    deployed.put("kept", "proven")
    made = deployed.run("create-backup", wait=180).results["backup"]["id"]
    deployed.run("verify-backup", wait=180, backup_id=made)
    deployed.put("kept", "later")
    deployed.run("create-backup", wait=180)
    return deployed


@pytest.fixture
def elsewhere(juju_binary) -> Iterator[jubilant.Juju]:
    """Another model."""
    with jubilant.temp_model() as juju:
        juju.wait_timeout = 300
        yield juju


def test_given_a_new_model_told_the_name_when_deployed_then_it_founds_from_the_proven_backup(
    cluster: Cluster, elsewhere: jubilant.Juju, etcd_charm, address: str
):
    config = {"cluster-name": "first", "recover-total-loss": True, "backup-interval": "0"}
    elsewhere.deploy(etcd_charm, "etcd", num_units=UNITS, config=config)
    new = Cluster(elsewhere)
    eventually(lambda: any("not founded" in u.workload_status.message for u in status(new)))
    bucket.use(elsewhere, address)
    new.wait_healthy(UNITS)
    assert new.get("kept") == "proven"
    ids = [each.members(each.leader())["header"]["cluster_id"] for each in (new, cluster)]
    assert ids[0] != ids[1]


def test_given_a_new_model_not_allowed_when_deployed_then_blocked_until_the_action_that_it_names(
    cluster: Cluster, elsewhere: jubilant.Juju, etcd_charm, address: str
):
    elsewhere.deploy(etcd_charm, "etcd", config={"backup-interval": "0"})
    new = Cluster(elsewhere)
    new.wait_healthy(1)
    elsewhere.deploy(etcd_charm, "other", config={"backup-interval": "0", "cluster-name": "first"})
    bucket.use(elsewhere, address, "other")
    bucket.use(elsewhere, address)
    other = Cluster(elsewhere, "other")
    named = "juju run other/leader restore backup-id=latest"
    eventually(
        lambda: [
            u
            for u in status(other)
            if u.workload_status.current == "blocked" and named in u.workload_status.message
        ]
    )
    other.run("restore", backup_id="latest")
    other.wait_healthy(1)
    assert other.get("kept") == "later"

    # Migration: a running cluster takes over another one's backup, chosen by its id.
    leader = new.leader()
    eventually(lambda: "vault" in new.shell(leader, "cat /etc/etcd/remote.json", ok=False))
    shown = new.run("list-backups", cluster_name="first", format="json").results["backups"]
    oldest = json.loads(shown)[-1]["id"]
    assert oldest not in new.run("list-backups").results["backups"]
    new.run("restore", backup_id=oldest, cluster_name="first")
    eventually(lambda: "proven" in new.etcdctl(leader, "get kept 2>&1", ok=False), timeout=240)
    new.wait_healthy(1)


def test_given_one_disk_lost_and_the_others_off_when_a_backup_is_there_then_nobody_founds(
    cluster: Cluster,
):
    leader = cluster.leader()
    units = cluster.units()
    before = cluster.members(leader)["header"]["cluster_id"]
    others = [units[name].machine for name in units if name != leader]
    with chaos(cluster.juju, "kill", *others, undo="start"):
        cluster.shell(leader, "systemctl stop etcd; rm -rf /var/lib/etcd/current")
        for _ in range(4):
            look = "JUJU_DISPATCH_PATH=hooks/update-status ./dispatch"
            cluster.juju.cli("exec", "--unit", leader, "--", look)
        assert "active" not in cluster.shell(leader, "systemctl is-active etcd", ok=False).split()
    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.members(leader)["header"]["cluster_id"] == before
    assert cluster.get("kept") == "later"


def status(cluster: Cluster) -> list:
    return list(cluster.units().values())


def test_given_every_machine_lost_when_units_are_added_then_it_founds_itself(cluster: Cluster):
    units = cluster.units()
    for unit in units.values():
        cluster.juju.cli("chaos", "kill", unit.machine)
    cluster.juju.remove_unit(*units, force=True)
    cluster.juju.add_unit("etcd", num_units=UNITS)
    eventually(lambda: not set(units) & set(cluster.units()), timeout=300)
    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.get("kept") == "proven"
