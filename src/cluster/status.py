"""What `juju status` says: a name and one sentence for each situation, read from the view."""

from __future__ import annotations

import datetime
import enum

from cluster import founding, joining, leaving, losses, queries, reasons, restoring
from cluster import generation as generations
from cluster import view as views


class State(enum.Enum):
    """A name for each situation of the cluster that `juju status` shows: a key of `reasons`."""

    INSTALLING = "installing"
    FOUNDING = "founding"
    HELD = "held"  # an empty cluster would be founded beside the backups of another
    JOINING = "joining"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    RESTORING = "restoring"
    ROLLED_BACK = "rolled-back"
    QUORUM_LOST = "quorum-lost"
    RECOVERING = "recovering"
    NOT_RECOVERED = "not-recovered"  # the best disk could not be used, and a lesser one never is
    LEAVING = "leaving"
    CORRUPT = "corrupt"
    DIFFERENT = "different"  # members hold different keys, and etcd does not say whose are wrong
    CLOCK = "clock"  # the others' certificates are not valid now
    DOWN = "down"  # etcd gave up, and not because of its data
    FENCED = "fenced"  # a later generation is served, and Juju has not told this unit of it yet
    STUCK = "stuck"  # a unit was added too often without becoming a voter
    CONFLICT = "conflict"  # data of several clusters, and no record of which one is ours
    DATA_LOST = "data-lost"  # no unit has the cluster's data any more

    @property
    def status(self) -> str:
        """Juju's word for it: active, waiting, maintenance or blocked."""
        return reasons.REASONS[self.value].status


Status = tuple[State, str]


def aftermath(state: State, withdrawn: str, committed: generations.Generation | None) -> str:
    """Why the last restore or recovery did not come to be, said until the next one; else "".

    Args:
        state: the situation, whose own sentence may say it already.
        withdrawn: why the last proposal was given up, "" when it was not.
        committed: the record in force.
    """
    if state is State.NOT_RECOVERED:
        return ""
    if withdrawn:
        return f"the last restore or recovery was given up, nothing was changed: {withdrawn}"
    if committed is None or committed.source is not generations.Source.PREVIOUS:
        return ""
    return f"the last restore failed and was undone: {committed.detail.reason}"


def describe(view: views.View) -> Status:
    """The state and its sentence: the first question with an answer gives it."""
    for question in (
        _basics,
        _clock,
        _fenced,
        _broken,
        _replacing,
        _recovering,
        _down,
        _no_quorum,
        _different,
        _joining,
    ):
        answer = question(view)
        if answer is not None:
            return answer
    return _cluster(view)


def _basics(view: views.View) -> Status | None:
    if view.dying:
        waits = leaving.waits_for(view)
        return State.LEAVING, f"leaving the cluster; {waits}" if waits else "leaving the cluster"
    if not view.ready:
        return State.INSTALLING, "installing etcd"
    if view.generation is not None or view.proposal is not None:
        return None
    if founding.data_without_record(view):
        return _unrecorded(view)
    if view.held:
        return State.HELD, f"not founded: {view.held}"
    there, planned = len(queries.published(view)), max(view.planned, len(queries.alive(view)))
    return State.FOUNDING, f"waiting for units to found the cluster: {there} of {planned} ready"


def _clock(view: views.View) -> Status | None:
    if not view.etcd.clock_skewed or not queries.unanswered(view):
        return None
    now = datetime.datetime.fromtimestamp(view.now, datetime.timezone.utc)
    return State.CLOCK, (
        "the other members' certificates are not valid by the clock of this machine, which says "
        f"{now:%Y-%m-%d %H:%M} UTC: set the clock; the data is as it was"
    )


def _unrecorded(view: views.View) -> Status:
    tokens = {queries.token_of(view, u) for u in view.units} - {None}
    if len(tokens) > 1:
        return State.CONFLICT, (
            "attached disks hold data of different clusters, nothing was started: "
            f"run {_run(view, 'recover unit=UNIT')} with the unit whose data to use"
        )
    return _choosing(view, "founding the cluster from the attached disks")


