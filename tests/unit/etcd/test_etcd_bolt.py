"""Pages of a database that nobody honest wrote."""

from __future__ import annotations

import gzip
import struct

import pytest

from etcd import bolt
from fuzzing import targets


def leaf(count: int, size: int, length: int) -> bytes:
    """A page with elements that all have the same long value."""
    page = bytearray(size)
    page[:16] = struct.pack("<QHHI", 3, 2, count, 0)
    for index in range(count):
        at = 16 + 16 * index
        page[at : at + 16] = struct.pack("<IIII", 0, size - length - at, 0, length)
    return bytes(page)


def test_given_elements_that_lie_on_each_other_when_read_then_memory_is_not_what_they_add_up_to():
    assert len(bolt._read_leaf(leaf(2, 80_000, 10_000))) == 2
    with pytest.raises(bolt.FormatError, match="longer than the page"):
        bolt._read_leaf(leaf(2000, 80_000, 40_000))


@pytest.mark.parametrize(
    ("at", "value"), [(8, 1 << 40), (8, 0), (12, 0xFFFFFFFF)], ids=["flags", "none", "overflow"]
)
def test_given_a_root_page_with_other_numbers_when_written_then_refused_and_no_larger(
    tmp_path, at, value
):
    path = tmp_path / "db"
    path.write_bytes(gzip.decompress((targets.SEEDS / "snapshot.gz").read_bytes()))
    with bolt.File(path) as file:
        offset = file.meta.root * file.meta.page_size
    before = path.stat().st_size
    with path.open("r+b") as raw:
        raw.seek(offset + at)
        raw.write(struct.pack("<I", value & 0xFFFFFFFF))
    with pytest.raises(bolt.FormatError):
        bolt.bump(path, 1)
    assert path.stat().st_size == before
