"""What the cluster looks like: dataclasses from the client, as tables, words and flat keys."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster import view as views
    from etcd import client as clients
    from etcd import responses, upkeep


_KEY = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
"""What Juju takes as part of a key of an action's results."""


@dataclasses.dataclass(frozen=True)
class EndpointHealth:
    """One endpoint: healthy, seconds its linearizable read took, and why it is not."""

    endpoint: str
    healthy: bool
    latency: float
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Health:
    """The whole cluster at one moment.

    Attributes:
        members: the member list, with health.
        cluster_id: etcd's cluster ID, None when nobody answers.
        leader: member ID of the raft leader, None without one.
        endpoints: health of each member's endpoint.
        statuses: what the endpoints that answered say.
        alarms: armed alarms.
        quota: bytes of the database that arm NOSPACE, 0 unknown.
        certificate_days: days left, by certificate (`peer`, `server`, ...), and of the authority
            above it that ends first (`peer-authority`, ...).
        cluster_version: the version that all members can do, "" when nobody tells.
        problem: why the cluster does not work, "" when it does.
        extra: further facts to show, flat, in order.
    """

    members: tuple[views.Member, ...]
    cluster_id: int | None
    leader: int | None
    endpoints: tuple[EndpointHealth, ...]
    statuses: tuple[responses.EndpointStatus, ...]
    alarms: tuple[views.Alarm, ...]
    quota: int = 0
    certificate_days: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    cluster_version: str = ""
    problem: str = ""
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def healthy(self) -> bool:
        """Every member is a voter that works, there is a leader, and no alarm is armed."""
        return (
            not self.problem
            and self.leader is not None
            and bool(self.members)
            and not self.alarms
            and all(e.healthy for e in self.endpoints)
            and not any(m.learner for m in self.members)
            and len(self.endpoints) == len(self.members)
        )

    @property
    def raft_term(self) -> int:
        """The newest raft term that an endpoint knows."""
        return max((s.raft_term for s in self.statuses), default=0)

    @property
    def raft_index(self) -> int:
        """The newest raft index that an endpoint knows."""
        return max((s.raft_index for s in self.statuses), default=0)

    @property
    def version(self) -> str:
        """The lowest version among the members that answered."""
        versions = [s.version for s in self.statuses]
        return min(versions, key=_numbers) if versions else ""

    @property
    def storage_version(self) -> str:
        """The lowest version of a store among the members that answered, "" before etcd 3.6."""
        versions = [s.storage_version for s in self.statuses if s.storage_version]
        return min(versions, key=_numbers) if versions else ""

    def name(self, member_id: int | None) -> str:
        """A member's name, or its ID in hexadecimal where it has none yet."""
        if member_id is None:
            return "none"
        found = next((m for m in self.members if m.id == member_id), None)
        return found.name if found and found.name else f"{member_id:x}"

    def _labels(self) -> list[str]:
        """A key for each endpoint: its member's name where that can be one, else its number."""
        names = {url: m.name for m in self.members for url in m.client_urls}
        return labels([names.get(endpoint.endpoint, "") for endpoint in self.endpoints])

    def _versions(self) -> list[str]:
        """For people: what runs where members differ, and what all of them can do."""
        running: dict[str, list[str]] = {}
        for status in self.statuses:
            running.setdefault(status.version, []).append(self.name(status.member_id))
        found: list[str] = []
        if len(running) > 1:
            each = sorted(running.items(), key=lambda item: _numbers(item[0]))
            told = "; ".join(f"etcd {version} on {', '.join(names)}" for version, names in each)
            found.append(f"members run several versions: {told}")
        if self.cluster_version:
            storage = self.storage_version
            found.append(
                f"cluster version {self.cluster_version}"
                + (f", storage version {storage}" if storage else "")
            )
        return found

    def words(self) -> str:
        """For people: what is well, what is not, in a few lines."""
        voters = [m for m in self.members if not m.learner]
        lines = [
            f"cluster is {'healthy' if self.healthy else 'unhealthy'}"
            + (f": {self.problem}" if self.problem else "")
        ]
        lines += [
            f"{e.endpoint} is healthy: answered in {e.latency * 1000:.1f} ms"
            if e.healthy
            else f"{e.endpoint} is unhealthy: {e.reason}"
            for e in self.endpoints
        ]
        learners = len(self.members) - len(voters)
        lines.append(
            f"{len(voters)} voters"
            + (f", {learners} learners" if learners else "")
            + f", leader {self.name(self.leader)}, raft term {self.raft_term}, "
            f"raft index {self.raft_index}"
        )
        if self.statuses:
            largest = max(self.statuses, key=lambda s: s.db_size)
            used = f", {size(largest.db_in_use)} in use" if largest.db_in_use else ""
            quota = f", quota {size(self.quota)}" if self.quota else ""
            lines.append(
                f"etcd {self.version}, largest database {size(largest.db_size)}{used}{quota}"
            )
        lines += self._versions()
        lines += [f"alarm {a.kind} on {self.name(a.member_id)}" for a in self.alarms]
        lines += [
            f"the {_certificate(name)} ends in {days} days"
            for name, days in self.certificate_days.items()
        ]
        lines += [f"{key}: {value}" for key, value in self.extra.items()]
        return "\n".join(lines)

    def keys(self) -> dict[str, str]:
        """For programs and actions: flat keys, lower case with dashes and dots."""
        found = {
            "healthy": str(self.healthy).lower(),
            "cluster-id": "" if self.cluster_id is None else f"{self.cluster_id:x}",
            "members": str(len(self.members)),
            "voters": str(sum(not m.learner for m in self.members)),
            "leader": self.name(self.leader),
            "raft-term": str(self.raft_term),
            "raft-index": str(self.raft_index),
            "version": self.version,
            "cluster-version": self.cluster_version,
            "storage-version": self.storage_version,
            "db-size": str(max((s.db_size for s in self.statuses), default=0)),
            "db-in-use": str(max((s.db_in_use for s in self.statuses), default=0)),
            "quota": str(self.quota),
            "alarms": ",".join(f"{a.kind}:{self.name(a.member_id)}" for a in self.alarms)
            or "none",
        }
        statuses = {s.endpoint: s for s in self.statuses}
        for endpoint, label in zip(self.endpoints, self._labels(), strict=True):
            found[f"endpoint.{label}.url"] = endpoint.endpoint
            found[f"endpoint.{label}.health"] = "healthy" if endpoint.healthy else endpoint.reason
            if endpoint.healthy:
                found[f"endpoint.{label}.latency-ms"] = f"{endpoint.latency * 1000:.1f}"
            if status := statuses.get(endpoint.endpoint):
                found[f"endpoint.{label}.version"] = status.version
                if status.storage_version:
                    found[f"endpoint.{label}.storage-version"] = status.storage_version
        for name, days in self.certificate_days.items():
            found[f"certificate-days.{name}"] = str(days)
        if self.problem:
            found["problem"] = self.problem
        return found | dict(self.extra)


