"""One machine at work: bringing it up, noticing when it goes down, and serving its hook tools.

Each machine has a thread that creates and boots it and then waits for its first process to end.
While the machine is up, the units on it have agents.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import selectors
import shutil
import subprocess
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

from minijuju.agent import agent, hookcontext, toolserver
from minijuju.machines import network, system
from minijuju.model import records, spaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minijuju.machines import logs
    from minijuju.model import store

REBOOT_FLAGS = "/run/juju/reboot-monitor"
PROGRAMS = pathlib.Path(agent.__file__).with_name("tools")
PROGRAMS_INSIDE = "/var/lib/juju/tools/minijuju"
RETRY_SECONDS = 5.0
"""How long until a machine that failed to come up is tried again, more each time."""
READY_SECONDS = 90.0
"""How long a boot or reboot may take."""
CLIENT_INSIDE = f"{PROGRAMS_INSIDE}/hook-tool"
SERVICE = """\
[Unit]
Description=juju agent for machine-{machine}
After=basic.target
StartLimitIntervalSec=0

[Service]
ExecStart=/var/lib/juju/tools/machine-{machine}/jujud machine
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


class MachineLike(Protocol):
    """What is needed of `machine.Machine`; tests bring a fake."""

    directory: pathlib.Path

    @property
    def root(self) -> pathlib.Path: ...
    @property
    def run_dir(self) -> pathlib.Path: ...
    @property
    def boot_id(self) -> str | None: ...
    def state(self) -> Any: ...
    def leader(self) -> int | None: ...
    def create(self) -> None: ...
    def start(self) -> None: ...
    def reboot(self) -> None: ...
    def destroy(self) -> None: ...
    def attach(self, host_dir: pathlib.Path, inside_path: str) -> None: ...
    def detach(self, inside_path: str, *, force: bool = False) -> None: ...
    def popen(self, argv: list[str], **options: Any) -> subprocess.Popen[Any]: ...
    def run(self, argv: list[str], **options: Any) -> Any: ...


