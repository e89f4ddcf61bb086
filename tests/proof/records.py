"""What a run of the proof suite records, and the file that holds it.

One process records everything with one clock: `at`, `invoked` and `answered` are seconds of that
process's `time.monotonic()`. Revisions, terms and IDs are etcd's own, 0 where etcd did not tell.
Units are Juju's (`etcd/0`). Nothing here judges: see `judge`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import json
import types
import typing


class Kind(enum.Enum):
    """What an operation asks etcd for.

    Every transaction's branch that is not taken reads its key, so that a refusal to compare can
    be judged like a get.
    """

    GET = "get"  # range of `key`
    LIST = "list"  # range of all keys under the prefix `key`, without a limit
    PUT = "put"  # put `key` = `value`, with prev_kv
    CAS = "cas"  # if mod_revision(key) == expected then put `value` with prev_kv, else get key
    DELETE = "delete"  # if version(key) > 0 then delete key with prev_kv and put marker, else get
    LEASE_GRANT = "lease-grant"  # `key` is the lease's ID in decimal, `ttl` its time to live
    LEASE_REVOKE = "lease-revoke"  # `key` is the lease's ID in decimal
    LEASE_LIST = "lease-list"  # `names` are the IDs of all leases, in decimal
    USER_ADD = "user-add"  # `key` is the user's name
    USER_DELETE = "user-delete"
    USER_LIST = "user-list"  # `names` are all users
    ROLE_ADD = "role-add"
    ROLE_DELETE = "role-delete"
    ROLE_LIST = "role-list"


class Outcome(enum.Enum):
    """What the client knows of an operation's effect."""

    OK = "ok"  # acknowledged; of a transaction, see `succeeded`
    REFUSED = "refused"  # etcd's answer, or no connection at all, proves that nothing was applied
    UNKNOWN = "unknown"  # no answer, or one that proves nothing, such as a timeout


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of an answer of etcd.

    Attributes:
        cluster_id: which cluster answered.
        member_id: which of its members.
        revision: of the store, at the answer.
        raft_term: of the member.
    """

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int = 0


@dataclasses.dataclass(frozen=True)
class KV:
    """One version of a key, as etcd's `KeyValue`; of a delete event, `key` and `mod_revision`."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclasses.dataclass(frozen=True)
class Operation:
    """One request of a client and what became of it.

    Attributes:
        client: its name; a client has at most one operation at a time.
        kind: what it asked for.
        invoked: when it was sent, seconds.
        key: key, prefix (LIST), user, role or lease.
        value: unique in the run: what PUT and CAS write, what DELETE writes to its marker.
        marker: key that DELETE puts `value` to, under the same prefix as `key`.
        expected: mod revision that CAS compares with; 0 is "there is no such key".
        lease: lease that a PUT attaches `key` to, 0 for none.
        ttl: of LEASE_GRANT, seconds.
        linearizable: False for a serializable read, which may be old.
        pinned: the unit whose member alone the client talks to, "" for all endpoints.
        endpoint: `host:port` that the request went to.
        answered: when the answer or the error came, seconds; None for never.
        outcome: what that proves.
        error: text of the error, "" for none.
        header: of the answer, None without one.
        succeeded: whether the compare of CAS and DELETE held.
        prev: what a PUT, CAS or DELETE replaced, None for no key.
        kvs: what GET, LIST and the "else" of CAS and DELETE read.
        names: what USER_LIST, ROLE_LIST and LEASE_LIST read.
    """

    client: str
    kind: Kind
    invoked: float
    key: str
    value: str = ""
    marker: str = ""
    expected: int = 0
    lease: int = 0
    ttl: float = 0
    linearizable: bool = True
    pinned: str = ""
    endpoint: str = ""
    answered: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    error: str = ""
    header: Header | None = None
    succeeded: bool = True
    prev: KV | None = None
    kvs: tuple[KV, ...] = ()
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Event:
    """One event of a watch.

    Attributes:
        kv: what was put; for a deletion its key and the deletion's `mod_revision`.
        deleted: whether it is a deletion.
        prev: what was there before, None for no key or when etcd did not tell (compacted).
    """

    kv: KV
    deleted: bool = False
    prev: KV | None = None


