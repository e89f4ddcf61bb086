"""The write-ahead log, offline: who wrote it, how far it got, and committing its tail.

Files are `<sequence>-<first index>.wal`. A frame is 8 bytes little endian, of which the low 56
bits are the record's length and, when the top bit is set, the low 3 bits of the top byte the
padding behind it; then a `walpb.Record`: type = 1, crc = 2, data = 3. Each crc is CRC-32C over all
data so far, so a record continues from the one before (etcd, wal/encoder.go).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import struct
from typing import TYPE_CHECKING

from etcd import protowire
from machine import files

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
_LARGEST_RECORD = 64 * 1024 * 1024 + 4096


@dataclasses.dataclass(frozen=True)
class Record:
    """One record: its type, the running checksum behind it, its data, and where it ends."""

    kind: int
    crc: int
    data: memoryview
    end: int


@dataclasses.dataclass(frozen=True)
class State:
    """raft's hard state: current term, vote of that term, last index known to be committed."""

    term: int
    vote: int
    commit: int


def logs(data_dir: pathlib.Path) -> list[pathlib.Path]:
    """The log files of a data directory in order; empty when etcd never ran on it."""
    return sorted((data_dir / "member" / "wal").glob("*.wal"))


def records(log: pathlib.Path) -> Iterator[Record]:
    """The whole records of one file, up to its end or to a torn tail, as etcd reads it."""
    at = 0
    with open(log, "rb", opener=files.regular) as file:
        while len(head := file.read(8)) == 8:
            (field,) = struct.unpack("<Q", head)
            size = field & ((1 << 56) - 1)
            padding = (field >> 56) & 7 if field >> 63 else 0
            if field == 0 or size > _LARGEST_RECORD:
                return
            raw = file.read(size + padding)
            if len(raw) < size + padding:
                return
            at += 8 + size + padding
            try:
                yield _record(memoryview(raw)[:size], at)
            except ValueError:
                return


def _record(raw: memoryview, end: int) -> Record:
    kind, crc, data = 0, 0, memoryview(b"")
    for number, value in protowire.walk(raw):
        if isinstance(value, int):
            if number == 1:
                kind = value
            elif number == 2:
                crc = value
        elif number == 3 and isinstance(value, memoryview):
            data = value
    return Record(kind, crc, data, end)


def member_ids(data_dir: pathlib.Path) -> tuple[int, int] | None:
    """(member ID, cluster ID) that wrote the log, None without one."""
    for log in logs(data_dir):
        for record in records(log):
            if record.kind == METADATA:
                return protowire.number(record.data, 1), protowire.number(record.data, 2)
    return None


def last_entry(data_dir: pathlib.Path) -> tuple[int, int]:
    """(term, index) of the last entry, or of the last snapshot mark when that is further.

    An entry that was written again under another leader replaces those behind it.
    """
    for log in reversed(logs(data_dir)):
        entry = mark = (0, 0)
        for record in records(log):
            if record.kind == ENTRY:
                entry = (protowire.number(record.data, 2), protowire.number(record.data, 3))
            elif record.kind == SNAPSHOT:
                mark = max(
                    mark, (protowire.number(record.data, 2), protowire.number(record.data, 1))
                )
        if entry[1] or mark[1]:
            return entry if entry[1] >= mark[1] else mark
    return (0, 0)


def commit_tail(data_dir: pathlib.Path) -> int:
    """Mark every entry of the log committed; answers how many were not known to be.

    A member learns that an entry is committed after it wrote it, and writes that knowledge only
    with the next one. Killed in between, its log ends in an entry that was acknowledged but not
    known as committed, and `--force-new-cluster` throws such entries away. Only for a copy of the
    survivor's data: what nobody acknowledged may be among them, and is kept too.

    Raises:
        ValueError: there is no log.
    """
    found = logs(data_dir)
    state: State | None = None
    tail: Record | None = None
    for log in reversed(found):
        for record in records(log):
            if record.kind == STATE:
                state = State(*(protowire.number(record.data, field) for field in (1, 2, 3)))
            if log == found[-1]:
                tail = record
        if state is not None:
            break
    if tail is None or state is None:
        raise ValueError("the write-ahead log has no state")
    term, index = last_entry(data_dir)
    if index <= state.commit:
        return 0
    vote = state.vote if state.term >= term else 0
    data = protowire.fields(max(state.term, term), vote, index)
    crc = crc32c(data, tail.crc)
    raw = protowire.fields(STATE, crc) + b"\x1a" + protowire.encoded(len(data)) + data
    padding = -len(raw) % 8
    frame = len(raw) | ((0x80 | padding) << 56 if padding else 0)
    with found[-1].open("r+b") as file:
        file.seek(tail.end)
        file.write(struct.pack("<Q", frame) + raw + b"\0" * padding)
        file.truncate()  # preallocated zeros, or a torn record
        file.flush()
        os.fsync(file.fileno())
    files.fsync(found[-1].parent)
    return index - state.commit


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of `data`, continuing from `crc`; some 10 MB each second."""
    table = _crc_table()
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    def step(value: int) -> int:
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        return value

    return tuple(step(value) for value in range(256))
