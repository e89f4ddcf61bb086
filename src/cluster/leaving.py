"""Rules of leaving: a dying unit removes itself, the leader removes what is left of the gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import local, queries, steps
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]

_WAIT = steps.Wake(1.0)


def leave(view: views.View) -> Steps | None:
    """Dying unit: out of the cluster as soon as those who stay are a quorum without it.

    Until then it stays, whatever that takes: what it acknowledged may lie on no disk that stays.
    Where nobody stays, membership and data are kept as they are: storage may bring them back.
    """
    stop: Steps = (steps.Stop(),) if view.etcd.service is views.Service.RUNNING else ()
    if not queries.alive(view):
        return stop
    if view.etcd.members is None:
        return (_WAIT,) if queries.is_needed(view) else stop
    member = queries.mine(view)
    if member is None:
        return stop
    if queries.turn_of_another(view):
        return (_WAIT,)
    if not queries.may_remove(view, member):
        return _remove(view) or (_WAIT,)
    return (*local.hand_over(view, member), steps.RemoveMember(member.id))


def remove_gone(view: views.View) -> Steps | None:
    """Leader: remove a member whose unit Juju has no more."""
    return _remove(view)


def waits_for(view: views.View) -> str:
    """What a dying unit waits for, in words, "" when nothing keeps it."""
    member = queries.mine(view)
    if not queries.alive(view):
        return ""
    if view.etcd.members is None:
        if not queries.is_needed(view):
            return ""
        silent = ", ".join(u.name for u in view.units if u.name != view.me and not u.started)
        return (
            "no quorum of members answers, and one may need the data of this unit: start the "
            f"machines of {silent or 'the other units'}"
        )
    if member is None or queries.may_remove(view, member):
        return ""
    others = [m for m in queries.voters(view) if m.id != member.id]
    sick = sorted(m.name for m in others if not queries.counts_for_quorum(m))
    if not sick:
        application = view.me.rpartition("/")[0]
        return f"the other members are no quorum yet: `juju add-unit {application}` adds one"
    missing = queries.quorum(len(others)) - sum(map(queries.counts_for_quorum, others))
    return (
        f"the other members are no quorum without it: {missing} of {', '.join(sick)} must be "
        "healthy again: start its machine; one that is gone for good has to leave Juju first"
    )


def _remove(view: views.View) -> Steps | None:
    for member in view.etcd.members or ():
        if not member.name or not queries.ours(view, member):
            continue
        if queries.is_gone(view, member) and queries.may_remove(view, member):
            return (steps.RemoveMember(member.id),)
    return None
