"""A unit's agent: one thread, one operation at a time, for as long as its machine is up.

An agent lives from one start of its machine to the next stop; what it must remember longer is in
`records.AgentState`. It waits on an event that any change of the model sets, or for the earliest
timer (retry, update-status, secrets).
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from minijuju.agent import actions, hookcontext, observe, process, services
from minijuju.model import (
    charm,
    errors,
    leases,
    lifecycle,
    records,
    relations,
    resolver,
    secrets,
    storage,
)

if TYPE_CHECKING:
    import pathlib

    from minijuju.agent import ports
    from minijuju.model import store

RETRY_SECONDS = (5.0, 300.0)
"""First and longest wait before a failed hook is tried again."""


class Gone(Exception):
    """The machine went away under the agent; nothing is to be recorded."""


@dataclasses.dataclass
class Command:
    """A `juju-exec` from inside the machine, waiting for its turn."""

    script: str
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    code: int = 1
    stdout: str = ""
    stderr: str = ""


class Agent(threading.Thread):
    """The agent of one unit during one run of its machine."""

    def __init__(
        self, state: store.ModelState, unit: str, place: ports.Place, home: pathlib.Path
    ) -> None:
        super().__init__(name=f"agent-{unit}", daemon=True)
        self.state, self.unit_name, self.host, self.home = state, unit, place, home
        self.store = state.store
        self.wakeup = threading.Event()
        self.ready = False
        self.context: hookcontext.Context | None = None
        self.commands: list[Command] = []
        self.bags = hookcontext.BagCache()
        self.services = services.Services(self)
        self._running: process.Running | None = None
        self._ending = False
        self._rebooted = False
        self._attempts = 0
        self._retry_at: float | None = None
        self._update_every = ""
        self._update_at = 0.0

    SKIPPED = -1000
    """In place of an exit code: there is no script for this hook."""

    def ended(self) -> bool:
        """Whether agent or machine ended while a script ran."""
        return self._ending or self.host.lost()

    # -- from other threads

    def stop(self) -> None:
        """End the thread; a running script is killed and stays recorded as begun."""
        self._ending = True
        running = self._running
        if running:
            running.interrupt()
        self.wakeup.set()

    def interrupt(self, number: int = signal.SIGTERM) -> None:
        """Signal the running script."""
        running = self._running
        if running:
            running.interrupt(number)

    def submit(self, script: str) -> Command:
        """Queue a `juju-exec` of the machine."""
        command = Command(script)
        with self.store.lock:
            self.commands.append(command)
        self.wakeup.set()
        return command

    # -- the loop

    def run(self) -> None:
        """Set up, then act until told to end or the unit is gone."""
        try:
            self._set_up()
            while not self._ending:
                self.wakeup.clear()
                if not self.host.available:
                    self.wakeup.wait()
                    continue
                operation, remote, pause = self._decide()
                if operation is None:
                    self._idle(remote)
                    self.wakeup.wait(pause)
                    continue
                self._perform(operation, remote)
        except Gone:
            pass
        except Exception as error:
            if self.unit_name in self.state.units:
                traceback.print_exc()
                self._crash(error)
        finally:
            self.ready = False
            for command in self.commands:
                command.done.set()

    def _crash(self, error: Exception) -> None:
        """An error of our own: show it, and let the next start of the agent try again."""
        if self._ending or not self.host.available:
            return
        self.services.log("ERROR", "juju.worker.uniter", f"agent ended: {error!r}")
        with self.store.transaction(quiet=True):
            if self.unit_name in self.state.units:
                self.agent_status("failed", f"agent ended: {error}")
        time.sleep(RETRY_SECONDS[0])
        threading.Timer(0.1, self.host.poke).start()

    @property
    def unit(self) -> records.Unit:
        """The unit's record."""
        unit = self.state.units.get(self.unit_name)
        if unit is None:
            raise Gone(self.unit_name)
        return unit

    def _plan_update(self) -> None:
        """Set the next update-status: an interval from now, give or take a fifth."""
        self._update_every = self._interval()
        seconds = max(1.0, secrets.moment(self._update_every) - time.time())
        self._update_at = time.time() + seconds * random.uniform(0.8, 1.2)

    def _interval(self) -> str:
        return str(self.state.model.config.get("update-status-hook-interval", "5m"))

    def _decide(self) -> tuple[resolver.Operation | None, resolver.Remote, float | None]:
        now = time.time()
        with self.store.lock:
            unit = self.unit
            if self._update_every != self._interval():
                self._plan_update()
            retry = self._retry_at is not None and now >= self._retry_at
            automatic = self.state.model.config.get("automatically-retry-hooks", True)
            remote, later = observe.observe(
                self.state,
                unit,
                command=bool(self.commands),
                rebooted=self._rebooted,
                retry_due=retry and automatic,
                update_due=now >= self._update_at,
            )
            operation = resolver.next_operation(unit.state, remote, self.unit_name)
            timers = [later, self._update_at if unit.state.started else None]
            if unit.state.step == "pending" and automatic:
                timers.append(self._retry_at)
            if self._rebooted and unit.state.hook is None and not unit.state.started:
                self._rebooted = False
        soonest = min((timer for timer in timers if timer is not None), default=None)
        pause = None if soonest is None else max(0.05, soonest - now)
        return operation, remote, pause

    def _perform(self, operation: resolver.Operation, remote: resolver.Remote) -> None:
        if operation.kind in ("hook", "skip"):
            assert operation.hook
            self._hook(operation.hook, remote, skip=operation.kind == "skip")
            return
        with self.machine_lock():
            if operation.kind in ("deploy", "upgrade"):
                self._deploy(upgrade=operation.kind == "upgrade")
        if operation.kind == "task":
            actions.perform(self, operation.task)
        elif operation.kind == "command":
            self._command()
        elif operation.kind == "enter":
            self._enter_scopes()
        elif operation.kind == "leave":
            self._leave(operation.relation)
        elif operation.kind == "resign":
            with self.store.transaction():
                self.unit.state.leader = False
        elif operation.kind == "dead":
            with self.store.transaction():
                lifecycle.bury(self.state, self.unit)
                lifecycle.tidy_relations(self.state)
            self._ending = True

    @contextlib.contextmanager
    def machine_lock(self) -> Any:
        """Hold the machine: one script at a time on it; raises `Gone` when the agent must end."""
        while not self.host.lock.acquire(timeout=1):
            if self._ending or not self.host.available:
                raise Gone(self.unit_name)
        try:
            if self._ending:
                raise Gone(self.unit_name)
            yield
        finally:
            self.host.lock.release()

    # -- statuses

    def _idle(self, remote: resolver.Remote) -> None:
        unit = self.unit
        failed = unit.state.step == "pending"
        if unit.agent.current not in ("idle", "error") or (unit.agent.current == "error") > failed:
            with self.store.transaction(quiet=True):
                self.agent_status("idle")

    def agent_status(self, current: str, message: str = "", **data: Any) -> None:
        """Set juju-status (inside a transaction)."""
        unit = self.unit
        if (unit.agent.current, unit.agent.message) == (current, message):
            return
        unit.agent = records.Status(current, message, data=data)
        self.store.record_status(self.state, unit.name, "juju-unit", unit.agent)

    def _workload(self, current: str, message: str = "") -> None:
        self.unit.workload = records.Status(current, message)
        self.store.record_status(self.state, self.unit_name, "workload", self.unit.workload)

    # -- the start

    def _set_up(self) -> None:
        unit = self.unit
        process.kill_context(unit.state.context_id)
        self._rebooted = self.host.prepare_unit(unit)
        with self.store.transaction():
            unit = self.unit
            for task in self.state.tasks:
                if task.receiver == unit.name and task.status in ("running", "aborting"):
                    actions.finish(task, "failed", "action terminated")
            self._forget_peers()
            if unit.state.step == "pending":
                self._failed(unit.state.hook)
            elif unit.state.deployed:
                self.agent_status("idle")
            else:
                self._workload("waiting", "agent initialising")
                self.agent_status("executing")
            self.ready = True
        self.host.told()

    def _forget_peers(self) -> None:
        """Leave out peers that are gone, where no hook has told or will tell of them."""
        if self.state.behaviour.peer_departed:
            return
        for number, mine in self.unit.state.relations.items():
            relation = self.state.relations.get(number)
            if relation and relation.peer:
                there = relations.members(self.state, relation, self.unit)
                mine.members = {unit: seen for unit, seen in mine.members.items() if unit in there}

    def _deploy(self, *, upgrade: bool) -> None:
        with self.store.lock:
            unit = self.unit
            application = self.state.applications[unit.application]
            url, version = application.charm_url, application.charm_modified_version
            previous = list(unit.state.manifest)
            source = charm.load(relations.meta(self.state, unit.application).directory)
        manifest = charm.deploy(source.directory, self.host.charm_dir(unit.name), url, previous)
        with self.store.transaction():
            unit = self.unit
            state = unit.state
            state.manifest = manifest
            state.deployed = True
            unit.charm_url, unit.charm_modified_version = url, version
            if upgrade and state.hook is None:
                state.hook, state.step = records.Hook("upgrade-charm"), "queued"

    def _enter_scopes(self) -> None:
        with self.store.transaction():
            unit = self.unit
            seen = observe.observe(self.state, unit)[0].relations
            for relation in self.state.relations_of(unit.application):
                known = seen[relation.id]
                if known.alive and known.known and not known.in_scope:
                    address = self.host.address(unit, relation.endpoint(unit.application).name)
                    relations.enter(self.state, relation, unit, address)

    def _leave(self, identity: int | None) -> None:
        relation = self.state.relations.get(identity)
        if relation:
            with self.store.transaction():
                relations.leave(self.state, relation, self.unit_name)
                lifecycle.tidy_relations(self.state)

    # -- hooks

    def _hook(self, hook: records.Hook, remote: resolver.Remote, *, skip: bool) -> None:
        if skip:
            with self.store.transaction():
                self.unit.resolved = ""
                self._commit(hook, remote, None)
            return
        with self.machine_lock():
            if hook.kind == "relation-created":
                self._enter_scopes()
            if self._prepare(hook):
                self._execute(hook, remote)
        if hook.name == "update-status":
            self._plan_update()

    def _prepare(self, hook: records.Hook) -> bool:
        """Record that a hook begins; False when it has become moot."""
        with self.store.transaction(quiet=True):
            unit = self.unit
            if self._moot(hook):
                unit.state.hook, unit.state.step = None, ""
                self._attempts, self._retry_at = 0, None
                return False
            self.context = hookcontext.Context(
                self.state, self.unit_name, self.bags, self.home, hook=hook
            )
            unit.state.hook, unit.state.step = hook, "pending"
            unit.resolved = ""
            if hook.name != "update-status":
                self.agent_status("executing", f"running {hook.name} hook")
            if hook.name == "install" and not unit.state.status_set:
                self._workload("maintenance", "installing charm software")
            if hook.name == "stop":
                self._workload("maintenance", "stopping charm software")
            if hook.name == "remove":
                self._workload("maintenance", "cleaning up prior to charm deletion")
        return True

    def _moot(self, hook: records.Hook) -> bool:
        """Whether what a hook was to tell of is over, a failed one's too: it is not run."""
        if hook.name == "leader-elected":
            return not leases.leads(self.state, self.unit)
        return bool(hook.storage) and hook.storage not in self.state.storage

    def _execute(self, hook: records.Hook, remote: resolver.Remote) -> None:
        context = self.context
        assert context
        module = f"unit.{self.unit_name}.{hook.name}"

        def line(stream: str, text: str) -> None:
            self.services.log("DEBUG" if stream == "stdout" else "WARNING", module, text)

        try:
            code = self.script(context, f"hooks/{hook.name}", line)
        finally:
            self.context = None
        if self.ended():
            raise Gone(self.unit_name)
        if context.reboot == "now" or code in (-signal.SIGTERM, -signal.SIGKILL):
            with self.store.transaction():
                self.unit.state.step = "queued"
            if not context.reboot:
                time.sleep(0.2)
        elif code in (0, self.SKIPPED):
            if code == 0:
                self.services.log(
                    "INFO",
                    "juju.worker.uniter.operation",
                    f'ran "{hook.name}" hook (via hook dispatching script: dispatch)',
                )
            self._succeed(hook, remote, context)
        else:
            self.services.log(
                "ERROR",
                "juju.worker.uniter.operation",
                f'hook "{hook.name}" (via hook dispatching script: dispatch) failed: '
                f"exit status {code}",
            )
            with self.store.transaction():
                self._failed(hook)
        self._reboot_if_wanted(context, code)

    def _succeed(
        self, hook: records.Hook, remote: resolver.Remote, context: hookcontext.Context
    ) -> None:
        if hook.kind == "storage-detaching":
            self.host.detach_storage(hook.storage)
        try:
            with self.store.transaction():
                context.flush()
                self._commit(hook, remote, context)
        except errors.JujuError as error:
            self.services.log(
                "ERROR",
                "juju.worker.uniter.operation",
                f'hook "{hook.name}" failed: cannot flush: {error.text}',
            )
            with self.store.transaction():
                self._failed(hook)
            return
        self._attempts, self._retry_at = 0, None

    def script(
        self,
        context: hookcontext.Context,
        path: str,
        line: Any,
        *,
        argv: list[str] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Run the charm's script for `path` (or `argv`); returns its exit code or SKIPPED."""
        if argv is None:
            argv = self._script_argv(path)
        if argv is None:
            return self.SKIPPED
        with self.store.transaction(quiet=True):
            self.unit.state.context_id = context.id
        started = self.host.popen(
            argv,
            env=context.environment(),
            cwd=f"{hookcontext.AGENTS}/{hookcontext.tag(self.unit_name)}/charm",
        )
        self.context = context
        self._running = process.Running(started, context.id)
        try:
            if self._ending:
                self._running.interrupt()
            code = self._running.follow(line, timeout)
            if self._running.timed_out:
                line("stderr", "timed out")
            return code
        finally:
            self._running = None
            self.context = None

    def _script_argv(self, path: str) -> list[str] | None:
        inside = f"{hookcontext.AGENTS}/{hookcontext.tag(self.unit_name)}/charm"
        there = self.host.charm_dir(self.unit_name)
        if (there / "dispatch").exists():
            return [f"{inside}/dispatch"]
        return [f"{inside}/{path}"] if (there / path).exists() else None

    def _failed(self, hook: records.Hook | None) -> None:
        assert hook
        self._attempts += 1
        first, longest = RETRY_SECONDS
        wait = min(longest, first * 2 ** (self._attempts - 1)) * random.uniform(1.0, 1.1)
        self._retry_at = time.time() + wait
        data: dict[str, Any] = {"hook": hook.name}
        if hook.relation is not None:
            data["relation-id"] = hook.relation
            data["remote-unit"] = hook.remote_unit
        self.agent_status("error", f'hook failed: "{hook.name}"', **data)

    def _commit(
        self,
        hook: records.Hook,
        remote: resolver.Remote,
        context: hookcontext.Context | None,
    ) -> None:
        unit = self.unit
        resolver.commit(unit.state, hook, remote)
        if context and context.status_set:
            unit.state.status_set = True
        kind = hook.kind
        if kind == "relation-departed" and hook.relation is not None:
            self.bags.forget(hook.relation, hook.remote_unit)
        elif kind == "relation-broken":
            self._leave(hook.relation)
        elif kind == "storage-detaching" and hook.storage in self.state.storage:
            storage.released(self.state, self.state.storage[hook.storage])
        elif kind in ("secret-rotate", "secret-expired"):
            secrets.told(self.state, hook)
        elif kind == "config-changed":
            self._refresh_addresses()
        elif kind == "start":
            self._rebooted = False
            if not unit.state.status_set:
                self._workload("unknown")
        elif kind == "stop":
            self._workload("maintenance")
        elif kind == "remove":
            self._workload("terminated")

    def _refresh_addresses(self) -> None:
        unit = self.unit
        for relation in self.state.relations_of(unit.application):
            endpoint = relation.endpoint(unit.application).name
            wanted = relations.addresses(self.state, self.host.address(unit, endpoint))
            bag = relation.units.get(unit.name)
            if (
                bag
                and bag.in_scope
                and bag.data.get("ingress-address")
                not in (
                    None,
                    wanted["ingress-address"],
                )
            ):
                relations.write(bag, wanted)

    def _reboot_if_wanted(self, context: hookcontext.Context, code: int) -> None:
        if not context.reboot or (context.reboot == "after" and code != 0):
            return
        with self.store.transaction(quiet=True):
            self.agent_status("rebooting")
        self.host.reboot()
        raise Gone(self.unit_name)

    def _command(self) -> None:
        with self.store.lock:
            command = self.commands.pop(0)
        try:
            with self.machine_lock():
                code, out, err = self.shell(command.script, None)
            command.code, command.stdout, command.stderr = code, out, err
        finally:
            command.done.set()

    def shell(
        self, script: str, task: records.Task | None, timeout: float | None = None
    ) -> tuple[int, str, str]:
        """Run a shell script in a context of its own; what it buffered is kept if it exits 0."""
        context = hookcontext.Context(self.state, self.unit_name, self.bags, self.home, task=task)
        text: dict[str, list[str]] = {"stdout": [], "stderr": []}
        code = self.script(
            context,
            "",
            lambda stream, one: text[stream].append(one + "\n"),
            argv=["/bin/bash", "-c", script],
            timeout=timeout,
        )
        out, err = "".join(text["stdout"]), "".join(text["stderr"])
        if code == 0:
            try:
                with self.store.transaction():
                    context.flush()
            except errors.JujuError as error:
                return 1, out, f"{err}ERROR {error.text}\n"
        self._reboot_if_wanted(context, code)
        return code, out, err
