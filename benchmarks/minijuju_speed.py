"""k, l: a hook tool's call and a machine that comes up, against a bare fork and a bare boot."""

from __future__ import annotations

import pathlib
import secrets
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks import ROOT, bench
from benchmarks.bench import Figure
from minijuju.machines import image
from minijuju.testing import packing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jubilant

CALLS, BOOTS = 50, 5
CALL_GOAL, BOOT_GOAL = 10, 4
"""Ratios: about 15 ms for a call and 2 s for a machine, where a fork takes 1.5 ms and a boot half
a second."""
BOOT_SECONDS = 60

_CALLS = """python3 -c '
import statistics, subprocess, time
for words in (["is-leader", "--format=json"], ["true"]):
    taken = []
    for _ in range({calls}):
        began = time.monotonic()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.monotonic() - began)
    print(statistics.median(taken) * 1000)
'"""

_GROUPS = "mount -t cgroup2 cgroup2 /sys/fs/cgroup; group=/sys/fs/cgroup/$1; "
_BOOT = """\
mkdir "$group"; echo $$ >"$group/cgroup.procs"
exec systemd-nspawn --boot --register=no --keep-unit --settings=no --private-network \\
    --volatile=overlay --console=read-only --machine="$1" --directory="$0"
"""
_TIDY = 'find "$group" -depth -type d -exec rmdir {} +'


def measure() -> Iterator[Figure]:
    """Medians of both, on one otherwise idle machine."""
    with bench.model() as juju, tempfile.TemporaryDirectory() as folder:
        probe = packing.pack(ROOT / "minijuju" / "charms" / "probe", pathlib.Path(folder))
        juju.deploy(probe, "probe")
        juju.wait(
            lambda status: status.apps["probe"].units["probe/0"].juju_status.current == "idle"
        )
        told = juju.exec(_CALLS.format(calls=CALLS), unit="probe/0").stdout.split()
        call, fork = (float(each) for each in told)
        yield Figure("one call of a hook tool", call, fork, CALL_GOAL, "ms")
        added = bench.median([_added(juju) for _ in range(BOOTS)])
    bare = bench.median([_booted() for _ in range(BOOTS)])
    yield Figure("a machine that comes up", added, bare, BOOT_GOAL)


def _added(juju: jubilant.Juju) -> float:
    """Seconds from `add-machine` until its agent is there."""
    known = set(juju.status().machines)
    with bench.stopwatch() as seconds:
        juju.cli("add-machine")
        while True:
            machines = juju.status().machines
            if [
                each
                for name, each in machines.items()
                if name not in known and each.juju_status.current == "started"
            ]:
                return seconds()
            time.sleep(0.02)


def _booted() -> float:
    """Seconds from systemd-nspawn's start until the system in the same image is up."""
    group = f"bench-{secrets.token_hex(4)}"
    apart = ["unshare", "--mount", "sh", "-euc"]
    words = [*apart, _GROUPS + _BOOT, str(image.ensure()), group]
    with bench.stopwatch() as seconds:
        boot = subprocess.Popen(
            ["timeout", str(BOOT_SECONDS), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert boot.stdout
        for line in boot.stdout:
            if b"Reached" in line and b"multi-user.target" in line:
                taken = seconds()
                break
        else:
            raise TimeoutError("the bare machine does not come up")
    boot.terminate()
    boot.communicate(timeout=BOOT_SECONDS)
    subprocess.run([*apart, _GROUPS + _TIDY, "sh", group], check=True, timeout=BOOT_SECONDS)
    return taken
