"""Rules of joining: one learner at a time, listed first, promoted when in sync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import local, queries, steps
from cluster import view as views

if TYPE_CHECKING:
    from cluster import generation as generations

    Steps = tuple[steps.Step, ...]

IN_SYNC = 0.9
"""A learner may be promoted at this share of the leader's index (etcd, readyPercentThreshold)."""


def may_join(view: views.View) -> bool:
    """Whether this unit has to come into the running cluster through its membership.

    Not while the others can read that no quorum answers it: together with that word, data that
    it told nothing of would count as lost. Its hook ends first.
    """
    generation = view.generation
    return (
        generation is not None
        and view.ready
        and view.etcd.members is not None
        and view.disk.token is None
        and not view.said_unanswered
        and queries.me(view).peer_url is not None
        and not queries.restoring(view)
        and not local.founds(view, generation)
    )


def make_room(view: views.View) -> Steps | None:
    """Remove the member that this unit was before it lost its data."""
    member = queries.mine(view)
    if (
        not may_join(view)
        or member is None
        or (member.learner and not queries.has_started(member))
    ):
        return None
    if exhausted(view) or not queries.may_remove(view, member):
        return None
    if queries.heir(view, member) is not None:
        return None  # its storage went to another unit, which is this member now
    return (steps.RemoveMember(member.id),)


def join(view: views.View) -> Steps | None:
    """Add this unit as a learner, start it with the exact list, and let it catch up.

    Should the list have changed since, etcd refuses to start, and the next look finds this unit
    in the list and starts it again.
    """
    if not may_join(view) or view.generation is None:
        return None
    own, member = queries.me(view), queries.mine(view)
    if member is not None:
        if queries.has_started(member) or not member.learner:
            return None
        return _start(view, view.generation, own)
    if queries.learner(view) is not None or exhausted(view) or own.peer_url is None:
        return None
    ahead = queue(view).index(own.name)
    if view.waited(queue_key(view)) < ahead * view.policy.turn_wait:
        return None
    return (steps.AddLearner(own.peer_url), *_start(view, view.generation, own))


def _start(view: views.View, generation: generations.Generation, own: views.Unit) -> Steps:
    join = steps.Join(generation, initial_cluster(view, own))
    if own.peer_url is None or queries.turn_of_another(view):
        return (join,)
    return (join, steps.CatchUp(own.peer_url))


def initial_cluster(view: views.View, own: views.Unit) -> str:
    """`--initial-cluster` of a join: exactly what etcd lists with this unit, by its own name."""
    name = own.name.replace("/", "-")
    pairs = {(m.name or name, url) for m in view.etcd.members or () for url in m.peer_urls}
    pairs |= {(name, own.peer_url)} if own.peer_url else set()
    return ",".join(f"{name}={url}" for name, url in sorted(pairs))


def queue(view: views.View) -> tuple[str, ...]:
    """Units that wait to be added, this one always among them, lowest number first."""
    waiting = {
        u.name
        for u in queries.alive(view)
        if u.peer_url and not queries.committed(view, u) and queries.member_of(view, u) is None
    }
    return tuple(sorted(waiting | {view.me}, key=queries.number))


def queue_key(view: views.View) -> str:
    """The clock of the queue: it starts anew with each unit that comes to its head."""
    return f"queue:{queue(view)[0]}"


def exhausted(view: views.View) -> bool:
    """Whether this unit was added so often within the hour that it may harm the cluster."""
    return queries.me(view).joins >= view.policy.join_limit


def promote(view: views.View) -> Steps | None:
    """Make this unit's learner a voter once it is in sync; the leader helps a silent charm."""
    member = queries.learner(view)
    if member is None or not in_sync(view, member) or queries.turn_of_another(view):
        return None
    if queries.restoring(view):
        return None
    unit = queries.unit_of(view, member)
    if unit is None:
        return None
    helping = view.leader and view.waited(sync_key(member)) > view.policy.turn_wait
    if unit.name != view.me and not helping:
        return None
    return (steps.Promote(member.id),)


def in_sync(view: views.View, member: views.Member) -> bool:
    """Whether etcd is likely to promote `member`: it refuses by itself when it is too early."""
    leader = next((m for m in view.etcd.members or () if m.id == view.etcd.leader), None)
    if leader is None or not member.healthy or not queries.has_started(member):
        return False
    return member.learner and member.raft_index >= IN_SYNC * leader.raft_index


def sync_key(member: views.Member) -> str:
    """The clock of a learner that could be promoted."""
    return f"sync:{member.id}"


def stuck_key(member: views.Member) -> str:
    """The clock of a learner that makes no progress."""
    return f"learner:{member.id}:{member.raft_index}"


def remove_stuck(view: views.View) -> Steps | None:
    """Leader: a learner without progress blocks everybody's joining: take it out."""
    member = queries.learner(view)
    if member is None or view.waited(stuck_key(member)) <= view.policy.learner_deadline:
        return None
    return (steps.RemoveMember(member.id),)
