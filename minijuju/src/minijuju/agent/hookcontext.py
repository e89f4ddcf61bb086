"""One run of a hook, an action or a command: its environment, what it reads, what it buffers.

A context is the only thing a hook tool talks to. What Juju applies together when the script exits
0 is kept here until `flush`; leadership is checked again there, and any refusal undoes all of it.
"""

from __future__ import annotations

import dataclasses
import secrets as tokens
import time
from typing import TYPE_CHECKING, Any

from minijuju.model import errors, leases, records, relations, secrets, storage

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from minijuju.model import charm, store

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
AGENTS = "/var/lib/juju/agents"
TOOLS = "/var/lib/juju/tools"


def tag(unit: str) -> str:
    """`unit-db-0` for `db/0`."""
    return "unit-" + unit.replace("/", "-")


class BagCache:
    """Remote unit bags as an agent has read them; one for each agent session."""

    def __init__(self) -> None:
        self._bags: dict[tuple[int, str], dict[str, str]] = {}

    def get(self, relation: int, unit: str) -> dict[str, str] | None:
        """A cached bag."""
        return self._bags.get((relation, unit))

    def put(self, relation: int, unit: str, data: dict[str, str]) -> None:
        """Remember a bag."""
        self._bags[relation, unit] = data

    def forget(self, relation: int, unit: str) -> None:
        """Read it afresh next time."""
        self._bags.pop((relation, unit), None)

    def prune(self, joined: Callable[[int], list[str]]) -> None:
        """Keep the bags of joined units only: others are read afresh by each script."""
        for relation, unit in list(self._bags):
            if unit not in joined(relation):
                self.forget(relation, unit)


@dataclasses.dataclass
class Buffer:
    """What waits for the script's success."""

    units: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict)
    apps: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict)
    ports: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    """("open" or "close", range)."""
    storage: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    charm_state: dict[str, str | None] = dataclasses.field(default_factory=dict)
    """Values set, None for deleted keys."""


