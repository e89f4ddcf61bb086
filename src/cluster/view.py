"""The frozen picture that policy decides on: what Juju says, what etcd says, what the disk holds.

Nothing here does I/O. `observe` builds a `View`; `plan` reads it.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster import generation as generations


@dataclasses.dataclass(frozen=True, order=True)
class DiskFacts:
    """How far a data directory got, comparable: a greater one holds more.

    Attributes:
        term: last raft term in the log.
        index: last raft index in the log.
        revision: the key-value store's revision.
    """

    term: int
    index: int
    revision: int


@dataclasses.dataclass(frozen=True)
class KnownVoters:
    """Who votes in a cluster, by one unit's word.

    Attributes:
        voters: unit names, in order.
        token: of the cluster, "" for none.
    """

    voters: tuple[str, ...] = ()
    token: str = ""


@dataclasses.dataclass(frozen=True)
class Failure:
    """What did not work on a unit.

    Attributes:
        of: token of the proposal or founding, or fingerprint of the options.
        reason: one sentence.
    """

    of: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Turn:
    """Who may restart etcd now.

    Attributes:
        unit: its name, "" for nobody.
        number: the running number of that grant, 0 before the first.
    """

    unit: str = ""
    number: int = 0


@dataclasses.dataclass(frozen=True)
class Fenced:
    """What some data was stopped for.

    Attributes:
        number: of the later generation, 0 for none.
        where: the peer URL that serves that one, "" where it is not known.
    """

    number: int = 0
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One unit of the application, as Juju and its databag tell.

    Attributes:
        name: `etcd/0`.
        alive: Juju has it and it is not dying.
        peer_url: published, None until the unit is installed and has its certificates.
        client_url: published with `peer_url`.
        token: token of the data in its `current/`, None when it has none.
        member_id: etcd member ID it runs as, None when etcd is not running there.
        started: etcd runs there and answered its last observation.
        prepared: token of the proposal, else of the committed generation, whose data is ready on
            its disk and was not started yet.
        failure: of a proposal or founding that failed there.
        facts: what its disk holds, published when the cluster does not answer.
        stale: its running etcd lacks a configuration or trust change: it wants a restart.
        last_started: number of the newest generation whose data this unit ever started, 0 for
            none. It stays when the data is gone: it forbids a second `new` on a wiped disk.
        voters: unit names of the voters that it last told of (see `queries.known_voters`).
        voters_of: token of the cluster that has these voters.
        joins: how many times it was added as a learner within the last hour.
        member: the member name in the stamp of its data, see `Disk.member`.
        turn_done: number of the last restart turn that it used (see `View.turn`).
        registered_peer_url: what etcd listed for it when a quorum last answered it, "" before.
        heard: token of the committed generation that it knew when it told all this: what it says
            of an earlier one is no news of this one.
        broken: etcd cannot use the data of its `current/`.
        unanswered: no quorum has answered it for longer than `Policy.answer_wait`. Where it has
            no data, it gets none before it has taken this word back.
        options: fingerprint of the options that its running etcd was last started with.
        refused: of options that etcd cannot have there.
        cut_off: its etcd cannot dial a member that answers others, as far as was looked.
    """

    name: str
    alive: bool = True
    peer_url: str | None = None
    client_url: str | None = None
    token: str | None = None
    member_id: int | None = None
    started: bool = False
    prepared: str | None = None
    failure: Failure | None = None
    facts: DiskFacts | None = None
    stale: bool = False
    last_started: int = 0
    voters: tuple[str, ...] = ()
    voters_of: str = ""
    member: str = ""
    joins: int = 0
    turn_done: int = 0
    registered_peer_url: str = ""
    heard: str = ""
    broken: bool = False
    unanswered: bool = False
    options: str = ""
    refused: Failure | None = None
    cut_off: bool = False


@dataclasses.dataclass(frozen=True)
class Alarm:
    """An armed alarm; `kind` is NOSPACE or CORRUPT."""

    member_id: int
    kind: str


UNNAMED = Alarm(0, "CORRUPT")
"""What etcd arms when members hold different keys and it does not tell whose are wrong.

Before 3.6 that is so for every follower: the answers that the leader compares name no member.
"""


