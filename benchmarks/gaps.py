"""f: the longest time without a successful write, against an election of etcd's own."""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import TYPE_CHECKING

from cluster_under_test import eventually
from load import Load

from benchmarks import bench, byhand
from benchmarks.bench import Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3
TIMES = 3
"""How often each leader is killed: a candidate waits for one to two election timeouts."""
SETTLE = 3.0
"""Seconds of writing before and after."""


def measure() -> Iterator[Figure]:
    """Seconds for a killed leader, a rolling restart and a leader that leaves."""
    with bench.deployed(UNITS) as cluster, tempfile.TemporaryDirectory() as folder:
        with byhand.founded(cluster) as hand:
            floor = bench.median([_killed_by_hand(hand) for _ in range(TIMES)])
        say(f"etcd's own election: {floor:.2f} s")
        where = next(cluster.credentials(pathlib.Path(folder)).rglob("ca.crt")).parent
        tls = bench.tls(where)
        killed = bench.median([_killed(cluster, tls) for _ in range(TIMES)])
        yield Figure("longest gap between writes when the leader is killed", killed, floor, 1.2)
        for name, work in (("a rolling restart", _restarted), ("the leader leaves", _shrunk)):
            ours = _gap(_urls(cluster), tls, lambda work=work: work(cluster))
            yield Figure(f"longest gap between writes when {name}", ours, floor, 1.2)


def _gap(urls: Sequence[str], tls: pem_files.TLSFiles, work: Callable[[], object]) -> float:
    """Longest time between two acknowledged writes of any client while `work` is done."""
    with Load(urls, tls) as load:
        eventually(lambda: load.times)
        time.sleep(SETTLE)
        began = time.monotonic()
        work()
        last = time.monotonic()
        eventually(lambda: load.times[-1] > last + SETTLE)
    return load.longest_gap(began)


def _urls(cluster: Cluster) -> list[str]:
    return [f"https://{unit.public_address}:2379" for unit in cluster.units().values()]


def _killed_by_hand(hand: byhand.ByHand) -> float:
    leader = hand.leader()
    urls = [f"https://{address}:{byhand.CLIENT}" for address in hand.addresses]
    gap = _gap(urls, hand.tls, lambda: hand.cluster.shell(leader, "systemctl kill -s KILL byhand"))
    hand.wait()
    return gap


def _killed(cluster: Cluster, tls: pem_files.TLSFiles) -> float:
    leader = _raft_leader(cluster)
    gap = _gap(_urls(cluster), tls, lambda: cluster.shell(leader, "systemctl kill -s KILL etcd"))
    cluster.wait_healthy(UNITS)
    return gap


def _restarted(cluster: Cluster) -> None:
    """Every member restarts for a new option."""
    started = "systemctl show etcd --property=ExecMainStartTimestampMonotonic --value"
    before = {unit: cluster.shell(unit, started) for unit in cluster.units()}
    cluster.juju.config(cluster.app, {"quota-backend-bytes": 4 * 1024**3})
    eventually(
        lambda: all(cluster.shell(unit, started) != text for unit, text in before.items()),
        timeout=300,
    )
    cluster.wait_healthy(UNITS)


def _shrunk(cluster: Cluster) -> None:
    """The unit of the raft leader is removed."""
    cluster.juju.remove_unit(_raft_leader(cluster))
    cluster.wait_healthy(UNITS - 1)


def _raft_leader(cluster: Cluster) -> str:
    asked = cluster.leader()
    leader = cluster.statuses(asked)[0]["Status"]["leader"]
    members = cluster.members(asked)["members"]
    return next(m["name"] for m in members if m["ID"] == leader).replace("-", "/")
