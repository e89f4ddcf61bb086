"""What Juju's events and the plan's own wake-ups get done, with no `update-status` at all."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import generation as generations
from cluster import plan as plans
from cluster import steps
from cluster import view as views
from model import simulator

RETRY = 5.0
"""Seconds until a hook that ended at a refusal is run again."""


class Events:
    """Runs hooks when Juju would: databags or units changed, or a wake-up is due."""

    def __init__(self, world: simulator.World):
        self.world = world
        self.seen: dict[str, Any] = {}
        self.wakes: dict[str, float] = {}
        world.flaky = False

    def picture(self, name: str) -> Any:
        world = self.world
        others = tuple((n, b) for n, b in sorted(world.bags.items()) if n != name)
        units = tuple((m.name, m.alive) for m in world.machines.values())
        return others, units, world.generation, world.proposal, world.turn, world.leader

    def run(self, seconds: float, settle: bool = True) -> float:
        """Until nothing is owed any more, or just so long; the simulated seconds that took."""
        world, begin = self.world, self.world.now
        while world.now - begin < seconds:
            owed = [n for n in world.machines if n in world.hooks or self.owed(n)]
            if not owed and not self.wakes:
                return world.now - begin
            for name in owed:
                if name not in world.machines:
                    continue
                self.seen[name] = self.picture(name)
                self.wakes.pop(name, None)
                if self.ends(name):
                    self.note(name)
            world.tick()
            world.now += 1
        if not settle:
            return seconds
        raise AssertionError({n: p.message for n, p in world.ended.items()})

    def ends(self, name: str) -> bool:
        """Run a unit's hook; one that waits for others, to leave, lets theirs run meanwhile."""
        began = self.world.now
        while self.world.advance(name):
            if self.world.now > began:
                return False
        return True

    def owed(self, name: str) -> bool:
        due = self.wakes.get(name, float("inf")) <= self.world.now
        return due or self.seen.get(name) != self.picture(name)

    def note(self, name: str) -> None:
        plan = self.world.ended.get(name)
        for step in plan.steps if plan else ():
            if isinstance(step, steps.Wake):
                self.wakes[name] = self.world.now + step.seconds
        if plan and plan.steps and name not in self.wakes:
            self.wakes[name] = self.world.now + RETRY


def settled(world: simulator.World) -> set[tuple[plans.State, str]]:
    return {(p.state, p.message) for n, p in world.ended.items() if n in world.machines}


def healthy(count: int) -> set[tuple[plans.State, str]]:
    return {(plans.State.HEALTHY, f"Healthy with {count} known peers")}


def started(units: int, **policy: Any) -> tuple[simulator.World, Events]:
    world = simulator.World(7, units, policy=views.Policy(**policy))
    events = Events(world)
    events.run(120)
    return world, events


@pytest.mark.parametrize("units", [1, 2, 3, 5, 7, 9])
def test_given_new_units_when_only_events_run_hooks_then_founded_together(units: int) -> None:
    world = simulator.World(7, units)
    seconds = Events(world).run(120)
    assert settled(world) == healthy(units)
    assert seconds <= 15
    assert world.generation is not None
    assert len(world.generation.founders) == units


def test_given_one_unit_when_eight_are_added_then_all_join_and_hooks_stay_few() -> None:
    world, events = started(1)
    before = world.hook_count
    for _ in range(8):
        world.add_unit()
    assert events.run(600) <= 240
    assert settled(world) == healthy(9)
    # Each join is announced to every unit: that is Juju's N events for each of N units.
    assert world.hook_count - before <= 9 * 9 * 6


@pytest.mark.parametrize("leaving", [(2,), (0, 1), (0, 1, 2, 3)])
def test_given_five_units_when_some_leave_at_once_then_their_members_go_too(
    leaving: tuple[int, ...],
) -> None:
    world, events = started(5)
    for number in leaving:
        world.remove_unit(f"etcd/{number}")
    events.run(300)
    assert settled(world) == healthy(5 - len(leaving))


@pytest.mark.parametrize("strict", [False, True])
def test_given_one_of_three_down_when_two_are_replaced_then_their_successors_come_first(
    strict: bool,
) -> None:
    world, events = started(3)
    world.strict = strict
    world.machines["etcd/0"].up = world.machines["etcd/0"].running = False
    for _ in range(2):
        world.add_unit()
    for name in ("etcd/1", "etcd/2"):
        world.remove_unit(name)
    events.run(300, settle=False)
    if strict:
        assert {"etcd/1", "etcd/2"} <= set(world.machines)
        assert "1 of etcd-0 must be healthy again" in world.ended["etcd/1"].message
        world.force_remove("etcd/0")
        events.run(300)
    assert set(world.machines) - {"etcd/0"} == {"etcd/3", "etcd/4"}
    assert world.generation is not None
    assert world.quorum(world.machines["etcd/3"], world.generation.token)


