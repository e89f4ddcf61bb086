"""Rules for this unit's own data and service: which data it may start, and when it must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import corruption, founding, losses, queries, steps
from cluster import generation as generations
from cluster import view as views

if TYPE_CHECKING:
    Steps = tuple[steps.Step, ...]


def replace(view: views.View) -> Steps | None:
    """Data of another generation stops and is put aside: only the committed one ever runs."""
    generation = view.generation
    if generation is None or view.disk.token in (None, generation.token):
        return None
    if _is_to_prepare(view, generation):
        return (steps.Prepare(generation),)
    return (
        steps.Stop(last=True),
        steps.SetAside(f"replaced by generation {generation.number}"),
    )


def begin(view: views.View) -> Steps | None:
    """First start of a generation on this unit, as far as the record names it.

    A unit that began this generation once and finds its disk empty has forgotten its votes: it
    must never found again (etcd docs, op-guide/failures), and comes back as a learner.
    """
    generation = view.generation
    if generation is None or not view.ready or view.disk.token is not None:
        return None
    if queries.me(view).last_started >= generation.number:
        return None
    if generation.source is generations.Source.PREVIOUS:
        if generation.token not in view.disk.kept:
            return None  # what it takes back may still run elsewhere, and no client reaches that
        return (steps.PutBack(generation.token), steps.Start())
    if not founds(view, generation) or _old_may_serve(view, generation):
        return None
    if generation.source is generations.Source.NEW:
        return (steps.Found(generation),)
    if generation.token in view.disk.prepared:
        return (steps.Adopt(generation.token), steps.Start(compare=False))
    if _is_to_prepare(view, generation):
        return (steps.Prepare(generation),)
    if generation.confirmed or _failed(view, generation):
        return None
    return (steps.Fail(generation.token, "the prepared data is gone from its disk"),)


def founds(view: views.View, generation: generations.Generation) -> bool:
    """Whether the record lets this unit start as a founder, and etcd has no other opinion."""
    own = queries.me(view)
    founder = generation.founder(view.me)
    if (
        founder is None
        or founder.peer_url != own.peer_url
        or own.last_started >= generation.number
    ):
        return False
    made = generation.source is generations.Source.NEW or generation.token in view.disk.prepared
    if generation.confirmed and not made:
        return False
    if view.etcd.members is None:
        return True
    member = queries.mine(view)
    urls = {url for m in view.etcd.members for url in m.peer_urls}
    return (
        member is not None
        and not member.learner
        and not queries.has_started(member)
        and urls == {f.peer_url for f in generation.founders}
    )


def _old_may_serve(view: views.View, generation: generations.Generation) -> bool:
    token = generation.detail.previous_token
    return losses.may_serve_beside(view, token, generation.founders)


def start(view: views.View) -> Steps | None:
    """Start etcd on data of the committed generation."""
    if not _startable(view) or view.etcd.service is not views.Service.STOPPED:
        return None
    return (steps.Start(),)


def start_again(view: views.View) -> Steps | None:
    """Try an etcd once more that gave up, after everything else that this unit can do."""
    if not _startable(view) or view.etcd.service is not views.Service.FAILED:
        return None
    if view.disk.differs:
        return corruption.tell(view)
    return (steps.Start(), steps.Wake(10.0))


def _startable(view: views.View) -> bool:
    generation = view.generation
    return (
        generation is not None
        and view.ready
        and not view.disk.broken
        and view.disk.token == generation.token
        and view.disk.fenced.number < generation.number
        and not losses.frozen(view)
        and not _is_compared(view)
    )


def freeze(view: views.View) -> Steps | None:
    """Quorum is gone for good: stop, so that what the disks hold can be compared."""
    if founding.data_without_record(view) and view.disk.token is not None:
        unread = view.disk.facts is None and not view.disk.broken
        return (steps.ReadFacts(), steps.Wake(5.0)) if unread else None
    if not losses.frozen(view) or not queries.committed(view, queries.me(view)):
        return None
    if view.etcd.service is views.Service.RUNNING:
        return (steps.Stop(), steps.ReadFacts(), steps.Wake(1.0))
    if view.disk.facts is None and not view.disk.broken:
        return (steps.ReadFacts(), steps.Wake(5.0))
    return None


def halt(view: views.View) -> Steps | None:
    """An etcd whose data directory is gone under it must not go on."""
    if view.disk.token is None and view.etcd.service is views.Service.RUNNING:
        return (steps.Stop(),)
    return None


def mend(view: views.View) -> Steps | None:
    """Put unusable data aside while the rest has quorum; the unit comes back as a learner."""
    if view.etcd.members is None or not queries.committed(view, queries.me(view)):
        return None
    if queries.gave_up(view):
        return None
    member = queries.mine(view)
    if member is None:
        return (steps.Stop(), steps.SetAside("its member was removed from the cluster"))
    reason = view.disk.broken or corruption.proven(view, member)
    if not reason or not queries.may_remove(view, member):
        return None
    if queries.me(view).joins >= view.policy.join_limit or queries.turn_of_another(view):
        return None
    return (
        *hand_over(view, member),
        steps.RemoveMember(member.id),
        steps.Stop(),
        steps.SetAside(reason),
    )


def hand_over(view: views.View, member: views.Member) -> Steps:
    """Move raft leadership away from `member` when it has it and somebody can take it."""
    others = [
        m for m in queries.voters(view) if m.id != member.id and queries.counts_for_quorum(m)
    ]
    if view.etcd.leader != member.id or not others:
        return ()
    return (steps.MoveLeader(max(others, key=lambda m: (m.raft_index, -m.id)).id),)


def _is_to_prepare(view: views.View, generation: generations.Generation) -> bool:
    """Whether a committed restore has to be fetched again before anything stops for it."""
    return (
        generation.source is generations.Source.BACKUP
        and not generation.confirmed
        and view.ready
        and generation.token not in view.disk.prepared
        and founds(view, generation)
        and not _failed(view, generation)
    )


def _is_compared(view: views.View) -> bool:
    """Whether a survivor is proposed: its disk stands still, and so does one that came later."""
    proposal = view.proposal
    return (
        proposal is not None
        and proposal.source is generations.Source.SURVIVOR
        and (proposal.founder(view.me) is not None or view.etcd.members is None)
    )


def _failed(view: views.View, generation: generations.Generation) -> bool:
    failure = queries.me(view).failure
    return failure is not None and failure.of == generation.token
