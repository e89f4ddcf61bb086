"""c, d: a file restored against the same by hand, and the memory that it and a snapshot take."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import MIB, Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNITS = 3
CONFIG = "/etc/etcd/etcd.conf.yaml"
SMALL, LARGE = 64 * MIB, 1024 * MIB
FILE = "/tmp/byhand.db"
"""Where the snapshot is, on each machine, when it is restored by hand."""
TRY = "put --dial-timeout=1s --command-timeout=1s"
"""A write that is tried again, rather than one that waits for an etcd that starts meanwhile."""


def measure() -> Iterator[Figure]:
    """Seconds of a restore at two sizes, and the peak memory at one against the other."""
    with bench.deployed(UNITS) as cluster:
        peaks: dict[int, dict[str, bench.Peak]] = {}
        filled = 0
        for size in (SMALL, LARGE):
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled)
            os.sync()  # what is still to be written would slow down who comes first
            filled = size
            figure, peaks[size] = _restoring(cluster)
            figure.name = f"restore of three members with {size // MIB} MiB"
            yield figure
        for kind in ("snapshot", "restore"):
            small, large = peaks[SMALL][kind], peaks[LARGE][kind]
            name = f"peak memory of {kind}, 1 GiB against 64 MiB"
            yield Figure(name, large.bytes / MIB, small.bytes / MIB, 1.1, "MiB")
            name = f"of etcd's own tool in that {kind}"
            yield Figure(name, large.tool / MIB, small.tool / MIB, unit="MiB")


def _restoring(cluster: Cluster) -> tuple[Figure, dict[str, bench.Peak]]:
    """Restore of three members against `etcdutl snapshot restore` by hand on all three at once."""
    leader = cluster.leader()
    with bench.Peak() as snapshot:
        taken = cluster.run("snapshot", leader, wait=600).results["snapshot"]
    os.sync()
    ours = restored(cluster, path=taken["path"])
    cluster.wait_healthy(UNITS, timeout=600)
    with bench.Peak() as restore:  # apart: to look at every process takes half a core
        restored(cluster, path=taken["path"])
    cluster.wait_healthy(UNITS, timeout=600)
    os.sync()
    with tempfile.TemporaryDirectory() as folder:
        local = f"{folder}/byhand.db"
        there = f"{leader}:/home/ubuntu/byhand.db"
        copy = f"cp {taken['path']} /home/ubuntu/byhand.db"
        cluster.shell(leader, f"{copy}; chmod 644 /home/ubuntu/byhand.db")
        hand = by_hand(
            cluster,
            lambda unit: cluster.juju.scp(local, f"{unit}:{FILE}"),
            lambda: cluster.juju.scp(there, local),
        )
    return Figure("restore", ours, hand, 1.2), {"snapshot": snapshot, "restore": restore}


def restored(cluster: Cluster, **source: str) -> float:
    """Seconds from the action until the restored cluster takes a write."""
    leader = cluster.leader()
    before = cluster.members(leader)["header"]["cluster_id"]
    with bench.stopwatch() as seconds:
        cluster.run("restore", leader, wait=600, **source)
        _until_replaced(cluster, leader, before)
        return seconds()


def _until_replaced(cluster: Cluster, unit: str, before: int) -> None:
    """Until the new cluster takes a write."""
    until = time.monotonic() + 900
    while time.monotonic() < until:
        written = cluster.etcdctl(unit, f"{TRY} bench/restored yes -w json 2>&1", ok=False)
        if '"cluster_id"' in written and f'"cluster_id":{before},' not in written:
            return
        time.sleep(0.1)
    raise TimeoutError("the restored cluster takes no writes")


def by_hand(
    cluster: Cluster, get: Callable[[str], object], first: Callable[[], object] = lambda: None
) -> float:
    """Seconds of a careful operator on all machines at once, until a write; undone afterwards.

    Args:
        cluster: whose machines, whose members' certificates.
        get: brings the snapshot to `FILE` on a unit's machine.
        first: what is done once before.
    """
    units = list(cluster.units())
    where = {unit: cluster.address(unit) for unit in units}
    initial = ",".join(f"{u.replace('/', '-')}=https://{a}:2380" for u, a in where.items())

    def restore(unit: str) -> None:
        get(unit)
        name = unit.replace("/", "-")
        cluster.shell(
            unit,
            "tool=$(command -v etcdutl || echo 'env ETCDCTL_API=3 etcdctl'); "
            f"$tool snapshot restore {FILE} --name={name} "
            f"--initial-cluster={initial} --initial-cluster-token=byhand "
            f"--initial-advertise-peer-urls=https://{where[unit]}:2380 "
            "--data-dir=/var/lib/etcd/byhand >/dev/null 2>&1 && "
            "chown -R etcd: /var/lib/etcd/byhand && systemctl stop etcd && "
            "mv /var/lib/etcd/current/etcd /var/lib/etcd/saved && "
            "mv /var/lib/etcd/byhand /var/lib/etcd/current/etcd && "
            # A plain etcd does not compare its keys at its start, which takes its time.
            f"sed -i 's/corrupt-check: true/corrupt-check: false/' {CONFIG} && "
            "systemctl start --no-block etcd",
        )

    with bench.stopwatch() as seconds:
        first()
        bench.together(restore, units)
        _until_replaced(cluster, units[0], -1)
        taken = seconds()
    bench.together(
        lambda unit: cluster.shell(
            unit,
            f"systemctl stop etcd; rm -rf /var/lib/etcd/current/etcd {FILE}; "
            "mv /var/lib/etcd/saved /var/lib/etcd/current/etcd; systemctl start --no-block etcd",
        ),
        units,
    )
    for unit in units:
        _until_replaced(cluster, unit, -1)
    cluster.wait_healthy(UNITS, timeout=600)
    return taken
