"""Orders to a unit's hooks to die or to stay at the boundaries of a plan's steps."""

from __future__ import annotations

import pathlib
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster_under_test import Cluster

_SCRIPT = pathlib.Path(__file__).with_name("boundaries.py")
_ORDERS, _HELD = "/run/etcd-boundaries", "/run/etcd-held"


def order(cluster: Cluster, unit: str, orders: Iterable[str]) -> None:
    """Give a unit these orders instead of all before: `kill after Start`, `hold before Commit`."""
    cluster.juju.scp(str(_SCRIPT), f"{unit}:/tmp/boundaries.py")
    lines = shlex.quote("\n".join(orders))
    cluster.shell(
        unit,
        f"echo {lines} > {_ORDERS}; rm -f {_HELD}; for d in {_packages(unit)}; "
        "do cp /tmp/boundaries.py $d/; echo import boundaries > $d/boundaries.pth; done",
    )


def installed(cluster: Cluster, unit: str) -> bool:
    """Whether the charm is on the unit's machine, to be given orders."""
    return "ops" in cluster.shell(unit, f"ls {_packages(unit)}", ok=False).split()


def _packages(unit: str) -> str:
    return (
        f"/var/lib/juju/agents/unit-{unit.replace('/', '-')}/charm/venv/lib/python3*/site-packages"
    )


def left(cluster: Cluster, unit: str) -> str:
    """The orders that have killed nobody yet, and those that still hold."""
    return cluster.shell(unit, f"cat {_ORDERS} 2>/dev/null || true")


def is_held(cluster: Cluster, unit: str, boundary: str) -> bool:
    """Whether a hook of the unit stays at this boundary."""
    return boundary in cluster.shell(unit, f"cat {_HELD} 2>/dev/null || true")


def release(cluster: Cluster, unit: str) -> None:
    """Let the unit's hooks go on."""
    cluster.shell(unit, f"rm -f {_ORDERS}")
