"""The backups of one cluster, as they can be trusted: chosen from, judged, put in order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

from backup import manifest as manifests
from backup import owner as owners
from backup import rclone, schedule, seal
from machine import files, outside

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection, Iterable, Mapping

SNAPSHOTS = "snapshots"
LEFTOVER = 86400.0  # seconds after which a file without a manifest is no upload under way
_TOLD = 50  # problems that are told one by one


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        manifests: the complete backups, newest first; within a cluster by generation and revision.
        problems: one sentence for each thing that is not as it should be.
        leftovers: names below the folder that unfinished uploads left, over a day old.
        times: when each was taken, by id, seconds since the epoch: as its manifest says, or when
            the store got it where the manifest names a later time.
        authentic: ids of those whose manifest this application wrote.
        clock: the store's clock when the newest object was stored, 0 when it does not tell.
        owner: whose folder it is, None where nobody has claimed it.
        claimed: somebody has, also where what says so cannot be read.
    """

    manifests: tuple[manifests.Manifest, ...]
    problems: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    times: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    authentic: frozenset[str] = frozenset()
    clock: float = 0.0
    owner: owners.Owner | None = None
    claimed: bool = False

    def at(self, manifest: manifests.Manifest) -> float:
        """When a backup was taken, seconds since the epoch, see `times`."""
        return self.times.get(manifest.id, manifest.taken_at)

    def having(self, manifest: manifests.Manifest) -> Listing:
        """This, with a backup of this application that was just stored, or written anew."""
        others = tuple(m for m in self.manifests if m.id != manifest.id)
        if len(others) < len(self.manifests):
            manifests = tuple(manifest if m.id == manifest.id else m for m in self.manifests)
        else:
            manifests = (manifest, *others)
        authentic = self.authentic | {manifest.id}
        return dataclasses.replace(self, manifests=manifests, authentic=authentic)

    def without(self, ids: Collection[str]) -> Listing:
        """This, without backups that were just removed."""
        kept = tuple(m for m in self.manifests if m.id not in ids)
        return dataclasses.replace(self, manifests=kept)

    def doomed(self, retention: schedule.Retention, now: float) -> frozenset[str]:
        """The ids of the backups that retention does not keep.

        Args:
            retention: the rule.
            now: seconds since the epoch. What is too old the store's clock decides where that is
                behind: nothing goes because this unit's is ahead.
        """
        points = (schedule.Point(m.id, self.at(m), m == self.guarded) for m in self.manifests)
        return retention.doomed(points, min(now, self.clock or now))

    @property
    def high(self) -> int:
        """The highest revision that any of the backups knows of, 0 without backups.

        Of those of this application only where it has some: its newest knows what those before
        did, and whoever writes to the store could use up the numbers that are left.
        """
        ours = [m for m in self.manifests if m.id in self.authentic]
        return max((max(m.high, m.revision) for m in ours or self.manifests), default=0)

    @property
    def newest(self) -> manifests.Manifest | None:
        """The newest backup."""
        return self.manifests[0] if self.manifests else None

    @property
    def proven(self) -> manifests.Manifest | None:
        """The newest backup that this application proved: what anybody may write is no proof."""
        mine = (m for m in self.manifests if m.id in self.authentic)
        return next((m for m in mine if m.proven_at is not None), None)

    @property
    def guarded(self) -> manifests.Manifest | None:
        """The newest proven backup, which is never removed: by its own word where none is ours."""
        told = (m for m in self.manifests if m.proven_at is not None)
        return self.proven or next(told, None)


def select(listing: Listing, wanted: str) -> manifests.Manifest:
    """The backup that an operator names: `latest`, `proven`, an id, or a part of one id's.

    A part is the beginning of an id, or the six digits at its end. Where this application proved
    none, `proven` is the newest whose manifest says so: an operator may believe it.

    Raises:
        LookupError: there is none, or more than one, in one sentence.
    """
    newest_first = listing.manifests
    if not newest_first:
        raise LookupError("there is no backup on the remote")
    if wanted in ("latest", ""):
        return newest_first[0]
    if wanted == "proven":
        if listing.guarded is None:
            raise LookupError("no backup was proven yet: run verify-backup")
        return listing.guarded
    found = [m for m in newest_first if m.id == wanted] or [
        m for m in newest_first if m.id.startswith(wanted) or m.id.rpartition("-")[2] == wanted
    ]
    if not found:
        raise LookupError(f"there is no backup {wanted!r}: list-backups shows those there are")
    if len(found) > 1:
        raise LookupError(f"{wanted!r} begins the ids of {len(found)} backups: give more of it")
    return found[0]


