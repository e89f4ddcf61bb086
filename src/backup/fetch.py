"""Bringing a snapshot to this unit's disk, from wherever it is, proven to be the one meant."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import TYPE_CHECKING

from backup import catalog as catalogs
from backup import compression, peer_transfer, rclone, rclone_errors
from backup import manifest as manifests
from cluster import generation as generations

if TYPE_CHECKING:
    from collections.abc import Callable

_MARGIN = 64 << 20  # bytes to leave free on the disk
_FILE = "snapshot.db"


@dataclasses.dataclass(frozen=True)
class File:
    """A file on this unit, such as an action's `path` or the resource; others may change it.

    Attributes:
        path: where it is.
        sha256: what it must have, "" when that is not known.
        size: bytes it must have, 0 when that is not known.
    """

    path: str
    sha256: str = ""
    size: int = 0


@dataclasses.dataclass(frozen=True)
class Shared:
    """A file that another unit serves (`peer_transfer.Share`).

    Attributes:
        url: where.
        sha256: what it has.
        size: bytes it has.
    """

    url: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Stored:
    """A backup on the remote.

    Attributes:
        folder: the cluster's folder, this or another one's (`catalog.folder`).
        id: the backup's id.
        sha256: of the unpacked snapshot.
        size: its bytes.
    """

    folder: str
    id: str
    sha256: str
    size: int


Source = File | Shared | Stored
TLS = tuple[pathlib.Path, pathlib.Path, pathlib.Path]
"""Files of certificate, key and authority."""


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A snapshot on this disk, with the content that was meant.

    Attributes:
        path: where it is.
        size: bytes.
        sha256: of all of it.
        manifest: what its backup says of it, None when it is none.
    """

    path: pathlib.Path
    size: int
    sha256: str
    manifest: manifests.Manifest | None = None


def to_detail(source: Source) -> generations.Detail:
    """A source as the generation record carries it; credentials are no part of it."""
    kind = {File: "file", Shared: "share", Stored: "remote"}[type(source)]
    return generations.Detail(source=kind, **dataclasses.asdict(source))


def from_detail(detail: generations.Detail) -> Source:
    """Read what `to_detail` made; the rest is let be.

    Raises:
        ValueError: it does not say where the snapshot is, in one sentence.
    """
    if detail.source == "file" and detail.path:
        return File(detail.path, detail.sha256, detail.size)
    if detail.source == "share" and detail.url:
        return Shared(detail.url, detail.sha256, detail.size)
    if detail.source == "remote" and detail.folder and detail.id:
        return Stored(detail.folder, detail.id, detail.sha256, detail.size)
    raise ValueError(f"the record does not say where the snapshot is, but {detail.source!r}")


def fetch(
    source: Source,
    directory: pathlib.Path,
    remote: rclone.Remote | None = None,
    tls: TLS | None = None,
    progress: rclone.Progress | None = None,
) -> Fetched:
    """Bring a snapshot here and prove that it is the one meant; it is not flushed to the disk.

    A download that was cut goes on where it was when called again with the same directory.

    Args:
        source: where it is.
        directory: where to put it; made, and left with nothing but the snapshot.
        remote: the root of the remote, for `Stored`.
        tls: this unit's peer certificate, its key and the peer authority, for `Shared`.
        progress: told how far the download is.

    Raises:
        rclone_errors.RemoteError: in one sentence what is wrong.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if isinstance(source, File):
            return _fetch_file(source, directory)
        if isinstance(source, Shared):
            return _fetch_shared(source, directory, tls, progress)
        return _fetch_stored(source, directory, remote, progress)
    except OSError as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.FULL,
            f"the snapshot cannot be written to {directory}: {error.strerror}",
        ) from error


def _fetch_file(source: File, directory: pathlib.Path) -> Fetched:
    """What is checked is the copy: the file may be another one a moment later."""
    path, target = pathlib.Path(source.path), directory / _FILE
    target.unlink(missing_ok=True)
    try:
        size = path.stat().st_size
        _refuse_full(directory, size)
        found = compression.copy(path, target, source.size or size)
    except FileNotFoundError as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.NOT_FOUND, f"there is no file {path}"
        ) from error
    except OSError as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.OTHER, f"{path} cannot be read: {error.strerror}"
        ) from error
    _compare(str(path), found, source.sha256, source.size)
    return Fetched(target, found.size, found.sha256)


def _fetch_shared(
    source: Shared, directory: pathlib.Path, tls: TLS | None, progress: rclone.Progress | None
) -> Fetched:
    if tls is None:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CONFIG, "there is no certificate to fetch it with"
        )
    cert, key, ca = tls
    target = directory / _FILE
    _refuse_full(directory, source.size - _present(target))

    def download() -> None:
        peer_transfer.fetch(source.url, target, source.size, cert, key, ca, progress)

    found = _twice(download, target, source.url, source.sha256, source.size)
    return Fetched(target, found.size, found.sha256)


def _fetch_stored(
    source: Stored,
    directory: pathlib.Path,
    remote: rclone.Remote | None,
    progress: rclone.Progress | None,
) -> Fetched:
    if remote is None:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CONFIG,
            f"backup {source.id} is on a remote, but none is configured here",
        )
    backups = catalogs.Catalog(remote, source.folder)
    manifest = backups.manifest(source.id)
    if source.sha256 and manifest.sha256 != source.sha256:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CORRUPT,
            f"backup {source.id} is not the one that was chosen: it changed",
        )
    target = directory / _FILE
    stored = directory / manifest.file if manifest.compression else target
    unpacked = manifest.size if manifest.compression else 0
    _refuse_full(directory, manifest.stored_size + unpacked - _present(stored))

    def download() -> None:
        backups.get(manifest, stored, progress)

    name = f"backup {source.id}"
    found = _twice(download, stored, name, manifest.stored_sha256, manifest.stored_size)
    if manifest.compression:
        try:
            found = compression.unpack(stored, target, manifest.compression, manifest.size)
            _compare(name, found, manifest.sha256, manifest.size)
        except rclone_errors.RemoteError:
            target.unlink(missing_ok=True)
            raise
        finally:
            stored.unlink(missing_ok=True)
    return Fetched(target, found.size, found.sha256, manifest)


def _twice(
    download: Callable[[], None], target: pathlib.Path, name: str, sha256: str, size: int
) -> compression.Digest:
    """Download and compare; once more from nothing when it was continued from another's part."""
    part = target.with_name(target.name + ".part")
    continued = part.exists()
    try:
        download()
        found = compression.digest(target)
        _compare(name, found, sha256, size)
    except rclone_errors.RemoteError as error:
        if error.kind is not rclone_errors.Kind.CORRUPT:
            raise
        target.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        if not continued:
            raise
    else:
        return found
    return _twice(download, target, name, sha256, size)


def _compare(name: str, found: compression.Digest, sha256: str, size: int) -> None:
    if size and found.size != size:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CORRUPT,
            f"{name} has {found.size} bytes, not the {size} that it should",
        )
    if sha256 and found.sha256 != sha256:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CORRUPT, f"{name} is damaged: its sha256 is not the one recorded"
        )


def _present(target: pathlib.Path) -> int:
    part = target.with_name(target.name + ".part")
    return part.stat().st_size if part.exists() else 0


def _refuse_full(directory: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed + _MARGIN:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.FULL,
            f"{directory} has {free >> 20} MiB free, but the snapshot needs "
            f"{(needed + _MARGIN) >> 20} MiB: make room and try again",
        )
