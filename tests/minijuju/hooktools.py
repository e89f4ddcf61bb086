"""The hook tools: each a function of a context, its arguments and the caller's files.

`call` runs one tool and says what it prints and how it exits, as Juju 3.6's `jujuc` does: 0, 1 for
a failure, 2 for wrong usage, `ERROR <text>` on stderr.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING, Any

import yaml

from minijuju import charm, errors, leases, records, secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minijuju import hookcontext

    Services = "Protocol of agent.Services"

LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMATS = ("smart", "json", "yaml")
KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
RESERVED = ("stdout", "stderr", "stdout-encoding", "stderr-encoding", "return-code")


class Usage(errors.JujuError):
    """Wrong arguments: exit 2."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


@dataclasses.dataclass
class Call:
    """One call of a tool: its context, parsed arguments, and the way to the caller's files."""

    context: hookcontext.Context
    tool: str
    flags: dict[str, Any]
    words: list[str]
    read: Callable[[str], bytes]
    """The content of a file inside the machine; "-" is the caller's stdin."""
    services: Any
    """What only the agent can do: `log`, `set_status`, `fetch_resource`, `network`."""

    def flag(self, name: str) -> str:
        """A flag's text, or ""."""
        return str(self.flags.get(name) or "")

    def word(self, index: int, default: str = "") -> str:
        """A positional argument."""
        return self.words[index] if index < len(self.words) else default

    def relation(self) -> int:
        """The relation meant by `-r`, or that of the hook."""
        given = self.flag("r") or self.flag("relation")
        if given:
            number = given.rsplit(":", 1)[-1]
            try:
                relation = self.context.relation(int(number))
            except (ValueError, errors.JujuError):
                raise Usage(f'invalid value "{given}" for option -r: relation not found') from None
            return relation.id
        hook = self.context.hook
        if hook is None or hook.relation is None:
            raise Usage("no relation id specified")
        return hook.relation


Tool = "Callable[[Call], Any]"


@dataclasses.dataclass(frozen=True)
class Spec:
    """How a tool is called: its flags with a value, its boolean flags, its default format."""

    run: Callable[[Call], Any]
    values: frozenset[str]
    switches: frozenset[str]
    format: str
    needs_task: bool
    free: bool
    """Whether it runs without the store's lock: it takes long, or changes nothing stored."""


TOOLS: dict[str, Spec] = {}


