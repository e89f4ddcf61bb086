"""What the command line shows, made from the stored records.

Each public function is a view: it takes the `store.ModelState` (None for views of all models) and
the controller, and answers with JSON-ready data in the shapes that ``juju`` prints. Views change
nothing.
"""

from __future__ import annotations

import functools
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

import yaml

from minijuju.machines import network, system
from minijuju.model import errors, formats, records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minijuju.model import store

CONTROLLER = "minijuju"
CLOUD = "localhost"
REGION = "localhost"
CONTROLLER_UUID = "6d696e69-6a75-4a75-8000-000000000000"

_WORST_FIRST = ("error", "blocked", "maintenance", "waiting", "active", "terminated", "unknown")


def moment(at: float) -> str:
    """A time as ``juju status`` writes it: ``02 Jan 2006 15:04:05Z``, in the local zone."""
    local = time.localtime(at)
    offset = time.strftime("%z", local)
    zone = "Z" if offset in ("+0000", "") else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%d %b %Y %H:%M:%S", local) + zone


def iso(at: float) -> str:
    """A time as Juju writes it in JSON elsewhere: ``2006-01-02T15:04:05Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def stamp(at: float) -> str:
    """A time as actions carry it: ``2006-01-02 15:04:05 +0000 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(at))


@functools.lru_cache(maxsize=256)
def _document(path: str) -> dict[str, Any]:
    file = pathlib.Path(path)
    return (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


def charm_document(state: store.ModelState, url: str, name: str) -> dict[str, Any]:
    """One of a charm's YAML files such as ``metadata.yaml``, or {}."""
    return _document(f"{state.charms[url].directory}/{name}")


def _application(state: store.ModelState, name: str) -> records.Application:
    application = state.applications.get(name)
    if application is None:
        raise errors.JujuError(f'application "{name}" not found')
    return application


def _base(text: str) -> dict[str, str]:
    name, _, channel = text.partition("@")
    return {"name": name, "channel": channel.partition("/")[0]}


def _shown(status: records.Status, **extra: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"current": status.current}
    if status.message:
        shown["message"] = status.message
    shown["since"] = moment(status.since)
    shown.update({key: value for key, value in extra.items() if value})
    return shown


def status(state: store.ModelState, controller: Any = None) -> dict[str, Any]:
    """All of ``juju status --format json``."""
    shown: dict[str, Any] = {
        "model": {
            "name": state.name,
            "type": "iaas",
            "controller": CONTROLLER,
            "cloud": CLOUD,
            "region": REGION,
            "version": state.behaviour.version,
            "model-status": {
                "current": "available" if state.model.life == records.ALIVE else "destroying",
                "since": moment(state.model.created),
            },
            "sla": "unsupported",
        },
        "machines": machines(state),
        "applications": {
            application.name: _application_status(state, application)
            for application in state.applications
        },
    }
    for field in state.behaviour.status_lacks:
        shown["model"].pop(field, None)
    if len(state.storage):
        shown["storage"] = storage(state)
    shown["controller"] = {"timestamp": moment(time.time())[12:]}
    return shown


def machines(state: store.ModelState, controller: Any = None) -> dict[str, Any]:
    """The ``machines`` of the status."""
    return {machine.id: _machine_status(state, machine) for machine in state.machines}


def _machine_status(state: store.ModelState, machine: records.MachineRecord) -> dict[str, Any]:
    lacks = state.behaviour.status_lacks
    version = "" if "agent-version-of-machines" in lacks else state.behaviour.version
    addresses = [machine.address] if machine.address else []
    shown: dict[str, Any] = {
        "juju-status": _shown(machine.agent, version=version, life=_life(machine.life)),
        "hostname": machine.hostname,
        "dns-name": machine.address,
        "ip-addresses": addresses,
        "instance-id": machine.instance_id,
        "display-name": machine.instance_id,
        "machine-status": _shown(machine.status),
        "modification-status": {"current": "idle", "since": moment(machine.created)},
        "base": _base(machine.base),
        "network-interfaces": {
            network.INTERFACE: {
                "ip-addresses": addresses,
                "mac-address": machine.mac,
                "gateway": machine.gateway,
                "is-up": machine.agent.current == "started",
                "space": "alpha",
            }
        },
        "constraints": " ".join(
            f"{key}={value}"
            for key, value in {"arch": system.architecture(), **machine.constraints}.items()
        ),
        "hardware": f"arch={system.architecture()} cores={os.cpu_count() or 1} "
        "virt-type=container",
    }
    if not addresses:
        del shown["network-interfaces"]
    if state.behaviour.status_life:
        shown["life"] = machine.life
    return {
        key: value for key, value in shown.items() if value not in ("", []) and key not in lacks
    }


def _life(life: str) -> str:
    return "" if life == records.ALIVE else life


def _application_status(
    state: store.ModelState, application: records.Application
) -> dict[str, Any]:
    charm = state.charms[application.charm_url]
    metadata = charm_document(state, charm.url, "metadata.yaml")
    units = state.units_of(application.name)
    version = next(
        (unit.workload_version for unit in reversed(units) if unit.workload_version), ""
    )
    shown: dict[str, Any] = {
        "charm": charm.url,
        "base": _base(application.base),
        "charm-origin": "local",
        "charm-name": charm.name,
        "charm-rev": charm.revision,
        "charm-version": _charm_version(charm.directory),
        "exposed": application.exposed,
        "life": application.life if state.behaviour.status_life else _life(application.life),
        "application-status": _shown(application_state(state, application)),
        "relations": _relations(state, application.name),
        "subordinate-to": _principals(state, application),
        "units": {}
        if application.subordinate
        else {unit.name: _unit_status(state, unit) for unit in units},
        "version": version,
        "endpoint-bindings": _bindings(state, application, metadata),
    }
    return {key: value for key, value in shown.items() if value not in ("", [], {})}


@functools.lru_cache(maxsize=256)
def _charm_version(directory: str) -> str:
    file = pathlib.Path(directory) / "version"
    return file.read_text().strip() if file.exists() else ""


def _bindings(
    state: store.ModelState, application: records.Application, metadata: dict[str, Any]
) -> dict[str, str]:
    implicit = ["juju-info"] if state.behaviour.binds_juju_info else []
    names = implicit + [
        name
        for section in ("provides", "requires", "peers", "extra-bindings")
        for name in metadata.get(section) or {}
    ]
    return {name: application.bindings.get(name, "alpha") for name in ("", *sorted(names))}


def _relations(state: store.ModelState, application: str) -> dict[str, list[dict[str, str]]]:
    shown: dict[str, list[dict[str, str]]] = {}
    for relation in state.relations_of(application):
        end = relation.end(application)
        shown.setdefault(end.name, []).append(
            {
                "related-application": relation.other(application).application,
                "interface": end.interface,
                "scope": relation.scope,
            }
        )
    return dict(sorted(shown.items()))


def _principals(state: store.ModelState, application: records.Application) -> list[str]:
    if not application.subordinate:
        return []
    return sorted(
        {
            relation.other(application.name).application
            for relation in state.relations_of(application.name)
            if relation.scope == "container" and not relation.peer
        }
    )


def application_state(state: store.ModelState, application: records.Application) -> records.Status:
    """The application's status: what its leader set, or else the worst of its units."""
    if application.status is not None:
        return application.status
    found = [workload_state(state, unit) for unit in state.units_of(application.name)]
    if not found:
        return records.Status("unknown", "", application.created)
    return min(found, key=lambda one: _rank(one.current))


def _rank(current: str) -> int:
    return _WORST_FIRST.index(current) if current in _WORST_FIRST else len(_WORST_FIRST)


def _lost(state: store.ModelState, unit: records.Unit) -> bool:
    machine = state.machines.get(unit.machine)
    down = machine is not None and machine.agent.current == "down"
    young = unit.agent.current == "allocating" or not unit.state.installed
    return unit.agent.current == "lost" or (down and not young)


def workload_state(state: store.ModelState, unit: records.Unit) -> records.Status:
    """A unit's workload status as people see it: errors of its agent, and its loss, come first."""
    if unit.agent.current == "error":
        return records.Status("error", _failure(state, unit), unit.agent.since)
    if _lost(state, unit) and unit.workload.current not in ("error", "terminated"):
        message = f"agent lost, see 'juju show-status-log {unit.name}'"
        return records.Status("unknown", message, unit.agent.since)
    return unit.workload


def _failure(state: store.ModelState, unit: records.Unit) -> str:
    hook = unit.state.hook
    message = unit.agent.message or (f'hook failed: "{hook.name}"' if hook else "")
    relation = state.relations.get(hook.relation) if hook and hook.relation is not None else None
    if relation is None or " for " in message:
        return message
    other = relation.other(unit.application)
    return f"{message} for {other.application}:{other.name}"


def _agent_state(state: store.ModelState, unit: records.Unit) -> records.Status:
    if _lost(state, unit):
        text = "agent is not communicating with the server"
        return records.Status("lost", text, unit.agent.since)
    if unit.agent.current == "error":
        return records.Status("idle", "", unit.agent.since)
    return unit.agent


def _unit_status(state: store.ModelState, unit: records.Unit) -> dict[str, Any]:
    application = state.applications[unit.application]
    machine = state.machines.get(unit.machine)
    shown: dict[str, Any] = {
        "workload-status": _shown(workload_state(state, unit)),
        "juju-status": _shown(_agent_state(state, unit), version=state.behaviour.version),
        "life": unit.life if state.behaviour.status_life else _life(unit.life),
        "leader": application.lease.holder == unit.name,
        "upgrading-from": unit.charm_url
        if unit.charm_url and unit.charm_url != application.charm_url
        else "",
        "machine": "" if unit.principal else unit.machine,
        "open-ports": open_ports(unit),
        "public-address": machine.address if machine else "",
        "subordinates": {
            nested.name: _unit_status(state, nested) for nested in state.subordinates_of(unit.name)
        },
    }
    return {key: value for key, value in shown.items() if value not in ("", [], {}, False)}


def open_ports(unit: records.Unit) -> list[str]:
    """Opened ranges such as ``icmp``, ``80/tcp`` or ``80-90/udp``: each once, by protocol."""
    ranges = {(port["protocol"], port["from"], port["to"]): _port(port) for port in unit.ports}
    return [ranges[key] for key in sorted(ranges)]


def _port(port: dict[str, Any]) -> str:
    if port["protocol"] == "icmp":
        return "icmp"
    first, last = port["from"], port["to"]
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{numbers}/{port['protocol']}"


def storage(state: store.ModelState, controller: Any = None) -> dict[str, Any]:
    """The ``storage`` of the status; {} when the model has none."""
    if not len(state.storage):
        return {}
    instances: dict[str, Any] = {}
    filesystems: dict[str, Any] = {}
    for instance in sorted(state.storage, key=lambda one: one.id):
        attached = {
            "machine": instance.machine,
            "location": instance.location,
            "life": "dying" if instance.attachment == "detaching" else records.ALIVE,
        }
        units = {instance.owner: attached} if instance.owner else {}
        current = {"": "detached", "attaching": "pending"}.get(
            instance.attachment, instance.attachment
        )
        instances[instance.id] = {
            "kind": instance.kind,
            "life": _life(instance.life) or records.ALIVE,
            "status": {"current": current, "since": moment(instance.since)},
            "persistent": instance.detachable and state.behaviour.persistent,
        }
        filesystem: dict[str, Any] = {
            "provider-id": instance.id,
            "storage": instance.id,
            "pool": instance.pool,
            "size": instance.size,
            "life": _life(instance.life) or records.ALIVE,
            "status": {"current": current, "since": moment(instance.since)},
        }
        if units:
            instances[instance.id]["attachments"] = {"units": units}
            mounted = {
                "mount-point": instance.location,
                "read-only": False,
                "life": attached["life"],
            }
            filesystem["attachments"] = {"machines": {instance.machine: mounted}, "units": units}
        bound = not instance.detachable and instance.machine
        key = f"{instance.machine}/{instance.number}" if bound else str(instance.number)
        filesystems[key] = filesystem
    return {"storage": instances, "filesystems": filesystems}


def show_unit(
    state: store.ModelState, controller: Any = None, *, units: list[str], app: bool = False
) -> dict[str, Any]:
    """``juju show-unit``: each unit with what it sees in its relations."""
    shown: dict[str, Any] = {}
    for name in units:
        unit = state.units.get(name)
        if unit is None:
            raise errors.JujuError(f'unit "{name}" not found')
        shown[name] = _one_unit(state, unit, app)
    return shown


def _one_unit(state: store.ModelState, unit: records.Unit, app: bool) -> dict[str, Any]:
    machine = state.machines.get(unit.machine)
    application = state.applications[unit.application]
    shown: dict[str, Any] = {
        "workload-version": unit.workload_version,
        "machine": unit.machine,
        "opened-ports": open_ports(unit),
        "public-address": machine.address if machine else "",
        "charm": unit.charm_url or application.charm_url,
        "leader": application.lease.holder == unit.name,
        "life": unit.life,
        "relation-info": [
            _relation_info(state, unit, relation, app)
            for relation in state.relations_of(unit.application)
        ],
    }
    return {
        key: value
        for key, value in shown.items()
        if value not in ("", []) or key in ("opened-ports", "leader")
    }


def _relation_info(
    state: store.ModelState, unit: records.Unit, relation: records.Relation, app: bool
) -> dict[str, Any]:
    own, other = relation.end(unit.application), relation.other(unit.application)
    bag = relation.apps.get(other.application)
    shown: dict[str, Any] = {
        "relation-id": relation.id,
        "endpoint": own.name,
        "related-endpoint": other.name,
        "application-data": dict(bag.data) if bag else {},
    }
    if app:
        return shown
    mine = relation.units.get(unit.name)
    shown["local-unit"] = {
        "in-scope": bool(mine and mine.in_scope),
        "data": dict(mine.data) if mine else {},
    }
    related = {
        name: {"in-scope": data.in_scope, "data": dict(data.data)}
        for name, data in sorted(relation.units.items())
        if name != unit.name
        and name.rpartition("/")[0] == other.application
        and data.in_scope
        and (relation.scope != "container" or _together(state, unit.name, name))
    }
    if related:
        shown["related-units"] = related
    return shown


def _together(state: store.ModelState, first: str, second: str) -> bool:
    one, two = state.units.get(first), state.units.get(second)
    if one is None or two is None:
        return False
    return one.principal == two.name or two.principal == one.name


def config(state: store.ModelState, controller: Any = None, *, application: str) -> dict[str, Any]:
    """``juju config APP``: every option with its type, source, default and value."""
    record = _application(state, application)
    options = charm_document(state, record.charm_url, "config.yaml").get("options") or {}
    settings: dict[str, Any] = {}
    for name, option in sorted(options.items()):
        default = option.get("default")
        entry: dict[str, Any] = {"type": _type(option.get("type", "string"))}
        if option.get("description"):
            entry["description"] = option["description"]
        if default is not None:
            entry["default"] = default
        if name in record.config:
            entry["source"], entry["value"] = "user", record.config[name]
        elif default is not None:
            entry["source"], entry["value"] = "default", default
        else:
            entry["source"] = "unset"
        settings[name] = entry
    trust = {
        "description": "Does this application have access to trusted credentials",
        "default": False,
        "source": "user" if record.trust else "default",
        "type": "bool",
        "value": record.trust,
    }
    return {
        "application": application,
        "application-config": {"trust": trust},
        "charm": state.charms[record.charm_url].name,
        "settings": settings,
    }


def _type(name: str) -> str:
    return {"integer": "int", "bool": "boolean"}.get(name, name)


def show_model(state: store.ModelState, controller: Any = None) -> dict[str, Any]:
    """``juju show-model``."""
    model = state.model
    facts = {
        **_model(state),
        "type": "lxd",
        "status": {
            "current": "available" if model.life == records.ALIVE else "destroying",
            "since": moment(model.created),
        },
        "users": {
            "admin": {"display-name": "admin", "access": "admin", "last-connection": "just now"}
        },
        "credential": {"name": "localhost", "owner": "admin", "cloud": CLOUD},
    }
    return {model.name: facts}


def models(state: Any, controller: Any) -> dict[str, Any]:
    """``juju models``; *state* is not used."""
    store_ = controller.store
    rows = [_model(one) for one in store_.states.values() if one.uuid in store_.models]
    return {"models": rows, "current-model": store_.setting("current-model")}


def _model(state: store.ModelState) -> dict[str, Any]:
    """What both lists say of a model."""
    model = state.model
    return {
        "name": f"admin/{model.name}",
        "short-name": model.name,
        "model-uuid": model.uuid,
        "model-type": "iaas",
        "controller-uuid": CONTROLLER_UUID,
        "controller-name": CONTROLLER,
        "is-controller": False,
        "owner": "admin",
        "cloud": CLOUD,
        "region": REGION,
        "life": model.life,
        "status": {"current": "available", "since": moment(model.created)},
        "machines": {machine.id: {"cores": os.cpu_count() or 1} for machine in state.machines},
        "agent-version": state.behaviour.version,
    }


def secrets(state: store.ModelState, controller: Any = None, *, owner: str = "") -> dict[str, Any]:
    """``juju secrets``: each secret by its bare id."""
    wanted = owner.removeprefix("application-").removeprefix("unit-")
    return {
        secret.id: _secret(state, secret)
        for secret in state.secrets
        if not owner or _owner(state, secret) in (owner, wanted, wanted.replace("-", "/"))
    }


def _owner(state: store.ModelState, secret: records.Secret) -> str:
    return secret.owner or "<model>"


def _secret(state: store.ModelState, secret: records.Secret) -> dict[str, Any]:
    latest = secret.revisions.get(secret.latest)
    shown: dict[str, Any] = {"revision": secret.latest}
    if latest is not None and latest.expires:
        shown["expires"] = iso(latest.expires)
    if secret.rotate not in ("", "never"):
        shown["rotation"] = secret.rotate
    if secret.next_rotate:
        shown["rotates"] = iso(secret.next_rotate)
    shown["owner"] = _owner(state, secret)
    if secret.description:
        shown["description"] = secret.description
    if secret.label:
        shown["label" if secret.owner else "name"] = secret.label
    shown["created"] = iso(secret.created)
    shown["updated"] = iso(secret.updated)
    return shown


def find_secret(state: store.ModelState, name: str) -> records.Secret:
    """A secret by its URI, bare id, or (a user secret) name."""
    bare = name.rpartition("/")[2] if name.startswith("secret:") else name
    bare = bare.removeprefix("secret:")
    found = state.secrets.get(bare) or next(
        (one for one in state.secrets if not one.owner and one.label == name), None
    )
    if found is None:
        raise errors.JujuError(f'secret "{name.removeprefix("secret:")}" not found')
    return found


def show_secret(
    state: store.ModelState,
    controller: Any = None,
    *,
    secret: str,
    reveal: bool = False,
    revisions: bool = False,
    revision: int | None = None,
) -> dict[str, Any]:
    """``juju show-secret``: one secret, with its content if asked."""
    found = find_secret(state, secret)
    shown = _secret(state, found)
    chosen = found.revisions.get(revision or found.latest)
    if chosen is None:
        raise errors.JujuError(f"secret {found.id} revision {revision} not found")
    if revision:
        shown["revision"] = revision
    if reveal:
        shown["checksum"] = chosen.checksum
        shown["content"] = {"Data": dict(chosen.data)}
    if revisions:
        shown["revisions"] = [_revision(one) for _, one in sorted(found.revisions.items())]
    access = _access(state, found.grants)
    if access:
        shown["access"] = access
    return {found.id: shown}


def _revision(one: records.Revision) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "revision": one.number,
        "backend": "internal",
        "created": iso(one.created),
        "updated": iso(one.created),
    }
    if one.expires:
        shown["expires"] = iso(one.expires)
    return shown


