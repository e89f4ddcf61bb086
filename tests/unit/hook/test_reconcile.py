"""How a hook drives the loop on its machine."""

from __future__ import annotations

import contextlib
import time
import types
from typing import Any

import pytest

import errors
from cluster import loop, steps
from cluster import plan as plans
from cluster import view as views
from hook import execute, observe, reconcile

TOKEN = "0" * 32


class Unit:
    """A unit whose looks are views of nothing, and what a hook did with it."""

    def __init__(self, torn_down: bool = False) -> None:
        self.torn_down, self.leads = torn_down, False
        self.read_at = time.monotonic()
        self.me = views.Unit("etcd/0")
        self.peers = self.root = self.notes = self
        self.said: list[str] = []
        self.woken: list[float] = []
        self.published: list[views.Unit] = []
        self.began: list[int] = []
        self.say, self.publish, self.begin = (
            self.said.append,
            self.published.append,
            self.began.append,
        )
        self.wake = self.wake_in = self.woken.append

    def recall(self) -> None: ...

    def remember(self, *_: object) -> None: ...

    def disk(self) -> views.Disk:
        return views.Disk()


@pytest.fixture
def reconciled(monkeypatch: pytest.MonkeyPatch):
    """Runs a hook in which one thing is always planned, and answers what became of it."""

    def run(unit: Unit, plan: plans.Plan, do: Any = lambda *_: None) -> plans.Plan:
        monkeypatch.setattr(plans, "plan", lambda _: plan)
        monkeypatch.setattr(observe, "observe", lambda *_, **__: types.SimpleNamespace(now=5.0))
        monkeypatch.setattr(reconcile.install, "await_install", lambda: None)
        monkeypatch.setattr(reconcile.options, "agree", lambda *_, **__: None)
        monkeypatch.setattr(execute, "Actor", lambda _: types.SimpleNamespace(do=do))
        monkeypatch.setattr(loop, "STAY", 0.05)
        return reconcile.reconcile(unit, leader=False)  # type: ignore[arg-type]

    return run


WAITS = plans.Plan((steps.Wake(1.0),), plans.State.LEAVING, "leaving the cluster; it waits")


def test_given_a_leaver_that_must_stay_when_its_hook_has_waited_then_it_fails_and_writes_nothing(
    reconciled,
):
    unit = Unit(torn_down=True)
    with pytest.raises(reconcile.StaysError, match="it waits"):
        reconciled(unit, WAITS)
    assert unit.said == [WAITS.message]
    assert not unit.published
    assert unit.woken[-1] == loop.RETRY


@pytest.mark.parametrize("sentence", ["no room for it", ""])
def test_given_a_founding_that_fails_when_it_is_tried_then_the_unit_tells_of_it(
    reconciled, sentence
):
    def refuse(_: object) -> None:
        raise errors.DataError(sentence)

    unit = Unit()
    plan = plans.Plan((steps.Adopt(TOKEN),), plans.State.HEALTHY, "")
    told = reconciled(unit, plan, refuse).message
    assert told == (sentence or "DataError")
    assert unit.published == [unit.me]
    assert unit.me.failure == views.Failure(TOKEN, sentence)
    assert unit.began == [0], "nothing was started after all"


def test_given_a_seam_when_steps_are_done_then_it_comes_before_and_after_each(
    reconciled, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []
    monkeypatch.setattr(reconcile, "boundary", lambda moment, step: seen.append(moment))
    reconciled(Unit(), WAITS, lambda _: seen.append("done"))
    assert seen == ["before", "done", "after"]


def test_given_an_error_that_is_no_steps_when_it_is_met_then_the_hook_ends_with_it(reconciled):
    def broken(_: object) -> None:
        raise KeyError

    with contextlib.suppress(KeyError):
        reconciled(Unit(), WAITS, broken)
        pytest.fail("it was swallowed")
