"""Bbolt files, etcd's database format: reading them mapped, and raising a restored revision.

Only what etcd's buckets need: metas, named top-level buckets (inline ones too), single keys, and
the last key. Layout of bbolt 1.3 (the same in 1.4): a page begins with id u64, flags u16, count
u16, overflow u32; pages 0 and 1 hold the metas.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import mmap
import struct
from typing import TYPE_CHECKING, Any

from machine import files

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator
    from typing import BinaryIO

_MAGIC = 0xED0CDAED
_PAGE = struct.Struct("<QHHI")
_META = struct.Struct("<IIIIQQQQQQ")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_ROOT = struct.Struct("<Q")
_BRANCH, _LEAF, _BUCKET = 1, 2, 1
_DEPTH = 40


class FormatError(ValueError):
    """The file is not a bbolt file, or its pages contradict each other."""


def _unpack(form: struct.Struct, data: mmap.mmap | bytes, at: int) -> tuple[Any, ...]:
    """What stands at an offset.

    Raises:
        FormatError: it is outside the data.
    """
    if not 0 <= at <= len(data) - form.size:
        raise FormatError("the file ends before one of its pages")
    return form.unpack_from(data, at)


@dataclasses.dataclass(frozen=True)
class Meta:
    """The newest valid meta page: bytes per page, root page, number of pages, transaction."""

    page_size: int
    root: int
    pages: int
    transaction: int

    @property
    def size(self) -> int:
        """Bytes that the file must have at least."""
        return self.page_size * self.pages


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Where a bucket's tree starts: an offset into the file, also for inline buckets."""

    offset: int


