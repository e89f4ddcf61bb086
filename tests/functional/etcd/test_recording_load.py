"""The load of the integration tests: it holds etcd to its word, and tells when that was broken."""

from __future__ import annotations

import signal
import time

import pytest

from integration.charm import load


@pytest.fixture
def writing(cluster):
    cluster.found(3)
    with load.Load([node.client_url for node in cluster.nodes], cluster.tls, rate=100) as running:
        yield running


def until(running: load.Load, writes: int) -> None:
    limit = time.monotonic() + 30
    while len(running.writes) < writes:
        assert time.monotonic() < limit, f"{len(running.writes)} writes in 30 s"
        time.sleep(0.05)


def test_given_a_leader_that_is_killed_when_the_load_ends_then_nothing_is_missing(
    cluster, writing
):
    until(writing, 100)
    leader = cluster.client().leader()
    victim = next(
        n for n in cluster.nodes if cluster.client(n).status(n.client_url).member_id == leader
    )
    victim.stop(signal.SIGKILL)
    until(writing, len(writing.writes) + 800)
    writing.stop()
    left = [n.client_url for n in cluster.nodes if n is not victim]
    assert writing.missing(left) == []
    kinds = {write.value is None for write in writing.writes}
    assert kinds == {True, False}


def test_given_a_write_that_was_lost_when_the_load_ends_then_it_is_named(cluster, writing):
    until(writing, 100)
    writing.stop()
    kept = next(w for w in reversed(writing.writes) if w.value is not None)
    cluster.client().delete(kept.key)
    assert [words.split(":")[0] for words in writing.missing()] == [kept.key]


def test_given_an_announced_loss_when_it_is_another_than_that_then_it_is_told(cluster, writing):
    until(writing, 100)
    writing.stop()
    made = sorted(writing.writes)
    assert writing.survived(made[50].revision) == made[-1].revision
    assert writing.lost(made[50].revision) == len(made) - 51
    cluster.client().delete(next(w.key for w in made[:50] if w.value is not None))
    assert writing.survived(made[50].revision) == 0


def test_given_a_key_that_another_wrote_when_a_client_compares_then_it_is_named(cluster, writing):
    until(writing, 100)
    key = writing.writes[-1].key
    limit = time.monotonic() + 20
    while not writing.refused and time.monotonic() < limit:
        cluster.client().put(key, "foreign")
        time.sleep(0.05)
    writing.stop()
    assert writing.refused and key in writing.refused[0]