def _choosing(view: views.View, words: str) -> Status:
    """How far the choice of the disk to found from has come."""
    waiting, best = founding.awaited(view), founding.best(view)
    if waiting:
        return State.RECOVERING, (
            f"{words}, waiting for {', '.join(waiting)}: {_run(view, 'recover')} goes on without "
            "what is awaited"
        )
    if best is not None and best.failure is not None:
        return State.NOT_RECOVERED, (
            f"{best.name}, whose disk holds most, could not found the cluster: "
            f"{best.failure.reason}; "
            "its data is as it was, and it is tried again each minute: mend that, or run "
            f"{_run(view, 'recover unit=UNIT')} with a unit that holds less"
        )
    return State.RECOVERING, words


def _broken(view: views.View) -> Status | None:
    member = queries.mine(view)
    reason = view.disk.broken or ("etcd reports it" if member and member.corrupt else "")
    if not reason or not queries.committed(view, queries.me(view)):
        return None
    if view.etcd.members is None:
        way = f"run {_run(view, 'recover')}" if losses.hopeless(view) else _look(view)
        return State.CORRUPT, f"data unusable ({reason}) and no quorum answers: {way}"
    return State.CORRUPT, (
        f"data unusable ({reason}), kept until the other members can spare this one: "
        f"run {_run(view, 'restore backup-id=latest')} if they never will"
    )


def _fenced(view: views.View) -> Status | None:
    number, where = view.disk.fenced.number, view.disk.fenced.where
    if view.generation is None or number < view.generation.number:
        return None
    if not queries.committed(view, queries.me(view)):
        return None
    served = f" is served at {where}" if where else " is served"
    return State.FENCED, (
        f"etcd was stopped here: generation {number}{served}; its data is as it was, and this "
        "unit joins when Juju tells it of that generation"
    )


def _down(view: views.View) -> Status | None:
    if not view.etcd.failure or not queries.committed(view, queries.me(view)):
        return None
    return State.DOWN, (
        f"etcd cannot run: {view.etcd.failure}; its data is as it was, "
        "and it starts again by itself once that is mended"
    )


def _replacing(view: views.View) -> Status | None:
    proposal, generation = view.proposal, view.generation
    if proposal is not None and proposal.source is generations.Source.SURVIVOR:
        return State.RECOVERING, _preparing(view, proposal)
    if proposal is not None:
        count = sum(restoring.prepared(view, f.unit) for f in proposal.founders)
        total = len(proposal.founders)
        return State.RESTORING, f"preparing the restore: {count} of {total} units ready"
    if generation is not None and not generation.closed and view.disk.closed:
        return State.RESTORING, "letting clients reach the restored cluster"
    if generation is None or generation.confirmed or queries.overdue(view):
        return None
    stops = f", waiting for {', '.join(view.beside)} to stop" if view.beside else ""
    if generation.source is generations.Source.BACKUP:
        return State.RESTORING, f"starting the restored cluster{stops}"
    if generation.source is generations.Source.SURVIVOR:
        unit = generation.founders[0].unit
        return State.RECOVERING, f"starting the cluster from the data of {unit}{stops}"
    if generation.source is generations.Source.PREVIOUS:
        reason = generation.detail.reason
        return State.ROLLED_BACK, f"the restore failed, returning to the old data: {reason}"
    return None


def _preparing(view: views.View, proposal: generations.Generation) -> str:
    """Of a survivor: only its disk will do, and only the operator can say that it is gone."""
    name = proposal.founders[0].unit
    words = f"preparing the data of {name}"
    if view.waited(restoring.proposal_key(proposal)) <= view.policy.prepare_lag:
        return words
    return (
        f"{words}, whose disk holds most: start its machine, or run "
        f"`juju remove-unit --force {name}` to go on without it"
    )


def _never_started(view: views.View) -> Status:
    """There is no disk to recover from, and the leader founds anew when it knows that."""
    coming = [u.name for u in queries.untold(view)]
    if not coming:
        return State.FOUNDING, "founding the cluster anew: its first founders are gone"
    return State.FOUNDING, (
        "too few of the units that were to found the cluster are left, and "
        f"{_listed(coming)} may have the disk of one and has yet to tell: {_without(coming)}"
    )


