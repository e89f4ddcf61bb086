"""A snapshot as a member streams it, hashed on the way."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import errors
from etcd import error_map, grpc_calls, protowire

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable


SNAPSHOT_HASH = 32  # bytes of sha256 behind the pages
SNAPSHOT_BLOCK = 512  # the pages are a multiple of it


def download(
    connection: Any,
    source: str,
    part: pathlib.Path,
    timeout: float,
    progress: Callable[[int], None] | None,
) -> tuple[int, str]:
    """Stream a member's database into `part`; its size in bytes, and its sha256 in hexadecimal.

    Args:
        connection: to the member, etcd3's.
        source: its client URL, for errors.
        part: the file to write.
        timeout: seconds for the whole stream.
        progress: called with the bytes written so far.

    Raises:
        errors.TruncatedError: the stream ended early.
        errors.BadHashError: its content does not match its hash.
        OSError: the file cannot be written.
    """
    rpc = grpc_calls.messages()
    pages, tail, size = hashlib.sha256(), b"", 0
    stream = connection.channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=rpc.SnapshotRequest.SerializeToString,
        response_deserializer=grpc_calls.same,
    )
    with part.open("wb") as file, error_map.translated(source, timeout):
        os.chmod(file.fileno(), 0o600)
        responses = stream(rpc.SnapshotRequest(), timeout=timeout)
        try:
            for response in responses:
                for field, value in protowire.walk(memoryview(response)):
                    if field == 3 and not isinstance(value, int):
                        file.write(value)
                        size += len(value)
                        tail = _digest(pages, tail, value)
                if progress:
                    progress(size)
        finally:
            responses.cancel()
    if size % SNAPSHOT_BLOCK != SNAPSHOT_HASH:
        raise errors.TruncatedError(f"the snapshot stream of {source} ended too early")
    if pages.digest() != tail:
        raise errors.BadHashError(f"the snapshot stream of {source} does not match its hash")
    pages.update(tail)
    return size, pages.hexdigest()


def _digest(pages: Any, tail: bytes, blob: protowire.Buffer) -> bytes:
    """Add all of `tail + blob` but its last 32 bytes to a hash; answers those 32."""
    if len(blob) < SNAPSHOT_HASH:
        whole = tail + bytes(blob)
        pages.update(whole[:-SNAPSHOT_HASH])
        return whole[-SNAPSHOT_HASH:]
    pages.update(tail)
    pages.update(blob[:-SNAPSHOT_HASH])
    return bytes(blob[-SNAPSHOT_HASH:])
