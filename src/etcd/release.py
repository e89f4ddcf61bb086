"""An upstream release of etcd, unpacked without trusting the archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import pathlib
import re
import subprocess
import tarfile
import zlib
from typing import IO, cast

import errors
from machine import processes

_PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_REQUIRED = ("etcd", "etcdctl")
_ETCDUTL_SINCE = (3, 6)  # etcdctl restores and reads snapshots no more
_SUMS = "SHA256SUMS"
_LARGEST_SUMS = 64 << 10  # bytes
_ANSWER = 30.0  # seconds that a program may take to tell its version
_VERSION = {"etcd": "--version", "etcdctl": "version", "etcdutl": "version"}
_ARCHITECTURES = {
    3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64",
}  # fmt: skip
"""By the machine of an ELF header (elf.h), as releases call them."""
_LARGEST_PROGRAM = 512 << 20  # bytes; releases have 15 to 30 MiB
_LARGEST_ARCHIVE = 2 << 30  # bytes, unpacked
_LARGEST_READ = 4 << 20  # bytes at once
_BLOCK = 1 << 20  # bytes
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError)


def unpack(tarball: pathlib.Path, folder: pathlib.Path) -> None:
    """Unpack etcd's programs, and nothing else, from a release into a folder.

    Only regular files called `etcd`, `etcdctl` or `etcdutl` are read; no path of the archive is
    used, so it cannot write anywhere else. It is read to its end: gzip's checksum stands there.
    Where it holds a file `SHA256SUMS`, as `sha256sum` writes it, each program has to be in it.

    Args:
        tarball: a tar archive, packed by gzip, or one that holds `SHA256SUMS`.
        folder: where to; it exists.

    Raises:
        errors.InstallError: it is not a release of etcd, or not as it was made.
        OSError: it cannot be read, or a program cannot be written.
    """
    found: dict[str, str] = {}
    sums: dict[str, str] | None = None
    try:
        with tarball.open("rb", buffering=0) as file:
            packed = _is_packed(file)
            raw = cast("io.RawIOBase", gzip.GzipFile(fileobj=file)) if packed else file
            with (
                _Bounded(raw) as content,
                tarfile.open(fileobj=cast("IO[bytes]", content), mode="r:") as archive,
            ):
                for entry in archive:
                    name = pathlib.PurePosixPath(entry.name).name
                    reader = archive.extractfile(entry) if entry.isfile() else None
                    if reader is None:
                        continue
                    if name == _SUMS and sums is None:
                        sums = _read_sums(reader, entry.size)
                    elif name in _PROGRAMS and name not in found:
                        found[name] = _write(reader, entry.size, folder / name)
                while content.read(_BLOCK):
                    pass
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
    if sums is None and not packed:
        raise errors.InstallError(
            "the etcd resource is neither packed by gzip nor holds a file SHA256SUMS, so that "
            "damage could not be seen; nothing was changed"
        )
    _compare(found, sums)


def check(folder: pathlib.Path) -> tuple[int, int, int]:
    """Whether the programs in a folder are of one etcd, for this machine; answers its version.

    Raises:
        errors.InstallError: they are not.
    """
    paths = {name: folder / name for name in _PROGRAMS if (folder / name).exists()}
    _check_architectures({name: _machine(path) for name, path in paths.items()})
    versions = {name: _version(path) for name, path in paths.items()}
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{name} {_dotted(version)}" for name, version in versions.items())
        raise errors.InstallError(
            f"the programs of the etcd resource are of several versions ({told}); "
            "nothing was changed"
        )
    version = versions["etcd"]
    if version[:2] >= _ETCDUTL_SINCE and "etcdutl" not in paths:
        raise errors.InstallError(
            f"the etcd resource has no etcdutl, which etcd {_dotted(version)} needs to restore; "
            "nothing was changed"
        )
    return version


def _check_architectures(machines: dict[str, int]) -> None:
    here = _machine(pathlib.Path("/proc/self/exe"))
    if set(machines.values()) == {here}:
        return
    told = ", ".join(
        f"{name} is for {_ARCHITECTURES.get(machine, 'no known machine')}"
        for name, machine in machines.items()
    )
    raise errors.InstallError(
        f"the etcd resource does not run on this machine ({_ARCHITECTURES.get(here, here)}): "
        f"{told}; nothing was changed"
    )


def _machine(path: pathlib.Path) -> int:
    """The machine that a program is for, by its ELF header; 0 for what is no program."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[5] not in (1, 2):
        return 0
    return int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")


def _version(path: pathlib.Path) -> tuple[int, int, int]:
    try:
        done = processes.run([str(path), _VERSION[path.name]], _ANSWER)
        told = done.stdout if done.returncode == 0 else ""
    except (OSError, subprocess.SubprocessError):
        told = ""
    number = r"(\d{1,9})"
    match = re.search(
        rf"^{path.name} version: {number}\.{number}\.{number}", told, re.I | re.MULTILINE
    )
    if match is None:
        raise errors.InstallError(
            f"the {path.name} of the etcd resource does not run on this machine, or does not say "
            "its version; nothing was changed"
        )
    return int(match[1]), int(match[2]), int(match[3])


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _read_sums(reader: IO[bytes], size: int) -> dict[str, str]:
    """Names, without their folders, and sha256 of a file that `sha256sum` wrote."""
    if size > _LARGEST_SUMS:
        raise ValueError("it is no file of checksums")
    lines = (line.split(maxsplit=1) for line in reader.read(size).decode().splitlines())
    pairs = [(words[1], words[0].lower()) for words in lines if len(words) == 2]
    return {pathlib.PurePosixPath(name.lstrip("*")).name: digest for name, digest in pairs}


def _compare(found: dict[str, str], sums: dict[str, str] | None) -> None:
    wrong = [
        name for name, digest in found.items() if sums is not None and sums.get(name) != digest
    ]
    if wrong:
        raise errors.InstallError(
            f"the {' and the '.join(wrong)} of the etcd resource cannot be believed: its "
            "SHA256SUMS names another checksum, or none; nothing was changed"
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


def _is_packed(file: io.FileIO) -> bool:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return packed


def _write(program: IO[bytes], size: int, path: pathlib.Path) -> str:
    """Write a program of an archive; answers its sha256."""
    if not 0 < size <= _LARGEST_PROGRAM:
        raise errors.InstallError(
            f"the etcd resource holds a {path.name} of {size} bytes, which is none; "
            "nothing was changed"
        )
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while block := program.read(_BLOCK):
            digest.update(block)
            file.write(block)
    path.chmod(0o755)
    return digest.hexdigest()
