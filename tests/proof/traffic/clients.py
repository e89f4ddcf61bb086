"""Clients: what a user's programs do, with all endpoints or pinned to one member."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from typing import TYPE_CHECKING, Protocol

from proof import records
from proof.traffic import operations, wire

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = 8
"""Keys that all clients write to."""
NAMES = 40
"""Users, and as many roles and leases, that one client leaves behind at most."""
PENALTY, MOST_PENALTY = 3.0, 15.0
"""Seconds that an endpoint which did not answer is left alone, while there are others: at first,
and at most, when it has not answered several times."""
LEASE_SECONDS = 3600.0
Kind = records.Kind
_MIX: dict[Kind, int] = {
    Kind.PUT: 30,
    Kind.GET: 22,
    Kind.CAS: 16,
    Kind.DELETE: 8,
    Kind.LIST: 10,
    Kind.LEASE_GRANT: 2,
    Kind.LEASE_REVOKE: 1,
    Kind.LEASE_LIST: 1,
    Kind.USER_ADD: 2,
    Kind.USER_DELETE: 1,
    Kind.USER_LIST: 2,
    Kind.ROLE_ADD: 2,
    Kind.ROLE_DELETE: 1,
    Kind.ROLE_LIST: 2,
}
"""Shares of the kinds of operations."""


class Sink(Protocol):
    """Who keeps what is recorded."""

    def __call__(self, record: records.Record) -> None:
        """Keep it."""
        ...


@dataclasses.dataclass(frozen=True)
class Peer:
    """A member to talk to.

    Attributes:
        unit: its Juju unit.
        endpoint: `198.18.0.10:2379`.
    """

    unit: str
    endpoint: str


class Connections:
    """One client's connections, made when first needed; the next one that may answer."""

    def __init__(self, credentials: wire.Credentials) -> None:
        self._credentials = credentials
        self._made: dict[str, wire.Connection] = {}
        self._avoid: dict[str, float] = {}
        self._penalties: dict[str, float] = {}
        self._turn = 0

    def to(self, endpoint: str) -> wire.Connection:
        """The connection to a member."""
        made = self._made.get(endpoint)
        if made is None:
            made = self._made[endpoint] = wire.Connection(endpoint, self._credentials)
        return made

    def next(self, peers: tuple[Peer, ...]) -> Peer:
        """Round robin over those that answered last, as clientv3's balancer picks ready ones."""
        self._turn += 1
        now = time.monotonic()
        ready = [peer for peer in peers if self._avoid.get(peer.endpoint, 0.0) <= now]
        chosen = ready or list(peers)
        return chosen[self._turn % len(chosen)]

    def avoid(self, endpoint: str) -> None:
        """It did not answer."""
        penalty = self._penalties.get(endpoint, PENALTY)
        self._penalties[endpoint] = min(2 * penalty, MOST_PENALTY)
        self._avoid[endpoint] = time.monotonic() + penalty

    def praise(self, endpoint: str) -> None:
        """It answered."""
        self._penalties.pop(endpoint, None)

    def close(self) -> None:
        """Close all of them."""
        for made in self._made.values():
            made.close()


