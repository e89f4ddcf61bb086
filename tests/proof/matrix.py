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
FIXED = 15
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
        fresh: it begins with an empty model, and its traffic when it has ended.
        first: what has to be there before it, and before the fault.
    """

    name: str
    steps: tuple[tuple[str, str], ...]
    do: Callable[[Round], None]
    units: int = 0
    fresh: bool = False
    first: Callable[[Round], None] = lambda it: None


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a machine.

    Attributes:
        name: in the table.
        do: hurts a unit's machine; `heal` ends it.
        seconds: that it lasts, drawn between these.
        units: how many there are afterwards, more or less than before.
    """

    name: str
    do: Callable[[Round], None]
    seconds: tuple[int, int] = (10, 40)
    units: int = 0


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
        asked = pair.moment == BEFORE and pair.action.startswith("restore")  # who is to answer
        self.hit = self.chance.choice(lab.others(self.leader) if asked else lab.units())
        self.snapshot: dict[str, str] = {}
        self.backup: dict[str, str] = {}
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


def _take_snapshot(it: Round) -> None:
    it.snapshot = it.lab.run("snapshot", it.leader)["snapshot"]


def _restore_path(it: Round) -> None:
    it.lab.run("restore", lost=True, path=it.snapshot["path"])


def _take_backup(it: Round) -> None:
    it.backup = it.lab.run("create-backup")["backup"]


def _restore_backup(it: Round) -> None:
    it.lab.run("restore", lost=True, backup_id=it.backup["id"])


def _create_backup(it: Round) -> None:
    it.lab.run("create-backup", it.spared)


def _lose_majority(it: Round) -> None:
    gone = it.lab.others(it.leader)
    it.hit = it.leader
    it.lab.chaos("kill", *gone)
    it.lab.remove_by_force(*gone)
    words = "no status advises recover to the survivor of a lost majority"
    it.lab.expect(words, lambda: it.lab.cluster.says(it.leader, "recover", 5), 180)


def _recover(it: Round) -> None:
    it.lab.recover(it.leader)


def _peer_port(it: Round) -> None:
    port = it.chance.randrange(2390, 2990)
    with it.lab.acting("config", text=f"peer-port={port}"):
        it.lab.juju.config("etcd", {"peer-port": port})


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


def _clock(it: Round) -> None:
    it.lab.shift_clock(it.hit)


def _comes_back(it: Round) -> None:
    it.lab.chaos("kill", it.hit, undo="start")
    it.lab.remove_by_force(it.hit)


def _nothing(it: Round) -> None:
    it.lab.say(f"the hook of {it.hit} stays where it is")


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
_RECOVER = tuple(("leader", name) for name in ("Prepare", "Commit", "SetAside", "Adopt", "Start"))
_TURN = (("leader", "Grant"),)

ACTIONS = {
    action.name: action
    for action in (
        Action("deploy", (("leader", "Commit"), ("other", "Found")), lambda _: None, fresh=True),
        Action("add-unit", _JOIN, _add_unit, 1),
        Action("remove-unit", (), _remove_unit, -1),
        Action("remove-unit --force", (), _remove_by_force, -1),
        Action("restore path", _RESTORE, _restore_path, first=_take_snapshot),
        Action("restore backup", _RESTORE, _restore_backup, first=_take_backup),
        Action("recover", _RECOVER, _recover, 1 - UNITS, first=_lose_majority),
        Action("config", _TURN, _config),
        Action("peer-port", (("other", "UpdateMember"), *_TURN), _peer_port),
        Action("refresh", (), _refresh),
        Action("snapshot", (), _snapshot),
        Action("create-backup", (), _create_backup),
    )
}
"""All actions; rotation of certificates and of authorities is to come."""
HELD = "hook held"
COMES_BACK = "removed machine comes back"
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", _kill),
        Fault("pause", _pause, (10, 90)),
        Fault("cut", _cut),
        Fault("one-way cut", _one_way),
        Fault("disk full", _full),
        Fault("slow disk", _slow),
        Fault("clock off by an hour", _clock),
        Fault(HELD, _nothing, (30, 60)),
        Fault(COMES_BACK, _comes_back, units=-1),
        Fault("keeper killed", _keeper),
        Fault("etcd killed", _etcd),
    )
}
_NOT_TOGETHER = {
    ("deploy", COMES_BACK),  # nothing to come back to
    ("deploy", "clock off by an hour"),  # its hooks are already under way
    ("recover", COMES_BACK),  # no unit is left
    ("remove-unit", COMES_BACK),  # one of three is left, and the operator lost the quorum himself
    ("remove-unit --force", COMES_BACK),
}
_BACKUPS = ("restore backup", "create-backup")


