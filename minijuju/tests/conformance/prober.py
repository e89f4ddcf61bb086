"""Reads what probe charms wrote down, and waits for them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import jubilant
import pytest

from minijuju.model import behaviour
from minijuju.testing import hurting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PATIENCE = 60.0
"""Seconds until an expected event counts as missing."""
BOOT_PATIENCE = 240.0
"""Seconds until new units must be there; a real cloud needs minutes."""
RECENT_LINES = 200
"""Lines of the debug-log that are read at first; all of them where these hold nothing known."""
QUIET = (0.8, 4.0)
"""Seconds without any event after which nothing more is expected: from minijuju, from others."""


@dataclasses.dataclass
class Event:
    """One dispatch of a probe.

    Attributes:
        id: unique.
        unit: which unit.
        name: the hook's or action's name.
        begin: Unix time at which it began.
        env: its whole environment.
        cwd: its working directory.
        uid: its user.
        charm: content of the file ``version-of-probe`` in the charm.
        seen: what the probe asked at first: hook tool and arguments, with the answer.
        end: Unix time at which it ended, or None.
        calls: the plan's steps with their answers.
        code: exit code, or None if it did not end.
    """

    id: str
    unit: str
    name: str
    begin: float
    env: dict[str, str]
    cwd: str
    uid: int
    charm: str
    seen: list[dict[str, Any]]
    end: float | None = None
    calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    code: int | None = None

    def told(self, *start: str) -> Any:
        """The JSON answer to the first question whose words begin with *start*.

        *start* may also be a single word that occurs anywhere in the question.
        """
        for call in self.seen:
            if call["run"][: len(start)] == list(start):
                return json.loads(call["out"])
        raise KeyError(f"{self} did not ask {start}")

    @property
    def leader(self) -> bool:
        """Whether the unit was the leader when the event began."""
        return bool(self.told("is-leader"))

    @property
    def remote(self) -> dict[str, str]:
        """The remote unit's databag as the event saw it; empty where there is none."""
        return self._bag(app=False)

    @property
    def remote_app(self) -> dict[str, str]:
        """The remote application's databag as the event saw it; empty where there is none."""
        return self._bag(app=True)

    def _bag(self, *, app: bool) -> dict[str, str]:
        for call in self.seen:
            if call["run"][0] == "relation-get" and ("--app" in call["run"]) is app:
                return json.loads(call["out"]) if call["code"] == 0 else {}
        return {}

    def __str__(self) -> str:
        """Short, for failed assertions."""
        about = self.env.get("JUJU_REMOTE_UNIT") or self.env.get("JUJU_REMOTE_APP") or ""
        return f"{self.unit}:{self.name}({about})={self.code}"

    __repr__ = __str__


def absorb(log: str, known: dict[str, Event]) -> bool:
    """Add to the known events what a debug-log tells of probes.

    Returns:
        Whether the log reaches back to something that was known before.
    """
    overlaps = False
    ends: list[dict[str, Any]] = []
    for line in log.splitlines():
        _, mark, text = line.partition("PROBE {")
        if not mark:
            continue
        record = json.loads("{" + text)
        if record["phase"] == "end":
            ends.append(record)
            continue
        if record["id"] in known:
            overlaps = True
            continue
        known[record["id"]] = Event(
            id=record["id"],
            unit=record["unit"],
            name=record["event"],
            begin=record["at"],
            **{key: record[key] for key in ("env", "cwd", "uid", "charm", "seen")},
        )
    for record in ends:
        if record["id"] in known:
            event = known[record["id"]]
            event.end, event.calls, event.code = record["at"], record["calls"], record["code"]
    return overlaps


