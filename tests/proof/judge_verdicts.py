"""What the judge may find, and the bounds it judges by."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum


class Verdict(enum.Enum):
    """A broken promise, by its kind."""

    STALE = "stale"  # an answer older than what was acknowledged before it was asked for
    CONTENT = "content"  # a read shows what the state at its revision is not
    LOST = "lost"  # an acknowledged write or key is not there, and nobody said so
    INVENTED = "invented"  # a value or a deletion that no client asked for, or that was refused
    COMPARE = "compare"  # a transaction took the wrong branch
    SAME_REVISION = "same-revision"  # two writes at one revision
    PREVIOUS = "previous"  # prev_kv of a write is not what was there
    WATCH_ORDER = "watch-order"  # events out of order, or from before the revision asked for
    WATCH_UNIQUE = "watch-unique"  # one event twice
    WATCH_LOST = "watch-lost"  # an event is missing
    WATCH_TORN = "watch-torn"  # one revision's events apart from each other
    WATCH_PREVIOUS = "watch-previous"  # prev_kv of an event is not what was there
    WATCH_BOOKMARK = "watch-bookmark"  # an event at or below a revision promised to be complete
    DEAF = "deaf"  # connected, and never told of the last write
    FOOLED = "fooled"  # led over to another cluster without a word
    SPLIT = "split"  # two clusters at once
    BASIS = "basis"  # a new cluster begins with something else than was announced
    REVISIONS = "revisions"  # revisions of a new cluster that clients know from an older one
    UNCONFIRMED = "unconfirmed"  # clients were answered by a cluster that was rolled back
    ACCOUNT = "account"  # a user or role is missing, or there again
    LEASE = "lease"  # a lease is missing, or there again
    RECORDS = "records"  # a machine runs old data or knows an old record
    ADVICE = "advice"  # data would be lost by what a status or a refusal says, for nothing


@dataclasses.dataclass(frozen=True)
class Finding:
    """One broken promise.

    Attributes:
        verdict: its kind.
        sentence: what is wrong, for a reader of the table.
        at: when it could be seen first, seconds of the history's clock.
        evidence: what shows it, a line each.
    """

    verdict: Verdict
    sentence: str
    at: float
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds that the judge grants.

    Attributes:
        deaf: between a member's proof that it has a write and the watcher's event.
        accepted: that a resumed watch lives before it counts as accepted.
        before: without a pause in acknowledged writes before a status, for the cluster to be
            healthy; longer than a hook acts on what it saw.
        after: the same after a status.
        pause: between two acknowledged writes of a healthy cluster.
        advice: that a destructive advice from a worse time may still stand.
        quiet: before the end, in which every member that answers is of one cluster.
        fence: from when machines of an older generation can be reached again until they must have
            stopped: no machine can know of the newer one before it has asked (docs/membership.md).
    """

    deaf: float = 10.0
    accepted: float = 5.0
    before: float = 20.0
    after: float = 5.0
    pause: float = 3.0
    advice: float = 120.0
    quiet: float = 5.0
    fence: float = 15.0


MOST_EVIDENCE = 8
"""Lines of evidence that a finding carries at most; what is left out is counted."""


def shorten(lines: collections.abc.Sequence[str]) -> tuple[str, ...]:
    """The first lines of evidence, and how many more there are."""
    if len(lines) <= MOST_EVIDENCE:
        return tuple(lines)
    return (*lines[:MOST_EVIDENCE], f"and {len(lines) - MOST_EVIDENCE} more")