class Context:
    """What one script may see and do. Attributes end when the script ends."""

    def __init__(
        self,
        state: store.ModelState,
        unit: str,
        bags: BagCache,
        home: pathlib.Path,
        *,
        hook: records.Hook | None = None,
        task: records.Task | None = None,
    ) -> None:
        self.state, self.unit_name, self.bags, self.home = state, unit, bags, home
        self.hook, self.task = hook, task
        what = hook.name if hook else task.name if task else "juju-run"
        self.id = f"{unit}-{what}-{tokens.token_hex(8)}"
        self.buffer = Buffer()
        self.secrets = secrets.Changes(state, unit)
        self.status_set = False
        self.reboot = ""
        """"after" for `juju-reboot`, "now" with `--now`."""
        self.results: dict[str, Any] = {}
        self.failure: str | None = None
        self._deposed = False
        self._config: dict[str, Any] | None = None
        bags.prune(self.members)
        if hook and hook.relation is not None and hook.kind != "relation-departed":
            bags.forget(hook.relation, hook.remote_unit)

    # -- what is read

    @property
    def unit(self) -> records.Unit:
        """The unit's record as it is now."""
        return self.state.units[self.unit_name]

    @property
    def application(self) -> records.Application:
        """The application's record as it is now."""
        return self.state.applications[self.unit.application]

    @property
    def meta(self) -> charm.Meta:
        """The charm that the unit runs."""
        return relations.running(self.state, self.unit)

    def is_leader(self) -> bool:
        """Whether the unit leads; once false in a context, always false."""
        if self._deposed or not leases.leads(self.state, self.unit):
            self._deposed = True
        return not self._deposed

    def config(self, *, everything: bool = False) -> dict[str, Any]:
        """The effective configuration, as it was when first asked for."""
        if self._config is None:
            self._config = self.meta.settings(self.application.config, everything=True)
        return {k: v for k, v in self._config.items() if everything or v is not None}

    def relation(self, identity: int) -> records.Relation:
        """A relation that the unit has; raises "relation not found"."""
        relation = self.state.relations.get(identity)
        if relation is None or self.unit_name not in relation.units:
            raise errors.JujuError("relation not found")
        return relation

    def relation_ids(self, endpoint: str) -> list[str]:
        """Ids such as `db:3` of an endpoint's relations, without one that is broken."""
        found: list[int] = []
        for relation in self.state.relations_of(self.unit.application):
            bag = relation.units.get(self.unit_name)
            if relation.end(self.unit.application).name != endpoint or not bag:
                continue
            ending = relation.life != records.ALIVE or not bag.in_scope
            if not relation.peer and ending and not self.members(relation.id):
                continue
            found.append(relation.id)
        return [f"{endpoint}:{number}" for number in sorted(found)]

    def members(self, relation: int) -> list[str]:
        """The remote units that this unit has joined, the present hook's counted."""
        mine = self.unit.state.relations.get(relation)
        found = set(mine.members) if mine else set()
        hook = self.hook
        if hook and hook.relation == relation:
            if hook.kind == "relation-joined":
                found.add(hook.remote_unit)
            elif hook.kind == "relation-departed":
                found.discard(hook.remote_unit)
            elif hook.kind == "relation-broken":
                found.clear()
        return sorted(found)

    def bag(self, identity: int, target: str) -> dict[str, str]:
        """A bag as this script sees it: own ones with buffered writes, remote ones cached."""
        relation = self.relation(identity)
        own_unit = target == self.unit_name
        own_app = target == self.unit.application
        if own_unit or "/" not in target:
            data = relations.read(
                self.state, relation, self.unit, target, leader=own_app and self.is_leader()
            )
        else:
            data = self._remote(relation, target)
        pending = self.buffer.units if own_unit else self.buffer.apps if own_app else {}
        for key, value in pending.get(identity, {}).items():
            data[key] = value
        return {key: value for key, value in data.items() if value != ""}

    def _remote(self, relation: records.Relation, target: str) -> dict[str, str]:
        data = self.bags.get(relation.id, target)
        if data is None:
            data = relations.read(self.state, relation, self.unit, target, leader=False)
            self.bags.put(relation.id, target, data)
        return dict(data)

    def set_bag(self, identity: int, changes: dict[str, str], *, app: bool) -> None:
        """Buffer changes of the own unit's or application's bag."""
        self.relation(identity)
        if app and not self.is_leader():
            raise errors.JujuError("cannot write relation settings")
        target = self.buffer.apps if app else self.buffer.units
        target.setdefault(identity, {}).update(changes)

    def ports(self) -> list[dict[str, Any]]:
        """Opened ranges with the buffered changes."""
        ports = [dict(port) for port in self.unit.ports]
        for verb, port in self.buffer.ports:
            ports = _apply_port(ports, verb, port)
        return ports

    def charm_state(self) -> dict[str, str]:
        """`state-get` with the buffered changes."""
        merged: dict[str, str | None] = {**self.unit.state.charm_state, **self.buffer.charm_state}
        return {key: value for key, value in merged.items() if value is not None}

    def storage(self) -> list[records.StorageInstance]:
        """Instances that are attached to the unit, one that is being detached included."""
        return [i for i in self.state.storage_of(self.unit_name) if i.attachment != "attaching"]

    # -- the environment

    def environment(self) -> dict[str, str]:
        """Exactly what the script gets (juju.md 2.1)."""
        unit, config = self.unit, self.state.model.config
        charm_dir = f"{AGENTS}/{tag(unit.name)}/charm"
        env = {
            "CHARM_DIR": charm_dir,
            "JUJU_CHARM_DIR": charm_dir,
            "JUJU_CONTEXT_ID": self.id,
            "JUJU_HOOK_NAME": self.hook.name if self.hook else "",
            "JUJU_AGENT_SOCKET_ADDRESS": "/var/lib/minijuju/agent.socket",
            "JUJU_AGENT_SOCKET_NETWORK": "unix",
            "JUJU_UNIT_NAME": unit.name,
            "JUJU_MODEL_UUID": self.state.uuid,
            "JUJU_MODEL_NAME": self.state.name,
            "JUJU_API_ADDRESSES": config.get("minijuju-api-address", "127.0.0.1:17070"),
            "JUJU_MACHINE_ID": unit.machine,
            "JUJU_PRINCIPAL_UNIT": unit.principal,
            "JUJU_AVAILABILITY_ZONE": "",
            "JUJU_VERSION": self.state.behaviour.version,
            "CLOUD_API_VERSION": "",
            **dict(self.state.behaviour.variables),
            "JUJU_CHARM_HTTP_PROXY": config.get("juju-http-proxy", ""),
            "JUJU_CHARM_HTTPS_PROXY": config.get("juju-https-proxy", ""),
            "JUJU_CHARM_FTP_PROXY": config.get("juju-ftp-proxy", ""),
            "JUJU_CHARM_NO_PROXY": config.get("juju-no-proxy", "127.0.0.1,localhost,::1"),
            "JUJU_DISPATCH_PATH": self._dispatch_path(),
            "PATH": f"{TOOLS}/{tag(unit.name)}:{SEARCH_PATH}",
            "DEBIAN_FRONTEND": "noninteractive",
            "APT_LISTCHANGES_FRONTEND": "none",
            "LANG": "C.UTF-8",
            "TERM": "tmux-256color",
        }
        for name in ("http", "https", "ftp", "no"):
            if config.get(f"{name}-proxy"):
                env[f"{name}_proxy"] = env[f"{name.upper()}_PROXY"] = config[f"{name}-proxy"]
        env.update(self._hook_environment())
        return env

    def _dispatch_path(self) -> str:
        if self.hook:
            return f"hooks/{self.hook.name}"
        if self.task and self.task.name != "juju-exec":
            return f"actions/{self.task.name}"
        return ""

    def _hook_environment(self) -> dict[str, str]:
        hook, env = self.hook, dict[str, str]()
        if self.task and self.task.name != "juju-exec":
            env["JUJU_ACTION_NAME"] = self.task.name
            env["JUJU_ACTION_UUID"] = self.task.id
            env["JUJU_ACTION_TAG"] = f"action-{self.task.id}"
        if hook is None:
            return env
        if hook.relation is not None:
            endpoint = hook.name.rsplit("-relation-", 1)[0]
            env["JUJU_RELATION"] = endpoint
            env["JUJU_RELATION_ID"] = f"{endpoint}:{hook.relation}"
            env["JUJU_REMOTE_UNIT"] = hook.remote_unit
            env["JUJU_REMOTE_APP"] = hook.remote_app
            if hook.departing:
                env["JUJU_DEPARTING_UNIT"] = hook.departing
        if hook.storage:
            instance = self.state.storage[hook.storage]
            env["JUJU_STORAGE_ID"] = hook.storage
            env["JUJU_STORAGE_LOCATION"] = instance.location
            env["JUJU_STORAGE_KIND"] = instance.kind
        if hook.secret:
            env["JUJU_SECRET_ID"] = f"secret:{hook.secret}"
            env["JUJU_SECRET_LABEL"] = hook.secret_label
            if hook.kind in ("secret-expired", "secret-remove"):
                env["JUJU_SECRET_REVISION"] = str(hook.secret_revision)
        return env

    # -- the end

    def flush(self) -> None:
        """Apply all that was buffered (inside a transaction); raises if any part is refused."""
        leader = leases.leads(self.state, self.unit)
        if self.buffer.apps and not leader:
            raise errors.JujuError("cannot write relation settings: this unit is not the leader")
        for identity, changes in self.buffer.units.items():
            relation = self.state.relations.get(identity)
            if relation and self.unit_name in relation.units:
                relations.write(relation.units[self.unit_name], changes)
        for identity, changes in self.buffer.apps.items():
            relation = self.state.relations.get(identity)
            if relation:
                relations.write(relation.apps[self.unit.application], changes)
        self._flush_ports()
        for name, directive in self.buffer.storage:
            storage.add(self.state, self.unit, name, directive, self.home)
        if self.buffer.charm_state:
            self._flush_charm_state()
        self.secrets.apply(leader=leader)

    def _flush_ports(self) -> None:
        ports = self.ports()
        for verb, port in self.buffer.ports:
            alone = verb == "close" or self.state.behaviour.shared_ports
            for other in () if alone else self.state.units_on(self.unit.machine):
                for taken in other.ports if other.name != self.unit_name else ():
                    if _overlaps(port, taken):
                        raise errors.JujuError(
                            f'cannot open {port_text(port)} (unit "{self.unit_name}"): port '
                            f'range conflicts with {port_text(taken)} (unit "{other.name}")'
                        )
        self.unit.ports = ports

    def _flush_charm_state(self) -> None:
        values = self.charm_state()
        for key, value in values.items():
            if len(key) > 256 or len(value) > 65536:
                raise errors.JujuError(f'state key "{key}" or its value exceeds the limit')
        if sum(len(key) + len(value) for key, value in values.items()) > 2 * 2**20:
            raise errors.JujuError("charm state exceeds the limit of 2 MiB")
        self.unit.state.charm_state = values

    def log_action(self, message: str) -> None:
        """Add a line to the task's log."""
        assert self.task
        self.state.tasks[self.task.id].log.append((time.time(), message))


def _apply_port(
    ports: list[dict[str, Any]], verb: str, port: dict[str, Any]
) -> list[dict[str, Any]]:
    if verb == "open":
        return ports if port in ports else [*ports, port]
    if port["endpoint"]:
        return [p for p in ports if p != port]
    return [p for p in ports if {**p, "endpoint": ""} != port]


def _overlaps(one: dict[str, Any], two: dict[str, Any]) -> bool:
    if one["protocol"] != two["protocol"] or one["protocol"] == "icmp":
        return False
    return one["from"] <= two["to"] and two["from"] <= one["to"]


def port_text(port: dict[str, Any]) -> str:
    """`80/tcp`, `8000-8010/udp`, `icmp`."""
    if port["protocol"] == "icmp":
        return "icmp"
    first, last = port["from"], port["to"]
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{numbers}/{port['protocol']}"
