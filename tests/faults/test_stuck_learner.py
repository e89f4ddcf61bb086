"""A learner that cannot catch up is taken out again, and comes back when it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import steps
from cluster_under_test import Cluster, chaos, eventually

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.minijuju

DEADLINE = 45
"""Seconds here that a learner may stand still: the policy's quarter of an hour is a long test."""


def hasten(cluster: Cluster, unit: str) -> None:
    """Let the policy of this unit's charm wait less."""
    view = f"/var/lib/juju/agents/unit-{unit.replace('/', '-')}/charm/src/cluster/view.py"
    cluster.shell(
        unit,
        f"grep -q 'learner_deadline: float = ' {view} && "
        f"sed -i 's/learner_deadline: float = .*/learner_deadline: float = {DEADLINE}/' {view} && "
        f"rm -rf $(dirname {view})/__pycache__ && "
        f"grep -q 'learner_deadline: float = {DEADLINE}' {view}",
    )


@pytest.fixture(scope="module")
def cluster(cluster: Cluster) -> Cluster:
    """Three units that soon give up a learner."""
    for unit in cluster.units():
        hasten(cluster, unit)
    return cluster


@pytest.mark.parametrize(("hurt", "undo"), [("cut", "heal"), ("kill", "start")])
def test_given_a_learner_that_is_gone_when_its_deadline_has_passed_then_it_is_added_again(
    cluster: Cluster, tmp_path: pathlib.Path, hurt: str, undo: str
):
    before = set(cluster.units())
    leader = cluster.leader()
    away = ",".join(unit.machine for unit in cluster.units().values())
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd")
        (new,) = eventually(lambda: set(cluster.units()) - before)
        eventually(lambda: steps.installed(cluster, new), every=0.3)
        steps.order(cluster, new, ["hold after AddLearner"])
        eventually(lambda: steps.is_held(cluster, new, "after AddLearner"), timeout=240)
        added = {m["ID"] for m in cluster.members(leader)["members"] if m.get("isLearner")}
        assert len(added) == 1
        machine = [cluster.units()[new].machine]
        if hurt == "cut":
            machine += ["--from", away]
        with chaos(cluster.juju, hurt, *machine, undo=undo):
            if hurt == "cut":
                steps.release(cluster, new)
            eventually(
                lambda: not added & {m["ID"] for m in cluster.members(leader)["members"]},
                timeout=300,
            )
        cluster.wait_healthy(4, timeout=600)
    cluster.check(4, load)
    assert not added & {m["ID"] for m in cluster.members(leader)["members"]}
    cluster.juju.remove_unit(new)
    cluster.wait_healthy(3)
