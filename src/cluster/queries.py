"""Questions that the rules ask of a `View`, each answered in one place."""

from __future__ import annotations

import dataclasses
import functools

from cluster import generation as generations
from cluster import steps
from cluster import view as views


def quorum(voters: int) -> int:
    """How many of `voters` make a quorum."""
    return voters // 2 + 1


@functools.lru_cache(maxsize=1024)
def number(unit: str) -> int:
    """The unit number of `etcd/3`."""
    return int(unit.rpartition("/")[2])


def me(view: views.View) -> views.Unit:
    """This unit."""
    return view.unit(view.me) or views.Unit(view.me)


def alive(view: views.View) -> tuple[views.Unit, ...]:
    """Units that Juju has and does not remove, by unit number."""
    return tuple(sorted((u for u in view.units if u.alive), key=lambda u: number(u.name)))


def untold(view: views.View) -> tuple[views.Unit, ...]:
    """Living units that have told nothing yet: each may have the storage of one that is gone."""
    return tuple(
        u
        for u in alive(view)
        if u.name != view.me and u.peer_url is None and u.token is None and not u.heard
    )


def token_of(view: views.View, unit: views.Unit) -> str | None:
    """Token of the data of `unit`: what it published, for this unit what the disk says."""
    return view.disk.token if unit.name == view.me else unit.token


def committed(view: views.View, unit: views.Unit) -> bool:
    """Whether `unit` holds data of the committed generation."""
    return view.generation is not None and token_of(view, unit) == view.generation.token


def is_member_of(member: views.Member, unit: views.Unit) -> bool:
    """Whether `member` is etcd's record of `unit`: it runs as it, or bears its name or address.

    A unit that got another one's storage runs as a member that still has the other's name.
    """
    if unit.member_id == member.id:
        return True
    if member.name:
        return member.name == unit.name.replace("/", "-")
    return unit.peer_url is not None and unit.peer_url in member.peer_urls


def member_of(view: views.View, unit: views.Unit) -> views.Member | None:
    """The member that belongs to `unit`, None when it has none or no quorum answers."""
    return next((m for m in view.etcd.members or () if is_member_of(m, unit)), None)


def mine(view: views.View) -> views.Member | None:
    """This unit's member: the one that its etcd is, else the one of its data, else of its name."""
    members = view.etcd.members or ()
    data = view.disk.member if view.disk.token is not None else ""
    if data and view.unit(generations.unit_name(data)) is not None:
        data = ""
    for member in members:
        if member.id == view.etcd.local_id or (data and member.name == data):
            return member
    own = me(view)
    named = own if own.member_id is None else dataclasses.replace(own, member_id=None)
    return member_of(view, named)


def unit_of(view: views.View, member: views.Member) -> views.Unit | None:
    """The unit that `member` belongs to, None when Juju has no such unit."""
    found = next((u for u in view.units if is_member_of(member, u)), None)
    return found or heir(view, member)


def heir(view: views.View, member: views.Member) -> views.Unit | None:
    """The unit that got the storage of another one, and with it the data of `member`."""
    name = generations.unit_name(member.name)
    return next((u for u in view.units if stands_for(view, u) == name != u.name), None)


def is_gone(view: views.View, member: views.Member) -> bool:
    """Whether the unit of `member` is gone for sure: nobody has its data, or may yet say so."""
    return unit_of(view, member) is None and not untold(view)


def ours(view: views.View, member: views.Member) -> bool:
    """Whether `member` is named as a unit of this application is, and not by somebody's hand."""
    application = view.me.rpartition("/")[0]
    head, _, tail = generations.unit_name(member.name).rpartition("/")
    return head == application and tail.isdigit()


def has_started(member: views.Member) -> bool:
    """Whether etcd ever ran as `member`: it registers its client URLs at its first start."""
    return bool(member.client_urls)


def voters(view: views.View) -> tuple[views.Member, ...]:
    """The voting members."""
    return tuple(m for m in view.etcd.members or () if not m.learner)


def counts_for_quorum(member: views.Member) -> bool:
    """Whether `member` counts towards a quorum now."""
    return member.healthy and not member.corrupt and not member.learner


def learner(view: views.View) -> views.Member | None:
    """The learner that etcd has now: there can only be one at a time."""
    return next((m for m in view.etcd.members or () if m.learner or not m.name), None)


def may_stop(view: views.View, member: views.Member) -> bool:
    """Whether a quorum stays while `member` is down."""
    others = sum(counts_for_quorum(m) for m in voters(view) if m.id != member.id)
    return member.learner or others >= quorum(len(voters(view)))


def may_restart(view: views.View, member: views.Member) -> bool:
    """Whether `member` may go down for a moment: a quorum stays, or nothing else is possible.

    One or two voters have no voter to spare: their restart pauses writes, whoever does it.
    """
    alone = len(voters(view)) == 1
    pair = len(voters(view)) == 2 and all(
        counts_for_quorum(m) for m in voters(view) if m.id != member.id
    )
    return alone or pair or may_stop(view, member)


