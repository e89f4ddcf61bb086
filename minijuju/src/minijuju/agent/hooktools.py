"""The hook tools themselves: each a function of a call."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import yaml

from minijuju.agent import toolkit
from minijuju.model import errors, leases, records, secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
RESERVED = ("stdout", "stderr", "stdout-encoding", "stderr-encoding", "return-code")


call = toolkit.call
"""Run a tool of this module; see `toolkit.call`."""


def names() -> list[str]:
    """All tools."""
    return list(toolkit.TOOLS)


# -- relations


@toolkit.tool("relation-ids", form="smart")
def relation_ids(call: toolkit.Call) -> list[str]:
    """Ids of an endpoint's relations; in a relation hook the endpoint may be left out."""
    name = call.word(0)
    hook = call.context.hook
    if not name and hook and hook.relation is not None:
        name = hook.name.rsplit("-relation-", 1)[0]
    if not name:
        raise toolkit.Usage("no endpoint name specified")
    return call.context.relation_ids(name)


@toolkit.tool("relation-list", values="r relation", switches="app", form="smart")
def relation_list(call: toolkit.Call) -> Any:
    """Units joined, or the remote application."""
    identity = call.relation()
    if call.flags.get("app"):
        relation = call.context.relation(identity)
        return relation.other(call.context.unit.application).application
    return call.context.members(identity)


@toolkit.tool("relation-get", values="r relation", switches="app", form="smart")
def relation_get(call: toolkit.Call) -> Any:
    """One key or all of a unit's or an application's bag."""
    identity = call.relation()
    key = call.word(0)
    target = call.word(1)
    hook = call.context.hook
    if not target and hook and hook.relation is not None:
        target = hook.remote_app if call.flags.get("app") else hook.remote_unit
    if not target:
        raise errors.JujuError("no unit id specified")
    if call.flags.get("app"):
        target = target.split("/", 1)[0]
    data = call.context.bag(identity, target)
    return data if key in ("", "-") else data.get(key)


@toolkit.tool("relation-set", values="r relation file", switches="app")
def relation_set(call: toolkit.Call) -> None:
    """Buffer changes of the own bag."""
    identity = call.relation()
    changes = toolkit.settings(call, call.words)
    call.context.set_bag(identity, changes, app=bool(call.flags.get("app")))


@toolkit.tool("relation-model-get", values="r relation", form="smart")
def relation_model_get(call: toolkit.Call) -> dict[str, str]:
    """The other side's model, which is always this one."""
    call.relation()
    return {"uuid": call.context.state.uuid}


# -- configuration and status


@toolkit.tool("config-get", switches="all a", form="smart")
def config_get(call: toolkit.Call) -> Any:
    """One option or all."""
    if call.word(0):
        return call.context.config(everything=True).get(call.word(0))
    return call.context.config(everything=bool(call.flags.get("all") or call.flags.get("a")))


@toolkit.tool("is-leader", form="smart")
def is_leader(call: toolkit.Call) -> bool:
    """Whether this unit leads."""
    return call.context.is_leader()


@toolkit.tool("leader-get", form="smart")
def leader_get(call: toolkit.Call) -> Any:
    """Old leader settings: always empty."""
    return None if call.word(0) not in ("", "-") else {}


@toolkit.tool("status-get", switches="include-data application", form="smart")
def status_get(call: toolkit.Call) -> Any:
    """The unit's or (leader) the application's status."""
    context = call.context
    whole = bool(call.flags.get("include-data"))
    if not call.flags.get("application"):
        status = _status(context.unit.workload)
        return status if whole else status["status"]
    if not context.is_leader():
        raise errors.JujuError("finding application status: this unit is not the leader")
    own = context.application.status or records.Status("unknown")
    units = context.state.units_of(context.application.name)
    shown = {**_status(own), "units": {unit.name: _status(unit.workload) for unit in units}}
    return {"application-status": shown} if whole else shown["status"]


