"""Any number of units: asked for at once, grown to and shrunk from, under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib


@pytest.mark.parametrize("count", [7, 9])
def test_given_many_units_when_deployed_at_once_then_they_found_one_cluster(
    juju_model, etcd_charm, count
):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", num_units=count)
        cluster = Cluster(juju)
        cluster.wait_healthy(count, timeout=600)
        assert cluster.failed_hooks() == []


def test_given_one_unit_when_it_grows_to_nine_and_back_to_none_then_nothing_is_lost(
    juju_model, etcd_charm, tmp_path: pathlib.Path
):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd")
        cluster = Cluster(juju)
        cluster.wait_healthy(1)
        with cluster.writing(tmp_path, rate=20) as load:
            for size in (3, 5, 9, 3, 1, 4):
                _resize(cluster, size)
        cluster.check(4, load)
        juju.remove_unit(*cluster.units())
        eventually(lambda: not cluster.units(), timeout=180)
        assert cluster.failed_hooks() == []


def _resize(cluster: Cluster, size: int) -> None:
    """In one command: add the units, or remove as many, the two leaders first."""
    units = cluster.units()
    if size > len(units):
        cluster.juju.add_unit("etcd", num_units=size - len(units))
    else:
        leaders = {cluster.raft_leader(): 1, cluster.leader(): 1}
        cluster.juju.remove_unit(*list({**leaders, **units})[: len(units) - size])
    cluster.wait_healthy(size, timeout=900)
