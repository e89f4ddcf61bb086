"""The machines of leaders die in the middle of a change of the membership."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.minijuju


def test_given_growth_when_the_raft_leader_dies_then_it_is_replaced_and_nothing_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    witness = cluster.leader()
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd", num_units=2)
        eventually(lambda: len(cluster.members(witness)["members"]) > 3, timeout=300, every=0.3)
        dead = cluster.raft_leader()
        cluster.kill(dead)
        cluster.juju.add_unit("etcd")
        cluster.remove_dead(dead)
        cluster.wait_healthy(5, timeout=900)
    cluster.check(5, load)


def test_given_a_shrink_when_the_juju_leader_dies_then_the_others_finish_it(
    cluster: Cluster, tmp_path: pathlib.Path
):
    dead = cluster.leader()
    leaving = [unit for unit in cluster.units() if unit != dead][:2]
    with cluster.writing(tmp_path) as load:
        cluster.juju.remove_unit(*leaving)
        cluster.kill(dead)
        eventually(lambda: not set(leaving) & set(cluster.units()), timeout=300)
        cluster.remove_dead(dead)
        cluster.wait_healthy(2, timeout=600)
        cluster.juju.add_unit("etcd")
        cluster.wait_healthy(3, timeout=600)
    cluster.check(3, load)
