"""What moves the controller when nobody asks it to: machines, leases, forced removals.

One thread wakes on every change of a model and at the next deadline, and brings what runs in line
with what is recorded.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import threading
import time
import traceback
from typing import TYPE_CHECKING

from minijuju.agent import agent
from minijuju.machines import host, image, logs, machine, network
from minijuju.model import leases, lifecycle, records

if TYPE_CHECKING:
    from minijuju.model import store


class Manager:
    """Holds the hosts of all models of one home."""

    def __init__(self, memory: store.Store, home: pathlib.Path) -> None:
        self.store, self.home = memory, home
        self.hosts: dict[tuple[str, str], host.Host] = {}
        self.told = threading.Condition()
        """Notified after each look; callers wait here for tasks and removals."""
        self._wake = threading.Event()
        self._ending = False
        self._logs: dict[str, logs.Log] = {}
        self._networks: dict[str, network.Network] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)
        memory.listeners.append(self._changed)

    # -- life

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End all threads; machines run on."""
        self._ending = True
        self._wake.set()
        self._thread.join(10)
        for one in list(self.hosts.values()):
            one.end()

    def wake(self) -> None:
        """Look soon."""
        self._wake.set()

    def _changed(self, models: set[str]) -> None:
        for (uuid, _), one in list(self.hosts.items()):
            if uuid in models:
                one.wake_agents()
        self._wake.set()

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            pause: float | None = None
            try:
                pause = self._look()
            except Exception:
                traceback.print_exc()
                pause = 1.0
            with self.told:
                self.told.notify_all()
            self._wake.wait(pause)

    def _look(self) -> float | None:
        deadlines: list[float] = []
        for state in list(self.store.states.values()):
            if state.uuid not in self.store.models:
                continue
            self._tend_hosts(state)
            with self.store.transaction():
                deadline = leases.settle(state, lambda unit, of=state: self.speaks(of, unit))
                deadlines += [] if deadline is None else [deadline]
                deadlines += self._force(state)
                self._sweep_storage(state)
        return max(0.02, min(deadlines) - time.time()) if deadlines else None

    def _force(self, state: store.ModelState) -> list[float]:
        later: list[float] = []
        for unit in state.units:
            if unit.force_at is None or unit.name not in state.units:
                continue
            if unit.force_at <= time.time():
                lifecycle.force_out(state, unit)
                lifecycle.tidy_relations(state)
            else:
                later.append(unit.force_at)
        return later

    def _sweep_storage(self, state: store.ModelState) -> None:
        for instance in state.storage:
            if instance.life == records.DEAD:
                state.storage.remove(instance.id)
                if instance.directory:
                    shutil.rmtree(instance.directory, ignore_errors=True)

    def _tend_hosts(self, state: store.ModelState) -> None:
        with self.store.lock:
            names = state.machines.names()
        for name in names:
            key = (state.uuid, name)
            if key not in self.hosts:
                made = self.hosts[key] = self._host(state, name)
                made.begin()
        for key, one in list(self.hosts.items()):
            if key[0] == state.uuid:
                if one.gone:
                    del self.hosts[key]
                else:
                    self._poke_if_needed(state, key[1], one)

    def _poke_if_needed(self, state: store.ModelState, name: str, one: host.Host) -> None:
        with self.store.lock:
            record = state.machines.get(name)
            units = {unit.name for unit in state.units_on(name)}
            waiting = any(i.machine == name and i.attachment == "attaching" for i in state.storage)
        dead = record is None or record.life == records.DEAD
        living = {unit for unit, runner in one.agents.items() if runner.is_alive()}
        gone = set(one.agents) - units
        if dead or (one.available and (units != living or gone or waiting)):
            one.poke()

    def speaks(self, state: store.ModelState, unit: records.Unit) -> bool:
        """Whether a unit's agent is up and can reach the controller."""
        one = self.hosts.get((state.uuid, unit.machine))
        runner = one.agents.get(unit.name) if one and one.available else None
        return bool(runner and runner.ready)

    # -- machines

    def _host(self, state: store.ModelState, name: str) -> host.Host:
        return host.Host(
            state, name, lambda: self._machine(state, name), self.log(state), self.home, self.wake
        )

    def directory(self, state: store.ModelState) -> pathlib.Path:
        """Where a model's machines are kept."""
        return self.home / "models" / state.uuid

    def network(self, state: store.ModelState) -> network.Network:
        """A model's network, up."""
        with self._lock:
            if state.uuid not in self._networks:
                made = network.Network(self.directory(state) / "network")
                made.up()
                self._networks[state.uuid] = made
            return self._networks[state.uuid]

    def _machine(self, state: store.ModelState, name: str) -> machine.Machine:
        net = self.network(state)
        record = state.machines[name]
        address = net.address(int(name))
        if not record.address:
            with self.store.transaction():
                state.machines[name].address = str(address)
                state.machines[name].gateway = str(net.gateway)
        directory = self.directory(state) / "machines" / name
        if record.status.current == "running" and (directory / "machine.json").exists():
            return machine.Machine.load(directory)
        return machine.Machine(
            directory,
            image=image.ensure(),
            name=f"{state.name}/{name}",
            hostname=record.hostname,
            network=net,
            address=address,
        )

    def log(self, state: store.ModelState) -> logs.Log:
        """A model's log."""
        with self._lock:
            if state.uuid not in self._logs:
                self._logs[state.uuid] = logs.Log(self.directory(state) / "model.log")
            return self._logs[state.uuid]

    def host(self, state: store.ModelState, name: str) -> host.Host:
        """The host of a machine; raises KeyError."""
        return self.hosts[state.uuid, name]

    def agent(self, state: store.ModelState, unit: records.Unit) -> agent.Agent | None:
        """A unit's agent, if it is up."""
        one = self.hosts.get((state.uuid, unit.machine))
        return one.agents.get(unit.name) if one else None

    def wait(self, done: object, timeout: float) -> bool:
        """Wait until `done()` is true or `timeout` seconds have passed; whether it is true."""
        deadline = time.monotonic() + timeout
        with self.told:
            while not done():  # type: ignore[operator]
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return False
                self.told.wait(rest)
        return True

    def drop(self, state: store.ModelState) -> None:
        """Remove what a destroyed model left on the host."""
        with self._lock:
            net = self._networks.pop(state.uuid, None)
            self._logs.pop(state.uuid, None)
        if net is None and (self.directory(state) / "network").exists():
            net = network.Network(self.directory(state) / "network")
        if net is not None:
            with contextlib.suppress(Exception):
                net.down()
        for folder in (self.directory(state), self.home / "storage" / state.uuid):
            shutil.rmtree(folder, ignore_errors=True)
