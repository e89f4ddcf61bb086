"""Generations: a cluster is a sequence of them, each committed once by the Juju leader.

The application databag of the `cluster` relation holds at most one committed record
(`generation`) and at most one proposed one (`proposal`). A unit starts etcd only on data whose
stamp carries the committed record's token.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any


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
class Generation:
    """One committed or proposed founding of the cluster.

    Attributes:
        number: 1 for the first, plus one for each later record.
        token: `--initial-cluster-token`, random, and the identity of the data: a rollback
            (`Source.PREVIOUS`) is a new number with an old token.
        source: what the data is made from.
        founders: the units that start it together; every other unit joins as a learner.
        detail: what `source` needs, strings only: for BACKUP where to fetch it and how to check
            it (`remote`, `path`, `sha256`, `size`, `revision`, `unit`), for SURVIVOR the chosen
            `unit` and its `revision`, for PREVIOUS the `number` it returns to. `high` is the
            revision that BACKUP and SURVIVOR begin with, and PREVIOUS carries on (`revisions`).
        keep: where replaced data is kept: "" for the data root's `kept/`, or a directory.
        skip_backup: drop the replaced data once this generation is confirmed.
        confirmed: the leader has seen the generation healthy; before that, it can be rolled back.
    """

    number: int
    token: str
    source: Source
    founders: tuple[Founder, ...]
    detail: tuple[tuple[str, str], ...] = ()
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

    def to_json(self) -> str:
        """The record as the databag holds it."""
        raw = dataclasses.asdict(self)
        raw["source"] = self.source.value
        raw["detail"] = dict(self.detail)
        return json.dumps(raw, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Generation:
        """Read a record.

        Raises:
            ValueError: the text is not a record, with the reason in one sentence.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                number=int(raw["number"]),
                token=_text(raw["token"]),
                source=Source(raw["source"]),
                founders=tuple(
                    Founder(_text(f["unit"]), _text(f["peer_url"])) for f in raw["founders"]
                ),
                detail=tuple(
                    sorted((str(k), str(v)) for k, v in dict(raw.get("detail", {})).items())
                ),
                keep=str(raw.get("keep", "")),
                skip_backup=bool(raw.get("skip_backup", False)),
                confirmed=bool(raw.get("confirmed", False)),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"the generation record cannot be read: {error!r}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a non-empty string, not {value!r}")
    return value


def member_name(unit: str) -> str:
    """The etcd member name of a Juju unit: `etcd/0` is `etcd-0`."""
    return unit.replace("/", "-")


def unit_name(member: str) -> str:
    """The Juju unit of an etcd member name: `my-etcd-0` is `my-etcd/0`."""
    application, _, number = member.rpartition("-")
    return f"{application}/{number}"
