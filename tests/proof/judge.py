"""The judge: whether a recorded history kept every promise, and what its users felt.

Pure, in O(n log n): etcd's revisions say in which order everything happened, so nothing is
searched. What is only possible is no finding; each one is proven by the records it names.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from proof import (
    judge_accounts,
    judge_advice,
    judge_clusters,
    judge_contents,
    judge_generations,
    judge_watches,
    records,
)
from proof.judge_clusters import Cluster, Facts
from proof.judge_verdicts import Bounds, Finding, Verdict

__all__ = ["Bounds", "Figures", "Finding", "Judgement", "Verdict", "judge"]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the clients with all endpoints felt, and how long it lasted.

    Attributes:
        requests: of these clients.
        failed: of those, without the answer that was asked for.
        longest_gap: between two acknowledged requests of any of them, or the ends of the traffic,
            seconds.
        longest_write_gap: the same of acknowledged writes.
        healthy_after: from the first fault or command to the last unit's becoming active for
            good, seconds; infinite when one is not active at the end, None when the traffic began
            after all that was done.
    """

    requests: int
    failed: int
    longest_gap: float
    longest_write_gap: float
    healthy_after: float | None


@dataclasses.dataclass(frozen=True)
class Judgement:
    """All that the judge says of a history.

    Attributes:
        findings: broken promises by their time; none is a pass.
        figures: what it cost.
    """

    findings: tuple[Finding, ...]
    figures: Figures


def judge(history: records.History, bounds: Bounds | None = None) -> Judgement:
    """Judge a history."""
    bounds = bounds or Bounds()
    facts = judge_clusters.gather(history)
    streams, findings = judge_watches.follow(history)
    findings += facts.findings
    undone = judge_generations.rolled_back(facts)
    findings += _contents(facts, streams, undone)
    findings += _real_time(facts)
    findings += judge_watches.missing(streams, facts)
    findings += judge_watches.fooled(streams, facts, bounds)
    findings += judge_watches.deaf(streams, facts, bounds)
    findings += judge_generations.unconfirmed(facts, undone)
    findings += judge_generations.split(facts, undone, bounds)
    findings += judge_generations.revisions(facts)
    findings += judge_generations.machines(facts, bounds)
    findings += judge_accounts.accounts(facts)
    findings += judge_advice.advice(facts, bounds)
    findings.sort(key=lambda f: (f.at, f.verdict.value))
    return Judgement(tuple(findings), figures(history))


def _contents(
    facts: Facts, streams: list[judge_watches.Stream], undone: dict[int, Cluster]
) -> list[Finding]:
    """Replay each cluster, the oldest first: a later one begins with a state of an older."""
    found: list[Finding] = []
    unseen = judge_contents.Unseen(facts)
    spans: dict[int, judge_contents.Spans] = {}
    prefix = facts.history.prefix
    for cluster in facts.clusters:
        covered = [
            s.span for s in streams if s.cluster_id == cluster.id and prefix.startswith(s.prefix)
        ]
        spans[cluster.place] = judge_contents.Spans(covered, cluster.writes)
        if cluster.place:
            basis = judge_generations.Basis(facts, cluster, unseen, spans)
            found += basis.judge(undone)
        found += judge_contents.Replay(facts, cluster, spans[cluster.place], unseen).run()
    return found


def _real_time(facts: Facts) -> list[Finding]:
    """Linearizable answers whose revision is below one that was known before they were asked."""
    found: list[Finding] = []
    asked: dict[int, list[records.Operation]] = {c.id: [] for c in facts.clusters}
    for o in facts.history.operations:
        done = o.outcome is records.Outcome.OK and o.header is not None
        if done and o.linearizable and o.kind is not records.Kind.LEASE_LIST:
            assert o.header is not None
            asked[o.header.cluster_id].append(o)
    for cluster in facts.clusters:
        place, known, since = 0, 0, 0.0
        for o in sorted(asked[cluster.id], key=lambda o: o.invoked):
            while place < len(cluster.known) and cluster.known[place][0] < o.invoked:
                if cluster.known[place][1] > known:
                    since, known = cluster.known[place]
                place += 1
            assert o.header is not None
            least = known + judge_clusters.wrote(o)
            if o.header.revision < least:
                sentence = (
                    f"{o.kind.value} of {o.key} by {o.client} was answered at revision "
                    f"{o.header.revision} of cluster {cluster}, and {known} was known before"
                )
                evidence = f"sent at {o.invoked:.3f}, and {known} was known at {since:.3f}"
                at = o.answered or o.invoked
                found.append(Finding(Verdict.STALE, sentence, at, (evidence,)))
    return found


def figures(history: records.History) -> Figures:
    """What the clients with all endpoints felt."""
    watchers = {r.watcher for r in history.responses}
    its = [o for o in history.operations if not o.pinned and o.client not in watchers]
    done = [o for o in its if o.outcome is records.Outcome.OK]
    return Figures(
        len(its),
        len(its) - len(done),
        _gap(history, done),
        _gap(history, [o for o in done if judge_clusters.wrote(o)]),
        _healthy_after(history),
    )


def _gap(history: records.History, done: list[records.Operation]) -> float:
    times = sorted(o.answered for o in done if o.answered is not None)
    ends = [history.began, *times, max([history.ended, *times[-1:]])]
    return max(after - before for before, after in itertools.pairwise(ends))


def _healthy_after(history: records.History) -> float | None:
    if not history.faults:
        return None
    removed = {m.unit for m in history.machines if m.removed}
    latest: dict[str, records.Status] = {}
    active: dict[str, float] = {}
    for status in sorted(history.statuses, key=lambda s: s.at):
        if status.unit in removed:
            continue
        if status.status == "active" and (
            status.unit not in latest or latest[status.unit].status != "active"
        ):
            active[status.unit] = status.at
        latest[status.unit] = status
    if not latest or any(status.status != "active" for status in latest.values()):
        return math.inf
    begun = min(fault.at for fault in history.faults)
    return max(0.0, max(active.values()) - begun)
