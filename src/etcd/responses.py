"""What etcd answers, in one shape whether gRPC or the gateway was asked.

Facts are dictionaries by the names of etcd's JSON; gRPC's messages are brought into them.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Any

from cluster import view as views
from etcd import protowire

if TYPE_CHECKING:
    import pathlib

_KEY_NUMBERS = ("create_revision", "mod_revision", "version", "lease")
_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


@dataclasses.dataclass(frozen=True)
class EndpointStatus:
    """What one endpoint says of itself.

    Attributes:
        endpoint: the URL asked.
        member_id: who answered.
        cluster_id: its cluster.
        version: of the server, `3.5.16`.
        db_size: bytes of the database file.
        db_in_use: bytes of it in use; 0 where etcd does not tell.
        leader: member ID of the raft leader it knows, 0 for none.
        learner: it has no vote.
        raft_term: its raft term.
        raft_index: its last committed raft index.
        raft_applied: its last applied raft index.
        errors: what it reports against itself, alarms for the most part.
        latency: seconds the answer took.
        storage_version: of its store, `3.6.0`; "" before etcd 3.6.
    """

    endpoint: str
    member_id: int
    cluster_id: int
    version: str
    db_size: int
    db_in_use: int
    leader: int
    learner: bool
    raft_term: int
    raft_index: int
    raft_applied: int
    errors: tuple[str, ...]
    latency: float
    storage_version: str = ""


@dataclasses.dataclass(frozen=True)
class Probe:
    """The outcome of asking one endpoint for its status: an answer or the reason of none."""

    endpoint: str
    status: EndpointStatus | None = None
    error: str = ""

    @property
    def healthy(self) -> bool:
        """It answered, knows a leader, and reports nothing against itself."""
        return self.status is not None and bool(self.status.leader) and not self.status.errors


@dataclasses.dataclass(frozen=True)
class Membership:
    """The member list as one endpoint gave it.

    Attributes:
        members: by ID.
        cluster_id: of the endpoint's cluster.
        responder: member ID of the endpoint.
        leader: raft leader's member ID that `Client.observe` saw, 0 when it saw none.
        alarms: all armed alarms that `Client.observe` saw, None when nobody told.
    """

    members: tuple[views.Member, ...]
    cluster_id: int
    responder: int
    leader: int = 0
    alarms: tuple[views.Alarm, ...] | None = None

    def by_id(self, member_id: int) -> views.Member | None:
        """The member of this ID, or None."""
        return next((m for m in self.members if m.id == member_id), None)

    def by_url(self, peer_url: str) -> views.Member | None:
        """The member with this peer URL, or None."""
        return next((m for m in self.members if peer_url in m.peer_urls), None)


@dataclasses.dataclass(frozen=True)
class Added:
    """A member that was just added (or was there), and the list it is now part of."""

    member: views.Member
    membership: Membership

    def initial_cluster(self, name: str) -> str:
        """`--initial-cluster` for the joiner called `name`: exactly the list etcd will check."""
        pairs = [
            (name if member.id == self.member.id else member.name, peer_url)
            for member in self.membership.members
            for peer_url in member.peer_urls
        ]
        return ",".join(f"{member}={peer_url}" for member, peer_url in sorted(pairs))


@dataclasses.dataclass(frozen=True)
class KeyValue:
    """One key at one revision."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


@dataclasses.dataclass(frozen=True)
class HashKV:
    """Hash of one member's store up to `revision`, comparable at equal `compact_revision`."""

    hash: int
    compact_revision: int
    revision: int


@dataclasses.dataclass(frozen=True)
class Download:
    """A snapshot on disk: bytes, sha256 of the whole file, seconds it took, cluster it is of."""

    path: pathlib.Path
    size: int
    sha256: str
    seconds: float


def header_facts(response: Any) -> dict[str, Any]:
    """Facts of the header of any of gRPC's responses."""
    header = response.header
    return {
        "cluster_id": header.cluster_id,
        "member_id": header.member_id,
        "revision": header.revision,
    }


def members_facts(response: Any) -> dict[str, Any]:
    """Facts of gRPC's MemberListResponse, or one of the others that list all members."""
    members = [member_facts(raw) for raw in response.members]
    return {"header": header_facts(response), "members": members}