class File:
    """An open bbolt file; other processes may write to it meanwhile, then reads may fail."""

    def __init__(self, path: pathlib.Path) -> None:
        """Map the file.

        Raises:
            FormatError: it is not a bbolt file.
            OSError: it cannot be opened.
        """
        with open(path, "rb", opener=files.regular) as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise FormatError("the file is empty") from error
        try:
            self.meta = self._read_meta()
        except FormatError:
            self._map.close()
            raise

    def __enter__(self) -> File:
        """Use as a context manager, so that the map is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unmap the file."""
        self._map.close()

    def __len__(self) -> int:
        """Bytes of the file."""
        return len(self._map)

    def bucket(self, name: bytes) -> Bucket | None:
        """The top-level bucket `name`, None when there is none."""
        found = self._seek(self._page_offset(self.meta.root), name)
        if found is None or not found[0] & _BUCKET:
            return None
        at, size = found[2]
        if size < 16:
            raise FormatError("a bucket header is too short")
        (root,) = _unpack(_ROOT, self._map, at)
        return Bucket(at + 16 if root == 0 else self._page_offset(root))

    def get(self, bucket: Bucket | None, key: bytes) -> bytes | None:
        """A key's value, None without one."""
        if bucket is None:
            return None
        found = self._seek(bucket.offset, key)
        if found is None or found[0] & _BUCKET:
            return None
        at, size = found[2]
        return self._slice(at, size)

    def last(self, bucket: Bucket | None) -> tuple[bytes, bytes] | None:
        """The last key with its value, None in an empty bucket."""
        if bucket is None:
            return None
        offset = bucket.offset
        for _ in range(_DEPTH):
            flags, count = self._header(offset)
            if count == 0:
                return None
            if flags & _LEAF:
                _, key, value = self._leaf(offset, count - 1)
                return self._slice(*key), self._slice(*value)
            offset = self._branch(offset, count - 1)[1]
        raise FormatError("the tree is too deep")

    def items(self, bucket: Bucket | None) -> Iterator[tuple[bytes, bytes]]:
        """All keys with their values in order; each page is read once, as it is in a tree."""
        if bucket is not None:
            yield from self._items(bucket.offset, set(), 0)

    def _items(self, offset: int, seen: set[int], depth: int) -> Iterator[tuple[bytes, bytes]]:
        if offset in seen or depth > _DEPTH:
            raise FormatError("the tree is too deep, or has a page twice")
        seen.add(offset)
        flags, count = self._header(offset)
        for index in range(count):
            if flags & _LEAF:
                _, key, value = self._leaf(offset, index)
                yield self._slice(*key), self._slice(*value)
            else:
                yield from self._items(self._branch(offset, index)[1], seen, depth + 1)

    def _read_meta(self) -> Meta:
        found: list[Meta] = []
        for offset in (0, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            with contextlib.suppress(FormatError):
                meta = self._meta_at(offset)
                if offset in (0, meta.page_size):
                    found.append(meta)
        if not found:
            raise FormatError("the file has no valid meta page")
        return max(found, key=lambda meta: meta.transaction)

    def _meta_at(self, offset: int) -> Meta:
        raw = _unpack(_META, self._map, offset + _PAGE.size)
        magic, version, page_size, _, root, _, _, pages, transaction, checksum = raw
        if magic != _MAGIC or version != 2 or page_size not in _PAGE_SIZES:
            raise FormatError("not a meta page")
        start = offset + _PAGE.size
        if checksum != _fnv(self._map[start : start + _META.size - 8]):
            raise FormatError("the meta page's checksum is wrong")
        return Meta(page_size, root, pages, transaction)

    def _page_offset(self, page: int) -> int:
        if not 0 < page < self.meta.pages:
            raise FormatError(f"page {page} is outside the file")
        return page * self.meta.page_size

    def _header(self, offset: int) -> tuple[int, int]:
        _, flags, count, _ = _unpack(_PAGE, self._map, offset)
        if flags not in (_BRANCH, _LEAF):
            raise FormatError(f"unexpected page type {flags:#x}")
        return flags, count

    def _branch(self, offset: int, index: int) -> tuple[tuple[int, int], int]:
        at = offset + _PAGE.size + index * _BRANCH_ELEMENT.size
        position, size, page = _unpack(_BRANCH_ELEMENT, self._map, at)
        return (at + position, size), self._page_offset(page)

    def _leaf(self, offset: int, index: int) -> tuple[int, tuple[int, int], tuple[int, int]]:
        at = offset + _PAGE.size + index * _LEAF_ELEMENT.size
        flags, position, key, value = _unpack(_LEAF_ELEMENT, self._map, at)
        return flags, (at + position, key), (at + position + key, value)

    def _slice(self, at: int, size: int) -> bytes:
        if at + size > len(self._map):
            raise FormatError("the file ends before one of its keys")
        return self._map[at : at + size]

    def _seek(
        self, offset: int, wanted: bytes
    ) -> tuple[int, tuple[int, int], tuple[int, int]] | None:
        for _ in range(_DEPTH):
            flags, count = self._header(offset)
            low, high = 0, count
            while low < high:  # first element whose key is greater than `wanted`
                middle = (low + high) // 2
                position = (
                    self._leaf(offset, middle)[1]
                    if flags & _LEAF
                    else self._branch(offset, middle)[0]
                )
                if self._slice(*position) <= wanted:
                    low = middle + 1
                else:
                    high = middle
            if flags & _LEAF:
                if low == 0:
                    return None
                element = self._leaf(offset, low - 1)
                return element if self._slice(*element[1]) == wanted else None
            if count == 0:
                return None
            offset = self._branch(offset, max(low - 1, 0))[1]
        raise FormatError("the tree is too deep")


_PAGE_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    result = 0xCBF29CE484222325
    for byte in data:
        result = ((result ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return result


def revision(file: File) -> int:
    """The store's revision as etcd finds it at its start; 1 for a fresh one.

    It is the greatest of the last row and the compaction marks: a compaction may have removed
    the last row.
    """
    newest = 1
    last = file.last(file.bucket(b"key"))
    if last is not None and len(last[0]) >= 8:
        newest = max(newest, int.from_bytes(last[0][:8], "big"))
    meta = file.bucket(b"meta")
    for name in (b"finishedCompactRev", b"scheduledCompactRev"):
        mark = file.get(meta, name)
        if mark is not None and len(mark) >= 8:
            newest = max(newest, int.from_bytes(mark[:8], "big"))
    return newest


def bump(path: pathlib.Path, amount: int) -> int:
    """Raise the revision of a restored database and mark all before it compacted.

    What `etcdutl snapshot restore --bump-revision --mark-compacted` writes, for the tools that
    lack it: an empty row at the new revision, and `scheduledCompactRev`. Only for a file that no
    etcd has open and that is thrown away when this fails half way.

    Args:
        path: `member/snap/db` of a restored data directory.
        amount: how far to raise it.

    Returns:
        The new revision.

    Raises:
        FormatError: the file is not a database of etcd.
    """
    with File(path) as file:
        new = revision(file) + amount
    if new >= 1 << 63:  # etcd counts in signed numbers
        raise FormatError(f"revision {new} is none")
    row = struct.pack(">QcQ", new, b"_", 0)
    _put(path, b"key", row, b"")
    _put(path, b"meta", b"scheduledCompactRev", row)
    return new


@dataclasses.dataclass
class _Element:
    flags: int
    key: bytes
    value: bytes


def _put(path: pathlib.Path, bucket: bytes, key: bytes, value: bytes) -> None:
    """Set one key of a bucket, its leaf rewritten where it is, or at the end of the file."""
    with path.open("r+b") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content:
        with File(path) as file:
            if len(file) < file.meta.size:
                raise FormatError("the file is shorter than its meta page says")
            edit = _Edit(raw, content, file)
            edit.put(bucket, key, value)
        raw.flush()


class _Edit:
    """One change of one leaf. Pages that are left behind are free: etcd finds them at open."""

    def __init__(self, raw: BinaryIO, content: mmap.mmap, file: File) -> None:
        self._raw = raw
        self._content = content
        self._file = file
        self._meta = file.meta

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        root = self._elements(self._meta.root)
        header = next((e for e in root if e.key == bucket and e.flags & _BUCKET), None)
        if header is None or len(header.value) < 16:
            raise FormatError(f"there is no bucket {bucket.decode()}")
        page, sequence = struct.unpack_from("<QQ", header.value)
        if page == 0:
            inline = _read_leaf(header.value[16:])
            _insert(inline, key, value)
            header.value = header.value[:16] + _write_leaf(0, inline, 0)
        else:
            page = self._change(page, key, value)
            header.value = struct.pack("<QQ", page, sequence)
        self._finish(self._store(self._meta.root, root))

    def _change(self, page: int, key: bytes, value: bytes, depth: int = 0) -> int:
        """Put a key into the tree at `page`; answers where that page is now."""
        if depth > _DEPTH:
            raise FormatError("the tree is too deep")
        offset, flags, count, _ = self._page(page)
        if flags & _LEAF:
            elements = self._elements(page)
            _insert(elements, key, value)
            return self._store(page, elements)
        if count == 0:
            raise FormatError("a branch has no elements")
        chosen = 0
        for index in range(count):
            at = offset + _PAGE.size + index * _BRANCH_ELEMENT.size
            position, length, _ = _unpack(_BRANCH_ELEMENT, self._content, at)
            if self._content[at + position : at + position + length] <= key:
                chosen = index
        at = offset + _PAGE.size + chosen * _BRANCH_ELEMENT.size
        position, length, child = _unpack(_BRANCH_ELEMENT, self._content, at)
        moved = self._change(child, key, value, depth + 1)
        self._write(at, _BRANCH_ELEMENT.pack(position, length, moved))
        return page

    def _page(self, page: int) -> tuple[int, int, int, int]:
        """A page of the tree: its offset, flags, number of elements, and pages behind it."""
        if not 0 < page < self._meta.pages:
            raise FormatError(f"page {page} is outside the file")
        offset = page * self._meta.page_size
        _, flags, count, overflow = _unpack(_PAGE, self._content, offset)
        if flags not in (_BRANCH, _LEAF):
            raise FormatError(f"unexpected page type {flags:#x}")
        if page + overflow >= self._meta.pages:
            raise FormatError("a page is longer than the file")
        return offset, flags, count, overflow

    def _elements(self, page: int) -> list[_Element]:
        offset, flags, _, overflow = self._page(page)
        if flags != _LEAF:
            raise FormatError("the root is not a leaf")
        return _read_leaf(self._content[offset : offset + (overflow + 1) * self._meta.page_size])

    def _store(self, page: int, elements: list[_Element]) -> int:
        """Write a leaf to its place, or with one page more to the end of the file."""
        size = self._meta.page_size
        overflow = self._page(page)[3]
        data = _write_leaf(page, elements, overflow)
        if len(data) > (overflow + 1) * size:
            page, overflow = self._meta.pages, -(-len(data) // size) - 1
            data = _write_leaf(page, elements, overflow)
            self._meta = dataclasses.replace(self._meta, pages=page + overflow + 1)
        self._write(page * size, data.ljust((overflow + 1) * size, b"\0"))
        return page

    def _finish(self, root: int) -> None:
        """Write both metas."""
        size = self._meta.page_size
        for page in (0, 1):
            at = page * size + _PAGE.size
            fields = list(_unpack(_META, self._content, at))
            fields[:5] = [_MAGIC, 2, size, 0, root]
            fields[7:9] = [self._meta.pages, self._meta.transaction + 1 + page]
            body = _META.pack(*fields)[:-8]
            self._write(
                page * size, _PAGE.pack(page, 4, 0, 0) + body + struct.pack("<Q", _fnv(body))
            )

    def _write(self, at: int, data: bytes) -> None:
        self._raw.seek(at)
        self._raw.write(data)


def _insert(elements: list[_Element], key: bytes, value: bytes) -> None:
    index = bisect.bisect_left([e.key for e in elements], key)
    if index < len(elements) and elements[index].key == key:
        elements[index].value = value
    else:
        elements.insert(index, _Element(0, key, value))


def _read_leaf(page: bytes) -> list[_Element]:
    """The elements of a leaf, which together are no longer than it is.

    Raises:
        FormatError: they are, or one of them is outside.
    """
    _, _, count, _ = _unpack(_PAGE, page, 0)
    elements: list[_Element] = []
    left = len(page)
    for index in range(count):
        at = _PAGE.size + index * _LEAF_ELEMENT.size
        flags, position, key, value = _unpack(_LEAF_ELEMENT, page, at)
        start = at + position
        left -= _LEAF_ELEMENT.size + key + value
        if start + key + value > len(page) or left < 0:
            raise FormatError("the elements of a page are longer than the page")
        middle = start + key
        elements.append(_Element(flags, page[start:middle], page[middle : middle + value]))
    return elements


def _write_leaf(page: int, elements: list[_Element], overflow: int) -> bytes:
    table, data = bytearray(), bytearray()
    for index, element in enumerate(elements):
        position = (len(elements) - index) * _LEAF_ELEMENT.size + len(data)
        table += _LEAF_ELEMENT.pack(element.flags, position, len(element.key), len(element.value))
        data += element.key + element.value
    return _PAGE.pack(page, _LEAF, len(elements), overflow) + bytes(table) + bytes(data)
