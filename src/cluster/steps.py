"""What `plan` may ask for: one small frozen dataclass per effect, named from etcd's vocabulary.

Every step is idempotent: a hook can die before, in or after any of them, and the next one plans
again from what it then sees.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cluster import generation as generations
    from cluster import view as views


@dataclasses.dataclass(frozen=True)
class Step:
    """Base of all steps.

    Attributes:
        ends_hook: what it wrote into a databag must be flushed before anybody acts on it, so the
            caller ends the hook here: a record that a crash can still take back is no record.
        needs_etcd: it cannot be done before etcd is installed.
        final: nothing takes it back, so that the caller looks at Juju and at etcd once more right
            before it, and leaves it when it is not planned any more.
        by_record: it brings data to life that the record names. Juju hands a hook the same record
            all along, so that the caller leaves this to the next hook once that may be replaced.
    """

    ends_hook: ClassVar[bool] = False
    needs_etcd: ClassVar[bool] = True
    final: ClassVar[bool] = False
    by_record: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Propose(Step):
    """Leader: write `proposal`, to be prepared by every founder; None withdraws it."""

    ends_hook: ClassVar[bool] = True
    needs_etcd: ClassVar[bool] = False
    proposal: generations.Generation | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Commit(Step):
    """Leader: write `generation` (and drop `proposal` when it is the one committed)."""

    ends_hook: ClassVar[bool] = True
    needs_etcd: ClassVar[bool] = False
    generation: generations.Generation


@dataclasses.dataclass(frozen=True)
class Prepare(Step):
    """Build `prepared/<token>/` from the proposal's source. The running cluster is not touched.

    What is built is closed: no client reaches it until `Open`.
    """

    proposal: generations.Generation


@dataclasses.dataclass(frozen=True)
class Discard(Step):
    """Remove `prepared/<token>/` of a proposal that was withdrawn."""

    token: str


@dataclasses.dataclass(frozen=True)
class Stop(Step):
    """Stop the local etcd and keep it stopped.

    Attributes:
        last: its cluster ends with it, nobody is to take its leadership over.
    """

    last: bool = False


@dataclasses.dataclass(frozen=True)
class SetAside(Step):
    """Rename `current/` to `kept/...`: etcd is stopped first. Nothing is deleted."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Adopt(Step):
    """Rename `prepared/<token>/` to `current/`; there is no `current/`."""

    by_record: ClassVar[bool] = True
    token: str


@dataclasses.dataclass(frozen=True)
class PutBack(Step):
    """Rename the kept data of `token` to `current/`; there is no `current/`."""

    by_record: ClassVar[bool] = True
    token: str


@dataclasses.dataclass(frozen=True)
class Found(Step):
    """Stamp an empty `current/` and start etcd `new` with the generation's initial cluster."""

    by_record: ClassVar[bool] = True
    generation: generations.Generation


@dataclasses.dataclass(frozen=True)
class Join(Step):
    """Stamp an empty `current/` and start etcd `existing` with exactly this initial cluster."""

    by_record: ClassVar[bool] = True
    generation: generations.Generation
    initial_cluster: str


@dataclasses.dataclass(frozen=True)
class CatchUp(Step):
    """Promote this unit's learner as soon as etcd agrees, and wait until it serves, in bounds."""

    peer_url: str


@dataclasses.dataclass(frozen=True)
class Start(Step):
    """Start etcd on the `current/` data it has (its WAL says who it is).

    Attributes:
        compare: let etcd compare its keys with those of its peers before it serves. Not where
            all founders start the same restored data now, and each would wait for the others.
    """

    by_record: ClassVar[bool] = True
    compare: bool = True


@dataclasses.dataclass(frozen=True)
class Restart(Step):
    """Restart etcd for a configuration or trust change, leadership moved away first.

    Its turn may have passed to another unit since the round's look.
    """

    final: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class EndTurn(Step):
    """This unit has nothing to restart for any more: the next one may have the turn."""


@dataclasses.dataclass(frozen=True)
class AddLearner(Step):
    """`member add --learner` for this unit's peer URL."""

    peer_url: str


@dataclasses.dataclass(frozen=True)
class Promote(Step):
    """`member promote`, refused by etcd until the learner is in sync."""

    member_id: int


@dataclasses.dataclass(frozen=True)
class RemoveMember(Step):
    """`member remove`."""

    final: ClassVar[bool] = True
    member_id: int


@dataclasses.dataclass(frozen=True)
class UpdateMember(Step):
    """`member update`: this member's peer URL changed; the restart comes after."""

    member_id: int
    peer_url: str


@dataclasses.dataclass(frozen=True)
class MoveLeader(Step):
    """Hand raft leadership from this member to another voter."""

    to: int


@dataclasses.dataclass(frozen=True)
class Open(Step):
    """Let clients reach this unit's restored data: etcd starts anew and believes them."""


@dataclasses.dataclass(frozen=True)
class Compare(Step):
    """Members hold different keys: arm the CORRUPT alarm of those that no majority agrees with."""


@dataclasses.dataclass(frozen=True)
class Arm(Step):
    """Raise an alarm: with CORRUPT nobody can write."""

    alarm: views.Alarm


@dataclasses.dataclass(frozen=True)
class Disarm(Step):
    """`alarm disarm` of one alarm."""

    alarm: views.Alarm


@dataclasses.dataclass(frozen=True)
class Finish(Step):
    """After confirmation: drop or move the replaced data as asked."""

    generation: generations.Generation


@dataclasses.dataclass(frozen=True)
class ReadFacts(Step):
    """Stop-free reading of this disk's `DiskFacts`, to be published for a recovery."""


@dataclasses.dataclass(frozen=True)
class Wake(Step):
    """Run the charm again after this many seconds, without waiting for Juju's tick."""

    needs_etcd: ClassVar[bool] = False
    seconds: float


@dataclasses.dataclass(frozen=True)
class Grant(Step):
    """Leader: write `turn`: this unit, and no other, may restart etcd now."""

    ends_hook: ClassVar[bool] = True
    needs_etcd: ClassVar[bool] = False
    unit: str
    number: int


@dataclasses.dataclass(frozen=True)
class Fail(Step):
    """Publish this unit's `failure` of the proposal or founding with this token."""

    ends_hook: ClassVar[bool] = True
    needs_etcd: ClassVar[bool] = False
    token: str
    reason: str
