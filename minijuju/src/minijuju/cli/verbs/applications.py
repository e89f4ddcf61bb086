"""Applications, units, relations, storage, resources."""

from __future__ import annotations

import os
import re
from typing import Any

from minijuju.cli import argv, context
from minijuju.cli.verbs import models
from minijuju.model import errors, formats

UNIT = re.compile(r"^[a-z][a-z0-9-]*/\d+$")


def _charm_path(charm: str) -> str:
    """The absolute path of a local charm.

    Raises:
        errors.JujuError: if it names a charm of a store, or a file that does not exist.
    """
    if not charm.startswith(("./", "../", "/")):
        if os.path.exists(charm):
            raise errors.JujuError(
                f'The charm or bundle "{charm}" is ambiguous.\n'
                f"To deploy a local charm or bundle, run `juju deploy ./{charm}`.\n"
                f"To deploy a charm or bundle from CharmHub, run `juju deploy ch:{charm}`."
            )
        raise errors.JujuError(
            f'selecting releases: charm or bundle not found for charm "{charm}": minijuju has no '
            "Charmhub, give the path of a .charm file"
        )
    if not os.path.exists(charm):
        raise errors.JujuError(f'cannot find charm file "{charm}": file does not exist')
    return os.path.abspath(charm)


def _resources(ctx: context.Context) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in argv.pairs(ctx.flags.all("resource")).items():
        if not os.path.isfile(path):
            raise errors.JujuError(
                f'file for resource "{name}": open {path}: no such file or directory'
            )
        found[name] = os.path.abspath(path)
    return found


def _config(ctx: context.Context, application: str) -> dict[str, str]:
    """Options of ``--config key=value`` and ``--config file.yaml``."""
    values: dict[str, str] = {}
    for item in ctx.flags.all("config"):
        if "=" in item:
            values.update(context.settings([item]))
            continue
        read = context.read_yaml(item)
        part = read.get(application, read)
        if not isinstance(part, dict):
            raise errors.JujuError(f'no settings found for "{application}" in {item}')
        values.update({str(key): context.scalar(value) for key, value in part.items()})
    return values


def _constraints(ctx: context.Context) -> dict[str, str]:
    return argv.pairs(" ".join(ctx.flags.all("constraints")).split())


def _report(result: dict[str, Any]) -> int:
    """Print what a removal will do, and what it refused."""
    for line in result["messages"]:
        print(line)
    context.say(*[f"ERROR {text}" for text in result.get("errors", [])])
    return int(result.get("code", 0))


def deploy(ctx: context.Context) -> int:
    """``deploy CHARM [APPLICATION]``."""
    ctx.at_least(1, "charm or bundle")
    ctx.at_most(2)
    if ctx.flags.all("overlay"):
        raise errors.JujuError("bundles are not supported by minijuju")
    charm = _charm_path(ctx.words[0])
    application = ctx.words[1] if len(ctx.words) > 1 else ""
    models.ensure_image()
    units = _count(ctx) if ctx.flags.given("num-units") else None
    result = ctx.call(
        "deploy",
        charm=charm,
        application=application,
        num_units=units,
        config=_config(ctx, application),
        resources=_resources(ctx),
        storage=argv.pairs(ctx.flags.all("storage")),
        attach_storage=ctx.flags.csv("attach-storage"),
        to=ctx.flags.csv("to"),
        base=ctx.flags.text("base"),
        constraints=_constraints(ctx),
        bind=ctx.flags.text("bind"),
        trust=ctx.flags.on("trust"),
        force=ctx.flags.on("force"),
    )
    context.say(*result.get("messages", []))
    return 0


def _count(ctx: context.Context) -> int:
    """The units asked for by `--num-units`."""
    count = ctx.flags.integer("num-units", 1)
    if count < 1:
        raise argv.UsageError("--num-units must be a positive integer")
    return count


def refresh(ctx: context.Context) -> int:
    """``refresh APPLICATION --path CHARM``."""
    application = ctx.one("application")
    path = ctx.flags.text("path")
    resources = _resources(ctx)
    config = _config(ctx, application)
    if not path and not resources and not config and not ctx.flags.on("trust"):
        raise errors.JujuError(
            f'"{application}" is a local charm: give the path of its new .charm file with --path'
        )
    result = ctx.call(
        "refresh",
        application=application,
        charm=_charm_path(path) if path else "",
        config=config,
        resources=resources,
        storage=argv.pairs(ctx.flags.all("storage")),
        trust=ctx.flags.on("trust"),
        force=ctx.flags.on("force"),
        force_units=ctx.flags.on("force-units"),
    )
    context.say(f'Added local charm "{result["charm"]}" to the model')
    return 0


