"""The protobuf wire format, as far as unknown fields and etcd's files need it.

`etcd3` was generated from etcd 3.2's definitions: newer fields (a member's `isLearner`, a
status's `dbSizeInUse`) reach us as unknown fields, and the write-ahead log has no Python
definitions at all.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Buffer = bytes | memoryview


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """The variable-length integer at offset `at`, and the offset behind it.

    Raises:
        ValueError: the data ends in it, or it is longer than 64 bits.
    """
    result = shift = 0
    try:
        while shift < 70:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, at
            shift += 7
    except IndexError:
        pass
    raise ValueError("a variable-length integer does not end")


def walk(data: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    """The (field number, value) pairs of a message in their order.

    Values are integers (also for fixed-width fields), or slices for length-delimited fields.

    Raises:
        ValueError: the data is not a message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: int | Buffer
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            if at + size > end:
                raise ValueError("a field is longer than its message")
            value, at = data[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > end:
                raise ValueError("a field is longer than its message")
            value = struct.unpack_from("<Q" if kind == 1 else "<I", data, at)[0]
            at += size
        else:
            raise ValueError(f"wire type {kind} is not in use")
        yield number, value


def number(data: Buffer, field: int, default: int = 0) -> int:
    """The last integer of `field`, or `default`."""
    found = default
    for key, value in walk(data):
        if key == field and isinstance(value, int):
            found = value
    return found


def chunk(data: Buffer, field: int) -> bytes:
    """The last length-delimited value of `field`, b"" without one."""
    found = b""
    for key, value in walk(data):
        if key == field and not isinstance(value, int):
            found = bytes(value)
    return found


def chunks(data: Buffer, field: int) -> list[bytes]:
    """All length-delimited values of a repeated `field`."""
    return [
        bytes(value) for key, value in walk(data) if key == field and not isinstance(value, int)
    ]


def fields(*values: int) -> bytes:
    """A message of integers: fields 1, 2, ..."""
    return b"".join(
        bytes([number << 3]) + encoded(value) for number, value in enumerate(values, 1)
    )


def encoded(value: int) -> bytes:
    """A variable-length integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
