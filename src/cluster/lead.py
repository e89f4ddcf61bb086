"""Whether a unit leads for the whole of a hook: only such a one writes the leader's records."""

from __future__ import annotations

HELD = 30.0
"""Seconds that a unit leads for certain once Juju has said that it does (`is-leader`)."""


class Lead:
    """What Juju has said of the lead since before the leader's records were read.

    Between two answers more than `HELD` seconds apart another unit may have led, and written: what
    was read then is old, and what is written from it would undo the other's.
    """

    def __init__(self) -> None:
        self._heard: float | None = None
        self._leads = True

    @property
    def heard_of(self) -> bool:
        """Whether Juju was asked at all."""
        return self._heard is not None

    def known(self, now: float) -> bool | None:
        """What needs no new answer yet; None where Juju is to be asked.

        Args:
            now: seconds of a clock that nobody sets.
        """
        if self._heard is None:
            return None
        return None if self._leads and now > self._heard + HELD / 3 else self._leads

    def heard(self, said: bool, at: float) -> bool:
        """Whether the unit leads, and has without a break since the first answer.

        Args:
            said: what Juju has answered now.
            at: when it was asked, seconds of the same clock.
        """
        unbroken = self._heard is None or at <= self._heard + HELD
        self._leads = self._leads and said and unbroken
        self._heard = at
        return self._leads
