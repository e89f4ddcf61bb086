"""What a unit shows in `juju status` when its hook has ended, and the reason for it."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import errors
from backup import keeper_files
from hook import config as configs
from hook import owner
from machine import files, outside
from relations import databag

if TYPE_CHECKING:
    from cluster import plan as plans
    from hook import backups as unit_backups
    from hook import certificates as unit_certificates

FAULTS: dict[type[Exception], str] = {
    owner.ForeignError: "machine",
    configs.SettingsError: "configuration",
    databag.PeerError: "relation",
    errors.EtcdError: "machine-tool",
}
"""What ends a hook with its own sentence, and the reason for it; the kinds of an error first."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A status.

    Attributes:
        reason: its key in `cluster.reasons`, which metrics and `health` tell; "" for none.
        status: Juju's word: active, waiting, maintenance or blocked.
        sentence: what it says.
    """

    reason: str
    status: str
    sentence: str

    @property
    def printable(self) -> str:
        """The sentence, which may have words of others in it, without what steers a terminal."""
        return outside.printable(self.sentence)

    def tell(self) -> None:
        """Tell the keeper and the actions the reason; a full disk keeps the one before."""
        if self.reason in ("", FAULTS[owner.ForeignError]):
            return  # where the machine is another unit's, the file is, too
        with contextlib.suppress(OSError):
            files.ensure_dir(keeper_files.REASON.parent)
            files.write(keeper_files.REASON, self.reason, 0o644)


def fault(error: Exception) -> Shown:
    """Of a hook that ended with one of `FAULTS`."""
    reason = next(name for kind, name in FAULTS.items() if isinstance(error, kind))
    return Shown(reason, "blocked", str(error))


def of(
    plan: plans.Plan,
    trusted: unit_certificates.Trust,
    problem: unit_backups.Problem | None,
    aftermath: str,
) -> Shown:
    """Of a hook that came to its end: what keeps etcd from serving goes first, backups go last.

    Args:
        plan: what is left to do, and its sentence.
        trusted: what came of the certificates.
        problem: what keeps backups or options from being as they should be.
        aftermath: why the last restore did not come to be, "" for nothing.
    """
    if not trusted.ready or trusted.wrong:
        return Shown("certificates", "blocked" if trusted.wrong else "waiting", trusted.message)
    if problem and plan.status == "active":
        return Shown(problem.reason, "waiting" if problem.waiting else "blocked", problem.sentence)
    words = "; ".join(filter(None, [plan.message, aftermath, trusted.message]))
    return Shown(plan.state.value, plan.status, words)