def _access(state: store.ModelState, grants: Iterable[records.Grant]) -> list[dict[str, str]]:
    shown: list[dict[str, str]] = []
    for grant in grants:
        relation = state.relations.get(grant.relation) if grant.relation is not None else None
        kind = "unit" if "/" in grant.target else "application"
        shown.append(
            {
                "target": f"{kind}-{grant.target.replace('/', '-')}",
                "scope": _relation_tag(relation) if relation else f"model-{state.uuid}",
                "role": "view",
            }
        )
    return shown


def _relation_tag(relation: records.Relation) -> str:
    return "relation-" + relation.key.replace(":", ".").replace(" ", "#")


def show_application(
    state: store.ModelState, controller: Any = None, *, applications: list[str]
) -> dict[str, Any]:
    """``juju show-application``."""
    shown: dict[str, Any] = {}
    for name in applications:
        record = _application(state, name)
        charm = state.charms[record.charm_url]
        metadata = charm_document(state, charm.url, "metadata.yaml")
        shown[name] = {
            "charm": charm.name,
            "base": record.base,
            "constraints": {"arch": system.architecture(), **record.constraints},
            "principal": not record.subordinate,
            "exposed": record.exposed,
            "remote": False,
            "life": record.life,
            "endpoint-bindings": _bindings(state, record, metadata),
            "units": {
                unit.name: _one_unit(state, unit, app=True) for unit in state.units_of(name)
            },
        }
    return shown