def add_unit(ctx: context.Context) -> int:
    """``add-unit APPLICATION``."""
    application = ctx.one("application")
    models.ensure_image()
    ctx.call(
        "add-unit",
        application=application,
        num_units=_count(ctx),
        to=ctx.flags.csv("to"),
        attach_storage=ctx.flags.csv("attach-storage"),
    )
    return 0


def remove_unit(ctx: context.Context) -> int:
    """``remove-unit UNIT...``."""
    ctx.at_least(1, "units")
    units = ctx.flags.integer("num-units", 0)
    params: dict[str, Any] = {
        "units": ctx.words,
        "num_units": units or None,
        "force": ctx.flags.on("force"),
        "no_wait": ctx.flags.on("no-wait"),
        "destroy_storage": ctx.flags.on("destroy-storage"),
    }
    if ctx.flags.on("dry-run"):
        return _report(ctx.call("remove-unit", **params, dry_run=True))
    if not ctx.flags.on("no-prompt"):
        planned = ctx.call("remove-unit", **params, dry_run=True)
        ctx.confirm("\n".join(planned["messages"]))
    return _report(ctx.call("remove-unit", **params))


def remove_application(ctx: context.Context) -> int:
    """``remove-application APPLICATION...``."""
    ctx.at_least(1, "application")
    ctx.confirm("\n".join(f"will remove application {name}" for name in ctx.words))
    return _report(
        ctx.call(
            "remove-application",
            applications=ctx.words,
            force=ctx.flags.on("force"),
            no_wait=ctx.flags.on("no-wait"),
            destroy_storage=ctx.flags.on("destroy-storage"),
        )
    )


def integrate(ctx: context.Context) -> int:
    """``integrate APPLICATION[:ENDPOINT] APPLICATION[:ENDPOINT]``."""
    if len(ctx.words) != 2:
        raise errors.JujuError("an integration must involve two applications")
    ctx.call("integrate", first=ctx.words[0], second=ctx.words[1])
    return 0


def remove_relation(ctx: context.Context) -> int:
    """``remove-relation APPLICATION APPLICATION`` or ``remove-relation ID``."""
    if len(ctx.words) not in (1, 2):
        raise errors.JujuError("a relation must involve two applications")
    second = ctx.words[1] if len(ctx.words) > 1 else ""
    ctx.call("remove-relation", first=ctx.words[0], second=second, force=ctx.flags.on("force"))
    return 0


def config(ctx: context.Context) -> int:
    """``config APPLICATION [KEY | KEY=VALUE...] [--reset KEYS] [--file FILE]``."""
    ctx.at_least(1, "application name")
    application, *words = ctx.words
    values = context.settings([word for word in words if "=" in word])
    keys = [word for word in words if "=" not in word]
    if ctx.flags.given("file"):
        read = context.read_yaml(ctx.flags.text("file"))
        part = read.get(application, read)
        values = {**{key: context.scalar(value) for key, value in part.items()}, **values}
    reset = ctx.flags.csv("reset")
    if values or reset:
        ctx.call("config", application=application, values=values, reset=reset)
        return 0
    shown = ctx.view("config", application=application)
    if not keys:
        return ctx.emit(shown)
    known = {**shown["settings"], **shown["application-config"]}
    if keys[0] not in known:
        raise errors.JujuError(
            f'key "{keys[0]}" not found in "{application}" application config or charm settings'
        )
    value = known[keys[0]].get("value")
    return ctx.emit(value, context.scalar(value), "plain")


def trust(ctx: context.Context) -> int:
    """``trust APPLICATION [--remove]``."""
    ctx.call("trust", application=ctx.one("application name"), remove=ctx.flags.on("remove"))
    return 0


def expose(ctx: context.Context) -> int:
    """``expose APPLICATION`` and ``unexpose APPLICATION``."""
    ctx.call("expose", application=ctx.one("application name"), exposed=ctx.verb == "expose")
    return 0


