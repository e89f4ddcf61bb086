"""Deploying and refreshing: charms, applications, units, and the machines they need.

All functions change a `store.ModelState` inside a transaction of the caller.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
import shutil
import uuid
from typing import TYPE_CHECKING, Any

from minijuju.model import charm, errors, records, relations, spaces, storage

if TYPE_CHECKING:
    from minijuju.model import store

DEFAULT_BASE = "ubuntu@24.04"


def upload_charm(state: store.ModelState, home: pathlib.Path, path: str) -> records.Charm:
    """Store a charm as the next local revision of its name (its own transaction)."""
    source = pathlib.Path(path)
    if not source.exists():
        raise errors.JujuError(f'charm or bundle not found: no charm at "{path}"')
    folder = home / "models" / state.uuid / "charms"
    part = folder / f"part-{uuid.uuid4().hex}"
    try:
        meta = charm.upload(source, part)
        with state.store.transaction():
            revision = state.model.next(f"charm:{meta.name}")
            url = f"local:{meta.name}-{revision}"
            directory = folder / f"{meta.name}-{revision}"
            shutil.rmtree(directory, ignore_errors=True)
            part.rename(directory)
            digest = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
            return state.charms.add(
                url, records.Charm(url, meta.name, revision, str(directory), digest)
            )
    finally:
        shutil.rmtree(part, ignore_errors=True)


def set_config(
    state: store.ModelState,
    application: records.Application,
    values: dict[str, str],
    reset: list[str],
) -> None:
    """Set options as typed, and put others back to their defaults."""
    meta = relations.meta(state, application.name)
    for name in [*values, *reset]:
        if name != "trust" and name not in meta.options:
            raise errors.JujuError(f'unknown option "{name}"')
    for name in reset:
        application.config.pop(name, None)
    for name, text in values.items():
        if name == "trust":
            application.trust = text.lower() in ("1", "t", "true")
        else:
            application.config[name] = meta.options[name].parse(text)


def choose_base(meta: charm.Meta, wanted: str, *, force: bool) -> str:
    """The base that `juju status` shows; machines are all of one image."""
    if wanted and wanted not in meta.bases and meta.bases and not force:
        raise errors.JujuError(
            f'base "{wanted}/stable" is not supported, supported bases are: '
            f"{', '.join(meta.bases)}"
        )
    return wanted or (meta.bases[0] if meta.bases else DEFAULT_BASE)


def deploy(
    state: store.ModelState,
    home: pathlib.Path,
    uploaded: records.Charm,
    application: str,
    num_units: int | None,
    placement: list[str],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Record a new application with its units."""
    meta = charm.load(pathlib.Path(uploaded.directory))
    name = application or meta.name
    check_name(state, name)
    if not options.get("force"):
        version = [int(part) for part in state.behaviour.version.split(".")]
        charm.check_assumes(meta.raw, tuple(version))
    storage.check(meta, options.get("storage") or {})
    given = storage.detached(state, options.get("attach_storage") or [])
    if meta.subordinate and num_units not in (None, 0):
        raise errors.JujuError("cannot use --num-units with subordinate application")
    if meta.subordinate and placement:
        raise errors.JujuError("cannot use --to with subordinate application")
    record = records.Application(
        name,
        uploaded.url,
        subordinate=meta.subordinate,
        trust=bool(options.get("trust")),
        base=choose_base(meta, options.get("base") or "", force=bool(options.get("force"))),
        constraints=options.get("constraints") or {},
        storage=dict(options.get("storage") or {}),
    )
    record.bindings = bindings(state, meta, options.get("bind") or "")
    state.applications.add(name, record)
    set_config(state, record, options.get("config") or {}, [])
    for resource, path in (options.get("resources") or {}).items():
        add_resource(state, home, record, resource, path)
    relations.add_peers(state, name)
    count = 0 if meta.subordinate else 1 if num_units is None else num_units
    units = add_units(state, home, record, count, placement, given)
    return {"application": name, "charm": uploaded.url, "units": units, "messages": []}


def check_name(state: store.ModelState, name: str) -> None:
    """Refuse an application name that is invalid or taken."""
    if not charm.NAME.fullmatch(name):
        raise errors.JujuError(f'invalid application name "{name}"')
    if name in state.applications:
        raise errors.JujuError(
            f'cannot add application "{name}": application "{name}" already exists'
        )


def bindings(state: store.ModelState, meta: charm.Meta, bind: str) -> dict[str, str]:
    """Endpoint to its space, as `--bind "SPACE ENDPOINT=SPACE..."` says; "" is the default."""
    endpoints = ("", *meta.endpoints, *meta.extra_bindings)
    chosen: dict[str, str] = {}
    for word in bind.split():
        endpoint, _, space = word.rpartition("=")
        if space not in spaces.names(state.model):
            raise errors.JujuError(f'space "{space}" not found')
        if endpoint not in endpoints:
            raise errors.JujuError(f'endpoint "{endpoint}" not found')
        chosen[endpoint] = space
    default = chosen.get("", spaces.ALPHA)
    return {endpoint: chosen.get(endpoint, default) for endpoint in endpoints}


