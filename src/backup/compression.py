"""Packing a snapshot for the way, where that pays, in memory that does not grow with it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import subprocess
import zlib
from typing import TYPE_CHECKING

from backup import rclone_errors
from machine import files, processes

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

_CHUNK = 1 << 20
_SAMPLE = 256 * 1024
_SAMPLES = 4
_PAYS = 0.8  # of its size, or less, for packing to be worth a core's time
_SMALL = 64 * 1024  # bytes under which nothing is worth it
_SLOW = 10e6  # bytes per second that a timeout allows for

_PACK = {"zstd": ("-q", "-1", "-T1", "-c"), "gzip": ("-1", "-n", "-c")}
_UNPACK = {"zstd": ("-q", "-d", "-c"), "gzip": ("-d", "-c")}


@dataclasses.dataclass(frozen=True)
class Digest:
    """A file's size in bytes and its sha256."""

    size: int
    sha256: str


def digest(path: pathlib.Path) -> Digest:
    """Read a file through.

    Raises:
        OSError: it cannot be read.
    """
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            hashed.update(block)
            size += len(block)
    return Digest(size, hashed.hexdigest())


def copy(path: pathlib.Path, target: pathlib.Path, most: int) -> Digest:
    """Copy a file that somebody else may change, by one look at it; answers what was copied.

    Args:
        path: what to copy; a pipe or a device is refused.
        target: a new file, readable by nobody else.
        most: bytes after which it is given up.

    Raises:
        OSError: it cannot be read or written, is no file, or has more.
    """
    hashed, size = hashlib.sha256(), 0
    with (
        open(path, "rb", opener=files.regular) as read,
        open(target, "xb", opener=_private) as made,
    ):
        while block := read.read(_CHUNK):
            hashed.update(block)
            size += made.write(block)
            if size > most:
                raise OSError(errno.EFBIG, "it has grown", str(path))
    return Digest(size, hashed.hexdigest())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def choose(path: pathlib.Path) -> str:
    """How to pack a file: `zstd`, `gzip` where that is all there is, "" when it does not pay.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    tool = next((name for name in ("zstd", "gzip") if processes.which(name)), "")
    if size < _SMALL or not tool:
        return ""
    taken = packed = 0
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE) * number // (_SAMPLES - 1))
            sample = file.read(_SAMPLE)
            taken += len(sample)
            packed += len(zlib.compress(sample, 1))
    return tool if packed <= _PAYS * taken else ""


def pack(source: pathlib.Path, target: pathlib.Path, compression: str) -> Digest:
    """Write the packed file.

    Raises:
        rclone_errors.RemoteError: there is no room, or the tool failed.
    """
    hashed, size = hashlib.sha256(), 0

    def write(block: bytes) -> None:
        nonlocal size
        hashed.update(block)
        size += len(block)
        file.write(block)

    with target.open("wb") as file:
        _through(compression, _PACK[compression], source, write)
    return Digest(size, hashed.hexdigest())


def unpack(source: pathlib.Path, target: pathlib.Path, compression: str, limit: int) -> Digest:
    """Write the unpacked file, of at most `limit` bytes.

    Raises:
        rclone_errors.RemoteError: there is no room, it is damaged, or holds more than it should.
    """
    hashed, size = hashlib.sha256(), 0

    def write(block: bytes) -> None:
        nonlocal size
        size += len(block)
        if size > limit:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CORRUPT, f"{source.name} holds more than its {limit} bytes"
            )
        hashed.update(block)
        file.write(block)

    with target.open("wb") as file:
        _through(compression, _UNPACK[compression], source, write)
        file.flush()
    return Digest(size, hashed.hexdigest())


def _through(
    tool: str, options: tuple[str, ...], source: pathlib.Path, write: Callable[[bytes], None]
) -> None:
    """Run a file through a packer."""
    path = processes.which(tool)
    if not path:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.TOOL,
            f"{tool} is not installed on this unit: install it to read backups",
        )
    with source.open("rb") as stdin:
        process = processes.start(
            [str(path), *options], stdin=stdin.fileno(), stdout=processes.PIPE, outside=True
        )
    assert process.stdout is not None  # noqa: S101
    try:
        while block := process.stdout.read(_CHUNK):
            write(block)
        code = process.wait(timeout=60 + source.stat().st_size / _SLOW)
    except OSError as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.FULL, f"there is no room to work beside {source}: {error.strerror}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.TIMEOUT, f"{tool} does not end"
        ) from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if code:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CORRUPT, f"{source.name} is damaged: {tool} refuses it"
        )
