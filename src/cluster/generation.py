"""Generations: a cluster is a sequence of them, each committed once by the Juju leader.

The application databag of the `cluster` relation holds at most one committed record
(`generation`) and at most one proposed one (`proposal`). A unit starts etcd only on data whose
stamp carries the committed record's token.
"""

from __future__ import annotations

import dataclasses
import enum


class Source(enum.Enum):
    """What a generation's first data is made from."""

    NEW = "new"  # nothing: the first cluster of the application
    BACKUP = "backup"  # a snapshot, restored on every founder
    SURVIVOR = "survivor"  # the disk of one unit, the only founder
    PREVIOUS = "previous"  # data kept aside by a replaced generation, put back


@dataclasses.dataclass(frozen=True)
class Founder:
    """A unit named by the record as one that starts this generation's data.

    Attributes:
        unit: Juju unit name, `etcd/0`.
        peer_url: where its peers reach it, `https://198.18.0.10:2380`.
    """

    unit: str
    peer_url: str

    @property
    def member(self) -> str:
        """The etcd member name, `etcd-0`."""
        return member_name(self.unit)


@dataclasses.dataclass(frozen=True)
class Detail:
    """What a generation's data is made from; "" and 0 where there is nothing to say.

    Attributes:
        source: how units get a snapshot: `file`, `share` or `remote` (see `backup.fetch`).
        unit: BACKUP: whose file it is. SURVIVOR: whose disk.
        path: the file on that unit.
        url: where that unit serves it to the others.
        folder: the cluster's folder on the remote.
        id: of the backup in it.
        sha256: of the snapshot.
        size: its bytes.
        revision: its revision, or the survivor's.
        carries: what it brings along besides keys: `authentication`, `alarms`, or both.
        cluster: hexadecimal ID of the cluster that it was taken from.
        authentic: `yes` or `no`: whether this application sealed its manifest.
        high: the revision that BACKUP and SURVIVOR begin with, and PREVIOUS carries on.
        bump: what revisions of the charm before `high` added to `revision`.
        previous_token: of the data that clients were served from last, the way back.
        previous_number: of its generation.
        number: PREVIOUS: the generation that it returns to.
        failed_token: PREVIOUS: of the generation that failed.
        reason: PREVIOUS: why it did, one sentence.
    """

    source: str = ""
    unit: str = ""
    path: str = ""
    url: str = ""
    folder: str = ""
    id: str = ""
    sha256: str = ""
    size: int = 0
    revision: int = 0
    carries: str = ""
    cluster: str = ""
    authentic: str = ""
    high: int = 0
    bump: int = 0
    previous_token: str = ""
    previous_number: int = 0
    number: int = 0
    failed_token: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Generation:
    """One committed or proposed founding of the cluster.

    Attributes:
        number: 1 for the first, plus one for each later record.
        token: `--initial-cluster-token`, random, and the identity of the data: a rollback
            (`Source.PREVIOUS`) is a new number with an old token.
        source: what the data is made from.
        founders: the units that start it together; every other unit joins as a learner.
        detail: what its data is made from, and what it may go back to.
        keep: where replaced data is kept: "" for the data root's `kept/`, or a directory.
        skip_backup: drop the replaced data once this generation is confirmed.
        confirmed: the leader has seen the generation healthy; before that, it can be rolled back.
    """

    number: int
    token: str
    source: Source
    founders: tuple[Founder, ...]
    detail: Detail = Detail()
    keep: str = ""
    skip_backup: bool = False
    confirmed: bool = False

    def founder(self, unit: str) -> Founder | None:
        """The founder record of `unit`, or None when it is to join later."""
        return next((f for f in self.founders if f.unit == unit), None)

    @property
    def closed(self) -> bool:
        """Whether it can still be rolled back to data that was replaced: no client reaches it."""
        return not self.confirmed and self.source in (Source.BACKUP, Source.SURVIVOR)

    @property
    def initial_cluster(self) -> str:
        """`--initial-cluster` of the founding: `etcd-0=https://...,etcd-1=https://...`."""
        return ",".join(f"{f.member}={f.peer_url}" for f in self.founders)


def member_name(unit: str) -> str:
    """The etcd member name of a Juju unit: `etcd/0` is `etcd-0`."""
    return unit.replace("/", "-")


def unit_name(member: str) -> str:
    """The Juju unit of an etcd member name: `my-etcd-0` is `my-etcd/0`."""
    application, _, number = member.rpartition("-")
    return f"{application}/{number}"
