"""The manifest of a backup: what it is, checked field by field."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import secrets

from backup import schedule, seal
from cluster import revisions
from machine import codec, outside

FORMAT = 1
SUFFIXES = {"": ".db", "zstd": ".db.zst", "gzip": ".db.gz"}
ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-g[0-9]{1,20}-r[0-9]{1,20}-[0-9a-f]{6}")
KIND = "manifest"  # what a manifest's code is made for
LARGEST = 256 * 1024  # bytes of a manifest: a thousand members' names
_LATEST = 32503680000.0  # seconds since the epoch: the year 3000
_LONGEST = 100 * 86400.0  # seconds that taking a backup may last
# rclone writes `.partial` first where a store can rename.
FILE = re.compile(
    rf"({ID.pattern})(\.db|\.db\.zst|\.db\.gz|\.json|\.[a-z.]{{1,20}}\.[0-9a-z]{{1,20}}\.partial)"
)


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
        raw = {"format": FORMAT, **_MANIFEST.to_object(self), "taken": stamp(self.taken_at)}
        raw = keys.sealed(KIND, raw, now) if keys else raw
        return json.dumps(raw, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises:
            ValueError: it is none, or a newer format's, in one sentence.
        """
        values = outside.json_object(text, LARGEST, depth=4)
        if values.get("format") != FORMAT:
            named = repr(values.get("format"))[:40]
            raise ValueError(f"its format {named} is not the {FORMAT} known here")
        manifest = _MANIFEST.read(values)
        if problem := _wrong(manifest):
            raise ValueError(problem)
        return manifest


_HASH = codec.Form(re.compile(r"[0-9a-f]{64}"))
_MANIFEST = codec.Codec(
    Manifest,
    {
        "cluster_id": codec.Form(hexadecimal=True),
        "sha256": _HASH,
        "stored_sha256": _HASH,
        "members": codec.Form(longest=256, count=10_000),
        "taken_at": codec.Form(most=_LATEST),
        "proven_at": codec.Form(most=_LATEST),
        "duration": codec.Form(most=_LONGEST),
        "hash_compacted": codec.Form(least=-1),  # etcd's word for never
    },
    otherwise=codec.Form(longest=256),
)


def _wrong(manifest: Manifest) -> str:
    """What speaks against a manifest that could be read, "" when nothing does."""
    if not ID.fullmatch(manifest.id):
        return f"its id {manifest.id[:80]!r} is not one of ours"
    if manifest.compression not in SUFFIXES:
        return f"its compression {manifest.compression[:20]!r} is not known here"
    if manifest.file != manifest.id + SUFFIXES[manifest.compression]:
        return "it names a file that is not its own"
    if max(manifest.revision, manifest.high) >= revisions.LIMIT:
        return "it has a revision that no cluster reaches"
    return ""


def new_id(taken_at: float, generation: int, revision: int) -> str:
    """An id: time, generation, revision, and six random digits against two at once."""
    moment = stamp(taken_at).replace("-", "").replace(":", "")
    return f"{moment}-g{generation}-r{revision}-{secrets.token_hex(3)}"


def stamp(seconds: float) -> str:
    """Seconds since the epoch as UTC text: `2026-11-21T02:08:49Z`."""
    moment = datetime.datetime.fromtimestamp(int(seconds), tz=datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def taken(manifest: Manifest, stored: float) -> float:
    """When a backup was taken: it cannot have been after the store got it."""
    late = stored and manifest.taken_at > stored + schedule.SKEW
    return stored if late else manifest.taken_at
