"""The controller's verbs on machines: adding and removing them, getting in, hurting them."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import selectors
import shutil
import subprocess
import tarfile
import threading
import time
from typing import TYPE_CHECKING, Any

from minijuju.agent import actions
from minijuju.controller import deployment
from minijuju.model import errors, lifecycle, records, spaces

if TYPE_CHECKING:
    from minijuju.machines import host, machine, manager
    from minijuju.model import store


SEEN_SECONDS = 30.0
"""How long a command waits for a machine that is just coming up."""
SPARE = 512
"""Number of the first address that a machine can move to; the lower ones are for new machines."""


class MachineVerbs:
    """See `controller.Controller`."""

    store: store.Store
    manager: manager.Manager

    if TYPE_CHECKING:

        def state(self, model: str) -> store.ModelState:
            """A model's records by its name."""
            ...

    def add_machine(
        self, model: str, count: int = 1, base: str = "", constraints: dict[str, str] | None = None
    ) -> list[str]:
        """Add empty machines; returns their ids."""
        state = self.state(model)
        with self.store.transaction():
            made = [
                deployment.new_machine(state, base or deployment.DEFAULT_BASE, keep=True)
                for _ in range(count)
            ]
        return [record.id for record in made]

    def add_space(self, model: str, name: str, subnets: list[str]) -> None:
        """Move subnets to a space of their own."""
        state = self.state(model)
        known = spaces.subnets(self.manager.network(state))
        with self.store.transaction():
            spaces.add(state.model, known, name, subnets)

    def subnets(self, model: str) -> dict[str, str]:
        """Each subnet, and the space it is in."""
        state = self.state(model)
        found = spaces.subnets(self.manager.network(state))
        return {subnet: spaces.holder(state.model, subnet) for subnet in found}

    def remove_machine(
        self, model: str, machines: list[str], force: bool = False, keep: bool = False
    ) -> dict[str, Any]:
        """Remove machines; returns the same shape as `remove_unit`."""
        state = self.state(model)
        messages: list[str] = []
        failed: list[str] = []
        with self.store.transaction():
            for name in machines:
                record = state.machines.get(name)
                if record is None:
                    failed.append(f"removing machine {name} failed: machine {name} not found")
                    continue
                units = state.units_on(name)
                if units and not force:
                    names = ", ".join(unit.name for unit in units)
                    failed.append(
                        f"removing machine {name} failed: machine {name} hosts units: {names}"
                    )
                    continue
                messages.append(f"will remove machine {name}")
                for unit in units:
                    if unit.name in state.units:
                        messages.append(f"- will remove unit {unit.name}")
                        lifecycle.force_out(state, unit)
                lifecycle.tidy_relations(state)
                record.life = records.DEAD
        return {"messages": messages, "errors": failed, "code": 1 if failed else 0}

    # -- getting in

    def _host(self, state: store.ModelState, target: str) -> host.Host:
        """The host of a machine id, hostname, unit or `app/leader`."""
        name = target
        if "/" in target:
            name = actions.resolve_receiver(state, target).machine
        elif target not in state.machines:
            name = next((m.id for m in state.machines if m.hostname == target), target)
        if name not in state.machines:
            raise errors.JujuError(f"machine {target} not found")
        self.manager.wait(lambda: self._seen(state, name), SEEN_SECONDS)
        if not self._seen(state, name):
            raise errors.JujuError(f"machine {name} is not provisioned yet")
        return self.manager.host(state, name)

    def _seen(self, state: store.ModelState, name: str) -> bool:
        found = self.manager.hosts.get((state.uuid, name))
        return bool(found and found.looked)

    def ssh_keys(self, model: str, add: list[str], remove: list[str]) -> None:
        """Add keys that may enter the model's machines, and remove others (by their comment)."""
        state = self.state(model)
        with self.store.transaction(quiet=True):
            kept = [key for key in state.model.ssh_keys if not {key, *key.split()} & {*remove}]
            state.model.ssh_keys = [*kept, *add]

    def _reachable(self, state: store.ModelState, target: str) -> machine.Machine:
        found: Any = self._host(state, target)
        if state.behaviour.key_needed and not state.model.ssh_keys:
            raise errors.JujuError(f"ubuntu@{target}: Permission denied (publickey).", 255)
        if not found.reachable:
            raise errors.JujuError(f"opening connection to {target}: machine is not reachable")
        return found.machine

    def ssh(
        self,
        model: str,
        target: str,
        command: list[str],
        user: str = "ubuntu",
        fds: list[int] | None = None,
        caller: int = -1,
    ) -> int:
        """Run a command (or a login shell) as a user in a unit's or machine's machine.

        `fds` are the caller's stdin, stdout and stderr, passed over the socket; returns the exit
        code. `app/leader` works. The words of `command` are joined by spaces, as ssh does.
        """
        if not fds:
            raise errors.JujuError("no standard streams were given")
        found = self._reachable(self.state(model), target)
        argv = ["/bin/bash", "-l"] if not command else ["/bin/bash", "-c", " ".join(command)]
        if command:
            argv[1:1] = ["-l"]
        process = found.popen(argv, user=user, stdin=fds[0], stdout=fds[1], stderr=fds[2])
        _until_end(process, caller)
        return process.wait()

    def copy(self, model: str, source: str, destination: str, recursive: bool = False) -> None:
        """`scp`: one of the two is `unit:path` or `machine:path`, the other an absolute path."""
        state = self.state(model)
        if ":" in source:
            target, _, inside = source.partition(":")
            self._copy_out(self._reachable(state, target), inside, pathlib.Path(destination))
        else:
            target, _, inside = destination.partition(":")
            self._copy_in(self._reachable(state, target), pathlib.Path(source), inside, recursive)

    def _copy_out(self, found: machine.Machine, inside: str, destination: pathlib.Path) -> None:
        script = (
            "cd ~ubuntu; IFS=; for one in $0; do "
            'there=$(cd "$(dirname -- "$one")" && pwd) || exit; '
            'set -- "$@" -C "$there" --add-file="$(basename -- "$one")"; done; '
            'exec tar -cf - "$@"'
        )
        process = found.popen(
            ["/bin/bash", "-c", script, inside],
            user="ubuntu",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout and process.stderr
        with (
            contextlib.suppress(tarfile.ReadError),
            tarfile.open(fileobj=process.stdout, mode="r|") as archive,
        ):
            _extract(archive, destination)
        text = process.stderr.read().decode(errors="replace").strip()
        if process.wait():
            raise errors.JujuError(f"scp: {inside}: {text or 'no such file or directory'}")

    def _copy_in(
        self, found: machine.Machine, source: pathlib.Path, inside: str, recursive: bool
    ) -> None:
        if not source.exists():
            raise errors.JujuError(f"scp: {source}: No such file or directory")
        if source.is_dir() and not recursive:
            raise errors.JujuError(f"scp: {source}: not a regular file")
        script = (
            'cd ~ubuntu; to=${0:-.}; name=$1; if [ -d "$to" ]; then to="$to/$name"; fi; '
            'part=$(mktemp -d) && tar -xf - -C "$part" --no-same-owner && '
            'cp -a "$part/$name" "$to"; code=$?; rm -rf "$part"; exit $code'
        )
        process = found.popen(
            ["/bin/bash", "-c", script, inside, source.name],
            user="ubuntu",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stdin and process.stderr
        with contextlib.suppress(BrokenPipeError):
            with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                archive.add(source, source.name)
            process.stdin.close()
        text = process.stderr.read().decode(errors="replace").strip()
        if process.wait():
            raise errors.JujuError(f"scp: {inside}: {text}")

    def run_on_machine(self, state: store.ModelState, identity: str) -> None:
        """Run an `exec --machine` task in the background."""
        threading.Thread(target=self._run_on_machine, args=(state, identity), daemon=True).start()

    def _run_on_machine(self, state: store.ModelState, identity: str) -> None:
        with self.store.transaction(quiet=True):
            task = state.tasks[identity]
            task.status, task.started = "running", time.time()
        try:
            one = self._host(state, task.receiver)
            with one.lock:
                answer = one.machine.run(
                    ["/bin/bash", "-c", str(task.params["command"])],
                    timeout=float(task.params.get("timeout") or 300),
                    check=False,
                )
            results = {"return-code": answer.returncode}
            results |= {"stdout": answer.stdout} if answer.stdout else {}
            results |= {"stderr": answer.stderr} if answer.stderr else {}
            status, message = "completed", ""
        except Exception as error:
            results, status, message = {"return-code": 1}, "failed", str(error)
        with self.store.transaction(quiet=True):
            task = state.tasks[identity]
            task.results = results
            actions.finish(task, status, message)
        self.manager.wake()

    # -- hurting

    def chaos(
        self,
        model: str,
        action: str,
        machine: str,
        others: list[str] | None = None,
        leave_mib: int = 0,
        iops: int = 0,
    ) -> None:
        """Hurt a machine (id, unit or hostname): what a real Juju does not offer.

        `action`: kill, start, pause, resume, cut, mute, heal, fill-disk, free-disk, slow-disk,
        reboot, readdress.
        """
        state = self.state(model)
        one = self._host(state, machine)
        thing: Any = one.machine
        if action in ("cut", "heal"):
            chosen = [self._host(state, other).machine for other in others or []] or None
            getattr(thing.network, action)(thing, chosen)
        elif action == "mute":
            thing.network.mute(thing, [self._host(state, other).machine for other in others or []])
        elif action == "slow-disk":
            thing.slow_disk(iops)
        elif action == "fill-disk":
            thing.fill_disk(leave_mib * 2**20)
        elif action == "free-disk":
            thing.free_disk()
        elif action == "readdress":
            self._readdress(state, one)
        elif action in ("kill", "start", "pause", "resume", "reboot"):
            if action in ("kill", "start"):
                with self.store.transaction(quiet=True):
                    state.machines[one.id].wanted = "stopped" if action == "kill" else "running"
            getattr(thing, action)()
            one.poke()
            self._settled(one, action)
        else:
            raise errors.JujuError(f'unknown chaos action "{action}"', 2)

    def _readdress(self, state: store.ModelState, one: host.Host) -> None:
        """Move a machine to an address that no machine had; its agents see it as Juju's would."""
        thing: Any = one.machine
        taken = {record.address for record in state.machines}
        free = map(str, map(thing.network.address, itertools.count(SPARE)))
        address = next(each for each in free if each not in taken)
        thing.readdress(address)
        with self.store.transaction():
            state.machines[one.id].address = address

    def _settled(self, one: host.Host, action: str) -> None:
        up = action in ("start", "resume", "reboot")

        def settled() -> bool:
            record = one.record
            return record is None or (
                one.available == up and (record.agent.current == "started") == up
            )

        self.manager.wait(settled, 30)


def _extract(archive: tarfile.TarFile, destination: pathlib.Path) -> None:
    """Unpack files or trees to `destination`, or into it when that is a directory."""
    within = destination.is_dir()
    for entry in archive:
        first, _, rest = entry.name.partition("/")
        top = destination / first if within else destination
        path = top / rest if rest else top
        if entry.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif entry.isfile():
            content = archive.extractfile(entry)
            assert content
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
            path.chmod(entry.mode & 0o777)
        elif entry.issym():
            path.unlink(missing_ok=True)
            path.symlink_to(entry.linkname)


def _until_end(process: subprocess.Popen[Any], caller: int) -> None:
    """Wait for a process, and end it when the caller's connection closes."""
    with contextlib.ExitStack() as stack:
        handle = os.pidfd_open(process.pid)
        stack.callback(os.close, handle)
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(handle, selectors.EVENT_READ)
        if caller >= 0:
            selector.register(caller, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select()}
        if handle not in ready:
            process.terminate()
