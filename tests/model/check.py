"""A plain model checker: random histories of faults and Juju's doings, hooks interleaved.

python -m model.check --histories 100000
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import sys
import time
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import plan as plans
from cluster import view as views
from model import simulator

if TYPE_CHECKING:
    from collections.abc import Callable

LASTING = 30
"""Rounds, of 20 s, that faults last when it is asked whether a generation came to a decision."""
ROUNDS = 150
"""Bound on the rounds of hooks, one for each unit, from the last fault to health."""


class History:
    """One random history: a world, what is done to it, and the judgement at its end."""

    def __init__(
        self,
        seed: int,
        decide: Callable[[views.View], plans.Plan] = plans.plan,
        script: list[str] | None = None,
        verbs: tuple[str, ...] = (),
        trace: bool = False,
        units: int = 0,
    ):
        self.random = r = random.Random(seed)
        policy = views.Policy(
            recover_quorum_loss=r.random() < 0.5, recover_total_loss=r.random() < 0.5
        )
        units = units or r.choice((1, 2, 3, 3, 3, 3, 5))
        self.decide = decide
        first = quick if decide is plans.plan else decide
        self.world = simulator.World(r, units, decide=first, policy=policy)
        self.world.strict = seed % 2 == 0
        if trace:
            self.world.trace = []
        self.script = script or [r.choice(verbs or VERBS) for _ in range(r.randrange(3, 14))]

    def run(self) -> int:
        """Play it; the number of hooks it took.

        Raises:
            simulator.Violation: a promise was broken.
        """
        world, r = self.world, self.random
        if r.random() < 0.6:
            self.settle(r.randrange(3, 10))
        for verb in self.script:
            getattr(self, f"op_{verb}")()
            world.check_one_cluster()
            self.interleave(r.randrange(1, 12))
        if world.generation is not None and world.generation.closed:
            self.decided()
        self.converge()
        return world.hook_count

    def interleave(self, count: int) -> None:
        """Advance random units' hooks by single steps; some hooks die on the way."""
        world, r = self.world, self.random
        for _ in range(count):
            names = list(world.machines)
            if not names:
                return
            name = r.choice(names)
            if r.random() < 0.06:
                world.crash(name)
            for _ in range(r.randrange(1, 6)):
                if not world.advance(name):
                    break
            world.now += r.random() * 3
            if r.random() < 0.5:
                world.tick()
        world.now += r.choice((1, 1, 5, 5, 20, 100))

    def settle(self, rounds: int) -> None:
        world = self.world
        for _ in range(rounds):
            for name in list(world.machines):
                world.full_hook(name)
            world.tick()
            world.now += 6

    def pick(self, *, live: bool = True) -> simulator.Machine | None:
        machines = [m for m in self.world.machines.values() if m.up or not live]
        return self.random.choice(machines) if machines else None

    # What Juju and its operator do.

    def op_add(self) -> None:
        if len(self.world.machines) < 5:
            self.world.log("OP add unit")
            self.world.add_unit()

    def op_remove(self) -> None:
        machine = self.pick()
        if machine:
            self.world.log(f"OP remove {machine.name}")
            self.world.remove_unit(machine.name)

    def op_force_remove(self) -> None:
        machine = self.pick(live=False)
        if machine and (not machine.up or self.random.random() < 0.2):
            self.world.log(f"OP force-remove {machine.name}")
            self.world.force_remove(machine.name)

    def op_abandon(self) -> None:
        """Several machines are out of reach, and Juju is told to forget their units."""
        for _ in range(self.random.randrange(1, 3)):
            machine = self.pick()
            if machine and len(self.world.machines) > 1:
                self.world.log(f"OP force-remove {machine.name}, which runs on")
                self.world.force_remove(machine.name)

    def op_come_back(self) -> None:
        """A machine whose unit was removed by force stayed, and is reached again."""
        gone = [m for m in self.world.gone if m.up and m.current and m.cut]
        if gone:
            machine = self.random.choice(gone)
            machine.stays = self.random.random() < 0.7
            machine.cut = machine.mute = machine.paused = False
            self.fault(f"machine of {machine.name} comes back{' unheard' * machine.stays}")
            if machine.enabled and not machine.running:
                self.world.run(machine)

    def op_leader(self) -> None:
        self.world.log("OP new Juju leader")
        self.world.elect()

    def op_restore(self) -> None:
        world = self.world
        founders = tuple(
            generations.Founder(m.name, m.url)
            for m in world.machines.values()
            if m.alive and m.installed
        )
        led = world.leader in world.machines
        if world.proposal is None and world.generation and founders and led:
            world.log("OP restore")
            self.propose(founders)

    def propose(self, founders: tuple[generations.Founder, ...]) -> None:
        world = self.world
        world.tokens += 1
        number = (world.generation.number if world.generation else 0) + 1
        # The action runs on the leader as a hook of its own: what it had open is over by then.
        world.crash(world.leader)
        world.proposal = generations.Generation(
            number,
            f"t{world.tokens}",
            generations.Source.BACKUP,
            founders,
            world.restorable(),
            skip_backup=self.random.random() < 0.3,
        )

    def op_recover(self) -> None:
        """An operator founds anew from the best disk that Juju's leader knows of, as it is told.

        The leader may be the one that is cut off, beside a majority that serves: `recover` asks
        no more than whether the cluster answers the leader.
        """
        world, leader = self.world, self.world.machines.get(self.world.leader)
        if leader is None or not leader.up or leader.mute or leader.paused:
            return
        if world.generation is None or world.proposal is not None:
            return
        if world.answer(leader, world.generation)[1] is not None:
            return
        disks = {
            bag.name: bag.facts.index
            for bag in world.bags.values()
            if bag.facts and bag.name in world.machines and world.machines[bag.name].alive
        }
        if leader.current is not None:
            disks[leader.name] = leader.current.index
        if disks:
            best = max(disks, key=lambda name: disks[name])
            world.log(f"OP recover {best}")
            world.crash(leader.name)  # the action is a hook of its own
            world.recover = best
            world.full_hook(leader.name)
            world.recover = None

    def op_stale(self) -> None:
        self.world.log("OP configuration changed")
        for machine in self.world.machines.values():
            machine.stale = True

    def op_address(self) -> None:
        machine = self.pick()
        if machine and self.random.random() < 0.5:
            machine.url = machine.url.replace("https://m", "https://n")
            machine.stale = True
            self.world.log(f"OP address of {machine.name}")

    # What fate does.

    def fault(self, text: str) -> None:
        self.world.epoch += 1
        self.world.log(f"FAULT {text}")

    def op_kill(self) -> None:
        machine = self.pick()
        if machine:
            self.fault(f"kill {machine.name}")
            self.kill(machine)

    def kill(self, machine: simulator.Machine) -> None:
        machine.up = machine.running = machine.paused = machine.stands = False
        machine.since = {}
        self.world.crash(machine.name)
        if self.world.leader == machine.name:
            self.world.elect()

    def op_revive(self) -> None:
        machine = next((m for m in self.world.machines.values() if not m.up), None)
        if machine:
            self.fault(f"revive {machine.name}")
            self.revive(machine)

    def revive(self, machine: simulator.Machine) -> None:
        machine.up = True
        if machine.enabled and machine.current is not None:
            self.world.run(machine)

    def op_reboot_all(self) -> None:
        if self.random.random() < 0.3:
            self.fault("reboot all")
            for machine in self.world.machines.values():
                if machine.up:
                    self.kill(machine)
            for machine in self.world.machines.values():
                self.revive(machine)

    def op_cut(self) -> None:
        machine = self.pick()
        if machine:
            self.fault(f"cut {machine.name}")
            machine.cut = True

    def op_split(self) -> None:
        """The network falls into two halves, of which Juju reaches both or one."""
        world, mute = self.world, self.random.random() < 0.5
        sides = {m.name: self.random.randrange(2) for m in world.machines.values()}
        away = ", ".join(name for name, side in sides.items() if side)
        self.fault(f"split: {away} on their own{', without Juju' * mute}")
        for machine in world.machines.values():
            machine.side = sides[machine.name]
            machine.mute = machine.mute or (mute and machine.side == 1)
        if world.leader in sides and world.machines[world.leader].mute:
            world.elect()

    def op_isolate(self) -> None:
        """Neither the others nor Juju reach it; it goes on."""
        machine = self.pick()
        if machine:
            self.fault(f"isolate {machine.name}")
            machine.cut = machine.mute = True
            if self.world.leader == machine.name:
                self.world.elect()

    def op_pause(self) -> None:
        """It stands still, and goes on later where it was, in the middle of a hook or not."""
        machine = self.pick()
        if machine:
            self.fault(f"pause {machine.name}")
            machine.paused = True
            if self.world.leader == machine.name:
                self.world.elect()

    def op_stand(self) -> None:
        """The leader's hook stands still between its writing of a record and its end."""
        world, leader = self.world, self.world.leader
        for _ in range(60):
            machine = world.machines.get(leader)
            if (
                machine is None
                or not machine.up
                or machine.paused
                or machine.mute
                or machine.stands
            ):
                return
            world.advance(leader)
            if leader in world.hooks and world.last[leader].writes:
                self.fault(f"the hook of {leader} stands still before its end")
                machine.stands = True
                world.elect()
                return

    def op_heal(self) -> None:
        self.fault("heal")
        for machine in self.world.machines.values():
            machine.cut = machine.mute = machine.paused = machine.stands = False
            machine.side = 0

    def op_wipe(self) -> None:
        """The data is lost, at any moment; what the machine notes elsewhere of it stays.

        With that other disk Juju's agent would be lost as well, and the unit with it.
        """
        machine = self.pick(live=False)
        if machine is None:
            return
        self.fault(f"wipe {machine.name}")
        machine.lost = machine.current or machine.lost
        machine.current, machine.prepared, machine.kept = None, {}, {}
        machine.broken, machine.facts, machine.corrupt = "", None, False
        machine.finished = 0
        machine.running, machine.failed = False, machine.running

    def op_break(self) -> None:
        machine = self.pick()
        if machine and machine.current is not None:
            self.fault(f"break {machine.name}")
            machine.broken, machine.running, machine.failed = "corrupt", False, True

    def op_alarm(self) -> None:
        machine = self.pick()
        if machine and machine.running and machine.current is not None:
            if any(m.corrupt for m in self.world.machines.values()):
                return
            named = self.random.random() < 0.5
            self.fault(f"corrupt alarm on {machine.name}{'' if named else ', unnamed'}")
            machine.corrupt = True
            alarms = self.world.alarms.setdefault(machine.current.token, set())
            alarms.add(machine.current.member if named else 0)

    def op_disk_return(self) -> None:
        machine = self.pick()
        if machine and machine.lost is not None and machine.current is None:
            self.fault(f"disk of {machine.name} returns")
            machine.current, machine.lost = machine.lost, None
            machine.current.returned = True

    def op_attach(self) -> None:
        """The storage of a unit that is gone goes to a new one."""
        world = self.world
        old = next((m for m in world.gone if m.current and not (m.up and m.running)), None)
        if old is None or len(world.machines) >= 5:
            return
        new = world.add_unit()
        self.fault(f"storage of {old.name} to {new.name}")
        new.current, old.current = old.current, None

    def op_clock(self) -> None:
        machine = self.pick()
        if machine:
            machine.skew = self.random.choice((-5000.0, -60.0, 60.0, 5000.0))

    def op_unable(self) -> None:
        machine = self.pick()
        if machine:
            machine.unable = True

    def op_slow(self) -> None:
        machine = self.pick()
        if machine:
            machine.slow = self.random.choice((30, 300, 1200))

    def op_wait(self) -> None:
        self.world.now += self.random.choice((60, 400, 1000))

    # The end.

    def decided(self) -> None:
        """Faults last, and time goes by: a new generation is confirmed or taken back all the same.

        Wherever machines that reach each other and Juju hold a quorum of either.
        """
        world = self.world
        world.log("FAULTS LAST")
        for machine in world.machines.values():
            machine.stands = False  # no hook stands still for good
        world.elect()  # Juju's lease goes to a machine that it reaches
        for _ in range(LASTING):
            world.tick()
            for name in list(world.machines):
                world.full_hook(name)
            world.now += 20
            record = world.generation
            undecided = record is not None and not record.confirmed and record.closed
            if not undecided or world.proposal is not None:
                return
        together = [
            m
            for m in world.machines.values()
            if m.connected and not m.mute and m.alive and m.installed and not m.broken
        ]
        for token in (record.token, record.detail.previous_token):
            for side in (0, 1):
                near = [m for m in together if m.side == side]
                there = [m.current for m in near if m.current and m.current.token == token]
                there += [
                    m.prepared[token] for m in near if token in m.prepared and m.may_begin(record)
                ]
                if token and world.could_serve(there):
                    raise simulator.Violation("neither confirmed nor taken back")

    def converge(self) -> None:
        """No more faults: all units run hooks in turn; the operator does what a status says."""
        world = self.world
        self.fault("no more faults")
        world.flaky = False
        world.decide = self.decide
        for machine in world.gone:
            machine.cut = machine.stays = machine.paused = False
        for machine in (*world.machines.values(), *world.gone):
            machine.side = 0
        world.fence()
        for machine in world.machines.values():
            machine.cut = machine.unable = machine.mute = machine.paused = machine.stands = False
            if not machine.up:
                self.revive(machine)
        for machine in world.machines.values():
            if machine.slow > 30:
                machine.slow = 30
        for round_ in range(ROUNDS):
            world.tick()
            for name in list(world.machines):
                world.full_hook(name)
            if world.leader not in world.machines:
                world.elect()
            world.now += 5 if round_ < 30 else 40
            if self.healthy():
                return
            if round_ % 15 == 14:
                self.obey()
        raise simulator.Violation(
            "did not converge: " + "; ".join(f"{n}: {p.message}" for n, p in world.ended.items())
        )

    def obey(self) -> None:
        """The operator runs what a blocked status names."""
        world = self.world
        for machine in list(world.machines.values()):
            plan = world.ended.get(machine.name)
            if not machine.alive and plan is not None and plan.steps:
                world.log(f"OPERATOR force-remove {machine.name}")
                world.force_remove(machine.name)
        blocked = [p.message for p in world.ended.values() if p.status == "blocked"]
        commands = {verb for verb in ("recover", "restore") for m in blocked if verb in m}
        token = world.generation.token if world.generation else None
        holders = [
            m
            for m in world.machines.values()
            if m.current
            and m.alive
            and m.broken != "corrupt"
            and not m.corrupt
            and (token is None or m.current.token == token)
        ]
        if "recover" in commands and holders:
            best = max(holders, key=lambda m: m.current.index if m.current else 0)
            world.log(f"OPERATOR recover {best.name}")
            world.recover = best.name
        elif commands:
            world.log("OPERATOR restore")
            self.op_restore()

    def healthy(self) -> bool:
        world = self.world
        if any(not m.alive for m in world.machines.values()):
            return False
        if world.proposal is not None and world.machines:
            return False
        if world.machines and world.generation and world.alarms.get(world.generation.token):
            return False
        if any(m.current and m.current.closed for m in world.machines.values()):
            return False
        for name in world.machines:
            plan = world.ended.get(name)
            if plan is None or plan.state is not plans.State.HEALTHY or plan.steps:
                return False
        return True


