"""A hook is a new process: what makes its start short.

Called by `charm.py` before and after its imports; without it all the same runs, only slower.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Imported by most hooks and used by few, or not by a tick: each runs at the first look into it.
# `import module` looks into it at once: only a package's modules can be put off.
LATER = (
    "backup.catalog",
    "backup.operations",
    "backup.rclone",
    "backup.remote_choice",
    "backup.schedule",
    "cluster.generation",
    "cluster.queries",
    "cluster.status",
    "cluster.steps",
    "tls.authority",
    "tls.certificate",
    "tls.csr",
    "tls.store",
)

# What Juju runs a hook for, and this charm does nothing at: what comes with it is told again by
# `cluster-relation-changed`.
UNUSED = ("hooks/cluster-relation-joined", "hooks/leader-settings-changed")
_NICE = 5


def unused(environment: Mapping[str, str]) -> bool:
    """Whether this hook is one of those, and over before anything is imported for it."""
    return environment.get("JUJU_DISPATCH_PATH") in UNUSED


def begin() -> None:
    """Before the imports: look for no garbage while so much is made, and put off what can wait.

    Etcd goes first on its machine: a hook can wait for the processor, a heartbeat cannot.
    """
    gc.disable()
    os.nice(_NICE)
    for name in LATER:
        _put_off(name)


def ready() -> None:
    """After the imports: what was made stays, and is not looked through again."""
    gc.freeze()
    gc.enable()


def _put_off(name: str) -> None:
    """Let `from package import module` find a module that runs at the first look into it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    package, _, last = name.rpartition(".")
    setattr(sys.modules[package], last, module)