def everything() -> list[tuple[str, str, str]]:
    """All that can be drawn: action, fault, moment."""
    return [
        (action.name, fault, moment)
        for action in ACTIONS.values()
        for fault in FAULTS
        for moment in (BEFORE, *(f"after {step}" for _, step in action.steps))
        if (action.name, fault) not in _NOT_TOGETHER and (fault, moment) != (HELD, BEFORE)
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


def deploy(lab: labs.Lab, pairs: list[Pair]) -> None:
    """What these pairs begin with."""
    if ACTIONS[pairs[0].action].fresh:
        return
    if any(pair.action in _BACKUPS for pair in pairs):
        address = lab.serve_backups()
        lab.deploy(UNITS, backup_interval="0")
        lab.use_backups(address)
    else:
        lab.deploy(UNITS)


def play(lab: labs.Lab, pair: Pair) -> None:
    """Play one pair: the action, the fault at its moment, the end of the fault, all healthy."""
    action, fault = ACTIONS[pair.action], FAULTS[pair.fault]
    if action.fresh:
        _found(lab, pair)
        return
    lab.begin()
    it = Round(lab, pair)
    if fault.name == COMES_BACK:
        lab.share_machine(*lab.units())
    action.first(it)
    lab.pass_time(4)
    count = len(lab.units()) + action.units + fault.units
    if pair.action == "recover":
        count = 1
    if pair.moment == BEFORE:
        fault.do(it)
        action.do(it)
    else:
        _in_the_middle(it, action, fault, pair.moment.removeprefix("after "))
    lab.pass_time(it.chance.randint(*fault.seconds))
    lab.heal()
    if lab.refused:  # as an operator would, once the fault is over
        action.do(it)
    lab.settle(count, SETTLES)
    lab.pass_time(3)


def _found(lab: labs.Lab, pair: Pair) -> None:
    """A fault while the first cluster is founded: the traffic comes after it."""
    action, fault = ACTIONS[pair.action], FAULTS[pair.fault]
    lab.say("deploy")
    lab.juju.deploy(lab.charm, "etcd", num_units=UNITS)
    lab.within(60, lambda: len(lab.units()) == UNITS, 0.3)
    lab.within(120, lambda: all(lab.charm_is_on(unit) for unit in lab.units()), 0.3)
    lab.learn()
    it = Round(lab, pair)
    if pair.moment != BEFORE:
        step = pair.moment.removeprefix("after ")
        whose = next(who for who, name in action.steps if name == step)
        it.hit = it.leader if whose == "leader" else lab.others(it.leader)[0]
        lab.hold(it.hit, pair.moment)
        if not lab.await_held(it.hit, pair.moment, 150):
            lab.say(f"no hook of {it.hit} came to the moment {pair.moment}: the fault comes now")
    fault.do(it)
    if fault.name != HELD:
        lab.release_later(it.hit)
    lab.pass_time(it.chance.randint(*fault.seconds))
    lab.heal()
    if lab.settle(UNITS, SETTLES):
        lab.begin()
        lab.pass_time(10)


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
    if fault.name != COMES_BACK or whose != "new":
        it.hit = unit
    if lab.await_held(unit, boundary, 150):
        fault.do(it)
        if fault.name != HELD:
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


def ready_again(lab: labs.Lab, pair: Pair) -> bool:
    """Whether the cluster can take another pair: as many units as at first, healthy."""
    if ACTIONS[pair.action].fresh or FAULTS[pair.fault].name == COMES_BACK:
        return False
    have = lab.units()
    more = UNITS - len(have)
    began = time.monotonic()
    if more > 0:
        lab.juju.add_unit("etcd", num_units=more)
    elif more < 0:
        lab.juju.remove_unit(*have[more:])
    if not lab.healthy(UNITS, SETTLES):
        return False
    lab.say(f"{UNITS} units again after {time.monotonic() - began:.0f} s")
    return True
