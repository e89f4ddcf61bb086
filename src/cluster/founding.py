"""Rules of founding: the first generation, a survivor's, and one from the newest backup."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import losses, queries, revisions, steps
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]


RETRY = "retry"
"""The clock of a failure: a survivor that could not be used is not tried again at once."""


def found(view: views.View) -> Steps | None:
    """Leader: commit the first generation when all planned units are there, or at the bound."""
    if view.generation is not None or view.proposal is not None or data_without_record(view):
        return None
    founders = queries.published(view)
    complete = len(founders) >= max(view.planned, len(queries.alive(view)))
    patient = view.waited("founding") <= view.policy.founding_wait
    if not founders or (not complete and patient):
        return None
    if view.policy.recover_total_loss and view.newest_backup is not None:
        return (steps.Propose(_from_backup(view, view.newest_backup)),)
    if view.held:
        return None
    return (steps.Commit(_new(view, founders)),)


def found_again(view: views.View) -> Steps | None:
    """Leader: replace a first generation that can never start.

    It was never seen healthy, so nothing is lost; a unit that has yet to tell may have its data.
    """
    founders = queries.published(view)
    if not never_starts(view) or queries.untold(view) or not founders:
        return None
    return (steps.Commit(_new(view, founders)),)


def never_starts(view: views.View) -> bool:
    """Whether a first generation has too few founders left, and no unit that told has its data."""
    generation = view.generation
    if (
        generation is None
        or view.proposal is not None
        or generation.source is not generations.Source.NEW
        or generation.confirmed
        or view.etcd.members is not None
        or any(queries.committed(view, u) for u in view.units)
    ):
        return False
    able = [
        u
        for u in queries.alive(view)
        if u.last_started < generation.number
        and generations.Founder(u.name, u.peer_url or "") in generation.founders
    ]
    return len(able) < queries.quorum(len(generation.founders))


def survive(view: views.View) -> Steps | None:
    """Leader: propose that the unit whose disk holds most founds anew.

    Asked for by the operator (`View.recover`), or by itself when Juju says that a quorum is gone
    and every living holder of the data has stopped and told what it holds.
    """
    if view.proposal is not None or view.etcd.members is not None:
        return None
    if view.recover is not None:
        chosen = view.unit(view.recover)
        if chosen is None or not chosen.alive or queries.token_of(view, chosen) is None:
            return None
        return _propose_survivor(view, chosen)
    if view.generation is None:
        return _reattached(view)
    if not losses.frozen(view) or awaited(view):
        return None
    return _from_best(view)


def recover_all(view: views.View) -> Steps | None:
    """Leader: no disk is left: propose the newest proven backup when the operator allows it."""
    if not view.policy.recover_total_loss or view.newest_backup is None:
        return None
    if not losses.all_lost(view) or not queries.published(view):
        return None
    return (steps.Propose(_from_backup(view, view.newest_backup)),)


def data_without_record(view: views.View) -> bool:
    """Whether some unit holds data although this application never committed a generation."""
    return view.generation is None and any(
        queries.token_of(view, u) is not None for u in view.units
    )


def awaited(view: views.View) -> tuple[str, ...]:
    """What must happen before a survivor is chosen, each as words that follow "waiting for".

    One that comes may bring a disk, and one that leaves may still serve the recorded generation.
    """
    coming = [f"{u.name} to be installed" for u in queries.alive(view) if u.peer_url is None]
    leaving = [f"{u.name} to leave" for u in view.units if not u.alive and view.generation]
    silent = [f"{u.name} to tell what it holds" for u in _silent(view)]
    return (*coming, *leaving, *silent)


def best(view: views.View) -> views.Unit | None:
    """The unit whose disk holds most of the cluster's data, None until all of them have told."""
    facts = {u: queries.facts_of(view, u) for u in _holders(view)}
    known = {u: held for u, held in facts.items() if held is not None}
    return max(known, key=lambda u: known[u]) if known and len(known) == len(facts) else None


def _holders(view: views.View) -> list[views.Unit]:
    """Units with data of the committed generation; without a record, with any data."""
    return [
        u
        for u in queries.alive(view)
        if queries.token_of(view, u) and (view.generation is None or queries.committed(view, u))
    ]


def _silent(view: views.View) -> list[views.Unit]:
    """Holders whose disks nobody knows, and those that may have become holders since they told."""
    token = view.generation.token if view.generation is not None else ""
    return [
        u
        for u in queries.alive(view)
        if (token and u.peer_url and losses.may_have_joined(view, u, token))
        or (u in _holders(view) and queries.facts_of(view, u) is None)
    ]


def _reattached(view: views.View) -> Steps | None:
    """Storage of an earlier deployment: one cluster's data founds, two clusters' is a conflict."""
    tokens = {queries.token_of(view, u) for u in view.units} - {None}
    complete = len(queries.published(view)) >= max(view.planned, len(queries.alive(view)))
    if len(tokens) != 1 or (not complete and view.waited("founding") <= view.policy.founding_wait):
        return None
    return _from_best(view)


def _from_best(view: views.View) -> Steps | None:
    """A lesser disk lacks what clients were told: only an operator may choose it."""
    chosen = best(view)
    if chosen is None or (chosen.failure and view.waited(RETRY) <= view.policy.answer_wait):
        return None
    return _propose_survivor(view, chosen)


def _propose_survivor(view: views.View, unit: views.Unit) -> Steps | None:
    if unit.peer_url is None:
        return None
    facts = queries.facts_of(view, unit)
    detail = generations.Detail(
        unit=unit.name,
        high=revisions.of_view(view),
        revision=facts.revision if facts is not None else 0,
    )
    return (
        steps.Propose(
            generations.Generation(
                number=queries.next_number(view),
                token=view.fresh_token,
                source=generations.Source.SURVIVOR,
                founders=(generations.Founder(unit.name, unit.peer_url),),
                detail=detail,
            )
        ),
    )


def _new(view: views.View, founders: tuple[generations.Founder, ...]) -> generations.Generation:
    return generations.Generation(
        queries.next_number(view), view.fresh_token, generations.Source.NEW, founders
    )


def _from_backup(view: views.View, detail: generations.Detail) -> generations.Generation:
    founded = generations.Generation(
        queries.next_number(view),
        view.fresh_token,
        generations.Source.BACKUP,
        queries.published(view),
        detail,
    )
    known = revisions.high(founded)  # by the backup and by all that lie beside it
    detail = dataclasses.replace(detail, high=revisions.of_view(view, backups=known))
    return dataclasses.replace(founded, detail=detail)
