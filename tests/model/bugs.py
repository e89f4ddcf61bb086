"""Seeded bugs: mistakes that a planner could well have, each of which some history must expose."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any
from unittest import mock

from cluster import (
    founding,
    joining,
    leaving,
    local,
    loop,
    losses,
    queries,
    restarting,
    restoring,
    revisions,
    steps,
)
from cluster import generation as generations
from cluster import plan as plans
from cluster import view as views
from model import check, simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_RULES = plans._rules
_ALL_LOST = losses.all_lost
_BEGIN = revisions.begin
_ENDED = loop.Ended


def _never(_: views.View) -> None:
    return None


@contextlib.contextmanager
def _without(rule: Any, instead: Any = _never) -> Iterator[None]:
    """Replace one rule in the lists that `plan` goes through."""
    names = ("RECORD", "LOCAL", "MEMBERSHIP", "OWN")
    with contextlib.ExitStack() as stack:
        for name in names:
            rules = tuple(instead if r is rule else r for r in getattr(plans, name))
            stack.enter_context(mock.patch.object(plans, name, rules))
        yield


def _me(view: views.View, **values: object) -> views.View:
    units = tuple(dataclasses.replace(u, **values) if u.name == view.me else u for u in view.units)
    return dataclasses.replace(view, units=units)


def _forgetful(view: views.View) -> plans.Plan:
    return plans.plan(_me(view, last_started=0))


def _selfish(view: views.View) -> plans.Plan:
    plan = plans.plan(view)
    own = tuple(
        steps.Found(
            dataclasses.replace(
                x.generation,
                founders=tuple(f for f in x.generation.founders if f.unit == view.me),
            )
        )
        if isinstance(x, steps.Found)
        else x
        for x in plan.steps
    )
    return dataclasses.replace(plan, steps=own)


def _modest(view: views.View) -> plans.Plan:
    """Compares the disks the wrong way round."""
    units = tuple(
        dataclasses.replace(u, facts=u.facts and views.DiskFacts(1, -u.facts.index, 0))
        for u in view.units
    )
    disk = view.disk
    if disk.facts:
        disk = dataclasses.replace(disk, facts=views.DiskFacts(1, -disk.facts.index, 0))
    return plans.plan(dataclasses.replace(view, units=units, disk=disk))


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Takes silence for Juju's word, and a silent unit's disk for an empty one."""
    facts_of = queries.facts_of

    def lost(view: views.View) -> bool:
        return view.generation is not None and view.etcd.members is None

    def facts(view: views.View, unit: views.Unit) -> views.DiskFacts:
        return facts_of(view, unit) or views.DiskFacts(0, 0, 0)

    with _patch(losses, "lost_by_juju", lost), _patch(queries, "facts_of", facts):
        yield


def _keep_old(view: views.View) -> tuple[steps.Step, ...] | None:
    old = view.generation and view.disk.token not in (None, view.generation.token)
    return (steps.Start(), steps.Wake(5)) if old else None


def _stop_first(view: views.View) -> tuple[steps.Step, ...] | None:
    mended = local.mend(view)
    removal = [x for x in mended or () if isinstance(x, steps.RemoveMember)]
    return (*[x for x in mended or () if x not in removal], *removal) or None


def _add_blindly(view: views.View) -> tuple[steps.Step, ...] | None:
    url = queries.me(view).peer_url
    return (steps.AddLearner(url),) if joining.may_join(view) and url else joining.join(view)


def _commit_early(view: views.View) -> tuple[steps.Step, ...] | None:
    return (steps.Commit(view.proposal),) if view.proposal else None


def _finish_early(view: views.View) -> tuple[steps.Step, ...] | None:
    """Drops the replaced data when the new is there, not when it was seen healthy."""
    generation = view.generation
    if generation is None or view.disk.token != generation.token:
        return None
    sure = dataclasses.replace(generation, confirmed=True)
    return restoring.finish(dataclasses.replace(view, generation=sure))


def _open_early(view: views.View) -> tuple[steps.Step, ...] | None:
    return (steps.Open(),) if view.disk.closed else None


def _always(*_: object) -> bool:
    return True


