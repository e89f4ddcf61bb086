"""What is lost, and who could still serve it."""

from __future__ import annotations

from cluster import generation as generations
from cluster import queries
from cluster import view as views


def may_serve_beside(
    view: views.View, token: str, founders: tuple[generations.Founder, ...]
) -> bool:
    """Whether the cluster `token` could still have a quorum when `founders` start another.

    Founders that were its voters rule that out by themselves: whoever starts the new data has
    stopped the old. Only where too few were, others have to stop first.
    """
    others = [
        u
        for u in view.units
        if u.name != view.me and (u.token == token or _may_begin(view, u, token))
    ]
    still = {u.name for u in others} | {
        generations.unit_name(u.member) for u in others if u.member
    }
    unknown = len(queries.untold(view))
    names = {f.unit for f in founders}
    told = queries.told(view, token) if token else ()
    still |= {u.name for u in view.units if may_have_joined(view, u, token)}
    if token and not told and (unknown or any(u.name not in names for u in others)):
        return True  # nobody knows its voters: one disk may be a quorum by itself
    for voters in told:
        moved = max(0, queries.quorum(len(names)) - len(names - set(voters)))
        gone = {name for name in voters if view.unit(name) is None}
        learners = len({u.name for u in others} - set(voters) - names)
        # Learners may have been promoted since its voters were told, and some may have left.
        for left in range(_may_have_left(gone, still) + 1):
            serving = len(still & set(voters)) + min(unknown, len(gone) - left)
            for promoted in range(learners + 1):
                count = len(voters) - left + promoted
                need = queries.quorum(count)
                if serving + promoted >= need and count - moved >= need:
                    return True
    return False


def _may_have_left(gone: set[str], still: set[str]) -> int:
    """How many of the voters that Juju has no more the others may have removed."""
    return len(gone - still)


def may_have_joined(view: views.View, unit: views.Unit, token: str) -> bool:
    """Whether `unit`, which told of no data, may have that of the cluster `token` by now.

    One that knows of a later record joins no earlier cluster, and one that looked in vain for a
    quorum joins none before it has taken that word back.
    """
    record = view.generation
    heard = record is not None and unit.heard == record.token != token
    return unit.name != view.me and unit.token is None and not heard and not unit.unanswered


def _may_begin(view: views.View, unit: views.Unit, token: str) -> bool:
    """Whether `unit` may have started the committed generation without having told so yet."""
    generation = view.generation
    return (
        generation is not None
        and generation.token == token
        and generation.founder(unit.name) is not None
        and unit.last_started < generation.number
    )


def lost_by_juju(view: views.View) -> bool:
    """Whether Juju itself says that a quorum is gone: the units were removed, not merely silent.

    A partition changes nothing in what Juju lists, so a cut-off minority never comes to this.
    Every account of the membership must agree: one that still has a quorum of units wins. A unit
    that got the storage of a removed one stands for it.
    """
    if view.generation is None or view.etcd.members is not None:
        return False
    present = {u.name for u in view.units} | {queries.stands_for(view, u) for u in view.units}
    return all(
        len(present & set(a)) < queries.quorum(len(a))
        for a in queries.told(view, view.generation.token)
    )


def hopeless(view: views.View) -> bool:
    """Whether no quorum is left anywhere, by the word of every unit.

    Silence is no such word: a machine that is down or cut off may be well, or serve elsewhere.
    Nor is a word about a disk: a unit without data, or with broken data, may just have joined.
    """
    return queries.unanswered(view) and all(u.unanswered for u in view.units if u.name != view.me)


def may_recover(view: views.View) -> bool:
    """Whether a survivor may found anew without being asked.

    A first generation that nobody ever saw healthy was never announced to a client.
    """
    generation = view.generation
    unseen = (
        generation is not None
        and generation.source is generations.Source.NEW
        and not generation.confirmed
    )
    return view.policy.recover_quorum_loss or unseen


def frozen(view: views.View) -> bool:
    """Whether data stands still to be compared: nobody starts etcd until a survivor is chosen.

    Not at once: a member that comes back within the bound may make a quorum that no account of
    the voters knows of yet.
    """
    return (
        queries.unanswered(view) and lost_by_juju(view) and may_recover(view) and not view.proposal
    )


def all_lost(view: views.View) -> bool:
    """Whether a cluster existed and no unit of the application has its data any more.

    Every unit must have said so itself, and of this generation: one that has not published yet
    may have got storage with a copy, and one that has not heard of a new founder may hold it.
    And each must have looked for a quorum in vain: one that joins has told of no data until its
    hook ends.
    """
    generation = view.generation
    if generation is None or view.proposal is not None or not hopeless(view):
        return False
    settled = generation.confirmed or queries.overdue(view)
    return settled and not any(queries.may_hold(view, u) for u in view.units)
