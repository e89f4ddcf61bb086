"""Online work: the one class that talks to a running etcd.

Each floor stands on the one below: this (members, status, upkeep, snapshots), `keys`, `transport`
(endpoints, failover), and there `gateway` and `grpc_calls`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import errors
from etcd import grpc_calls, keys, protowire, responses, snapshot_stream, transport
from machine import files, outside

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Sequence

    from cluster import view as views

_ARM, _DISARM = 1, 2  # AlarmRequest.AlarmAction


class Client(keys.Keys):
    """A connection to a cluster through several endpoints, tried in order.

    Not for use by several threads at once. Everything raises `errors.EtcdError`.
    """

    # Members

    def members(self, linearizable: bool = True) -> responses.Membership:
        """The member list; `healthy`, `raft_index` and `corrupt` of its members are not known.

        Args:
            linearizable: agreed by a quorum; otherwise what the endpoint believes.
        """

        def ask(endpoint: str, timeout: float) -> responses.Membership:
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
            return responses.membership(self._look(endpoint, wanted, timeout))

        return self._failover(ask)

    def observe(self, local: responses.EndpointStatus | None = None) -> responses.Membership:
        """The linearizable member list, with each member's health, raft index and corruption.

        Members are probed in parallel at their own client URLs, within half the timeout.

        Args:
            local: what a member has just told of itself; it is not asked again.
        """
        membership = self.members()
        urls = {m.id: m.client_urls[0] for m in membership.members if m.client_urls}
        told: dict[int, responses.EndpointStatus | None] = {}
        if local is not None and urls.pop(local.member_id, None):
            told[local.member_id] = local
        probes = self.statuses(tuple(urls.values()), self.timeout / 2)
        by_endpoint = {probe.endpoint: probe.status for probe in probes}
        told |= {id_: by_endpoint[transport.normal(url)] for id_, url in urls.items()}
        alarms: tuple[views.Alarm, ...] | None = None
        with contextlib.suppress(errors.EtcdError):
            alarms = self.alarms()
        corrupt = {alarm.member_id for alarm in alarms or () if alarm.kind == "CORRUPT"}
        led = [status for status in told.values() if status and status.leader]
        members: list[views.Member] = []
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

    def add_learner(self, peer_urls: Sequence[str], deadline: float = 12.0) -> responses.Added:
        """Add a learner; when a member has one of these peer URLs already, answer with that one.

        Args:
            peer_urls: where its peers will reach it.
            deadline: seconds to go on while etcd refuses because of a recent change (its 5 s
                rule) or a change of leader.
        """
        wanted = tuple(peer_urls)

        def attempt() -> responses.Added:
            known = self.members()
            for member in known.members:
                if set(member.peer_urls) & set(wanted):
                    return responses.Added(member, known)
            facts = self._request("MemberAdd", {"peerURLs": [*wanted], "isLearner": True})
            return responses.Added(responses.member(facts["member"]), responses.membership(facts))

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
        request = grpc_calls.messages().MemberRemoveRequest(ID=member_id)

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
        request = grpc_calls.messages().MemberUpdateRequest(
            ID=member_id, peerURLs=tuple(peer_urls)
        )

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
        rpc = grpc_calls.messages()
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
        return transport.normal(member.client_urls[0])

    # Status and health

    def status(
        self, endpoint: str | None = None, timeout: float | None = None
    ) -> responses.EndpointStatus:
        """Status of one endpoint, by default of the first that answers."""

        def ask(chosen: str, limit: float) -> responses.EndpointStatus:
            began = time.monotonic()
            facts = self._look(chosen, "status", limit)
            return responses.status(chosen, facts, time.monotonic() - began)

        limit = self.timeout if timeout is None else timeout
        return (
            self._failover(ask, limit)
            if endpoint is None
            else ask(transport.normal(endpoint), limit)
        )

    def statuses(
        self, endpoints: Sequence[str] | None = None, timeout: float | None = None
    ) -> tuple[responses.Probe, ...]:
        """Ask endpoints for their status, all at once.

        Args:
            endpoints: by default all of this client's.
            timeout: seconds for all of them together.
        """
        targets = (
            self.endpoints if endpoints is None else tuple(transport.normal(e) for e in endpoints)
        )
        limit = self.timeout if timeout is None else timeout
        if not targets:
            return ()

        def probe(target: str) -> responses.Probe:
            try:
                return responses.Probe(target, self.status(target, limit))
            except errors.EtcdError as error:
                return responses.Probe(target, None, str(error))

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
            self._look(transport.normal(endpoint), "read", self.timeout)
        return time.monotonic() - began

    def metrics(self, endpoint: str) -> str:
        """One endpoint's metrics, as Prometheus reads them."""
        return self._page(transport.normal(endpoint), "/metrics", self.timeout)

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

    def alarms(self) -> tuple[views.Alarm, ...]:
        """All armed alarms."""
        return responses.alarms(self._failover(lambda e, t: self._look(e, "alarms", t)))

    def disarm(self, alarm: views.Alarm | None = None) -> int:
        """Disarm one alarm, or all; answers how many were armed."""
        targets = self.alarms() if alarm is None else (alarm,)
        for target in targets:
            self._set_alarm(target, _DISARM)
        return len(targets)

    def arm(self, alarm: views.Alarm) -> None:
        """Arm an alarm: from now on nobody can write (CORRUPT) or write more (NOSPACE)."""
        self._set_alarm(alarm, _ARM)

    def _set_alarm(self, alarm: views.Alarm, action: int) -> None:
        kinds = {"NOSPACE": 1, "CORRUPT": 2}
        request = grpc_calls.messages().AlarmRequest(
            action=action, memberID=alarm.member_id, alarm=kinds[alarm.kind]
        )
        self._call("maintenancestub", "Alarm", request)

    # Upkeep

    def defragment(self, endpoint: str, timeout: float = 600.0) -> None:
        """Defragment one member, which answers nobody meanwhile; a timeout does not stop it."""
        request = grpc_calls.messages().DefragmentRequest()
        self._send(transport.normal(endpoint), "maintenancestub", "Defragment", request, timeout)

    def compact(self, revision: int, physical: bool = False, timeout: float = 60.0) -> None:
        """Forget revisions below `revision`; `physical` waits until they are off the disk."""
        request = grpc_calls.messages().CompactionRequest(revision=revision, physical=physical)
        self._failover(
            lambda e, t: self._send(e, "kvstub", "Compact", request, t, grpc_calls.HAS_LEADER),
            timeout,
        )

    def hash_kv(self, endpoint: str, revision: int = 0, timeout: float = 60.0) -> responses.HashKV:
        """Hash of one member's keys up to `revision` (0: its newest); its writes wait for it.

        Raises:
            errors.CompactedError: the store's history begins later.
        """

        def ask(at: int) -> responses.HashKV:
            request = grpc_calls.messages().HashKVRequest(revision=at)
            response = self._send(
                transport.normal(endpoint), "maintenancestub", "HashKV", request, timeout
            )
            at = at or int(response.header.revision)
            return responses.HashKV(int(response.hash), int(response.compact_revision), at)

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
            response = self._call("", "AuthStatus", grpc_calls.messages().StatusRequest())
        except errors.RefusedError as error:
            if "unknown method" in error.reason.lower():
                return None
            raise
        return bool(protowire.number(response, 2))

    # Snapshot

    def snapshot(
        self,
        path: pathlib.Path,
        endpoint: str | None = None,
        timeout: float = 3600.0,
        progress: Callable[[int], None] | None = None,
        durable: bool = True,
    ) -> responses.Download:
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
        source = self._preferred if endpoint is None else transport.normal(endpoint)
        part = path.with_name(path.name + ".part")
        began = time.monotonic()
        try:
            connection = self._connect(source)
            size, sha256 = snapshot_stream.download(connection, source, part, timeout, progress)
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
        return responses.Download(path, size, sha256, time.monotonic() - began)