def actions(
    state: store.ModelState, controller: Any = None, *, application: str
) -> dict[str, Any]:
    """``juju actions``: the actions of an application's charm by name, with their schemas."""
    record = _application(state, application)
    return {
        name: {
            "description": action.get("description") or "No description",
            "params": {
                key: action[key]
                for key in ("params", "required", "additionalProperties")
                if key in action
            },
        }
        for name, action in charm_document(state, record.charm_url, "actions.yaml").items()
        if isinstance(action, dict)
    }


def resources(
    state: store.ModelState, controller: Any = None, *, application: str
) -> dict[str, Any]:
    """``juju resources``: what the charm declares and what was uploaded."""
    record = _application(state, application)
    declared = charm_document(state, record.charm_url, "metadata.yaml").get("resources") or {}
    uploaded = {one.name: one for one in state.resources if one.application == application}
    rows: list[dict[str, Any]] = []
    for name, resource in sorted(declared.items()):
        row: dict[str, Any] = {
            "resourceid": f"{application}/{name}",
            "name": name,
            "type": resource.get("type", "file"),
            "path": resource.get("filename", ""),
            "description": resource.get("description", ""),
            "revision": "-",
            "origin": "upload",
            "used": name in uploaded,
        }
        if name in uploaded:
            one = uploaded[name]
            row.update(
                revision=str(one.revision),
                fingerprint=one.sha384,
                size=one.size_bytes,
                timestamp=iso(one.created),
            )
        rows.append(row)
    return {"resources": rows}


