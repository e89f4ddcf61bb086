"""What an operator does to members by hand, with the same refusals as the charm's own policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import errors
from cluster import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cluster import view as views
    from etcd import client as clients


class OperatorError(errors.EtcdError):
    """What was asked for is not done; the sentence says why, and what to do."""


def find(members: Sequence[views.Member], which: str) -> views.Member:
    """The member with this name or hexadecimal ID.

    Raises:
        OperatorError: there is none.
    """
    for member in members:
        if which and which in (member.name, f"{member.id:x}", f"0x{member.id:x}"):
            return member
    known = ", ".join(f"{m.name or 'unstarted'} ({m.id:x})" for m in members)
    raise OperatorError(f"there is no member {which!r}: there are {known}")


def remove(online: clients.Client, which: str, units: Iterable[views.Unit]) -> views.Member:
    """Remove a member, unless a unit has it or what is left would have no quorum.

    Args:
        online: a client of the cluster.
        which: name or hexadecimal ID.
        units: those that Juju has.

    Raises:
        OperatorError: it would cost the quorum or join again, or there is no such member.
        errors.EtcdError: etcd refused, or does not answer.
    """
    members = online.observe().members
    member = find(members, which)
    unit = next((u for u in units if u.alive and queries.is_member_of(member, u)), None)
    if unit is not None:
        raise OperatorError(
            f"{which} was not removed: it is the member of {unit.name}, which would join again; "
            f"run `juju remove-unit {unit.name}`"
        )
    left = [m for m in members if not m.learner and m.id != member.id]
    healthy = sum(m.healthy for m in left)
    needed = len(left) // 2 + 1
    if not member.learner and healthy < needed:
        raise OperatorError(
            f"{member.name or which} was not removed: {healthy} healthy voters would be left and "
            f"{needed} are needed; bring a member back first"
        )
    online.remove(member.id)
    return member


def move_leader(online: clients.Client, which: str = "") -> views.Member:
    """Hand raft leadership to a member, by default to the most advanced other voter.

    Raises:
        OperatorError: no such member, or it cannot lead.
        errors.EtcdError: etcd refused, or does not answer.
    """
    members = online.observe().members
    leader = online.leader()
    able = [m for m in members if not m.learner and m.healthy and m.id != leader]
    if which:
        chosen = find(members, which)
        if chosen.id == leader:
            return chosen
        if chosen not in able:
            raise OperatorError(f"{which} cannot lead: it is a learner or does not answer")
    elif able:
        chosen = max(able, key=lambda m: m.raft_index)
    else:
        raise OperatorError("there is no other healthy voter to hand leadership to")
    online.move_leader(chosen.id)
    return chosen
