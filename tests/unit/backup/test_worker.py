"""How the stream of a scheduled backup's snapshot gives way to those who write."""

from __future__ import annotations

import time

import pytest

from backup import worker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now[0] + seconds))
    return now


def test_given_a_stream_when_some_of_it_was_read_then_it_rests_until_it_keeps_its_pace(clock):
    told = []
    progress = worker._resting(told.append, pace=worker._STRIDE / 0.1)
    for done in (1000, worker._STRIDE, worker._STRIDE + 1000):
        clock[0] += 0.01
        progress(done)
    assert clock[1:] == [pytest.approx(0.1)]
    assert told == [1000, worker._STRIDE, worker._STRIDE + 1000]


def test_given_a_stream_that_stood_still_when_it_goes_on_then_it_is_no_faster_than_its_pace(clock):
    progress = worker._resting(lambda _: None, pace=worker._STRIDE / 0.1)
    clock[0] = 20.0
    progress(worker._STRIDE)
    clock[0] = 20.04
    progress(2 * worker._STRIDE)
    assert clock[1:] == [pytest.approx(20.0), pytest.approx(20.1)]
