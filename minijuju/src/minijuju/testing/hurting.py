"""Hurt machines: by minijuju, or by the command of the cloud that a real controller has."""

from __future__ import annotations

import functools
import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jubilant

LXC = {
    "kill": ("stop", "--force"),
    "start": ("start",),
    "pause": ("pause",),
    "resume": ("start",),
    "reboot": ("restart",),
}
"""What LXD has for minijuju's chaos; it can neither cut a machine off nor fill its disk."""


@functools.cache
def on_minijuju() -> bool:
    """Whether the `juju` on PATH is minijuju."""
    command = ["juju", "version", "--all", "--format", "json"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(told.stdout).get("git-commit") == "minijuju"


def hurt(juju: jubilant.Juju, verb: str, *machines: str) -> None:
    """Kill, start, pause, resume or reboot machines, given by their numbers."""
    if on_minijuju():
        juju.cli("chaos", verb, *machines)
        return
    known = juju.status().machines
    instances = [known[machine].instance_id for machine in machines]
    subprocess.run(["lxc", *LXC[verb], *instances], check=True, timeout=120)