@dataclasses.dataclass(frozen=True)
class WatchResponse:
    """One message of a watch stream, or its end.

    A stream begins with `created`. After `broken` or `canceled` the watcher connects again, with
    the next `connection`, from the revision after the last event or progress that it got, as
    clientv3 does; after a compaction it lists (an `Operation` of kind LIST whose client is the
    watcher's name) and goes on after the revision of that list.

    Attributes:
        watcher: its name.
        prefix: what is watched, always with prev_kv.
        connection: counts the watcher's streams, from 1.
        asked: start revision asked for on this stream, 0 for "from now".
        at: when it came, seconds.
        pinned: the unit whose member alone the watcher talks to, "" for all endpoints.
        endpoint: `host:port` of the stream.
        header: None where the stream broke.
        created: etcd accepted the watch.
        canceled: etcd ended the watch.
        compact_revision: with `canceled`: the oldest revision that can be watched, 0 for any
            other reason.
        reason: with `canceled` or `broken`: what was said.
        progress: a progress notification: all events up to the header's revision were sent.
        fragment: more of this response's events follow in the next one.
        broken: the connection is gone, or could not be made; nothing came from etcd.
        events: in the order they came.
    """

    watcher: str
    prefix: str
    connection: int
    asked: int
    at: float
    pinned: str = ""
    endpoint: str = ""
    header: Header | None = None
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    reason: str = ""
    progress: bool = False
    fragment: bool = False
    broken: bool = False
    events: tuple[Event, ...] = ()


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one member said of itself (etcd's `Status`), whether it is still one or not.

    Attributes:
        at: when it was asked, seconds.
        unit: whose machine was asked.
        answered: whether anything came.
        cluster_id: 0 when it did not answer, as all that follows.
        member_id: the member itself.
        revision: of its store.
        raft_term: its term.
        leader: member ID that it takes for the leader, 0 for none.
    """

    at: float
    unit: str
    answered: bool
    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0
    leader: int = 0


BACK = "back"
"""`Announcement.action`: from here on machines of removed units can be reached again."""


@dataclasses.dataclass(frozen=True)
class Announcement:
    """What the charm said of a generation or refused: the answer of an action or of a command.

    Attributes:
        at: when it was said, seconds.
        action: `restore`, `recover`, `rollback`, `remove-unit`, ...
        unit: who said it.
        failed: the action refused; only `text` counts then.
        generation: number of the generation that is to come, 0 when not told.
        revision: what it starts from: the snapshot's or the survivor's revision, 0 when not told.
        lost: revision above which it says that acknowledged writes are lost; None when it says
            that none are.
        text: all that was said.
    """

    at: float
    action: str
    unit: str = ""
    failed: bool = False
    generation: int = 0
    revision: int = 0
    lost: int | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Status:
    """A workload status as `juju status` showed it; recorded when it changes.

    Attributes:
        at: when it was seen first, seconds.
        unit: whose it is, or the application's name.
        status: `active`, `blocked`, `waiting`, ...
        message: beside it.
    """

    at: float
    unit: str
    status: str
    message: str


@dataclasses.dataclass(frozen=True)
class Kept:
    """Data that a machine set aside.

    Attributes:
        token: of the generation it belongs to, "" when unreadable.
        generation: that one's number.
    """

    token: str
    generation: int


@dataclasses.dataclass(frozen=True)
class Machine:
    """What lies and runs on a unit's machine at the end of a run.

    Attributes:
        unit: whose machine it is or was.
        removed: Juju has no such unit any more.
        reachable: False for a machine that is down: nothing else is known.
        etcd_running: etcd's process is there.
        number: of the newest generation record that the unit knows, 0 for none.
        token: of that record.
        confirmed: whether that record is.
        data_token: of the stamp of the current data, "" for none.
        data_generation: of that stamp.
        cluster_id: of the member that runs there, 0 for none.
        kept: what was set aside.
    """

    unit: str
    removed: bool = False
    reachable: bool = True
    etcd_running: bool = False
    number: int = 0
    token: str = ""
    confirmed: bool = False
    data_token: str = ""
    data_generation: int = 0
    cluster_id: int = 0
    kept: tuple[Kept, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fault:
    """An act of the run: a fault, its end or an operator's command. Told for reading, not judged.

    Attributes:
        at: when it began, seconds.
        name: `kill`, `pause`, `restore`, `heal`, ...
        target: unit or machine, "" for none.
        until: when it was over, None while it lasts to the end.
        text: what a reader wants to know besides.
    """

    at: float
    name: str
    target: str = ""
    until: float | None = None
    text: str = ""


Record = Operation | WatchResponse | Probe | Announcement | Status | Machine | Fault


@dataclasses.dataclass(frozen=True)
class History:
    """All that was recorded in one run.

    Attributes:
        prefix: what the traffic's keys begin with; nobody else writes there.
        began: when the traffic began, seconds.
        ended: when it ended, seconds; faults were over before that.
        operations: in any order.
        responses: in the order they came to each watcher.
        probes: in any order.
        announcements: in any order.
        statuses: in any order.
        machines: one for each unit that ever was.
        faults: in any order.
    """

    prefix: str
    began: float
    ended: float
    operations: tuple[Operation, ...] = ()
    responses: tuple[WatchResponse, ...] = ()
    probes: tuple[Probe, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    statuses: tuple[Status, ...] = ()
    machines: tuple[Machine, ...] = ()
    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(
        cls, prefix: str, began: float, ended: float, records: collections.abc.Iterable[Record]
    ) -> History:
        """The history of `records`, whose order within each type is kept."""
        sorted_: dict[str, list[typing.Any]] = {name: [] for name in _TYPES}
        for record in records:
            sorted_[_NAMES[type(record)]].append(record)
        return cls(prefix, began, ended, **{name: tuple(all_) for name, all_ in sorted_.items()})

    def records(self) -> collections.abc.Iterator[Record]:
        """All records, one type after the other."""
        for name in _TYPES:
            yield from getattr(self, name)

    def lines(self) -> collections.abc.Iterator[str]:
        """The history as JSON lines, each with its newline; the first is the head."""
        yield _json({"prefix": self.prefix, "began": self.began, "ended": self.ended})
        for record in self.records():
            yield line(record)

    @classmethod
    def read(cls, lines: collections.abc.Iterable[str]) -> History:
        """The history that `lines` wrote.

        A head that comes later counts instead of an earlier one: a recorder may write a first
        one, records as they come, and the head with the true end last.

        Raises:
            ValueError: there is no head, or a line is none of ours.
        """
        head: dict[str, typing.Any] = {}
        records: list[Record] = []
        number = 0
        try:
            for text in lines:
                number += 1
                raw = json.loads(text)
                if "type" in raw:
                    records.append(_read(_TYPES[raw.pop("type")], raw))
                else:
                    head = raw
            began, ended, prefix = head["began"], head["ended"], head["prefix"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"line {number} is not of a history: {error!r}") from error
        return cls.of(prefix, began, ended, records)


_TYPES: dict[str, type[typing.Any]] = {
    "operations": Operation,
    "responses": WatchResponse,
    "probes": Probe,
    "announcements": Announcement,
    "statuses": Status,
    "machines": Machine,
    "faults": Fault,
}
_NAMES = {type_: name for name, type_ in _TYPES.items()}


def line(record: Record) -> str:
    """One record as a JSON line with its newline; what is as by default is left out."""
    return _json({"type": _NAMES[type(record)], **_raw(record)})


def _json(raw: dict[str, typing.Any]) -> str:
    return json.dumps(raw, separators=(",", ":")) + "\n"


def _raw(value: typing.Any) -> typing.Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_raw(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    found = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {field.name: _raw(item) for field, item in found if item != field.default}


_hints: dict[type[typing.Any], dict[str, typing.Any]] = {}


def _read(kind: typing.Any, raw: typing.Any) -> typing.Any:
    """`raw` as a `kind`: a type of this module, a tuple or union of such, or a plain one."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_read(item, each) for each in raw)
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if raw is None else _read(inner, raw)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(raw)
    if dataclasses.is_dataclass(kind):
        hints = _hints.get(kind)
        if hints is None:
            hints = _hints[kind] = typing.get_type_hints(kind)
        return kind(**{name: _read(hints[name], item) for name, item in raw.items()})
    return raw
