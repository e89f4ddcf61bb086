"""How the stream of a scheduled backup's snapshot gives way to those who write."""

from __future__ import annotations

import time

import pytest

from backup import aside


def test_given_a_stream_when_some_of_it_was_read_then_it_rests_as_long_as_that_took(
    monkeypatch: pytest.MonkeyPatch,
):
    now, rests, told = [0.0], [], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", rests.append)
    progress = aside._resting(told.append)
    for seconds, done in ((0.01, 1000), (0.02, aside._STRIDE), (0.03, aside._STRIDE + 1000)):
        now[0] = seconds
        progress(done)
    assert rests == [pytest.approx(0.02)]
    assert told == [1000, aside._STRIDE, aside._STRIDE + 1000]


def test_given_a_stream_that_stood_still_when_it_goes_on_then_it_rests_a_tenth_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
):
    now, rests = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", rests.append)
    progress = aside._resting(lambda _: None)
    now[0] = 20.0
    progress(aside._STRIDE)
    assert rests == [0.1]
