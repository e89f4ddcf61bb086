"""Models, the controller itself, and what minijuju alone can do: come up, go down, hurt."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from minijuju.cli import argv, context
from minijuju.controller import daemon
from minijuju.model import behaviour, errors, formats, paths

if TYPE_CHECKING:
    import pathlib

CLIENT_VERSION = behaviour.of(behaviour.DEFAULT).version
GIT_COMMIT = "minijuju"
OWN_FILES = ("models", "storage", "state.db*", "daemon.log", "lock", "pid", "socket")
"""What a controller makes in its home."""
DOWN_SECONDS = 120.0
"""How long `down` waits for the daemon to end."""


def require_host() -> None:
    """Refuse at once, in one sentence, where machines cannot run.

    Raises:
        errors.JujuError: with that sentence.
    """
    from minijuju.machines import system

    try:
        system.require()
    except system.Error as error:
        raise errors.JujuError(str(error)) from None


def ensure_image() -> None:
    """Build the machine image where there is none yet, telling each step on stderr."""
    from minijuju.machines import image, system

    began = time.monotonic()

    def tell(step: str) -> None:
        context.say(f"[{time.monotonic() - began:4.0f} s] {step}")

    try:
        image.ensure(progress=tell)
    except system.Error as error:
        raise errors.JujuError(str(error)) from None


def add_model(ctx: context.Context) -> int:
    """``add-model NAME [CLOUD[/REGION]]``."""
    ctx.at_least(1, "model name")
    ctx.at_most(2)
    require_host()
    name = ctx.words[0]
    config = context.settings(ctx.flags.all("config"))
    ctx.plain("add-model", name=name, config=config, switch=not ctx.flags.on("no-switch"))
    context.say(
        f"Added '{name}' model on localhost/localhost with credential 'localhost' for user 'admin'"
    )
    return 0


def destroy_model(ctx: context.Context) -> int:
    """``destroy-model MODEL``: blocks until it is gone."""
    model = ctx.words[0] if ctx.words else ctx.flags.text("model")
    if not model:
        raise argv.UsageError("no model specified")
    ctx.at_most(1)
    ctx.confirm(f"WARNING! This command will destroy the {model!r} model and all it holds.")
    context.say("Destroying model")
    timeout = ctx.flags.seconds("timeout", 0.0)
    ctx.plain(
        "destroy-model",
        model=model,
        force=ctx.flags.on("force"),
        destroy_storage=ctx.flags.on("destroy-storage"),
        release_storage=ctx.flags.on("release-storage"),
        timeout=timeout or None,
    )
    context.say("Model destroyed.")
    return 0


def switch(ctx: context.Context) -> int:
    """``switch [MODEL]``."""
    ctx.at_most(1)
    before = ctx.plain("switch", model="")
    if not ctx.words:
        if not before:
            raise errors.JujuError("no model selected")
        print(f"minijuju:admin/{before}")
        return 0
    after = ctx.plain("switch", model=ctx.words[0])
    was = f"minijuju:admin/{before}" if before else "minijuju"
    context.say(f"{was} -> minijuju:admin/{after}")
    return 0


def model_config(ctx: context.Context) -> int:
    """``model-config [KEY | KEY=VALUE...] [--reset KEYS]``."""
    values = context.settings([word for word in ctx.words if "=" in word])
    keys = [word for word in ctx.words if "=" not in word]
    if ctx.flags.given("file"):
        read = context.read_yaml(ctx.flags.text("file"))
        values = {**{key: context.scalar(value) for key, value in read.items()}, **values}
    known = ctx.call("model-config", values=values, reset=ctx.flags.csv("reset"))
    if values or ctx.flags.given("reset"):
        return 0
    if keys:
        return _one_key(ctx, known, keys[0])
    rows = [[key, one["Source"], context.scalar(one["Value"])] for key, one in known.items()]
    return ctx.emit(known, formats.table(["Attribute", "From", "Value"], rows), "tabular")


def _one_key(ctx: context.Context, known: dict[str, Any], key: str) -> int:
    if key not in known:
        raise errors.JujuError(f'key "{key}" not found in "{ctx.model}" model')
    return ctx.emit({key: known[key]}, context.scalar(known[key]["Value"]), "tabular")


def model_constraints(ctx: context.Context) -> int:
    """``model-constraints``."""
    found = ctx.call("model-constraints")
    return ctx.emit(found, " ".join(f"{key}={value}" for key, value in found.items()), "tabular")


def set_model_constraints(ctx: context.Context) -> int:
    """``set-model-constraints KEY=VALUE...``."""
    ctx.call("model-constraints", values=argv.pairs(" ".join(ctx.words).split()))
    return 0


def show_model(ctx: context.Context) -> int:
    """``show-model [MODEL]``."""
    ctx.at_most(1)
    model = ctx.words[0] if ctx.words else ctx.model
    return ctx.emit(daemon.call("view", {"model": model, "name": "show_model"}))


def models(ctx: context.Context) -> int:
    """``models``."""
    found = daemon.call("view", {"model": "*", "name": "models"})
    rows = [
        [
            one["short-name"] + ("*" if one["short-name"] == found["current-model"] else ""),
            f"{one['cloud']}/{one['region']}",
            one.get("type", "lxd"),
            one["status"]["current"],
            str(len(one["machines"])),
            "admin",
        ]
        for one in found["models"]
    ]
    header = ["Model", "Cloud/Region", "Type", "Status", "Machines", "Access"]
    table = "Controller: minijuju\n\n" + formats.table(header, rows, right=(4,))
    return ctx.emit(found, table, "tabular")


def controllers(ctx: context.Context) -> int:
    """``controllers``."""
    current = ctx.plain("switch", model="")
    version = ctx.plain("bootstrap")
    entry = {
        "current-model": f"admin/{current}" if current else "",
        "user": "admin",
        "access": "superuser",
        "uuid": "6d696e69-6a75-4a75-8000-000000000000",
        "cloud": "localhost",
        "region": "localhost",
        "agent-version": version,
    }
    data = {"controllers": {"minijuju": entry}, "current-controller": "minijuju"}
    header = ["Controller", "Model", "User", "Access", "Cloud/Region", "Version"]
    row = ["minijuju*", current or "-", "admin", "superuser", "localhost/localhost", version]
    return ctx.emit(data, formats.table(header, [row]), "tabular")


def whoami(ctx: context.Context) -> int:
    """``whoami``."""
    model = ctx.plain("switch", model="")
    data = {"controller": "minijuju", "model": model, "user": "admin"}
    rows = "\n".join(f"{key.title() + ':':12}{value}" for key, value in data.items() if value)
    return ctx.emit(data, rows, "tabular")


def version(ctx: context.Context) -> int:
    """``version [--all]``."""
    from minijuju.machines import system

    text = f"{CLIENT_VERSION}-ubuntu-{system.architecture()}"
    if not ctx.flags.on("all"):
        form = ctx.flags.text("format", "smart")
        print(json.dumps(text) if form == "json" else text)
        return 0
    data = {
        "version": text,
        "git-commit": GIT_COMMIT,
        "git-tree-state": "clean",
        "compiler": "minijuju",
        "grade": "stable",
    }
    return ctx.emit(data, formats.dump(data, "yaml"), "smart")


def ssh_key(ctx: context.Context) -> int:
    """``add-ssh-key`` and ``remove-ssh-key``; without any, Juju 4 lets nobody in."""
    ctx.at_least(1, "keys")
    adding = ctx.verb == "add-ssh-key"
    ctx.call("ssh-keys", add=ctx.words if adding else [], remove=[] if adding else ctx.words)
    return 0


def bootstrap(ctx: context.Context) -> int:
    """``bootstrap [CLOUD [CONTROLLER]] --agent-version 3.6|4.0``: the Juju of new models."""
    ctx.at_most(2)
    require_host()
    version = ctx.plain("bootstrap", version=ctx.flags.text("agent-version"))
    context.say(f"New models of this controller are Juju {version}")
    return 0


def refused(ctx: context.Context) -> int:
    """A verb of Juju that one machine has no use for."""
    raise errors.JujuError(f"{ctx.verb} is not supported by minijuju")


def up(ctx: context.Context) -> int:
    """``up``: check the host, build the image, start the controller."""
    ctx.at_most(0)
    require_host()
    ensure_image()
    ctx.plain("switch", model="")
    context.say(f"minijuju is up: {paths.home()}")
    return 0


def down(ctx: context.Context) -> int:
    """``down``: destroy every model of this home, stop the controller and remove its files."""
    ctx.at_most(0)
    home = paths.home()
    if not home.exists():
        context.say("minijuju is not up")
        return 0
    found = daemon.call("view", {"model": "*", "name": "models"})
    failures: list[str] = []
    for model in [one["short-name"] for one in found["models"]]:
        context.say(f"Destroying model {model}")
        try:
            ctx.plain("destroy-model", model=model, force=True, destroy_storage=True)
        except errors.JujuError as error:
            failures.append(f"model {model}: {error.text}")
    _stop_daemon(home)
    if failures:
        raise errors.JujuError("; ".join(failures) + f"; its files are left in {home}")
    _remove_files(home)
    context.say("minijuju is down")
    return 0


def _remove_files(home: pathlib.Path) -> None:
    """Remove what a controller keeps in its home, and the home if nothing else is in it."""
    for entry in (entry for pattern in OWN_FILES for entry in home.glob(pattern)):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    left = [entry.name for pattern in OWN_FILES for entry in home.glob(pattern)]
    if left:
        raise errors.JujuError(f"cannot remove {', '.join(left)} in {home}")
    with contextlib.suppress(OSError):
        home.rmdir()


def _stop_daemon(home: pathlib.Path) -> None:
    file = home / "pid"
    if not file.exists():
        return
    number = int(file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise errors.JujuError(f"the controller (process {number}) does not end")


def add_space(ctx: context.Context) -> int:
    """``add-space NAME CIDR...``."""
    ctx.at_least(1, "space name")
    name, *subnets = ctx.words
    ctx.call("add-space", name=name, subnets=subnets)
    context.say(f'added space "{name}" with subnets {", ".join(subnets)}')
    return 0


def subnets(ctx: context.Context) -> int:
    """``subnets``."""
    found = {
        subnet: {
            "type": "ipv6" if ":" in subnet else "ipv4",
            "status": "in-use",
            "space": space,
            "zones": [],
        }
        for subnet, space in ctx.call("subnets").items()
    }
    return ctx.emit({"subnets": found})


def spaces(ctx: context.Context) -> int:
    """``spaces``."""
    held: dict[str, list[str]] = {"alpha": []}
    for subnet, space in ctx.call("subnets").items():
        held.setdefault(space, []).append(subnet)
    rows = [
        ["" if number else name, "" if number else str(index), subnet]
        for index, (name, found) in enumerate(held.items())
        for number, subnet in enumerate(found or [""])
    ]
    shown = [
        {
            "id": str(index),
            "name": name,
            "subnets": {
                subnet: {
                    "type": "ipv6" if ":" in subnet else "ipv4",
                    "provider-id": "",
                    "status": "in-use",
                    "zones": [],
                }
                for subnet in found
            },
        }
        for index, (name, found) in enumerate(held.items())
    ]
    table = formats.table(["Name", "Space ID", "Subnets"], rows)
    return ctx.emit({"spaces": shown}, table, "tabular")


def chaos(ctx: context.Context) -> int:
    """``chaos ACTION MACHINE... [--from MACHINES] [--to MACHINES] [--leave-mib N] [--iops N]``."""
    ctx.at_least(2, "action and machine")
    action, *machines = ctx.words
    if (action == "mute") != bool(ctx.flags.csv("to")):
        raise argv.UsageError("chaos mute needs --to MACHINES, and nothing else takes it")
    if action not in (
        *("kill", "start", "pause", "resume", "cut", "mute", "heal"),
        *("fill-disk", "free-disk", "slow-disk", "reboot", "readdress"),
    ):
        raise argv.UsageError(
            f'unknown chaos "{action}": use kill, start, pause, resume, cut, mute, heal, '
            "fill-disk, free-disk, slow-disk, reboot or readdress"
        )
    for machine in machines:
        ctx.call(
            "chaos",
            action=action,
            machine=machine,
            others=ctx.flags.csv("from") or ctx.flags.csv("to"),
            leave_mib=ctx.flags.integer("leave-mib", 0),
            iops=ctx.flags.integer("iops", 0),
        )
    return 0