def judge(
    entries: Iterable[rclone.Entry],
    texts: Mapping[str, str],
    now: float,
    keys: seal.Keys | None = None,
) -> Listing:
    """What a listing and the manifests read from it amount to.

    Args:
        entries: all objects below `snapshots/`, by names relative to it.
        texts: contents of the `.json` objects that could be read.
        now: seconds since the epoch.
        keys: the application's, None for somebody who has none.
    """
    there = {entry.name: entry for entry in entries}
    clock = max((entry.modified for entry in there.values()), default=0.0)
    claimed = there.pop(owners.FILE, None) is not None
    found: list[manifests.Manifest] = []
    problems: list[str] = []
    owner: owners.Owner | None = None
    if claimed:
        try:
            owner = owners.Owner.from_json(texts.get(owners.FILE, ""))
        except ValueError as error:
            problems.append(f"{owners.FILE}, which says whose folder this is, is wrong: {error}")
    for name in sorted(there):
        match = manifests.FILE.fullmatch(name)
        if not match:
            problems.append(f"{outside.printable(name, 80)} is not a backup's: left alone")
        elif match[2] == ".json":
            try:
                found.append(_listed(name, there, texts))
            except ValueError as error:
                problems.append(f"{match[1]} cannot be used: {error}")
    described = {manifest.file for manifest in found}
    ids = {name[: -len(".json")] for name in there if name.endswith(".json")}
    leftovers: list[str] = []
    for name, entry in sorted(there.items()):
        match = manifests.FILE.fullmatch(name)
        if not match or match[2] == ".json" or name in described:
            continue
        if match[1] in ids and not name.endswith(".partial"):
            continue
        if entry.modified and now - entry.modified > LEFTOVER:
            leftovers.append(f"{SNAPSHOTS}/{name}")
            problems.append(f"{name} has no manifest: left by an upload that did not end")
        else:
            problems.append(f"{name} has no manifest yet: an upload is under way, or broke off")
    times = {m.id: manifests.taken(m, there[m.file].modified) for m in found}
    problems += filter(None, (_misdated(m, times[m.id], now) for m in found))
    if len(problems) > _TOLD:
        problems[_TOLD:] = [f"{len(problems) - _TOLD} more objects are not as they should be"]
    return Listing(
        _ordered(found, times, now),
        tuple(problems),
        tuple(leftovers),
        times,
        frozenset(m.id for m in found if _authentic(texts[f"{m.id}.json"], keys)),
        clock,
        owner,
        claimed,
    )


def _misdated(manifest: manifests.Manifest, at: float, now: float) -> str:
    """What is wrong with a backup's time, "" for nothing."""
    if at != manifest.taken_at:
        ahead = duration(manifest.taken_at - at)
        return (
            f"{manifest.id} says that it was taken {ahead} after it was stored: the clock of "
            f"{manifest.taken_by} was wrong then, the store's time counts"
        )
    if at > now + schedule.SKEW:
        return (
            f"{manifest.id} lies {duration(at - now)} in the future: the clock of this unit is "
            f"wrong, or that of {manifest.taken_by} was"
        )
    return ""


def _ordered(
    manifests: Iterable[manifests.Manifest], times: Mapping[str, float], now: float
) -> tuple[manifests.Manifest, ...]:
    """Newest first: the cluster that was backed up last, in it by generation and revision.

    A time that lies in the future tells nothing.
    """
    told = {m.id: at if (at := times[m.id]) <= now + schedule.SKEW else 0.0 for m in manifests}
    last: dict[int, float] = {}
    for m in manifests:
        last[m.cluster_id] = max(last.get(m.cluster_id, 0.0), told[m.id])
    return tuple(
        sorted(
            manifests,
            key=lambda m: (
                last[m.cluster_id], m.cluster_id, m.generation, m.revision, told[m.id], m.id
            ),
            reverse=True,
        )
    )  # fmt: skip


def _authentic(text: str, keys: seal.Keys | None) -> bool:
    if not keys:
        return False
    with contextlib.suppress(outside.OutsideError, ValueError):
        return keys.holds(manifests.KIND, outside.json_object(text, manifests.LARGEST, depth=4))
    return False


def duration(seconds: float) -> str:
    """A stretch of time for people: `42 s`, `12 min`, `5 h`, `3 days`."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _listed(
    name: str, there: Mapping[str, rclone.Entry], texts: Mapping[str, str]
) -> manifests.Manifest:
    """The manifest of that name, if its backup is complete.

    Raises:
        ValueError: it is not, and why.
    """
    if name not in texts:
        raise ValueError("its manifest cannot be read")
    try:
        manifest = manifests.Manifest.from_json(texts[name])
    except ValueError as error:
        raise ValueError(f"its manifest: {error}") from error
    if f"{manifest.id}.json" != name:
        raise ValueError("its manifest is another backup's")
    stored = there.get(manifest.file)
    if stored is None:
        raise ValueError(f"its manifest is there, but {manifest.file} is not")
    if stored.size not in (manifest.stored_size, -1):
        raise ValueError(
            f"{manifest.file} has {stored.size} bytes, its manifest says {manifest.stored_size}"
        )
    return manifest


def text_of(path: pathlib.Path) -> str | None:
    """What a mirrored manifest holds, None for anything that is too large, or no file."""
    with contextlib.suppress(OSError), files.opened(path) as descriptor:
        if os.fstat(descriptor).st_size <= manifests.LARGEST:
            return os.read(descriptor, manifests.LARGEST).decode(errors="replace")
    return None
