"""g: how many hooks run while a cluster grows from one member to nine."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Iterator

HALF, FULL = 5, 9


def measure() -> Iterator[Figure]:
    """Hooks of all units, and of each that is there already, wake-ups by the charm among them.

    Juju runs two hooks on each side of every pair of units, so that a unit costs each that is
    there already the same: the cluster grows linearly when the charm adds no more than that.
    """
    with bench.deployed(1) as cluster:
        cluster.juju.model_config({"logging-config": "<root>=INFO;unit=DEBUG"})
        first = _grown(cluster, HALF)
        second = _grown(cluster, FULL)
        by_juju = _by_juju(1, HALF) + _by_juju(HALF, FULL)
        yield Figure(
            f"hooks of all units from 1 to {FULL} members, against Juju's own",
            first + second,
            by_juju,
            unit="hooks",
        )
        yield Figure(
            f"hooks for one more member, by units already there, {HALF} to {FULL} against 1 to "
            f"{HALF}",
            second / _pairs(HALF, FULL),
            first / _pairs(1, HALF),
            1,
            "hooks",
        )


def _pairs(before: int, after: int) -> int:
    """Sum over the units that came of the units that were there already."""
    return sum(range(before, after))


def _by_juju(before: int, after: int) -> int:
    """Hooks that Juju 3.6 runs whatever a charm does: five of each new unit, four of each pair.

    `install`, `cluster-relation-created`, `leader-settings-changed`, `config-changed` and `start`;
    `cluster-relation-joined` and `-changed` on both sides.
    """
    return 5 * (after - before) + 4 * _pairs(before, after)


def _grown(cluster: Cluster, units: int) -> int:
    """Hooks that ran until the cluster is healthy with so many units."""
    before = _hooks(cluster)
    with bench.stopwatch() as seconds:
        cluster.juju.add_unit(cluster.app, num_units=units - len(cluster.units()))
        cluster.wait_healthy(units, timeout=900)
        say(f"{units} members after {seconds():.0f} s")
    time.sleep(5)
    return _hooks(cluster) - before


def _hooks(cluster: Cluster) -> int:
    """Hooks that Juju ran so far, and those with which the charm woke itself."""
    said = cluster.juju.debug_log(limit=0)
    ticks = len(re.findall(r'ran "update-status" hook', said))
    woken = len(re.findall(r"Emitting Juju event update_status", said)) - ticks
    return len(re.findall(r'ran "\S+" hook', said)) + max(woken, 0)