def task(state: store.ModelState, controller: Any = None, *, task: str) -> dict[str, Any]:
    """``juju show-task``."""
    found = state.tasks.get(task)
    if found is None:
        raise errors.JujuError(f'task "{task}" not found')
    return task_shown(vars(found))


def task_shown(record: dict[str, Any]) -> dict[str, Any]:
    """A task's record as ``run``, ``exec`` and ``show-task`` print it."""
    receiver = record["receiver"]
    where = "machine" if receiver.isdigit() else "unit"
    shown: dict[str, Any] = {
        "id": record["id"],
        "status": record["status"],
        where: receiver,
    }
    if record.get("message"):
        shown["message"] = record["message"]
    if record.get("results"):
        shown["results"] = formats.ordered(record["results"])
    if record.get("log"):
        shown["log"] = [f"{stamp(at)} {text}" for at, text in record["log"]]
    shown["timing"] = {
        key: stamp(record[key])
        for key in ("enqueued", "started", "completed")
        if record.get(key) is not None
    }
    return shown


def operations(state: store.ModelState, controller: Any = None) -> dict[str, Any]:
    """``juju operations``: all operations with their tasks."""
    return {
        operation.id: {
            "summary": operation.summary,
            "status": _operation_status(state, operation),
            "timing": {"enqueued": stamp(operation.enqueued)},
            "tasks": {
                name: task_shown(vars(state.tasks[name]))
                for name in operation.tasks
                if name in state.tasks
            },
        }
        for operation in state.operations
    }


def _operation_status(state: store.ModelState, operation: records.Operation) -> str:
    found = [state.tasks[name].status for name in operation.tasks if name in state.tasks]
    for candidate in ("running", "pending", "error", "failed", "cancelled", "aborted"):
        if candidate in found:
            return candidate
    return "completed" if found else "error"
