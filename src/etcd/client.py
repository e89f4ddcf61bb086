"""Online work: the one class that talks to a running etcd.

It stands on `etcd3` 0.12.0, which gives the TLS channel, the stubs and the messages, and adds what
that package lacks: learners, promotion, moving the leader, the fields that etcd grew since, and
failover between endpoints. `etcd3` does not import with a current protobuf unless the pure Python
implementation is chosen first, and its import costs more than a hook, and more memory than the
keeper: it happens at the first change of members or of the store, or when the gateway cannot tell
(`gateway`).
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import re
import sys
import threading
import time
import urllib.parse
import warnings
from typing import TYPE_CHECKING, Any, cast

from cluster import view
from etcd import errors, files, gateway, wire

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Generator, Sequence

SNAPSHOT_HASH = 32  # bytes of sha256 behind the pages
SNAPSHOT_BLOCK = 512  # the pages are a multiple of it
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
    # A snapshot is read by the thread that waits for it: a quarter less of its CPU time.
    ("SingleThreadedUnaryStream", 1),
)
# etcd answers at once instead of waiting when it sees no leader.
_HAS_LEADER = (("hasleader", "true"),)


@dataclasses.dataclass(frozen=True)
class TLSFiles:
    """Paths of PEM files: the CA bundle to trust, and a certificate with its key."""

    ca: pathlib.Path
    cert: pathlib.Path
    key: pathlib.Path


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
    """The member list as one endpoint gave it."""

    members: tuple[view.Member, ...]
    cluster_id: int
    responder: int

    def by_id(self, member_id: int) -> view.Member | None:
        """The member of this ID, or None."""
        return next((m for m in self.members if m.id == member_id), None)


@dataclasses.dataclass(frozen=True)
class Added:
    """A member that was just added (or was there), and the list it is now part of."""

    member: view.Member
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
class Alarm:
    """An armed alarm; `kind` is NOSPACE or CORRUPT."""

    member_id: int
    kind: str


CLOSED = Alarm(0, "CORRUPT")
"""What a restored cluster starts with (`bolt.close`): no client can write until it is disarmed."""


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


class Client:
    """A connection to a cluster through several endpoints, tried in order.

    Not for use by several threads at once. Everything raises `errors.EtcdError`.
    """

    def __init__(self, endpoints: Sequence[str], tls: TLSFiles, timeout: float = 5.0) -> None:
        """Remember where to connect; nothing is sent yet.

        Args:
            endpoints: client URLs, `https://198.18.0.10:2379`, tried in this order.
            tls: CA bundle to trust, client certificate and its key.
            timeout: seconds that a call may take in all, over all endpoints.
        """
        if not endpoints:
            raise errors.UnreachableError("no etcd endpoint is known")
        self.endpoints = tuple(dict.fromkeys(_normal(e) for e in endpoints))
        self.timeout = timeout
        self._tls = tls
        self._connections: dict[str, Any] = {}
        self._gateways: dict[str, gateway.Gateway | None] = {}
        self._preferred = self.endpoints[0]

    def __enter__(self) -> Client:
        """Use as a context manager, so that channels are closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all channels."""
        self.close()

    def close(self) -> None:
        """Close all channels."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        for light in self._gateways.values():
            if light is not None:
                light.close()
        self._gateways.clear()

    # Members

    def members(self, linearizable: bool = True) -> Membership:
        """The member list; `healthy`, `raft_index` and `corrupt` of its members are not known.

        Args:
            linearizable: agreed by a quorum; otherwise what the endpoint believes.
        """

        def ask(endpoint: str, timeout: float) -> Membership:
            if linearizable:
                # etcd 3.4 answers from local state whatever the request says: a linearizable
                # read first makes that state at least as new as this moment.
                began = time.monotonic()
                try:
                    self._look(endpoint, "read", timeout)
                except errors.LearnerError:
                    raise
                except errors.RefusedError:
                    pass  # no permission, or a CORRUPT alarm: refused by a quorum all the same
                timeout = max(timeout - (time.monotonic() - began), 0.1)
            wanted = "members" if linearizable else "local members"
            return _membership(self._look(endpoint, wanted, timeout))

        return self._failover(ask)

    def observe(self) -> Membership:
        """The linearizable member list, with each member's health, raft index and corruption.

        Members are probed in parallel at their own client URLs, within half the timeout.
        """
        membership = self.members()
        urls = {m.id: m.client_urls[0] for m in membership.members if m.client_urls}
        probes = self.statuses(tuple(urls.values()), self.timeout / 2)
        by_endpoint = {probe.endpoint: probe for probe in probes}
        corrupt: set[int] = set()
        with contextlib.suppress(errors.EtcdError):
            corrupt = {a.member_id for a in self.alarms() if a.kind == "CORRUPT"}
        members: list[view.Member] = []
        for member in membership.members:
            probe = by_endpoint.get(_normal(urls[member.id])) if member.id in urls else None
            status = probe.status if probe else None
            answered = status is not None and status.member_id == member.id
            members.append(
                dataclasses.replace(
                    member,
                    healthy=answered and status is not None and status.leader != 0,
                    raft_index=status.raft_index if answered and status is not None else 0,
                    corrupt=member.id in corrupt,
                )
            )
        return dataclasses.replace(membership, members=tuple(members))

    def add_learner(self, peer_urls: Sequence[str], deadline: float = 12.0) -> Added:
        """Add a learner; when a member has one of these peer URLs already, answer with that one.

        Args:
            peer_urls: where its peers will reach it.
            deadline: seconds to go on while etcd refuses because of a recent change (its 5 s
                rule) or a change of leader.
        """
        rpc = _rpc()
        wanted = tuple(peer_urls)

        def attempt() -> Added:
            known = self.members()
            for member in known.members:
                if set(member.peer_urls) & set(wanted):
                    return Added(member, known)
            plain = rpc.MemberAddRequest(peerURLs=wanted).SerializeToString()
            request = rpc.MemberAddRequest.FromString(plain + b"\x10\x01")  # isLearner = true
            response = self._call("clusterstub", "MemberAdd", request)
            return Added(_member(_member_facts(response.member)), _membership(_members(response)))

        return self._patiently(attempt, deadline)

    def promote(self, member_id: int, deadline: float = 0.0) -> bool:
        """Make a learner a voter; False when it is one already.

        Raises:
            errors.NotInSyncError: it has not caught up (or never started); ask again later.
        """
        rpc = _rpc()

        def attempt() -> bool:
            member = self.members().by_id(member_id)
            if member is None:
                raise errors.NoSuchMemberError(f"there is no member {member_id:x}")
            if not member.learner:
                return False
            self._call("", "MemberPromote", rpc.MemberRemoveRequest(ID=member_id))
            return True

        return self._patiently(attempt, deadline)

    def remove(self, member_id: int, deadline: float = 12.0) -> bool:
        """Remove a member; False when it is gone already."""
        request = _rpc().MemberRemoveRequest(ID=member_id)

        def attempt() -> bool:
            try:
                self._call("clusterstub", "MemberRemove", request)
            except errors.NoSuchMemberError:
                return False
            return True

        return self._patiently(attempt, deadline)

    def update(self, member_id: int, peer_urls: Sequence[str], deadline: float = 12.0) -> bool:
        """Change where its peers reach a member; False when they do so already.

        Raises:
            errors.LearnerError: it is a learner: etcd before 3.5.31 and 3.6.12 would promote it.
        """
        request = _rpc().MemberUpdateRequest(ID=member_id, peerURLs=tuple(peer_urls))

        def attempt() -> bool:
            member = self.members().by_id(member_id)
            if member is None:
                raise errors.NoSuchMemberError(f"there is no member {member_id:x}")
            if set(member.peer_urls) == set(peer_urls):
                return False
            if member.learner:
                raise errors.LearnerError(
                    f"member {member.name or f'{member_id:x}'} is a learner: its peer URL can "
                    "change after it was promoted, or it is removed and added again"
                )
            self._call("clusterstub", "MemberUpdate", request)
            return True

        return self._patiently(attempt, deadline)

    def leader(self) -> int:
        """Member ID of the raft leader.

        Raises:
            errors.NoQuorumError: there is none.
        """
        leader = self.status().leader
        if not leader:
            leader = next((p.status.leader for p in self.statuses() if p.status), 0)
        if not leader:
            raise errors.NoQuorumError("the cluster has no leader")
        return leader

    def move_leader(self, to: int, deadline: float = 10.0) -> bool:
        """Hand leadership to the voter `to` and wait until it has it; False when it had it.

        Args:
            to: member ID of the next leader.
            deadline: seconds.
        """
        rpc = _rpc()
        until = time.monotonic() + deadline

        def attempt() -> bool:
            leader = self.leader()
            if leader == to:
                return False
            target = self.members(linearizable=False).by_id(to)
            if target is None:
                raise errors.NoSuchMemberError(f"there is no member {to:x}")
            if target.learner:
                raise errors.LearnerError(
                    f"member {target.name or f'{to:x}'} is a learner and cannot lead"
                )
            endpoint = self._endpoint_of(leader)
            self._send(
                endpoint, "maintenancestub", "MoveLeader", rpc.MoveLeaderRequest(targetID=to),
                max(until - time.monotonic(), 0.5),
            )  # fmt: skip
            return True

        moved = self._patiently(attempt, deadline)
        while moved:
            with contextlib.suppress(errors.EtcdError):
                if self.leader() == to:
                    break
            if time.monotonic() > until:
                raise errors.NoQuorumError(
                    f"leadership did not reach member {to:x} within {deadline:.0f} s"
                )
            time.sleep(0.05)
        return moved

    def _endpoint_of(self, member_id: int) -> str:
        """An endpoint that is this member's: a probed one of ours, or its client URL."""
        for probe in self.statuses():
            if probe.status and probe.status.member_id == member_id:
                return probe.endpoint
        member = self.members(linearizable=False).by_id(member_id)
        if member is None or not member.client_urls:
            raise errors.UnreachableError(f"no endpoint of member {member_id:x} is known")
        return _normal(member.client_urls[0])

    # Status and health

    def status(self, endpoint: str | None = None, timeout: float | None = None) -> EndpointStatus:
        """Status of one endpoint, by default of the first that answers."""

        def ask(chosen: str, limit: float) -> EndpointStatus:
            began = time.monotonic()
            facts = self._look(chosen, "status", limit)
            return _status(chosen, facts, time.monotonic() - began)

        limit = self.timeout if timeout is None else timeout
        return self._failover(ask, limit) if endpoint is None else ask(_normal(endpoint), limit)

    def statuses(
        self, endpoints: Sequence[str] | None = None, timeout: float | None = None
    ) -> tuple[Probe, ...]:
        """Ask endpoints for their status, all at once.

        Args:
            endpoints: by default all of this client's.
            timeout: seconds for all of them together.
        """
        targets = self.endpoints if endpoints is None else tuple(_normal(e) for e in endpoints)
        limit = self.timeout if timeout is None else timeout
        if not targets:
            return ()

        def probe(target: str) -> Probe:
            try:
                return Probe(target, self.status(target, limit))
            except errors.EtcdError as error:
                return Probe(target, None, str(error))

        with concurrent.futures.ThreadPoolExecutor(min(len(targets), 16)) as pool:
            return tuple(pool.map(probe, targets))

    def health(self, endpoint: str | None = None) -> float:
        """Seconds that one linearizable read takes.

        Raises:
            errors.EtcdError: it cannot be done: no quorum, or a CORRUPT alarm.
        """
        began = time.monotonic()
        if endpoint is None:
            self._failover(lambda chosen, timeout: self._look(chosen, "read", timeout))
        else:
            self._look(_normal(endpoint), "read", self.timeout)
        return time.monotonic() - began

    def metrics(self, endpoint: str) -> str:
        """One endpoint's metrics, as Prometheus reads them."""
        target = _normal(endpoint)
        self._check_files()
        try:
            tls = gateway.context(self._tls.ca, self._tls.cert, self._tls.key)
            return gateway.page(target, "/metrics", tls, self.timeout)
        except (OSError, gateway.UnusableError) as error:
            raise translate(target, "UNAVAILABLE", str(error), self.timeout) from error

    def alarms(self) -> tuple[Alarm, ...]:
        """All armed alarms."""
        return _alarms(self._failover(lambda e, t: self._look(e, "alarms", t)))

    def disarm(self, alarm: Alarm | None = None) -> int:
        """Disarm one alarm, or all but `CLOSED`; answers how many were armed."""
        rpc = _rpc()
        targets = [a for a in self.alarms() if a != CLOSED] if alarm is None else [alarm]
        kinds = {"NOSPACE": 1, "CORRUPT": 2}
        for target in targets:
            request = rpc.AlarmRequest(
                action=2, memberID=target.member_id, alarm=kinds[target.kind]
            )
            self._call("maintenancestub", "Alarm", request)
        return len(targets)

    # Upkeep

    def defragment(self, endpoint: str, timeout: float = 600.0) -> None:
        """Defragment one member, which answers nobody meanwhile; a timeout does not stop it."""
        request = _rpc().DefragmentRequest()
        self._send(_normal(endpoint), "maintenancestub", "Defragment", request, timeout)

    def compact(self, revision: int, physical: bool = False, timeout: float = 60.0) -> None:
        """Forget revisions below `revision`; `physical` waits until they are off the disk."""
        request = _rpc().CompactionRequest(revision=revision, physical=physical)
        self._failover(
            lambda e, t: self._send(e, "kvstub", "Compact", request, t, _HAS_LEADER), timeout
        )

    def hash_kv(self, endpoint: str, revision: int = 0, timeout: float = 60.0) -> HashKV:
        """Hash of one member's keys up to `revision` (0: its newest); its writes wait for it."""
        request = _rpc().HashKVRequest(revision=revision)
        response = self._send(_normal(endpoint), "maintenancestub", "HashKV", request, timeout)
        at = revision or int(response.header.revision)
        return HashKV(int(response.hash), int(response.compact_revision), at)

    def revision(self) -> int:
        """The store's revision, by a linearizable read."""
        facts = self._failover(lambda e, t: self._look(e, "read", t))
        return int(facts["header"].get("revision", 0))

    def auth_enabled(self) -> bool | None:
        """Whether authentication is on; None where etcd cannot tell (before 3.5)."""
        try:
            # AuthStatusResponse: enabled = 2; its request has no fields.
            response = self._call("", "AuthStatus", _rpc().StatusRequest())
        except errors.RefusedError as error:
            if "unknown method" in error.reason.lower():
                return None
            raise
        return bool(wire.number(response, 2))

    # Keys

    def get(self, key: str | bytes, serializable: bool = False) -> KeyValue | None:
        """A key's value, or None when there is no such key."""
        fields = {"key": _bytes(key), "serializable": serializable}
        found = self._request("Range", fields).get("kvs")
        return _key_value(found[0]) if found else None

    def get_prefix(self, prefix: str | bytes, limit: int = 0) -> tuple[KeyValue, ...]:
        """All keys that begin with `prefix`, in order, at most `limit` (0: all)."""
        start = _bytes(prefix) or b"\0"
        end = _prefix_end(_bytes(prefix))
        request = _rpc().RangeRequest(key=start, range_end=end, limit=limit)
        response = self._call("kvstub", "Range", request)
        return tuple(_key_value(facts) for facts in _range_facts(response)["kvs"])

    def count(self) -> int:
        """How many keys there are; etcd goes through its whole index for it."""
        request = _rpc().RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        return int(self._call("kvstub", "Range", request).count)

    def put(self, key: str | bytes, value: str | bytes, lease: int = 0) -> int:
        """Write a key; answers the store's new revision."""
        request = _rpc().PutRequest(key=_bytes(key), value=_bytes(value), lease=lease)
        return int(self._call("kvstub", "Put", request).header.revision)

    def delete(self, key: str | bytes) -> int:
        """Delete a key; answers the store's new revision, 0 when there was no such key."""
        response = self._call("kvstub", "DeleteRange", _rpc().DeleteRangeRequest(key=_bytes(key)))
        return int(response.header.revision) if response.deleted else 0

    def create(self, key: str | bytes, value: str | bytes, lease: int = 0) -> int:
        """Write a key that does not exist; answers the new revision, 0 when it does exist."""
        return self.replace(key, value, 0, lease)

    def replace(
        self, key: str | bytes, value: str | bytes, mod_revision: int, lease: int = 0
    ) -> int:
        """Write a key last changed at `mod_revision` (0: that does not exist).

        Answers the store's new revision, 0 when the key is another than that.
        """
        fields = {"key": _bytes(key), "value": _bytes(value), "lease": lease}
        return self._txn(key, mod_revision, "request_put", fields)

    def withdraw(self, key: str | bytes, mod_revision: int) -> int:
        """Delete a key last changed at `mod_revision`; answers as `replace` does."""
        return self._txn(key, mod_revision, "request_delete_range", {"key": _bytes(key)})

    def _txn(
        self, key: str | bytes, mod_revision: int, operation: str, fields: dict[str, Any]
    ) -> int:
        compare = {"target": "MOD", "key": _bytes(key), "mod_revision": mod_revision}
        request = {"compare": [compare], "success": [{operation: fields}]}
        answer = self._request("Txn", request, repeatable=False)
        return int(answer["header"]["revision"]) if answer.get("succeeded") else 0

    # Leases

    def grant(self, ttl: int) -> int:
        """A lease of `ttl` seconds; answers its ID."""
        return int(self._request("LeaseGrant", {"TTL": ttl})["ID"])

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; answers its seconds to live, 0 when it is gone."""
        answer = self._request("LeaseKeepAlive", {"ID": lease})
        return max(int(answer.get("TTL", 0)), 0)

    def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; one that is gone is no error."""
        try:
            self._request("LeaseRevoke", {"ID": lease})
        except errors.RefusedError as error:
            if "lease not found" not in error.reason:
                raise

    # Snapshot

    def snapshot(
        self,
        path: pathlib.Path,
        endpoint: str | None = None,
        timeout: float = 3600.0,
        progress: Callable[[int], None] | None = None,
        durable: bool = True,
    ) -> Download:
        """Stream one member's database into a file that appears only when complete.

        Memory use does not depend on the size. The stream's own sha256 is checked on the way.

        Args:
            path: the file to write, replaced when it exists.
            endpoint: the member to ask, by default the one that answered last.
            timeout: seconds for the whole stream.
            progress: called with the bytes written so far.
            durable: flush it to the disk; what is only passed on needs no such burst of writes.

        Raises:
            errors.TruncatedError: the stream ended early.
            errors.BadHashError: its content does not match its hash.
            errors.TargetError: the file cannot be written.
        """
        source = self._preferred if endpoint is None else _normal(endpoint)
        part = path.with_name(path.name + ".part")
        began = time.monotonic()
        try:
            size, sha256 = self._download(source, part, timeout, progress)
            if durable:
                files.fsync(part)
            part.replace(path)
            if durable:
                files.fsync(path.parent)
        except OSError as error:
            raise errors.TargetError(
                f"the snapshot cannot be written to {path}: {error.strerror or error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return Download(path, size, sha256, time.monotonic() - began)

    def _download(
        self,
        source: str,
        part: pathlib.Path,
        timeout: float,
        progress: Callable[[int], None] | None,
    ) -> tuple[int, str]:
        rpc = _rpc()
        pages, tail, size = hashlib.sha256(), b"", 0
        stream = self._connect(source).channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc.SnapshotRequest.SerializeToString,
            response_deserializer=_same,
        )
        with part.open("wb") as file, _translated(source, timeout):
            os.chmod(file.fileno(), 0o600)
            responses = stream(rpc.SnapshotRequest(), timeout=timeout)
            try:
                for response in responses:
                    for field, value in wire.walk(memoryview(response)):
                        if field == 3 and not isinstance(value, int):
                            file.write(value)
                            size += len(value)
                            tail = _digest(pages, tail, value)
                    if progress:
                        progress(size)
            finally:
                responses.cancel()
        if size % SNAPSHOT_BLOCK != SNAPSHOT_HASH:
            raise errors.TruncatedError(f"the snapshot stream of {source} ended too early")
        if pages.digest() != tail:
            raise errors.BadHashError(f"the snapshot stream of {source} does not match its hash")
        pages.update(tail)
        return size, pages.hexdigest()

    # Plumbing

    def _look(self, endpoint: str, what: str, timeout: float) -> dict[str, Any]:
        """One look at one endpoint, in the shape of the gateway's answers.

        Args:
            endpoint: whom to ask.
            what: a key of `_LOOKS`.
            timeout: seconds.
        """
        began = time.monotonic()
        path, body = _LOOKS[what]
        facts = self._lightly(endpoint, path, body, timeout, what in _NEED_LEADER)
        if facts is not None:
            return facts
        timeout = max(timeout - (time.monotonic() - began), 0.1)
        rpc = _rpc()
        if what == "read":
            answer = self._send(
                endpoint, "kvstub", "Range", _probe_range(rpc), timeout, _HAS_LEADER
            )
            return {"header": _header(answer)}
        if what == "status":
            request = rpc.StatusRequest()
            return _status_facts(
                self._send(endpoint, "maintenancestub", "Status", request, timeout)
            )
        if what == "alarms":
            request = rpc.AlarmRequest(action=0)
            answer = self._send(
                endpoint, "maintenancestub", "Alarm", request, timeout, _HAS_LEADER
            )
            return _alarm_facts(answer)
        request = rpc.MemberListRequest.FromString(b"\x08\x01" if what == "members" else b"")
        return _members(self._send(endpoint, "clusterstub", "MemberList", request, timeout))

    def _request(
        self, method: str, fields: dict[str, Any], repeatable: bool = True
    ) -> dict[str, Any]:
        """One request on keys or leases to the cluster, in the shape of the gateway's answers.

        Args:
            method: a key of `_PATHS`.
            fields: the request's, by etcd's names.
            repeatable: it may be sent twice.
        """
        path, body = _PATHS[method], _json(fields)

        def ask(endpoint: str, timeout: float) -> dict[str, Any]:
            began = time.monotonic()
            facts = self._lightly(endpoint, path, body, timeout, True, repeatable)
            if facts is not None:
                return facts
            left = max(timeout - (time.monotonic() - began), 0.1)
            return self._heavily(endpoint, method, fields, left)

        return self._failover(ask, repeatable=repeatable)

    def _heavily(
        self, endpoint: str, method: str, fields: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        """What `_request` asks, through gRPC."""
        rpc = _rpc()
        if method == "Range":
            request = rpc.RangeRequest(**fields)
            return _range_facts(
                self._send(endpoint, "kvstub", method, request, timeout, _HAS_LEADER)
            )
        if method == "Txn":
            request = _txn_request(rpc, fields)
            answer = self._send(endpoint, "kvstub", method, request, timeout, _HAS_LEADER)
            return {"header": _header(answer), "succeeded": answer.succeeded}
        if method == "LeaseKeepAlive":
            stub = self._connect(endpoint).leasestub
            with _translated(endpoint, timeout):
                requests = iter([rpc.LeaseKeepAliveRequest(**fields)])
                stream = stub.LeaseKeepAlive(requests, timeout=timeout)
                for response in stream:
                    stream.cancel()
                    return {"TTL": response.TTL}
            return {}
        request = getattr(rpc, f"{method}Request")(**fields)
        answer = self._send(endpoint, "leasestub", method, request, timeout, _HAS_LEADER)
        return {"ID": answer.ID} if method == "LeaseGrant" else {}

    def _lightly(
        self,
        endpoint: str,
        path: str,
        body: dict[str, Any],
        timeout: float,
        need_leader: bool,
        repeatable: bool = True,
    ) -> dict[str, Any] | None:
        """The gateway's answer; None where gRPC has to be asked."""
        light = self._gateway(endpoint)
        if light is None:
            return None
        try:
            return light.ask(path, body, timeout, need_leader, repeatable)
        except gateway.StatusError as error:
            raise translate(endpoint, error.code, error.details, timeout) from error
        except gateway.UnusableError:
            self._gateways[endpoint] = None
            light.close()
            return None
        except TimeoutError as error:
            raise translate(endpoint, "DEADLINE_EXCEEDED", "", timeout) from error
        except OSError as error:
            raise translate(endpoint, "UNAVAILABLE", str(error), timeout) from error

    def _gateway(self, endpoint: str) -> gateway.Gateway | None:
        """The light way to an endpoint; None when gRPC is loaded already, or has to do it."""
        if endpoint in self._gateways:
            return self._gateways[endpoint]
        made = None
        if not _loaded():
            self._check_files()
            with contextlib.suppress(gateway.UnusableError):
                tls = gateway.context(self._tls.ca, self._tls.cert, self._tls.key)
                made = gateway.Gateway(endpoint, tls)
        self._gateways[endpoint] = made
        return made

    def _check_files(self) -> None:
        for path in (self._tls.ca, self._tls.cert, self._tls.key):
            if not path.is_file():
                raise errors.UnreachableError(f"there is no TLS file {path} to connect with")

    def _connect(self, endpoint: str) -> Any:
        if endpoint not in self._connections:
            self._check_files()
            parts = urllib.parse.urlsplit(endpoint)
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            self._connections[endpoint] = _etcd3().client(
                host=host,
                port=parts.port or 2379,
                ca_cert=str(self._tls.ca),
                cert_cert=str(self._tls.cert),
                cert_key=str(self._tls.key),
                timeout=self.timeout,
                grpc_options=_OPTIONS,
            )
        return self._connections[endpoint]

    def _send(
        self,
        endpoint: str,
        stub: str,
        method: str,
        request: Any,
        timeout: float,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """One request to one endpoint; `stub` is "" for calls that etcd3 does not know."""
        connection = self._connect(endpoint)
        call = getattr(getattr(connection, stub), method) if stub else _extra(connection, method)
        with _translated(endpoint, timeout):
            return call(request, timeout=timeout, metadata=metadata)

    def _call(self, stub: str, method: str, request: Any, repeatable: bool = True) -> Any:
        return self._failover(
            lambda endpoint, timeout: self._send(
                endpoint, stub, method, request, timeout, _HAS_LEADER
            ),
            repeatable=repeatable,
        )

    def _failover(
        self,
        ask: Callable[[str, float], Any],
        timeout: float | None = None,
        repeatable: bool = True,
    ) -> Any:
        """Ask endpoint after endpoint within one deadline, the one that answered last first.

        An election that is under way is waited for, up to half of the time.

        Args:
            ask: called with an endpoint and its seconds; raises our errors.
            timeout: seconds in all.
            repeatable: a request that may have been applied can be sent again.
        """
        limit = self.timeout if timeout is None else timeout
        until = time.monotonic() + limit
        sent = False
        while True:
            failures: list[errors.EtcdError] = []
            order = sorted(self.endpoints, key=lambda e: e != self._preferred)
            for position, endpoint in enumerate(order):
                left = until - time.monotonic()
                if left <= 0:
                    break
                share = max(left / (len(order) - position), min(left, 1.0))
                try:
                    answer = ask(endpoint, share)
                except (
                    errors.UnreachableError,
                    errors.NoQuorumError,
                    errors.LearnerError,
                ) as error:
                    sent = sent or getattr(error, "sent", False)
                    if sent and not repeatable:
                        raise
                    failures.append(error)
                else:
                    self._preferred = endpoint
                    return answer
            failure = _summary(failures, sent)
            if not isinstance(failure, errors.NoQuorumError):
                raise failure
            if until - time.monotonic() < limit / 2:
                raise failure
            time.sleep(0.2)

    def _patiently(self, attempt: Callable[[], Any], deadline: float) -> Any:
        """Repeat while etcd's health rule or an election stands in the way, within `deadline`."""
        import tenacity  # costly, and most hooks change no members

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((errors.UnhealthyError, errors.NoQuorumError)),
            stop=tenacity.stop_after_delay(deadline),
            wait=tenacity.wait_fixed(0.5),
            reraise=True,
        )
        return retrying(attempt)


class Election:
    """One holder among many candidates, by a key that lives as long as its holder's lease."""

    def __init__(self, client: Client, key: str, name: str, ttl: int = 15) -> None:
        """Be a candidate.

        Args:
            client: how to reach etcd.
            key: what is contended for.
            name: this candidate, the value of the key when it holds.
            ttl: seconds after which a silent holder loses it.
        """
        self._client = client
        self._key = key
        self._name = name
        self._ttl = ttl
        self._lease = 0

    def campaign(self) -> bool:
        """Become or stay the holder; True when this candidate holds the key now."""
        if self._lease and not self._client.keep_alive(self._lease):
            self._lease = 0
        found = self._client.get(self._key)
        if found is not None:
            return bool(self._lease) and found.lease == self._lease
        if not self._lease:
            self._lease = self._client.grant(self._ttl)
        if self._client.create(self._key, self._name, self._lease):
            return True
        self.resign()
        return False

    def go_through(self, client: Client) -> None:
        """Use another client from now on; what is held stays held."""
        self._client = client

    def resign(self) -> None:
        """Let go of the key, if held."""
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(errors.EtcdError):
                self._client.revoke(lease)

    def holder(self) -> str:
        """Who holds the key, "" for nobody."""
        found = self._client.get(self._key)
        return found.value.decode(errors="replace") if found else ""


_importing = threading.Lock()


def _loaded() -> bool:
    return "etcd3" in sys.modules


def _etcd3() -> Any:
    with _importing:
        os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import etcd3  # type: ignore[import-untyped]
    return etcd3


def _rpc() -> Any:
    return _etcd3().etcdrpc


def _same(data: bytes) -> bytes:
    return data


def _digest(pages: Any, tail: bytes, blob: wire.Buffer) -> bytes:
    """Add all of `tail + blob` but its last 32 bytes to a hash; answers those 32."""
    if len(blob) < SNAPSHOT_HASH:
        whole = tail + bytes(blob)
        pages.update(whole[:-SNAPSHOT_HASH])
        return whole[-SNAPSHOT_HASH:]
    pages.update(tail)
    pages.update(blob[:-SNAPSHOT_HASH])
    return bytes(blob[-SNAPSHOT_HASH:])


def _extra(connection: Any, method: str) -> Any:
    """Calls that etcd3's definitions lack, in the shape of messages that they have."""
    rpc = _rpc()
    if method == "MemberPromote":
        return connection.channel.unary_unary(
            "/etcdserverpb.Cluster/MemberPromote",
            request_serializer=rpc.MemberRemoveRequest.SerializeToString,
            response_deserializer=rpc.MemberRemoveResponse.FromString,
        )
    return connection.channel.unary_unary(
        f"/etcdserverpb.Auth/{method}",
        request_serializer=rpc.StatusRequest.SerializeToString,
        response_deserializer=_same,
    )


def _normal(endpoint: str) -> str:
    url = endpoint if "://" in endpoint else f"https://{endpoint}"
    return url.rstrip("/")


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _prefix_end(prefix: bytes) -> bytes:
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def _probe_range(rpc: Any) -> Any:
    return rpc.RangeRequest(key=b"health", keys_only=True, limit=1)


def _key_value(facts: dict[str, Any]) -> KeyValue:
    return KeyValue(
        base64.b64decode(facts["key"]),
        base64.b64decode(facts.get("value", "")),
        *(int(facts.get(name, 0)) for name in _KEY_NUMBERS),
    )


# Requests: the gateway's path.
_PATHS = {
    "Range": "/v3/kv/range",
    "Txn": "/v3/kv/txn",
    "LeaseGrant": "/v3/lease/grant",
    "LeaseKeepAlive": "/v3/lease/keepalive",
    "LeaseRevoke": "/v3/lease/revoke",
}
_KEY_NUMBERS = ("create_revision", "mod_revision", "version", "lease")


def _json(fields: Any) -> Any:
    """A request as the gateway wants it: bytes in base64, 64-bit numbers as text."""
    if isinstance(fields, dict):
        return {name: _json(value) for name, value in cast("dict[str, Any]", fields).items()}
    if isinstance(fields, list):
        return [_json(value) for value in cast("list[Any]", fields)]
    if isinstance(fields, bytes):
        return base64.b64encode(fields).decode()
    return str(fields) if type(fields) is int else fields


def _txn_request(rpc: Any, fields: dict[str, Any]) -> Any:
    """The message of `Client._txn`'s request."""
    kinds = {
        "request_put": rpc.PutRequest,
        "request_delete_range": rpc.DeleteRangeRequest,
    }
    compare = [
        rpc.Compare(result=rpc.Compare.EQUAL, **{**each, "target": rpc.Compare.MOD})
        for each in fields["compare"]
    ]
    success = [
        rpc.RequestOp(**{kind: kinds[kind](**given) for kind, given in each.items()})
        for each in fields["success"]
    ]
    return rpc.TxnRequest(compare=compare, success=success)


def _range_facts(response: Any) -> dict[str, Any]:
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


# Looks: the gateway's path and request; gRPC's answers are brought into the same shape.
_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("/v3/kv/range", {"key": "aGVhbHRo", "limit": 1, "keys_only": True}),
    "status": ("/v3/maintenance/status", {}),
    "alarms": ("/v3/maintenance/alarm", {"action": "GET"}),
    "members": ("/v3/cluster/member/list", {"linearizable": True}),
    "local members": ("/v3/cluster/member/list", {}),
}
_NEED_LEADER = ("read", "alarms")
_ALARMS = {1: "NOSPACE", 2: "CORRUPT"}