def _status(status: records.Status) -> dict[str, Any]:
    return {"status": status.current, "message": status.message, "status-data": status.data}


@toolkit.tool("status-set", switches="application")
def status_set(call: toolkit.Call) -> None:
    """Set a status, at once."""
    if not call.words:
        raise toolkit.Usage("invalid args, require <status> [message]")
    current = call.words[0]
    if current not in ("active", "blocked", "maintenance", "waiting"):
        raise toolkit.Usage(
            f'invalid status "{current}", expected one of [maintenance blocked waiting active]'
        )
    message = " ".join(call.words[1:])
    app = bool(call.flags.get("application"))
    if app and not call.context.is_leader():
        raise errors.JujuError("this unit is not the leader")
    call.context.status_set = call.context.status_set or not app
    call.services.set_status(call.context, records.Status(current, message), app=app)


@toolkit.tool("application-version-set")
def application_version_set(call: toolkit.Call) -> None:
    """Set the workload's version, at once."""
    with call.context.state.store.transaction(quiet=True):
        call.context.unit.workload_version = call.word(0)


@toolkit.tool("juju-log", values="log-level l format", switches="debug", free=True)
def juju_log(call: toolkit.Call) -> None:
    """A line in the unit's log."""
    level = (call.flag("log-level") or call.flag("l") or "INFO").upper()
    if level not in LEVELS:
        raise toolkit.Usage(f'log level "{level}" not recognised')
    message = " ".join(call.words)
    hook = call.context.hook
    if hook and hook.relation is not None:
        message = f"{hook.name.rsplit('-relation-', 1)[0]}:{hook.relation}: {message}"
    call.services.log(level, f"unit.{call.context.unit_name}.juju-log", message)


@toolkit.tool("juju-reboot", switches="now", free=True)
def juju_reboot(call: toolkit.Call) -> None:
    """Reboot the machine after this hook, or now."""
    if call.context.task is not None:
        raise errors.JujuError("juju-reboot is not supported when running an action.")
    call.context.reboot = "now" if call.flags.get("now") else "after"
    if call.flags.get("now"):
        call.services.interrupt(call.context)


@toolkit.tool("credential-get", form="smart")
def credential_get(call: toolkit.Call) -> Any:
    """The cloud's credential, with trust."""
    if not call.context.application.trust:
        raise errors.JujuError("cannot access cloud credentials: permission denied")
    return {"type": "lxd", "name": "localhost", "credential": {"auth-type": "certificate"}}


@toolkit.tool("goal-state", form="yaml")
def goal_state(call: toolkit.Call) -> dict[str, Any]:
    """What is planned: the own units and, by endpoint, the others."""
    context, state = call.context, call.context.state
    mine = context.unit.application
    shown: dict[str, Any] = {}
    for relation in state.relations_of(mine):
        if relation.peer:
            continue
        other = relation.other(mine).application
        here = shown.setdefault(relation.end(mine).name, {})
        life = "joined" if relation.life == records.ALIVE else "dying"
        here[other] = {"status": life, "since": _since(relation.created)}
        here.update(_goal_units(state.units_of(other)))
    return {"units": _goal_units(state.units_of(mine)), "relations": shown}


def _goal_units(units: list[records.Unit]) -> dict[str, Any]:
    return {
        unit.name: {
            "status": "dying" if unit.life != records.ALIVE else unit.workload.current,
            "since": _since(unit.workload.since),
        }
        for unit in units
    }