@dataclasses.dataclass(frozen=True)
class Member:
    """One member, as etcd's member list and a status probe of its endpoint tell.

    Attributes:
        id: member ID.
        name: "" until it has started for the first time.
        peer_urls: where peers reach it.
        client_urls: empty until it has started for the first time.
        learner: a non-voting member.
        healthy: its endpoint answered a status probe in time.
        raft_index: last index it knows, 0 when it did not answer.
        corrupt: it has a CORRUPT alarm.
        version: of the etcd that it runs, `3.5.16`, "" when it did not answer.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    learner: bool = False
    healthy: bool = False
    raft_index: int = 0
    corrupt: bool = False
    version: str = ""


class Service(enum.Enum):
    """What systemd says of etcd on this unit."""

    ABSENT = "absent"  # etcd is not installed yet
    STOPPED = "stopped"
    RUNNING = "running"
    FAILED = "failed"  # gave up, or keeps restarting


@dataclasses.dataclass(frozen=True)
class Disk:
    """This unit's data root.

    Attributes:
        token: stamp of `current/`, None when there is no current data: a stamp without a
            write-ahead log beside it is a founding or joining that never came to be.
        prepared: tokens under `prepared/`.
        kept: tokens under `kept/`.
        facts: offline facts of `current/`, None when unread or without data.
        broken: why etcd cannot use `current/` ("" when nothing is known against it): a corrupt
            database, a bad WAL, a member that was removed.
        differs: how many members etcd found to hold other keys than `current/`, where that is
            why it gave up.
        finished: number of the newest generation that `Finish` was done for here.
        member: the member name in the stamp: another unit's when its storage was attached here.
        fenced: what `current/` was stopped for.
        closed: no client reaches `current/`, only the cluster's own units do, until `Open`.
    """

    token: str | None = None
    prepared: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    facts: DiskFacts | None = None
    broken: str = ""
    differs: int = 0
    finished: int = 0
    member: str = ""
    fenced: Fenced = Fenced()
    closed: bool = False


@dataclasses.dataclass(frozen=True)
class Etcd:
    """The cluster as this unit sees it through its client.

    Attributes:
        service: the local service.
        members: the linearizable member list of the committed generation's cluster, None when
            no quorum of it answers: what a cluster of another generation says is no answer.
        cluster_id: from the answer, None without one.
        leader: raft leader's member ID, None when there is none.
        local_id: member ID of the local etcd, None when it does not answer.
        stale: the running local etcd lacks a configuration or trust change.
        alarms: armed alarms.
        clock_skewed: the certificates that the others show are not valid by this machine's clock.
        failure: why the local etcd gave up although its data can be used, "" when it did not.
        installed: version of the etcd that is installed on this unit, "" where that is unknown.
    """

    service: Service = Service.ABSENT
    members: tuple[Member, ...] | None = None
    cluster_id: int | None = None
    leader: int | None = None
    local_id: int | None = None
    stale: bool = False
    alarms: tuple[Alarm, ...] = ()
    clock_skewed: bool = False
    failure: str = ""
    installed: str = ""


@dataclasses.dataclass(frozen=True)
class Policy:
    """The operator's choices and the bounds, times in seconds.

    Attributes:
        founding_wait: how long the leader waits for planned units before it founds without them.
        learner_deadline: how long an unpromoted learner may block the queue.
        prepare_deadline: how long units may take to prepare a proposal.
        prepare_lag: how much longer than the first of them the others may take, or as long again
            as it took, whichever is more.
        confirm_deadline: how long a committed restore may take to become healthy.
        turn_wait: how long a joining unit lets each one before it in the queue go first.
        answer_wait: how long no quorum may answer before that counts as an answer.
        join_limit: how many times an hour one unit may be added as a learner.
        recover_quorum_loss: found anew from a survivor without being asked.
        recover_total_loss: found anew from the newest proven backup without being asked.
    """

    founding_wait: float = 90.0
    learner_deadline: float = 900.0
    prepare_deadline: float = 3600.0
    prepare_lag: float = 300.0
    confirm_deadline: float = 300.0
    turn_wait: float = 30.0
    answer_wait: float = 60.0
    join_limit: int = 3
    recover_quorum_loss: bool = False
    recover_total_loss: bool = False


@dataclasses.dataclass(frozen=True)
class View:
    """Everything `plan` may know.

    Attributes:
        me: this unit's name.
        leader: this unit is Juju's leader for the next 30 s.
        now: wall clock, seconds.
        since: when this unit first saw the situation `plan` is waiting on (see `Plan.waiting_on`):
            a map from a waiting key to a wall-clock time, kept by the caller between hooks.
        ready: this unit has everything to start etcd: package, certificates, configuration.
        dying: Juju is removing this unit.
        planned: how many units Juju plans.
        units: all units of the application that Juju or the relation know, this one included.
        generation: the committed record.
        proposal: the proposed next record (a restore being prepared).
        disk: this unit's data root.
        etcd: the cluster as seen from here.
        fresh_token: a random token the plan may use for a new generation (randomness is I/O).
        recover: an operator's confirmed `recover` order: unit whose disk founds anew, or None.
        policy: choices and bounds.
        turn: who may restart etcd now.
        newest_backup: what a record says of the newest proven backup, with the highest revision
            that any backup knows of as `high`; None when there is none or nobody looked.
        held: why no cluster may be founded without its backups, one sentence, "" when nothing
            speaks against an empty one.
        beside: members of an earlier generation that still serve and can be reached, looked for
            while the committed one is not confirmed.
        said_unanswered: what the other units can read of this one, until its hook has ended, is
            that no quorum answers it (`Unit.unanswered`).
    """

    me: str
    leader: bool
    now: float
    ready: bool
    dying: bool
    planned: int
    units: tuple[Unit, ...]
    generation: generations.Generation | None
    proposal: generations.Generation | None
    disk: Disk
    etcd: Etcd
    fresh_token: str
    since: tuple[tuple[str, float], ...] = ()
    recover: str | None = None
    policy: Policy = Policy()
    turn: Turn = Turn()
    newest_backup: generations.Detail | None = None
    held: str = ""
    beside: tuple[str, ...] = ()
    said_unanswered: bool = False

    def unit(self, name: str) -> Unit | None:
        """The unit called `name`, None when neither Juju nor the relation knows it."""
        return next((u for u in self.units if u.name == name), None)

    def waited(self, key: str) -> float:
        """Seconds since this unit first saw the situation `key`, 0 when it just did."""
        return next((max(0.0, self.now - t) for k, t in self.since if k == key), 0.0)
