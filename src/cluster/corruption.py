"""Rules of alarms: whose keys are wrong, and what a removed member leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import queries, steps
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]


def compare(view: views.View) -> Steps | None:
    """Leader: members hold different keys: find out whose are wrong, where a majority can tell."""
    voters = queries.voters(view)
    able = sum(member.healthy for member in voters)
    if views.UNNAMED not in view.etcd.alarms or able < queries.quorum(len(voters)):
        return None
    return (steps.Compare(),)


def disarm(view: views.View) -> Steps | None:
    """Disarm the alarms of members that are no more: etcd keeps them, and clients cannot write.

    Data that an earlier revision of the charm restored bears one until it is confirmed.
    """
    if view.etcd.members is None or (view.generation is not None and view.generation.closed):
        return None
    there = {views.UNNAMED.member_id, *(member.id for member in view.etcd.members)}
    gone = (alarm for alarm in view.etcd.alarms if alarm.member_id not in there)
    return tuple(steps.Disarm(alarm) for alarm in gone) or None


def tell(view: views.View) -> Steps:
    """Start an etcd that gave up because another holds other keys, and let all be compared.

    It need not be the one that is wrong. Nobody writes until that is known.
    """
    arm, start = steps.Arm(views.UNNAMED), steps.Start(compare=False)
    return (start, arm) if view.etcd.members is None else (arm, start)


def proven(view: views.View, member: views.Member) -> str:
    """Why this unit's keys are known to be wrong, "" when they are not.

    A CORRUPT alarm is believed when a majority of voters is without it, and a difference when
    it is one from a majority.
    """
    voters = queries.voters(view)
    needed = queries.quorum(len(voters))
    if member.corrupt and sum(not m.corrupt for m in voters) >= needed:
        return "etcd reports its data corrupt"
    if view.disk.differs >= needed:
        return "most members hold other keys"
    return ""
