"""Juju's hook tools, as few as this charm wants."""

from __future__ import annotations

import json
import subprocess
from typing import Any

TIMEOUT = 60.0


def _run(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    return done.stdout


def _ask(*argv: str) -> Any:
    return json.loads(_run(argv[0], "--format=json", *argv[1:]))


def config() -> dict[str, Any]:
    """All options that have a value."""
    return _ask("config-get")


def is_leader() -> bool:
    """Whether this unit is the leader for the next 30 seconds."""
    return bool(_ask("is-leader"))


def relations(endpoint: str) -> list[str]:
    """Relation ids of an endpoint."""
    return _ask("relation-ids", endpoint)


def units(relation: str) -> list[str]:
    """Remote units of a relation."""
    return _ask("relation-list", "-r", relation)


def read(relation: str, unit: str) -> dict[str, str]:
    """A unit's databag."""
    return _ask("relation-get", "-r", relation, "-", unit)


def write(relation: str, bag: dict[str, str]) -> None:
    """Set keys of this unit's databag; they travel on standard input, keys of certificates too."""
    _run("relation-set", "-r", relation, "--file", "-", text=json.dumps(bag))


def status(state: str, message: str) -> None:
    """Set the unit's workload status."""
    _run("status-set", "--application=False", state, "--", message)


def version(text: str) -> None:
    """Set the workload version."""
    _run("application-version-set", "--", text)


def log(message: str) -> None:
    """Write to the unit's log."""
    _run("juju-log", "--log-level", "INFO", "--", message)