def member_facts(raw: Any) -> dict[str, Any]:
    """Facts of gRPC's Member."""
    return {
        "ID": raw.ID,
        "name": raw.name,
        "peerURLs": raw.peerURLs,
        "clientURLs": raw.clientURLs,
        "isLearner": protowire.number(raw.SerializeToString(), 5),
    }


def status_facts(response: Any) -> dict[str, Any]:
    """Facts of gRPC's StatusResponse, with the fields that etcd3 does not know."""
    raw = response.SerializeToString()
    return {
        "header": header_facts(response),
        "version": response.version,
        "dbSize": response.dbSize,
        "dbSizeInUse": protowire.number(raw, 9),
        "leader": response.leader,
        "isLearner": protowire.number(raw, 10),
        "raftTerm": response.raftTerm,
        "raftIndex": response.raftIndex,
        "raftAppliedIndex": protowire.number(raw, 7),
        "errors": [text.decode(errors="replace") for text in protowire.chunks(raw, 8)],
        "storageVersion": protowire.chunk(raw, 11).decode(errors="replace"),
    }


def alarm_facts(response: Any) -> dict[str, Any]:
    """Facts of gRPC's AlarmResponse."""
    alarms = [
        {"memberID": a.memberID, "alarm": _ALARMS.get(int(a.alarm), "")} for a in response.alarms
    ]
    return {"header": header_facts(response), "alarms": alarms}


def range_facts(response: Any) -> dict[str, Any]:
    """Facts of gRPC's RangeResponse."""
    return {
        "kvs": [
            {
                "key": base64.b64encode(kv.key),
                "value": base64.b64encode(kv.value),
                **{name: getattr(kv, name) for name in _KEY_NUMBERS},
            }
            for kv in response.kvs
        ]
    }


def alarms(facts: dict[str, Any]) -> tuple[views.Alarm, ...]:
    """The armed alarms that we know."""
    return tuple(
        views.Alarm(int(alarm.get("memberID", 0)), str(alarm["alarm"]))
        for alarm in facts.get("alarms", ())
        if alarm.get("alarm") in _ALARMS.values()
    )


def member(facts: dict[str, Any]) -> views.Member:
    """One member."""
    return views.Member(
        id=int(facts["ID"]),
        name=str(facts.get("name", "")),
        peer_urls=tuple(sorted(facts.get("peerURLs", ()))),
        client_urls=tuple(sorted(facts.get("clientURLs", ()))),
        learner=bool(facts.get("isLearner", False)),
    )


def membership(facts: dict[str, Any]) -> Membership:
    """All members, sorted by name, and who answered."""
    members = sorted(
        (member(raw) for raw in facts.get("members", ())), key=lambda m: (m.name, m.id)
    )
    header = facts["header"]
    return Membership(tuple(members), int(header["cluster_id"]), int(header["member_id"]))


def status(endpoint: str, facts: dict[str, Any], latency: float) -> EndpointStatus:
    """How one endpoint is; `latency` in seconds."""
    header = facts["header"]
    index = int(facts.get("raftIndex", 0))
    return EndpointStatus(
        endpoint=endpoint,
        member_id=int(header["member_id"]),
        cluster_id=int(header["cluster_id"]),
        version=str(facts.get("version", "")),
        db_size=int(facts.get("dbSize", 0)),
        db_in_use=int(facts.get("dbSizeInUse", 0)),
        leader=int(facts.get("leader", 0)),
        learner=bool(facts.get("isLearner", False)),
        raft_term=int(facts.get("raftTerm", 0)),
        raft_index=index,
        raft_applied=int(facts.get("raftAppliedIndex", 0)) or index,
        errors=tuple(str(text) for text in facts.get("errors", ())),
        latency=latency,
        storage_version=str(facts.get("storageVersion", "")),
    )


def key_value(facts: dict[str, Any]) -> KeyValue:
    """One key."""
    return KeyValue(
        base64.b64decode(facts["key"]),
        base64.b64decode(facts.get("value", "")),
        *(int(facts.get(name, 0)) for name in _KEY_NUMBERS),
    )
