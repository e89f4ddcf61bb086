"""Founding: any number of units, late ones, units cut off from each other; never two clusters."""

from __future__ import annotations

import pytest
from cluster_under_test import Cluster, chaos, eventually


@pytest.mark.parametrize("count", [1, 2, 5])
def test_given_so_many_units_when_deployed_then_they_found_one_cluster(
    juju_model, etcd_charm, count
):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", num_units=count)
        Cluster(juju).wait_healthy(count)


def test_given_units_cut_off_when_founding_then_there_is_never_a_second_cluster(
    juju_model, etcd_charm
):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", num_units=3)
        eventually(lambda: len(juju.status().machines) == 3)
        with chaos(juju, "cut", "0", "1", "2", undo="heal"):
            cluster = Cluster(juju)
            eventually(
                lambda: all(
                    cluster.shell(unit, "cat /var/lib/etcd/current/stamp.json || true", ok=False)
                    for unit in cluster.units()
                ),
                timeout=180,
            )
            for unit in cluster.units():
                assert "true" not in cluster.etcdctl(unit, "endpoint health 2>&1", ok=False)
        cluster.wait_healthy(3)
