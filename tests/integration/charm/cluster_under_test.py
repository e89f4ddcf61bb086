"""A deployed etcd application, as a test looks at it: through Juju and through etcdctl."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jubilant
import load as load_

from minijuju.testing import hurting

TLS = "/etc/etcd/tls/client"
ETCDCTL = (
    "ETCDCTL_API=3 etcdctl --dial-timeout=3s --command-timeout=8s "
    f"--cacert={TLS}/ca.pem --cert={TLS}/cert.pem --key={TLS}/key.pem"
)


@dataclasses.dataclass
class Cluster:
    """The application `app` in a model."""

    juju: jubilant.Juju
    app: str = "etcd"

    def units(self) -> dict[str, Any]:
        """Unit name to its status."""
        status = self.juju.status()
        return dict(status.apps[self.app].units) if self.app in status.apps else {}

    def leader(self) -> str:
        """The unit that is Juju's leader."""
        return next(name for name, unit in self.units().items() if unit.leader)

    def run(self, action: str, unit: str = "", wait: float = 120, **params: Any) -> Any:
        """Run an action that succeeds; underscores in parameter names are dashes."""
        named = {key.replace("_", "-"): value for key, value in params.items()}
        return self.juju.run(unit or self.leader(), action, named, wait=wait)

    def refusal(self, action: str, unit: str = "", **params: Any) -> str:
        """Run an action that fails; answers with its sentence."""
        named = {key.replace("_", "-"): value for key, value in params.items()}
        try:
            task = self.juju.run(unit or self.leader(), action, named, wait=120)
        except (jubilant.TaskError, ValueError) as error:
            task = getattr(error, "task", None)
            return task.message if task else str(error)
        raise AssertionError(f"{action} was not refused: {task.results}")

    def wait_healthy(self, count: int, timeout: float = 300) -> None:
        """Until as many units say so as there should be, and etcd agrees.

        A status is as old as the unit's last hook, so it alone is no proof.
        """
        message = f"Healthy with {count} known peers"
        until = time.monotonic() + timeout

        def healthy(status: jubilant.Status) -> bool:
            units = status.apps[self.app].units.values()
            return len(units) == count and all(
                unit.workload_status.current == "active"
                and unit.workload_status.message.partition(";")[0] == message
                and unit.juju_status.current == "idle"
                for unit in units
            )

        while True:
            left = max(until - time.monotonic(), 1.0)
            self.juju.wait(healthy, timeout=left, delay=0.5, successes=2)
            try:
                self.agree(count)
            except AssertionError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)
            else:
                return

    def agree(self, count: int) -> None:
        """One cluster, the units its only voters, no alarms, as each unit sees it."""
        seen = [self.members(unit) for unit in self.units()]
        own = {self.status(unit)["header"]["member_id"] for unit in self.units()}
        assert len({found["header"]["cluster_id"] for found in seen}) == 1, seen
        for found in seen:
            assert len(found["members"]) == count, found
            assert {member["ID"] for member in found["members"]} == own, (found, own)
            assert not any(member.get("isLearner") for member in found["members"]), found
        assert not self.etcdctl(self.leader(), "alarm list").strip()

    def check(
        self, count: int, load: load_.Load, timeout: float = 300, least: int | None = None
    ) -> None:
        """What must hold after everything: as many healthy units, one cluster, nothing lost.

        Args:
            count: units, all of them voters.
            load: it has ended.
            timeout: seconds until the units are healthy.
            least: the revision that was announced to be kept, where a loss was announced.
        """
        load.stop()
        self.wait_healthy(count, timeout)
        lost = 0
        if least is None:
            assert load.missing(self.endpoints()) == []
        else:
            kept = load.survived(least, self.endpoints())
            assert kept, f"what is there does not reach to revision {least}, or has gaps"
            lost = load.lost(kept)
        assert len(self.hashes()) == 1
        print(f"{len(load.writes)} writes, longest gap {load.longest_gap():.2f} s, lost {lost}")

    @contextlib.contextmanager
    def writing(self, directory: pathlib.Path, **options: float) -> Iterator[load_.Load]:
        """A load on this cluster, with a certificate that is kept in `directory`."""
        folder = self.credentials(directory)
        with load_.running([self.address(unit) for unit in self.units()], folder, **options) as it:
            eventually(lambda: len(it.writes) > 100)  # so that there is something to lose
            yield it

    def etcdctl(self, unit: str, command: str, *, endpoints: str = "", ok: bool = True) -> str:
        """What etcdctl prints on a unit, as the administrator."""
        where = endpoints or "https://127.0.0.1:2379"
        return self.shell(unit, f"{ETCDCTL} --endpoints={where} {command}", ok=ok)

    def shell(self, unit: str, command: str, *, ok: bool = True) -> str:
        """What a command prints as root on a unit."""
        try:
            return self.juju.ssh(unit, f"sudo sh -c {shlex.quote(command)}")
        except jubilant.CLIError as error:
            if ok:
                raise AssertionError(f"{command}: {error.stdout}{error.stderr}") from error
            return f"{error.stdout}{error.stderr}"

    def everywhere(self, command: str) -> dict[str, str]:
        """What a command prints as root on each unit."""
        return {unit: self.shell(unit, command).strip() for unit in self.units()}

    def exec_all(self, command: str) -> None:
        """Run a command as root on all units at the same time."""
        self.juju.cli("exec", "--application", self.app, "--", command)

    def serves(self, unit: str) -> bool:
        """Whether the unit's etcd has a quorum behind it."""
        return "is healthy" in self.etcdctl(unit, "endpoint health 2>&1", ok=False)

    def members(self, unit: str) -> dict[str, Any]:
        """`etcdctl member list` as JSON."""
        return json.loads(self.etcdctl(unit, "member list -w json"))

    def status(self, unit: str) -> dict[str, Any]:
        """`etcdctl endpoint status` of the unit's own etcd as JSON."""
        (found,) = json.loads(self.etcdctl(unit, "endpoint status -w json"))
        return found["Status"]

    def raft_leader(self) -> str:
        """The unit whose etcd is raft's leader."""
        return eventually(self._raft_leader)

    def _raft_leader(self) -> str:
        for unit in self.units():
            told = self.etcdctl(unit, "endpoint status -w json 2>/dev/null", ok=False)
            for found in json.loads(told) if told.startswith("[") else []:
                if found["Status"].get("leader") == found["Status"]["header"]["member_id"]:
                    return unit
        return ""

    def statuses(self, unit: str = "") -> list[dict[str, Any]]:
        """`etcdctl endpoint status --cluster` as JSON."""
        return json.loads(self.etcdctl(unit or self.leader(), "endpoint status --cluster -w json"))

    def hashes(self) -> set[int]:
        """HashKV of every member at one revision."""
        revisions = {each["Status"]["header"]["revision"] for each in self.statuses()}
        at = min(revisions) if len(revisions) > 1 else 0  # 3.4 hashes no revision it compacted
        answer = self.etcdctl(self.leader(), f"endpoint hashkv --cluster --rev={at} -w json")
        return {each["HashKV"]["hash"] for each in json.loads(answer)}

    def put(self, key: str, value: str) -> None:
        """Write a key."""
        self.etcdctl(self.leader(), f"put {shlex.quote(key)} {shlex.quote(value)}")

    def get(self, key: str, unit: str = "") -> str:
        """A key's value, "" without one; linearizable."""
        found = self.etcdctl(unit or self.leader(), f"get --print-value-only {shlex.quote(key)}")
        return found.rstrip("\n")

    def credentials(
        self, directory: pathlib.Path, common_name: str = "client", **params: object
    ) -> pathlib.Path:
        """Fetch what generate-client-certificates hands out, by the command that it names."""
        task = self.run("generate-client-certificates", common_name=common_name, **params)
        words = shlex.split(task.results["copy"]["cmd"])
        assert words[:2] == ["juju", "scp"], words
        self.juju.scp(words[2], str(directory))
        archive = directory / pathlib.Path(words[2].partition(":")[2]).name
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
        return directory

    def address(self, unit: str) -> str:
        """A unit's address."""
        return self.units()[unit].public_address

    def endpoints(self, *units: str) -> list[str]:
        """Client URLs of these units, by default of all."""
        known = self.units()
        return [f"https://{known[unit].public_address}:2379" for unit in units or known]

    def kill(self, *units: str) -> None:
        """Cut the power of the units' machines."""
        self._chaos("kill", *units)

    def start(self, *units: str) -> None:
        """Give the units' machines their power back."""
        self._chaos("start", *units)

    def _chaos(self, verb: str, *units: str) -> None:
        known = self.units()
        hurting.hurt(self.juju, verb, *(known[unit].machine for unit in units))

    def remove_dead(self, *units: str) -> None:
        """Tell Juju that the machines of these units do not come back, and wait until it knows."""
        self.juju.cli("remove-unit", "--force", "--no-wait", "--no-prompt", *units)
        eventually(lambda: not set(units) & set(self.units()), timeout=240)

    def lose_all_but(self, *survivors: str) -> list[str]:
        """Kill the machines of all other units for good; answers which."""
        dead = [unit for unit in self.units() if unit not in survivors]
        self.kill(*dead)
        self.remove_dead(*dead)
        return dead

    def lose_every_machine(self) -> None:
        """Kill the machines of all units for good, and add as many units with empty disks."""
        dead = self.units()
        self.kill(*dead)
        self.juju.cli("remove-unit", "--force", "--no-wait", "--no-prompt", *dead)
        self.juju.add_unit(self.app, num_units=len(dead))
        eventually(lambda: not set(dead) & set(self.units()), timeout=300)

    def says(self, unit: str, words: str, timeout: float = 240) -> str:
        """Wait until `juju status` says these words of a unit; answers the whole sentence."""
        found = ""

        def said() -> bool:
            nonlocal found
            found = self.units()[unit].workload_status.message
            return words in found

        try:
            eventually(said, timeout)
        except AssertionError as error:
            raise AssertionError(f"{unit} says {found!r}, not {words!r}") from error
        return found

    def recover(self) -> int:
        """Run `recover` twice, as it says itself; answers the revision it announced to keep."""
        told = self.run("recover").results
        *command, of, confirm = shlex.split(told["run"])
        assert (command[:2], command[3], confirm) == (["juju", "run"], "recover", "confirm=true")
        unit = of.removeprefix("unit=")
        self.juju.run(command[2], "recover", {"unit": unit, "confirm": True}, wait=120)
        return int(told["disks"][unit.replace("/", "-")].split(",")[0].removeprefix("revision "))

    def failed_hooks(self) -> list[str]:
        """Lines of Juju's log that tell of a hook of this application that failed."""
        lines = self.juju.debug_log().splitlines()
        name = f"unit-{self.app}-"
        return [line for line in lines if name in line and 'hook "' in line and "failed" in line]


def eventually(check: Callable[[], Any], timeout: float = 120, every: float = 1.0) -> Any:
    """The first true answer, within `timeout` seconds."""
    until = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {timeout} s: {check}")
        time.sleep(every)


@contextlib.contextmanager
def chaos(juju: jubilant.Juju, verb: str, *machines: str, undo: str = "") -> Iterator[None]:
    """Hurt machines (minijuju only), and undo it at the end."""
    juju.cli("chaos", verb, *machines)
    try:
        yield
    finally:
        if undo:
            juju.cli("chaos", undo, *machines)


def run_on_host(*argv: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """A command on the host, as a client outside the model would run it."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
