"""The proof suite's judge over what clients of a real etcd record."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from cluster import revisions
from etcd import config as etcd_config
from etcd import service
from etcd import snapshot as snapshots
from proof import judge, records
from proof.traffic import clients, run, wire

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "unit" / "proof"))

import altered

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT = {
    judge.Verdict.RECORDS,  # there are no machines here,
    judge.Verdict.ADVICE,  # no statuses, and not enough time
}
"""Lies that these histories have no room for."""


def peers(cluster) -> list[clients.Peer]:
    return [
        clients.Peer(f"etcd/{number}", node.client_url.removeprefix("https://"))
        for number, node in enumerate(cluster.nodes)
    ]


@pytest.fixture
def traffic(cluster) -> Iterator[run.Traffic]:
    cluster.found(3)
    tls = cluster.tls
    one = run.Traffic(wire.Credentials(*(p.read_bytes() for p in (tls.ca, tls.cert, tls.key))))
    one.start(peers(cluster))
    yield one
    one.stop()


def hurt(cluster, member: int, seconds: float) -> None:
    """Kill a member, and stop another for a while after the first one is back."""
    victim, other = cluster.nodes[member], cluster.nodes[(member + 1) % 3]
    victim.stop(signal.SIGKILL)
    time.sleep(seconds)
    victim.start()
    time.sleep(seconds)
    other.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    other.process.send_signal(signal.SIGCONT)
    time.sleep(seconds)


def replace(cluster, traffic, path: pathlib.Path) -> None:
    """Restore a snapshot on all members, as the charm does."""
    cluster.client().snapshot(path)
    info = snapshots.verify(path)
    time.sleep(2)
    live = cluster.client().revision()
    traffic.record(
        records.Announcement(
            at=time.monotonic(), action="restore", revision=info.revision, lost=info.revision
        )
    )
    for node in cluster.nodes:
        node.stop(signal.SIGKILL)
    listed = ",".join(f"{n.name}={n.peer_url}" for n in cluster.nodes)
    for node in cluster.nodes:
        node.data_dir.rename(node.folder / "kept")
        snapshots.restore(
            path, node.data_dir, node.name, listed, f"t-{path.stem}", node.peer_url,
            bump=revisions.begin(snapshot=info.revision, live=live) - info.revision,
        )  # fmt: skip
    for node in cluster.nodes:
        node.start(initial_cluster=listed, token=f"t-{path.stem}", initial=etcd_config.Initial.NEW)
    cluster.await_healthy()


def own_faults() -> set[judge.Verdict]:
    """What the etcd under test is known to break by itself."""
    if service.version() < (3, 4, 25):  # asked for progress, it told of events still on their way
        return {judge.Verdict.WATCH_BOOKMARK}
    return set()


def test_given_real_faults_and_a_restore_when_judged_then_only_lies_are_found(
    traffic, cluster, tmp_path
) -> None:
    hurt(cluster, 0, 3.0)
    replace(cluster, traffic, tmp_path / "snapshot.db")
    hurt(cluster, 1, 3.0)
    history = traffic.stop()
    found = [f for f in judge.judge(history).findings if f.verdict not in own_faults()]
    assert found == []
    clusters = {o.header.cluster_id for o in history.operations if o.header}
    assert len(clusters) == 2
    for name, (alter, verdict) in altered.ALL.items():
        other = alter(history) if verdict not in SILENT else None
        if other is not None:
            assert verdict in {f.verdict for f in judge.judge(other).findings}, name
    silent = dataclasses.replace(history, announcements=())
    assert judge.Verdict.LOST in {f.verdict for f in judge.judge(silent).findings}
