"""A majority is gone: who may found anew, from what, and who never does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, chaos, eventually

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.minijuju

LONG = 150
"""Seconds of silence: twice what the policy waits before it takes silence for an answer."""


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Five units that recover by themselves."""
    config = {"recover-quorum-loss": True}
    juju.deploy(etcd_charm, "etcd", num_units=5, config=config)
    deployed = Cluster(juju)
    deployed.wait_healthy(5, timeout=600)
    return deployed


def records(cluster: Cluster) -> set[str]:
    """What the committed record and the data of every unit say of their cluster."""
    return {
        cluster.shell(unit, "cat /var/lib/etcd/current/stamp.json") for unit in cluster.units()
    }


def test_given_a_partition_when_the_minority_holds_the_juju_leader_then_it_never_recovers(
    cluster: Cluster, tmp_path: pathlib.Path
):
    before = cluster.members(cluster.leader())
    stamps = records(cluster)
    minority = [cluster.leader()]
    minority += [unit for unit in cluster.units() if unit not in minority][:1]
    known = cluster.units()
    majority = [unit for unit in known if unit not in minority]
    away = ",".join(known[unit].machine for unit in majority)
    with cluster.writing(tmp_path) as load:
        for unit in minority:
            cluster.juju.cli("chaos", "cut", known[unit].machine, "--from", away)
        try:
            told = [cluster.says(unit, "no quorum of members answers") for unit in minority]
            time.sleep(LONG)
            since = time.monotonic()
            assert records(cluster) == stamps
            eventually(lambda: any(at > since for at in load.times), timeout=30)
        finally:
            for unit in minority:
                cluster.juju.cli("chaos", "heal", known[unit].machine)
        cluster.wait_healthy(5, timeout=300)
    cluster.check(5, load)
    after = cluster.members(cluster.leader())
    assert after["header"]["cluster_id"] == before["header"]["cluster_id"]
    assert {m["ID"] for m in after["members"]} == {m["ID"] for m in before["members"]}
    assert all("start the machines of" in words for words in told)


def test_given_three_of_five_lost_and_a_survivor_cut_off_when_it_heals_then_it_joins_the_other(
    cluster: Cluster, tmp_path: pathlib.Path
):
    known = cluster.units()
    alone = cluster.leader()  # the record is in the hands of a unit that sees no other
    with cluster.writing(tmp_path) as load:
        with chaos(cluster.juju, "cut", known[alone].machine, undo="heal"):
            eventually(lambda: not cluster.serves(alone))
            other = cluster.raft_leader()
            written = len(load.writes)
            eventually(lambda: len(load.writes) > written + 100)
            cluster.lose_all_but(alone, other)
            load.stop()
            eventually(lambda: cluster.serves(other), timeout=600)
        cluster.wait_healthy(2, timeout=600)
    # A raft leader holds everything that was acknowledged.
    cluster.check(2, load)
    kept = cluster.shell(alone, "cat /var/lib/etcd/kept/*/kept.json")
    assert "replaced by generation" in kept


def test_given_two_units_when_one_is_lost_then_the_other_goes_on_by_itself(
    cluster: Cluster, tmp_path: pathlib.Path
):
    survivor = cluster.raft_leader()
    with cluster.writing(tmp_path) as load:
        cluster.lose_all_but(survivor)
        load.stop()
        cluster.wait_healthy(1, timeout=600)
    cluster.check(1, load)
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd", num_units=2)
        cluster.wait_healthy(3, timeout=600)
    cluster.check(3, load)


def test_given_a_survivor_without_room_when_it_has_some_again_then_it_recovers_by_itself(
    cluster: Cluster, tmp_path: pathlib.Path
):
    survivor = cluster.raft_leader()
    machine = cluster.units()[survivor].machine
    with cluster.writing(tmp_path) as load:
        cluster.lose_all_but(survivor)
        load.stop()
    with chaos(cluster.juju, "fill-disk", machine, undo="free-disk"):
        words = cluster.says(survivor, "could not found the cluster", timeout=400)
        assert "its data is as it was, and it is tried again each minute" in words
        assert cluster.shell(survivor, "ls /var/lib/etcd/prepared") == ""
    cluster.check(1, load, timeout=600)