def tool(
    name: str,
    *,
    values: str = "",
    switches: str = "",
    form: str = "",
    needs_task: bool = False,
    free: bool = False,
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a tool. With `form`, it takes `--format` and its result is printed so."""

    def register(run: Callable[[Call], Any]) -> Callable[[Call], Any]:
        wanted = {*values.split(), *(("format", "o", "output") if form else ())}
        TOOLS[name] = Spec(
            run, frozenset(wanted), frozenset(switches.split()), form, needs_task, free
        )
        return run

    return register


@dataclasses.dataclass(frozen=True)
class Plain:
    """Output that is printed as it is, whatever the format."""

    text: str


def call(
    context: hookcontext.Context,
    argv: list[str],
    read: Callable[[str], bytes],
    services: Any,
) -> tuple[int, str, str]:
    """Run a tool; returns exit code, stdout, stderr."""
    spec = TOOLS.get(argv[0])
    if spec is None:
        return 1, "", f"ERROR unknown command {argv[0]}\n"
    try:
        flags, words = parse(spec, argv[1:])
        form = str(flags.get("format") or spec.format)
        if spec.format and form not in FORMATS:
            raise Usage(f'invalid value "{form}" for option --format: unknown format "{form}"')
        if spec.needs_task and (context.task is None or context.task.name == "juju-exec"):
            raise errors.JujuError("not running an action")
        result = _run(spec, Call(context, argv[0], flags, words, read, services))
    except errors.JujuError as error:
        return error.code, "", f"ERROR {error.text}\n"
    if isinstance(result, Plain):
        return 0, result.text, ""
    return 0, render(form, result) if spec.format else "", ""


def _run(spec: Spec, asked: Call) -> Any:
    """Run a tool with the store held, but never while it waits for the caller's files."""
    if spec.free:
        return spec.run(asked)
    lock, read = asked.context.state.store.lock, asked.read

    def unlocked(name: str) -> bytes:
        lock.release()
        try:
            return read(name)
        finally:
            lock.acquire()

    with lock:
        return spec.run(dataclasses.replace(asked, read=unlocked))


def parse(spec: Spec, argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Go-style flags anywhere among positional arguments; `--` ends them."""
    flags: dict[str, Any] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, given, value = word.lstrip("-").partition("=")
        if name in spec.switches:
            if value and value not in charm.TRUE + charm.FALSE:
                raise Usage(f'invalid boolean value "{value}" for option --{name}')
            flags[name] = value in charm.TRUE if given else True
        elif name in spec.values:
            if not given and not rest:
                raise Usage(f"option needs an argument: --{name}")
            value = value if given else rest.pop(0)
            flags[name] = [*flags.get(name, []), value] if name == "file-list" else value
        else:
            dashes = "--" if word.startswith("--") else "-"
            raise Usage(f"option provided but not defined: {dashes}{name}")
    return flags, words


def render(form: str, value: Any) -> str:
    """A result as the tool prints it."""
    if form == "json":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
    if form == "yaml":
        text = yaml.safe_dump(value, default_flow_style=False, sort_keys=True, allow_unicode=True)
        return text.removesuffix("...\n")
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"{value}\n"
    if isinstance(value, list):
        return "".join(f"{item}\n" for item in value)
    return render("yaml", value) if isinstance(value, dict) else f"{value}\n"


def _settings(call: Call, words: list[str]) -> dict[str, str]:
    """`key=value` arguments over the map of `--file`."""
    values: dict[str, str] = {}
    if call.flag("file"):
        try:
            read = yaml.load(call.read(call.flag("file")), Loader=yaml.CSafeLoader) or {}
        except yaml.YAMLError as error:
            raise errors.JujuError(f"cannot parse settings: {error}") from None
        if not isinstance(read, dict):
            raise errors.JujuError("cannot parse settings: not a map")
        values = {str(k): "" if v is None else _text(v) for k, v in read.items()}
    for word in words:
        key, given, value = word.partition("=")
        if not given or not key:
            raise Usage(f'expected "key=value", got "{word}"')
        values[key] = value
    return values


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


# -- relations


@tool("relation-ids", form="smart")
def relation_ids(call: Call) -> list[str]:
    """Ids of an endpoint's relations; in a relation hook the endpoint may be left out."""
    name = call.word(0)
    hook = call.context.hook
    if not name and hook and hook.relation is not None:
        name = hook.name.rsplit("-relation-", 1)[0]
    if not name:
        raise Usage("no endpoint name specified")
    return call.context.relation_ids(name)


@tool("relation-list", values="r relation", switches="app", form="smart")
def relation_list(call: Call) -> Any:
    """Units joined, or the remote application."""
    identity = call.relation()
    if call.flags.get("app"):
        relation = call.context.relation(identity)
        return relation.other(call.context.unit.application).application
    return call.context.members(identity)


@tool("relation-get", values="r relation", switches="app", form="smart")
def relation_get(call: Call) -> Any:
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


@tool("relation-set", values="r relation file", switches="app")
def relation_set(call: Call) -> None:
    """Buffer changes of the own bag."""
    identity = call.relation()
    changes = _settings(call, call.words)
    call.context.set_bag(identity, changes, app=bool(call.flags.get("app")))


@tool("relation-model-get", values="r relation", form="smart")
def relation_model_get(call: Call) -> dict[str, str]:
    """The other side's model, which is always this one."""
    call.relation()
    return {"uuid": call.context.state.uuid}


# -- configuration and status


@tool("config-get", switches="all a", form="smart")
def config_get(call: Call) -> Any:
    """One option or all."""
    if call.word(0):
        return call.context.config(everything=True).get(call.word(0))
    return call.context.config(everything=bool(call.flags.get("all") or call.flags.get("a")))


@tool("is-leader", form="smart")
def is_leader(call: Call) -> bool:
    """Whether this unit leads."""
    return call.context.is_leader()


@tool("leader-get", form="smart")
def leader_get(call: Call) -> Any:
    """Old leader settings: always empty."""
    return None if call.word(0) not in ("", "-") else {}


@tool("status-get", switches="include-data application", form="smart")
def status_get(call: Call) -> Any:
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


@tool("status-set", switches="application")
def status_set(call: Call) -> None:
    """Set a status, at once."""
    if not call.words:
        raise Usage("invalid args, require <status> [message]")
    current = call.words[0]
    if current not in ("active", "blocked", "maintenance", "waiting"):
        raise Usage(
            f'invalid status "{current}", expected one of [maintenance blocked waiting active]'
        )
    message = " ".join(call.words[1:])
    app = bool(call.flags.get("application"))
    if app and not call.context.is_leader():
        raise errors.JujuError("this unit is not the leader")
    call.context.status_set = call.context.status_set or not app
    call.services.set_status(call.context, records.Status(current, message), app=app)


@tool("application-version-set")
def application_version_set(call: Call) -> None:
    """Set the workload's version, at once."""
    with call.context.state.store.transaction(quiet=True):
        call.context.unit.workload_version = call.word(0)


@tool("juju-log", values="log-level l format", switches="debug", free=True)
def juju_log(call: Call) -> None:
    """A line in the unit's log."""
    level = (call.flag("log-level") or call.flag("l") or "INFO").upper()
    if level not in LEVELS:
        raise Usage(f'log level "{level}" not recognised')
    message = " ".join(call.words)
    hook = call.context.hook
    if hook and hook.relation is not None:
        message = f"{hook.name.rsplit('-relation-', 1)[0]}:{hook.relation}: {message}"
    call.services.log(level, f"unit.{call.context.unit_name}.juju-log", message)


@tool("juju-reboot", switches="now", free=True)
def juju_reboot(call: Call) -> None:
    """Reboot the machine after this hook, or now."""
    if call.context.task is not None:
        raise errors.JujuError("juju-reboot is not supported when running an action.")
    call.context.reboot = "now" if call.flags.get("now") else "after"
    if call.flags.get("now"):
        call.services.interrupt(call.context)


@tool("credential-get", form="smart")
def credential_get(call: Call) -> Any:
    """The cloud's credential, with trust."""
    if not call.context.application.trust:
        raise errors.JujuError("cannot access cloud credentials: permission denied")
    return {"type": "lxd", "name": "localhost", "credential": {"auth-type": "certificate"}}


@tool("goal-state", form="yaml")
def goal_state(call: Call) -> dict[str, Any]:
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


@tool(
    "network-get",
    values="r relation",
    switches="bind-address ingress-address egress-subnets primary-address",
    form="smart",
    free=True,
)
def network_get(call: Call) -> Any:
    """Addresses for a binding."""
    name = call.word(0)
    if not name:
        raise Usage("no arguments specified")
    if call.flag("r") or call.flag("relation"):
        call.relation()
    meta = call.context.meta
    if meta.endpoint(name) is None and name not in meta.extra_bindings:
        raise errors.JujuError(f'undefined for unit charm: endpoint "{name}" not valid')
    form = call.flag("format") or "smart"
    info = call.services.network(call.context, legacy=form != "json")
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


@tool("unit-get", form="smart")
def unit_get(call: Call) -> str:
    """The unit's address."""
    if call.word(0) not in ("private-address", "public-address"):
        raise Usage(f'unknown setting "{call.word(0)}"')
    return call.context.state.machines[call.context.unit.machine].address


def _port(text: str, endpoint: str) -> dict[str, Any]:
    match = re.fullmatch(r"(?:([0-9]+)(?:-([0-9]+))?(?:/(tcp|udp))?|(icmp))", text.lower())
    if not match:
        raise Usage(f'invalid port or range "{text}"')
    if match[4]:
        return {"endpoint": endpoint, "protocol": "icmp", "from": -1, "to": -1}
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise Usage(f"invalid port range {text}")
    return {"endpoint": endpoint, "protocol": match[3] or "tcp", "from": first, "to": last}


@tool("open-port", values="endpoints format")
def open_port(call: Call) -> None:
    """Buffer the opening (or closing) of a range."""
    names = [name for name in call.flag("endpoints").split(",") if name and name != "*"] or [""]
    for name in names:
        if name and call.context.meta.endpoint(name) is None:
            raise errors.JujuError(f'endpoint "{name}" not found')
        port = _port(call.word(0), name)
        call.context.buffer.ports.append((call.tool.split("-")[0], port))


tool("close-port", values="endpoints format")(open_port)


@tool("opened-ports", switches="endpoints", form="smart")
def opened_ports(call: Call) -> list[str]:
    """Ranges opened, buffered changes counted."""
    from minijuju import hookcontext

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


@tool("action-get", form="smart", needs_task=True)
def action_get(call: Call) -> Any:
    """All parameters, or one by its dotted path."""
    assert call.context.task
    value: Any = call.context.task.params
    for key in call.word(0).split(".") if call.word(0) else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value


@tool("action-set", needs_task=True)
def action_set(call: Call) -> None:
    """Set results."""
    for word in call.words:
        path, given, value = word.partition("=")
        keys = path.split(".")
        if not given:
            raise Usage(f'argument "{word}" must be of the form key...=value')
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


@tool("action-fail", needs_task=True)
def action_fail(call: Call) -> None:
    """Fail the action with a message."""
    text = " ".join(call.words)
    call.context.failure = text or "action failed without reason given, check action for errors"


@tool("action-log", needs_task=True)
def action_log(call: Call) -> None:
    """A progress line, at once."""
    with call.context.state.store.transaction(quiet=True):
        call.context.log_action(" ".join(call.words))
    call.services.told()


# -- storage, resources, state


@tool("storage-list", form="smart")
def storage_list(call: Call) -> list[str]:
    """Attached instances."""
    name = call.word(0)
    found = sorted(instance.id for instance in call.context.storage())
    return [one for one in found if not name or one.rsplit("/", 1)[0] == name]


@tool("storage-get", values="s", form="smart")
def storage_get(call: Call) -> Any:
    """An instance's kind and location."""
    hook = call.context.hook
    identity = call.flag("s") or (hook.storage if hook else "")
    if not identity:
        raise Usage("no storage instance specified")
    instance = next((one for one in call.context.storage() if one.id == identity), None)
    if instance is None:
        raise errors.JujuError(f'storage "{identity}" not found')
    values = {"kind": instance.kind, "location": instance.location}
    if not call.word(0):
        return values
    if call.word(0) not in values:
        raise errors.JujuError(f'invalid storage attribute "{call.word(0)}"')
    return values[call.word(0)]


@tool("storage-add")
def storage_add(call: Call) -> None:
    """Buffer a wish for more storage."""
    if not call.words:
        raise Usage("storage add requires a storage directive")
    for word in call.words:
        name, _, directive = word.partition("=")
        if name not in call.context.meta.storage:
            raise errors.JujuError(f'charm storage "{name}" not found')
        call.context.buffer.storage.append((name, directive or "1"))


@tool("resource-get", free=True)
def resource_get(call: Call) -> Plain:
    """The path of a resource's file, fetched when it is new."""
    if not call.words:
        raise Usage("missing required resource name")
    return Plain(call.services.fetch_resource(call.context, call.words[0]))


@tool("state-get", form="smart")
def state_get(call: Call) -> Any:
    """The charm's own stored state."""
    values = call.context.charm_state()
    return values if call.word(0) in ("", "-") else values.get(call.word(0))


@tool("state-set", values="file")
def state_set(call: Call) -> None:
    """Buffer changes of it."""
    call.context.buffer.charm_state.update(_settings(call, call.words))


@tool("state-delete")
def state_delete(call: Call) -> None:
    """Buffer the deletion of a key."""
    call.context.buffer.charm_state[call.word(0)] = None


# -- secrets

CONTENT = "label description expire rotate owner file"


@tool("secret-add", values=CONTENT)
def secret_add(call: Call) -> Plain:
    """Make a secret; prints its URI."""
    owner = call.flag("owner") or "application"
    data = _secret_content(call, call.words)
    if not data:
        raise errors.JujuError("missing secret value or filename")
    identity = call.context.secrets.add(
        owner, data, _secret_options(call), leader=call.context.is_leader()
    )
    return Plain(f"secret:{identity}\n")


@tool("secret-set", values=CONTENT)
def secret_set(call: Call) -> None:
    """Change a secret."""
    if not call.words:
        raise Usage("missing secret URI")
    call.context.secrets.update(
        call.words[0],
        _secret_content(call, call.words[1:]),
        _secret_options(call),
        leader=call.context.is_leader(),
    )


def _secret_content(call: Call, words: list[str]) -> dict[str, str]:
    data: dict[str, str] = {}
    if call.flag("file"):
        data = {k: str(v) for k, v in yaml.safe_load(call.read(call.flag("file"))).items()}
    for word in words:
        key, given, value = word.partition("=")
        if not given:
            raise Usage(f'invalid secret value "{word}"')
        if key.endswith("#file"):
            key, value = key.removesuffix("#file"), call.read(value).decode()
        data[key] = value
    return secrets.plain(data) if data else {}


def _secret_options(call: Call) -> Mapping[str, str]:
    names = ("label", "description", "expire", "rotate")
    return {name: call.flags[name] for name in names if name in call.flags}


@tool("secret-get", values="label", switches="refresh peek", form="yaml")
def secret_get(call: Call) -> Any:
    """A secret's content."""
    refresh, peek = bool(call.flags.get("refresh")), bool(call.flags.get("peek"))
    if refresh and peek:
        raise Usage("specify one of --peek or --refresh but not both")
    uri, key, label = call.word(0), call.word(1), call.flag("label")
    if label and uri and not secrets.is_uri(uri):
        uri, key = "", uri
    if not uri and not label:
        raise Usage("require either a secret URI or label")
    data = call.context.secrets.read(
        uri, label, refresh=refresh, peek=peek, leader=call.context.is_leader()
    )
    if key and key not in data:
        raise errors.JujuError(f'secret key value "{key}" not found')
    return data[key] if key else data


@tool("secret-info-get", values="label", form="yaml")
def secret_info_get(call: Call) -> Any:
    """A secret's metadata, for its owner."""
    return call.context.secrets.info(
        call.word(0), call.flag("label"), leader=call.context.is_leader()
    )


@tool("secret-ids", form="smart")
def secret_ids(call: Call) -> list[str]:
    """Ids of the secrets that this unit manages."""
    return call.context.secrets.owned(leader=call.context.is_leader())


@tool("secret-grant", values="r relation unit")
def secret_grant(call: Call) -> None:
    """Buffer a grant to a relation's other side."""
    _grant(call, revoke=False)


@tool("secret-revoke", values="r relation unit app")
def secret_revoke(call: Call) -> None:
    """Buffer the end of a grant."""
    _grant(call, revoke=True)


def _grant(call: Call, *, revoke: bool) -> None:
    if not call.words:
        raise Usage("missing secret URI")
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


@tool("secret-remove", values="revision")
def secret_remove(call: Call) -> None:
    """Buffer the removal of a secret or a revision of it."""
    if not call.words:
        raise Usage("missing secret URI")
    revision = int(call.flag("revision")) if call.flag("revision") else None
    call.context.secrets.remove(call.words[0], revision, leader=call.context.is_leader())


@tool("leader-set", values="file")
@tool("add-metric")
@tool("payload-register")
@tool("payload-unregister")
@tool("payload-status-set")
def nothing(call: Call) -> None:
    """Tools of Juju's past: taken, without effect."""
