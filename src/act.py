"""The loop of a hook: observe, plan and act until nothing is left to do."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

import host
import observe
from cluster import generation as generations
from cluster import plan as policy
from cluster import steps
from etcd import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import node as node_

log = logging.getLogger(__name__)

ROUNDS = 12  # times that one hook observes, plans and acts
STAY = 300.0  # seconds that one hook of a leaving unit waits; Juju lets actions in between two
LEAD = 10.0  # as long for Juju's leader, which can write records only between two
RETRY = 5  # seconds until a step that failed is tried again


class StepError(Exception):
    """A step could not be done; the text is one sentence for `juju status`."""


class StaysError(Exception):
    """A unit that is being removed may not go yet; the text says what it waits for.

    It fails the hook, so that Juju removes nothing and runs it again.
    """


def settle(node: node_.Node, *, leader: bool, recover: str | None = None) -> policy.Plan:
    """Observe, plan and act until nothing is left, or what was written waits for the hook's end.

    Raises:
        StaysError: the unit is being removed, and the others cannot spare it yet.
    """
    node.recall()
    verdict = _round(node, leader=leader, recover=recover)
    torn_down, said = node.torn_down, ""
    for _ in _stay(LEAD if leader else STAY) if torn_down else range(ROUNDS):
        if torn_down and said != verdict.message:
            said = verdict.message
            node.say(said)
        done: list[steps.Step] = []
        try:
            for step in _in_time(verdict.steps):
                if step.final and step not in _round(node, leader=leader, recover=recover).steps:
                    break
                _do_one(node, step)
                done.append(step)
        except StepError as error:
            verdict = dataclasses.replace(verdict, message=str(error))
            node.wake(RETRY)
            if not torn_down:
                break
        if not verdict.steps or any(step.ends_hook for step in done):
            _follow_up(node, verdict)
            break
        if any(isinstance(step, steps.Wake) for step in done) and not torn_down:
            break
        verdict = _round(node, leader=leader, recover=recover)
    else:
        node.wake(RETRY)
    if torn_down and verdict.steps:
        node.wake_in(RETRY)  # a failed hook writes nothing, a look between two does
        raise StaysError(verdict.message)
    node.peers.publish(node.me)
    if host.service_runs(host.SHARE_UNIT):
        import snapshots  # costly, and few hooks come here with something served

        snapshots.end_share(node)
    return verdict


def _stay(seconds: float) -> Iterator[None]:
    """Rounds of a leaving unit: it has no later hook, and Juju's machine lock is not its alone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield


def _in_time(planned: Iterable[steps.Step]) -> Iterator[steps.Step]:
    """The steps while what they were planned from is fresh: the rest is planned anew.

    A `Wake` that follows a step which took long still ends the hook.
    """
    seen = time.monotonic()
    for step in planned:
        if time.monotonic() - seen > policy.VALID and not isinstance(step, steps.Wake):
            return
        yield step


def _follow_up(node: node_.Node, verdict: policy.Plan) -> None:
    """The leader acts on a record of its own in its next hook, which Juju runs soon.

    Should it not, nothing else would bring one. Nothing is left to do after the confirmation of
    a first generation.
    """
    committed = [s.generation for s in verdict.steps if isinstance(s, steps.Commit)]
    if any(not g.confirmed or g.source is not generations.Source.NEW for g in committed):
        node.wake_in(RETRY)


def _round(node: node_.Node, *, leader: bool, recover: str | None) -> policy.Plan:
    view = observe.observe(node, leader=leader, recover=recover)
    verdict = policy.plan(view)
    node.remember(verdict.clocks, view.now)
    return verdict


def _do_one(node: node_.Node, step: steps.Step) -> None:
    """Carry out one step.

    Raises:
        StepError: it could not be done; what was there before is still there.
    """
    import effects  # costly, and most hooks have nothing to do

    if step.needs_etcd:
        host.await_install()
    log.info("step: %s", step)
    begun = node.me.begun
    try:
        effects.Actor(node).do(step)
    except (errors.EtcdError, OSError) as error:
        log.warning("%s: %s", type(step).__name__, error)
        if node.root.disk().token is None:
            node.begin(begun)  # nothing was started after all
        token = _token(step)
        if token:
            node.me = dataclasses.replace(node.me, failure=(token, str(error)))
        raise StepError(str(error)) from error


def _token(step: steps.Step) -> str:
    """The token of the founding that this step belongs to, "" for none."""
    match step:
        case steps.Prepare(proposal=record) | steps.Found(generation=record):
            return record.token
        case steps.Adopt(token=token) | steps.PutBack(token=token):
            return token
        case _:
            return ""
