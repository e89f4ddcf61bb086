"""g: how many hooks run while a cluster grows from one member to nine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Iterator

HALF, FULL = 5, 9


def measure() -> Iterator[Figure]:
    """Hooks of all units and of each, wake-ups by the charm itself among them."""
    with bench.deployed(1) as cluster:
        cluster.juju.model_config({"logging-config": "<root>=INFO;unit=DEBUG"})
        first = _grown(cluster, HALF)
        second = _grown(cluster, FULL)
        yield Figure(f"hooks of all units from 1 to {FULL} members", first + second, unit="hooks")
        yield Figure(
            f"hooks of each unit for one more member, {HALF} to {FULL} against 1 to {HALF}",
            second / (FULL - HALF) / FULL,
            first / (HALF - 1) / HALF,
            1,
            "hooks",
        )


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
    """Hooks that ran so far: ops writes a line for each."""
    lines = cluster.juju.debug_log(limit=0).splitlines()
    return sum("Emitting Juju event" in line for line in lines)
