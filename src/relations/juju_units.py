"""Which units Juju has, and what those tell whom no hook has announced yet."""

from __future__ import annotations

import subprocess
from typing import cast

from ops import hookcmds

from machine import outside, processes
from relations import databag

_GOAL_STATE_TIMEOUT = 60.0


def goal_state() -> dict[str, str]:
    """Every unit of the application that Juju still has, with its goal status.

    A unit that Juju is removing has the status `dying`; a removed one is not there.

    Raises:
        PeerError: Juju did not answer.
    """
    try:
        answer = processes.hook_tool(["goal-state", "--format=json"], _GOAL_STATE_TIMEOUT)
        if answer.returncode:
            reason = " ".join(answer.stderr.split())
            raise databag.PeerError(f"Juju does not say which units there are: {reason}")
        found = outside.json_object(answer.stdout, databag.GOALS)
        goals = cast("dict[str, dict[str, str]]", found.get("units") or {})
        return {name: str(goal["status"]) for name, goal in goals.items()}
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise databag.PeerError(f"Juju does not say which units there are: {error!r}") from error


def is_leader() -> bool:
    """Whether Juju says now that this unit leads: for 30 s from here on. No answer is no."""
    try:
        return hookcmds.is_leader()
    except hookcmds.Error:
        return False


def told_ahead(relation: int, unit: str) -> dict[str, str]:
    """The databag of a unit that is in scope and whose `joined` hook is still to run here.

    Juju reads it afresh for each hook, for as long as the unit is not in `relation-list`.

    Args:
        relation: its number.
        unit: a unit that the goal state names.

    Returns:
        Its databag, {} while it has not entered the relation.
    """
    try:
        return hookcmds.relation_get(relation, unit=unit)
    except hookcmds.Error:
        return {}
