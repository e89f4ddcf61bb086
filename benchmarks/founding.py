"""a: `deploy -n 3` to healthy, against a static bootstrap by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks import bench, byhand
from benchmarks.bench import Cluster, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jubilant

UNITS = 3


def measure() -> Iterator[Figure]:
    """Seconds from the deployment to health, less boot and packages.

    Healthy is when every unit has said so and every member agrees; hooks may be left to run.
    """
    with bench.model() as juju:
        began = time.time()
        juju.deploy(bench.charm(), "etcd", num_units=UNITS)
        cluster = Cluster(juju)
        juju.wait(lambda status: _healthy(cluster, status), delay=0.2, successes=1)
        healthy = time.time()
        cluster.agree(UNITS)
        cluster.wait_healthy(UNITS)
        rest = time.time()
        installed = max(bench.installed(cluster, unit, began) for unit in cluster.units())
        bench.say(f"deployed in {healthy - began:.1f} s")
        with byhand.founded(cluster) as hand:
            yield Figure("deploy -n 3 to healthy", healthy - installed, hand.seconds, 2)
        yield Figure("deploy -n 3 until no hook is left", rest - installed)


def _healthy(cluster: Cluster, status: jubilant.Status) -> bool:
    units = status.apps[cluster.app].units.values()
    said = [unit.workload_status.message for unit in units]
    return said == [f"Healthy with {UNITS} known peers"] * UNITS