def _certificate(name: str) -> str:
    """What `peer` or `peer-authority` is called."""
    of, _, authority = name.partition("-")
    return f"{of} certificate's authority" if authority else f"{of} certificate"


def labels(names: Sequence[str]) -> list[str]:
    """A key of an action's results for each: the name where it can be one, else its number.

    Whoever may add members to etcd names them as they like.
    """
    found: list[str] = []
    for number, name in enumerate(names):
        usable = _KEY.fullmatch(name) and name not in found
        found.append(name if usable else f"number-{number}")
    return found


def health(
    online: clients.Client,
    quota: int = 0,
    certificate_days: Mapping[str, int] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Health:
    """Look at the whole cluster; what cannot be had is said in the result, nothing is raised.

    Args:
        online: a client of the cluster.
        quota: configured bytes.
        certificate_days: days left by certificate.
        extra: further facts to show.
    """
    problem, cluster_id = "", None
    members: tuple[views.Member, ...] = ()
    try:
        membership = online.observe()
        members, cluster_id = membership.members, membership.cluster_id
    except errors.EtcdError as error:
        problem = str(error)
        try:
            membership = online.members(linearizable=False)
            members, cluster_id = membership.members, membership.cluster_id
        except errors.EtcdError:
            pass
    urls = tuple(m.client_urls[0] for m in members if m.client_urls) or online.endpoints
    probes = online.statuses(urls)
    alarms: tuple[views.Alarm, ...] = ()
    try:
        alarms = online.alarms()
    except errors.EtcdError as error:
        problem = problem or str(error)
    version = ""
    with contextlib.suppress(errors.EtcdError):
        version = online.cluster_version()
    statuses = tuple(p.status for p in probes if p.status)
    leaders = {s.leader for s in statuses if s.leader}
    clusters = {s.cluster_id for s in statuses}
    if len(clusters) > 1:
        problem = "the endpoints are of different clusters"
    return Health(
        members=members,
        cluster_id=cluster_id,
        leader=leaders.pop() if len(leaders) == 1 else None,
        endpoints=tuple(_endpoint_health(online, p) for p in probes),
        statuses=statuses,
        alarms=alarms,
        quota=quota,
        certificate_days=dict(certificate_days or {}),
        cluster_version=version,
        problem=problem,
        extra=dict(extra or {}),
    )


def _endpoint_health(online: clients.Client, probe: responses.Probe) -> EndpointHealth:
    status = probe.status
    if status is None:
        return EndpointHealth(probe.endpoint, False, 0.0, probe.error)
    if status.learner:
        healthy = bool(status.leader)
        return EndpointHealth(
            probe.endpoint, healthy, status.latency, "" if healthy else "it knows no leader"
        )
    try:
        latency = online.health(probe.endpoint)
    except errors.EtcdError as error:
        return EndpointHealth(probe.endpoint, False, 0.0, str(error))
    if status.errors:
        return EndpointHealth(probe.endpoint, False, latency, ", ".join(status.errors))
    return EndpointHealth(probe.endpoint, True, latency)


_STATUS_COLUMNS = (
    "ENDPOINT", "ID", "VERSION", "STORAGE VERSION", "DB SIZE", "IN USE", "IS LEADER",
    "IS LEARNER", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "ERRORS",
)  # fmt: skip
_MEMBER_COLUMNS = ("ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER")


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """`endpoint status` of all members: who answered what, and the version that all can do."""

    probes: tuple[responses.Probe, ...]
    cluster_version: str = ""

    def table(self) -> str:
        """As etcdctl's users know it."""
        drawn = table(_STATUS_COLUMNS, [_status_row(probe) for probe in self.probes])
        version = self.cluster_version
        return f"{drawn}\ncluster version {version}" if version else drawn

    def records(self) -> list[dict[str, Any]]:
        """For programs; IDs are hexadecimal, sizes bytes, latency seconds."""
        records: list[dict[str, Any]] = []
        for probe in self.probes:
            record: dict[str, Any] = {"endpoint": probe.endpoint, "error": probe.error}
            if probe.status:
                record |= dataclasses.asdict(probe.status)
                for key in ("member_id", "cluster_id", "leader"):
                    record[key] = f"{record[key]:x}"
                record["is_leader"] = probe.status.leader == probe.status.member_id
                record["cluster_version"] = self.cluster_version
            records.append(record)
        return records


def endpoints(online: clients.Client) -> Endpoints:
    """Ask all members for their status.

    Raises:
        errors.EtcdError: nobody says which members there are.
    """
    urls = [url for m in online.observe().members for url in m.client_urls[:1]]
    version = ""
    with contextlib.suppress(errors.EtcdError):
        version = online.cluster_version()
    return Endpoints(online.statuses(urls), version)


def member_table(members: Sequence[views.Member]) -> str:
    """`member list` as etcdctl's users know it."""
    rows = [
        (
            f"{m.id:x}",
            "started" if m.name else "unstarted",
            m.name,
            ",".join(m.peer_urls),
            ",".join(m.client_urls),
            str(m.learner).lower(),
        )
        for m in members
    ]
    return table(_MEMBER_COLUMNS, rows)


def member_records(members: Sequence[views.Member]) -> list[dict[str, Any]]:
    """`member list` for programs; IDs are hexadecimal."""
    return [
        {
            "id": f"{m.id:x}",
            "name": m.name,
            "started": bool(m.name),
            "peer_urls": list(m.peer_urls),
            "client_urls": list(m.client_urls),
            "learner": m.learner,
            "healthy": m.healthy,
            "corrupt": m.corrupt,
        }
        for m in members
    ]


def alarm_words(alarms: Sequence[views.Alarm]) -> str:
    """Armed alarms for people, one a line."""
    words = [f"{alarm.kind} on {alarm.member_id:x}" for alarm in alarms]
    return "\n".join(words) or "no alarm is armed"


_DEFRAG_COLUMNS = ("MEMBER", "ID", "DB SIZE BEFORE", "AFTER", "RECLAIMED", "SECONDS")


def defrag_table(done: Sequence[upkeep.Defragmented]) -> str:
    """What a defragmentation gave back, for people."""
    rows = [
        (
            each.member.name,
            f"{each.member.id:x}",
            size(each.before),
            size(each.after),
            size(each.reclaimed),
            f"{each.seconds:.1f}",
        )
        for each in done
    ]
    return table(_DEFRAG_COLUMNS, rows)


def defrag_records(done: Sequence[upkeep.Defragmented]) -> list[dict[str, Any]]:
    """The same for programs; sizes in bytes."""
    return [
        {
            "member": each.member.name,
            "id": f"{each.member.id:x}",
            "before": each.before,
            "after": each.after,
            "reclaimed": each.reclaimed,
            "seconds": round(each.seconds, 3),
        }
        for each in done
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A framed table, as etcdctl draws it."""
    widths = [
        max(len(column), *(len(row[index]) for row in rows), 0) if rows else len(column)
        for index, column in enumerate(columns)
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(cells: Sequence[str]) -> str:
        padded = (f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
        return "|" + "|".join(padded) + "|"

    return "\n".join([rule, line(columns), rule, *(line(row) for row in rows), rule])


def to_json(value: Any) -> str:
    """Records as JSON, one document, indented."""
    return json.dumps(value, indent=2, sort_keys=True)


def size(count: int) -> str:
    """Bytes for people: `20 kB`, `1.3 GB`, decimal as etcdctl shows them."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return (
                f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
            )
        amount /= 1000
    raise AssertionError


def _status_row(probe: responses.Probe) -> tuple[str, ...]:
    status = probe.status
    if status is None:
        return (probe.endpoint, *[""] * (len(_STATUS_COLUMNS) - 2), probe.error)
    return (
        probe.endpoint,
        f"{status.member_id:x}",
        status.version,
        status.storage_version,
        size(status.db_size),
        size(status.db_in_use),
        str(status.leader == status.member_id).lower(),
        str(status.learner).lower(),
        str(status.raft_term),
        str(status.raft_index),
        str(status.raft_applied),
        ", ".join(status.errors),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())
