"""Where the revisions of a restored store begin: above every one that anybody was ever told.

Clients remember revisions. A watcher that goes on at one of a lost store must hear "compacted",
and not wait for it, or be given another store's events from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster import generation as generations
    from cluster import view as views

MARGIN = 10**9
"""Revisions that a lost store may have gone on for, beyond the newest one that is known of it.

The number is etcd's own (op-guide/recovery, "Restoring with revision bump"), for a week at 1500
writes per second; it is 27 hours at 10,000. `LIMIT` leaves room for nine million restores.
"""

LIMIT = 2**53
"""Revisions stay below: what reads JSON into a double tells all of these apart (RFC 8259, 6)."""


def begin(
    *,
    snapshot: int = 0,
    live: int = 0,
    disks: Iterable[views.DiskFacts | None] = (),
    record: generations.Generation | None = None,
    backups: int = 0,
) -> int:
    """The revision that a restored store begins with, and marks compacted.

    Args:
        snapshot: revision of what is restored.
        live: revision of the cluster that is replaced, 0 when it does not answer.
        disks: what is known of disks.
        record: the last committed record, which knows where the stores before began.
        backups: the highest revision that the backups' manifests know of.
    """
    told = (facts.revision for facts in disks if facts is not None)
    return max(snapshot, live, high(record), backups, *told, 0) + MARGIN


def of_view(view: views.View, *, snapshot: int = 0, backups: int = 0) -> int:
    """`begin`, where no cluster answers, from what this unit and the others tell."""
    disks = (view.disk.facts, *(unit.facts for unit in view.units))
    return begin(snapshot=snapshot, disks=disks, record=view.generation, backups=backups)


def high(record: generations.Generation | None) -> int:
    """The highest revision that a record knows of: where its store, or one before it, began.

    Records of earlier revisions of the charm have no `high`; what they have is counted.
    """
    if record is None:
        return 0
    return max(record.detail.high, record.detail.revision + record.detail.bump)
