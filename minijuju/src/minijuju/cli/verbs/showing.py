"""Looking at a model: status, units, logs."""

from __future__ import annotations

import time
from typing import Any

from minijuju.cli import argv, context
from minijuju.model import errors, formats

_LOG_COLUMNS = ("entity", "time", "level", "module", "message")


def status(ctx: context.Context) -> int:
    """``status [APPLICATION|UNIT...]``."""
    if not ctx.flags.given("watch"):
        return _status(ctx)
    pause = argv.duration(ctx.flags.text("watch"))
    try:
        while True:
            print("\x1b[H\x1b[2J", end="")
            _status(ctx)
            time.sleep(max(pause, 0.2))
    except KeyboardInterrupt:
        return 0


def _status(ctx: context.Context) -> int:
    data = ctx.view("status")
    if ctx.words:
        data = only(data, ctx.words)
    form = ctx.flags.text("format", "tabular")
    if form in ("oneline", "line", "short"):
        print("\n".join(_lines(data)))
        return 0
    shown = formats.status(
        data, relations=ctx.flags.on("relations"), storage=ctx.flags.on("storage")
    )
    return ctx.emit(data, shown, "tabular")


def only(data: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The status with nothing but the named applications and units, and their machines."""
    kept: dict[str, Any] = {}
    for name, app in data["applications"].items():
        units = {unit: shown for unit, shown in (app.get("units") or {}).items() if unit in names}
        if name in names:
            kept[name] = app
        elif units:
            kept[name] = {**app, "units": units}
    machines = {
        unit.get("machine") for app in kept.values() for unit in (app.get("units") or {}).values()
    }
    return {
        **data,
        "applications": kept,
        "machines": {key: one for key, one in data["machines"].items() if key in machines},
    }


def _lines(data: dict[str, Any]) -> list[str]:
    return [
        f"- {name}: {unit.get('public-address', '')} "
        f"(agent:{unit['juju-status']['current']}, workload:{unit['workload-status']['current']}) "
        f"{','.join(unit.get('open-ports', []))}".rstrip()
        for app in data["applications"].values()
        for name, unit in (app.get("units") or {}).items()
    ]


def show_unit(ctx: context.Context) -> int:
    """``show-unit UNIT...``."""
    ctx.at_least(1, "unit name")
    shown = ctx.view("show_unit", units=ctx.words, app=ctx.flags.on("app"))
    endpoint = ctx.flags.text("endpoint")
    if endpoint:
        for unit in shown.values():
            unit["relation-info"] = [
                one for one in unit.get("relation-info", []) if one["endpoint"] == endpoint
            ]
    return ctx.emit(shown)


def show_application(ctx: context.Context) -> int:
    """``show-application APPLICATION...``."""
    ctx.at_least(1, "application name")
    return ctx.emit(ctx.view("show_application", applications=ctx.words))


def actions(ctx: context.Context) -> int:
    """``actions APPLICATION``."""
    found = ctx.view("actions", application=ctx.one("application name"))
    if ctx.flags.on("schema") and ctx.flags.text("format", "default") == "default":
        return ctx.emit(found, None, "yaml")
    if ctx.flags.text("format", "default") in ("default", "tabular"):
        rows = [[name, one["description"].splitlines()[0]] for name, one in sorted(found.items())]
        print(formats.table(["Action", "Description"], rows) if rows else "No actions defined.")
        return 0
    if ctx.flags.on("schema"):
        return ctx.emit(found)
    return ctx.emit({name: one["description"] for name, one in found.items()})


def machines(ctx: context.Context) -> int:
    """``machines`` and ``show-machine MACHINE...``."""
    found = ctx.view("machines")
    if ctx.verb == "show-machine":
        ctx.at_least(1, "machine")
        missing = [name for name in ctx.words if name not in found]
        if missing:
            raise errors.JujuError(f"machine {missing[0]} not found")
        return ctx.emit({"machines": {name: found[name] for name in ctx.words}})
    return ctx.emit({"machines": found}, formats.machines(found), "tabular")


def debug_log(ctx: context.Context) -> int:
    """``debug-log [--limit N] [--include ENTITY] [--level LEVEL] [--tail]``."""
    wanted = [_entity(name) for name in ctx.flags.all("include")]
    records = ctx.call(
        "debug-log",
        limit=ctx.flags.integer("limit", 0) or ctx.flags.integer("lines", 0),
        include=wanted,
        level=ctx.flags.text("level").upper(),
    )
    _print_log(ctx, records)
    if ctx.flags.on("tail"):
        _follow(ctx, wanted, records)
    return 0


def _follow(ctx: context.Context, wanted: list[str], seen: list[dict[str, Any]]) -> None:
    last = seen[-1:] if seen else []
    try:
        while True:
            time.sleep(0.5)
            records = ctx.call("debug-log", include=wanted, level=ctx.flags.text("level").upper())
            start = records.index(last[0]) + 1 if last and last[0] in records else 0
            _print_log(ctx, records[start:])
            last = records[-1:]
    except KeyboardInterrupt:
        return


def _print_log(ctx: context.Context, records: list[dict[str, Any]]) -> None:
    excluded = {_entity(name) for name in ctx.flags.all("exclude")}
    convert = time.gmtime if ctx.flags.on("utc") else time.localtime
    pattern = "%Y-%m-%d %H:%M:%S" if ctx.flags.on("date") else "%H:%M:%S"
    for record in records:
        if record["entity"] in excluded:
            continue
        at = time.strftime(pattern, convert(record["time"]))
        if ctx.flags.on("ms"):
            at += f".{int(record['time'] % 1 * 1000):03d}"
        print(f"{record['entity']}: {at} {record['level']} {record['module']} {record['message']}")


def _entity(name: str) -> str:
    if "/" in name:
        return f"unit-{name.replace('/', '-')}"
    return f"machine-{name}" if name.isdigit() else name


def show_status_log(ctx: context.Context) -> int:
    """``show-status-log ENTITY``."""
    name = ctx.one("entity name")
    found = ctx.call("status-history", entity=name, limit=ctx.flags.integer("n", 20))
    if not found:
        raise errors.JujuError(f"no status history available for {name}")
    rows = [
        [
            time.strftime("%d %b %Y %H:%M:%S", time.localtime(one["since"])),
            one["kind"],
            one["status"],
            one["message"],
        ]
        for one in found
    ]
    shown = formats.table(["Time", "Type", "Status", "Message"], rows)
    return ctx.emit(found, shown, "tabular")
