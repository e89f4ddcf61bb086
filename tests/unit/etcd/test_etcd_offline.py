"""What a look at the disk finds: what etcd's user could plant there, and damage."""

from __future__ import annotations

import os
import pathlib
import struct

import pytest

from etcd import failure as failures
from etcd import offline, protowire
from etcd import wal as wals


@pytest.mark.parametrize("kind", [failures.FailureKind.CORRUPT, failures.FailureKind.BAD_WAL])
@pytest.mark.parametrize("planted", ["pipe", "link"])
def test_given_no_file_in_the_place_of_data_when_looked_at_then_nothing_is_confirmed_nor_waits(
    tmp_path, kind, planted
):
    for name in ("wal/0000000000000000-0000000000000000.wal", "snap/db"):
        path = tmp_path / "member" / name
        path.parent.mkdir(parents=True)
        if planted == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    assert not offline.confirms(failures.Failure(kind, "x"), tmp_path, None)


def log_of(tmp_path: pathlib.Path, *records: tuple[int, bytes]) -> tuple[pathlib.Path, list[int]]:
    """A log as etcd writes it, with zeros behind it; and where each record begins."""
    folder = tmp_path / "member" / "wal"
    folder.mkdir(parents=True)
    path = folder / "0000000000000000-0000000000000000.wal"
    text, crc, begins = b"", 0, list[int]()
    for kind, data in records:
        crc = wals.crc32c(data, crc)
        raw = protowire.fields(kind, crc)
        raw += b"\x1a" + protowire.encoded(len(data)) + data if data else b""
        padding = -len(raw) % 8
        frame = len(raw) | ((0x80 | padding) << 56 if padding else 0)
        begins.append(len(text))
        text += struct.pack("<Q", frame) + raw + b"\0" * padding
    path.write_bytes(text + b"\0" * 4096)
    return path, begins


def test_given_a_length_without_its_padding_when_a_sector_ends_there_then_the_log_is_broken(
    tmp_path,
):
    """The next length is read seven zeros early: zeros up to the sector's end are no record."""
    owner = (wals.METADATA, protowire.fields(0x1234, 0x5678))
    state = (wals.STATE, b"\x08\x02\x10\x05\x18\x87\x01")  # needs seven zeros behind it
    for filling in range(300, 900, 4):
        folder = tmp_path / str(filling)
        entry = (wals.ENTRY, protowire.fields(0, 2, 136) + b"\x22" + b"\x20" + b"x" * 32)
        text = b"\x22" + protowire.encoded(filling) + b"x" * filling
        filled = (wals.ENTRY, protowire.fields(0, 2, 135) + text)
        path, begins = log_of(folder, (wals.CRC, b""), owner, filled, state, entry)
        good = path.read_bytes()
        assert not offline.log_broken(folder)
        damaged = bytearray(good)
        damaged[begins[3] + 7] ^= 0xFF
        path.write_bytes(damaged)
        assert offline.log_broken(folder), (filling, begins)
