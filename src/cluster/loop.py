"""The loop of a hook: look, plan and act until nothing is left to do.

It does nothing by itself. `run` yields what is to be looked at, done or shown, and is sent what
came of it: a hook drives it with a real machine, and the histories of the tests with a small one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cluster import generation as generations
from cluster import plan as plans
from cluster import steps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cluster import view as views

ROUNDS = 12
"""Times that one hook looks, plans and acts."""
STAY = 300.0
"""Seconds that one hook of a leaving unit waits; Juju lets actions in between two."""
LEAD = 10.0
"""The same for Juju's leader, which can write records only between two."""
RETRY = 5.0
"""Seconds until what failed is tried again."""
RECORD = 60.0
"""Seconds for which a hook acts on the record that it has read: it never gets a newer one."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Everything is to be looked at; sent a `views.View`."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """What is planned now; sent nothing.

    Attributes:
        plan: its clocks go on, all others are forgotten.
        now: the wall clock at which they begin that do not run yet, seconds.
    """

    plan: plans.Plan
    now: float


@dataclasses.dataclass(frozen=True)
class Time:
    """How late it is; sent seconds of a clock that nobody sets."""


@dataclasses.dataclass(frozen=True)
class Say:
    """The sentence is to be shown at once: this hook takes long; sent nothing."""

    message: str


@dataclasses.dataclass(frozen=True)
class Do:
    """A step is to be done; sent "", or one sentence that says why it could not be."""

    step: steps.Step


@dataclasses.dataclass(frozen=True)
class Again:
    """Another hook is to come; sent nothing.

    Attributes:
        seconds: in so many, or later while hooks are long and nothing moves.
        exactly: no later.
    """

    seconds: float
    exactly: bool = False


Request = Look | Planned | Time | Say | Do | Again


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a hook came to.

    Attributes:
        plan: the last one, with the steps that are left.
        stays: the unit is being removed, and the others cannot spare it yet. The hook has to fail,
            so that Juju removes nothing and runs it again.
    """

    plan: plans.Plan
    stays: bool = False


def run(
    *,
    leaves: bool,
    leader: bool,
    read_at: float,
    decide: Callable[[views.View], plans.Plan] | None = None,
) -> Generator[Request, Any, Ended]:
    """One hook, to be driven by `send`; answers what it came to.

    It ends where nothing is left to do, or where what was written waits for the hook's end.

    Args:
        leaves: this is a hook of the unit's removal: when it ends well, the removal goes on.
        leader: this unit is Juju's leader.
        read_at: when it read Juju's records, by the clock of `Time`.
        decide: what plans, `plans.plan` by default.
    """
    plan = yield from _round(decide, leader)
    until, rounds, said = (yield Time()) + (LEAD if leader else STAY), 0, ""
    while (yield Time()) < until if leaves else rounds < ROUNDS:
        rounds += 1
        if leaves and said != plan.message:
            said = plan.message
            yield Say(said)
        seen: float = yield Time()
        if _begins(plan) and seen > read_at + RECORD:
            yield Again(RETRY, exactly=True)
            break
        done, failed = yield from _steps(plan, seen, decide, leader)
        if failed:
            plan = dataclasses.replace(plan, message=failed)
            yield Again(RETRY)
            if not leaves:
                break
        if not plan.steps or any(step.ends_hook for step in done):
            if _follows_up(plan):
                yield Again(RETRY, exactly=True)
            break
        if any(isinstance(step, steps.Wake) for step in done) and not leaves:
            break
        plan = yield from _round(decide, leader)
    else:
        yield Again(RETRY)
    stays = leaves and bool(plan.steps)
    if stays:  # a failed hook writes nothing, a look between two does
        yield Again(RETRY, exactly=True)
    return Ended(plan, stays)


def _round(
    decide: Callable[[views.View], plans.Plan] | None, leader: bool
) -> Generator[Request, Any, plans.Plan]:
    view: views.View = yield Look()
    if leader and not view.leader:  # not all the while: the next hook may
        yield Again(RETRY)
    plan = (decide or plans.plan)(view)
    yield Planned(plan, view.now)
    return plan


def _steps(
    plan: plans.Plan,
    seen: float,
    decide: Callable[[views.View], plans.Plan] | None,
    leader: bool,
) -> Generator[Request, Any, tuple[list[steps.Step], str]]:
    """Do the steps while what was seen for them is fresh: the rest is planned anew.

    A `Wake` that follows a step which took long still ends the hook.

    Returns:
        The steps that were done, and why the next one could not be.
    """
    done: list[steps.Step] = []
    for step in plan.steps:
        if (yield Time()) - seen > plans.VALID and not isinstance(step, steps.Wake):
            break
        if step.final and step not in (yield from _round(decide, leader)).steps:
            break
        failed: str = yield Do(step)
        if failed:
            return done, failed
        done.append(step)
    return done, ""


def _begins(plan: plans.Plan) -> bool:
    """Whether the plan brings data to life that the record names."""
    return any(step.by_record for step in plan.steps)


def _follows_up(plan: plans.Plan) -> bool:
    """Whether a leader has to act on a record of its own in its next hook.

    Nothing else would bring one. Nothing is left to do after the confirmation of a first
    generation.
    """
    committed = [step.generation for step in plan.steps if isinstance(step, steps.Commit)]
    return any(not g.confirmed or g.source is not generations.Source.NEW for g in committed)


def founding(step: steps.Step) -> str:
    """The token of the founding that this step belongs to, "" for none.

    A unit tells of such a step when it cannot do it: the leader decides by that.
    """
    match step:
        case steps.Prepare(proposal=record) | steps.Found(generation=record):
            return record.token
        case steps.Adopt(token=token) | steps.PutBack(token=token):
            return token
        case _:
            return ""