class Prober:
    """One model with probes in it."""

    def __init__(self, juju: jubilant.Juju, on_minijuju: bool) -> None:
        self.juju = juju
        self.on_minijuju = on_minijuju
        self.behaviour = behaviour.of(juju.status().model.version)
        self._known: dict[str, Event] = {}

    # -- reading

    def events(
        self, *units: str, after: Collection[str] = (), updates: bool = False
    ) -> list[Event]:
        """Events of all or of some units (or applications).

        Args:
            units: names of units or applications; none means all.
            after: a `mark`; events known then are left out.
            updates: whether ``update-status`` counts too.
        """
        if not absorb(self.juju.debug_log(limit=RECENT_LINES), self._known):
            absorb(self.juju.debug_log(limit=0), self._known)
        return [
            event
            for event in sorted(self._known.values(), key=lambda event: event.begin)
            if event.id not in after
            and (not units or event.unit in units or event.unit.rpartition("/")[0] in units)
            and (updates or event.name != "update-status")
        ]

    def names(self, unit: str, after: Collection[str] = ()) -> list[str]:
        """Names of a unit's events, in order."""
        return [event.name for event in self.events(unit, after=after)]

    def mark(self) -> set[str]:
        """What has happened until now, to be left out later."""
        return {event.id for event in self.events(updates=True)}

    # -- waiting

    def until(
        self,
        check: Callable[[], Any],
        what: str,
        timeout: float = PATIENCE,
    ) -> Any:
        """Wait until *check* gives something true, and return that."""
        deadline = time.monotonic() + timeout
        while True:
            found = check()
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what}")
            time.sleep(0.3)

    def expect(
        self,
        unit: str,
        name: str,
        after: Collection[str] = (),
        *,
        where: Callable[[Event], bool] = lambda _: True,
        timeout: float = PATIENCE,
    ) -> Event:
        """Wait until a unit (or any of an application) has ended an event, and return that."""

        def check() -> Event | None:
            for event in self.events(unit, after=after, updates=name == "update-status"):
                if event.name == name and event.end is not None and where(event):
                    return event
            return None

        return self.until(check, f"{name} in {unit}", timeout)

    def settle(self, timeout: float = BOOT_PATIENCE) -> jubilant.Status:
        """Wait until every agent is idle and no event came for a while."""
        deadline = time.monotonic() + timeout
        before: set[str] | None = None
        while time.monotonic() < deadline:
            status = self.juju.status()
            now = self.mark() if _idle(status) else None
            if now is not None and now == before:
                return status
            before = now
            time.sleep(QUIET[0] if self.on_minijuju else QUIET[1])
        pytest.fail(f"the model does not come to rest within {timeout:g} s")

    def gone(self, unit: str, timeout: float = PATIENCE) -> None:
        """Wait until a unit is removed."""
        self.until(lambda: unit not in self.units(), f"removal of {unit}", timeout)

    # -- acting

    def units(self, *applications: str) -> dict[str, jubilant.statustypes.UnitStatus]:
        """All units of the applications (by default of all), by name."""
        status = self.juju.status()
        return {
            name: unit
            for application in applications or status.apps
            for name, unit in status.get_units(application).items()
        }

    def leader(self, application: str) -> str:
        """The unit that the status calls leader."""
        found = [name for name, unit in self.units(application).items() if unit.leader]
        return found[0] if found else ""

    def others(self, application: str, unit: str) -> list[str]:
        """An application's units without one."""
        return [name for name in self.units(application) if name != unit]

    def do(self, unit: str, *steps: Any, wait: float = 60) -> list[dict[str, Any]]:
        """Run steps in an action and return their answers."""
        task = self.juju.run(unit, "do", {"steps": json.dumps(steps)}, wait=wait)
        return json.loads(task.results["calls"])

    def tool(self, unit: str, *words: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Run one hook tool in an action; gives exit code, stdout, stderr."""
        (call,) = self.do(unit, {"run": list(words), "stdin": stdin})
        return call["code"], call["out"], call["err"]

    def ask(self, unit: str, *words: str) -> Any:
        """The JSON answer of one hook tool, which must succeed."""
        code, out, err = self.tool(unit, *words)
        assert code == 0, err
        return json.loads(out)

    def start_action(self, unit: str, *steps: Any) -> str:
        """Enqueue steps in an action and return the task's id."""
        words = ["run", "--model", str(self.juju.model), "--background", "--string-args"]
        answer = subprocess.run(
            ["juju", *words, unit, "do", f"steps={json.dumps(steps)}"],
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )
        found = re.search(r"with task (\d+)", answer.stderr)
        assert found, answer
        assert answer.stdout == ""
        return found[1]

    def plan(self, application: str, **steps: list[Any]) -> None:
        """Set the plan: event names with underscores, or ``every`` for all events."""
        names = {
            ("*" if name == "every" else name.replace("_", "-")): todo
            for name, todo in steps.items()
        }
        self.juju.config(application, {"plan": json.dumps(names)})

    def plan_in(self, unit: str, **steps: list[Any]) -> None:
        """The same for one unit, by a file in it and without any event."""
        names = {name.replace("_", "-"): todo for name, todo in steps.items()}
        folder = f"/var/lib/probe/{unit.replace('/', '-')}"
        self.juju.cli(
            *("ssh", unit, "sudo", "tee", f"{folder}/plan.json"), stdin=json.dumps(names)
        )

    def shell(self, target: str, command: str) -> str:
        """Run a shell command as root in a unit's or machine's machine, outside any hook."""
        return self.juju.cli("ssh", target, "sudo", "bash", "-c", f"'{command}'")

    @staticmethod
    def gate(name: str) -> str:
        """A step that waits until `open` is called."""
        return f"until [ -e /run/probe-{name} ]; do sleep 0.1; done"

    def open(self, unit: str, name: str) -> None:
        """Let a unit pass a gate, as soon as its machine can be entered."""

        def passed() -> bool:
            with contextlib.suppress(jubilant.CLIError):
                self.shell(unit, f"touch /run/probe-{name}")
                return True
            return False

        self.until(passed, f"{unit} can be entered", BOOT_PATIENCE)

    def machine(self, unit: str) -> str:
        """The machine of a unit."""
        return self.units()[unit].machine

    # -- hurting

    def chaos(self, action: str, machine: str) -> None:
        """Kill, start, pause, resume or reboot a machine."""
        hurting.hurt(self.juju, action, machine)


def _idle(status: jubilant.Status) -> bool:
    agents = [
        unit.juju_status.current
        for application in status.apps
        for unit in status.get_units(application).values()
    ]
    return all(agent == "idle" for agent in agents)


@contextlib.contextmanager
def refused() -> Any:
    """Expect the command line to refuse; gives a list that holds its stderr afterwards."""
    text: list[str] = []
    with pytest.raises(jubilant.CLIError) as error:
        yield text
    text.append(error.value.stderr)
