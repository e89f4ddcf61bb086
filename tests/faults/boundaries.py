"""Stops the charm's process at step boundaries; a `.pth` in a unit's venv imports it there.

`/run/etcd-boundaries` holds one order a line: `kill before Adopt`, `hold after Commit confirmed`.
A process that comes to that boundary dies of it once, or writes it to `/run/etcd-held` and stays
for as long as the line does.
"""

import importlib.machinery
import os
import pathlib
import signal
import sys
import time

ORDERS = pathlib.Path("/run/etcd-boundaries")
HELD = pathlib.Path("/run/etcd-held")
LOOP = "hook.reconcile"


def _orders() -> list[str]:
    try:
        return ORDERS.read_text().splitlines()
    except OSError:
        return []


def _boundary(moment: str, step) -> None:
    """`hook.reconcile.boundary`, which comes before and after each step."""
    confirmed = getattr(getattr(step, "generation", None), "confirmed", False)
    kind = type(step).__name__
    name = f"{moment} {kind} confirmed" if kind == "Commit" and confirmed else f"{moment} {kind}"
    if f"kill {name}" in (left := _orders()):
        left.remove(f"kill {name}")
        ORDERS.write_text("\n".join(left))
        os.kill(os.getpid(), signal.SIGKILL)
    while f"hold {name}" in _orders():
        HELD.write_text(name)
        time.sleep(0.05)


class _Seam:
    """Puts the boundary in place as soon as the loop is imported, if it is in this process."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != LOOP:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def loaded(module) -> None:
            load(module)
            module.boundary = _boundary

        spec.loader.exec_module = loaded
        return spec


sys.meta_path.insert(0, _Seam)
