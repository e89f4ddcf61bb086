"""a: `deploy -n 3` to healthy, against a static bootstrap by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jubilant

from benchmarks import bench, byhand
from benchmarks.bench import Cluster, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS, TIMES = 3, 3


def measure() -> Iterator[Figure]:
    """Seconds from the deployment to health, less boot and packages: the middle one of three.

    Healthy is when every unit has said so; hooks may be left to run.
    """
    healthy, rest, hand = zip(*(_founded() for _ in range(TIMES)), strict=True)
    yield Figure("deploy -n 3 to healthy", bench.median(healthy), bench.median(hand), 2)
    yield Figure("deploy -n 3 until no hook is left", bench.median(rest))


def _founded() -> tuple[float, float, float]:
    """Seconds from the packages to health and to the last hook, and those by hand."""
    with bench.model() as juju:
        began = time.time()
        juju.deploy(bench.charm(), "etcd", num_units=UNITS)
        cluster = Cluster(juju)
        bench.await_words(cluster, UNITS)
        juju.wait(jubilant.all_agents_idle, delay=3, successes=1)
        cluster.agree(UNITS)
        words, units = f"Healthy with {UNITS} known peers", list(cluster.units())
        healthy = max(bench.told(cluster, unit, words, began) for unit in units)
        rest = max(bench.rested(cluster, unit, began) for unit in units)
        installed = max(bench.installed(cluster, unit) for unit in units)
        bench.say(f"deployed in {healthy - began:.1f} s")
        with byhand.founded(cluster) as hand:
            taken = healthy - installed, rest - installed, hand.seconds
        bench.say(f"{taken[0]:.2f} s from the packages to health, {taken[2]:.2f} s by hand")
        return taken
