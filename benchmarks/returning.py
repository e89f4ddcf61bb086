"""i, j: three members restored from S3 against the same by hand, and every disk lost."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import bucket

from benchmarks import bench, restoring
from benchmarks.bench import MIB, Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jubilant

UNITS = 3
GOALS = {64 * MIB: None, 1024 * MIB: 1.2}
"""Sizes, and what is promised of the restore there."""
_ASK = 900.0  # seconds at most until a write is taken


def measure() -> Iterator[Figure]:
    """Seconds from the order, or from the loss, to the first write that is acknowledged."""
    with bench.model() as juju:
        cluster, address = _deployed(juju)
        filled = 0
        for size, goal in GOALS.items():
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled, packs=False)
            filled = size
            made = cluster.run("create-backup", wait=600).results["backup"]["id"]
            cluster.run("verify-backup", wait=600, backup_id=made)
            ours = restoring.restored(cluster, backup_id=made)
            cluster.wait_healthy(UNITS, timeout=600)
            hand = _by_hand(cluster, address, made)
            yield Figure(f"restore of three members from S3, {size // MIB} MiB", ours, hand, goal)
            yield Figure(f"loss of every machine to a write, {size // MIB} MiB", _lost(cluster))


def _deployed(juju: jubilant.Juju) -> tuple[Cluster, str]:
    """Units that may found themselves from a backup, and the address of the store."""
    _, address = bucket.serve(juju)
    say(f"deploying {UNITS} units")
    config = {"backup-interval": "0", "recover-total-loss": True}
    juju.deploy(bench.charm(), "etcd", num_units=UNITS, config=config)
    bucket.use(juju, address)
    cluster = Cluster(juju)
    cluster.wait_healthy(UNITS, timeout=600)
    return cluster, address


def _by_hand(cluster: Cluster, address: str, made: str) -> float:
    """The same file, fetched by each machine for itself."""
    leader = cluster.leader()
    folder = json.loads(cluster.shell(leader, "cat /etc/etcd/keeper.json"))["folder"]
    source = f"vault:backups/{folder}/snapshots/{made}.db"
    config = bucket.CONFIG.format(address=address, port=bucket.PORT)
    for unit in cluster.units():
        cluster.shell(unit, f"echo '{config}' >/root/byhand.conf")
    return restoring.by_hand(
        cluster,
        lambda unit: cluster.shell(
            unit, f"rclone --config=/root/byhand.conf copyto {source} {restoring.FILE}"
        ),
    )


def _lost(cluster: Cluster) -> float:
    """Seconds from the loss of every machine until the new ones take a write."""
    with bench.stopwatch() as seconds:
        cluster.lose_every_machine()
        say("every machine was lost")
        while seconds() < _ASK:
            for unit in cluster.units():
                written = cluster.etcdctl(
                    unit, f"{restoring.TRY} bench/returned yes 2>&1", ok=False
                )
                if written.strip() == "OK":
                    taken = seconds()
                    cluster.wait_healthy(UNITS, timeout=600)
                    return taken
            time.sleep(0.2)
    raise TimeoutError("the new machines take no writes")
