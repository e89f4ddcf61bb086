"""Rules of upkeep: a new address or configuration restarts voters one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import local, queries, steps
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]


def grant(view: views.View) -> Steps | None:
    """Leader: let the next unit restart, when the one before is done and all would stay well.

    The units cannot agree on this among themselves: each sees the others' databags late.
    """
    if len(view.etcd.members or ()) < 2 or queries.somebody_leaves(view):
        return None
    number = view.turn.number
    holder = view.unit(view.turn.unit)
    waiting = [u for u in queries.alive(view) if queries.wants_turn(view, u)]
    unused = holder is not None and holder.alive and holder.turn_done < number
    member = queries.member_of(view, holder) if holder is not None else None
    able = holder in waiting and member is not None and member.healthy
    bound = view.policy.learner_deadline if able else view.policy.answer_wait
    if unused and view.waited(turn_key(view)) <= bound:
        return None
    cut_off = [u for u in queries.alive(view) if u.cut_off]
    for candidate in waiting:
        if any(u is not candidate for u in cut_off):
            continue  # its turn is not over: it would be lost with those that dial it
        member = queries.member_of(view, candidate)
        if unused and candidate is holder and len(waiting) > 1:
            continue
        if member is not None and queries.may_restart(view, member):
            return (steps.Grant(candidate.name, number + 1),)
    return (steps.Grant("", number + 1),) if unused and holder not in waiting else None


def awaited(view: views.View) -> bool:
    """Juju's leader: whether a unit wants a turn, which it gets by a bound that no event tells."""
    return view.leader and any(queries.wants_turn(view, u) for u in queries.alive(view))


def turn_key(view: views.View) -> str:
    """The clock of a granted turn."""
    return f"turn:{view.turn.number}"


def restart(view: views.View) -> Steps | None:
    """Restart for what etcd only reads at its start; a moved member is updated first."""
    if view.disk.token is None or view.disk.broken or not view.ready:
        return None
    own, member = queries.me(view), queries.mine(view)
    if member is None:
        return _restart_without_quorum(view)
    moved = queries.moved(member, own) and not member.learner
    if not (moved or view.etcd.stale):
        return (steps.EndTurn(),) if _has_turn(view) else None
    if moved and own.peer_url and _is_unreached(view, member):
        return (steps.UpdateMember(member.id, own.peer_url),)
    if not member.learner and not _has_turn(view) and len(view.etcd.members or ()) > 1:
        return None
    if not queries.may_restart(view, member) or queries.somebody_leaves(view):
        return None
    if handed := local.hand_over(view, member):
        return handed  # takes seconds: whether all others are well is looked at again after it
    update = (steps.UpdateMember(member.id, own.peer_url),) if moved and own.peer_url else ()
    return (*update, steps.Restart())


def _is_unreached(view: views.View, member: views.Member) -> bool:
    """Whether this unit's etcd runs at its new address and hears nothing from the cluster.

    A raft leader that has moved as well is where this one does not look, and dials the address
    that etcd has on record: no turn comes before all others are well, and this one is not until
    that is put right. It takes no part yet, so that nothing is lost by it.
    """
    etcd = view.etcd
    running = etcd.service is views.Service.RUNNING and not etcd.stale
    return running and etcd.local_id is None and not member.healthy


def _restart_without_quorum(view: views.View) -> Steps | None:
    """A stale etcd that knows no leader serves nobody: nothing is lost by a restart."""
    if view.etcd.members is not None or view.etcd.leader is not None or not view.etcd.stale:
        return None
    if view.etcd.service is not views.Service.RUNNING:
        return None
    if not queries.unanswered(view):
        return None
    return (steps.Restart(), steps.Wake(10.0))


def _has_turn(view: views.View) -> bool:
    return view.turn.unit == view.me and queries.me(view).turn_done < view.turn.number
