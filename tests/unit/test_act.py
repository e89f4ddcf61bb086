"""The loop of a hook gives a plan up that is no longer fresh."""

from __future__ import annotations

import time

import pytest

import act
from cluster import plan, steps

WAITS = plan.Plan((steps.Wake(1.0),), plan.State.LEAVING, "leaving the cluster; it waits")


class Leaver:
    """A unit that is being removed, in a hook of its removal or in a look between two."""

    def __init__(self, torn_down: bool):
        self.torn_down = torn_down
        self.me = "etcd/0"
        self.peers = self
        self.said: list[str] = []
        self.woken: list[float] = []
        self.published: list[str] = []
        self.say = self.said.append
        self.wake = self.wake_in = self.woken.append
        self.publish = self.published.append

    def recall(self) -> None:
        pass


def settle(monkeypatch: pytest.MonkeyPatch, node: Leaver, leader: bool) -> float:
    """Seconds that a hook took in which the plan never changes."""
    now = [1000.0]

    def do(*_: object) -> None:
        now[0] += 1.0

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(act, "_round", lambda *_, **__: WAITS)
    monkeypatch.setattr(act, "_do_one", do)
    try:
        act.settle(node, leader=leader)  # type: ignore[arg-type]
    finally:
        node.woken.append(0.0)
    return now[0] - 1000.0


@pytest.mark.parametrize(("leader", "most"), [(False, act.STAY), (True, act.LEAD)])
def test_given_a_leaver_that_must_stay_when_its_hook_has_waited_then_it_fails_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, leader: bool, most: float
):
    node = Leaver(torn_down=True)
    with pytest.raises(act.StaysError, match="it waits"):
        settle(monkeypatch, node, leader)
    assert node.said == [WAITS.message], "said once, while it waits"
    assert not node.published
    assert act.RETRY in node.woken, "a look between two hooks writes what a leader owes"
    assert most <= act.STAY


def test_given_a_leaver_when_a_look_comes_between_two_hooks_then_it_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
):
    node = Leaver(torn_down=False)
    assert settle(monkeypatch, node, leader=True) == 1.0
    assert node.published == ["etcd/0"]


PLANNED = (steps.MoveLeader(7), steps.Restart())


@pytest.mark.parametrize(("seconds", "begun"), [(0.0, 2), (plan.VALID, 2), (plan.VALID + 1, 1)])
def test_given_a_machine_that_stood_still_when_it_goes_on_then_the_rest_is_not_done(
    monkeypatch: pytest.MonkeyPatch, seconds: float, begun: int
):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    done = []
    for step in act._in_time(PLANNED):
        done.append(step)
        now[0] += seconds
    assert done == list(PLANNED[:begun])


def test_given_a_step_that_took_long_when_a_wake_follows_then_it_still_ends_the_hook(
    monkeypatch: pytest.MonkeyPatch,
):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    planned = (steps.Start(), steps.Wake(10.0))
    done = []
    for step in act._in_time(planned):
        done.append(step)
        now[0] += plan.VALID + 1
    assert done == list(planned)
