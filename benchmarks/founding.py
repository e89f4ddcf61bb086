"""a: `deploy -n 3` to healthy, against a static bootstrap by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import bench, byhand
from benchmarks.bench import Cluster, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3


def measure() -> Iterator[Figure]:
    """Seconds from the deployment to health, less boot and packages."""
    with bench.model() as juju:
        began = time.time()
        juju.deploy(bench.charm(), "etcd", num_units=UNITS)
        cluster = Cluster(juju)
        cluster.wait_healthy(UNITS)
        healthy = time.time()
        ours = healthy - max(bench.installed(cluster, unit, began) for unit in cluster.units())
        bench.say(f"deployed in {healthy - began:.1f} s, {ours:.1f} s of them after the packages")
        with byhand.founded(cluster) as hand:
            yield Figure("deploy -n 3 to healthy", ours, hand.seconds, 2)
