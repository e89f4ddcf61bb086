"""Juju's hook tools, as few as this charm wants."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60.0


def _run(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    return done.stdout.strip()


def _ask(*argv: str) -> Any:
    return json.loads(_run(argv[0], "--format=json", *argv[1:]))


def config() -> dict[str, Any]:
    """All options that have a value."""
    return _ask("config-get")


def is_leader() -> bool:
    """Whether this unit is the leader for the next 30 seconds."""
    return bool(_ask("is-leader"))


def address(endpoint: str) -> str:
    """Where this unit is reached by the other side of an endpoint."""
    return str(_ask("network-get", endpoint)["ingress-addresses"][0])


def resource(name: str) -> pathlib.Path:
    """The file of an attached resource."""
    return pathlib.Path(_run("resource-get", name))


def relations(endpoint: str) -> list[str]:
    """Relation ids of an endpoint."""
    return _ask("relation-ids", endpoint)


def read_own_application(relation: str) -> dict[str, str]:
    """This application's databag; leader only."""
    return _ask("relation-get", "--app", "-r", relation, "-", os.environ["JUJU_UNIT_NAME"])


def read_remote_application(relation: str) -> dict[str, str]:
    """The other application's databag."""
    other = str(_ask("relation-list", "--app", "-r", relation))
    return _ask("relation-get", "--app", "-r", relation, "-", other)


def write_application(relation: str, bag: dict[str, str]) -> None:
    """Set keys of this application's databag; they travel on standard input."""
    _run("relation-set", "--app", "-r", relation, "--file", "-", text=json.dumps(bag))


def add_secret(label: str, content: dict[str, str]) -> str:
    """Make a secret of the application; answers its URI."""
    with _files(content) as words:
        return _run("secret-add", "--owner", "application", "--label", label, *words)


def set_secret(uri: str, content: dict[str, str]) -> None:
    """Give a secret new content; without a change nothing happens."""
    with _files(content) as words:
        _run("secret-set", uri, *words)


def grant(uri: str, relation: str) -> None:
    """Let the other side of a relation read a secret."""
    _run("secret-grant", "--relation", relation, uri)


def status(state: str, message: str) -> None:
    """Set the unit's workload status."""
    _run("status-set", "--application=False", state, "--", message)


@contextlib.contextmanager
def _files(content: dict[str, str]) -> Iterator[list[str]]:
    """Contents as `key#file=path` words: no value is on a command line."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for key, value in content.items():
            (folder / key).write_text(value)
        yield [f"{key}#file={folder / key}" for key in content]