def _header(response: Any) -> dict[str, Any]:
    header = response.header
    return {
        "cluster_id": header.cluster_id,
        "member_id": header.member_id,
        "revision": header.revision,
    }


def _members(response: Any) -> dict[str, Any]:
    members = [_member_facts(raw) for raw in response.members]
    return {"header": _header(response), "members": members}


def _member_facts(raw: Any) -> dict[str, Any]:
    return {
        "ID": raw.ID,
        "name": raw.name,
        "peerURLs": raw.peerURLs,
        "clientURLs": raw.clientURLs,
        "isLearner": wire.number(raw.SerializeToString(), 5),
    }


def _status_facts(response: Any) -> dict[str, Any]:
    raw = response.SerializeToString()
    return {
        "header": _header(response),
        "version": response.version,
        "dbSize": response.dbSize,
        "dbSizeInUse": wire.number(raw, 9),
        "leader": response.leader,
        "isLearner": wire.number(raw, 10),
        "raftTerm": response.raftTerm,
        "raftIndex": response.raftIndex,
        "raftAppliedIndex": wire.number(raw, 7),
        "errors": [text.decode(errors="replace") for text in wire.chunks(raw, 8)],
    }


def _alarm_facts(response: Any) -> dict[str, Any]:
    alarms = [
        {"memberID": a.memberID, "alarm": _ALARMS.get(int(a.alarm), "")} for a in response.alarms
    ]
    return {"header": _header(response), "alarms": alarms}


