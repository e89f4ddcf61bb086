"""Membership for life, under a load that remembers every acknowledged write."""

from __future__ import annotations

import pathlib
import time

import pytest
from cluster_under_test import Cluster, chaos, eventually


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """One unit that signs for itself, to begin with."""
    juju.deploy(etcd_charm, "etcd")
    deployed = Cluster(juju)
    deployed.wait_healthy(1)
    return deployed


def a_follower(cluster: Cluster) -> str:
    """A unit that leads neither for Juju nor in raft."""
    leaders = (cluster.leader(), cluster.raft_leader())
    return next(unit for unit in cluster.units() if unit not in leaders)


def test_given_one_unit_when_it_grows_and_shrinks_then_no_acknowledged_write_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd", num_units=3)
        cluster.wait_healthy(4)
        cluster.juju.add_unit("etcd")
        cluster.wait_healthy(5)
        leaving = {cluster.raft_leader(), cluster.leader(), *cluster.units()}
        cluster.juju.remove_unit(*list(leaving)[:2])
        cluster.wait_healthy(3)
    cluster.check(3, load)
    assert cluster.failed_hooks() == []


def test_given_a_machine_dies_when_watched_then_status_follows_and_so_does_its_removal(
    cluster: Cluster,
):
    """Neither is announced by Juju, whose own tick is minutes apart."""
    dead = a_follower(cluster)
    member = dead.replace("/", "-")
    others = [unit for unit in cluster.units() if unit != dead]
    cluster.kill(dead)
    began = time.monotonic()
    for unit in others:
        cluster.says(unit, f"{member} does not answer: start the machine of {dead}", timeout=60)
    followed = time.monotonic() - began
    cluster.juju.cli("remove-unit", "--force", "--no-wait", "--no-prompt", dead)
    eventually(lambda: dead not in cluster.units(), timeout=240)
    began = time.monotonic()
    eventually(lambda: len(cluster.members(others[0])["members"]) == len(others))
    removed = time.monotonic() - began
    print(f"status followed after {followed:.0f} s, the member was removed after {removed:.0f} s")
    assert followed < 30
    assert removed < 60
    cluster.juju.add_unit("etcd")
    cluster.wait_healthy(len(others) + 1, timeout=420)


def test_given_a_dead_machine_when_its_unit_is_forced_out_then_a_new_one_replaces_it(
    cluster: Cluster, tmp_path: pathlib.Path
):
    dead = a_follower(cluster)
    with cluster.writing(tmp_path) as load:
        cluster.kill(dead)
        cluster.juju.add_unit("etcd")
        cluster.remove_dead(dead)
        cluster.wait_healthy(3, timeout=420)
    cluster.check(3, load)


@pytest.mark.minijuju
def test_given_a_machine_that_is_cut_off_when_it_heals_then_it_is_the_same_member(
    cluster: Cluster, tmp_path: pathlib.Path
):
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    lost = a_follower(cluster)
    with cluster.writing(tmp_path) as load:
        with chaos(cluster.juju, "cut", cluster.units()[lost].machine, undo="heal"):
            eventually(lambda: not cluster.serves(lost))
        cluster.wait_healthy(3)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before
    cluster.check(3, load)


def test_given_a_wiped_disk_when_etcd_restarts_then_the_member_joins_anew(
    cluster: Cluster, tmp_path: pathlib.Path
):
    hurt = a_follower(cluster)
    with cluster.writing(tmp_path) as load:
        cluster.shell(hurt, "systemctl stop etcd; rm -rf /var/lib/etcd/current")
        cluster.juju.cli("model-config", "update-status-hook-interval=10s")
        try:
            eventually(
                lambda: "member" in cluster.shell(hurt, "ls /var/lib/etcd/current/etcd", ok=False),
                timeout=240,
            )
            cluster.wait_healthy(3, timeout=300)
        finally:
            cluster.juju.cli("model-config", "--reset", "update-status-hook-interval")
    cluster.check(3, load)


def test_given_a_corrupt_database_when_etcd_gives_up_then_the_member_is_made_anew(
    cluster: Cluster, tmp_path: pathlib.Path
):
    hurt = a_follower(cluster)
    with cluster.writing(tmp_path) as load:
        cluster.shell(
            hurt,
            "systemctl kill -s KILL etcd; f=/var/lib/etcd/current/etcd/member/snap/db; "
            "dd if=/dev/urandom of=$f bs=4096 count=8 conv=notrunc 2>/dev/null",
        )
        eventually(
            lambda: (
                "its database is corrupt"
                in cluster.shell(hurt, "cat /var/lib/etcd/kept/*/kept.json", ok=False)
            ),
            timeout=240,
        )
        cluster.wait_healthy(3, timeout=300)
    cluster.check(3, load)


def test_given_every_etcd_is_killed_at_once_when_they_are_back_then_nothing_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    with cluster.writing(tmp_path) as load:
        cluster.exec_all("systemctl kill -s KILL etcd")
        eventually(lambda: cluster.serves(cluster.leader()))
    cluster.check(3, load)


def test_given_all_machines_lose_power_when_they_are_up_again_then_the_cluster_is_as_it_was(
    cluster: Cluster, tmp_path: pathlib.Path
):
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    units = list(cluster.units())
    with cluster.writing(tmp_path) as load:
        cluster.kill(*units)
        cluster.start(*units)
        eventually(lambda: cluster.serves(units[0]), timeout=240)
    cluster.check(3, load)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before


def test_given_the_majority_gone_when_recover_is_run_then_the_loss_is_the_announced_one(
    cluster: Cluster, tmp_path: pathlib.Path
):
    survivor = a_follower(cluster)
    with cluster.writing(tmp_path) as load:
        cluster.lose_all_but(survivor)
    cluster.says(survivor, "juju run etcd/leader recover")
    announced = cluster.recover()
    cluster.check(1, load, least=announced)
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd", num_units=2)
        cluster.wait_healthy(3)
    cluster.check(3, load)


def test_given_three_units_when_the_application_goes_then_no_hook_fails_or_hangs(
    cluster: Cluster,
):
    cluster.juju.remove_application("etcd")
    eventually(lambda: "etcd" not in cluster.juju.status().apps, timeout=180)
    assert cluster.failed_hooks() == []
