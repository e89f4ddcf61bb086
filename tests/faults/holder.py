"""Holds the charm's process at step boundaries; a `.pth` in a unit's venv imports it.

`/run/etcd-hold` holds one boundary a line, `before Adopt` or `after Commit confirmed`. A process
that comes to one writes it to `/run/etcd-held` and stays there for as long as the line does.
"""

import builtins
import pathlib
import time

PLAN = pathlib.Path("/run/etcd-hold")
HELD = pathlib.Path("/run/etcd-held")
_import = builtins.__import__


def _wanted(name: str) -> bool:
    try:
        return name in PLAN.read_text().splitlines()
    except OSError:
        return False


def _boundary(name: str) -> None:
    if _wanted(name):
        HELD.write_text(name)
        while _wanted(name):
            time.sleep(0.05)


def _name(step) -> str:
    confirmed = getattr(getattr(step, "generation", None), "confirmed", False)
    kind = type(step).__name__
    return f"{kind} confirmed" if kind == "Commit" and confirmed else kind


def _patched(name, *arguments, **options):
    module = _import(name, *arguments, **options)
    step = getattr(module, "_do_one", None) if name == "act" else None
    if step is not None and not hasattr(step, "holder"):

        def slow(node, wanted):
            _boundary(f"before {_name(wanted)}")
            step(node, wanted)
            _boundary(f"after {_name(wanted)}")

        slow.holder = True
        module._do_one = slow
    return module


builtins.__import__ = _patched
