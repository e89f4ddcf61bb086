"""Rules of replacing a generation by the next: propose, prepare, commit, confirm, roll back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import losses, queries, revisions, steps
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]

_REPLACING = (generations.Source.BACKUP, generations.Source.SURVIVOR)


def proposal_key(proposal: generations.Generation) -> str:
    """The clock of a proposal that is being prepared."""
    return f"proposal:{proposal.token}"


def withdraw(view: views.View) -> Steps | None:
    """Leader: give a proposal up that cannot be had: the running cluster was never touched."""
    proposal = view.proposal
    if proposal is None:
        return None
    if proposal.number != queries.next_number(view):
        return (steps.Propose(None, "another generation was committed meanwhile"),)
    if proposal.source is generations.Source.SURVIVOR and view.etcd.members is not None:
        reason = "a quorum of members answers again, so that nothing is to be recovered"
        return (steps.Propose(None, reason),)
    for founder in proposal.founders:
        unit = view.unit(founder.unit)
        if unit and unit.failure and unit.failure.of == proposal.token:
            return (steps.Propose(None, f"{unit.name}: {unit.failure.reason}"),)
    left = tuple(f for f in proposal.founders if _stands(view, f))
    if left != proposal.founders:
        return (_go_on_with(view, proposal, left, "a founder was removed or moved"),)
    silent = lagging(view)
    if silent:
        left = tuple(f for f in proposal.founders if f.unit not in silent)
        names = ", ".join(silent)
        reason = (
            f"{names} did not get ready long after the others: start the machine, or run "
            f"`juju remove-unit --force {silent[0]}`, and restore again"
        )
        return (_go_on_with(view, proposal, left, reason),)
    if view.waited(proposal_key(proposal)) > view.policy.prepare_deadline:
        late = ", ".join(f.unit for f in proposal.founders if not prepared(view, f.unit))
        return (steps.Propose(None, f"{late} did not get ready in time"),)
    return None


def commit(view: views.View) -> Steps | None:
    """Leader: commit the proposal once every founder has it ready on its disk."""
    proposal = view.proposal
    if proposal is None or not all(prepared(view, f.unit) for f in proposal.founders):
        return None
    if view.generation is not None:
        token, number = _way_back(view.generation)
        detail = dataclasses.replace(proposal.detail, previous_token=token, previous_number=number)
        proposal = dataclasses.replace(proposal, detail=detail)
    return (steps.Commit(dataclasses.replace(proposal, confirmed=False)),)


def _way_back(old: generations.Generation) -> tuple[str, int]:
    """Token and number of the data that clients were served from last.

    A generation that was never confirmed served nobody, and may never have started: what it
    replaced is the way back, and what may still serve beside the new one. Where it replaced
    nothing there is no way back: the new one starts, or the operator restores again.
    """
    if old.closed:
        return old.detail.previous_token, old.detail.previous_number
    return old.token, old.number


def roll_back(view: views.View) -> Steps | None:
    """Leader: return to the data that a failed generation replaced, as one more generation.

    No client ever reached one that is not confirmed, so that going back takes nothing from
    anybody. Where another unit has seen a quorum, `confirm` goes forward instead: a leader that
    is cut off must not undo a restore that all the others have.
    """
    generation = view.generation
    if generation is None or generation.confirmed or generation.source not in _REPLACING:
        return None
    token = generation.detail.previous_token
    failed = [u for u in view.units if u.failure and u.failure.of == generation.token]
    silent = view.etcd.members is None and not queries.answered_others(view)
    late = queries.overdue(view) and silent
    if not token or not (failed or late):
        return None
    reason = (
        f"{failed[0].name}: {failed[0].failure.reason}" if failed and failed[0].failure else ""
    )
    previous = generations.Generation(
        generation.number + 1,
        token,
        generations.Source.PREVIOUS,
        generation.founders,
        generations.Detail(
            number=generation.detail.previous_number,
            failed_token=generation.token,
            high=revisions.high(generation),
            reason=reason or _too_late(view),
        ),
    )
    return (steps.Commit(previous),)


def _too_late(view: views.View) -> str:
    """Why nobody saw the generation healthy: it does not start beside what may serve the old."""
    coming = [u.name for u in queries.untold(view)]
    token = view.generation.detail.previous_token if view.generation else ""
    staying = [u.name for u in view.units if u.name != view.me and token and u.token == token]
    if not coming and not staying:
        return "it did not become healthy in time"
    why = (
        f"{', '.join(coming)} did not say what is on disk"
        if coming
        else f"{', '.join(staying)} did not stop serving the old data"
    )
    them = "it" if len(coming or staying) == 1 else "them"
    return (
        f"it did not become healthy in time, and {why}: wait for {them}, or run "
        f"`juju remove-unit --force {' '.join(coming or staying)}`, and try again"
    )


def confirm(view: views.View) -> Steps | None:
    """Leader: the generation was seen healthy; from here on there is no way back.

    Every living founder must be a healthy voter. At the deadline a quorum is enough: what is
    missing by then joins or returns like any member. So is the word of a unit that has seen one,
    where the leader sees nothing: there is no third way, and either comes within the deadline. A
    survivor founds alone, and its word is enough at once. Clients are let in by this, so members
    of an earlier generation that can be reached stop first: they do when they meet the new one.
    """
    generation = view.generation
    if generation is None or generation.confirmed:
        return None
    if view.beside and not queries.overdue(view):
        return None
    undone = generation.detail.previous_token
    if undone and any(u.failure and u.failure.of == generation.token for u in view.units):
        return None
    healthy = queries.overdue(view) or _founders_healthy(view, generation)
    seen = view.etcd.members is not None and healthy
    alone = generation.source is generations.Source.SURVIVOR
    told = queries.answered_others(view) and (alone or queries.overdue(view))
    if not (seen or told):
        return None
    return (steps.Commit(dataclasses.replace(generation, confirmed=True)),)


def prepare(view: views.View) -> Steps | None:
    """Founder of a proposal: get its data ready beside the running cluster's.

    A survivor's etcd has to stop for that: not while it is one of a quorum, which the leader may
    be cut off from.
    """
    proposal = view.proposal
    if proposal is None or not proposal.founder(view.me) or not view.ready:
        return None
    if proposal.number != queries.next_number(view) or proposal.token in view.disk.prepared:
        return None
    failure = queries.me(view).failure
    if failure is not None and failure.of == proposal.token:
        return None
    if proposal.source is generations.Source.SURVIVOR:
        if view.etcd.members is not None:
            return (steps.Fail(proposal.token, "a quorum of members answers it"),)
        return (steps.Stop(), steps.Prepare(proposal))
    return (steps.Prepare(proposal),)


def give_up(view: views.View) -> Steps | None:
    """Founder of an unconfirmed restore: data that proves unusable undoes it for everybody.

    The leader returns to the old data at once, instead of at the deadline.
    """
    generation = view.generation
    if (
        generation is None
        or generation.confirmed
        or generation.source not in _REPLACING
        or not generation.founder(view.me)
        or view.disk.token != generation.token
        or not view.disk.broken
        or not generation.detail.previous_token
        or queries.gave_up(view)
    ):
        return None
    return (steps.Fail(generation.token, view.disk.broken),)


def discard(view: views.View) -> Steps | None:
    """Remove what was prepared for proposals that did not come to be."""
    wanted = {g.token for g in (view.proposal, view.generation) if g is not None}
    wanted -= {view.disk.token}
    return tuple(steps.Discard(t) for t in view.disk.prepared if t not in wanted) or None


def open_(view: views.View) -> Steps | None:
    """Clients reach restored data from when nothing can take back what they are told.

    Each unit opens its own at once: nobody has been served by the cluster before.
    """
    generation = view.generation
    if generation is None or generation.closed or not view.disk.closed:
        return None
    return (steps.Open(),) if view.disk.token == generation.token else None


def finish(view: views.View) -> Steps | None:
    """Once, on each unit of a confirmed restore: the replaced data."""
    generation = view.generation
    if (
        generation is None
        or not generation.confirmed
        or generation.source not in _REPLACING
        or view.disk.token != generation.token
        or view.disk.finished >= generation.number
    ):
        return None
    return (steps.Finish(generation),)


def _stands(view: views.View, founder: generations.Founder) -> bool:
    unit = view.unit(founder.unit)
    return unit is not None and unit.alive and unit.peer_url in (None, founder.peer_url)


def prepared(view: views.View, name: str) -> bool:
    """Whether the unit `name` has the proposal's data ready."""
    if view.proposal is None:
        return False
    if name == view.me:
        return view.proposal.token in view.disk.prepared
    unit = view.unit(name)
    return unit is not None and unit.prepared == view.proposal.token


