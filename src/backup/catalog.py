"""What lies on the remote: names, manifests, and how a backup becomes and stays visible.

One folder per cluster (docs/backups.md). In it `snapshots/<id>.db[.zst|.gz]` and its manifest
`snapshots/<id>.json`, uploaded last and deleted first: a backup exists when both do. `archive/` is
left for a continuous archive of changes, `snapshots/owner.json` says whose folder it is. The pure
part knows names and manifests; `Catalog` moves them.

What a manifest says is the store's word until its code is compared (`backup.seal`). Within a
cluster, backups are ordered by generation and revision, which no clock moves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import secrets
import tempfile
import time
from typing import TYPE_CHECKING, Any, cast

import outside
from backup import owner as owners
from backup import refusals, schedule, seal
from backup import remote as remotes
from cluster import revisions
from etcd import files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

FORMAT = 1
SNAPSHOTS = "snapshots"
SUFFIXES = {"": ".db", "zstd": ".db.zst", "gzip": ".db.gz"}
LEFTOVER = 86400.0  # seconds after which a file without a manifest is no upload under way
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-g[0-9]{1,20}-r[0-9]{1,20}-[0-9a-f]{6}")
_KIND = "manifest"  # what a manifest's code is made for
_NAMED = f"{{{owners.FILE},????????T??????Z-g*-r*-??????.json}}"  # as rclone writes a pattern
_LARGEST = 256 * 1024  # bytes of a manifest: a thousand members' names
_LATEST = 32503680000.0  # seconds since the epoch: the year 3000
_LONGEST = 100 * 86400.0  # seconds that taking a backup may last
_MOST = 1 << 64  # above any number in it
_TOLD = 50  # problems that are told one by one
# rclone writes `.partial` first where a store can rename.
_FILE = re.compile(
    rf"({_ID.pattern})(\.db|\.db\.zst|\.db\.gz|\.json|\.[a-z.]{{1,20}}\.[0-9a-z]{{1,20}}\.partial)"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is known of a backup; the JSON beside it.

    Attributes:
        id: unique in its folder, and begins with the time: names sort by age.
        file: name of the snapshot beside the manifest.
        cluster_id: etcd's; hexadecimal in JSON.
        generation: the charm's number of this founding of the cluster.
        token: that founding's token.
        revision: the newest revision in it.
        raft_index: the newest raft index applied when it was taken.
        etcd_version: of the member that it was taken from.
        storage_version: of the file's schema, "" before etcd 3.6.
        size: bytes of the snapshot, unpacked.
        sha256: of the snapshot, unpacked, as etcd streamed it.
        stored_size: bytes of the file on the remote.
        stored_sha256: of the file on the remote.
        compression: "", `zstd` or `gzip`.
        keys: live keys, 0 when not counted.
        members: their names.
        taken_by: the unit.
        taken_at: seconds since the epoch.
        duration: seconds from the first byte of the snapshot to its last byte on the remote.
        hash: etcd's HashKV at `revision`, 0 when there was none to be had.
        hash_compacted: the compaction that `hash` was made under.
        proven_at: when it was last restored and found right, None before; seconds since the epoch.
        carries: what it brings along besides keys: `authentication`, `alarms`, both or "".
        high: the highest revision that the application knew of, `revision` or above; 0 where an
            earlier revision of the charm did not tell it.
    """

    id: str
    file: str
    cluster_id: int
    generation: int
    token: str
    revision: int
    raft_index: int
    etcd_version: str
    storage_version: str
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    compression: str
    keys: int
    members: tuple[str, ...]
    taken_by: str
    taken_at: float
    duration: float
    hash: int = 0
    hash_compacted: int = 0
    proven_at: float | None = None
    carries: str = ""
    high: int = 0

    def to_json(self, keys: seal.Keys | None = None, now: float = 0.0) -> str:
        """The manifest as the remote holds it.

        Args:
            keys: the application's, to seal it with.
            now: seconds since the epoch, which decides by which of them.
        """
        raw = {"format": FORMAT, **dataclasses.asdict(self), "members": list(self.members)}
        raw["cluster_id"] = f"{self.cluster_id:x}"
        raw["taken"] = stamp(self.taken_at)
        raw = keys.sealed(_KIND, raw, now) if keys else raw
        return json.dumps(raw, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises:
            ValueError: it is none, or a newer format's, in one sentence.
        """
        values = outside.json_object(text, _LARGEST, depth=4)
        if values.get("format") != FORMAT:
            named = repr(values.get("format"))[:40]
            raise ValueError(f"its format {named} is not the {FORMAT} known here")
        try:
            manifest = cls(**{field.name: _field(values, field) for field in _FIELDS})
        except (KeyError, ValueError) as error:
            raise ValueError(f"it lacks or garbles {error}") from error
        problem = _wrong(manifest)
        if problem:
            raise ValueError(problem)
        return manifest


_FIELDS = dataclasses.fields(Manifest)
_LIMITS = {"taken_at": _LATEST, "proven_at": _LATEST, "duration": _LONGEST}


def _field(values: Mapping[str, Any], field: dataclasses.Field[Any]) -> Any:
    """One value of a manifest, of the type that the field has."""
    name = field.name
    if name not in values and field.default is not dataclasses.MISSING:
        return field.default
    value = values[name]
    if name == "cluster_id":
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{1,16}", value):
            return int(value, 16)
    elif name == "members":
        if isinstance(value, list):
            return tuple(_text(name, member) for member in cast("list[Any]", value))
    elif name == "proven_at":
        return None if value is None else _number(name, value, float)
    elif field.type == "str":
        return _text(name, value)
    else:
        return _number(name, value, int if field.type == "int" else float)
    raise ValueError(name)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str) and len(value) <= 256 and value.isprintable():
        return value
    raise ValueError(name)


def _number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    """A number that fits into what it is for."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and (kind is int or not isinstance(value, float)):
        raise ValueError(name)
    least = -1 if name == "hash_compacted" else 0  # etcd's word for never
    if not least <= value < _LIMITS.get(name, _MOST):
        raise ValueError(name)
    return kind(value)


def _wrong(manifest: Manifest) -> str:
    """What speaks against a manifest that could be read, "" when nothing does."""
    if not _ID.fullmatch(manifest.id):
        return f"its id {manifest.id[:80]!r} is not one of ours"
    if manifest.compression not in SUFFIXES:
        return f"its compression {manifest.compression[:20]!r} is not known here"
    if manifest.file != manifest.id + SUFFIXES[manifest.compression]:
        return "it names a file that is not its own"
    if not _SHA256.fullmatch(manifest.sha256) or not _SHA256.fullmatch(manifest.stored_sha256):
        return "its sha256 is none"
    if max(manifest.revision, manifest.high) >= revisions.LIMIT:
        return "it has a revision that no cluster reaches"
    return ""


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

    manifests: tuple[Manifest, ...]
    problems: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    times: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    authentic: frozenset[str] = frozenset()
    clock: float = 0.0
    owner: owners.Owner | None = None
    claimed: bool = False

    def at(self, manifest: Manifest) -> float:
        """When a backup was taken, seconds since the epoch, see `times`."""
        return self.times.get(manifest.id, manifest.taken_at)

    def having(self, manifest: Manifest) -> Listing:
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
        """The highest revision that any of the backups knows of, 0 without backups."""
        return max((max(m.high, m.revision) for m in self.manifests), default=0)

    @property
    def newest(self) -> Manifest | None:
        """The newest backup."""
        return self.manifests[0] if self.manifests else None

    @property
    def proven(self) -> Manifest | None:
        """The newest backup that this application proved: what anybody may write is no proof."""
        mine = (m for m in self.manifests if m.id in self.authentic)
        return next((m for m in mine if m.proven_at is not None), None)

    @property
    def guarded(self) -> Manifest | None:
        """The newest proven backup, which is never removed: by its own word where none is ours."""
        told = (m for m in self.manifests if m.proven_at is not None)
        return self.proven or next(told, None)


def folder(
    model: str = "", model_uuid: str = "", application: str = "", cluster_name: str = ""
) -> str:
    """The cluster's folder on the remote: `<cluster-name>`, or made of model and application.

    Raises:
        ValueError: the cluster name has characters that are no file name's everywhere.
    """
    if cluster_name:
        if not _FOLDER.fullmatch(cluster_name):
            raise ValueError(
                f"cluster-name {cluster_name!r} has more than letters, digits, '.', '_', '-' "
                "and '/' between names"
            )
        return cluster_name
    return f"{model}-{model_uuid[:8]}/{application}"


def new_id(taken_at: float, generation: int, revision: int) -> str:
    """An id: time, generation, revision, and six random digits against two at once."""
    moment = stamp(taken_at).replace("-", "").replace(":", "")
    return f"{moment}-g{generation}-r{revision}-{secrets.token_hex(3)}"


def stamp(seconds: float) -> str:
    """Seconds since the epoch as UTC text: `2026-11-21T02:08:49Z`."""
    moment = datetime.datetime.fromtimestamp(int(seconds), tz=datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def select(listing: Listing, wanted: str) -> Manifest:
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
    entries: Iterable[remotes.Entry],
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
    manifests: list[Manifest] = []
    problems: list[str] = []
    owner: owners.Owner | None = None
    if claimed:
        try:
            owner = owners.Owner.from_json(texts.get(owners.FILE, ""))
        except ValueError as error:
            problems.append(f"{owners.FILE}, which says whose folder this is, is wrong: {error}")
    for name in sorted(there):
        match = _FILE.fullmatch(name)
        if not match:
            problems.append(f"{outside.printable(name, 80)} is not a backup's: left alone")
        elif match[2] == ".json":
            try:
                manifests.append(_listed(name, there, texts))
            except ValueError as error:
                problems.append(f"{match[1]} cannot be used: {error}")
    described = {manifest.file for manifest in manifests}
    ids = {name[: -len(".json")] for name in there if name.endswith(".json")}
    leftovers: list[str] = []
    for name, entry in sorted(there.items()):
        match = _FILE.fullmatch(name)
        if not match or match[2] == ".json" or name in described:
            continue
        if match[1] in ids and not name.endswith(".partial"):
            continue
        if entry.modified and now - entry.modified > LEFTOVER:
            leftovers.append(f"{SNAPSHOTS}/{name}")
            problems.append(f"{name} has no manifest: left by an upload that did not end")
        else:
            problems.append(f"{name} has no manifest yet: an upload is under way, or broke off")
    times = {m.id: _taken(m, there[m.file].modified) for m in manifests}
    problems += filter(None, (_misdated(m, times[m.id], now) for m in manifests))
    if len(problems) > _TOLD:
        problems[_TOLD:] = [f"{len(problems) - _TOLD} more objects are not as they should be"]
    return Listing(
        _ordered(manifests, times, now),
        tuple(problems),
        tuple(leftovers),
        times,
        frozenset(m.id for m in manifests if _authentic(texts[f"{m.id}.json"], keys)),
        clock,
        owner,
        claimed,
    )


def _taken(manifest: Manifest, stored: float) -> float:
    """When a backup was taken: it cannot have been after the store got it."""
    late = stored and manifest.taken_at > stored + schedule.SKEW
    return stored if late else manifest.taken_at


def _misdated(manifest: Manifest, at: float, now: float) -> str:
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
    manifests: Iterable[Manifest], times: Mapping[str, float], now: float
) -> tuple[Manifest, ...]:
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
        return keys.holds(_KIND, outside.json_object(text, _LARGEST, depth=4))
    return False


def duration(seconds: float) -> str:
    """A stretch of time for people: `42 s`, `12 min`, `5 h`, `3 days`."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _listed(name: str, there: Mapping[str, remotes.Entry], texts: Mapping[str, str]) -> Manifest:
    """The manifest of that name, if its backup is complete.

    Raises:
        ValueError: it is not, and why.
    """
    if name not in texts:
        raise ValueError("its manifest cannot be read")
    try:
        manifest = Manifest.from_json(texts[name])
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


def _text_of(path: pathlib.Path) -> str | None:
    """What a mirrored manifest holds, None for anything that is too large, or no file."""
    with contextlib.suppress(OSError), files.opened(path) as descriptor:
        if os.fstat(descriptor).st_size <= _LARGEST:
            return os.read(descriptor, _LARGEST).decode(errors="replace")
    return None


class Catalog:
    """One cluster's backups on a remote."""

    def __init__(
        self,
        remote: remotes.Remote,
        folder: str,
        cache: pathlib.Path | None = None,
        keys: seal.Keys | None = None,
    ) -> None:
        """Look at a cluster's folder; nothing is sent.

        Args:
            remote: the root that several clusters share.
            folder: this cluster's, see `folder()`.
            cache: a directory that keeps manifests between calls; without one each call reads
                them all.
            keys: the application's, to seal manifests with and to know them by.
        """
        self.remote = remote.child(folder)
        self.folder = folder
        self._snapshots = self.remote.child(SNAPSHOTS)
        self._cache = cache
        self._keys = keys

    def read(self) -> Listing:
        """List the backups; what is wrong with any of them does not hide the others.

        Raises:
            refusals.RemoteError: the remote cannot be read.
        """
        entries = self._snapshots.list()
        if not entries:
            return Listing(())
        with tempfile.TemporaryDirectory(prefix="etcd-catalog-") as scratch:
            cache = self._cache or pathlib.Path(scratch)
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            cache.chmod(0o700)  # what is in it, another user may write to
            folder = cache / "objects"
            folder.mkdir(exist_ok=True)
            self._snapshots.mirror(_NAMED, folder, _LARGEST)
            names = {entry.name for entry in entries}
            texts: dict[str, str] = {}
            for path in folder.iterdir():
                text = _text_of(path) if path.name in names else None
                if text is None:
                    files.remove(path)
                else:
                    texts[path.name] = text
        return judge(entries, texts, time.time(), self._keys)

    def publish(
        self,
        manifest: Manifest,
        file: pathlib.Path,
        progress: remotes.Progress | None = None,
    ) -> Manifest:
        """Upload a snapshot and then its manifest, with the duration until then.

        Raises:
            refusals.RemoteError: nothing is listed that was not before.
        """
        done, sent = manifest, [manifest.file]
        try:
            self._snapshots.put(file, manifest.file, progress=progress)
            done = dataclasses.replace(manifest, duration=time.time() - manifest.taken_at)
            sent.insert(0, f"{manifest.id}.json")
            self.describe(done)
        except refusals.RemoteError:
            for name in sent:
                with contextlib.suppress(refusals.RemoteError):
                    self._snapshots.delete(name)
            raise
        return done

    def describe(self, manifest: Manifest) -> None:
        """Write a manifest, the first time or anew.

        Raises:
            refusals.RemoteError: it could not be written.
        """
        text = manifest.to_json(self._keys, time.time())
        self._snapshots.put_bytes(f"{manifest.id}.json", text.encode())

    def claim(self, owner: owners.Owner) -> None:
        """Write down whose folder this is.

        Raises:
            refusals.RemoteError: it could not be written.
        """
        self._snapshots.put_bytes(owners.FILE, owner.to_json().encode())

    def mark_proven(
        self, manifest: Manifest, at: float, keys: int = 0, hashed: tuple[int, int] = (0, 0)
    ) -> Manifest:
        """Write down that a backup was proven.

        Args:
            manifest: which one.
            at: when, seconds since the epoch.
            keys: live keys that were found in it.
            hashed: HashKV at its revision, and the compaction that it was made under.

        Raises:
            refusals.RemoteError: it could not be written.
        """
        proven = dataclasses.replace(
            manifest,
            proven_at=float(int(at)),
            keys=keys or manifest.keys,
            hash=hashed[0] or manifest.hash,
            hash_compacted=hashed[1] if hashed[0] else manifest.hash_compacted,
        )
        self.describe(proven)
        return proven

    def manifest(self, wanted: str) -> Manifest:
        """The manifest of one id, without listing the others.

        Raises:
            refusals.RemoteError: there is none, or it cannot be used.
        """
        if not _ID.fullmatch(wanted):
            raise refusals.RemoteError(
                refusals.Kind.NOT_FOUND, f"{wanted[:80]!r} is not the id of a backup"
            )
        try:
            found = self._snapshots.get_bytes(f"{wanted}.json", _LARGEST + 1)
            text = found.decode(errors="replace")
            return Manifest.from_json(text)
        except ValueError as error:
            raise refusals.RemoteError(
                refusals.Kind.CORRUPT, f"the manifest of {wanted} cannot be used: {error}"
            ) from error
        except refusals.RemoteError as error:
            if error.kind is refusals.Kind.NOT_FOUND:
                raise refusals.RemoteError(
                    error.kind, f"there is no backup {wanted} in {self.remote.words}"
                ) from error
            raise

    def get(
        self,
        manifest: Manifest,
        local: pathlib.Path,
        progress: remotes.Progress | None = None,
    ) -> None:
        """Download a backup's file as it is stored, to be checked by the caller.

        Raises:
            refusals.RemoteError: what is wrong, in one sentence.
        """
        self._snapshots.get(manifest.file, local, size=manifest.stored_size, progress=progress)

    def delete(self, manifest: Manifest) -> None:
        """Remove a backup, manifest first: it is never listed half.

        Raises:
            refusals.RemoteError: it is still there, or its file is left over.
        """
        self._snapshots.delete(f"{manifest.id}.json")
        self._snapshots.delete(manifest.file)

    def sweep(self, names: Iterable[str]) -> None:
        """Remove leftovers by their names in `Listing.leftovers`, and those that no listing shows.

        Raises:
            refusals.RemoteError: what is wrong, in one sentence.
        """
        for name in names:
            self.remote.delete(name)
        self.remote.abort_uploads(LEFTOVER)
