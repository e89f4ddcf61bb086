"""What a unit notes on its machine from one hook to the next."""

from __future__ import annotations

import contextlib
import json
import pathlib
import time

from cluster import generation as generations
from cluster import view as views
from machine import codec, files

SINCE = files.MEMORY / "since.json"
EXAMINED = files.MEMORY / "examined"
JOINS = files.MEMORY / "joins.json"
LOCAL = pathlib.Path("/var/lib/etcd-charm")
JOINS_WITHIN = 3600  # seconds that an attempt to join is counted


_VOTERS = codec.Codec(views.KnownVoters)


class Notes:
    """One unit's notes: those in memory end at a reboot, the others outlive its data."""

    def __init__(self, unit: str):
        member = generations.member_name(unit)
        self._numbers = LOCAL / f"{member}.json"
        self._voters = LOCAL / f"{member}-voters.json"

    # In memory.

    def since(self) -> dict[str, float]:
        """When each thing that policy waits for began, wall clock; lost at a reboot."""
        try:
            raw = json.loads(SINCE.read_text())
        except (OSError, ValueError):
            return {}
        return {str(key): float(value) for key, value in raw.items()}

    def remember(self, clocks: tuple[str, ...], now: float) -> None:
        """Keep the clocks that policy runs, and forget the others."""
        before = self.since()
        wanted = {clock: min(before.get(clock, now), now) for clock in clocks}
        if wanted != before:
            SINCE.parent.mkdir(parents=True, exist_ok=True)
            SINCE.write_text(json.dumps(wanted))

    def examined(self, looked: str) -> bool | None:
        """What a look at the data found, None when it was no look at just this."""
        try:
            noted, _, found = EXAMINED.read_text().rpartition("\n")
        except (OSError, ValueError):
            return None
        return found == "broken" if noted == looked else None

    def note_examined(self, looked: str, found: bool) -> None:
        """Remember what a look at the data found, so that the next hook need not read it all."""
        files.write(EXAMINED, f"{looked}\n{'broken' if found else 'whole'}")

    def joins(self) -> int:
        """How often this unit was added as a learner in the last hour."""
        return len(_recent_joins())

    def joined(self) -> None:
        """Count one more attempt."""
        JOINS.parent.mkdir(parents=True, exist_ok=True)
        JOINS.write_text(json.dumps([*_recent_joins(), time.time()]))

    def not_joined(self) -> None:
        """Take the last attempt back: etcd refused it, and added nobody."""
        JOINS.write_text(json.dumps(_recent_joins()[:-1]))

    # On the machine's own disk.

    def numbers(self) -> dict[str, int]:
        """What was noted by name: `begun`, `turn_done` and `restarted`, see `views.Unit`."""
        try:
            return dict(json.loads(self._numbers.read_text()))
        except (OSError, ValueError):
            return {}

    def note(self, **numbers: int) -> None:
        """Note some: they outlive a hook that dies before its databag is flushed."""
        files.ensure_dir(LOCAL)
        files.write(self._numbers, json.dumps({**self.numbers(), **numbers}))

    def known_voters(self) -> views.KnownVoters:
        """The voters that this unit last saw agreed by a quorum."""
        try:
            return _VOTERS.read_json(self._voters.read_text())
        except (OSError, ValueError):
            return views.KnownVoters()

    def keep_known_voters(self, voters: views.KnownVoters) -> None:
        """Remember it for the day on which no quorum answers; a full disk keeps the one before."""
        if voters != self.known_voters():
            with contextlib.suppress(OSError):
                files.ensure_dir(LOCAL)
                files.write(self._voters, _VOTERS.to_json(voters))


def _recent_joins() -> list[float]:
    try:
        raw = json.loads(JOINS.read_text())
    except (OSError, ValueError):
        return []
    now = time.time()  # what lies ahead was noted by a clock that was wrong
    return [float(at) for at in raw if now - JOINS_WITHIN < float(at) <= now]
