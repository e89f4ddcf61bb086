"""Stops the charm's process at step boundaries; a `.pth` in a unit's venv imports it there.

`/run/etcd-boundaries` holds one order a line: `kill before Adopt`, `hold after Commit confirmed`.
A process that comes to that boundary dies of it once, or writes it to `/run/etcd-held` and stays
for as long as the line does.
"""

import builtins
import os
import pathlib
import signal
import time

ORDERS = pathlib.Path("/run/etcd-boundaries")
HELD = pathlib.Path("/run/etcd-held")
_import = builtins.__import__


def _orders() -> list[str]:
    try:
        return ORDERS.read_text().splitlines()
    except OSError:
        return []


def _boundary(name: str) -> None:
    if f"kill {name}" in (left := _orders()):
        left.remove(f"kill {name}")
        ORDERS.write_text("\n".join(left))
        os.kill(os.getpid(), signal.SIGKILL)
    while f"hold {name}" in _orders():
        HELD.write_text(name)
        time.sleep(0.05)


def _name(step) -> str:
    confirmed = getattr(getattr(step, "generation", None), "confirmed", False)
    kind = type(step).__name__
    return f"{kind} confirmed" if kind == "Commit" and confirmed else kind


def _patched(name, *arguments, **options):
    module = _import(name, *arguments, **options)
    step = getattr(module, "_do_one", None) if name == "act" else None
    if step is not None and not hasattr(step, "bounded"):

        def bounded(node, wanted):
            _boundary(f"before {_name(wanted)}")
            step(node, wanted)
            _boundary(f"after {_name(wanted)}")

        bounded.bounded = True
        module._do_one = bounded
    return module


builtins.__import__ = _patched