def quick(view: views.View) -> plans.Plan:
    """`plan` without the words, which only the end of a history reads."""
    return plans.Plan(plans.decide(view), plans.State.DEGRADED, "", "", plans.clocks(view))


VERBS = sorted(name[3:] for name in dir(History) if name.startswith("op_"))
"""What can happen to a world: the names of the `op_` methods."""


def play(
    seed: int,
    decide: Callable[[views.View], plans.Plan] = plans.plan,
    verbs: tuple[str, ...] = (),
) -> str:
    """Play one history: "" when all promises held, otherwise what was broken."""
    history = History(seed, decide, verbs=verbs)
    try:
        history.run()
    except simulator.Violation as violation:
        return str(violation)
    return ""


def _play(job: tuple[int, tuple[str, ...]]) -> tuple[int, str]:
    seed, verbs = job
    try:
        return seed, play(seed, verbs=verbs)
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}"


def main() -> int:
    """Play many histories and print what broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--verbs", default="", help="only these, by comma: " + ", ".join(VERBS))
    parser.add_argument("--show", type=int, help="print the history of this seed and stop")
    options = parser.parse_args()
    verbs = tuple(filter(None, options.verbs.split(",")))
    if options.show is not None:
        history = History(options.show, verbs=verbs, trace=True)
        try:
            history.run()
        except simulator.Violation as violation:
            history.world.log(f"VIOLATION {violation}")
        print("\n".join(history.world.trace or ()))
        return 0
    begin = time.monotonic()
    broken: list[tuple[int, str]] = []
    jobs = [(options.first + n, verbs) for n in range(options.histories)]
    with multiprocessing.Pool(options.workers) as pool:
        for seed, why in pool.imap_unordered(_play, jobs, chunksize=100):
            if why:
                broken.append((seed, why))
    seconds = time.monotonic() - begin
    print(f"{options.histories} histories in {seconds:.0f} s, {len(broken)} broken")
    kinds = collections.Counter(why.split(":")[0][:60] for _, why in broken)
    for kind, count in kinds.most_common():
        print(f"  {count} {kind}")
    for seed, why in sorted(broken)[:20]:
        print(f"  seed {seed}: {why}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