def _alarms(facts: dict[str, Any]) -> tuple[Alarm, ...]:
    return tuple(
        Alarm(int(alarm.get("memberID", 0)), str(alarm["alarm"]))
        for alarm in facts.get("alarms", ())
        if alarm.get("alarm") in _ALARMS.values()
    )


def _member(facts: dict[str, Any]) -> view.Member:
    return view.Member(
        id=int(facts["ID"]),
        name=str(facts.get("name", "")),
        peer_urls=tuple(sorted(facts.get("peerURLs", ()))),
        client_urls=tuple(sorted(facts.get("clientURLs", ()))),
        learner=bool(facts.get("isLearner", False)),
    )


def _membership(facts: dict[str, Any]) -> Membership:
    members = sorted(
        (_member(raw) for raw in facts.get("members", ())), key=lambda m: (m.name, m.id)
    )
    header = facts["header"]
    return Membership(tuple(members), int(header["cluster_id"]), int(header["member_id"]))


def _status(endpoint: str, facts: dict[str, Any], latency: float) -> EndpointStatus:
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
    )


@contextlib.contextmanager
def _translated(endpoint: str, timeout: float) -> Generator[None]:
    """Turn gRPC's errors into ours."""
    import grpc  # type: ignore[import-untyped]

    try:
        yield
    except grpc.RpcError as error:
        raise translate(endpoint, error.code().name, error.details() or "", timeout) from error  # type: ignore[union-attr]


