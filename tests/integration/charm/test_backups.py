"""Backups that leave the machine: a real S3 server in the model, a schedule, proofs, restores."""

from __future__ import annotations

import json

import bucket
import pytest
from cluster_under_test import Cluster, eventually

UNITS = 3


@pytest.fixture(scope="module")
def store(juju) -> str:
    """The address of a machine that runs an S3 server."""
    return bucket.serve(juju)[1]


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, store) -> Cluster:
    """Three units whose backups go to the S3 server every 30 seconds."""
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config={"backup-interval": "30s"})
    bucket.use(juju, store)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def listed(cluster: Cluster) -> list[dict]:
    return json.loads(cluster.run("list-backups", format="json").results["backups"])


def test_given_a_remote_when_a_backup_is_created_then_it_is_listed(cluster: Cluster):
    cluster.put("kept", "before")
    made = cluster.run("create-backup", wait=180).results["backup"]
    (found,) = [each for each in listed(cluster) if each["id"] == made["id"]]
    assert str(found["revision"]) == made["revision"]
    table = cluster.run("list-backups").results["backups"]
    assert made["id"] in table


def test_given_a_schedule_when_time_passes_then_backups_are_taken_and_proven(cluster: Cluster):
    before = len(listed(cluster))
    cluster.put("something", "changed")
    eventually(lambda: len(listed(cluster)) > before, timeout=180, every=3)
    eventually(lambda: any(each["proven-at"] for each in listed(cluster)), timeout=180, every=3)
    # A keeper that does not hold the key looks at the remote once a minute.
    eventually(lambda: "Newest backup" in cluster.run("health").results["backups"], every=3)


def test_given_a_backup_when_verified_then_its_hash_is_the_clusters(cluster: Cluster):
    made = cluster.run("create-backup", wait=180).results["backup"]
    proof = cluster.run("verify-backup", wait=180, backup_id=made["id"]).results["proof"]
    assert proof["hash"] == "equal to the cluster's"


def test_given_a_backup_when_restored_then_the_scaled_cluster_is_as_it_was(cluster: Cluster):
    cluster.put("kept", "in the backup")
    made = cluster.run("create-backup", wait=180).results["backup"]
    cluster.put("kept", "after it")
    leader = cluster.leader()
    cluster.run("restore", leader, backup_id=made["id"])
    eventually(
        lambda: "in the backup" in cluster.etcdctl(leader, "get kept 2>&1", ok=False), timeout=240
    )
    cluster.wait_healthy(UNITS)
    assert len(cluster.hashes()) == 1


@pytest.mark.parametrize("action", ["restore", "verify-backup", "delete-backup"])
def test_given_an_id_that_does_not_exist_when_used_then_one_sentence_says_so(
    cluster: Cluster, action: str
):
    sentence = cluster.refusal(action, backup_id="nonsense")
    assert "nonsense" in sentence
    assert "\n" not in sentence
    cluster.agree(UNITS)


def test_given_a_folder_that_can_be_none_when_listed_or_restored_then_one_sentence_says_so(
    cluster: Cluster,
):
    for action in ("list-backups", "restore"):
        named = {"backup_id": "latest"} if action == "restore" else {}
        sentence = cluster.refusal(action, cluster_name="../else where", **named)
        assert "'../else where' has more than" in sentence and "\n" not in sentence


def blocked(cluster: Cluster, words: str) -> None:
    """Until all units are blocked with these words; the cluster is as it was."""
    cluster.juju.wait(
        lambda status: all(
            unit.workload_status.current == "blocked" and words in unit.workload_status.message
            for unit in status.apps["etcd"].units.values()
        ),
        timeout=180,
    )
    cluster.agree(UNITS)


def test_given_a_remote_without_a_section_when_configured_then_blocked_and_undisturbed(
    cluster: Cluster,
):
    cluster.juju.config("etcd", {"backup-remote": "nowhere:backups"})
    try:
        blocked(cluster, "no section [nowhere]")
    finally:
        cluster.juju.config("etcd", {"backup-remote": "vault:backups"})
    cluster.wait_healthy(UNITS)


def test_given_a_changed_remote_that_does_not_answer_when_checked_then_the_one_before_is_used(
    cluster: Cluster, store: str
):
    before = cluster.juju.config("etcd")["rclone-config"]
    bucket.use(cluster.juju, store, port=9)
    try:
        blocked(cluster, "Backups still go where they went before: ")
        for unit in cluster.units():
            told = cluster.shell(unit, "cat /etc/etcd/remote.json")
            assert f"{store}:{bucket.PORT}" in told
        action = cluster.refusal("list-backups")
        assert "vault:backups" in action and "cannot be reached" in action
        assert admin(cluster, "backup list 2>&1", ok=False).strip() == f"etcd-admin: {action}"
    finally:
        cluster.juju.config("etcd", {"rclone-config": before})
    cluster.wait_healthy(UNITS)
    assert json.loads(admin(cluster, "backup list -o json")) == listed(cluster)


def admin(cluster: Cluster, words: str, unit: str = "", ok: bool = True) -> str:
    return cluster.shell(unit or cluster.leader(), f"etcd-admin {words}", ok=ok)


def test_given_a_person_on_a_unit_when_backing_up_then_etcd_admin_answers_as_the_actions_do(
    cluster: Cluster,
):
    follower = next(unit for unit in cluster.units() if unit != cluster.leader())
    cluster.put("kept", "by hand")
    made = json.loads(admin(cluster, "backup create -o json", follower))
    (found,) = [each for each in listed(cluster) if each["id"] == made["id"]]
    assert found in json.loads(admin(cluster, "backup list -o json", follower))
    assert made["id"] in admin(cluster, "backup list", follower)
    assert "equal to the cluster's" in admin(cluster, f"backup verify {made['id']}", follower)
    spare = json.loads(admin(cluster, "backup create -o json"))["id"]
    assert spare in admin(cluster, f"backup delete {spare}")
    assert spare not in {each["id"] for each in listed(cluster)}
    for verb in ("backup verify", "backup delete", "restore"):
        told = admin(cluster, f"{verb} nonsense", ok=False).strip()
        assert "nonsense" in told and len(told.splitlines()) == 1, told
    assert "the leader does this" in admin(cluster, f"restore {made['id']}", follower, ok=False)

    cluster.put("kept", "after it")
    leader = cluster.leader()
    assert "generation" in admin(cluster, f"restore {made['id']}", leader)
    eventually(lambda: "by hand" in cluster.etcdctl(leader, "get kept 2>&1", ok=False), 240)
    cluster.wait_healthy(UNITS)
    assert len(cluster.hashes()) == 1


def test_given_every_machine_lost_when_told_to_recover_then_it_founds_itself_from_the_backup(
    cluster: Cluster,
):
    cluster.juju.config("etcd", {"recover-total-loss": True})
    cluster.put("outlives", "every machine")
    made = cluster.run("create-backup", wait=180).results["backup"]
    cluster.run("verify-backup", wait=180, backup_id=made["id"])
    cluster.lose_every_machine()
    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.get("outlives") == "every machine"
