"""Statuses and refusals: none advises to lose data while a healthy cluster is there."""

from __future__ import annotations

import collections
import re

from proof.judge_clusters import Facts
from proof.judge_verdicts import Bounds, Finding, Verdict

_DESTRUCTIVE = re.compile(
    r"juju run \S+ (recover|restore)\b|remove-unit\b[^`.;]*--force"
    r"|no unit has the cluster's data|no unit has data left",
    re.IGNORECASE,
)


def advice(facts: Facts, bounds: Bounds) -> list[Finding]:
    """Destructive words that were false when they were said, or long after."""
    found: list[Finding] = []
    healthy = _healthy(facts, bounds)
    for at, until, who, text in _said(facts):
        if not _DESTRUCTIVE.search(text):
            continue
        why = ""
        for begin, end in healthy:
            if begin <= at - bounds.before and at + bounds.after <= end:
                why = f"a cluster acknowledged writes from {begin:.3f} to {end:.3f}"
            elif min(end, until) - max(begin, at) >= bounds.advice:
                why = f"it stood until {until:.3f}, and a cluster was healthy since {begin:.3f}"
        if why:
            sentence = f"{who} advises to lose data: {text}"
            found.append(Finding(Verdict.ADVICE, sentence, at, (why,)))
    return found


def _said(facts: Facts) -> list[tuple[float, float, str, str]]:
    """From when to when, who and what: statuses until the next, refusals at once."""
    history = facts.history
    found = [(a.at, a.at, a.unit or a.action, a.text) for a in history.announcements if a.failed]
    units: dict[str, list[tuple[float, str]]] = collections.defaultdict(list)
    for status in history.statuses:
        units[status.unit].append((status.at, status.message))
    for unit, its in units.items():
        its.sort()
        ends = [at for at, _ in its[1:]] + [history.ended]
        found += [(at, until, unit, text) for (at, text), until in zip(its, ends, strict=True)]
    return sorted(found)


def _healthy(facts: Facts, bounds: Bounds) -> list[tuple[float, float]]:
    """Spans in which one cluster acknowledged writes without a pause."""
    spans: list[tuple[float, float]] = []
    for cluster in facts.clusters:
        times = [o.answered or 0 for o in cluster.acks]
        begin = 0
        for place in range(1, len(times) + 1):
            if place == len(times) or times[place] - times[place - 1] > bounds.pause:
                spans.append((times[begin], times[place - 1]))
                begin = place
    return spans
