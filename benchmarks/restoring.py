"""c, d: a restore against the same by hand, and the memory that it and a snapshot take."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import MIB, Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3
CONFIG = "/etc/etcd/etcd.conf.yaml"
SMALL, LARGE = 64 * MIB, 1024 * MIB


def measure() -> Iterator[Figure]:
    """Seconds of a restore at two sizes, and the peak memory at one against the other."""
    with bench.deployed(UNITS) as cluster:
        peaks: dict[int, dict[str, bench.Peak]] = {}
        filled = 0
        for size in (SMALL, LARGE):
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled)
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
    before = cluster.members(leader)["header"]["cluster_id"]
    with bench.stopwatch() as seconds, bench.Peak() as restore:
        cluster.run("restore", leader, wait=600, path=taken["path"])
        _until_replaced(cluster, leader, before)
        ours = seconds()
    cluster.wait_healthy(UNITS, timeout=600)
    by_hand = _restore_by_hand(cluster, taken["path"])
    return Figure("restore", ours, by_hand, 1.2), {"snapshot": snapshot, "restore": restore}


def _until_replaced(cluster: Cluster, unit: str, before: int) -> None:
    """Until the new cluster takes a write."""
    until = time.monotonic() + 900
    while time.monotonic() < until:
        written = cluster.etcdctl(unit, "put bench/restored yes -w json 2>&1", ok=False)
        if '"cluster_id"' in written and f'"cluster_id":{before},' not in written:
            return
        time.sleep(0.1)
    raise TimeoutError("the restored cluster takes no writes")


def _restore_by_hand(cluster: Cluster, path: str) -> float:
    """Copy the file to the others, restore on all three, start them, write: a careful operator."""
    units = list(cluster.units())
    where = {unit: cluster.address(unit) for unit in units}
    initial = ",".join(f"{u.replace('/', '-')}=https://{a}:2380" for u, a in where.items())
    with tempfile.TemporaryDirectory() as folder:
        cluster.shell(
            cluster.leader(), f"cp {path} /home/ubuntu/byhand.db; chmod 644 /home/ubuntu/byhand.db"
        )
        with bench.stopwatch() as seconds:
            local = f"{folder}/byhand.db"
            cluster.juju.scp(f"{cluster.leader()}:/home/ubuntu/byhand.db", local)

            def restore(unit: str) -> None:
                name = unit.replace("/", "-")
                cluster.juju.scp(local, f"{unit}:/tmp/byhand.db")
                cluster.shell(
                    unit,
                    "tool=$(command -v etcdutl || echo 'env ETCDCTL_API=3 etcdctl'); "
                    f"$tool snapshot restore /tmp/byhand.db --name={name} "
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

            bench.together(restore, units)
            _until_replaced(cluster, units[0], -1)
            taken = seconds()
    bench.together(
        lambda unit: cluster.shell(
            unit,
            "systemctl stop etcd; rm -rf /var/lib/etcd/current/etcd /tmp/byhand.db; "
            "mv /var/lib/etcd/saved /var/lib/etcd/current/etcd; systemctl start --no-block etcd",
        ),
        units,
    )
    for unit in units:
        _until_replaced(cluster, unit, -1)
    cluster.wait_healthy(UNITS, timeout=600)
    return taken
