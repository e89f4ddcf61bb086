"""The hook process is killed at every step boundary; every time the cluster ends healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import steps
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = [pytest.mark.minijuju, pytest.mark.timeout(1800)]


def arm(cluster: Cluster, units: Iterable[str], names: Iterable[str]) -> None:
    """Let the units' hooks die once before and once after each of these steps."""
    orders = [f"kill {when} {name}" for name in names for when in ("before", "after")]
    for unit in units:
        steps.order(cluster, unit, orders)


def test_given_hooks_that_die_at_every_step_when_restored_then_it_ends_healthy(cluster: Cluster):
    cluster.put("kept", "before")
    leader = cluster.leader()
    taken = cluster.run("snapshot", leader).results["snapshot"]
    cluster.put("kept", "after")
    arm(
        cluster,
        cluster.units(),
        (
            "Prepare",
            "Commit",
            "Stop",
            "SetAside",
            "Adopt",
            "Start",
            "Commit confirmed",
            "Finish",
        ),
    )
    cluster.run("restore", leader, path=taken["path"])
    eventually(lambda: "before" in cluster.etcdctl(leader, "get kept 2>&1", ok=False), timeout=600)
    cluster.wait_healthy(3, timeout=900)
    assert len(cluster.hashes()) == 1
    for unit in cluster.units():
        assert "Adopt" not in steps.left(cluster, unit)


def test_given_hooks_that_die_at_every_step_when_it_grows_then_it_ends_healthy(cluster: Cluster):
    before = set(cluster.units())
    cluster.juju.add_unit("etcd", num_units=2)
    new = eventually(lambda: set(cluster.units()) - before)
    eventually(lambda: all(steps.installed(cluster, unit) for unit in new), every=0.3)
    arm(cluster, new, ("AddLearner", "Join", "CatchUp", "Promote"))
    for unit in new:  # a hook that began before, and waits for the packages, has no orders
        cluster.shell(unit, "pkill -KILL -f '[s]rc/charm.py'", ok=False)
    cluster.wait_healthy(5, timeout=900)
    assert len(cluster.hashes()) == 1
    for unit in new:
        assert "Join" not in steps.left(cluster, unit)


def test_given_hooks_that_die_at_every_step_when_it_shrinks_then_it_ends_healthy(
    cluster: Cluster,
):
    leaving = sorted(cluster.units(), key=lambda name: int(name.split("/")[1]))[:2]
    arm(cluster, leaving, ("MoveLeader", "RemoveMember", "Stop"))
    cluster.juju.remove_unit(*leaving)
    cluster.wait_healthy(3, timeout=900)
    assert len(cluster.hashes()) == 1


def test_given_hooks_that_die_at_every_step_when_it_recovers_then_it_ends_healthy(
    cluster: Cluster,
):
    cluster.put("survives", "yes")
    survivor = cluster.leader()
    cluster.lose_all_but(survivor)
    cluster.says(survivor, "recover")
    arm(
        cluster,
        [survivor],
        ("Stop", "Prepare", "Commit", "SetAside", "Adopt", "Start", "Commit confirmed"),
    )
    cluster.run("recover", survivor, confirm=True)
    cluster.wait_healthy(1, timeout=900)
    assert cluster.get("survives") == "yes"
    assert "Adopt" not in steps.left(cluster, survivor)