class Host:
    """The run-time side of one machine record."""

    def __init__(
        self,
        state: store.ModelState,
        identity: str,
        make: Callable[[], MachineLike],
        log: logs.Log,
        home: pathlib.Path,
        told: Callable[[], None],
    ) -> None:
        self.state, self.id, self.home, self.told = state, identity, home, told
        self.lock = threading.Lock()
        self.available = False
        self.looked = False
        """Whether the machine has been seen since the controller began."""
        self.agents: dict[str, agent.Agent] = {}
        self.gone = False
        self._make, self._log = make, log
        self._machine: MachineLike | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._ending = False
        self._rebooting = False
        self._paused = False
        self._up = False
        self._anchors = self._anchoring = self._anchored = 0
        self._boot: str | None = None
        self._tools: toolserver.ToolServer | None = None
        self._thread = threading.Thread(target=self._run, name=f"machine-{identity}", daemon=True)

    # -- life

    def begin(self) -> None:
        """Start the machine's thread."""
        self._thread.start()

    def poke(self) -> None:
        """Have the thread look at its record and its machine."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def end(self) -> None:
        """Stop agents and thread; the machine itself runs on."""
        self._ending = True
        self.poke()
        self._take_down()

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout)

    @property
    def machine(self) -> MachineLike:
        """The machine; raises `agent.Gone` before it exists."""
        if self._machine is None:
            raise agent.Gone(self.id)
        return self._machine

    @property
    def reachable(self) -> bool:
        """Whether one can get in: it is up and not paused, whatever its agents do."""
        return self._up and not self._stopped() and self.machine.state().value == "running"

    @property
    def record(self) -> records.MachineRecord | None:
        """The machine's record, None when it is gone."""
        return self.state.machines.get(self.id)

    def _run(self) -> None:
        failures = 0
        try:
            while not self._ending:
                try:
                    self._look()
                    self.looked, failures = True, 0
                    self.told()
                except agent.Gone:
                    pass
                except Exception as error:
                    traceback.print_exc()
                    failures += 1
                    self._complain(error, RETRY_SECONDS * failures)
                if self.gone:
                    return
                self._wait()
        finally:
            self._take_down()

    def _complain(self, error: Exception, pause: float) -> None:
        """Show what went wrong with the machine, and look again after `pause` seconds."""
        record = self.record
        if record and record.status.current != "running":
            self._machine = None
            self._status("provisioning error", str(error), agent="down")
        timer = threading.Timer(pause, self.poke)
        timer.daemon = True
        timer.start()

    def _bring_into_being(self) -> None:
        record = self.record
        if record is None:
            raise agent.Gone(self.id)
        fresh = record.status.current != "running"
        if fresh:
            self._status("allocating", "starting")
        self._machine = self._make()
        if fresh:
            self._machine.create()
            self._install_programs()
        if record.wanted == "running" and self._stopped():
            self._machine.start()
        self._status("running", "Container started")

    def _stopped(self) -> bool:
        return self.machine.state().value == "stopped"

    def _look(self) -> None:
        """Compare the machine with what was known of it, and act on the difference."""
        if self._dispose_if_dead():
            return
        if self._machine is None:
            self._bring_into_being()
        state = self.machine.state().value
        boot = self.machine.boot_id if state == "running" else None
        if self._up and (state == "stopped" or (state == "running" and boot != self._boot)):
            self._take_down()
        if state == "running" and not self._up:
            state = self._come_up_when_ready()
        if state == "stopped":
            self._went_down()
        self._paused = state == "paused"
        if self._up:
            self._check_anchor()
            self.available = state == "running" and not self._rebooting and self._anchors > 0
            if self.available:
                self._prepare_storage()
                self._tend_agents()

    def _wait(self) -> None:
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._wake_read, selectors.EVENT_READ)
            leader = self._machine.leader() if self._up and self._machine else None
            if leader is not None:
                with contextlib.suppress(ProcessLookupError):
                    handle = os.pidfd_open(leader)
                    stack.callback(os.close, handle)
                    selector.register(handle, selectors.EVENT_READ)
            selector.select()
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
        if leader is not None and not os.path.exists(f"/proc/{leader}"):
            time.sleep(0.1)  # a reboot keeps the machine's control group; a stop empties it

    def _come_up_when_ready(self) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopped():
            if os.path.exists(f"/proc/{self.machine.leader()}/root/run/minijuju-ready"):
                self._come_up()
                return "running"
            if time.monotonic() > deadline:
                raise TimeoutError(f"machine {self.id} is not ready after {READY_SECONDS:g} s")
            time.sleep(0.02)
        return "stopped"

    def _come_up(self) -> None:
        machine = self.machine
        self._boot = machine.boot_id
        self._rebooting = False
        self._install_programs()
        self._anchored = self._anchoring
        self._tools = toolserver.ToolServer(machine.run_dir, self)
        self._tools.start()
        self._up = True
        with self.state.store.transaction(quiet=True):
            record = self.record
            if record:
                record.wanted, record.mac = "running", self._mac()

    def _install_programs(self) -> None:
        """The hook tools' client, and the service without which there is no agent."""
        for name in ("hook-tool", "jujud"):
            target = self.path(f"{PROGRAMS_INSIDE}/{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.read_bytes() == (PROGRAMS / name).read_bytes():
                continue
            part = target.with_name(f".{name}")
            shutil.copyfile(PROGRAMS / name, part)
            part.chmod(0o755)
            part.rename(target)
        own = self.path(f"{hookcontext.TOOLS}/machine-{self.id}")
        own.mkdir(exist_ok=True)
        version = f"{self.state.behaviour.version}-ubuntu-{system.architecture()}"
        (own / "downloaded-tools.txt").write_text(f'{{"version":"{version}"}}\n')
        if not (own / "jujud").is_symlink():
            (own / "jujud").symlink_to(f"{PROGRAMS_INSIDE}/jujud")
        for name in toolserver.EXECUTORS:
            link = self.path(f"/usr/bin/{name}")
            if not link.is_symlink():
                link.symlink_to(CLIENT_INSIDE)
        name = f"jujud-machine-{self.id}.service"
        service = self.path(f"/etc/systemd/system/{name}")
        text = SERVICE.format(machine=self.id)
        if not service.exists() or service.read_text() != text:
            service.write_text(text)
        wanted = self.path(f"/etc/systemd/system/multi-user.target.wants/{name}")
        wanted.parent.mkdir(parents=True, exist_ok=True)
        if not wanted.is_symlink():
            wanted.symlink_to(f"/etc/systemd/system/{name}")

    def anchored(self, change: int) -> None:
        """The machine's own service has come (1) or gone (-1)."""
        with self.state.store.lock:
            self._anchors += change
            self._anchoring += change > 0
        self.poke()

    def _check_anchor(self) -> None:
        """Agents live as long as one connection of the machine's service."""
        if self.agents and (not self._anchors or self._anchored != self._anchoring):
            self.available = False
            self._stop_agents()
        self._anchored = self._anchoring
        speaking = self._anchors and not self._paused
        known = "started" if speaking else "down" if self._anchoring else ""
        self._status("running", "Container started", agent=known)

    def _went_down(self) -> None:
        record = self.record
        if record and record.agent.current == "started":
            self._status("stopped", "", agent="down")
            with self.state.store.transaction():
                if self.record:
                    self.record.wanted = "stopped"

    def _take_down(self) -> None:
        """Agents and tools end with the machine (or with the controller)."""
        self.available = self._up = False
        if self._tools:
            self._tools.stop()
            self._tools = None
        self._stop_agents()

    def _stop_agents(self) -> None:
        for one in list(self.agents.values()):
            one.stop()
        for one in list(self.agents.values()):
            if one is not threading.current_thread() and one.is_alive():
                one.join(5)
        self.agents.clear()

    def _dispose_if_dead(self) -> bool:
        record = self.record
        if record is not None and record.life != records.DEAD:
            return False
        self._take_down()
        machine = self._machine
        if machine is None and record is not None and record.status.current != "pending":
            machine = self._make()
        if machine is not None:
            machine.destroy()
        with self.state.store.transaction():
            self.state.machines.remove(self.id)
        self.gone = True
        self.told()
        return True

    def _status(self, current: str, message: str, agent: str = "") -> None:
        store = self.state.store
        with store.transaction():
            record = self.record
            if record is None:
                return
            if (record.status.current, record.status.message) != (current, message):
                record.status = records.Status(current, message)
                store.record_status(self.state, self.id, "machine", record.status)
            if agent and record.agent.current != agent:
                record.agent = records.Status(agent)
                store.record_status(self.state, self.id, "juju-machine", record.agent)

    # -- what is on it

    def _tend_agents(self) -> None:
        with self.state.store.lock:
            wanted = {unit.name for unit in self.state.units_on(self.id)}
        for name in wanted:
            one = self.agents.get(name)
            if one is None or not one.is_alive():
                self.agents[name] = agent.Agent(self.state, name, self, self.home)
                self.agents[name].start()
        for name in set(self.agents) - wanted:
            gone = self.agents.pop(name)
            gone.stop()
            gone.join(5)
        self._recall({hookcontext.tag(name) for name in wanted})

    def _recall(self, wanted: set[str]) -> None:
        """Remove the directories of units that are not on the machine any more.

        As the deployer does; what such a unit has installed or runs is left as it is.
        """
        for place in self.path(hookcontext.AGENTS).glob("unit-*"):
            if place.name not in wanted:
                shutil.rmtree(place, ignore_errors=True)
                shutil.rmtree(self.path(f"{hookcontext.TOOLS}/{place.name}"), ignore_errors=True)

    def wake_agents(self) -> None:
        """Something in the model has changed."""
        for one in list(self.agents.values()):
            one.wakeup.set()

    def _prepare_storage(self) -> None:
        with self.state.store.lock:
            waiting = [
                instance
                for instance in self.state.storage
                if instance.machine == self.id and instance.attachment == "attaching"
            ]
        for instance in waiting:
            if instance.directory:
                directory = pathlib.Path(instance.directory)
                directory.mkdir(parents=True, exist_ok=True)
                self.machine.attach(directory, instance.location)
            else:
                self.path(instance.location).mkdir(parents=True, exist_ok=True)
            with self.state.store.transaction():
                current = self.state.storage.get(instance.id)
                if current and current.attachment == "attaching":
                    current.attachment, current.since = "attached", time.time()

    def detach_storage(self, identity: str) -> None:
        """Take a detachable instance's directory away from the machine."""
        instance = self.state.storage.get(identity)
        if instance and instance.directory:
            self.machine.detach(instance.location, force=True)

    def agent_for(self, unit: str) -> agent.Agent | None:
        """The agent of a unit on this machine."""
        return self.agents.get(unit)

    def context_of(self, identity: str) -> tuple[hookcontext.Context, Any] | None:
        """The context of a running script, by its id, with what its tools need."""
        for one in list(self.agents.values()):
            context = one.context
            if context is not None and context.id == identity:
                return context, one.services
        return None

    # -- for agents

    def lost(self) -> bool:
        """Whether the machine is not the one that was up a moment ago."""
        if not self._up or self._stopped():
            return True
        return self.machine.state().value == "running" and self.machine.boot_id != self._boot

    def path(self, inside: str) -> pathlib.Path:
        """A machine's file as the host sees it."""
        return self.machine.root / inside.lstrip("/")

    def charm_dir(self, unit: str) -> pathlib.Path:
        """A unit's charm directory as the host sees it."""
        return self.path(f"{hookcontext.AGENTS}/{hookcontext.tag(unit)}/charm")

    def prepare_unit(self, unit: records.Unit) -> bool:
        """Directories and tool links of a unit; returns whether the machine has rebooted."""
        name = hookcontext.tag(unit.name)
        base = self.path(f"{hookcontext.AGENTS}/{name}")
        for folder in ("charm", "resources", "state"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        if not (base / "agent.conf").exists():
            (base / "agent.conf").write_text(f"tag: {name}\nmodel: model-{self.state.uuid}\n")
        tools = self.path(f"{hookcontext.TOOLS}/{name}")
        tools.mkdir(parents=True, exist_ok=True)
        for tool in toolserver.names():
            link = tools / tool
            if not link.is_symlink():
                link.symlink_to(CLIENT_INSIDE)
        flag = f"{REBOOT_FLAGS}/{name}"
        answer = self.machine.run(
            ["sh", "-c", f'test -e "$0" && exit 9; mkdir -p {REBOOT_FLAGS} && touch "$0"', flag],
            check=False,
        )
        return answer.returncode == 0

    def popen(
        self, argv: list[str], *, env: Mapping[str, str], cwd: str
    ) -> subprocess.Popen[bytes]:
        """Start a script with its output in pipes."""
        try:
            return self.machine.popen(
                argv, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except Exception as error:
            if self._stopped():
                raise agent.Gone(self.id) from error
            raise

    def reboot(self) -> None:
        """Reboot the machine; its thread notices and takes the agents down and up."""
        self._rebooting, self.available = True, False
        threading.Thread(target=self._reboot, daemon=True).start()

    def _reboot(self) -> None:
        try:
            self.machine.reboot()
        finally:
            self._rebooting = False
            self.poke()

    def log(self, unit: str, level: str, module: str, message: str) -> None:
        """A line in the model's log and the unit's own."""
        config = str(self.state.model.config.get("logging-config", "<root>=INFO"))
        entity = hookcontext.tag(unit) if "/" in unit else unit
        line = self._log.write(entity, level, module, message, config)
        if line and self._up:
            with contextlib.suppress(OSError):
                path = self.path(f"/var/log/juju/{entity}.log")
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(line)

    def address(self, unit: records.Unit, endpoint: str) -> str:
        """Where an endpoint of a unit is reached."""
        space = spaces.bound(self.state.applications[unit.application], endpoint)
        record = self.state.machines[unit.machine]
        if space == spaces.ALPHA and not self.state.model.spaces:
            return record.address
        machine: Any = self.machine
        found = spaces.addresses(self.state.model, machine, space)
        return found[0][0] if found else record.address

    def network_info(self, space: str, *, legacy: bool) -> dict[str, Any]:
        """`network-get`'s answer for an endpoint in this space."""
        machine: Any = self.machine
        addresses = spaces.addresses(self.state.model, machine, space)
        bound: dict[str, Any] = {
            "mac-address": self._mac(),
            "interface-name": network.INTERFACE,
            "addresses": [
                {"hostname": "", "value": value, "cidr": cidr} for value, cidr in addresses
            ],
        }
        if legacy:
            bound = {"macaddress": bound.pop("mac-address"), **bound}
            bound["interfacename"] = bound.pop("interface-name")
            for address in bound["addresses"]:
                address["address"] = address["value"]
        return {
            "bind-addresses": [bound],
            "egress-subnets": [spaces.egress(value) for value, _ in addresses[:1]],
            "ingress-addresses": [value for value, _ in addresses],
        }

    def _mac(self) -> str:
        leader = self.machine.leader()
        with contextlib.suppress(OSError):
            listing = pathlib.Path(
                f"/proc/{leader}/root/sys/class/net/{network.INTERFACE}/address"
            )
            return listing.read_text().strip()
        return ""