def add_units(
    state: store.ModelState,
    home: pathlib.Path,
    application: records.Application,
    count: int,
    placement: list[str],
    given: list[records.StorageInstance],
) -> list[str]:
    """New units, each on a machine of its own unless `placement` names machines."""
    if application.subordinate and count:
        raise errors.JujuError(
            f'application "{application.name}" is a subordinate: cannot add unit to it'
        )
    if application.life != records.ALIVE:
        raise errors.JujuError(f'application "{application.name}" is not alive')
    if given and count != 1:
        raise errors.JujuError("--attach-storage cannot be used with more than one unit", 2)
    names: list[str] = []
    for index in range(count):
        where = placement[index] if index < len(placement) else ""
        record = _placed(state, where) if where else new_machine(state, application.base)
        number = state.model.next(f"unit:{application.name}")
        unit = records.Unit(f"{application.name}/{number}", application.name, number, record.id)
        state.units.add(unit.name, unit)
        storage.create_all(state, unit, home, given)
        names.append(unit.name)
    return names


def _placed(state: store.ModelState, where: str) -> records.MachineRecord:
    record = state.machines.get(where)
    if record is None and re.fullmatch(r"[a-z]+:.*|[a-z].*", where):
        raise errors.JujuError(f'placement "{where}" is not supported here: name a machine')
    if record is None or record.life != records.ALIVE:
        raise errors.JujuError(f"machine {where} not found")
    return record


def new_machine(
    state: store.ModelState, base: str, *, keep: bool = False
) -> records.MachineRecord:
    """A new machine, to be made in the background."""
    number = state.model.next("machine")
    name = f"juju-{state.uuid.split('-')[-1][-6:]}-{number}"
    return state.machines.add(
        str(number), records.MachineRecord(str(number), name, name, base=base, keep=keep)
    )


def add_resource(
    state: store.ModelState,
    home: pathlib.Path,
    application: records.Application,
    name: str,
    path: str,
) -> None:
    """Store a file as a resource's next revision; its units run `upgrade-charm`."""
    declared = relations.meta(state, application.name).resources.get(name)
    if declared is None:
        raise errors.JujuError(f'unrecognized resource "{name}"')
    source = pathlib.Path(path)
    if not source.is_file():
        raise errors.JujuError(f'resource "{name}": open {path}: no such file or directory')
    expected = _extension(declared["filename"])
    if declared.get("type", "file") == "file" and _extension(source.name) != expected:
        raise errors.JujuError(
            f'incorrect extension on resource upload "{source.name}", expected "{expected}"'
        )
    key = f"{application.name}/{name}"
    revision = state.model.next(f"resource:{key}") + 1
    folder = home / "models" / state.uuid / "resources"
    folder.mkdir(parents=True, exist_ok=True)
    stored = folder / f"{application.name}-{name}-{revision}"
    shutil.copyfile(source, stored)
    with stored.open("rb") as file:
        digest = hashlib.file_digest(file, "sha384").hexdigest()
    old = state.resources.get(key)
    size = stored.stat().st_size
    state.resources.add(
        key, records.Resource(application.name, name, revision, str(stored), digest, size)
    )
    if old:
        pathlib.Path(old.path).unlink(missing_ok=True)
    if state.units_of(application.name):
        application.charm_modified_version += 1


def _extension(name: str) -> str:
    """From the last dot on, as Go has it: `.gz`, and for `.profile` all of it."""
    return name[name.rindex(".") :] if "." in name else ""


def refresh(
    state: store.ModelState,
    home: pathlib.Path,
    application: records.Application,
    uploaded: records.Charm | None,
    options: dict[str, Any],
) -> None:
    """Switch an application to an uploaded revision, with new settings."""
    if uploaded is not None:
        _check_refresh(state, application, charm.load(pathlib.Path(uploaded.directory)))
        application.charm_url = uploaded.url
        application.charm_modified_version += 1
        application.force_units = bool(options.get("force_units"))
        known = relations.meta(state, application.name).options
        application.config = {k: v for k, v in application.config.items() if k in known}
        relations.add_peers(state, application.name)
    storage.check(relations.meta(state, application.name), options.get("storage") or {})
    application.storage.update(options.get("storage") or {})
    if options.get("trust"):
        application.trust = True
    set_config(state, application, options.get("config") or {}, [])
    for resource, path in (options.get("resources") or {}).items():
        add_resource(state, home, application, resource, path)


def _check_refresh(
    state: store.ModelState, application: records.Application, meta: charm.Meta
) -> None:
    old = relations.meta(state, application.name)
    if old.name != meta.name:
        raise errors.JujuError(
            f'cannot refresh "{application.name}": charm name "{meta.name}" does not match '
            f'"{old.name}"'
        )
    bound = {*meta.endpoints, *meta.extra_bindings}
    if bound - {*old.endpoints, *old.extra_bindings} and not state.behaviour.new_endpoints:
        raise errors.JujuError(
            f'setting application "{application.name}" charm: one or more of the provided '
            f'endpoints "{", ".join(sorted({*bound, "juju-info"}))}" do not exist'
        )
    if old.subordinate != meta.subordinate:
        raise errors.JujuError("cannot change an application's subordinacy")
    for relation in state.relations_of(application.name):
        end = relation.end(application.name)
        declared = meta.endpoint(end.name)
        unfit = declared is None or (declared.role, declared.interface) != (
            end.role,
            end.interface,
        )
        if unfit and not (relation.peer and not state.units_of(application.name)):
            raise errors.JujuError(
                f'cannot upgrade application "{application.name}" to charm: would break '
                f'relation "{relation.key}"'
            )
    for instance in state.storage:
        mine = instance.owner.rsplit("/", 1)[0] == application.name
        if mine and instance.name not in meta.storage:
            raise errors.JujuError(
                f'cannot upgrade application "{application.name}": in-use storage '
                f'"{instance.name}" removed'
            )
