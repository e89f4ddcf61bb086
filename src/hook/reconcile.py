"""The loop of a hook, driven: what `cluster.loop` asks for, looked at and done on this machine."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import peer_transfer
from cluster import loop
from cluster import plan as plans
from cluster import view as views
from etcd import install
from hook import observe, options
from machine import systemd

if TYPE_CHECKING:
    from cluster import steps
    from hook import unit as units

log = logging.getLogger(__name__)


def boundary(_moment: str, _step: steps.Step) -> None:
    """Comes before and after each step, with the word `before` or `after`: a seam for tests."""


class StaysError(Exception):
    """A unit that is being removed may not go yet; the text says what it waits for.

    It fails the hook, so that Juju removes nothing and runs it again.
    """


def reconcile(node: units.Node, *, leader: bool, recover: str | None = None) -> plans.Plan:
    """Observe, plan and act until nothing is left, or what was written waits for the hook's end.

    Args:
        node: this unit.
        leader: this unit is Juju's leader.
        recover: an operator's confirmed order to found anew from this unit's disk.

    Raises:
        StaysError: the unit is being removed, and the others cannot spare it yet.
    """
    node.recall()
    ended = _drive(node, leader=leader, recover=recover)
    if ended.stays:
        raise StaysError(ended.plan.message)
    node.peers.publish(node.me)
    healthy = ended.plan.state is plans.State.HEALTHY and not ended.plan.steps
    options.agree(node, healthy=healthy)
    if systemd.service_runs(peer_transfer.SHARE_UNIT):
        # Costly, and few hooks come here with something served.
        from hook import restore as restores

        restores.end_share(node)
    return ended.plan


def _drive(node: units.Node, *, leader: bool, recover: str | None) -> loop.Ended:
    """Give the loop what it asks for until it has ended."""
    read_at = node.peers.read_at
    run, answer = loop.run(leaves=node.torn_down, leader=leader, read_at=read_at), None
    while True:
        try:
            request = run.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(request, loop.Look):
            leads = leader and node.peers.leads()
            answer = observe.observe(node, leader=leads, recover=recover)
        else:
            answer = _answer(node, request)


def _answer(node: units.Node, request: loop.Request) -> Any:
    match request:
        case loop.Planned(plan=plan, now=now):
            return node.notes.remember(plan.clocks, now)
        case loop.Time():
            return time.monotonic()
        case loop.Say(message=message):
            return node.say(message)
        case loop.Again(seconds=seconds, exactly=exactly):
            return (node.wake_in if exactly else node.wake)(seconds)
        case loop.Do(step=step):
            return _do_one(node, step)
        case _:
            raise AssertionError(request)


def _do_one(node: units.Node, step: steps.Step) -> str:
    """Carry out one step: "", or why it could not be done. What was there before still is then."""
    from hook import execute  # costly, and most hooks have nothing to do

    if step.needs_etcd:
        install.await_install()
    log.info("step: %s", step)
    begun = node.me.last_started
    boundary("before", step)
    try:
        execute.Actor(node).do(step)
    except (errors.EtcdError, OSError) as error:
        log.warning("%s: %s", type(step).__name__, error)
        if node.root.disk().token is None:
            node.begin(begun)  # nothing was started after all
        if token := loop.founding(step):
            node.me = dataclasses.replace(node.me, failure=views.Failure(token, str(error)))
        return str(error) or type(error).__name__
    boundary("after", step)
    return ""
