"""The disks of a cluster that is gone, attached to the units of a new deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    import jubilant


def held(juju: jubilant.Juju) -> dict[str, Any]:
    """The storage instances of the model, each with what Juju says of it."""
    return json.loads(juju.cli("storage", "--format", "json"))["storage"]


def disks(juju: jubilant.Juju) -> list[str]:
    """The storage instances of the model."""
    return sorted(held(juju))


@pytest.fixture
def cluster(juju_model, etcd_charm) -> Iterator[Cluster]:
    """Three units whose data is on detachable storage."""
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", num_units=3, storage={"data": "lxd,1G"})
        deployed = Cluster(juju)
        deployed.wait_healthy(3)
        yield deployed


def test_given_the_disks_of_a_removed_application_when_attached_to_new_units_then_it_is_back(
    cluster: Cluster, etcd_charm, tmp_path: pathlib.Path
):
    with cluster.writing(tmp_path) as load:
        eventually(lambda: len(load.writes) > 500)
    load.stop()
    cluster.juju.remove_application("etcd")
    eventually(lambda: "etcd" not in cluster.juju.status().apps, timeout=300)
    assert cluster.failed_hooks() == []
    first, *others = disks(cluster.juju)
    cluster.juju.deploy(etcd_charm, "etcd", attach_storage=first)
    for disk in others:
        cluster.juju.add_unit("etcd", attach_storage=disk)
    cluster.wait_healthy(3, timeout=600)
    where = tmp_path / "anew"
    where.mkdir()
    with cluster.writing(where) as writing:
        eventually(lambda: len(writing.writes) > 100)
    cluster.check(3, writing)
    load.tls = writing.tls
    assert load.missing(cluster.endpoints()) == []


def test_given_a_disk_of_another_cluster_when_its_new_unit_joins_then_it_is_kept_aside(
    juju_model, etcd_charm
):
    with juju_model() as juju:
        cluster = Cluster(juju)
        juju.deploy(etcd_charm, "etcd", storage={"data": "lxd,1G"})
        cluster.wait_healthy(1)
        cluster.put("written", "there")
        juju.remove_application("etcd")
        eventually(lambda: "etcd" not in juju.status().apps, timeout=300)
        (disk,) = disks(juju)
        juju.deploy(etcd_charm, "etcd")
        cluster.wait_healthy(1)
        cluster.put("written", "here")
        juju.add_unit("etcd", attach_storage=disk)
        cluster.wait_healthy(2)
        new = next(unit for unit in cluster.units() if unit != cluster.leader())
        assert cluster.get("written", new) == "here"
        kept = "/var/lib/juju/storage/data/*/kept/*"
        assert "replaced by generation" in cluster.shell(new, f"cat {kept}/kept.json")
        cluster.shell(new, f"grep -q there {kept}/etcd/member/wal/*.wal")


@pytest.mark.minijuju
def test_given_a_majority_dead_when_its_disks_are_on_new_units_then_nothing_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    survivor = cluster.leader()
    before = cluster.members(survivor)["header"]["cluster_id"]
    with cluster.writing(tmp_path) as load:
        cluster.lose_all_but(survivor)
    for disk, facts in sorted(held(cluster.juju).items()):
        if survivor not in facts.get("attachments", {}).get("units", {}):
            cluster.juju.add_unit("etcd", attach_storage=disk)
    cluster.check(3, load, timeout=600)
    assert cluster.members(survivor)["header"]["cluster_id"] == before
