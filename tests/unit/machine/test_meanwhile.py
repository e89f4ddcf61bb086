"""What goes on while something takes long."""

from __future__ import annotations

import time

from machine import meanwhile


def test_given_work_that_takes_long_when_repeated_beside_it_then_until_its_end_and_no_longer():
    times: list[float] = []
    with meanwhile.repeated(lambda: times.append(time.monotonic()), 0.02):
        time.sleep(0.2)
    ended = time.monotonic()
    time.sleep(0.1)
    assert len(times) >= 2
    assert all(at <= ended for at in times)