def _recovering(view: views.View) -> Status | None:
    if losses.all_lost(view):
        if view.policy.recover_total_loss and view.newest_backup is not None:
            return State.RECOVERING, "no unit has data left: restoring the newest proven backup"
        why = f", and {view.held}" if view.held else ""
        return State.DATA_LOST, (
            f"no unit has the cluster's data any more{why}: "
            f"run {_run(view, 'restore backup-id=latest')}"
        )
    if founding.never_starts(view):
        return _never_started(view)
    if not losses.lost_by_juju(view):
        return None
    words = "a majority of members was removed"
    if losses.may_recover(view):
        return _choosing(view, words)
    coming = [u.name for u in queries.untold(view)]
    if coming:
        return State.QUORUM_LOST, (
            f"{words}, and {', '.join(coming)} may have the disk of one and has yet to tell: "
            f"{_without(coming)}"
        )
    return State.QUORUM_LOST, f"{words}: run {_run(view, 'recover')}"


def _without(coming: list[str]) -> str:
    """What to do about units that have told nothing yet: some never come up."""
    order = f"`juju remove-unit --force {' '.join(coming)}`"
    return f"wait for {_them(coming)}, or run {order} to go on without {_them(coming)}"


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _run(view: views.View, action: str) -> str:
    return f"`juju run {view.me.rpartition('/')[0]}/leader {action}`"


def _no_quorum(view: views.View) -> Status | None:
    generation = view.generation
    if generation is None or view.etcd.members is not None:
        return None
    if (
        generation.source is generations.Source.NEW
        and not generation.confirmed
        and not queries.overdue(view)
    ):
        return State.FOUNDING, "founding the cluster"
    newcomer = queries.me(view).last_started < generation.number and view.disk.token is None
    if newcomer or not queries.unanswered(view):  # to a newcomer the others may be unknown yet
        state = State.JOINING if newcomer else State.DEGRADED
        return state, "waiting for a quorum of members to answer"
    moved = queries.stranded(view)
    if moved:
        names = ", ".join(u.name for u in moved)
        known = ", ".join(u.registered_peer_url for u in moved if u.registered_peer_url)
        back = f"give the machines {known} back, or " if known else ""
        return State.QUORUM_LOST, (
            f"no quorum of members answers, since etcd knows {names} by other addresses: "
            f"{back}run {_run(view, 'recover')}"
        )
    if losses.hopeless(view):
        return State.QUORUM_LOST, (
            "no quorum of members is left: every unit that may have data looks for one in vain; "
            f"run {_run(view, 'recover')}"
        )
    return State.QUORUM_LOST, f"no quorum of members answers: {_look(view)}"


def _look(view: views.View) -> str:
    """What to do about members that may be well, where nobody here sees them."""
    coming = [u.name for u in queries.untold(view)]
    others = [u for u in view.units if u.name != view.me and u.name not in coming]
    names = ", ".join(u.name for u in others if not u.started) or ", ".join(u.name for u in others)
    ways = [f"start the machines of {names}, or mend the network between them and this one"]
    ways = ways if names else []
    if coming:
        has = "has" if len(coming) == 1 else "have"
        ways.append(f"{_listed(coming)} {has} yet to tell what is on disk: {_without(coming)}")
    return "; ".join(ways)


def _different(view: views.View) -> Status | None:
    if views.UNNAMED not in view.etcd.alarms:
        return None
    application = view.me.rpartition("/")[0]
    return State.DIFFERENT, (
        "etcd found that its members hold different keys and lets nobody write: the one that a "
        "majority disagrees with is made anew by itself; where no majority agrees, run "
        f"`juju remove-unit {application}/N` with the unit that is wrong, or "
        f"{_run(view, 'restore backup-id=latest')}"
    )


def _joining(view: views.View) -> Status | None:
    member = queries.mine(view)
    if member is not None and not member.learner and view.disk.token is not None:
        return None
    if member is not None and view.disk.token is not None:
        return State.JOINING, "catching up as a learner"
    if joining.exhausted(view):
        return State.STUCK, (
            f"this unit was added {queries.me(view).joins} times within an hour and did not catch "
            f"up: run `juju remove-unit {view.me}` and `juju add-unit "
            f"{view.me.rpartition('/')[0]}`"
        )
    busy = queries.learner(view)
    if busy is not None and busy is not member:
        return State.JOINING, f"waiting for {busy.name or 'another unit'} to join first"
    return State.JOINING, "joining the cluster"


