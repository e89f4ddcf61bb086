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
        """Until as many units say so as there should be, and etcd agrees."""
        message = f"Healthy with {count} known peers"

        def healthy(status: jubilant.Status) -> bool:
            units = status.apps[self.app].units.values()
            return len(units) == count and all(
                unit.workload_status.current == "active"
                and unit.workload_status.message.partition(";")[0] == message
                and unit.juju_status.current == "idle"
                for unit in units
            )

        self.juju.wait(healthy, timeout=timeout, delay=0.5, successes=2)
        self.agree(count)

    def agree(self, count: int) -> None:
        """One cluster, as many voters as units, no alarms, seen from every unit."""
        seen = [self.members(unit) for unit in self.units()]
        assert len({found["header"]["cluster_id"] for found in seen}) == 1, seen
        for found in seen:
            assert len(found["members"]) == count, found
            assert not any(member.get("isLearner") for member in found["members"]), found
        assert not self.etcdctl(self.leader(), "alarm list").strip()

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

    def members(self, unit: str) -> dict[str, Any]:
        """`etcdctl member list` as JSON."""
        return json.loads(self.etcdctl(unit, "member list -w json"))

    def statuses(self, unit: str = "") -> list[dict[str, Any]]:
        """`etcdctl endpoint status --cluster` as JSON."""
        return json.loads(self.etcdctl(unit or self.leader(), "endpoint status --cluster -w json"))

    def hashes(self) -> set[int]:
        """HashKV of every member at one revision."""
        revision = min(each["Status"]["header"]["revision"] for each in self.statuses())
        answer = self.etcdctl(self.leader(), f"endpoint hashkv --cluster --rev={revision} -w json")
        return {each["HashKV"]["hash"] for each in json.loads(answer)}

    def put(self, key: str, value: str) -> None:
        """Write a key."""
        self.etcdctl(self.leader(), f"put {shlex.quote(key)} {shlex.quote(value)}")

    def get(self, key: str, unit: str = "") -> str:
        """A key's value, "" without one; linearizable."""
        found = self.etcdctl(unit or self.leader(), f"get --print-value-only {shlex.quote(key)}")
        return found.rstrip("\n")

    def credentials(self, directory: pathlib.Path, common_name: str = "client") -> pathlib.Path:
        """Fetch what generate-client-certificates hands out, by the command that it names."""
        task = self.run("generate-client-certificates", common_name=common_name)
        words = shlex.split(task.results["copy"]["cmd"])
        assert words[:2] == ["juju", "scp"], words
        self.juju.scp(words[2], str(directory))
        archive = directory / words[2].rpartition("/")[2]
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")
        return directory

    def address(self, unit: str) -> str:
        """A unit's address."""
        return self.units()[unit].public_address

    def lose_majority(self) -> str:
        """Kill every machine but the raft leader's, and have Juju forget them (minijuju only).

        Answers the survivor, once its status names `recover`.
        """
        units = self.units()
        survivor = self.leader()
        dead = [name for name in units if name != survivor]
        self.juju.cli("chaos", "kill", *(units[name].machine for name in dead))
        self.juju.remove_unit(*dead, force=True)
        eventually(lambda: list(self.units()) == [survivor], timeout=300)
        eventually(
            lambda: "recover" in self.units()[survivor].workload_status.message, timeout=300
        )
        return survivor


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
