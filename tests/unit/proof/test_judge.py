"""The judge accuses no true history, and lets no altered one pass."""

from __future__ import annotations

import collections
import functools

import altered
import hypothesis
import pytest
import simulated
from hypothesis import strategies

from proof import judge, records
from proof.judge import Verdict

CHANGES = (
    (),
    ("restore",),
    ("recover",),
    ("rollback",),
    ("restore", "recover"),
    ("rollback", "restore"),
    ("restore", "restore", "recover"),
)
SEEDS = 9
"""Histories that each lie is tried on."""


def verdicts(history: records.History) -> set[Verdict]:
    return {finding.verdict for finding in judge.judge(history).findings}


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(
    seed=strategies.integers(0, 1 << 30),
    changes=strategies.sampled_from(CHANGES),
    operations=strategies.integers(5, 30),
)
def test_given_a_true_history_when_judged_then_nothing_is_found(seed, changes, operations) -> None:
    plan = simulated.Plan(operations=operations, changes=changes)
    assert judge.judge(simulated.history(seed, plan)).findings == ()


@pytest.mark.parametrize("name", sorted(altered.ALL))
def test_given_an_altered_history_when_judged_then_it_is_caught(name: str) -> None:
    alter, verdict = altered.ALL[name]
    tried = 0
    for seed in range(SEEDS):
        changes = ("restore",) if verdict is Verdict.FOOLED else ()
        operations = 80 if verdict is Verdict.ADVICE else 40
        other = alter(_answered(seed, operations, changes))
        if other is not None:
            tried += 1
            assert verdict in verdicts(other), seed
    assert tried >= SEEDS // 3


@functools.cache
def _answered(seed: int, operations: int, changes: tuple[str, ...]) -> records.History:
    """A history in which no answer is lost, so that each lie can be proven to be one."""
    plan = simulated.Plan(operations, changes, losses=False, quiet=18.0)
    return simulated.history(seed, plan)


BROKEN = {
    Verdict.SPLIT: simulated.Plan(25, ("recover",), both=True),
    Verdict.REVISIONS: simulated.Plan(25, ("restore",), bump=0),
    Verdict.BASIS: simulated.Plan(25, ("restore",), off=6),
    Verdict.LOST: simulated.Plan(25, ("restore",), silent=True),
    Verdict.UNCONFIRMED: simulated.Plan(25, ("rollback",), early=True),
}


@pytest.mark.parametrize("verdict", BROKEN)
def test_given_an_etcd_that_breaks_a_promise_when_judged_then_it_is_caught(verdict) -> None:
    tried = 0
    for seed in range(SEEDS):
        run = simulated.Run(seed, BROKEN[verdict])
        history = run.play()
        if verdict is Verdict.BASIS and not run.differs:
            continue
        if verdict is Verdict.LOST and not _lost(history):
            continue
        tried += 1
        assert verdict in verdicts(history), seed
    assert tried >= SEEDS // 3


def _lost(history: records.History) -> list[records.Operation]:
    said = history.announcements[0]
    old = 0xA0
    return [
        o
        for o in history.operations
        if o.value and o.succeeded and o.header and o.header.cluster_id == old
        and o.header.revision > said.revision
    ]  # fmt: skip


def test_given_true_histories_when_counted_then_they_hold_what_is_odd() -> None:
    """What is never flagged has to be there, or the first test shows nothing."""
    odd = collections.Counter[str]()
    for seed in range(30):
        plan = simulated.Plan(25, CHANGES[seed % len(CHANGES)])
        history = simulated.history(seed, plan)
        seen = {e.kv.value: r.at for r in history.responses for e in r.events}
        for o in history.operations:
            unknown = o.outcome is records.Outcome.UNKNOWN and o.value in seen
            odd["took effect without an answer"] += unknown
            odd["took effect late"] += unknown and seen[o.value] > o.invoked + 1.0
            odd["old read"] += not o.linearizable
        odd["progress"] += sum(r.progress for r in history.responses)
        odd["compacted"] += sum(bool(r.compact_revision) for r in history.responses)
        odd["announced loss"] += len(history.announcements) > 0 and bool(_lost(history))
        events = [e for r in history.responses for e in r.events]
        odd["gone with its lease"] += sum(
            e.deleted and e.prev is not None and e.prev.lease > 0 for e in events
        )
    assert min(odd.values()) >= 5, odd