def _cluster(view: views.View) -> Status:
    """The cluster as a whole: healthy is when units, members and voters are the same."""
    members = view.etcd.members or ()
    wrong = [problem for check in (_members, _units) for problem in check(view)]
    if wrong:
        return State.DEGRADED, "; ".join(wrong)
    words = [f"Healthy with {len(members)} known peers", *_versions(view)]
    return State.HEALTHY, "; ".join(words)


def _versions(view: views.View) -> list[str]:
    """Which members run another etcd than this unit has installed: an upgrade that is not over."""
    installed = view.etcd.installed
    running: dict[str, list[str]] = {}
    for member in view.etcd.members or ():
        if member.version and installed and member.version != installed:
            running.setdefault(member.version, []).append(_name(member))
    return [
        f"{_listed(names)} {'runs' if len(names) == 1 else 'run'} etcd {version}, and {view.me} "
        f"has {installed} installed"
        for version, names in sorted(running.items())
    ]


def _serves(view: views.View, unit: views.Unit) -> bool:
    """Whether etcd says it is a healthy member while it has not told of any data yet."""
    member = queries.member_of(view, unit)
    return queries.token_of(view, unit) is None and member is not None and member.healthy


def _members(view: views.View) -> list[str]:
    members = view.etcd.members or ()
    foreign = [m for m in members if m.name and queries.unit_of(view, m) is None]
    known = [m for m in members if m not in foreign]
    return [
        *(_foreign(view, m) for m in foreign),
        *(_silent(view, m) for m in known if not m.healthy and not m.learner),
        *(f"etcd reports the data of {_name(m)} as corrupt" for m in members if m.corrupt),
        *(f"{_name(m)} catches up as a learner" for m in members if m.learner),
    ]


def _foreign(view: views.View, member: views.Member) -> str:
    if not queries.ours(view, member):
        order = f"member-remove member={member.id:x}"
        return f"{member.name} is the member of no unit: {_run(view, order)} removes it"
    coming = [u.name for u in queries.untold(view)]
    if coming:
        disks = "has told what its disk holds" if len(coming) == 1 else "have told what they hold"
        return (
            f"{member.name} has no unit any more, and stays until {_listed(coming)} {disks}; "
            f"`juju show-status-log {coming[0]}` says how far {coming[0]} is"
        )
    if queries.may_remove(view, member):
        return f"{member.name} has no unit any more: Juju's leader removes it"
    return f"{member.name} has no unit any more, and the others cannot spare it yet"


def _silent(view: views.View, member: views.Member) -> str:
    unit = queries.unit_of(view, member)
    if unit is None or unit.name == view.me:
        return f"{_name(member)} does not answer"
    return (
        f"{_name(member)} does not answer: start the machine of {unit.name}, or mend the network "
        "to it"
    )


def _name(member: views.Member) -> str:
    return member.name or f"the new member {member.id:x}"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _units(view: views.View) -> list[str]:
    missing = [u.name for u in queries.alive(view) if queries.member_of(view, u) is None]
    other = [
        u.name
        for u in queries.alive(view)
        if u.name not in missing and not queries.committed(view, u) and not _serves(view, u)
    ]
    problems: list[str] = []
    if cut_off := [u.name for u in queries.alive(view) if u.cut_off]:
        problems.append(
            f"etcd on {_listed(cut_off)} cannot dial other members, and no other one restarts "
            "meanwhile: look for a proxy, or a firewall in front of their peer ports"
        )
    if missing:
        is_none = "is not a member" if len(missing) == 1 else "are not members"
        problems.append(f"{_listed(missing)} {is_none} yet")
    if other:
        does = "does not run" if len(other) == 1 else "do not run"
        problems.append(f"{_listed(other)} {does} the committed generation")
    if view.etcd.leader is None:
        problems.append("no member leads")
    names = {m.id: m.name for m in view.etcd.members or ()}
    full = [names.get(a.member_id, "") for a in view.etcd.alarms if a.kind == "NOSPACE"]
    if full:
        problems.append(
            f"alarm NOSPACE on {', '.join(full)}: run {_run(view, 'alarm-disarm')} "
            "once there is room again"
        )
    return problems
