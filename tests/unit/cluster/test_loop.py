"""The loop of a hook: what it asks for, in which order, and when it ends."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import pytest

from cluster import generation as generations
from cluster import loop, steps
from cluster import plan as plans

WAITS = plans.Plan((steps.Wake(1.0),), plans.State.LEAVING, "leaving the cluster; it waits")
WELL = plans.Plan((), plans.State.HEALTHY, "Healthy")


@dataclasses.dataclass
class Machine:
    """Drives one hook: each look finds the next plan, each step takes its seconds, or fails."""

    plans: list[plans.Plan]
    seconds: float = 0.0
    fails: dict[steps.Step, str] = dataclasses.field(default_factory=dict)
    now: float = 1000.0
    read_at: float = 1000.0
    leads: bool = True
    looks: int = 0
    done: list[steps.Step] = dataclasses.field(default_factory=list)
    said: list[str] = dataclasses.field(default_factory=list)
    again: list[tuple[float, bool]] = dataclasses.field(default_factory=list)

    def run(self, *, leaves: bool = False, leader: bool = False) -> loop.Ended:
        hook = loop.run(
            leaves=leaves,
            leader=leader,
            read_at=self.read_at,
            decide=lambda view: view.plan,  # type: ignore
        )
        answer: Any = None
        try:
            while True:
                answer = self.answer(hook.send(answer))
        except StopIteration as end:
            return end.value

    def answer(self, request: loop.Request) -> Any:
        match request:
            case loop.Look():
                self.looks += 1
                plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
                return types.SimpleNamespace(now=5.0, plan=plan, leader=self.leads)
            case loop.Time():
                return self.now
            case loop.Say(message=message):
                self.said.append(message)
            case loop.Again(seconds=seconds, exactly=exactly):
                self.again.append((seconds, exactly))
            case loop.Do(step=step):
                self.done.append(step)
                self.now += self.seconds
                return self.fails.get(step, "")


@pytest.mark.parametrize(("leader", "most"), [(False, loop.STAY), (True, loop.LEAD)])
def test_given_a_leaver_that_must_stay_when_its_hook_has_waited_then_it_stays(
    leader: bool, most: float
):
    machine = Machine([WAITS], seconds=1.0)
    assert machine.run(leaves=True, leader=leader) == loop.Ended(WAITS, stays=True)
    assert machine.said == [WAITS.message], "said once, while it waits"
    assert machine.now == 1000 + most
    assert machine.again[-1] == (loop.RETRY, True), "a look between two writes what it owes"


def test_given_a_leaver_when_a_look_comes_between_two_hooks_then_it_does_not_wait():
    machine = Machine([WAITS], seconds=1.0)
    ended = machine.run(leader=True)
    assert not ended.stays
    assert machine.done == list(WAITS.steps)
    assert machine.said == machine.again == []


@pytest.mark.parametrize(("seconds", "done"), [(0.0, 2), (plans.VALID, 2), (plans.VALID + 1, 1)])
def test_given_a_machine_that_stood_still_when_it_goes_on_then_the_rest_is_planned_anew(
    seconds: float, done: int
):
    planned = plans.Plan((steps.MoveLeader(7), steps.Disarm(None)), plans.State.HEALTHY, "")  # type: ignore
    machine = Machine([planned, WELL], seconds)
    assert machine.run().plan == WELL
    assert machine.done == list(planned.steps[:done])


def test_given_a_step_that_took_long_when_a_wake_follows_then_it_still_ends_the_hook():
    planned = plans.Plan((steps.Start(), steps.Wake(10.0)), plans.State.HEALTHY, "")
    machine = Machine([planned, WELL], plans.VALID + 1)
    assert machine.run().plan == planned
    assert machine.done == list(planned.steps)


def test_given_a_final_step_when_one_more_look_does_not_plan_it_then_it_is_not_done():
    planned = plans.Plan((steps.RemoveMember(7),), plans.State.HEALTHY, "")
    machine = Machine([planned, WELL])
    assert machine.run().plan == WELL
    assert machine.done == []
    assert machine.looks == 3


BEGINS = plans.Plan((steps.Start(),), plans.State.DOWN, "etcd is down")


@pytest.mark.parametrize(("old", "begun"), [(0.0, True), (loop.RECORD + 1, False)])
def test_given_a_record_read_long_ago_when_its_data_is_to_start_then_the_next_hook_does_that(
    old: float, begun: bool
):
    machine = Machine([BEGINS, WELL])
    machine.read_at -= old
    machine.run()
    assert machine.done == (list(BEGINS.steps) if begun else [])
    assert machine.again == ([] if begun else [(loop.RETRY, True)])


def test_given_a_hook_that_fetched_for_long_when_data_is_to_start_then_the_next_does_that():
    fetches = plans.Plan((steps.Discard("t"),), plans.State.RESTORING, "fetching")
    machine = Machine([fetches, BEGINS], seconds=loop.RECORD + 1)
    machine.run()
    assert machine.done == list(fetches.steps)
    assert machine.again == [(loop.RETRY, True)]


@pytest.mark.parametrize(
    "step", [s for s in vars(steps).values() if isinstance(s, type) and issubclass(s, steps.Step)]
)
def test_given_a_step_when_it_brings_data_of_a_record_to_life_then_it_heeds_the_records_age(
    step: type[steps.Step],
):
    begin = (steps.Found, steps.Join, steps.Adopt, steps.PutBack, steps.Start)
    assert step.by_record == (step in begin)


@pytest.mark.parametrize("leaves", [False, True])
def test_given_a_step_that_fails_when_it_is_tried_then_its_sentence_is_told_and_it_comes_again(
    leaves: bool,
):
    planned = plans.Plan((steps.Start(), steps.Wake(10.0)), plans.State.HEALTHY, "starting")
    machine = Machine([planned, WELL], fails={steps.Start(): "no room"})
    ended = machine.run(leaves=leaves)
    assert machine.done == [steps.Start()], "what follows it is not done"
    assert machine.again[0] == (loop.RETRY, False)
    assert ended.plan.message == ("Healthy" if leaves else "no room")


@pytest.mark.parametrize(
    ("source", "confirmed", "again"),
    [
        (generations.Source.NEW, False, True),
        (generations.Source.NEW, True, False),
        (generations.Source.BACKUP, True, True),
    ],
)
def test_given_a_record_that_was_written_when_the_hook_ends_then_the_leader_looks_again(
    source: generations.Source, confirmed: bool, again: bool
):
    record = generations.Generation(1, "t", source, (), confirmed=confirmed)
    planned = plans.Plan((steps.Commit(record), steps.Start()), plans.State.HEALTHY, "")
    machine = Machine([planned])
    machine.run(leader=True)
    assert machine.looks == 1, "nobody acts on a record that Juju has not stored"
    assert machine.again == ([(loop.RETRY, True)] if again else [])


def test_given_a_plan_that_never_ends_when_all_rounds_are_over_then_another_hook_goes_on():
    machine = Machine([plans.Plan((steps.Start(),), plans.State.HEALTHY, "")])
    machine.run()
    assert len(machine.done) == loop.ROUNDS
    assert machine.again == [(loop.RETRY, False)]


def test_given_a_leader_that_has_lost_the_lead_when_it_looks_then_another_hook_comes():
    machine = Machine([WELL], leads=False)
    assert not machine.run(leader=True).stays
    assert machine.again == [(loop.RETRY, False)]