def _go_on_with(
    view: views.View,
    proposal: generations.Generation,
    left: tuple[generations.Founder, ...],
    reason: str,
) -> steps.Propose:
    """A founder is gone: back to the old cluster, or, where that is dead too, on without it.

    Not while those left out could still serve the old cluster where this unit cannot see it.
    """
    old = view.generation.token if view.generation is not None else ""
    alone = view.etcd.members is None and not losses.may_serve_beside(view, old, left)
    if left and alone and proposal.source is generations.Source.BACKUP:
        again = dataclasses.replace(proposal, token=view.fresh_token, founders=left)
        return steps.Propose(again, reason)
    return steps.Propose(None, reason)


def some_ready(view: views.View) -> bool:
    """Whether a founder of the proposal has its data ready: from here on the others are late."""
    return view.proposal is not None and any(
        prepared(view, f.unit) for f in view.proposal.founders
    )


def ready_key(proposal: generations.Generation) -> str:
    """The clock of a proposal that the first founder is ready for."""
    return f"ready:{proposal.token}"


def lagging(view: views.View) -> tuple[str, ...]:
    """Founders taken for dead: not ready long after the first one was, and etcd silent there.

    One that runs a healthy member fetches more slowly than the others, and is waited for until
    the deadline.
    """
    proposal = view.proposal
    if proposal is None or not some_ready(view):
        return ()
    lag = view.waited(ready_key(proposal))
    took = view.waited(proposal_key(proposal)) - lag
    if lag <= max(view.policy.prepare_lag, took):
        return ()
    return tuple(
        f.unit
        for f in proposal.founders
        if not prepared(view, f.unit) and not _healthy(view, f.unit)
    )


def _healthy(view: views.View, name: str) -> bool:
    unit = view.unit(name)
    member = queries.member_of(view, unit) if unit is not None else None
    return member is not None and member.healthy


def _founders_healthy(view: views.View, generation: generations.Generation) -> bool:
    for founder in generation.founders:
        unit = view.unit(founder.unit)
        if unit is None or not unit.alive:
            continue
        member = queries.member_of(view, unit)
        if member is None or not queries.counts_for_quorum(member):
            return False
    return True