def may_remove(view: views.View, member: views.Member) -> bool:
    """Whether a quorum stays when `member` leaves for good (etcd docs, runtime-configuration)."""
    if member.learner:
        return True
    others = [m for m in voters(view) if m.id != member.id]
    return bool(others) and sum(map(counts_for_quorum, others)) >= quorum(len(others))


def is_needed(view: views.View) -> bool:
    """Whether this unit's data may be part of a quorum that does not answer now.

    That of the committed generation, and that which an unconfirmed one may be taken back to.
    """
    generation = view.generation
    if generation is None or view.disk.token is None or view.disk.broken:
        return False
    wanted = {generation.token}
    if not generation.confirmed:
        wanted.add(generation.detail.previous_token)
    return view.disk.token in wanted


def keeps_quorum(view: views.View, planned: tuple[steps.Step, ...]) -> bool:
    """The guard that every plan passes: no step of ours costs the running cluster its quorum.

    Steps that the record or Juju orders whatever the cluster says pass: data of an older
    generation must stop, and so must the etcd of a unit when the last ones are removed.
    """
    if view.etcd.members is None:
        return True
    own = mine(view)
    nobody_stays = view.dying and not alive(view)
    outdated = view.generation is None or view.disk.token != view.generation.token
    removed = {s.member_id for s in planned if isinstance(s, steps.RemoveMember)}
    for member in view.etcd.members:
        if member.id in removed and not may_remove(view, member):
            return False
    if nobody_stays or outdated or own is None or own.id in removed or not counts_for_quorum(own):
        return True
    if any(isinstance(s, steps.Stop) for s in planned):
        return may_stop(view, own)
    restarts = any(isinstance(s, steps.Restart) for s in planned)
    return not restarts or may_restart(view, own)


def known_voters(
    told: views.KnownVoters, seen: views.KnownVoters, unit: str, *, answered: bool
) -> views.KnownVoters:
    """What `unit` tells the others of the voters: no more than they need, each word is a hook.

    While a quorum answers nobody asks for it, and what was told stays true enough: a voter that
    came since has told of itself, and counts for those that do not know it if it is left. It is
    told anew when a voter left, when this unit became one, and when no quorum answers any more.

    Args:
        told: what it told last.
        seen: the newest that it saw or remembers.
        unit: its name.
        answered: a quorum answers it now.
    """
    if not seen.voters:
        return told
    stays = told.token == seen.token and set(told.voters) <= set(seen.voters)
    known = unit in told.voters or unit not in seen.voters
    return told if answered and told.voters and stays and known else seen


def accounts(view: views.View, token: str) -> tuple[tuple[str, ...], ...]:
    """Every account of the last known voters of the cluster `token` that a unit gave."""
    return tuple(sorted({u.voters for u in view.units if u.voters and u.voters_of == token}))


def restoring(view: views.View) -> bool:
    """Whether units get ready to replace the cluster: who its voters are stays as it is.

    What each knows of them decides whether the new cluster may start beside the old one.
    """
    proposal = view.proposal
    return proposal is not None and proposal.source is generations.Source.BACKUP


def stands_for(view: views.View, unit: views.Unit) -> str:
    """The unit whose member `unit` runs as: another one where it got that one's storage."""
    data = view.disk.member if unit.name == view.me else unit.member
    return generations.unit_name(data) if data and committed(view, unit) else unit.name


def told(view: views.View, token: str) -> tuple[tuple[str, ...], ...]:
    """Every account of the last known voters of the cluster `token`.

    Its founders while there is none, as far as they are known: those of the committed generation.
    """
    told, generation = accounts(view, token), view.generation
    if told or generation is None or generation.token != token:
        return told
    return (tuple(f.unit for f in generation.founders),)


def silent_key(generation: generations.Generation) -> str:
    """The clock of a committed generation whose cluster does not answer."""
    return f"silent:{generation.number}"


def unanswered(view: views.View) -> bool:
    """Whether no quorum has answered for so long that it is not a mere election or restart."""
    if view.generation is None or view.etcd.members is not None:
        return False
    return view.waited(silent_key(view.generation)) > view.policy.answer_wait


def answered_others(view: views.View) -> bool:
    """Whether a quorum of the committed generation answered another unit whose etcd runs."""
    generation = view.generation
    return generation is not None and any(
        u.started and u.voters_of == generation.token for u in view.units if u.name != view.me
    )


def facts_of(view: views.View, unit: views.Unit) -> views.DiskFacts | None:
    """What the disk of `unit` holds, None unless it was read while its etcd was stopped."""
    if unit.name == view.me:
        running = view.etcd.service is views.Service.RUNNING
        return None if running or view.disk.broken else view.disk.facts
    return None if unit.started else unit.facts