# What etcd says (rpctypes/error.go at 3.4 to 3.7) and which error it is.
_REFUSALS: tuple[tuple[str, type[errors.RefusedError], str], ...] = (
    ("unhealthy cluster", errors.UnhealthyError,
     "etcd refuses to change members now: a member is down, or the last change is under 5 s old"),
    ("not enough started members", errors.UnhealthyError,
     "etcd refuses to change members now: it would leave fewer started members than a quorum"),
    ("in sync with leader", errors.NotInSyncError,
     "the learner is not yet in sync with the leader"),
    ("too many learner", errors.TooManyLearnersError, "the cluster has a learner already"),
    ("member not found", errors.NoSuchMemberError, "the cluster has no such member"),
    ("not supported for learner", errors.LearnerError,
     "a learner does not serve this request"),
    ("permission denied", errors.PermissionDeniedError,
     "authentication is on and this client has no permission"),
    ("user name is empty", errors.PermissionDeniedError,
     "authentication is on and this client has no user name"),
    ("invalid auth token", errors.PermissionDeniedError,
     "authentication is on and this client's token is not valid"),
    ("database space exceeded", errors.NoSpaceError,
     "the database reached its quota: compact, defragment, then disarm the alarm"),
    ("corrupt cluster", errors.CorruptError, "a CORRUPT alarm is armed"),
    ("has been compacted", errors.CompactedError, "the revision was compacted"),
)  # fmt: skip

