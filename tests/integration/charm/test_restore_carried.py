"""What a snapshot brings along besides keys: users and passwords, leases, an armed alarm."""

from __future__ import annotations

import json

import bucket
import pytest
from cluster_under_test import ETCDCTL, Cluster, eventually

UNITS = 3
LOOPBACK = "--endpoints=https://127.0.0.1:2379"


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Three units with a small quota, whose backups go to a bucket when asked."""
    config = {"backup-interval": "0", "quota-backend-bytes": 64 * 1024**2}
    _, address = bucket.serve(juju)
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config=config)
    bucket.use(juju, address)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def restored(cluster: Cluster, **source: str) -> str:
    """Restore, wait for the end, and answer with what the action said."""
    told = cluster.run("restore", **source).results
    eventually(lambda: generations(cluster) == {told["generation"]}, timeout=420)
    cluster.wait_healthy(UNITS)
    return told["message"]


def generations(cluster: Cluster) -> set[str]:
    """The number in the stamp of every unit's data; "" while there is none."""
    command = "cat /var/lib/etcd/current/stamp.json 2>/dev/null || echo {}"
    stamps = [json.loads(cluster.shell(unit, command)) for unit in cluster.units()]
    return {str(stamp.get("generation", "")) for stamp in stamps}


def fill(cluster: Cluster, leader: str) -> None:
    """Write until the quota is used up."""
    cluster.shell(
        leader,
        "head -c 1000000 /dev/urandom | base64 -w0 > /tmp/value; for n in $(seq 60); do "
        f"{ETCDCTL} {LOOPBACK} put big/$n < /tmp/value "
        ">/dev/null 2>&1 || break; done",
    )


def test_given_a_snapshot_taken_with_an_alarm_when_restored_then_writes_go_on(cluster: Cluster):
    leader = cluster.leader()
    lease = cluster.etcdctl(leader, "lease grant 3600").split()[1]
    cluster.etcdctl(leader, f"put leased yes --lease={lease}")
    fill(cluster, leader)
    assert "NOSPACE" in eventually(lambda: cluster.etcdctl(leader, "alarm list"))
    taken = cluster.run("snapshot", leader).results["snapshot"]
    backup = cluster.run("create-backup", wait=180).results["backup"]["id"]
    cluster.juju.config("etcd", {"quota-backend-bytes": 256 * 1024**2})
    for source in ({"backup_id": backup}, {"path": taken["path"]}):
        assert "alarm armed" in restored(cluster, **source)
        cluster.put("writes", f"go on {source}")
        assert "go on" in cluster.get("writes")
        assert "remaining(3" in cluster.etcdctl(leader, f"lease timetolive {lease}")
        assert cluster.get("leased") == "yes"


def test_given_authentication_on_when_backed_up_and_restored_then_its_users_are_those_of_then(
    cluster: Cluster,
):
    leader = cluster.leader()
    cluster.etcdctl(leader, "del --prefix big/")
    for command in (
        "user add root:old-root",
        "user grant-role root root",
        "role add app",
        "role grant-permission app --prefix=true readwrite app/",
        "user add alice:old-alice",
        "user grant-role alice app",
        "auth enable",
    ):
        cluster.etcdctl(leader, command)
    cluster.wait_healthy(UNITS)
    assert "cluster is healthy" in cluster.run("health").results["summary"]
    backup = cluster.run("create-backup", wait=180).results["backup"]["id"]
    cluster.run("verify-backup", wait=180, backup_id=backup)

    cluster.etcdctl(leader, "user passwd root --interactive=false <<E\nnew-root\nE\n")
    cluster.etcdctl(leader, "user delete alice")
    cluster.etcdctl(leader, "put app/key after")
    message = restored(cluster, backup_id=backup)
    assert "users, passwords and roles" in message

    # A password goes before the name in the certificate.
    as_alice = f"{ETCDCTL} {LOOPBACK} --user=alice:old-alice"
    assert "OK" in cluster.shell(leader, f"{as_alice} put app/key hers")
    assert "permission denied" in cluster.shell(leader, f"{as_alice} put other/key x", ok=False)
    assert cluster.get("app/key") == "hers"


def test_given_authentication_on_when_a_unit_is_added_during_a_restore_then_all_vote(
    cluster: Cluster,
):
    cluster.put("app/key", "lost again")
    cluster.juju.add_unit("etcd")
    cluster.run("restore", backup_id="latest")
    assert "under way" in cluster.refusal("restore", backup_id="latest")
    cluster.wait_healthy(UNITS + 1, timeout=420)
    assert cluster.get("app/key") == ""
    assert len(cluster.hashes()) == 1
