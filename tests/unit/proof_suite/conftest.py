"""A cluster that exists on paper, with everything that cases and pairs ask of a laboratory."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import pytest


class Juju:
    """Units come and go as they are told, at once."""

    def __init__(self) -> None:
        self.count = 0
        self.units: list[str] = []
        self.commands: list[tuple[str, ...]] = []

    def deploy(self, charm: object, app: str, num_units: int = 1, **_: Any) -> None:
        if app == "etcd":
            self.add_unit(app, num_units=num_units)

    def add_unit(self, _app: str, num_units: int = 1) -> None:
        for _ in range(num_units):
            self.units.append(f"etcd/{self.count}")
            self.count += 1

    def remove_unit(self, *units: str) -> None:
        for unit in units:
            self.units.remove(unit)

    def config(self, _app: str, values: dict[str, Any]) -> None:
        assert values

    def cli(self, *words: str) -> str:
        self.commands.append(words)
        if words[0] == "remove-unit":
            self.remove_unit(*(word for word in words if word.startswith("etcd/")))
        return ""


class Cluster:
    """What units say and what etcd says of them."""

    def __init__(self, juju: Juju) -> None:
        self.juju = juju
        self.shelled: list[str] = []

    def units(self) -> dict[str, Any]:
        status = types.SimpleNamespace(
            workload_status=types.SimpleNamespace(current="active", message="Healthy"),
            juju_status=types.SimpleNamespace(current="idle"),
        )
        return dict.fromkeys(self.juju.units, status)

    def leader(self) -> str:
        return self.juju.units[0]

    def says(self, unit: str, words: str, timeout: float = 240) -> str:
        assert unit in self.juju.units
        return words

    def serves(self, unit: str) -> bool:
        return unit in self.juju.units

    def shell(self, unit: str, command: str, *, ok: bool = True) -> str:
        assert unit in self.juju.units, unit
        self.shelled.append(command)
        return ""

    def members(self, unit: str) -> dict[str, Any]:
        assert unit in self.juju.units
        names = [name.replace("/", "-") for name in self.juju.units]
        return {"members": [{"ID": hash(name), "name": name} for name in names]}

    def lose_every_machine(self) -> None:
        lost = list(self.juju.units)
        self.juju.add_unit("etcd", num_units=len(lost))
        self.juju.remove_unit(*lost)


class Lab:
    """See `proof.lab.Lab`: the same names, and nothing real."""

    def __init__(self) -> None:
        self.juju = Juju()
        self.cluster = Cluster(self.juju)
        self.charm = "etcd.charm"
        self.complaints: list[str] = []
        self.told: list[str] = []
        self.settled: list[int] = []
        self.began = False
        self.refused = False
        self.number = 1
        self.undo: list[Any] = []

    def deploy(self, units: int = 3, **_: Any) -> None:
        self.juju.deploy(self.charm, "etcd", num_units=units)

    def begin(self) -> None:
        assert len(self.units()) > 0
        self.began = True

    def units(self) -> list[str]:
        return sorted(self.juju.units, key=lambda name: int(name.split("/")[1]))

    def others(self, *units: str) -> list[str]:
        return [unit for unit in self.units() if unit not in units]

    def machines(self, *units: str) -> list[str]:
        return [unit.split("/")[1] for unit in units]

    def record(self) -> dict[str, Any]:
        self.number += 2
        return {"number": self.number, "confirmed": True}

    def say(self, text: str) -> None:
        self.told.append(text)

    @contextlib.contextmanager
    def acting(self, name: str, target: str = "", text: str = ""):
        self.say(f"{name} {target} {text}")
        yield

    def chaos(self, verb: str, *units: str, undo: str = "", **options: str) -> None:
        assert units
        self.say(f"{verb} {units} {options}")
        if undo:
            self.undo.append(lambda: self.say(f"{undo} {units}"))

    def after(self, undo: Any) -> None:
        self.undo.append(undo)

    def heal(self) -> None:
        while self.undo:
            self.undo.pop()()

    def come_back(self) -> None:
        self.heal()

    def hold(self, unit: str, boundary: str) -> None:
        assert unit in self.juju.units
        assert boundary.split()[0] in ("before", "after")
        self.say(f"hold {unit} {boundary}")

    def await_held(self, unit: str, boundary: str, timeout: float = 120) -> bool:
        return f"hold {unit} {boundary}" in self.told

    def release(self, unit: str) -> None:
        assert unit in self.juju.units

    def release_later(self, unit: str) -> None:
        self.say(f"release {unit}")  # its machine may be gone

    def run(self, action: str, where: str = "", *, lost: bool = False, **params: Any) -> Any:
        assert not where or where in self.juju.units
        self.say(f"run {action} {params}")
        snapshot = {"path": "/a/snapshot.db"}
        return {"snapshot": snapshot, "backup": {"id": "b1", "revision": "7"}}

    def announce(self, action: str, unit: str, revision: int, text: str) -> None:
        assert revision

    def recover(self, unit: str) -> bool:
        return unit in self.juju.units

    def restore(self, timeout: float = 240, **source: str) -> bool:
        return bool(source)

    def remove_by_force(self, *units: str) -> None:
        self.juju.remove_unit(*units)

    def healthy(self, count: int, timeout: float) -> bool:
        return count == len(self.units())

    def settle(self, count: int, timeout: float = 240) -> bool:
        assert count == len(self.units()), (count, self.units())
        self.settled.append(count)
        return True

    def expect(self, words: str, check: Any, timeout: float) -> bool:
        if not self.within(timeout, check):
            self.complain(words)
            return False
        return True

    def complain(self, words: str) -> None:
        self.complaints.append(words)

    def within(self, timeout: float, check: Any, every: float = 1.0) -> bool:
        return bool(check())

    def pass_time(self, seconds: float) -> None:
        assert seconds > 0

    def write_gap(self, since: float) -> float:
        return 0.0

    def serve_backups(self) -> str:
        return "198.18.0.99"

    def use_backups(self, address: str) -> None:
        assert self.units(), address

    def share_machine(self, *units: str) -> None:
        assert set(units) <= set(self.juju.units)

    def shift_clock(self, unit: str) -> None:
        assert unit in self.juju.units

    def charm_is_on(self, unit: str) -> bool:
        return unit in self.juju.units

    def place(self, unit: str) -> None:
        assert unit in self.juju.units

    def learn(self) -> None:
        assert self.units()


@pytest.fixture
def lab() -> Lab:
    return Lab()
