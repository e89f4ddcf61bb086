"""What `juju-exec` inside a machine takes for its own and what for the command."""

from __future__ import annotations

import types
from typing import Any

import pytest

from minijuju.agent import toolserver


@pytest.fixture
def server() -> Any:
    """A tool server whose machine has one unit; nothing listens."""
    made = toolserver.ToolServer.__new__(toolserver.ToolServer)
    made._host = types.SimpleNamespace(agents={"db/0": None})  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("words", "unit", "script"),
    [
        (["db/0", "is-leader"], "db/0", "is-leader"),
        (["unit-db-0", "is-leader"], "db/0", "is-leader"),
        (["-u", "db/1", "--", "status-set", "active"], "db/1", "status-set active"),
        (["db/0", "is-leader --format=json"], "db/0", "is-leader --format=json"),
        (["db/0", "--", "is-leader", "--format=json"], "db/0", "is-leader --format=json"),
        (["db/0", "sh", "-c", "a; b"], None, "option provided but not defined: -c"),
        (["is-leader"], "db/0", "is-leader"),
        (["--no-context", "hostname"], "", "hostname"),
        (["db/0", "is-leader", "--format=json"], None, "not defined: --format"),
        (["--no-context", "-u", "db/0"], None, "-no-context cannot be passed"),
        (["db/0"], None, "missing commands"),
        ([], None, "missing unit-name"),
    ],
)
def test_given_words_when_executed_then_unit_and_script_are_jujus(
    server: Any, words: list[str], unit: str | None, script: str
) -> None:
    if unit is None:
        code, out, said = server._execute(["juju-exec", *words], "")
        assert (code, out) == (2, "")
        assert script in said
    else:
        assert server._executed(["juju-exec", *words], "") == (unit, script)


def test_given_a_hook_when_it_calls_juju_exec_then_refused(server: Any) -> None:
    code, _, said = server._execute(["juju-exec", "db/0", "is-leader"], "db/0-start-1")
    assert (code, "from within a hook" in said) == (2, True)


def test_given_two_units_when_none_is_named_then_refused(server: Any) -> None:
    server._host.agents["web/0"] = None
    assert server._execute(["juju-exec", "is-leader"], "") == (
        *(2, ""),
        'ERROR "is-leader" is not a valid tag\n',
    )
