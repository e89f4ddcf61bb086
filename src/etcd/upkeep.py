"""Compaction and defragmentation by hand, refused where they would hurt the cluster."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import TYPE_CHECKING

import errors
from etcd import membership

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Sequence

    from cluster import view as views
    from etcd import client as clients

# Raft entries behind which etcd sends a member a snapshot (SnapshotCatchUpEntries).
CATCH_UP = 5000
_BACK = 60.0  # seconds within which a defragmented member answers again
_STREAMS = re.compile(
    r'^grpc_server_(started|handled)_total\{[^}\n]{0,500}grpc_method="Snapshot"[^}\n]{0,500}\} '
    r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:e\+?[0-9]{1,2})?)$",
    re.M,
)


@dataclasses.dataclass(frozen=True)
class Defragmented:
    """One member's database file before and after, bytes, and the seconds it took."""

    member: views.Member
    before: int
    after: int
    seconds: float

    @property
    def reclaimed(self) -> int:
        """Bytes given back to the disk."""
        return max(self.before - self.after, 0)


def compact(online: clients.Client, revision: int = 0, physical: bool = True) -> int:
    """Forget the history before a revision; answers with that revision.

    Args:
        online: a client of the cluster.
        revision: 0 for the newest: only the last version of each key is left.
        physical: wait until what is forgotten is off every page.

    Raises:
        membership.OperatorError: the revision has not come yet, or is compacted already.
        errors.EtcdError: etcd refused, or does not answer.
    """
    newest = online.revision()
    if not 0 <= revision <= newest:
        raise membership.OperatorError(
            f"nothing was compacted: the newest revision is {newest}, choose one up to that"
        )
    chosen = revision or newest
    try:
        online.compact(chosen, physical)
    except errors.CompactedError as error:
        raise membership.OperatorError(
            f"nothing was compacted: revision {chosen} was compacted before, choose a newer one"
        ) from error
    return chosen


def defragment(
    online: clients.Client,
    which: str = "",
    alone: Callable[[views.Member], contextlib.AbstractContextManager[bool]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Defragmented, ...]:
    """Defragment one member after another, the raft leader last; each answers nobody meanwhile.

    The members are looked at anew before each: as soon as one is not well, the others are left.

    Args:
        online: a client of the cluster.
        which: name or hexadecimal ID of the only one to defragment, "" for all.
        alone: keeps snapshots away from a member; gives False where one is being taken.
        say: told in words how far it is.

    Raises:
        membership.OperatorError: the cluster is not well enough; says which members are done.
        errors.EtcdError: etcd refused, or does not answer.
    """
    members = _well(online, ())
    leader = online.leader()
    chosen = [membership.find(members, which)] if which else members
    done: list[Defragmented] = []
    for member in sorted(chosen, key=lambda m: (m.id == leader, m.name)):
        if done:
            _well(online, done)
        if alone is None:
            found = _one(online, member, done)
        else:
            with alone(member) as had:
                if not had:
                    _refuse(f"a snapshot of {member.name} is being taken", done)
                found = _one(online, member, done)
        done.append(found)
        say(f"{member.name}: {found.before} bytes before, {found.after} after")
    return tuple(done)


def _one(
    online: clients.Client, member: views.Member, done: Sequence[Defragmented]
) -> Defragmented:
    url = member.client_urls[0]
    if _streaming(online.metrics(url)):
        # etcd freezes until the stream's end when it is defragmented under an open snapshot.
        _refuse(f"a snapshot of {member.name} is being taken", done)
    before, began = online.status(url).db_size, time.monotonic()
    online.defragment(url)
    seconds = time.monotonic() - began
    until = time.monotonic() + _BACK
    while True:
        try:
            online.health(url)
            return Defragmented(member, before, online.status(url).db_size, seconds)
        except errors.EtcdError:  # noqa: PERF203 - until it works
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _well(online: clients.Client, done: Sequence[Defragmented]) -> tuple[views.Member, ...]:
    """The members, when each one is a voter that works and follows; an alarm is no hindrance."""
    members = online.observe().members
    for member in members:
        if member.learner:
            _refuse(f"{member.name} is a learner, which may be catching up", done)
        if not member.healthy:
            _refuse(f"{member.name} does not answer or knows no leader", done)
        try:
            online.health(member.client_urls[0])
        except errors.EtcdError as error:
            _refuse(f"{member.name} does not work: {error}", done)
    newest = max(member.raft_index for member in members)
    for member in members:
        if newest - member.raft_index > CATCH_UP:
            _refuse(f"{member.name} is {newest - member.raft_index} raft entries behind", done)
    return members


def _refuse(reason: str, done: Sequence[Defragmented]) -> None:
    names = ", ".join(each.member.name for each in done)
    what = f"only {names} was defragmented" if done else "nothing was defragmented"
    raise membership.OperatorError(f"{what}: {reason}; try again when that is over")


def _streaming(page: str) -> bool:
    """Whether a snapshot of this member is on its way to anybody, by etcd's own metrics."""
    started = sum(float(value) for kind, value in _STREAMS.findall(page) if kind == "started")
    handled = sum(float(value) for kind, value in _STREAMS.findall(page) if kind == "handled")
    return started > handled
