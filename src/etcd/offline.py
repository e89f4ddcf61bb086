"""Whether the disk says what etcd's last words say, before anybody acts on them.

etcd writes into its log what strangers send, and its own words may have a cause that passes. So
data counts as unusable only when a look at it, without etcd, finds the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from typing import TYPE_CHECKING

import errors
from etcd import bolt, protowire
from etcd import failure as failures
from etcd import snapshot as snapshots
from etcd import wal as wals
from machine import files

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection

_SECONDS = 60.0  # for the checksums of a log
_SECTOR = 512  # bytes that a disk writes at once or not at all (etcd, wal/decoder.go)
_LARGEST_ENTRY = 10 << 20  # bytes: etcd 3.4 reads no longer record
_LOG = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_RAFT_SNAPSHOT = re.compile(r"[0-9a-f]{16}-([0-9a-f]{16})\.snap")


def confirms(
    failure: failures.Failure, data_dir: pathlib.Path, listed: Collection[int] | None
) -> bool:
    """Whether the member list or the disk says the same as this failure.

    Args:
        failure: one whose `data_broken` is true.
        data_dir: etcd's `--data-dir`; etcd does not run on it.
        listed: IDs of all members, None when no quorum tells.
    """
    if failure.kind is failures.FailureKind.REMOVED:
        try:
            written = wals.member_ids(data_dir)
        except (OSError, ValueError):
            return False
        return listed is not None and written is not None and written[0] not in listed
    with contextlib.suppress(OSError):
        if failure.kind is failures.FailureKind.CORRUPT:
            return database_broken(data_dir) or log_broken(data_dir)
        return log_broken(data_dir, failure.last_index) or database_broken(data_dir)
    return False


def unconfirmed(failure: failures.Failure) -> failures.Failure:
    """The same failure, told as what etcd says and nothing else does."""
    other = "the member list does not say so"
    if failure.kind is not failures.FailureKind.REMOVED:
        other = "a check of its data finds nothing wrong"
    sentence = f"etcd says that {failure.sentence}, but {other}"
    return dataclasses.replace(failure, kind=failures.FailureKind.OTHER, sentence=sentence)


def mark(data_dir: pathlib.Path) -> str:
    """Changes when the database or the log does: what was found holds as long as this."""
    member = data_dir / "member"
    paths = [member / "snap" / "db", *wals.logs(data_dir)[-1:]]
    found: list[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            details = path.stat()
            found.append(f"{path.name} {details.st_ino} {details.st_size} {details.st_mtime_ns}")
    return "; ".join(found)


def database_broken(data_dir: pathlib.Path) -> bool:
    """Whether the database is missing, has a bad page, or is older than raft's snapshot."""
    path = data_dir / "member" / "snap" / "db"
    try:
        with bolt.File(path) as file:
            if len(file) < file.meta.size:
                return True
            applied = file.get(file.bucket(b"meta"), b"consistent_index") or b""
        snapshots.examine(path)
    except (FileNotFoundError, bolt.FormatError, errors.SnapshotError):
        return True
    except errors.ToolError:
        return False
    newest = _newest_snapshot(path.parent)
    beside = path.with_name(f"{newest:016x}.snap.db")
    return int.from_bytes(applied[:8], "big") < newest and not beside.exists()


def _newest_snapshot(folder: pathlib.Path) -> int:
    """Raft index of the newest raft snapshot, 0 without one."""
    found = (_RAFT_SNAPSHOT.fullmatch(path.name) for path in folder.glob("*.snap"))
    return max((int(match[1], 16) for match in found if match), default=0)


def log_broken(data_dir: pathlib.Path, said_last: int | None = None) -> bool:
    """Whether the write-ahead log is missing, has a gap, a bad checksum, or lost its end or owner.

    Args:
        data_dir: etcd's `--data-dir`.
        said_last: last index by the words of an etcd that was told of later, committed ones.
    """
    logs = wals.logs(data_dir)
    first = _first_read(logs, _newest_snapshot(data_dir / "member" / "snap"))
    if first is None:
        return True
    until = time.monotonic() + _SECONDS
    try:
        if not all(_is_whole(path, until) for path in logs[first:]):
            return True
        if not (wals.member_ids(data_dir) or (0, 0))[0]:
            return True
        _, last = wals.last_entry(data_dir)
        return last < _committed(logs[first:]) or last == said_last
    except ValueError:  # a record is whole, but no entry or state
        return True


def _first_read(logs: list[pathlib.Path], index: int) -> int | None:
    """Position of the file that etcd begins to read at, None when it or a later one is missing."""
    names = [_LOG.fullmatch(path.name) for path in logs]
    parts = [(int(match[1], 16), int(match[2], 16)) for match in names if match]
    if len(parts) != len(logs):
        return None
    begins = [at for at, (_, begin) in enumerate(parts) if begin <= index]
    if not begins:
        return None
    sequence = [number for number, _ in parts[begins[-1] :]]
    whole = sequence == list(range(sequence[0], sequence[0] + len(sequence)))
    return begins[-1] if whole else None


def _is_whole(path: pathlib.Path, until: float) -> bool:
    """Whether the checksums of a log agree up to its end; those not reached in time are believed.

    A record at the end that was written in part is no damage: etcd cuts it off.
    """
    crc, end = 0, 0
    for record in wals.records(path):
        if time.monotonic() > until:
            return True
        if record.kind == wals.CRC:
            if crc and record.crc != crc:
                return False
            crc = record.crc
        else:
            crc = wals.crc32c(record.data, crc)
            if crc != record.crc:
                return _is_torn(path, end + 8, record.end)  # etcd looks behind the length, too
        end = record.end
    with open(path, "rb", opener=files.regular) as file:
        file.seek(end)
        head = file.read(8)
    size = int.from_bytes(head, "little") & ((1 << 56) - 1)
    fits = size <= _LARGEST_ENTRY and end + 8 + size <= path.stat().st_size
    return not head.strip(b"\0") or (fits and _is_torn(path, end + 8, end + 8 + size))


def _is_torn(path: pathlib.Path, begin: int, end: int) -> bool:
    """Whether a sector of these bytes holds zeros only: it never reached the disk."""
    with open(path, "rb", opener=files.regular) as file:
        file.seek(begin)
        while begin < end:
            size = min(_SECTOR - begin % _SECTOR, end - begin)
            if not file.read(size).strip(b"\0"):
                return True
            begin += size
    return False


def _committed(logs: list[pathlib.Path]) -> int:
    """The last index that the log says is committed, 0 when it does not say."""
    for path in reversed(logs):
        states = [record.data for record in wals.records(path) if record.kind == wals.STATE]
        if states:
            return protowire.number(states[-1], 3)
    return 0