def resolved(ctx: context.Context) -> int:
    """``resolved [UNIT...] [--no-retry] [--all]``."""
    everything = ctx.flags.on("all")
    if not everything:
        ctx.at_least(1, "unit")
    for name in ctx.words:
        if not UNIT.match(name):
            raise argv.UsageError(f'unit name "{name}" not valid')
    ctx.call("resolved", units=ctx.words, no_retry=ctx.flags.on("no-retry"), everything=everything)
    return 0


def attach_resource(ctx: context.Context) -> int:
    """``attach-resource APPLICATION NAME=FILE``."""
    if len(ctx.words) != 2:
        raise argv.UsageError("expected an application and NAME=FILE")
    ((name, path),) = argv.pairs(ctx.words[1:]).items()
    if not os.path.isfile(path):
        raise errors.JujuError(f"open {path}: no such file or directory")
    ctx.call("attach-resource", application=ctx.words[0], name=name, path=os.path.abspath(path))
    return 0


def resources(ctx: context.Context) -> int:
    """``resources APPLICATION``."""
    found = ctx.view("resources", application=ctx.one("application name"))
    rows = [[row["name"], "admin", row["revision"]] for row in found["resources"]]
    if not rows:
        return ctx.emit(found, "No resources to display.", "tabular")
    return ctx.emit(found, formats.table(["Resource", "Supplied by", "Revision"], rows), "tabular")


def add_storage(ctx: context.Context) -> int:
    """``add-storage UNIT NAME[=DIRECTIVE]...``."""
    ctx.at_least(2, "unit and storage")
    unit, *words = ctx.words
    directives = argv.pairs([word if "=" in word else f"{word}=1" for word in words])
    for name in ctx.call("add-storage", unit=unit, storage=directives):
        context.say(f"added storage {name} to {unit}")
    return 0


def attach_storage(ctx: context.Context) -> int:
    """``attach-storage UNIT STORAGE...``."""
    ctx.at_least(2, "unit and storage")
    unit, *storage = ctx.words
    ctx.call("attach-storage", unit=unit, storage=storage)
    for name in storage:
        context.say(f"attaching {name} to {unit}")
    return 0


def detach_storage(ctx: context.Context) -> int:
    """``detach-storage STORAGE...``."""
    ctx.at_least(1, "storage")
    ctx.call("detach-storage", storage=ctx.words, force=ctx.flags.on("force"))
    for name in ctx.words:
        context.say(f"detaching {name}")
    return 0


def remove_storage(ctx: context.Context) -> int:
    """``remove-storage STORAGE...``."""
    ctx.at_least(1, "storage")
    destroy = not ctx.flags.on("no-destroy")
    ctx.call("remove-storage", storage=ctx.words, force=ctx.flags.on("force"), destroy=destroy)
    for name in ctx.words:
        context.say(f"{'removing' if destroy else 'detaching'} {name}")
    return 0


def storage(ctx: context.Context) -> int:
    """``storage``."""
    found = ctx.view("storage")
    if not found:
        context.say("No storage to display.")
        return ctx.emit({}, "", "tabular")
    return ctx.emit(found, formats.storage_table(found), "tabular")


def add_machine(ctx: context.Context) -> int:
    """``add-machine [-n N]``."""
    ctx.at_most(1)
    if ctx.words:
        raise errors.JujuError(f'placement "{ctx.words[0]}" is not supported by minijuju')
    models.ensure_image()
    made = ctx.call(
        "add-machine",
        count=ctx.flags.integer("n", 1),
        base=ctx.flags.text("base"),
        constraints=_constraints(ctx),
    )
    context.say(*[f"created machine {name}" for name in made])
    return 0


def remove_machine(ctx: context.Context) -> int:
    """``remove-machine MACHINE...``."""
    ctx.at_least(1, "machines")
    ctx.confirm("\n".join(f"will remove machine {name}" for name in ctx.words))
    return _report(
        ctx.call(
            "remove-machine",
            machines=ctx.words,
            force=ctx.flags.on("force"),
            keep=ctx.flags.on("keep-instance"),
        )
    )


def constraints(ctx: context.Context) -> int:
    """``constraints APPLICATION``: told, but of no effect on these machines."""
    ctx.at_least(1, "application name")
    if ctx.verb == "set-constraints":
        raise errors.JujuError("set-constraints is not supported by minijuju")
    shown = ctx.view("show_application", applications=ctx.words[:1])
    found = shown[ctx.words[0]]["constraints"]
    return ctx.emit(found, " ".join(f"{key}={value}" for key, value in found.items()), "tabular")
