"""An upstream release of etcd, unpacked without trusting the archive."""

from __future__ import annotations

import gzip
import io
import pathlib
import shutil
import tarfile
import zlib
from typing import IO, cast

from etcd import errors

_PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_REQUIRED = ("etcd", "etcdctl")
_LARGEST_PROGRAM = 512 << 20  # bytes; releases have 15 to 30 MiB
_LARGEST_ARCHIVE = 2 << 30  # bytes, unpacked
_LARGEST_READ = 4 << 20  # bytes at once
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError)


def unpack(tarball: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack etcd's programs, and nothing else, from a release into a folder.

    Only regular files called `etcd`, `etcdctl` or `etcdutl` are read; no path of the archive is
    used, so it cannot write anywhere else.

    Args:
        tarball: a tar archive, packed by gzip or not at all.
        folder: where to; it exists.

    Raises:
        errors.InstallError: it is not a release of etcd.
        OSError: it cannot be read, or a program cannot be written.
    """
    found: set[str] = set()
    try:
        with (
            tarball.open("rb", buffering=0) as file,
            _Bounded(_unpacked(file)) as content,
            tarfile.open(fileobj=cast("IO[bytes]", content), mode="r:") as archive,
        ):
            for entry in archive:
                name = pathlib.PurePosixPath(entry.name).name
                if name not in _PROGRAMS or not entry.isfile() or name in found:
                    continue
                if not 0 < entry.size <= _LARGEST_PROGRAM:
                    raise errors.InstallError(
                        f"the etcd resource holds a {name} of {entry.size} bytes, which is none; "
                        "nothing was changed"
                    )
                program = archive.extractfile(entry)
                if program is not None:
                    _write(program, folder / name)
                    found.add(name)
    except _DAMAGED as error:
        raise errors.InstallError(
            "the etcd resource is not a tar archive packed by gzip, or is damaged; "
            "nothing was changed"
        ) from error
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise errors.InstallError(
            f"the etcd resource is not an etcd release: it has no {' and no '.join(missing)}; "
            "nothing was changed"
        )


class _Bounded(io.BufferedReader):
    """A file that hands out little at once, and not for ever.

    A header that an archive says to be long is read whole, and one of zeros packs well.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            ValueError: too many at once, or in all.
        """
        if size is None or not 0 <= size <= _LARGEST_READ or self.tell() > _LARGEST_ARCHIVE:
            raise ValueError("it holds more than a release")
        return super().read(size)

    def seek(self, target: int, whence: int = 0, /) -> int:
        """Go to an offset.

        Raises:
            ValueError: no release reaches so far.
        """
        if target > _LARGEST_ARCHIVE:
            raise ValueError("it holds more than a release")
        return super().seek(target, whence)


def _unpacked(file: io.FileIO) -> io.RawIOBase:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast("io.RawIOBase", gzip.GzipFile(fileobj=file)) if packed else file


def _write(program: IO[bytes], path: pathlib.Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(program, file, 1 << 20)
    path.chmod(0o755)
