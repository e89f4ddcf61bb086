"""Data on Juju's storage: from the start, added to live units, and left behind by a unit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Three units on their machines' own disks."""
    juju.deploy(etcd_charm, "etcd", num_units=3)
    deployed = Cluster(juju)
    deployed.wait_healthy(3)
    return deployed


def data_dir(cluster: Cluster, unit: str) -> str:
    return cluster.shell(unit, "grep ^data-dir /etc/etcd/etcd.conf.yaml")


def test_given_a_live_cluster_when_storage_is_added_then_the_data_moves_and_members_stay(
    cluster: Cluster, tmp_path: pathlib.Path
):
    cluster.put("kept", "on the move")
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    with cluster.writing(tmp_path) as load:
        for unit in cluster.units():
            cluster.juju.cli("add-storage", unit, "data=lxd,1G")
        eventually(
            lambda: all("/var/lib/juju/storage" in data_dir(cluster, u) for u in cluster.units()),
            timeout=300,
        )
        cluster.wait_healthy(3)
    cluster.check(3, load)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before
    assert cluster.get("kept") == "on the move"


def test_given_a_unit_that_leaves_when_its_storage_goes_to_a_new_unit_then_that_one_joins(
    cluster: Cluster,
):
    leaving = next(name for name, unit in cluster.units().items() if not unit.leader)
    held = json.loads(cluster.juju.cli("storage", "--format", "json"))["storage"]
    (storage,) = [name for name, facts in held.items() if leaving in facts["attachments"]["units"]]
    cluster.juju.remove_unit(leaving)
    cluster.wait_healthy(2)
    cluster.juju.cli("add-unit", "etcd", "--attach-storage", storage)
    cluster.wait_healthy(3, timeout=420)
    assert cluster.get("kept") == "on the move"
    assert len(cluster.hashes()) == 1


def test_given_storage_at_deployment_when_founded_then_the_data_is_on_it(juju_model, etcd_charm):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", storage={"data": "lxd,1G"})
        deployed = Cluster(juju)
        deployed.wait_healthy(1)
        (unit,) = deployed.units()
        assert "/var/lib/juju/storage" in data_dir(deployed, unit)
