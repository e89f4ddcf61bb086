"""A controller without machines: agents driven step by step, scripts that are Python functions."""

from __future__ import annotations

import pathlib
import threading
import types
from typing import TYPE_CHECKING, Any

import yaml

from minijuju.agent import agent, hooktools
from minijuju.controller import deployment
from minijuju.model import leases, lifecycle, records, relations, store

if TYPE_CHECKING:
    from collections.abc import Callable

METADATA: dict[str, Any] = {
    "name": "probe",
    "summary": "records its hooks",
    "description": "records its hooks",
    "peers": {"mates": {"interface": "probe-peer"}},
    "provides": {"db": {"interface": "probe"}},
    "requires": {"backend": {"interface": "probe"}},
}


class FakeHost:
    """A machine that is always up."""

    def __init__(self, world: World, machine: str) -> None:
        self.world, self.id = world, machine
        self.available = True
        self.lock = threading.Lock()
        self.lines: list[tuple[str, str]] = []

    def told(self) -> None:
        """Nobody waits."""

    def lost(self) -> bool:
        return not self.available

    def prepare_unit(self, unit: records.Unit) -> bool:
        return False

    def charm_dir(self, unit: str) -> pathlib.Path:
        return self.world.home / "charms-inside" / unit.replace("/", "-")

    def path(self, inside: str) -> pathlib.Path:
        return self.world.home / "inside" / self.id / inside.lstrip("/")

    def address(self, unit: records.Unit, endpoint: str) -> str:
        return self.world.state.machines[self.id].address

    def detach_storage(self, identity: str) -> None:
        """Nothing is mounted."""

    def log(self, unit: str, level: str, module: str, message: str) -> None:
        self.lines.append((level, message))


class Tools:
    """The hook tools as a script calls them."""

    def __init__(self, context: Any, services: Any) -> None:
        self.context, self.services = context, services

    def __call__(self, *argv: str, stdin: str = "", fails: int = 0) -> str:
        code, out, err = hooktools.call(
            self.context, list(argv), lambda _: stdin.encode(), self.services
        )
        assert code == fails, (argv, err)
        return err if fails else out


class DrivenAgent(agent.Agent):
    """An agent whose scripts are functions; `world.step` drives it instead of a thread."""

    world: World

    def script(self, context: Any, path: str, line: Any, **_: Any) -> int:
        name = path.rsplit("/", 1)[1]
        env = context.environment()
        self.world.ran.append((self.unit_name, name, env))
        self.context = context
        act = self.world.scripts.get(f"{self.unit_name}:{name}") or self.world.scripts.get(name)
        return (act(Tools(context, self.services)) or 0) if act else 0


class World:
    """One model with everything in memory."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self.store = store.Store()
        with self.store.transaction():
            self.state = self.store.new_model(records.Model("m", "uuid-of-m"))
        self.ran: list[tuple[str, str, dict[str, str]]] = []
        self.scripts: dict[str, Callable[[Tools], int | None]] = {}
        self.hosts: dict[str, FakeHost] = {}
        self.agents: dict[str, DrivenAgent] = {}
        self.silent: set[str] = set()

    def charm(self, name: str = "probe", **metadata: Any) -> pathlib.Path:
        """Write a charm's directory; keyword arguments change its metadata."""
        folder = self.home / f"charm-{name}-{len(list(self.home.iterdir()))}"
        folder.mkdir(parents=True)
        config = metadata.pop("config", {})
        actions = metadata.pop("actions", {})
        (folder / "metadata.yaml").write_text(
            yaml.safe_dump({**METADATA, "name": name, **metadata})
        )
        (folder / "config.yaml").write_text(yaml.safe_dump({"options": config}))
        (folder / "actions.yaml").write_text(yaml.safe_dump(actions))
        (folder / "dispatch").touch(0o755)
        return folder

    def deploy(self, application: str, units: int = 1, **metadata: Any) -> list[str]:
        """Deploy a charm of the application's name."""
        path = self.charm(application, **metadata)
        uploaded = deployment.upload_charm(self.state, self.home, str(path))
        count = None if metadata.get("subordinate") else units
        with self.store.transaction():
            return deployment.deploy(self.state, self.home, uploaded, application, count, [], {})[
                "units"
            ]

    def add_unit(self, application: str) -> str:
        """One more unit."""
        with self.store.transaction():
            record = self.state.applications[application]
            return deployment.add_units(self.state, self.home, record, 1, [], [])[0]

    def integrate(self, first: str, second: str) -> records.Relation:
        """Relate two endpoints."""
        with self.store.transaction():
            return relations.integrate(self.state, first, second)

    def remove_unit(self, unit: str, **options: Any) -> None:
        """Begin a unit's removal."""
        with self.store.transaction():
            lifecycle.destroy_unit(self.state, self.state.units[unit], **options)

    def agent(self, unit: str) -> DrivenAgent:
        """A unit's agent, made on first use and again after `restart`."""
        if unit not in self.agents:
            machine = self.state.units[unit].machine
            host = self.hosts.setdefault(machine, FakeHost(self, machine))
            made = DrivenAgent(self.state, unit, host, self.home)  # type: ignore[arg-type]
            made.world = self
            made._set_up()
            self.agents[unit] = made
        return self.agents[unit]

    def restart(self, unit: str) -> None:
        """Forget an agent's memory of this run."""
        self.agents.pop(unit, None)

    def settle_leases(self, now: float | None = None) -> None:
        """What the manager does on each change."""
        with self.store.transaction():
            leases.settle(
                self.state, lambda u: u.name in self.agents and u.name not in self.silent, now
            )
            for record in self.state.machines:
                record.address = record.address or f"198.18.0.{10 + int(record.id)}"
            for instance in self.state.storage:
                if instance.attachment == "attaching":
                    instance.attachment = "attached"

    def step(self, unit: str) -> bool:
        """One operation of a unit; whether there was one."""
        if unit not in self.state.units:
            self.agents.pop(unit, None)
            return False
        one = self.agent(unit)
        self.settle_leases()
        operation, remote, _ = one._decide()
        if operation is None:
            one._idle(remote)
            return False
        one._perform(operation, remote)
        return True

    def run(self, *units: str, limit: int = 500) -> list[str]:
        """Run agents in turn until none has anything to do; returns `unit:hook` in order."""
        before = len(self.ran)
        for _ in range(limit):
            chosen = units or tuple(
                name for name in self.state.units.names() if name not in self.silent
            )
            if not [name for name in chosen if self.step(name)]:
                return [f"{unit}:{name}" for unit, name, _ in self.ran[before:]]
        raise AssertionError("the agents do not come to rest")

    def hooks(self, unit: str) -> list[str]:
        """The hooks that a unit has run."""
        return [name for who, name, _ in self.ran if who == unit]

    def environment(self, unit: str, hook: str) -> types.SimpleNamespace:
        """The environment of a unit's last run of a hook."""
        found = [env for who, name, env in self.ran if (who, name) == (unit, hook)]
        return types.SimpleNamespace(**found[-1])
