"""Histories that are written down: one line for each thing that happens, in the order it does.

A history that once found a bug is kept this way, in `histories/`: it does not change with the
random ones, and can be read. Its head names the seeded bug that it exposes.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from cluster import plan as plans
from cluster import view as views
from model import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import simulator

FOLDER = pathlib.Path(__file__).parent / "histories"
PATIENCE = 80
"""Times that a hook goes on until it has done the step that a line names."""


class DocumentError(Exception):
    """The file is not a history, or what it tells cannot happen; the text has the line."""


class Document:
    """A history that is read line by line: `VERB ARGUMENT...`, `#` begins a comment.

    Attributes:
        lines: verb and arguments of each.
        exposes: the seeded bug whose world it breaks in.
    """

    def __init__(self, text: str):
        self.lines = [line.partition("#")[0].split() for line in text.splitlines()]
        heads = [line for line in text.splitlines() if line.startswith("# exposes: ")]
        if len(heads) != 1:
            raise DocumentError("no single line `# exposes: BUG` in its head")
        self.exposes = heads[0].partition(": ")[2]

    @classmethod
    def read(cls, path: pathlib.Path) -> Document:
        """The history in a file."""
        return cls(path.read_text())

    def play(self, decide: Callable[[views.View], plans.Plan] = plans.plan) -> list[str]:
        """What happened, line by line.

        Raises:
            simulator.Violation: a promise was broken.
            DocumentError: the file is wrong.
        """
        player = _Player(decide)
        for number, line in enumerate(self.lines, 1):
            if not line:
                continue
            verb, *arguments = line
            act = getattr(player, f"do_{verb.replace('-', '_')}", None)
            if act is None:
                raise DocumentError(f"line {number}: nothing is called {verb}")
            try:
                act(*arguments)
                player.world.check_one_cluster()
            except (DocumentError, KeyError, TypeError, ValueError) as error:
                raise DocumentError(f"line {number}, {' '.join(line)}: {error}") from error
        return player.world.trace or []


class _Player:
    def __init__(self, decide: Callable[[views.View], plans.Plan]):
        self.decide = decide
        self.do_units("3")

    @property
    def world(self) -> simulator.World:
        return self.history.world

    def machine(self, unit: str) -> simulator.Machine:
        return self.world.machines[unit]

    # The world.

    def do_units(self, count: str) -> None:
        """Begin, with so many units."""
        self.history = check.History(0, self.decide, script=["wait"], trace=True, units=int(count))
        self.world.policy, self.world.flaky = views.Policy(), False

    def do_allow(self, option: str) -> None:
        """An option is set: recover-quorum-loss or recover-total-loss."""
        values = {option.replace("-", "_"): True}
        self.world.policy = views.Policy(**values)  # type: ignore[arg-type]

    def do_wait(self, seconds: str) -> None:
        self.world.now += float(seconds)
        self.world.tick()

    # Hooks.

    def do_hooks(self, rounds: str = "1") -> None:
        """Every unit runs a whole hook, so many times, six seconds apart."""
        self.history.settle(int(rounds))

    def do_hook(self, *units: str) -> None:
        """Units run their hooks to the end."""
        for unit in units:
            self.world.full_hook(unit)
            self.world.tick()

    def do_go_on(self, *units: str) -> None:
        """Units run their hooks to the end before anything else moves."""
        for unit in units:
            self.world.full_hook(unit)

    def do_step(self, unit: str, name: str) -> None:
        """A hook goes on until it has done the step, and no further."""
        trace = self.world.trace
        assert trace is not None
        for _ in range(PATIENCE):
            seen = len(trace)
            going = self.world.advance(unit)
            if any(f" {unit} {name}(" in line for line in trace[seen:]):
                return
            if not going:
                self.world.now += 1
        raise DocumentError(f"{unit} does not come to {name}: {trace[-6:]}")

    def do_looks(self, unit: str) -> None:
        """A hook begins, and has looked once."""
        self.world.advance(unit)
        self.world.advance(unit)

    def do_crash(self, unit: str) -> None:
        self.world.crash(unit)

    # Juju and its operator.

    def do_lead(self, unit: str) -> None:
        """Juju's lease of another leader runs out, and the unit gets it."""
        if self.world.leader != unit:
            self.machine(unit)
            self.world.now = max(self.world.now, self.world.leased)
            self.world.leader = unit
            self.world.log(f"OP {unit} leads")

    def do_add(self) -> None:
        self.world.add_unit()

    def do_remove(self, unit: str) -> None:
        self.world.remove_unit(unit)

    def do_force_remove(self, unit: str) -> None:
        self.world.force_remove(unit)

    def do_restore(self) -> None:
        self.history.op_restore()

    # What fate does.

    def do_kill(self, *units: str) -> None:
        for unit in units:
            self.history.kill(self.machine(unit))

    def do_revive(self, *units: str) -> None:
        for unit in units:
            self.history.revive(self.machine(unit))

    def do_cut(self, *units: str) -> None:
        """The others do not reach it; Juju does."""
        for unit in units:
            self.machine(unit).cut = True

    def do_isolate(self, *units: str) -> None:
        """Neither the others nor Juju reach it."""
        for unit in units:
            self.machine(unit).cut = self.machine(unit).mute = True

    def do_pause(self, *units: str) -> None:
        for unit in units:
            self.machine(unit).paused = True

    def do_stand(self, unit: str) -> None:
        """Its hook stands still, and all else goes on."""
        self.machine(unit).stands = True

    def do_wipe(self, unit: str) -> None:
        machine = self.machine(unit)
        machine.current, machine.prepared, machine.kept = None, {}, {}
        machine.facts, machine.running, machine.failed = None, False, machine.running

    def do_come_back(self) -> None:
        """Machines whose units were removed by force are reached again, and hear nothing."""
        for machine in self.world.gone:
            machine.cut = machine.mute = machine.paused = False
            machine.stays = True

    def do_recover(self, unit: str) -> None:
        """The operator orders to found anew from the disk of the unit."""
        self.world.recover = unit
        self.do_hook(self.world.leader)
        self.world.recover = None

    def do_heal(self) -> None:
        self.history.op_heal()

    # The end.

    def do_converge(self) -> None:
        """No more faults: one healthy cluster follows."""
        self.history.converge()

    def do_expect(self, *words: str) -> None:
        """What units last planned contains the words somewhere."""
        plans_ = [f"{n}: {p.message}" for n, p in self.world.ended.items()]
        if not any(" ".join(words) in text for text in plans_):
            raise DocumentError(f"it is: {'; '.join(plans_)}")