def test_given_one_of_three_down_when_a_healthy_one_is_removed_then_it_stays_until_it_can_go() -> (
    None
):
    world, events = started(3)
    down = world.machines["etcd/0"]
    down.up = down.running = False
    world.remove_unit("etcd/1")
    events.run(600, settle=False)
    assert "1 of etcd-0 must be healthy again" in world.ended["etcd/1"].message
    assert world.generation is not None
    assert world.quorum(world.machines["etcd/2"], world.generation.token)
    down.up = True
    world.run(down)
    events.run(300)
    assert set(world.machines) == {"etcd/0", "etcd/2"}


@pytest.mark.parametrize("strict", [False, True])
def test_given_a_dead_machine_when_force_removed_and_replaced_then_healthy(strict: bool) -> None:
    world, events = started(3)
    world.strict = strict
    world.machines["etcd/1"].up = world.machines["etcd/1"].running = False
    world.force_remove("etcd/1")
    world.add_unit()
    events.run(300)
    assert settled(world) == healthy(3)


@pytest.mark.parametrize("strict", [False, True])
def test_given_a_dead_machine_when_its_successor_never_comes_up_then_the_status_ends_it(
    strict: bool,
) -> None:
    world, events = started(3)
    world.strict = strict
    world.machines["etcd/1"].up = world.machines["etcd/1"].running = False
    world.force_remove("etcd/1")
    never = world.add_unit()
    never.up = False
    world.elect()
    other = world.add_unit()
    events.run(600, settle=False)
    told = [p.message for n, p in world.ended.items() if n not in (never.name, other.name)]
    assert len(told) == 2
    for message in told:
        assert f"etcd-1 has no unit any more, and stays until {never.name} has told" in message
        assert f"`juju show-status-log {never.name}` says how far {never.name} is" in message
    world.force_remove(never.name)
    assert events.run(300) <= 60
    assert settled(world) == healthy(3)


def test_given_a_configuration_change_when_all_restart_then_one_after_another() -> None:
    world, events = started(5)
    for machine in world.machines.values():
        machine.stale = True
        events.seen.pop(machine.name)
    events.run(300)
    assert settled(world) == healthy(5)
    assert not any(m.stale for m in world.machines.values())


@pytest.mark.parametrize("unable", [None, "etcd/2"])
def test_given_a_restore_when_proposed_then_all_have_it_or_none(unable: str | None) -> None:
    world, events = started(3)
    old = world.generation
    assert old is not None
    if unable:
        world.machines[unable].unable = True
    founders = tuple(generations.Founder(m.name, m.url) for m in world.machines.values())
    world.proposal = generations.Generation(
        old.number + 1, "restored", generations.Source.BACKUP, founders, world.restorable()
    )
    events.run(300)
    assert settled(world) == healthy(3)
    tokens = {m.current.token for m in world.machines.values() if m.current}
    assert tokens == {old.token if unable else "restored"}


@pytest.mark.parametrize("running", [True, False])
def test_given_a_founder_that_dies_when_a_restore_was_proposed_then_decided_in_minutes(
    running: bool,
) -> None:
    world, events = started(3)
    old = world.generation
    assert old is not None
    founders = tuple(generations.Founder(m.name, m.url) for m in world.machines.values())
    if not running:
        for machine in world.machines.values():
            machine.current, machine.running, machine.enabled = None, False, False
        events.run(30, settle=False)
    world.proposal = generations.Generation(
        old.number + 1, "restored", generations.Source.BACKUP, founders, world.restorable()
    )
    dead = world.machines["etcd/2"]
    dead.up = dead.running = False
    world.elect()
    events.run(600, settle=False)
    assert world.proposal is None and world.generation is not None
    assert world.generation.source is (
        generations.Source.NEW if running else generations.Source.BACKUP
    )
    assert len(world.peers(world.machines["etcd/0"], world.generation.token)) == 2


def test_given_two_of_three_removed_when_allowed_then_the_survivor_founds_anew() -> None:
    world, events = started(3, recover_quorum_loss=True)
    for name in ("etcd/0", "etcd/2"):
        world.machines[name].up = world.machines[name].running = False
        world.force_remove(name)
    world.add_unit()
    events.run(300)
    assert settled(world) == healthy(2)
    assert world.generation is not None
    assert world.generation.source is generations.Source.SURVIVOR


def test_given_every_disk_lost_when_allowed_then_the_backup_founds_anew() -> None:
    world, events = started(3, recover_total_loss=True)
    for machine in world.machines.values():
        machine.current, machine.prepared, machine.kept = None, {}, {}
        machine.running, machine.failed = False, True
        events.seen.pop(machine.name)
    events.run(300)
    assert settled(world) == healthy(3)
    assert world.generation is not None
    assert world.generation.source is generations.Source.BACKUP
