"""When a backup is due, and which old ones go: pure functions of times and settings."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LEAST, MOST = 30.0, 365 * 86400.0  # seconds; below, a backup would hardly end before the next
SKEW = 60.0  # seconds that a time may lie in the future: two clocks are never one
FORCED = 86400.0  # seconds after which an unchanged store is backed up all the same
_JITTER = 0.1  # of the interval, always early: the interval is the worst case
# Bytes per second that those who write to etcd hardly notice. What goes up takes two machines'
# time and is sent in bursts; what is read holds pages that etcd cannot use again until its end.
_READ, _MOVED = 16 << 20, 4 << 20
_SHARE = 0.25  # of the interval, which a backup may take
_RETRY = (15.0, 900.0)  # seconds to wait after the first failure, and at most
_RETRY_LEAST = 10.0  # seconds


class ScheduleError(ValueError):
    """A setting that cannot be used; the text is the sentence for `juju status`."""


def interval(text: str) -> float:
    """Seconds between two backups: `30s`, `15m`, `6h`, `1d`, `90`; 0 is off.

    Raises:
        ScheduleError: it is none of these, or not between `LEAST` and `MOST`.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip())
    seconds = float(int(match[1]) * _UNITS[match[2]]) if match else -1.0
    if seconds and not LEAST <= seconds <= MOST:
        raise ScheduleError(
            f"backup-interval is {text!r}: set it to a number with s, m, h, d or w, such as 6h, "
            f"from {LEAST:.0f}s to {MOST / 86400:.0f}d, or to 0"
        )
    return seconds


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast a scheduled backup goes, bytes per second.

    Attributes:
        read: from etcd.
        moved: to the remote, and back for its proof.
    """

    read: float
    moved: float


def pace(size: int, every: float) -> Pace:
    """Slow, as nobody waits for it, but over well before the next one.

    Args:
        size: bytes of the database.
        every: seconds between two.
    """
    least = 2 * size / (every * _SHARE) if every else 0.0
    return Pace(max(_READ, least), max(_MOVED, least))


def due(last: float | None, every: float, seed: str) -> float | None:
    """When the next backup is due, seconds since the epoch; None when the schedule is off.

    Several clusters on one remote do not all come at once: the time is drawn from the last tenth
    of the interval, the same for everybody who asks.

    Args:
        last: when the newest backup was taken or found not needed, None before the first.
        every: seconds between two, 0 is off.
        seed: the cluster's identity.
    """
    if every <= 0:
        return None
    if last is None:
        return 0.0
    digest = hashlib.sha256(f"{seed} {last}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return last + every * (1 - _JITTER * share)


def retry(failed: float, failures: int, every: float) -> float:
    """When to try again after a failure: soon at first, then slower, never beyond the interval.

    Args:
        failed: when the last try ended, seconds since the epoch.
        failures: how many failed in a row, at least 1.
        every: seconds between two backups.
    """
    first, most = _RETRY
    return failed + min(first * 2.0 ** (min(failures, 16) - 1), most, max(every, _RETRY_LEAST))


def last(times: Iterable[float], now: float) -> float | None:
    """The latest of these times that may be true, None without any: of the future nobody knows.

    Args:
        times: when backups were taken or found not needed, 0 for never.
        now: seconds since the epoch, like them.
    """
    return max((at for at in times if 0 < at <= now + SKEW), default=None)


def unchanged(
    before: tuple[int, int] | None, now: tuple[int, int], taken: float, clock: float
) -> bool:
    """Nothing was written since the last backup, and it is not over a day old.

    Users and members change without a new revision: hence the day. One from the future is no
    last one.

    Args:
        before: cluster ID and revision of the newest backup, None without one.
        now: those of the cluster.
        taken: when the newest backup was taken, seconds since the epoch.
        clock: now, seconds since the epoch.
    """
    return before == now and -SKEW <= clock - taken < FORCED


def prove_now(
    every_nth: int, since: int, any_proven: bool, every: float, took: float, left: float
) -> bool:
    """Whether the newest backup shall be proven before the next one is due.

    Args:
        every_nth: prove each so many, 0 for none.
        since: backups taken since the last that was proven.
        any_proven: there is a proven one at all; the first is proven without counting.
        every: seconds between two backups.
        took: seconds that the last proof took, 0 before the first.
        left: seconds until the next backup is due.
    """
    if every_nth <= 0 or (any_proven and since < every_nth):
        return False
    # Where a proof never fits between two backups, one backup in several comes late instead.
    return took < left or took > every / 2


@dataclasses.dataclass(frozen=True)
class Point:
    """One backup as retention sees it.

    Attributes:
        id: its id.
        at: when it was taken, seconds since the epoch.
        proven: it was restored once, and held what it should.
    """

    id: str
    at: float
    proven: bool = False


@dataclasses.dataclass(frozen=True)
class Retention:
    """Which backups stay. All zero: every one.

    Attributes:
        last: the newest so many.
        hourly: the newest of each of so many hours that have one; likewise the others.
        daily: days, in UTC.
        weekly: ISO weeks.
        monthly: months.
        age: seconds; older ones go whatever else is said, 0 for no limit.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    age: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Read `last=24 hourly=24 daily=7 weekly=4 monthly=12 age=90d`, in any order.

        `count` is another word for `last`, and an age without a unit is one in days.

        Raises:
            ScheduleError: it is not of this form.
        """
        values: dict[str, float] = {}
        for word in re.split(r"[\s,]+", text.strip()):
            if not word:
                continue
            name, _, value = word.partition("=")
            name = {"count": "last"}.get(name, name)
            pattern = r"([0-9]{1,9})([hdw]?)" if name == "age" else r"([0-9]{1,9})()"
            match = re.fullmatch(pattern, value)
            known = name in {field.name for field in dataclasses.fields(cls)}
            if not known or not match or name in values:
                raise ScheduleError(
                    f"backup-retention has {word!r}: give each of last, hourly, daily, weekly, "
                    "monthly a number at most once, and age a time such as 36h, 90d or 12w"
                )
            if name == "age":
                values[name] = float(int(match[1]) * _UNITS[match[2] or "d"])
            else:
                values[name] = int(match[1])
        return cls(
            last=int(values.get("last", 0)),
            hourly=int(values.get("hourly", 0)),
            daily=int(values.get("daily", 0)),
            weekly=int(values.get("weekly", 0)),
            monthly=int(values.get("monthly", 0)),
            age=values.get("age", 0.0),
        )

    def doomed(self, points: Iterable[Point], now: float) -> frozenset[str]:
        """The ids to remove: never the newest, never the newest proven one.

        Args:
            points: all backups of the folder, newest first. What order that is no clock decides.
            now: seconds since the epoch.
        """
        newest_first = tuple(points)
        keep: set[str] = set()
        rules: tuple[tuple[int, Callable[[Point], Hashable]], ...] = (
            (self.last, lambda point: point.id),
            (self.hourly, lambda point: int(point.at // 3600)),
            (self.daily, lambda point: int(point.at // 86400)),
            (self.weekly, lambda point: _moment(point).isocalendar()[:2]),
            (self.monthly, lambda point: (_moment(point).year, _moment(point).month)),
        )
        for count, period in rules:
            seen: set[Hashable] = set()
            for point in newest_first:
                if len(seen) == count:
                    break
                if period(point) not in seen:
                    seen.add(period(point))
                    keep.add(point.id)
        if not any(count for count, _ in rules):
            keep = {point.id for point in newest_first}
        if self.age:
            keep -= {point.id for point in newest_first if now - point.at > self.age}
        keep |= {point.id for point in newest_first[:1]}
        keep |= {point.id for point in [p for p in newest_first if p.proven][:1]}
        return frozenset(point.id for point in newest_first if point.id not in keep)


def _moment(point: Point) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(point.at, tz=datetime.timezone.utc)