def next_number(view: views.View) -> int:
    """The number of the next generation."""
    return (view.generation.number if view.generation else 0) + 1


def published(view: views.View) -> tuple[generations.Founder, ...]:
    """The living units that told their peer URL, as founders."""
    return tuple(
        generations.Founder(u.name, u.peer_url) for u in alive(view) if u.peer_url is not None
    )


def _founds(generation: generations.Generation, unit: views.Unit) -> bool:
    """Whether the record names `unit`, at the address that it has."""
    founder = generation.founder(unit.name)
    return founder is not None and founder.peer_url == unit.peer_url


def may_hold(view: views.View, unit: views.Unit) -> bool:
    """Whether `unit` has data of the committed generation, or has not said that it has none."""
    generation = view.generation
    if generation is None:
        return False
    if unit.name == view.me:
        return view.disk.token == generation.token or may_start(view, unit)
    silent = unit.heard != generation.token
    return silent or unit.token == generation.token or may_start(view, unit)


def may_start(view: views.View, unit: views.Unit) -> bool:
    """Whether `unit` may start the committed generation by itself, before it tells of that.

    A founder of an empty cluster needs no data for it, one that lost the data of a restore fetches
    it anew, and what was kept is put back by whoever has it.
    """
    generation = view.generation
    if generation is None or unit.last_started >= generation.number:
        return False
    own = unit.name == view.me
    # A unit tells of one: it may have this one besides that of a proposal.
    ready = ready_for(view.disk, generation) if own else unit.prepared is not None
    if generation.source is generations.Source.PREVIOUS:
        return ready
    fetches = generation.source is generations.Source.BACKUP and not generation.confirmed
    fetches = fetches and (unit.failure is None or unit.failure.of != generation.token)
    new = generation.source is generations.Source.NEW
    return _founds(generation, unit) and (ready or new or fetches)


def ready_for(disk: views.Disk, record: generations.Generation) -> bool:
    """Whether `disk` has what `record` would start from beside `current/`."""
    back = record.source is generations.Source.PREVIOUS
    return record.token in (disk.kept if back else disk.prepared)


def confirm_key(generation: generations.Generation) -> str:
    """The clock of an unconfirmed generation."""
    return f"confirm:{generation.number}"


def overdue(view: views.View) -> bool:
    """Whether the committed generation should have been healthy by now."""
    if view.generation is None or view.generation.confirmed:
        return False
    return view.waited(confirm_key(view.generation)) > view.policy.confirm_deadline


def moved(member: views.Member, unit: views.Unit) -> bool:
    """Whether etcd still knows `unit` by another peer URL than it has."""
    return unit.peer_url is not None and unit.peer_url not in member.peer_urls


def stranded(view: views.View) -> tuple[views.Unit, ...]:
    """Enough units for a quorum, all of which etcd knows by other addresses: none finds another.

    One that stays would do: it is reached by the others, and talks to them on their connections.
    """
    if view.generation is None or view.etcd.members is not None:
        return ()
    left = {stands_for(view, u): u for u in alive(view) if committed(view, u)}
    away = all(_away(unit, member) for member, unit in left.items())
    accounted = told(view, view.generation.token)
    enough = all(len(set(a) & left.keys()) >= quorum(len(a)) for a in accounted)
    return tuple(left.values()) if away and enough else ()


def _away(unit: views.Unit, member: str) -> bool:
    """Whether etcd knows the member of `unit` by another address, as far as `unit` was told."""
    return (
        unit.peer_url != unit.registered_peer_url
        if unit.registered_peer_url
        else unit.name != member
    )


def wants_turn(view: views.View, unit: views.Unit) -> bool:
    """Whether the running etcd of `unit` has to restart for an address or a configuration."""
    member = member_of(view, unit)
    if member is None or member.learner or not committed(view, unit):
        return False
    return unit.stale or moved(member, unit)


def turn_of_another(view: views.View) -> bool:
    """Whether another unit may be restarting just now: no time to take a voter out.

    A unit that leaves sees the turn, and one that has the turn sees who leaves, whichever came
    first: so the two never meet. The leader takes an unused turn back in time.
    """
    turn = view.turn
    unit = view.unit(turn.unit)
    member = member_of(view, unit) if unit is not None else None
    if unit is None or member is None or turn.unit == view.me or not unit.alive:
        return False
    return unit.turn_done < turn.number and may_restart(view, member)


def somebody_leaves(view: views.View) -> bool:
    """Whether a unit is being removed, and may take its voter out at any moment."""
    return any(not u.alive for u in view.units)


def gave_up(view: views.View) -> bool:
    """Whether this unit has said that the committed, unconfirmed generation failed here."""
    generation, failure = view.generation, me(view).failure
    return (
        generation is not None
        and not generation.confirmed
        and failure is not None
        and failure.of == generation.token
    )