# etcd is there, but the cluster is not able to agree. The second value: it may apply it yet.
_NO_QUORUM = (
    ("no leader", False),
    ("leader changed", True),
    ("request timed out", True),
    ("server stopped", True),
    ("not leader", False),
    ("leader transfer", True),
    ("timed out", True),
)


def translate(endpoint: str, code: str, details: str, timeout: float) -> errors.EtcdError:
    """The error for a gRPC status.

    Args:
        endpoint: who was asked.
        code: gRPC's name of the status.
        details: etcd's or gRPC's words.
        timeout: seconds that were allowed.
    """
    own = "etcdserver:" in details or details.startswith("rpc error")
    for words, kind, sentence in _REFUSALS:
        if words in details:
            return kind(sentence, details)
    if own:
        for words, sent in _NO_QUORUM:
            if words in details:
                return errors.NoQuorumError(
                    f"etcd at {endpoint} answers, but its cluster has no working quorum "
                    f"({_own_words(details)})",
                    sent,
                )
    if code == "DEADLINE_EXCEEDED":
        return errors.UnreachableError(
            f"{endpoint} did not answer within {timeout:.1f} s", sent=True
        )
    if code in ("UNAVAILABLE", "CANCELLED") and not own:
        reason, sent = _connection_reason(details)
        return errors.UnreachableError(f"{endpoint} cannot be reached: {reason}", sent)
    return errors.RefusedError(f"etcd at {endpoint} refused: {_own_words(details)}", details)


