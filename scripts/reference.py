"""Write docs/reference.md, the tables of actions, options, metrics and alerts, from the code."""

from __future__ import annotations

import pathlib
import re
import sys
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"
sys.path.insert(0, str(ROOT / "src"))


def page() -> str:
    """The page's text."""
    actions = yaml.safe_load((ROOT / "actions.yaml").read_text())
    options = yaml.safe_load((ROOT / "config.yaml").read_text())["options"]
    return (
        "\n\n".join(
            (
                "# Reference",
                "`scripts/reference.py` writes this page from the charm's own files.",
                "## Actions",
                table(("action", "parameters", "what it does"), map(action, actions.items())),
                "## On a unit",
                "`sudo etcd-admin VERB` answers as the actions do; `-o json` for programs.",
                table(("verb", "what it does"), verbs()),
                "## Options",
                table(("option", "default", "what it says"), map(option, options.items())),
                "## Metrics of the charm",
                "On `https://127.0.0.1:2381/metrics` of each unit (`metrics-port`), followed by "
                "all of etcd's own.",
                table(("metric", "what it is"), metrics()),
                "## Alerts",
                table(("alert", "severity", "after", "when"), alerts()),
            )
        )
        + "\n"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its cells on one line each."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def action(item: tuple[str, dict]) -> tuple[str, ...]:
    """One action's row."""
    name, schema = item
    needed = schema.get("required", [])
    parameters = [
        f"`{key}`: {value['description'].strip()}" + (" Needed." if key in needed else "")
        for key, value in schema.get("params", {}).items()
    ]
    return f"`{name}`", "<br>".join(parameters), schema["description"]


def option(item: tuple[str, dict]) -> tuple[str, ...]:
    """One option's row."""
    name, schema = item
    default = schema.get("default", "")
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{name}`", f"`{shown}`" if shown else "", schema["description"]


def verbs() -> list[tuple[str, ...]]:
    """The verbs of etcd-admin, with their arguments."""
    from commands import etcd_admin

    found: list[tuple[str, ...]] = []
    parsers = [etcd_admin.parser()]
    while parsers:
        parser = parsers.pop(0)
        below = [a.choices.values() for a in parser._actions if isinstance(a.choices, dict)]
        parsers[:0] = [each for choices in below for each in choices]
        if not below:
            usage = " ".join(parser.format_usage().split())
            words = usage.removeprefix("usage: etcd-admin ")
            shown = words.replace(" [-h] [-o {table,json}]", "")
            found.append((f"`{shown}`", parser.description or ""))
    return found


def metrics() -> list[tuple[str, ...]]:
    """Our metrics with their help."""
    from backup import keeper_files
    from keeper import alarms, metrics

    config = keeper_files.Config(
        "", "", (), "", "", "", "", 0, "", "", 1.0, "", certificates={"peer": 0.0}
    )
    seen = metrics.Seen("", 1, 0, {})
    sight = alarms.Sight({"": True}, (), 1, 1)
    status = keeper_files.Status(error="x")
    text = metrics.render(config, status, seen, 0.0, sight=sight, reason="x")
    return [(f"`{name}`", words) for name, words in re.findall(r"# HELP (\w+) (.*)", text)]


def alerts() -> list[tuple[str, ...]]:
    """The alert rules."""
    groups = yaml.safe_load((ROOT / "src" / "cos" / "alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [
        (
            rule["alert"],
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            "`"
            + re.sub(r"\{\}", "", re.sub(r"(, ?)?%%juju_topology%%(, )?", "", rule["expr"]))
            + "`",
        )
        for rule in rules
    ]


if __name__ == "__main__":
    PAGE.write_text(page())
