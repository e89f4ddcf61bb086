"""The loop of a hook gives a plan up that is no longer fresh."""

from __future__ import annotations

import time

import pytest

import act
from cluster import plan, steps

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
