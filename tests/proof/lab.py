"""A deployed cluster under traffic: what is done to it, and all that is recorded meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import jubilant

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration" / "charm"), str(TESTS / "faults")]

import bucket  # noqa: E402 - from the directories above
import cluster_under_test  # noqa: E402
import steps  # noqa: E402
import test_clock  # noqa: E402

from proof import records  # noqa: E402
from proof.traffic import clients, run, wire  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATUS_EVERY = 1.5
"""Seconds between two looks at `juju status`."""
READ_MACHINE = r"""
cd /var/lib/etcd 2>/dev/null || cd /
printf '{"running": %s, "stamp": %s, "kept": [' \
  "$(pidof etcd >/dev/null && echo true || echo false)" \
  "$(cat current/stamp.json 2>/dev/null || echo null)"
first=1
for stamp in kept/*/stamp.json; do
  [ -e "$stamp" ] || continue
  [ $first = 1 ] || printf ,
  first=0
  cat "$stamp"
done
printf ']}\n'
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a unit is or was.

    Attributes:
        machine: Juju's number of it.
        address: of its etcd.
    """

    machine: str
    address: str


class Lab:
    """One application in a model of its own, and the traffic on it.

    Attributes:
        complaints: what was to happen and did not, a sentence each: findings of the run itself.
        places: where each unit is, that ever was.
        refused: whether the last action was refused, or not answered.
    """

    def __init__(
        self, juju: jubilant.Juju, charm: pathlib.Path, say: Callable[[str], None]
    ) -> None:
        """Get ready; nothing is deployed yet.

        Args:
            juju: the model.
            charm: the charm under test.
            say: tells the reader what is done.
        """
        self.juju = juju
        self.charm = charm
        self.cluster = cluster_under_test.Cluster(juju)
        self.complaints: list[str] = []
        self.refused = False
        self.places: dict[str, Place] = {}
        self._say = say
        self._traffic: run.Traffic | None = None
        self._credentials: wire.Credentials | None = None
        self._watching = threading.Event()
        self._watcher: threading.Thread | None = None
        self._told: dict[str, str] = {}
        self._undo: list[Callable[[], None]] = []
        self._begun = time.monotonic()

    # -- getting ready

    def deploy(self, units: int = 3, **config: Any) -> None:
        """Deploy so many units and wait until they are healthy.

        Args:
            units: how many.
            config: of the application; underscores are dashes.
        """
        named = {key.replace("_", "-"): value for key, value in config.items()}
        self.juju.deploy(self.charm, "etcd", num_units=units, config=named)
        self.cluster.wait_healthy(units, timeout=420)
        self._look()

    def begin(self) -> None:
        """Let the traffic begin."""
        self.complaints = []
        self.refused = False
        if self._credentials is None:
            with tempfile.TemporaryDirectory() as folder:
                self.cluster.credentials(pathlib.Path(folder), "proof")
                self._credentials = wire.Credentials.read(pathlib.Path(folder))
        self._traffic = run.Traffic(self._credentials)
        self._told.clear()
        self._look()
        self._traffic.start(self._peers())
        self._watching.clear()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def end(self) -> records.History:
        """Undo what still hurts, let the traffic end, and hand over what was recorded."""
        self.heal()
        assert self._traffic is not None
        assert self._watcher is not None
        history = self._traffic.stop()
        self._watching.set()
        self._watcher.join(60)
        with contextlib.suppress(jubilant.CLIError, OSError):
            self._look()
        for unit, place in self.places.items():
            self._traffic.record(self._machine(unit, place))
        return self._traffic.history(history.ended)

    # -- what is there

    @property
    def began(self) -> bool:
        """Whether there is traffic to be ended."""
        return self._watcher is not None and not self._watching.is_set()

    def charm_is_on(self, unit: str) -> bool:
        """Whether the charm's packages are on a unit's machine, so that its hooks can be held."""
        return steps.installed(self.cluster, unit)

    def place(self, unit: str) -> None:
        """Learn where a new unit is, before it is asked anything."""
        machine = self.cluster.units()[unit].machine
        self.places.setdefault(unit, Place(machine, self.cluster.address(unit)))

    @property
    def traffic(self) -> run.Traffic:
        """What asks the cluster."""
        assert self._traffic is not None
        return self._traffic

    def units(self) -> list[str]:
        """Juju's units, by number."""
        return sorted(self.cluster.units(), key=lambda name: int(name.split("/")[1]))

    def others(self, *units: str) -> list[str]:
        """All units but these."""
        return [unit for unit in self.units() if unit not in units]

    def machines(self, *units: str) -> list[str]:
        """Juju's numbers of the machines of units, also of those that are gone."""
        return [self.places[unit].machine for unit in units]

    def record(self) -> dict[str, Any]:
        """The committed record, as Juju holds it; empty without one."""
        return json.loads(self._bag().get("generation") or "{}")

    def _bag(self) -> dict[str, str]:
        unit = self.units()[0]
        shown = json.loads(self.juju.cli("show-unit", unit, "--format", "json"))[unit]
        (peers,) = [r for r in shown["relation-info"] if r["endpoint"] == "cluster"]
        return peers.get("application-data", {})

    # -- what is done

    def say(self, text: str) -> None:
        """Tell the reader."""
        self._say(f"[{time.monotonic() - self._begun:4.0f} s] {text}")

    @contextlib.contextmanager
    def acting(self, name: str, target: str = "", text: str = "") -> Iterator[None]:
        """Record an act of the run: a fault, its end or an operator's command."""
        self.say(f"{name} {target} {text}".rstrip())
        at = time.monotonic()
        try:
            yield
        finally:
            if self._traffic is not None:
                fault = records.Fault(at, name, target, time.monotonic(), text)
                self._traffic.record(fault)

    def chaos(self, verb: str, *units: str, undo: str = "", **options: str) -> None:
        """Hurt the machines of units; `undo` is done at the end, or by `heal`."""
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        with self.acting(verb, ",".join(units), " ".join(words)):
            self.juju.cli("chaos", verb, *self.machines(*units), *words)
        if undo:
            on = self.machines(*units)
            self._undo.append(lambda: self.juju.cli("chaos", undo, *on))

    def after(self, undo: Callable[[], object]) -> None:
        """Do this when all faults end."""
        self._undo.append(lambda: undo() and None)

    def heal(self) -> None:
        """Undo all faults, the last one first."""
        while self._undo:
            undo = self._undo.pop()
            try:
                undo()
            except (jubilant.CLIError, AssertionError, OSError) as error:
                self.say(f"could not undo a fault: {error}")

    def come_back(self) -> None:
        """Undo all faults of machines whose units were removed: the judge counts from here."""
        self.traffic.record(records.Announcement(time.monotonic(), records.BACK))
        self.heal()

    def hold(self, unit: str, boundary: str) -> None:
        """Let the next hook of a unit that comes to a step's boundary stay there."""
        with self.acting("hold", unit, boundary):
            steps.order(self.cluster, unit, [f"hold {boundary}"])
        self.after(lambda: steps.release(self.cluster, unit))

    def await_held(self, unit: str, boundary: str, timeout: float = 120) -> bool:
        """Whether a hook of the unit came to the boundary within so many seconds."""
        return self.within(timeout, lambda: steps.is_held(self.cluster, unit, boundary), 0.5)

    def release_later(self, unit: str) -> None:
        """Let the unit's hooks go on as soon as its machine can be told to."""

        def tell() -> None:
            with contextlib.suppress(AssertionError, jubilant.CLIError):
                steps.release(self.cluster, unit)

        threading.Thread(target=tell, daemon=True).start()

    def release(self, unit: str) -> None:
        """Let the unit's hooks go on."""
        with self.acting("release", unit):
            steps.release(self.cluster, unit)

    def run(self, action: str, where: str = "", *, lost: bool = False, **params: Any) -> Any:
        """Run an action, and record what it announced; None when it refused.

        Args:
            action: its name.
            where: the unit; by default the leader.
            lost: what is younger than the revision that it names is lost.
            params: of the action; underscores are dashes.
        """
        unit = where or self.cluster.leader()
        named = {key.replace("_", "-"): value for key, value in params.items()}
        with self.acting(action, unit, " ".join(f"{k}={v}" for k, v in named.items())):
            at = time.monotonic()
            self.refused = False
            try:
                results = self.juju.run(unit, action, named, wait=240).results
            except (jubilant.TaskError, TimeoutError, ValueError) as error:
                task = getattr(error, "task", None)
                text = task.message if task else str(error)
                self.traffic.record(records.Announcement(at, action, unit, failed=True, text=text))
                self.say(f"refused: {text}")
                self.refused = True
                return None
        if lost:
            self._announce(at, action, unit, results)
        return results

    def _announce(self, at: float, action: str, unit: str, results: dict[str, Any]) -> None:
        text = json.dumps(results)
        if action == "recover":
            of = (results.get("message") or "").partition(";")[0].removeprefix("recovering from ")
            held = results.get("disks", {}).get(of.strip().replace("/", "-"), "revision 0,")
            revision = int(held.split(",")[0].removeprefix("revision "))
        else:
            revision = int(results.get("revision", 0))
        number = int(results.get("generation", 0) or 0)
        self.announce(action, unit, revision, text, at, number)

    def announce(
        self, action: str, unit: str, revision: int, text: str, at: float = 0, number: int = 0
    ) -> None:
        """Record that a generation is to begin with this revision, and lose what is younger."""
        said = records.Announcement(
            at or time.monotonic(),
            action,
            unit,
            generation=number,
            revision=revision,
            lost=revision,
            text=text,
        )
        self.traffic.record(said)

    def recover(self, unit: str) -> bool:
        """Run `recover` on this unit's disk, first as a question; whether it was accepted."""
        if self.run("recover", unit) is None:
            return False
        return self.run("recover", unit, lost=True, unit=unit, confirm=True) is not None

    def restore(self, timeout: float = 240, **source: str) -> bool:
        """Run `restore`, and wait until the record tells a newer, confirmed generation."""
        before = self.record()["number"]
        if self.run("restore", lost=True, **source) is None:
            return False
        return self.expect(
            f"the restore is neither confirmed nor rolled back after {timeout:g} s",
            lambda: self.record()["number"] > before and self.record()["confirmed"],
            timeout,
        )

    def remove_by_force(self, *units: str) -> None:
        """Let Juju forget units at once, whatever their machines do."""
        with self.acting("remove-unit --force", ",".join(units)):
            self.cluster.remove_dead(*units)

    def healthy(self, count: int, timeout: float) -> bool:
        """Whether so many units become healthy in time."""
        self.say(f"waiting until {count} units are healthy")
        try:
            self.cluster.wait_healthy(count, timeout)
        except (TimeoutError, AssertionError, jubilant.CLIError, jubilant.WaitError):
            return False
        return True

    def settle(self, count: int, timeout: float = 240) -> bool:
        """Wait until so many units are healthy; a complaint when they are not."""
        if not self.healthy(count, timeout):
            told = {name: u.workload_status.message for name, u in self.cluster.units().items()}
            self.complain(f"{count} units are not healthy within {timeout:g} s: {told}")
            return False
        return True

    def expect(self, words: str, check: Callable[[], Any], timeout: float) -> bool:
        """Wait until something is so; these words are a complaint when it is not."""
        if self.within(timeout, check):
            return True
        self.complain(words)
        return False

    def complain(self, words: str) -> None:
        """Something did not happen that was to happen."""
        self.say(f"FINDING {words}")
        self.complaints.append(words)

    def within(self, timeout: float, check: Callable[[], Any], every: float = 1.0) -> bool:
        """Whether something became so within so many seconds."""
        until = time.monotonic() + timeout
        while True:
            with contextlib.suppress(jubilant.CLIError, AssertionError, KeyError, ValueError):
                if check():
                    return True
            if time.monotonic() > until:
                return False
            time.sleep(every)

    def pass_time(self, seconds: float) -> None:
        """Let the traffic go on."""
        self.say(f"{seconds:g} s of traffic")
        time.sleep(seconds)

    def clusters_seen(self, since: float = 0.0) -> set[int]:
        """Cluster IDs that answered clients after `since`, monotonic seconds."""
        return {
            record.header.cluster_id
            for record in list(self.traffic.records)
            if isinstance(record, records.Operation) and record.header and record.invoked >= since
        }

    def write_gap(self, since: float) -> float:
        """Longest time without an acknowledged write since then, seconds."""
        times = [
            record.answered or 0.0
            for record in list(self.traffic.records)
            if run.is_written(record)
        ]
        times = [since, *sorted(at for at in times if at > since), time.monotonic()]
        return max(b - a for a, b in itertools.pairwise(times))

    # -- what is seen

    def _watch(self) -> None:
        while not self._watching.wait(STATUS_EVERY):
            with contextlib.suppress(jubilant.CLIError, OSError, KeyError):
                self._look()

    def _look(self) -> None:
        at = time.monotonic()
        units = self.cluster.units()
        for name, unit in units.items():
            if unit.public_address:
                self.places[name] = Place(unit.machine, unit.public_address)
            told = f"{unit.workload_status.current}: {unit.workload_status.message}"
            if self._traffic is None or self._told.get(name) == told:
                continue
            self._told[name] = told
            words = unit.workload_status
            self._traffic.record(records.Status(at, name, words.current, words.message))
        if self._traffic is not None:
            up = [n for n, u in units.items() if u.workload_status.current == "active"]
            self._traffic.follow(self._peer(name) for name in up if name in self.places)

    def _peers(self) -> list[clients.Peer]:
        return [self._peer(unit) for unit in self.units()]

    def _peer(self, unit: str) -> clients.Peer:
        return clients.Peer(unit, f"{self.places[unit].address}:2379")

    def _machine(self, unit: str, place: Place) -> records.Machine:
        living = self.cluster.units()
        removed = unit not in living
        try:
            script = f"sudo sh -c {shlex.quote(READ_MACHINE)}"
            told = json.loads(self.juju.ssh(place.machine, script))
        except (jubilant.CLIError, ValueError, OSError):
            return records.Machine(unit, removed=removed, reachable=False)
        stamp = told["stamp"] or {}
        known = self.record() if not removed and living else {}
        return records.Machine(
            unit,
            removed=removed,
            etcd_running=told["running"],
            number=known.get("number", 0),
            token=known.get("token", ""),
            confirmed=known.get("confirmed", False),
            data_token=stamp.get("token", ""),
            data_generation=stamp.get("generation", 0),
            cluster_id=self._answers(unit),
            kept=tuple(records.Kept(each["token"], each["generation"]) for each in told["kept"]),
        )

    def _answers(self, unit: str) -> int:
        """The cluster ID that the member there told last, 0 when it has fallen silent."""
        probes = [
            r for r in self.traffic.records if isinstance(r, records.Probe) and r.unit == unit
        ]
        return probes[-1].cluster_id if probes else 0

    # -- what some runs need

    def serve_backups(self) -> str:
        """Let a machine of its own serve a bucket, before anything else is deployed."""
        return bucket.serve(self.juju)[1]

    def use_backups(self, address: str) -> None:
        """Let the application's backups go there."""
        bucket.use(self.juju, address)

        def takes() -> bool:
            told = self.cluster.shell(self.units()[0], "cat /etc/etcd/remote.json", ok=False)
            return "vault" in told

        cluster_under_test.eventually(takes)

    def share_machine(self, *units: str) -> None:
        """Let a small charm share the machines of units, so that they stay when etcd goes."""
        self.juju.deploy(companion(), "beside", num_units=len(units), to=self.machines(*units))
        self.juju.wait(lambda s: jubilant.all_agents_idle(s, "beside"), timeout=300)

    def shift_clock(self, unit: str) -> None:
        """Let the clock of a unit's hooks and keeper be an hour ahead, given a compiler."""
        with tempfile.TemporaryDirectory() as folder:
            if not test_clock.prepare(self.cluster, unit, pathlib.Path(folder)):
                self.say("there is no C compiler here: the clock stays right")
                return
        with self.acting("clock off by an hour", unit):
            test_clock.shift(self.cluster, unit, 1 / 24)
        self.after(lambda: test_clock.mend(self.cluster, unit))

    def learn(self) -> None:
        """Learn where the units are, while nothing is recorded yet."""
        self._look()


@functools.cache
def companion() -> pathlib.Path:
    """A small charm whose unit can share the machine with etcd's."""
    charms = TESTS / "charms"
    target = pathlib.Path(tempfile.mkdtemp()) / "easyrsa.charm"
    argv = [sys.executable, str(charms / "pack.py"), str(charms / "easyrsa"), str(target)]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    return target
