"""Every command that a page, an action's text or a sentence of the charm names can be typed."""

from __future__ import annotations

import ast
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from minijuju.cli import argv
from minijuju.cli import main as cli

ROOT = pathlib.Path(__file__).parents[2]
ACTIONS: dict[str, Any] = yaml.safe_load((ROOT / "actions.yaml").read_text())
OPTIONS: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())["options"]
VALUE = "VALUE"
"""What stands for a part that is only known when the charm speaks."""
SOURCES = {"restore": {"backup-id", "path"}, "member-remove": {"member"}}
"""Action to the parameters of which it takes one: no schema says so."""
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.yaml")))


def texts(tree: ast.Module) -> Iterator[str]:
    """The strings of a module, with their parts in braces as `VALUE`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else VALUE for p in node.values)
            yield "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named() -> Iterator[str]:
    """Every `juju ...` in code marks, and every line of a code block that begins so."""
    for page in PAGES:
        text = page.read_text()
        yield from re.findall(r"^ *\$? *(juju [a-z][^\n#]*)", text, re.MULTILINE)
        yield from re.findall(r"`(juju [a-z][^`]*)`", re.sub(r"\s+", " ", text))
    for path in sorted(ROOT.glob("src/**/*.py")):
        for text in texts(ast.parse(path.read_text())):
            yield from re.findall(r"`(juju [a-z][^`]*)`", text)


def refused(command: str) -> str:
    """What is wrong with a command, "" when it can be typed."""
    verb, *words = shlex.split(command.rstrip(". ").replace(VALUE, "value"))[1:]
    verb = cli.ALIASES.get(verb, verb)
    if verb not in cli.VERBS:
        return f"Juju has no {verb}"
    try:
        flags = argv.parse(cli.VERBS[verb][1], words, mixed=verb not in cli._IN_ORDER)
    except argv.UsageError as error:
        return str(error)
    if verb == "run" and len(flags.positionals) > 1:
        return _action(*flags.positionals)
    if verb == "config" and len(flags.positionals) > 1:
        asked = {word.partition("=")[0] for word in flags.positionals[1:]} - {"value"}
        return f"no option {asked - OPTIONS.keys()}" if asked - OPTIONS.keys() else ""
    return ""


def _action(_: str, action: str, *parameters: str) -> str:
    if action == "value":
        return ""
    if action not in ACTIONS:
        return f"no action {action}"
    given = {word.partition("=")[0] for word in parameters}
    schema = ACTIONS[action]
    needed = set(schema.get("required", ()))
    known = set(schema.get("params", ()))
    if given - known - {"value"}:
        return f"{action} takes no {given - known}"
    if needed - given:
        return f"{action} lacks {needed - given}"
    source = SOURCES.get(action)
    return f"{action} lacks one of {source}" if source and not source & given else ""


COMMANDS = sorted(set(named()))


@pytest.mark.parametrize("command", COMMANDS)
def test_given_a_command_that_is_named_when_typed_then_juju_and_the_action_take_it(command: str):
    assert refused(command) == ""


@pytest.mark.parametrize(
    "command",
    [
        "juju run etcd/leader restore",
        "juju run etcd/leader member-remove",
        "juju run etcd/leader restoring backup-id=latest",
        "juju run etcd/leader health loud=true",
        "juju config etcd prot=2379",
        "juju remove-unit --forse etcd/1",
        "juju remove-units etcd/1",
    ],
)
def test_given_a_command_that_cannot_be_typed_when_looked_at_then_it_is_seen(command: str):
    assert refused(command)
