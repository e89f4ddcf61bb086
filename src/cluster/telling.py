"""What a unit tells the others of itself, and of the voters that it has seen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import queries
from cluster import view as views

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Known:
    """What a unit knows of itself beside its etcd and its disk.

    Attributes:
        voters: those that it last saw agreed by a quorum (`seen`).
        peer_url: where peers reach it, None to go on with what it told.
        client_url: where clients reach it, likewise.
        joins: how many times it was added as a learner within the last hour.
        options: fingerprint of the options that its running etcd was last started with.
        cut_off: its etcd cannot dial a member that answers others.
        waited: seconds since a quorum last answered, 0 while one does.
    """

    voters: views.KnownVoters
    peer_url: str | None = None
    client_url: str | None = None
    joins: int = 0
    options: str = ""
    cut_off: bool = False
    waited: float = 0.0


def describe_unit(
    me: views.Unit,
    etcd: views.Etcd,
    disk: views.Disk,
    known: Known,
    *,
    committed: generations.Generation | None,
    proposal: generations.Generation | None,
    patience: float,
) -> views.Unit:
    """This unit's part of the picture, from what it told before and what it has seen now.

    What failed stays told until it is of no consequence: until a quorum answers.

    Args:
        me: what it told, with what steps have changed since.
        etcd: its etcd, and the cluster through it.
        disk: its disk.
        known: what it knows besides.
        committed: the committed generation.
        proposal: the next one.
        patience: seconds without a quorum that are no news (`Policy.answer_wait`).
    """
    records = [record for record in (proposal, committed) if record is not None]
    answered = etcd.members is not None and committed is not None
    failure = me.failure
    if failure and etcd.members is not None and failure.of not in {r.token for r in records}:
        failure = None
    own = (m for m in etcd.members or () if m.id == etcd.local_id) if answered else ()
    told = queries.known_voters(
        views.KnownVoters(me.voters, me.voters_of), known.voters, me.name, answered=answered
    )
    return dataclasses.replace(
        me,
        peer_url=known.peer_url or me.peer_url,
        client_url=known.client_url or me.client_url,
        token=disk.token,
        member=disk.member,
        failure=failure,
        member_id=etcd.local_id,
        started=etcd.local_id is not None,
        prepared=next((r.token for r in records if queries.ready_for(disk, r)), None),
        heard=committed.token if committed else "",
        broken=bool(disk.broken),
        unanswered=not answered and committed is not None and known.waited > patience,
        facts=disk.facts,
        stale=etcd.stale,
        voters=told.voters,
        voters_of=told.token,
        joins=known.joins,
        registered_peer_url=next(
            (m.peer_urls[0] for m in own if m.peer_urls), me.registered_peer_url
        ),
        options=known.options,
        cut_off=known.cut_off,
    )


def seen(
    etcd: views.Etcd,
    committed: generations.Generation | None,
    units: Iterable[views.Unit],
    before: views.KnownVoters,
) -> views.KnownVoters:
    """The voters that a quorum agrees upon now, else those of before.

    One that has no name yet is known by its address.
    """
    if etcd.members is None or committed is None:
        return before
    at = {unit.peer_url: unit.name for unit in units if unit.peer_url}
    names = (
        generations.unit_name(m.name) if m.name else at.get(next(iter(m.peer_urls), ""), "")
        for m in etcd.members
        if not m.learner
    )
    return views.KnownVoters(tuple(sorted(filter(None, names))), committed.token)