def _own_words(details: str) -> str:
    return details.replace("etcdserver: ", "").strip() or "no reason given"


def _connection_reason(details: str) -> tuple[str, bool]:
    # What happens to a connection that was made may happen to a request on its way.
    sent = not re.search(
        "failed to connect|^connect: |DNS resolution failed", details, re.IGNORECASE
    )
    for words, reason in (
        ("Connection refused", "connection refused"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "network is unreachable"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        ("Hostname Verification", "its certificate is for another name"),
        ("BAD_CERTIFICATE", "it does not trust our client certificate"),
        ("CERTIFICATE_REQUIRED", "it wants a client certificate"),
        ("UNKNOWN_CA", "it does not trust our client certificate"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("andshake", "the TLS handshake failed"),
        ("DNS resolution failed", "its name cannot be resolved"),
        ("imeout", "no answer to the connection attempt"),
    ):
        if words in details:
            return reason, sent
    if "failed to connect" in details:
        return "connection failed", False
    return re.sub(r"\s+", " ", details)[:200] or "connection lost", True


def _summary(failures: Sequence[errors.EtcdError], sent: bool) -> errors.EtcdError:
    """One error for several endpoints' failures: the most telling kind.

    Args:
        failures: of one round, one for each endpoint.
        sent: some endpoint, in this round or an earlier one, may have applied the request.
    """
    if not failures:
        return errors.UnreachableError("no time was left to ask etcd", sent)
    for failure in failures:
        if isinstance(failure, errors.NoQuorumError):
            failure.sent = sent
            return failure
    for failure in failures:
        if isinstance(failure, errors.LearnerError):
            return failure
    if len(failures) == 1:
        return errors.UnreachableError(str(failures[0]), sent)
    reasons = "; ".join(str(failure) for failure in failures)
    return errors.UnreachableError(f"no etcd endpoint answered: {reasons}", sent)
