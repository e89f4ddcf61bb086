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
