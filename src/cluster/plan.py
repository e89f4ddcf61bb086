"""The one place that decides: `plan(view) -> Plan`.

Each rule is a small function from the view to steps, or None when it has nothing to say. The
first one that speaks, and whose steps pass the guard on quorum, is the plan.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster import (
    corruption,
    founding,
    joining,
    leaving,
    local,
    queries,
    restarting,
    restoring,
    status,
    steps,
)
from cluster import view as views

if TYPE_CHECKING:
    from collections.abc import Callable

    Steps = tuple[steps.Step, ...]
    Rule = Callable[[views.View], Steps | None]

State = status.State
QUICK, SLOW = 2.0, 15.0
"""Seconds between two looks at something that no Juju event will announce."""

VALID = 20.0
"""Seconds after a look in which a step may begin: what a machine that stood still saw is over."""

_SLOW = (
    State.DEGRADED,
    State.HELD,
    State.QUORUM_LOST,
    State.NOT_RECOVERED,
    State.CORRUPT,
    State.DIFFERENT,
    State.CLOCK,
    State.DOWN,
    State.FENCED,
    State.STUCK,
    State.CONFLICT,
    State.DATA_LOST,
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now, in order, and what to say meanwhile.

    Attributes:
        steps: to be done in this order; after them the caller observes and plans again, unless
            one of them `ends_hook` or is a `Wake`.
        state: the name of the situation.
        message: one sentence for `juju status`.
        waiting_on: key of what is being waited for, "" when nothing is.
        clocks: keys of all situations whose beginning the caller remembers (`View.since`): it
            keeps the times of these keys, starts those it does not know, forgets all others.
    """

    steps: Steps
    state: State
    message: str
    waiting_on: str = ""
    clocks: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Juju's word for the state: active, waiting, maintenance or blocked."""
        return self.state.status


# Decisions of the Juju leader about the record: they end the hook.
RECORD: tuple[Rule, ...] = (
    restoring.withdraw,
    restoring.commit,
    restoring.roll_back,
    restoring.confirm,
    founding.found,
    founding.found_again,
    founding.survive,
    founding.recover_all,
    restarting.grant,
)
# This unit's own data and service.
LOCAL: tuple[Rule, ...] = (
    local.halt,
    local.replace,
    restoring.open_,
    restoring.prepare,
    restoring.give_up,
    local.freeze,
    local.mend,
    local.begin,
    local.start,
    restoring.discard,
    restoring.finish,
)
# The Juju leader's part in etcd's membership.
MEMBERSHIP: tuple[Rule, ...] = (
    leaving.remove_gone,
    joining.remove_stuck,
    corruption.compare,
)
# This unit's part in it.
OWN: tuple[Rule, ...] = (
    corruption.disarm,
    joining.promote,
    joining.make_room,
    joining.join,
    restarting.restart,
    local.start_again,
)


def plan(view: views.View) -> Plan:
    """Decide this unit's next steps."""
    steps, keys = decide(view), clocks(view)
    state, message = status.describe(view)
    waiting_on = keys[0] if keys and state is not State.HEALTHY else ""
    waits = state is not State.HEALTHY and not (state is State.DEGRADED and told_of_it(view))
    if not steps and (waits or restarting.awaited(view)) and not view.dying:
        steps = _look_again(view, state)
    return Plan(steps, state, message, waiting_on, keys)


def _look_again(view: views.View, state: State) -> Steps:
    """A wake-up for what no event announces.

    Before the first record, databags hold all that counts, and only the leader has a bound.
    """
    if view.generation is None and view.proposal is None:
        return (steps.Wake(SLOW),) if view.leader else ()
    return (steps.Wake(SLOW if state in _SLOW else QUICK),)


def told_of_it(view: views.View) -> bool:
    """Whether nothing is amiss but units that are still to come: they tell when they have.

    Juju's leader looks after them meanwhile.
    """
    members, own = view.etcd.members, queries.mine(view)
    if view.leader or members is None or own is None or own.id != view.etcd.local_id:
        return False
    if queries.me(view).cut_off:
        return False
    settled = all(
        m.learner or (queries.counts_for_quorum(m) and queries.unit_of(view, m) is not None)
        for m in members
    )
    return settled and not own.learner and not view.etcd.alarms and bool(view.etcd.leader)


def decide(view: views.View) -> Steps:
    """The steps of the first rule that has any and keeps quorum, () when none has."""
    for rule in _rules(view):
        steps = rule(view)
        if steps and queries.keeps_quorum(view, steps):
            return steps
    return ()


def _rules(view: views.View) -> tuple[Rule, ...]:
    if view.dying:
        return (*RECORD, leaving.leave) if view.leader else (leaving.leave,)
    if view.leader:
        return (*RECORD, *LOCAL, *MEMBERSHIP, *OWN)
    return (*LOCAL, *OWN)


def clocks(view: views.View) -> tuple[str, ...]:
    """Keys of the situations that hold now and have a bound, see `Plan.clocks`."""
    keys: list[str] = []
    generation = view.generation
    if generation is None and queries.published(view):
        keys.append("founding")
    if view.proposal is not None:
        keys.append(restoring.proposal_key(view.proposal))
        if restoring.some_ready(view):
            keys.append(restoring.ready_key(view.proposal))
    if generation is not None and not generation.confirmed:
        keys.append(queries.confirm_key(generation))
    if generation is not None and view.etcd.members is None:
        keys.append(queries.silent_key(generation))
    if view.proposal is None and any(u.failure for u in view.units):
        keys.append(founding.RETRY)
    learner = queries.learner(view)
    if learner is not None:
        keys.append(joining.stuck_key(learner))
        if joining.in_sync(view, learner):
            keys.append(joining.sync_key(learner))
    elif joining.may_join(view):
        keys.append(joining.queue_key(view))
    if view.turn.unit:
        keys.append(restarting.turn_key(view))
    return tuple(keys)
