"""Traffic x action x fault x moment, as data; pairs drawn by a seed, and the fixed set."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proof import lab as labs

UNITS = 3
DRAWN = 12
"""Pairs that a seed draws unless told."""
FIXED_SEED = 1
FIXED = 14
"""Pairs of the fixed set: with the cases it takes less than an hour on two cores."""
BEFORE = "before"
SETTLES = 420.0
"""Seconds until all is healthy after the last fault."""


@dataclasses.dataclass(frozen=True)
class Action:
    """What an operator does.

    Attributes:
        name: in the table.
        steps: boundaries at which a hook may be stopped, in order, each with whose hook it is:
            `leader`, `other`, or `new` for a unit that comes.
        do: begins it.
        units: how many there are afterwards, more or less than before.
    """

    name: str
    steps: tuple[tuple[str, str], ...]
    do: Callable[[Round], None]
    units: int = 0


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a machine.

    Attributes:
        name: in the table.
        do: hurts a unit's machine; `heal` ends it.
        seconds: that it lasts, drawn between these.
    """

    name: str
    do: Callable[[Round], None]
    seconds: tuple[int, int] = (10, 40)


@dataclasses.dataclass(frozen=True)
class Pair:
    """One run.

    Attributes:
        action: its name.
        fault: its name.
        moment: "before" the action, or "after" one of its steps.
        seed: draws whom it hits and how long it lasts.
    """

    action: str
    fault: str
    moment: str
    seed: int

    def __str__(self) -> str:
        """As it is printed when it is drawn."""
        return f"{self.action} x {self.fault} x {self.moment} (seed {self.seed})"


class Round:
    """A pair while it is played: who is hit, and what the action needs.

    Attributes:
        lab: the cluster.
        chance: decides what the pair leaves open.
        leader: Juju's leader at the beginning.
        hit: the unit whose machine the fault hurts.
    """

    def __init__(self, lab: labs.Lab, pair: Pair) -> None:
        self.lab = lab
        self.chance = random.Random(pair.seed)
        self.leader = lab.cluster.leader()
        self.hit = self.chance.choice(lab.units())
        self.snapshot: dict[str, str] = {}
        self.known = set(lab.units())

    @property
    def spared(self) -> str:
        """A unit that the fault does not hurt, and that does not lead if there is another."""
        left = [unit for unit in self.lab.units() if unit != self.hit]
        return next((unit for unit in left if unit != self.leader), left[0])


def _add_unit(it: Round) -> None:
    with it.lab.acting("add-unit"):
        it.lab.juju.add_unit("etcd")


def _remove_unit(it: Round) -> None:
    with it.lab.acting("remove-unit", it.spared):
        it.lab.juju.remove_unit(it.spared)


def _remove_by_force(it: Round) -> None:
    unit = it.hit
    with it.lab.acting("remove-unit --force", unit):
        it.lab.juju.cli("remove-unit", "--force", "--no-wait", "--no-prompt", unit)


def _restore_path(it: Round) -> None:
    it.lab.run("restore", lost=True, path=it.snapshot["path"])


def _snapshot(it: Round) -> None:
    it.lab.run("snapshot", it.spared)


def _config(it: Round) -> None:
    chosen = it.chance.choice([110, 120, 130, 140, 150])
    with it.lab.acting("config", text=f"heartbeat-interval={chosen}"):
        it.lab.juju.config("etcd", {"heartbeat-interval": chosen})


def _refresh(it: Round) -> None:
    with it.lab.acting("refresh"):
        it.lab.juju.cli("refresh", "etcd", "--path", str(it.lab.charm))


def _kill(it: Round) -> None:
    it.lab.chaos("kill", it.hit, undo="start")


def _pause(it: Round) -> None:
    it.lab.chaos("pause", it.hit, undo="resume")


def _cut(it: Round) -> None:
    it.lab.chaos("cut", it.hit, undo="heal")


def _one_way(it: Round) -> None:
    to = ",".join(it.lab.machines(*it.lab.others(it.hit)))
    it.lab.chaos("mute", it.hit, undo="heal", to=to)


def _full(it: Round) -> None:
    it.lab.chaos("fill-disk", it.hit, undo="free-disk")


def _slow(it: Round) -> None:
    it.lab.chaos("slow-disk", it.hit, iops="8")
    it.lab.after(lambda: it.lab.chaos("slow-disk", it.hit, iops="0"))


def _keeper(it: Round) -> None:
    with it.lab.acting("kill the keeper", it.hit):
        it.lab.cluster.shell(it.hit, "systemctl kill -s KILL etcd-keeper", ok=False)


def _etcd(it: Round) -> None:
    with it.lab.acting("kill etcd", it.hit):
        it.lab.cluster.shell(it.hit, "systemctl kill -s KILL etcd", ok=False)


