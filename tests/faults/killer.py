"""Kills the charm's process at step boundaries; a `.pth` in a unit's venv imports it.

`/run/etcd-crash` holds one boundary a line, `before AddLearner` or `after AddLearner`. Each is
taken out and kills the process once.
"""

import builtins
import os
import pathlib
import signal

PLAN = pathlib.Path("/run/etcd-crash")
_import = builtins.__import__


def _boundary(name: str) -> None:
    try:
        left = PLAN.read_text().splitlines()
    except OSError:
        return
    if name in left:
        left.remove(name)
        PLAN.write_text("\n".join(left))
        os.kill(os.getpid(), signal.SIGKILL)


def _patched(name, *arguments, **options):
    module = _import(name, *arguments, **options)
    step = getattr(module, "_do_one", None) if name == "act" else None
    if step is not None and not hasattr(step, "killer"):

        def dangerous(node, wanted):
            _boundary(f"before {type(wanted).__name__}")
            step(node, wanted)
            _boundary(f"after {type(wanted).__name__}")

        dangerous.killer = True
        module._do_one = dangerous
    return module


builtins.__import__ = _patched
