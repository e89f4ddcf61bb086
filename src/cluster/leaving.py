"""Rules of leaving: a dying unit removes itself, the leader removes what is left of the gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import reading, running
from cluster import steps as steps_
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps_.Step, ...]


def leave(view: views.View) -> Steps | None:
    """Dying unit: out of the cluster while that is safe, then stop, never later than the bound.

    The last member keeps its membership and its data: storage may bring it back.
    """
    running_now = view.etcd.service is views.Service.RUNNING
    stop: Steps = (steps_.Stop(),) if running_now else ()
    member = reading.mine(view)
    if member is None or len(view.etcd.members or ()) == 1:
        return stop
    if view.waited("leaving") > view.policy.leave_wait:
        return stop
    if reading.turn_of_another(view):
        return (steps_.Wake(1.0),)
    if not reading.may_remove(view, member):
        return _remove(view) or ((steps_.Wake(1.0),) if running_now else ())
    return (*running.hand_over(view, member), steps_.RemoveMember(member.id))


def remove_gone(view: views.View) -> Steps | None:
    """Leader: remove a member whose unit Juju has no more."""
    return _remove(view)


def _remove(view: views.View) -> Steps | None:
    for member in view.etcd.members or ():
        if not member.name or not reading.ours(view, member):
            continue
        if reading.unit_of(view, member) is None and reading.may_remove(view, member):
            return (steps_.RemoveMember(member.id),)
    return None
