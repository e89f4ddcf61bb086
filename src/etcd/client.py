"""Online work: the one class that talks to a running etcd.

It stands on `etcd3` 0.12.0, which gives the TLS channel, the stubs and the messages, and adds what
that package lacks: learners, promotion, moving the leader, the fields that etcd grew since, and
failover between endpoints. `etcd3` does not import with a current protobuf unless the pure Python
implementation is chosen first, and its import costs more than a hook, and more memory than the
keeper: it happens at the first other change of members or of the store, or when the gateway
cannot tell (`gateway`).
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import sys
import threading
import time
import urllib.parse
import warnings
from typing import TYPE_CHECKING, Any, cast

import outside
from etcd import answers, errors, files, gateway, refusals, wire

if TYPE_CHECKING:
    import pathlib
    import ssl
    from collections.abc import Callable, Sequence

    from cluster import view

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
    # A fixed window for what etcd streams ahead of its reader: gRPC's own measuring lets it grow
    # with the size of a snapshot, and so the memory of whoever takes one.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
    # A snapshot is read by the thread that waits for it: a quarter less of its CPU time.
    ("SingleThreadedUnaryStream", 1),
)
# etcd answers at once instead of waiting when it sees no leader.
_HAS_LEADER = (("hasleader", "true"),)
_ARM, _DISARM = 1, 2  # AlarmRequest.AlarmAction


@dataclasses.dataclass(frozen=True)
class TLSFiles:
    """Paths of PEM files: the CA bundle to trust, and a certificate with its key."""

    ca: pathlib.Path
    cert: pathlib.Path
    key: pathlib.Path


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
        self.__dict__.pop("_context", None)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        """What the gateways' connections share: files are read once."""
        return gateway.context(self._tls.ca, self._tls.cert, self._tls.key)

    # Members

    def members(self, linearizable: bool = True) -> answers.Membership:
        """The member list; `healthy`, `raft_index` and `corrupt` of its members are not known.

        Args:
            linearizable: agreed by a quorum; otherwise what the endpoint believes.
        """

        def ask(endpoint: str, timeout: float) -> answers.Membership:
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
            return answers.membership(self._look(endpoint, wanted, timeout))

        return self._failover(ask)

    def observe(self, local: answers.EndpointStatus | None = None) -> answers.Membership:
        """The linearizable member list, with each member's health, raft index and corruption.

        Members are probed in parallel at their own client URLs, within half the timeout.

        Args:
            local: what a member has just told of itself; it is not asked again.
        """
        membership = self.members()
        urls = {m.id: m.client_urls[0] for m in membership.members if m.client_urls}
        told: dict[int, answers.EndpointStatus | None] = {}
        if local is not None and urls.pop(local.member_id, None):
            told[local.member_id] = local
        probes = self.statuses(tuple(urls.values()), self.timeout / 2)
        by_endpoint = {probe.endpoint: probe.status for probe in probes}
        told |= {id_: by_endpoint[_normal(url)] for id_, url in urls.items()}
        alarms: tuple[view.Alarm, ...] | None = None
        with contextlib.suppress(errors.EtcdError):
            alarms = self.alarms()
        corrupt = {alarm.member_id for alarm in alarms or () if alarm.kind == "CORRUPT"}
        led = [status for status in told.values() if status and status.leader]
        members: list[view.Member] = []
        for member in membership.members:
            status = told.get(member.id)
            answered = status is not None and status.member_id == member.id
            members.append(
                dataclasses.replace(
                    member,
                    healthy=answered and status is not None and status.leader != 0,
                    raft_index=status.raft_index if answered and status is not None else 0,
                    corrupt=member.id in corrupt,
                    version=status.version if answered and status is not None else "",
                )
            )
        return dataclasses.replace(
            membership,
            members=tuple(members),
            leader=max(led, key=lambda status: status.raft_term).leader if led else 0,
            alarms=alarms,
        )

    def add_learner(self, peer_urls: Sequence[str], deadline: float = 12.0) -> answers.Added:
        """Add a learner; when a member has one of these peer URLs already, answer with that one.

        Args:
            peer_urls: where its peers will reach it.
            deadline: seconds to go on while etcd refuses because of a recent change (its 5 s
                rule) or a change of leader.
        """
        wanted = tuple(peer_urls)

        def attempt() -> answers.Added:
            known = self.members()
            for member in known.members:
                if set(member.peer_urls) & set(wanted):
                    return answers.Added(member, known)
            facts = self._request("MemberAdd", {"peerURLs": [*wanted], "isLearner": True})
            return answers.Added(answers.member(facts["member"]), answers.membership(facts))

        return self._patiently(attempt, deadline)

    def promote(self, member_id: int, deadline: float = 0.0) -> bool:
        """Make a learner a voter; False when it is one already.

        Raises:
            errors.NotInSyncError: it has not caught up (or never started); ask again later.
        """

        def attempt() -> bool:
            member = self.members().by_id(member_id)
            if member is None:
                raise errors.NoSuchMemberError(f"there is no member {member_id:x}")
            if not member.learner:
                return False
            self._request("MemberPromote", {"ID": member_id})
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

    def status(
        self, endpoint: str | None = None, timeout: float | None = None
    ) -> answers.EndpointStatus:
        """Status of one endpoint, by default of the first that answers."""

        def ask(chosen: str, limit: float) -> answers.EndpointStatus:
            began = time.monotonic()
            facts = self._look(chosen, "status", limit)
            return answers.status(chosen, facts, time.monotonic() - began)

        limit = self.timeout if timeout is None else timeout
        return self._failover(ask, limit) if endpoint is None else ask(_normal(endpoint), limit)

    def statuses(
        self, endpoints: Sequence[str] | None = None, timeout: float | None = None
    ) -> tuple[answers.Probe, ...]:
        """Ask endpoints for their status, all at once.

        Args:
            endpoints: by default all of this client's.
            timeout: seconds for all of them together.
        """
        targets = self.endpoints if endpoints is None else tuple(_normal(e) for e in endpoints)
        limit = self.timeout if timeout is None else timeout
        if not targets:
            return ()

        def probe(target: str) -> answers.Probe:
            try:
                return answers.Probe(target, self.status(target, limit))
            except errors.EtcdError as error:
                return answers.Probe(target, None, str(error))

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
        return self._page(_normal(endpoint), "/metrics", self.timeout)

    def cluster_version(self) -> str:
        """The version that all members can do, `3.5.0`: a minor version that rises with the last.

        "" while the members have not agreed upon one.
        """

        def ask(endpoint: str, timeout: float) -> str:
            try:
                told = outside.json_object(self._page(endpoint, "/version", timeout))
            except outside.OutsideError as error:
                raise errors.UnreachableError(f"{endpoint} does not tell versions") from error
            return str(told.get("etcdcluster", ""))

        version = self._failover(ask)
        return version if version[:1].isdigit() else ""

    def _page(self, endpoint: str, path: str, timeout: float) -> str:
        self._check_files()
        try:
            tls = gateway.context(self._tls.ca, self._tls.cert, self._tls.key)
            return gateway.page(endpoint, path, tls, timeout)
        except (OSError, gateway.UnusableError) as error:
            raise refusals.translate(endpoint, "UNAVAILABLE", str(error), timeout) from error

    def alarms(self) -> tuple[view.Alarm, ...]:
        """All armed alarms."""
        return answers.alarms(self._failover(lambda e, t: self._look(e, "alarms", t)))

    def disarm(self, alarm: view.Alarm | None = None) -> int:
        """Disarm one alarm, or all; answers how many were armed."""
        targets = self.alarms() if alarm is None else (alarm,)
        for target in targets:
            self._set_alarm(target, _DISARM)
        return len(targets)

    def arm(self, alarm: view.Alarm) -> None:
        """Arm an alarm: from now on nobody can write (CORRUPT) or write more (NOSPACE)."""
        self._set_alarm(alarm, _ARM)

    def _set_alarm(self, alarm: view.Alarm, action: int) -> None:
        kinds = {"NOSPACE": 1, "CORRUPT": 2}
        request = _rpc().AlarmRequest(
            action=action, memberID=alarm.member_id, alarm=kinds[alarm.kind]
        )
        self._call("maintenancestub", "Alarm", request)

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

    def hash_kv(self, endpoint: str, revision: int = 0, timeout: float = 60.0) -> answers.HashKV:
        """Hash of one member's keys up to `revision` (0: its newest); its writes wait for it.

        Raises:
            errors.CompactedError: the store's history begins later.
        """

        def ask(at: int) -> answers.HashKV:
            request = _rpc().HashKVRequest(revision=at)
            response = self._send(_normal(endpoint), "maintenancestub", "HashKV", request, timeout)
            at = at or int(response.header.revision)
            return answers.HashKV(int(response.hash), int(response.compact_revision), at)

        try:
            return ask(revision)
        except errors.CompactedError:
            newest = ask(0)  # etcd 3.4 refuses also the revision that it compacted itself
            if newest.revision != revision:
                raise
            return newest

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

    def get(self, key: str | bytes, serializable: bool = False) -> answers.KeyValue | None:
        """A key's value, or None when there is no such key."""
        fields = {"key": _bytes(key), "serializable": serializable}
        found = self._request("Range", fields).get("kvs")
        return answers.key_value(found[0]) if found else None

    def get_prefix(self, prefix: str | bytes, limit: int = 0) -> tuple[answers.KeyValue, ...]:
        """All keys that begin with `prefix`, in order, at most `limit` (0: all)."""
        start = _bytes(prefix) or b"\0"
        end = _prefix_end(_bytes(prefix))
        request = _rpc().RangeRequest(key=start, range_end=end, limit=limit)
        response = self._call("kvstub", "Range", request)
        return tuple(answers.key_value(facts) for facts in answers.range_facts(response)["kvs"])

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
    ) -> answers.Download:
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
        return answers.Download(path, size, sha256, time.monotonic() - began)

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
        with part.open("wb") as file, refusals.translated(source, timeout):
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
            return {"header": answers.header_facts(answer)}
        if what == "status":
            request = rpc.StatusRequest()
            return answers.status_facts(
                self._send(endpoint, "maintenancestub", "Status", request, timeout)
            )
        if what == "alarms":
            request = rpc.AlarmRequest(action=0)
            answer = self._send(
                endpoint, "maintenancestub", "Alarm", request, timeout, _HAS_LEADER
            )
            return answers.alarm_facts(answer)
        request = rpc.MemberListRequest.FromString(b"\x08\x01" if what == "members" else b"")
        return answers.members_facts(
            self._send(endpoint, "clusterstub", "MemberList", request, timeout)
        )

    def _request(
        self, method: str, fields: dict[str, Any], repeatable: bool = True
    ) -> dict[str, Any]:
        """One request to the cluster, in the shape of the gateway's answers.

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
            return answers.range_facts(
                self._send(endpoint, "kvstub", method, request, timeout, _HAS_LEADER)
            )
        if method == "Txn":
            request = _txn_request(rpc, fields)
            answer = self._send(endpoint, "kvstub", method, request, timeout, _HAS_LEADER)
            return {"header": answers.header_facts(answer), "succeeded": answer.succeeded}
        if method == "MemberAdd":
            plain = rpc.MemberAddRequest(peerURLs=fields["peerURLs"]).SerializeToString()
            request = rpc.MemberAddRequest.FromString(plain + b"\x10\x01")  # isLearner = true
            answer = self._send(endpoint, "clusterstub", method, request, timeout, _HAS_LEADER)
            return {"member": answers.member_facts(answer.member), **answers.members_facts(answer)}
        if method == "MemberPromote":
            request = rpc.MemberRemoveRequest(**fields)
            self._send(endpoint, "", method, request, timeout, _HAS_LEADER)
            return {}
        if method == "LeaseKeepAlive":
            stub = self._connect(endpoint).leasestub
            with refusals.translated(endpoint, timeout):
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
            raise refusals.translate(endpoint, error.code, error.details, timeout) from error
        except gateway.UnusableError:
            self._gateways[endpoint] = None
            light.close()
            return None
        except TimeoutError as error:
            raise refusals.translate(endpoint, "DEADLINE_EXCEEDED", "", timeout) from error
        except OSError as error:
            raise refusals.translate(endpoint, "UNAVAILABLE", str(error), timeout) from error

    def _gateway(self, endpoint: str) -> gateway.Gateway | None:
        """The light way to an endpoint; None when gRPC is loaded already, or has to do it."""
        if endpoint in self._gateways:
            return self._gateways[endpoint]
        made = None
        if not _loaded():
            self._check_files()
            with contextlib.suppress(gateway.UnusableError):
                made = gateway.Gateway(endpoint, self._context)
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
        with refusals.translated(endpoint, timeout):
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
                except (errors.UnfinishedError, errors.LearnerError) as error:
                    sent = sent or (isinstance(error, errors.UnfinishedError) and error.sent)
                    if sent and not repeatable:
                        raise
                    failures.append(error)
                else:
                    self._preferred = endpoint
                    return answer
            failure = refusals.summary(failures, sent)
            if not isinstance(failure, errors.NoQuorumError):
                raise failure
            if until - time.monotonic() < limit / 2:
                raise failure
            time.sleep(0.2)

    def _patiently(self, attempt: Callable[[], Any], deadline: float) -> Any:
        """Repeat while etcd's health rule or an election stands in the way, within `deadline`."""
        until = time.monotonic() + deadline
        while True:
            try:
                return attempt()
            except (errors.UnhealthyError, errors.NoQuorumError):
                if time.monotonic() >= until:
                    raise
            time.sleep(0.5)


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


# Requests: the gateway's path.
_PATHS = {
    "Range": "/v3/kv/range",
    "Txn": "/v3/kv/txn",
    "LeaseGrant": "/v3/lease/grant",
    "LeaseKeepAlive": "/v3/lease/keepalive",
    "LeaseRevoke": "/v3/lease/revoke",
    "MemberAdd": "/v3/cluster/member/add",
    "MemberPromote": "/v3/cluster/member/promote",
}


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


# Looks: the gateway's path and request; gRPC's answers are brought into the same shape.
_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("/v3/kv/range", {"key": "aGVhbHRo", "limit": 1, "keys_only": True}),
    "status": ("/v3/maintenance/status", {}),
    "alarms": ("/v3/maintenance/alarm", {"action": "GET"}),
    "members": ("/v3/cluster/member/list", {"linearizable": True}),
    "local members": ("/v3/cluster/member/list", {}),
}
_NEED_LEADER = ("read", "alarms")