def _no(*_: object) -> bool:
    return False


def _patch(target: Any, name: str, value: Any) -> Any:
    return mock.patch.object(target, name, value)


@contextlib.contextmanager
def _both(*names: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(_patch(queries, name, _no))
        yield


@contextlib.contextmanager
def _unseen(bug: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    """A bug that the look just before a restart mostly hides: without that look.

    With the same befalls, thousands of histories expose nothing where only the look is missing.
    """
    with _patch(steps.Restart, "final", False), bug:
        yield


def _back_to(old: generations.Generation) -> tuple[str, int]:
    return old.token, old.number


def _leave_anyway(view: views.View) -> tuple[steps.Step, ...] | None:
    """A leaving unit that no quorum can spare, or answers, just stops."""
    left = leaving.leave(view) or ()
    running_now = view.etcd.service is views.Service.RUNNING
    kept = any(isinstance(step, steps.Wake) for step in left)
    return ((steps.Stop(),) if running_now else ()) if kept else left


def _lost_by_silence(view: views.View) -> bool:
    """Takes a unit that has not heard of this generation for one that has nothing of it."""
    generation = view.generation
    if generation is None or view.etcd.members is not None or view.proposal is not None:
        return False
    settled = generation.confirmed or queries.overdue(view)
    return settled and not any(queries.committed(view, u) for u in view.units)


def _lost_at_once(view: views.View) -> bool:
    """Takes the word of a unit that joins just now for its last one."""
    asked = tuple(dataclasses.replace(u, unanswered=True) for u in view.units)
    since = () if view.generation is None else ((queries.silent_key(view.generation), -1e9),)
    confirming = tuple(pair for pair in view.since if pair[0].startswith("confirm"))
    return _ALL_LOST(dataclasses.replace(view, units=asked, since=since + confirming))


def _from_snapshot(*, snapshot: int = 0, **_: object) -> int:
    """Lets a store begin above what is restored, whatever clients were told since."""
    return snapshot + revisions.MARGIN


def _unrecorded(*, record: object = None, **known: Any) -> int:
    """Asks the cluster, the disks and the backups, but not the record, where stores began."""
    del record
    return _BEGIN(**known)


def _undo_forgetfully(view: views.View) -> tuple[steps.Step, ...] | None:
    """Takes a restore back, and with it the mark of where its store began."""
    undone = restoring.roll_back(view)
    for step in undone or ():
        if isinstance(step, steps.Commit):
            old = dataclasses.replace(step.generation, detail=_unmarked(step.generation.detail))
            return (steps.Commit(old),)
    return undone


def _unmarked(detail: generations.Detail) -> generations.Detail:
    return dataclasses.replace(detail, high=0)


def _confirm_by_sight(view: views.View) -> tuple[steps.Step, ...] | None:
    """Neither believes another unit that saw a quorum, nor goes back from what it saw."""
    generation = view.generation
    seen = view.etcd.members is not None
    survivor = generation is not None and generation.source is generations.Source.SURVIVOR
    return restoring.confirm(view) if seen or survivor else None


class _World(simulator.World):
    """Its hooks ask Juju once for its units, and etcd anew in each round."""

    def __init__(self, *args: Any, **values: Any):
        super().__init__(*args, **values)
        self.juju_once = True


class _Unfenced(simulator.World):
    """Its keepers let data run that a later generation has replaced."""

    def __init__(self, *args: Any, **values: Any):
        super().__init__(*args, **values)
        self.fences = False


class _Eager(simulator.World):
    """Its hooks act on a record that they have written, and that Juju has not stored yet."""

    def do_Commit(self, machine: Any, hook: simulator.Hook, step: steps.Commit) -> None:  # noqa: N802
        super().do_Commit(machine, hook, step)
        hook.generation = step.generation


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    with _patch(steps.Commit, "ends_hook", False), _patch(simulator, "World", _Eager):
        yield


def _goes(plan: plans.Plan, stays: bool = False) -> loop.Ended:
    """The hook of a unit that the others cannot spare ends as well as any."""
    del stays
    return _ENDED(plan)


class _LateLeader(simulator.World):
    """Its hooks lead as soon as Juju elects their units, with the records that they have read."""

    def leads(self, hook: simulator.Hook) -> bool:
        return self.leader == hook.unit


class _LateWriter(simulator.World):
    """Its hooks write what they have planned, however long they stood still since."""

    def wrote_in_time(self, hook: simulator.Hook) -> bool:
        return True


def _none(*_: object) -> int:
    return 0


def _silent_holders(view: views.View) -> list[views.Unit]:
    """Awaits only those that have told of data, and not who may have joined since."""
    return [u for u in founding._holders(view) if queries.facts_of(view, u) is None]


FOCUS = {
    "lets a machine that stays behind serve": ("abandon", "wait", "come_back", "come_back"),
    "lets a leaving unit take the quorum along": ("remove", "add", "kill", "heal", "revive"),
    "asks Juju once and etcd often": ("add", "add", "pause", "heal"),
    "forgets where stores before began": ("restore", "wipe", "wipe", "wait", "break"),
    "forgets where a store began that was taken back": (
        "restore",
        "restore",
        "pause",
        "break",
        "heal",
        "wait",
        "wait",
    ),
    "calls lost what just joins": ("wipe", "kill", "revive", "remove", "leader"),
    "removes the member of who has yet to tell": ("kill", "force_remove", "attach", "wait"),
    "takes silence for loss": ("force_remove", "kill", "add", "restore", "wait", "revive"),
    "trusts its own eyes alone": ("restore", "isolate", "pause", "cut", "heal", "wait"),
    "stops a corrupt voter before removing it": ("alarm", "alarm", "kill", "wipe", "heal"),
    "recovers although the majority is only silent": ("cut", "kill", "revive", "wait"),
    "recovers from the worst disk": ("cut", "heal", "force_remove", "kill", "wait", "add"),
    "restarts without its turn": ("stale", "stale", "heal", "leader"),
    "leaves while another restarts": ("stale", "remove", "kill", "add"),
    "lets the old cluster serve beside the new": ("cut", "isolate", "split", "recover", "heal"),
    "goes back to a restore that never served": (
        "restore",
        "add",
        "add",
        "isolate",
        "cut",
        "wait",
    ),
    "leaves when its hook has waited long enough": ("remove", "kill", "add", "wait"),
    "leads with records of before": ("restore", "pause", "leader", "heal", "wait"),
    "writes late what it planned": ("restore", "stand", "heal", "leader", "wait"),
    "restarts on an old look": ("stale", "stale", "leader", "heal", "wait"),
    "never removes a stuck learner": ("add", "add", "kill", "force_remove"),
}
"""What befalls the world of a bug that shows rarely when everything does."""

BUGS: dict[str, tuple[Callable[[], Any], Any]] = {
    "founds again on a wiped disk": (contextlib.nullcontext, _forgetful),
    "founds for itself alone": (contextlib.nullcontext, _selfish),
    "recovers from the worst disk": (contextlib.nullcontext, _modest),
    "recovers although the majority is only silent": (
        _impatient,
        plans.plan,
    ),
    "runs data of an older generation": (
        lambda: _without(local.replace, _keep_old),
        plans.plan,
    ),
    "stops a corrupt voter before removing it": (
        lambda: _without(local.mend, _stop_first),
        plans.plan,
    ),
    "adds without listing first": (lambda: _without(joining.join, _add_blindly), plans.plan),
    "drops what it replaced before the new is healthy": (
        lambda: _without(restoring.finish, _finish_early),
        plans.plan,
    ),
    "commits before everybody is ready": (
        lambda: _without(restoring.commit, _commit_early),
        plans.plan,
    ),
    "lets clients in before it is confirmed": (
        lambda: _without(restoring.open_, _open_early),
        plans.plan,
    ),
    "never lets clients in": (lambda: _without(restoring.open_), plans.plan),
    "restarts without its turn": (
        lambda: _unseen(_patch(restarting, "_has_turn", _always)),
        plans.plan,
    ),
    "leaves while another restarts": (
        lambda: _unseen(_both("turn_of_another", "somebody_leaves")),
        plans.plan,
    ),
    "forgets the guard on quorum": (
        lambda: _patch(queries, "may_restart", _always),
        plans.plan,
    ),
    "lets the old cluster serve beside the new": (
        lambda: _patch(losses, "may_serve_beside", _no),
        plans.plan,
    ),
    "goes back to a restore that never served": (
        lambda: _patch(restoring, "_way_back", _back_to),
        plans.plan,
    ),
    "leads with records of before": (
        lambda: _patch(simulator, "World", _LateLeader),
        plans.plan,
    ),
    "writes late what it planned": (
        lambda: _patch(simulator, "World", _LateWriter),
        plans.plan,
    ),
    "acts before its record is stored": (_eager, plans.plan),
    "leaves when its hook has waited long enough": (
        lambda: _patch(loop, "Ended", _goes),
        plans.plan,
    ),
    "restarts on an old look": (
        lambda: _patch(steps.Restart, "final", False),
        plans.plan,
    ),
    "lets a leaving unit take the quorum along": (
        lambda: _patch(plans, "_rules", lambda v: (_leave_anyway,) if v.dying else _RULES(v)),
        plans.plan,
    ),
    "asks Juju once and etcd often": (
        lambda: _patch(simulator, "World", _World),
        plans.plan,
    ),
    "lets a machine that stays behind serve": (
        lambda: _patch(simulator, "World", _Unfenced),
        plans.plan,
    ),
    "counts revisions from the snapshot only": (
        lambda: _patch(revisions, "begin", _from_snapshot),
        plans.plan,
    ),
    "forgets where stores before began": (
        lambda: _patch(revisions, "begin", _unrecorded),
        plans.plan,
    ),
    "forgets where a store began that was taken back": (
        lambda: _without(restoring.roll_back, _undo_forgetfully),
        plans.plan,
    ),
    "calls lost what just joins": (
        lambda: _patch(losses, "all_lost", _lost_at_once),
        plans.plan,
    ),
    "removes the member of who has yet to tell": (
        lambda: _patch(queries, "untold", lambda _: ()),
        plans.plan,
    ),
    "takes silence for loss": (
        lambda: _patch(losses, "all_lost", _lost_by_silence),
        plans.plan,
    ),
    "trusts its own eyes alone": (
        lambda: _without(restoring.confirm, _confirm_by_sight),
        plans.plan,
    ),
    "acts on a record that it read long ago": (
        lambda: _patch(loop, "RECORD", float("inf")),
        plans.plan,
    ),
    "counts those that left among the voters": (
        lambda: _patch(losses, "_may_have_left", _none),
        plans.plan,
    ),
    "takes what joined unheard for empty": (
        lambda: _patch(founding, "_silent", _silent_holders),
        plans.plan,
    ),
    "never promotes": (lambda: _without(joining.promote), plans.plan),
    "never removes the gone": (lambda: _without(leaving.remove_gone), plans.plan),
    "never removes a stuck learner": (lambda: _without(joining.remove_stuck), plans.plan),
    "never makes room for its own return": (lambda: _without(joining.make_room), plans.plan),
    "never withdraws a proposal": (lambda: _without(restoring.withdraw), plans.plan),
}


FIRST = {
    "calls lost what just joins": 1200,
    "goes back to a restore that never served": 4400,
    "leads with records of before": 9500,
    "recovers from the worst disk": 5700,
    "writes late what it planned": 5300,
}
"""Where the histories begin of a bug that few of them expose."""

WRITTEN = {
    "acts on a record that it read long ago",
    "counts those that left among the voters",
    "takes what joined unheard for empty",
}
"""Bugs that one random history in 100,000 exposes: a history that is written down does."""


def caught(name: str, limit: int, first: int | None = None) -> tuple[int, str]:
    """The first history that exposes the bug, and what it broke; (-1, "") when none does."""
    context, decide = BUGS[name]
    begin = FIRST.get(name, 0) if first is None else first
    with context():
        for seed in range(begin, begin + limit):
            why = check.play(seed, decide, FOCUS.get(name, ()))
            if why:
                return seed, why
    return -1, ""