def _since(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


# -- network


@toolkit.tool(
    "network-get",
    values="r relation",
    switches="bind-address ingress-address egress-subnets primary-address",
    form="smart",
    free=True,
)
def network_get(call: toolkit.Call) -> Any:
    """Addresses for a binding."""
    name = call.word(0)
    if not name:
        raise toolkit.Usage("no arguments specified")
    if call.flag("r") or call.flag("relation"):
        call.relation()
    meta = call.context.meta
    if meta.endpoint(name) is None and name not in meta.extra_bindings:
        raise errors.JujuError(call.context.state.behaviour.no_network.format(name))
    form = call.flag("format") or "smart"
    info = call.services.network(call.context, name, legacy=form != "json")
    short = {
        "bind-address": lambda: info["bind-addresses"][0]["addresses"][0]["value"],
        "primary-address": lambda: info["bind-addresses"][0]["addresses"][0]["value"],
        "ingress-address": lambda: info["ingress-addresses"][0],
        "egress-subnets": lambda: info["egress-subnets"],
    }
    chosen = {name: pick() for name, pick in short.items() if call.flags.get(name)}
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    return chosen or info


@toolkit.tool("unit-get", form="smart")
def unit_get(call: toolkit.Call) -> str:
    """The unit's address."""
    if call.word(0) not in ("private-address", "public-address"):
        raise toolkit.Usage(f'unknown setting "{call.word(0)}"')
    return call.context.state.machines[call.context.unit.machine].address


def _port(text: str, endpoint: str) -> dict[str, Any]:
    match = re.fullmatch(r"(?:([0-9]+)(?:-([0-9]+))?(?:/(tcp|udp))?|(icmp))", text.lower())
    if not match:
        raise toolkit.Usage(f'invalid port or range "{text}"')
    if match[4]:
        return {"endpoint": endpoint, "protocol": "icmp", "from": -1, "to": -1}
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise toolkit.Usage(f"invalid port range {text}")
    return {"endpoint": endpoint, "protocol": match[3] or "tcp", "from": first, "to": last}


@toolkit.tool("open-port", values="endpoints format")
def open_port(call: toolkit.Call) -> None:
    """Buffer the opening (or closing) of a range."""
    names = [name for name in call.flag("endpoints").split(",") if name and name != "*"] or [""]
    for name in names:
        if name and call.context.meta.endpoint(name) is None:
            raise errors.JujuError(f'endpoint "{name}" not found')
        port = _port(call.word(0), name)
        call.context.buffer.ports.append((call.tool.split("-")[0], port))


toolkit.tool("close-port", values="endpoints format")(open_port)


@toolkit.tool("opened-ports", switches="endpoints", form="smart")
def opened_ports(call: toolkit.Call) -> list[str]:
    """Ranges opened, buffered changes counted."""
    from minijuju.agent import hookcontext

    by_range: dict[str, set[str]] = {}
    order = sorted(
        call.context.ports(), key=lambda p: (p["protocol"] == "icmp", p["from"], p["protocol"])
    )
    for port in order:
        by_range.setdefault(hookcontext.port_text(port), set()).add(port["endpoint"])
    if not call.flags.get("endpoints"):
        return list(by_range)
    return [
        f"{text} ({'*' if '' in names else ', '.join(sorted(names))})"
        for text, names in by_range.items()
    ]


# -- actions


@toolkit.tool("action-get", form="smart", needs_task=True)
def action_get(call: toolkit.Call) -> Any:
    """All parameters, or one by its dotted path."""
    assert call.context.task
    value: Any = call.context.task.params
    for key in call.word(0).split(".") if call.word(0) else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


@toolkit.tool("action-set", needs_task=True)
def action_set(call: toolkit.Call) -> None:
    """Set results."""
    for word in call.words:
        path, given, value = word.partition("=")
        keys = path.split(".")
        if not given:
            raise toolkit.Usage(f'argument "{word}" must be of the form key...=value')
        for key in keys:
            if not KEY.fullmatch(key):
                raise errors.JujuError(
                    f'key "{key}" must start and end with lowercase alphanumeric, and contain '
                    "only lowercase alphanumeric and hyphens"
                )
        if keys[0] in RESERVED:
            raise errors.JujuError(f'cannot set reserved action key "{keys[0]}"')
        place = call.context.results
        for key in keys[:-1]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[keys[-1]] = value


@toolkit.tool("action-fail", needs_task=True)
def action_fail(call: toolkit.Call) -> None:
    """Fail the action with a message."""
    text = " ".join(call.words)
    call.context.failure = text or "action failed without reason given, check action for errors"


@toolkit.tool("action-log", needs_task=True)
def action_log(call: toolkit.Call) -> None:
    """A progress line, at once."""
    with call.context.state.store.transaction(quiet=True):
        call.context.log_action(" ".join(call.words))
    call.services.told()


# -- storage, resources, state


@toolkit.tool("storage-list", form="smart")
def storage_list(call: toolkit.Call) -> list[str]:
    """Attached instances."""
    name = call.word(0)
    found = sorted(instance.id for instance in call.context.storage())
    return [one for one in found if not name or one.rsplit("/", 1)[0] == name]


@toolkit.tool("storage-get", values="s", form="smart")
def storage_get(call: toolkit.Call) -> Any:
    """An instance's kind and location."""
    hook = call.context.hook
    identity = call.flag("s") or (hook.storage if hook else "")
    if not identity:
        raise toolkit.Usage("no storage instance specified")
    instance = next((one for one in call.context.storage() if one.id == identity), None)
    if instance is None:
        raise errors.JujuError(f'storage "{identity}" not found')
    values = {"kind": instance.kind, "location": instance.location}
    if not call.word(0):
        return values
    if call.word(0) not in values:
        raise errors.JujuError(f'invalid storage attribute "{call.word(0)}"')
    return values[call.word(0)]


@toolkit.tool("storage-add")
def storage_add(call: toolkit.Call) -> None:
    """Buffer a wish for more storage."""
    if not call.words:
        raise toolkit.Usage("storage add requires a storage directive")
    for word in call.words:
        name, _, directive = word.partition("=")
        if name not in call.context.meta.storage:
            raise errors.JujuError(f'charm storage "{name}" not found')
        call.context.buffer.storage.append((name, directive or "1"))


@toolkit.tool("resource-get", free=True)
def resource_get(call: toolkit.Call) -> toolkit.Plain:
    """The path of a resource's file, fetched when it is new."""
    if not call.words:
        raise toolkit.Usage("missing required resource name")
    return toolkit.Plain(call.services.fetch_resource(call.context, call.words[0]))


@toolkit.tool("state-get", form="smart")
def state_get(call: toolkit.Call) -> Any:
    """The charm's own stored state."""
    values = call.context.charm_state()
    if call.word(0) not in ("", "-"):
        return values.get(call.word(0))
    return values or json.loads(call.context.state.behaviour.no_state)


@toolkit.tool("state-set", values="file")
def state_set(call: toolkit.Call) -> None:
    """Buffer changes of it."""
    call.context.buffer.charm_state.update(toolkit.settings(call, call.words))


@toolkit.tool("state-delete")
def state_delete(call: toolkit.Call) -> None:
    """Buffer the deletion of a key."""
    call.context.buffer.charm_state[call.word(0)] = None


# -- secrets

CONTENT = "label description expire rotate owner file"


@toolkit.tool("secret-add", values=CONTENT)
def secret_add(call: toolkit.Call) -> toolkit.Plain:
    """Make a secret; prints its URI."""
    owner = call.flag("owner") or "application"
    data = _secret_content(call, call.words)
    if not data:
        raise errors.JujuError("missing secret value or filename")
    identity = call.context.secrets.add(
        owner, data, _secret_options(call), leader=call.context.is_leader()
    )
    return toolkit.Plain(f"secret:{identity}\n")


@toolkit.tool("secret-set", values=CONTENT)
def secret_set(call: toolkit.Call) -> None:
    """Change a secret."""
    if not call.words:
        raise toolkit.Usage("missing secret URI")
    call.context.secrets.update(
        call.words[0],
        _secret_content(call, call.words[1:]),
        _secret_options(call),
        leader=call.context.is_leader(),
    )


def _secret_content(call: toolkit.Call, words: list[str]) -> dict[str, str]:
    data: dict[str, str] = {}
    if call.flag("file"):
        data = {k: str(v) for k, v in yaml.safe_load(call.read(call.flag("file"))).items()}
    for word in words:
        key, given, value = word.partition("=")
        if not given:
            raise toolkit.Usage(f'invalid secret value "{word}"')
        if key.endswith("#file"):
            key, value = key.removesuffix("#file"), call.read(value).decode()
        data[key] = value
    return secrets.plain(data) if data else {}


def _secret_options(call: toolkit.Call) -> Mapping[str, str]:
    names = ("label", "description", "expire", "rotate")
    return {name: call.flags[name] for name in names if name in call.flags}


@toolkit.tool("secret-get", values="label", switches="refresh peek", form="yaml")
def secret_get(call: toolkit.Call) -> Any:
    """A secret's content."""
    refresh, peek = bool(call.flags.get("refresh")), bool(call.flags.get("peek"))
    if refresh and peek:
        raise toolkit.Usage("specify one of --peek or --refresh but not both")
    uri, key, label = call.word(0), call.word(1), call.flag("label")
    if label and uri and not secrets.is_uri(uri):
        uri, key = "", uri
    if not uri and not label:
        raise toolkit.Usage("require either a secret URI or label")
    data = call.context.secrets.read(
        uri, label, refresh=refresh, peek=peek, leader=call.context.is_leader()
    )
    if key and key not in data:
        raise errors.JujuError(f'secret key value "{key}" not found')
    return data[key] if key else data


@toolkit.tool("secret-info-get", values="label", form="yaml")
def secret_info_get(call: toolkit.Call) -> Any:
    """A secret's metadata, for its owner."""
    return call.context.secrets.info(
        call.word(0), call.flag("label"), leader=call.context.is_leader()
    )


@toolkit.tool("secret-ids", form="smart")
def secret_ids(call: toolkit.Call) -> list[str]:
    """Ids of the secrets that this unit manages."""
    return call.context.secrets.owned(leader=call.context.is_leader())


@toolkit.tool("secret-grant", values="r relation unit")
def secret_grant(call: toolkit.Call) -> None:
    """Buffer a grant to a relation's other side."""
    _grant(call, revoke=False)


@toolkit.tool("secret-revoke", values="r relation unit app")
def secret_revoke(call: toolkit.Call) -> None:
    """Buffer the end of a grant."""
    _grant(call, revoke=True)


def _grant(call: toolkit.Call, *, revoke: bool) -> None:
    if not call.words:
        raise toolkit.Usage("missing secret URI")
    identity: int | None = None
    target = call.flag("unit") or call.flag("app")
    if call.flag("r") or call.flag("relation") or not revoke:
        identity = call.relation()
        relation = call.context.relation(identity)
        target = target or relation.other(call.context.unit.application).application
        if not revoke and relation.life != records.ALIVE:
            raise errors.JujuError(f"relation {relation.key} is not alive")
    call.context.secrets.grant(
        call.words[0],
        records.Grant(target, identity),
        revoke=revoke,
        leader=leases.leads(call.context.state, call.context.unit),
    )


@toolkit.tool("secret-remove", values="revision")
def secret_remove(call: toolkit.Call) -> None:
    """Buffer the removal of a secret or a revision of it."""
    if not call.words:
        raise toolkit.Usage("missing secret URI")
    revision = int(call.flag("revision")) if call.flag("revision") else None
    call.context.secrets.remove(call.words[0], revision, leader=call.context.is_leader())


@toolkit.tool("leader-set", values="file")
@toolkit.tool("add-metric")
@toolkit.tool("payload-register")
@toolkit.tool("payload-unregister")
@toolkit.tool("payload-status-set")
def nothing(call: toolkit.Call) -> None:
    """Tools of Juju's past: taken, without effect."""
