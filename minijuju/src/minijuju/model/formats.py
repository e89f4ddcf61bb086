"""What a person or a program gets to read: JSON, YAML, aligned columns."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

Row = list[str]


class FormatError(Exception):
    """The asked format does not exist for this verb; Juju exits with 2."""


def dump(data: Any, form: str) -> str:
    """Render *data* as ``json`` or ``yaml``, without a trailing newline."""
    if form == "json":
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if form == "yaml":
        return yaml_text(data).rstrip("\n")
    raise FormatError(f'invalid value "{form}" for option --format: unknown format "{form}"')


@functools.cache
def _dumper() -> Any:
    """YAML as Go's library writes it: blocks for lines, double quotes where it must quote.

    The other rules (80 columns, single quotes where a plain word would be read otherwise) are the
    same in Python's.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        tag = "tag:yaml.org,2002:str"
        if "\n" in value:
            return dumper.represent_scalar(tag, value, style="|")
        plain = dumper.resolve(yaml.ScalarNode, value, (True, False)) == tag
        return dumper.represent_scalar(tag, value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return Dumper


def yaml_text(data: Any) -> str:
    """Render *data* as YAML, in the order that it has."""
    import yaml

    text = yaml.dump(
        data, Dumper=_dumper(), sort_keys=False, default_flow_style=False, allow_unicode=True
    )
    return text.removesuffix("...\n")


def ordered(data: Any) -> Any:
    """The same data with the keys of all maps sorted, and numbers in them by their value."""
    if isinstance(data, dict):
        return {key: ordered(data[key]) for key in sorted(data, key=_natural)}
    return [ordered(item) for item in data] if isinstance(data, list) else data


def _natural(key: Any) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", str(key))
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def table(header: Row, rows: list[Row], right: tuple[int, ...] = ()) -> str:
    """Align columns with two spaces between them.

    Args:
        header: the column titles.
        rows: cells; a row may be shorter than the header.
        right: the columns whose cells are aligned to the right.
    """
    lines = [header, *rows]
    widths = [
        max((len(line[column]) for line in lines if column < len(line)), default=0)
        for column in range(len(header))
    ]
    rendered: list[str] = []
    for line in lines:
        cells = [
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(line)
        ]
        rendered.append("  ".join(cells).rstrip())
    return "\n".join(rendered)


def status(data: dict[str, Any], *, relations: bool = False, storage: bool = False) -> str:
    """The table that ``juju status`` shows by default.

    Args:
        data: the object that ``juju status --format json`` prints.
        relations: whether to add the relations.
        storage: whether to add the storage.
    """
    applications: dict[str, Any] = data["applications"]
    parts = [_model(data)]
    if not applications and not data["machines"]:
        parts.append(f'Model "{data["model"]["name"]}" is empty.')
        return "\n\n".join(parts)
    parts += [_applications(applications), _units(applications), machines(data["machines"])]
    if relations:
        parts.append(_relations(applications))
    if storage:
        parts.append(storage_table(data.get("storage", {})))
    return "\n\n".join(part for part in parts if part)


def storage_table(data: dict[str, Any]) -> str:
    """The table that ``juju storage`` shows by default; empty without storage."""
    pools = {
        filesystem.get("storage", ""): (filesystem.get("pool", ""), filesystem.get("size", 0))
        for filesystem in data.get("filesystems", {}).values()
    }
    rows: list[Row] = []
    for name, info in sorted(data.get("storage", {}).items()):
        pool, size = pools.get(name, ("", 0))
        units: dict[str, Any] = info.get("attachments", {}).get("units", {}) or {"": {}}
        for unit in sorted(units):
            shown = f"{size / 1024:.1f} GiB" if size >= 1024 else f"{size} MiB" if size else ""
            current = info["status"].get("current", "")
            message = info["status"].get("message", "")
            rows.append([unit, name, info["kind"], pool, shown, current, message])
    if not rows:
        return ""
    return table(["Unit", "Storage ID", "Type", "Pool", "Size", "Status", "Message"], rows)


def _model(data: dict[str, Any]) -> str:
    model = data["model"]
    cloud = "/".join(part for part in (model["cloud"], model.get("region", "")) if part)
    stamp = data.get("controller", {}).get("timestamp", "")
    header = ["Model", "Controller", "Cloud/Region", "Version", "SLA", "Timestamp"]
    row = [model["name"], model["controller"], cloud, model["version"], "unsupported", stamp]
    notes = model.get("model-status", {})
    if notes.get("current") not in (None, "", "available"):
        header.append("Notes")
        row.append(notes.get("message") or notes["current"])
    return table(header, [row])


def _applications(applications: dict[str, Any]) -> str:
    rows: list[Row] = []
    for name, app in sorted(applications.items()):
        state = app.get("application-status", {})
        units = app.get("units") or {}
        subordinate = bool(app.get("subordinate-to"))
        count = len(list(_nested(applications, name))) if subordinate else len(units)
        rows.append(
            [
                name,
                app.get("version", ""),
                state.get("current", ""),
                str(count),
                app["charm-name"],
                app.get("charm-channel", ""),
                str(app["charm-rev"]),
                "yes" if app["exposed"] else "no",
                state.get("message", ""),
            ]
        )
    header = [
        *("App", "Version", "Status", "Scale", "Charm", "Channel", "Rev", "Exposed", "Message")
    ]
    return table(header, rows, right=(3, 6)) if rows else ""


def _nested(applications: dict[str, Any], subordinate: str) -> list[str]:
    return [
        nested
        for app in applications.values()
        for unit in (app.get("units") or {}).values()
        for nested in (unit.get("subordinates") or {})
        if nested.rpartition("/")[0] == subordinate
    ]


def _number(name: str) -> tuple[str, int]:
    app, _, number = name.rpartition("/")
    return app, int(number) if number.isdigit() else 0


def _units(applications: dict[str, Any]) -> str:
    rows: list[Row] = []
    units = {
        name: unit
        for app in applications.values()
        for name, unit in (app.get("units") or {}).items()
    }
    for name in sorted(units, key=_number):
        unit = units[name]
        rows.append(_unit(name, unit, unit.get("machine", "")))
        nested: dict[str, Any] = unit.get("subordinates") or {}
        rows.extend(_unit(f"  {sub}", nested[sub], "") for sub in sorted(nested, key=_number))
    header = ["Unit", "Workload", "Agent", "Machine", "Public address", "Ports", "Message"]
    return table(header, rows) if rows else ""


def _unit(name: str, unit: dict[str, Any], machine: str) -> Row:
    workload = unit.get("workload-status", {})
    agent = unit.get("juju-status", {})
    message = workload.get("message", "")
    if agent.get("current") == "executing" and agent.get("message"):
        message = f"({agent['message'].removeprefix('running ').removesuffix(' hook')}) {message}"
    elif agent.get("current") in ("lost", "failed") and agent.get("message"):
        message = message or agent["message"]
    return [
        name + ("*" if unit.get("leader") else ""),
        workload.get("current", ""),
        agent.get("current", ""),
        machine,
        unit.get("public-address", ""),
        ",".join(unit.get("open-ports") or []),
        message.rstrip(),
    ]


def machines(machines: dict[str, Any]) -> str:
    """The machines of the status as a table; empty without any."""
    rows: list[Row] = []
    for name in sorted(machines, key=lambda number: (len(number), number)):
        machine = machines[name]
        base = machine.get("base") or {}
        rows.append(
            [
                name,
                machine.get("juju-status", {}).get("current", ""),
                machine.get("dns-name", ""),
                machine.get("instance-id", ""),
                "@".join(part for part in (base.get("name"), base.get("channel")) if part),
                "",
                machine.get("machine-status", {}).get("message", ""),
            ]
        )
    header = ["Machine", "State", "Address", "Inst id", "Base", "AZ", "Message"]
    return table(header, rows) if rows else ""


def _relations(applications: dict[str, Any]) -> str:
    seen: set[tuple[str, ...]] = set()
    rows: list[Row] = []
    for name, app in sorted(applications.items()):
        for endpoint, related in (app.get("relations") or {}).items():
            for other in related:
                target = other["related-application"]
                key = (*sorted((name, target)), other["interface"])
                if key in seen:
                    continue
                seen.add(key)
                kind = "peer" if target == name else "regular"
                if other.get("scope") == "container":
                    kind = "subordinate"
                opposite = _opposite(applications, name, target, other["interface"])
                rows.append([f"{name}:{endpoint}", opposite, other["interface"], kind, ""])
    header = ["Integration provider", "Requirer", "Interface", "Type", "Message"]
    return table(header, rows) if rows else ""


def _opposite(applications: dict[str, Any], name: str, target: str, interface: str) -> str:
    """The other end of a relation, as ``application:endpoint`` where that can be known."""
    for endpoint, related in (applications.get(target, {}).get("relations") or {}).items():
        for one in related:
            if one["related-application"] == name and one["interface"] == interface:
                return f"{target}:{endpoint}"
    return target
