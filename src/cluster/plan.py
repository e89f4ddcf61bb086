"""The one place that decides: `plan(view) -> Plan`."""

from __future__ import annotations

import dataclasses
import enum

from cluster import steps as steps_
from cluster import view as views


class State(enum.Enum):
    """A name for each situation that an operator can meet in `juju status`."""

    INSTALLING = "installing"
    FOUNDING = "founding"
    JOINING = "joining"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    RESTORING = "restoring"
    ROLLED_BACK = "rolled-back"
    QUORUM_LOST = "quorum-lost"
    RECOVERING = "recovering"
    LEAVING = "leaving"
    CORRUPT = "corrupt"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now, in order, and what to say meanwhile.

    Attributes:
        steps: to be done in this order; after them the caller observes and plans again.
        state: the name of the situation.
        message: one sentence for `juju status`.
        waiting_on: key of what is being waited for, "" when nothing is; the caller remembers
            since when (see `View.since`).
    """

    steps: tuple[steps_.Step, ...]
    state: State
    message: str
    waiting_on: str = ""


def plan(view: views.View) -> Plan:
    """Decide this unit's next steps."""
    raise NotImplementedError