_JOIN = (("new", "AddLearner"), ("new", "Join"))
_RESTORE = tuple(
    (("leader" if name == "Commit" else "other"), name)
    for name in ("Prepare", "Commit", "Stop", "SetAside", "Adopt", "Start")
)

ACTIONS = {
    action.name: action
    for action in (
        Action("add-unit", _JOIN, _add_unit, 1),
        Action("remove-unit", (), _remove_unit, -1),
        Action("remove-unit --force", (), _remove_by_force, -1),
        Action("restore", _RESTORE, _restore_path),
        Action("snapshot", (), _snapshot),
        Action("config", (("leader", "Grant"),), _config),
        Action("refresh", (), _refresh),
    )
}
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", _kill),
        Fault("pause", _pause, (10, 90)),
        Fault("cut", _cut),
        Fault("one-way cut", _one_way),
        Fault("disk full", _full),
        Fault("slow disk", _slow),
        Fault("keeper killed", _keeper),
        Fault("etcd killed", _etcd),
    )
}


def everything() -> list[tuple[str, str, str]]:
    """All that can be drawn: action, fault, moment."""
    return [
        (action.name, fault, moment)
        for action in ACTIONS.values()
        for fault in FAULTS
        for moment in (BEFORE, *(f"after {step}" for _, step in action.steps))
    ]


def draw(seed: int, count: int = DRAWN) -> list[Pair]:
    """Pairs by a seed, none twice, every action and every fault as evenly as it goes."""
    chance = random.Random(seed)
    left = everything()
    chance.shuffle(left)
    used: dict[str, int] = {}
    drawn: list[Pair] = []
    while left and len(drawn) < count:
        best = min(left, key=lambda one: (used.get(one[0], 0), used.get(one[1], 0)))
        left.remove(best)
        for name in best[:2]:
            used[name] = used.get(name, 0) + 1
        drawn.append(Pair(*best, seed=chance.randrange(10_000)))
    return drawn


def fixed() -> list[Pair]:
    """The set that `make proof` runs."""
    return draw(FIXED_SEED, FIXED)


def deploy(lab: labs.Lab) -> None:
    """What every pair begins with."""
    lab.deploy(UNITS)


def play(lab: labs.Lab, pair: Pair) -> None:
    """Play one pair: the action, the fault at its moment, the end of the fault, all healthy."""
    action, fault = ACTIONS[pair.action], FAULTS[pair.fault]
    lab.begin()
    it = Round(lab, pair)
    if action.do is _restore_path:
        it.snapshot = lab.run("snapshot", it.leader)["snapshot"]
    lab.pass_time(4)
    count = len(lab.units()) + action.units
    if pair.moment == BEFORE:
        fault.do(it)
        action.do(it)
    else:
        _in_the_middle(it, action, fault, pair.moment.removeprefix("after "))
    lab.pass_time(it.chance.randint(*fault.seconds))
    lab.heal()
    lab.settle(count, SETTLES)
    lab.pass_time(3)


def _in_the_middle(it: Round, action: Action, fault: Fault, step: str) -> None:
    """Stop a hook after a step of the action, and hurt its machine there."""
    lab = it.lab
    whose = next(who for who, name in action.steps if name == step)
    boundary = f"after {step}"
    if whose == "new":
        action.do(it)
        unit = _the_new_one(it)
    else:
        unit = it.leader if whose == "leader" else lab.others(it.leader)[0]
        lab.hold(unit, boundary)
        action.do(it)
    it.hit = unit
    if lab.await_held(unit, boundary, 150):
        fault.do(it)
        lab.release_later(unit)
    else:
        lab.say(f"no hook of {unit} came to the moment {boundary}: the fault comes now")
        fault.do(it)


def _the_new_one(it: Round) -> str:
    """The unit that the action adds, held as soon as its charm is there."""
    lab = it.lab
    lab.within(60, lambda: set(lab.units()) - it.known, 0.3)
    (unit,) = set(lab.units()) - it.known
    lab.within(120, lambda: lab.charm_is_on(unit), 0.3)
    lab.place(unit)
    lab.hold(unit, "after AddLearner")
    return unit


def ready_again(lab: labs.Lab) -> bool:
    """Whether the cluster can take another pair: as many units as at first, healthy."""
    have = lab.units()
    more = UNITS - len(have)
    began = time.monotonic()
    if more > 0:
        lab.juju.add_unit("etcd", num_units=more)
    elif more < 0:
        lab.juju.remove_unit(*have[more:])
    healthy = lab.settle(UNITS, SETTLES)
    lab.say(f"{UNITS} units again after {time.monotonic() - began:.0f} s")
    return healthy
