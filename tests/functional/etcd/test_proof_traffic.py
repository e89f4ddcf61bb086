"""The proof suite's traffic against real etcd: what it records, and how it gets over failures."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from proof import records
from proof.traffic import clients, run, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 12


def peers(cluster) -> list[clients.Peer]:
    return [
        clients.Peer(f"etcd/{number}", node.client_url.removeprefix("https://"))
        for number, node in enumerate(cluster.nodes)
    ]


@pytest.fixture
def traffic(cluster) -> Iterator[run.Traffic]:
    cluster.found(3)
    tls = cluster.tls
    pem = (path.read_bytes() for path in (tls.ca, tls.cert, tls.key))
    one = run.Traffic(wire.Credentials(*pem))
    one.start(peers(cluster))
    yield one
    one.stop()


def test_given_members_when_asked_then_all_kinds_of_operations_are_answered_and_recorded(traffic):
    time.sleep(SECONDS)
    history = traffic.stop()
    rate = len(history.operations) / SECONDS
    assert 25 < rate < 70, rate
    answered = {o.kind for o in history.operations if o.outcome is records.Outcome.OK}
    assert answered == set(records.Kind)
    bad = [o for o in history.operations if o.outcome is not records.Outcome.OK]
    # etcd refuses a request that came in before a user was written, and that it looks at later.
    assert [o for o in bad if "revision of auth store is old" not in o.error] == []
    assert {p.unit for p in history.probes if p.answered} == {"etcd/0", "etcd/1", "etcd/2"}
    events = {
        name: [e.kv.mod_revision for r in history.responses if r.watcher == name for e in r.events]
        for name in ("watch0", "watch1", "watch2", "watch-all")
    }
    written = [
        o.header.revision
        for o in history.operations
        if o.kind is records.Kind.PUT and o.outcome is records.Outcome.OK and o.header
    ]
    for seen in events.values():
        assert max(written) == max(seen)
    assert any(r.progress for r in history.responses)


def test_given_a_member_that_dies_when_it_is_back_then_its_watcher_resumes_where_it_was(
    traffic, cluster
):
    time.sleep(3)
    victim = cluster.nodes[2]
    victim.stop(signal.SIGKILL)
    time.sleep(3)
    victim.start()
    until = time.monotonic() + 20
    while not any(
        isinstance(r, records.WatchResponse) and r.watcher == "watch2" and r.asked and r.events
        for r in list(traffic.records)
    ):
        assert time.monotonic() < until
        time.sleep(0.2)
    history = traffic.stop()
    seen = [
        (e.kv.mod_revision, e.kv.key)
        for r in history.responses
        if r.watcher == "watch2"
        for e in r.events
    ]
    assert len(seen) == len(set(seen))
    whole = {
        (e.kv.mod_revision, e.kv.key)
        for r in history.responses
        if r.watcher == "watch0"
        for e in r.events
    }
    assert {pair for pair in whole if pair[0] >= seen[0][0]} == set(seen)
    assert any(r.broken for r in history.responses if r.watcher == "watch2")
    refused = [o for o in history.operations if o.pinned == "etcd/2" and o.error]
    assert refused
    failed = [o for o in history.operations if not o.pinned and o.error]
    assert len(failed) < 30
