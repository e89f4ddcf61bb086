"""Every disk is gone, or the application is a new one: who founds from a backup, and who never."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import bucket
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
def deploy(juju, etcd_charm, address) -> Iterator[Callable[..., Cluster]]:
    """Deploy an application of the test's own without a remote; removed at the end.

    `cluster-name` is what tells clusters on a remote apart, wherever they run.
    """
    made: list[str] = []

    def deployed(app: str, units: int, **config: object) -> Cluster:
        named = {key.replace("_", "-"): value for key, value in config.items()}
        juju.deploy(etcd_charm, app, num_units=units, config={"backup-interval": "0", **named})
        made.append(app)
        return Cluster(juju, app)

    yield deployed
    juju.remove_application(*made, force=True, destroy_storage=True)
    eventually(lambda: not set(made) & set(juju.status().apps), timeout=240)


def says(cluster: Cluster, words: str, current: str = "") -> None:
    """Wait until a unit says these words, in this status when one is named."""
    eventually(
        lambda: [
            unit
            for unit in cluster.units().values()
            if words in unit.workload_status.message
            and unit.workload_status.current.startswith(current)
        ],
        timeout=240,
    )


def test_given_a_new_application_told_the_name_when_related_then_it_asks_before_it_believes(
    cluster: Cluster, deploy: Callable[..., Cluster], address: str
):
    new = deploy("new", UNITS, cluster_name="first", recover_total_loss=True)
    says(new, "not founded")
    bucket.use(new.juju, address, new.app)
    says(new, "none of them proven by this one", "blocked")
    answer = new.run("restore", backup_id="proven").results["message"]
    assert "was not sealed by this application" in answer
    new.wait_healthy(UNITS)
    assert new.get("kept") == "proven"
    ids = {each.members(each.leader())["header"]["cluster_id"] for each in (new, cluster)}
    assert len(ids) == 2


def test_given_a_new_application_not_allowed_when_related_then_the_action_it_names_founds_it(
    cluster: Cluster, deploy: Callable[..., Cluster], address: str
):
    new = deploy("held", 1, cluster_name="first")
    bucket.use(new.juju, address, new.app)
    says(new, "juju run held/leader restore backup-id=latest", "blocked")
    new.run("restore", backup_id="latest")
    new.wait_healthy(1)
    assert new.get("kept") == "later"


def test_given_a_running_cluster_when_given_anothers_backup_by_id_then_it_holds_that(
    cluster: Cluster, deploy: Callable[..., Cluster], address: str
):
    new = deploy("other", 1)
    new.wait_healthy(1)
    bucket.use(new.juju, address, new.app)
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


def test_given_every_machine_lost_when_units_are_added_then_it_founds_itself(cluster: Cluster):
    cluster.lose_every_machine()
    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.get("kept") == "proven"