class Client:
    """One client with one operation at a time.

    Args:
        name: unique in the run.
        prefix: of all keys.
        peers: whom it may ask, as of now.
        pinned: the unit whose member alone it asks, "" for all.
        credentials: its certificate.
        sink: takes each operation when it is over.
        rate: operations per second.
        limit: operations at most.
        seconds: that an answer may take.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        peers: Callable[[], tuple[Peer, ...]],
        pinned: str,
        credentials: wire.Credentials,
        sink: Sink,
        rate: float,
        limit: int,
        seconds: float = 3.0,
    ) -> None:
        self.name = name
        self._prefix = prefix
        self._peers = peers
        self._pinned = pinned
        self._sink = sink
        self._rate = rate
        self._limit = limit
        self._seconds = seconds
        self._connections = Connections(credentials)
        self._random = random.Random(name)
        self._count = 0
        self._seen: dict[str, int] = {}
        self._leases: list[str] = []
        self._users: list[str] = []
        self._roles: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop, or until the limit."""
        while self._count < self._limit and not stop.wait(
            self._random.uniform(0.5, 1.5) / self._rate
        ):
            self.do(self._next())
        self._connections.close()

    def read_all(self) -> records.Operation:
        """Read the whole prefix."""
        return self.do({"kind": Kind.LIST, "key": self._prefix})

    def do(self, wanted: dict) -> records.Operation:
        """One operation at the next member, recorded."""
        self._count += 1
        peer = self._connections.next(self._peers())
        asked = records.Operation(
            client=self.name,
            invoked=time.monotonic(),
            pinned=self._pinned,
            endpoint=peer.endpoint,
            **wanted,
        )
        try:
            found = operations.carry_out(self._connections.to(peer.endpoint), asked, self._seconds)
            over = operations.done(asked, time.monotonic(), found)
            self._connections.praise(peer.endpoint)
        except wire.Failed as error:
            over = operations.undone(asked, time.monotonic(), error)
            if error.silent:
                self._connections.avoid(peer.endpoint)
        self._sink(over)
        self._learn(over)
        return over

    def _next(self) -> dict:
        kind = self._random.choices(list(_MIX), list(_MIX.values()))[0]
        match kind:
            case Kind.USER_ADD | Kind.ROLE_ADD | Kind.LEASE_GRANT:
                return self._adding(kind)
            case Kind.USER_DELETE | Kind.ROLE_DELETE | Kind.LEASE_REVOKE:
                return self._removing(kind)
            case Kind.USER_LIST | Kind.ROLE_LIST | Kind.LEASE_LIST:
                return {"kind": kind, "key": ""}
            case Kind.LIST:
                return {"kind": kind, "key": self._prefix}
        key = f"{self._prefix}k{self._random.randrange(KEYS)}"
        if kind is Kind.GET:
            stale = bool(self._pinned) and self._random.random() < 0.3
            return {"kind": kind, "key": key, "linearizable": not stale}
        wanted = {"kind": kind, "key": key, "value": f"{self.name}.{self._count}"}
        if kind is Kind.CAS:
            wanted["expected"] = self._seen.get(key, 0)
        if kind is Kind.DELETE:
            wanted["marker"] = f"{self._prefix}m{self.name}"
        if kind is Kind.PUT and self._leases and self._random.random() < 0.1:
            wanted["lease"] = int(self._random.choice(self._leases))
        return wanted

    def _adding(self, kind: Kind) -> dict:
        if self._count > self._limit or len(self._kept(kind)) >= NAMES:
            return {"kind": Kind.LIST, "key": self._prefix}
        if kind is Kind.LEASE_GRANT:
            return {"kind": kind, "key": str(self._random.getrandbits(62)), "ttl": LEASE_SECONDS}
        return {"kind": kind, "key": f"{self._prefix.rstrip('/')}-{self.name}-{self._count}"}

    def _removing(self, kind: Kind) -> dict:
        kept = self._kept(kind)
        if not kept:
            return {"kind": Kind.LIST, "key": self._prefix}
        return {"kind": kind, "key": kept.pop(self._random.randrange(len(kept)))}

    def _kept(self, kind: Kind) -> list[str]:
        if kind in (Kind.LEASE_GRANT, Kind.LEASE_REVOKE):
            return self._leases
        return self._users if kind in (Kind.USER_ADD, Kind.USER_DELETE) else self._roles

    def _learn(self, over: records.Operation) -> None:
        """Remember what the answer told, for the next comparison."""
        if over.kind in (Kind.USER_ADD, Kind.ROLE_ADD, Kind.LEASE_GRANT):
            if over.outcome is records.Outcome.OK:
                self._kept(over.kind).append(over.key)
            return
        if over.lease and "lease not found" in over.error:
            self._leases = [lease for lease in self._leases if int(lease) != over.lease]
        if over.header is None:
            return
        for found in over.kvs:
            self._seen[found.key] = found.mod_revision
        if over.kind is Kind.GET and not over.kvs:
            self._seen.pop(over.key, None)
        if over.kind in (Kind.PUT, Kind.CAS) and over.succeeded:
            self._seen[over.key] = over.header.revision
        if over.kind is Kind.DELETE:
            self._seen.pop(over.key, None)


class Prober:
    """Asks one member for its own status, whether its unit is still there or not."""

    def __init__(
        self, peer: Peer, credentials: wire.Credentials, sink: Sink, every: float
    ) -> None:
        self._peer = peer
        self._credentials = credentials
        self._sink = sink
        self._every = every

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        connection = wire.Connection(self._peer.endpoint, self._credentials)
        while not stop.wait(self._every):
            self._sink(self._probe(connection))
        connection.close()

    def _probe(self, connection: wire.Connection) -> records.Probe:
        at, unit = time.monotonic(), self._peer.unit
        try:
            answer = connection.status(wire.rpc.StatusRequest(), 1.5)
        except wire.Failed:
            return records.Probe(at, unit, False)
        head = answer.header
        return records.Probe(
            at,
            unit,
            True,
            head.cluster_id,
            head.member_id,
            head.revision,
            head.raft_term,
            answer.leader,
        )
