"""What changes in a cluster between hooks, and is a reason to wake the charm.

Juju announces neither an alarm, nor that nobody leads, nor that a machine has died, and its tick
is five minutes apart. A unit that is removed by force is announced to nobody at all, where Juju's
own list of peers keeps it.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import errors
from backup import keeper_files
from etcd import client as clients

if TYPE_CHECKING:
    import pathlib
    import threading
    from collections.abc import Callable, Mapping

    from cluster import view as views

_LOOK = 5.0  # seconds between two looks
_CONFIRM = 3.0  # seconds until a look that found something new is confirmed
_ANSWER = 3.0  # seconds that this unit's etcd has for an answer
_OTHERS = 2.0  # seconds that the other members have, all together
_FRESH = 30.0  # seconds for which a look is news
_GAPS = (15.0, 120.0)  # seconds between two wakes, at least, and where they never end
_AGAIN = 40.0  # seconds after which Juju's leader looks again while a member is silent
_PATIENCE = 3600.0  # seconds for which it does so


@dataclasses.dataclass(frozen=True)
class Sight:
    """Which members answer this unit.

    Attributes:
        answers: by the member's name, or its ID in hexadecimal where it has none yet.
        silent: those that were started once and do not answer.
        voters: how many have a vote.
        answering: how many of these answer.
        reported: what this unit's etcd reports against itself.
    """

    answers: Mapping[str, bool]
    silent: tuple[str, ...]
    voters: int
    answering: int
    reported: tuple[str, ...] = ()

    @property
    def margin(self) -> int:
        """How many voters more may be lost; below zero, no quorum answers."""
        return self.answering - (self.voters // 2 + 1)

    @property
    def news(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What `juju status` is to follow."""
        return self.reported, self.silent


class Watch:
    """Looks at the members and wakes the charm when two looks in a row find something new.

    One alone may be an election, or a member that restarts.
    """

    def __init__(
        self,
        wake: Callable[[], object],
        config: pathlib.Path = keeper_files.CONFIG,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing known.

        Args:
            wake: runs the charm.
            config: the charm's file.
            clock: seconds that only grow.
        """
        self._wake = wake
        self._config = config
        self._clock = clock
        self._seen: Sight | None = None
        self._seen_at = 0.0
        self._told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._told_at: float | None = None
        self._gap = _GAPS[0]
        self._looked_again: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        pause = _LOOK
        while not stop.wait(pause):
            pause = self.look()

    @property
    def sight(self) -> Sight | None:
        """What the last look found, None where that is no news, or nothing was seen."""
        return self._seen if self._clock() - self._seen_at < _FRESH else None

    def look(self) -> float:
        """Look once; answers seconds until the next look.

        An etcd of this unit that does not answer is systemd's to tell of.
        """
        try:
            config = keeper_files.Config.read(self._config)
            found = see(config)
        except (ValueError, OSError, errors.EtcdError):
            return _LOOK
        now, before = self._clock(), self._seen
        self._seen, self._seen_at = found, now
        if before is None or before.news != found.news:
            return _LOOK if found.news == self._told else _CONFIRM
        if found.news != self._told:
            if self._told_at is None or now - self._told_at >= self._gap:
                self._tell(found, now)
        elif config.leads and found.silent and self._is_owed(now) and self._called():
            self._looked_again = now
        return _LOOK

    def _tell(self, found: Sight, now: float) -> None:
        """Wake the charm for news, the later the more often there were some.

        Juju runs a wake-up before relation events: too many would keep these away for ever.
        """
        if not self._called():
            return
        least, most = _GAPS
        rested = self._told_at is None or now - self._told_at > 2 * most
        self._gap = least if rested else min(2 * self._gap, most)
        self._told, self._told_at, self._looked_again = found.news, now, now

    def _is_owed(self, now: float) -> bool:
        """Whether to see again if Juju was told that the silent member's unit is gone."""
        if self._told_at is None or self._looked_again is None:
            return False
        return now - self._told_at <= _PATIENCE and now - self._looked_again >= _AGAIN

    def _called(self) -> bool:
        try:
            self._wake()
        except errors.EtcdError:
            return False
        return True


def see(config: keeper_files.Config) -> Sight:
    """Ask this unit's etcd which members there are, and each of them whether it answers.

    Raises:
        errors.EtcdError: this unit's etcd does not answer.
    """
    with clients.Client([config.local], config.tls, _ANSWER) as online:
        own = online.status(config.local)
        members = online.members(linearizable=False).members
        others = [m for m in members if m.client_urls and m.id != own.member_id]
        urls = [m.client_urls[0] for m in others]
        probes = online.statuses(urls, _OTHERS)
    answered = {own.member_id} | {p.status.member_id for p in probes if p.status}
    voters = [m for m in members if not m.learner]
    return Sight(
        answers={_label(m): m.id in answered for m in members},
        silent=tuple(sorted(_label(m) for m in others if m.id not in answered)),
        voters=len(voters),
        answering=sum(m.id in answered for m in voters),
        reported=tuple(sorted(own.errors)),
    )


def _label(member: views.Member) -> str:
    return member.name or f"{member.id:x}"
