"""Snapshot files, offline: proving them, restoring them, and making one from a survivor's disk.

A snapshot is etcd's bbolt database followed by the sha256 of it (32 bytes). The work on it is done
by `etcdutl`, or by `etcdctl` where that does not exist yet (3.4).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import errors
from etcd import bolt, service, snapshot_stream
from machine import files, outside, processes

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Generator

_CHUNK = 1024 * 1024
SLOW_DISK = 20e6  # bytes per second that a timeout allows for
_ETCD_BUCKETS = (b"key", b"meta")
_TORN = (
    "{path} has no hash at its end and is no whole database of etcd: it is damaged, or was copied "
    "while etcd wrote to it; nothing was changed; restore a snapshot (`juju run etcd/leader "
    "snapshot` takes one), or a copy that is made while etcd is stopped"
)


@dataclasses.dataclass(frozen=True)
class SnapshotInfo:
    """A file that was proven to be a snapshot.

    Attributes:
        path: the file.
        size: bytes.
        sha256: of the whole file.
        revision: of the store in it.
        total_keys: as `snapshot status` counts: rows of all buckets, old revisions included.
        hash: the tool's checksum over its buckets, hexadecimal.
        version: etcd's cluster version in it, `3.5`, "" when it has none.
        storage_version: of the file's schema, from etcd 3.6 on.
        hashed: it ends with its own sha256, which matched.
        alarms: it carries armed alarms.
        auth_enabled: it carries authentication that is on, with its passwords.
    """

    path: pathlib.Path
    size: int
    sha256: str
    revision: int
    total_keys: int
    hash: str
    version: str
    storage_version: str
    hashed: bool
    alarms: bool
    auth_enabled: bool

    @property
    def carries(self) -> str:
        """What it brings along besides keys, see `carries`."""
        return _carried(self.auth_enabled, self.alarms)


def carries(file: bolt.File) -> str:
    """What an open snapshot brings along besides keys: `authentication`, `alarms`, both or ""."""
    facts = _facts(file)
    return _carried(facts.auth_enabled, facts.alarms) if facts else ""


def _carried(auth_enabled: bool, alarms: bool) -> str:
    words = {"authentication": auth_enabled, "alarms": alarms}
    return ",".join(word for word, there in words.items() if there)


def verify(
    path: pathlib.Path,
    binary_version: tuple[int, int, int] | None = None,
    allow_missing_hash: bool = False,
    sha256: str = "",
) -> SnapshotInfo:
    """Prove that a file is a whole snapshot that this etcd can restore. It is only read.

    Args:
        path: the file.
        binary_version: of the etcd to restore it with, by default the installed one.
        allow_missing_hash: accept a copy of a data directory's `member/snap/db`.
        sha256: of the whole file, by whoever has just written it and matched the hash at its end
            (`client.Client.snapshot`): it is not read for that again.

    Raises:
        errors.SnapshotError: one of its kinds, with the sentence for the operator.
    """
    details = _stat(path)
    binary_version = binary_version or service.version()
    with _opened(path) as file:
        pages = file.meta.size
        if details.st_size < pages:
            raise errors.TruncatedError(
                f"{path} is truncated: it has {details.st_size} bytes of at least {pages}"
            )
        hashed = details.st_size % snapshot_stream.SNAPSHOT_BLOCK == snapshot_stream.SNAPSHOT_HASH
        if not hashed and details.st_size % snapshot_stream.SNAPSHOT_BLOCK:
            raise errors.TruncatedError(f"{path} is truncated: it ends within its hash")
        sha256 = sha256 or _hash(path, details.st_size, hashed)
        facts = _facts_of(path, file) if hashed else _unproven_facts(path, file)
    _refuse_newer(path, facts, binary_version)
    try:
        status = _status(path)
    except errors.BadHashError as error:
        if hashed:
            raise
        raise errors.BadHashError(_TORN.format(path=path)) from error
    if not hashed and not allow_missing_hash:
        raise errors.BadHashError(
            f"{path} has no hash at its end: it lost it, or is a copy of a member's database; "
            "allow-missing-hash restores it unproven"
        )
    return SnapshotInfo(
        path=path,
        size=details.st_size,
        sha256=sha256,
        revision=facts.revision,
        total_keys=int(status.get("totalKey", 0)),
        hash=f"{int(status.get('hash', 0)):x}",
        version=".".join(facts.version.split(".")[:2]),
        storage_version=facts.storage_version,
        hashed=hashed,
        alarms=facts.alarms,
        auth_enabled=facts.auth_enabled,
    )


def examine(path: pathlib.Path) -> None:
    """Have the tool read every page of a database, with or without a hash at its end.

    Raises:
        errors.BadHashError: it found something wrong.
        errors.ToolError: it could not be run.
    """
    _status(path)


def refuse_newer(path: pathlib.Path) -> None:
    """Refuse a file, known to be whole, that the installed etcd cannot restore.

    Raises:
        errors.SnapshotError: no database of etcd, or of a newer one.
    """
    with _opened(path) as file:
        facts = _facts_of(path, file)
    _refuse_newer(path, facts, service.version())


def restore(
    snapshot: pathlib.Path,
    directory: pathlib.Path,
    name: str,
    initial_cluster: str,
    token: str,
    peer_url: str,
    bump: int = 0,
    skip_hash_check: bool = False,
) -> pathlib.Path:
    """Restore a snapshot into a new data directory, which appears only when complete.

    Args:
        snapshot: the file, verified before.
        directory: etcd's `--data-dir` to be; it does not exist or is empty.
        name: this member's name.
        initial_cluster: all founders, `etcd-0=https://...,etcd-1=https://...`.
        token: the generation's, fresh for each restore.
        peer_url: this member's.
        bump: raise the revision by this and mark older ones compacted; 0 not to.
        skip_hash_check: the file has no hash, or it was checked before.

    Raises:
        errors.TargetError: the directory is in use, or has no room.
        errors.ToolError: the tool failed.
    """
    size = _stat(snapshot).st_size
    if directory.exists() and any(directory.iterdir()):
        raise errors.TargetError(f"{directory} is not empty; it was left as it is")
    part = directory.with_name(directory.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    refuse_full(directory.parent, size)
    command = [
        *_tool(), "snapshot", "restore", str(snapshot.absolute()),
        f"--data-dir={part.absolute()}",
        f"--name={name}",
        f"--initial-cluster={initial_cluster}",
        f"--initial-cluster-token={token}",
        f"--initial-advertise-peer-urls={peer_url}",
    ]  # fmt: skip
    if bump and _can_bump():
        command += [f"--bump-revision={bump}", "--mark-compacted"]
    if skip_hash_check:
        command.append("--skip-hash-check")
    database = part / "member" / "snap" / "db"
    try:
        _run(command, f"{snapshot} cannot be restored", size)
        if bump and not _can_bump():
            bolt.bump(database, bump)
        files.fsync_tree(part)
        if directory.exists():
            directory.rmdir()
        files.rename(part, directory)
    except bolt.FormatError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise errors.BadHashError(f"{snapshot} is damaged: {error}") from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return directory


def restore_outside(
    snapshot: pathlib.Path, folder: int, name: str, token: str, peer_url: str
) -> None:
    """Restore a snapshot that came from outside into `data` in an open directory, to look at it.

    A user without any rights does it, who is given the file and the directory and nothing else;
    what comes of it is that user's.

    Args:
        snapshot: the file.
        folder: the open directory, which anybody who is in it may write to.
        name: the member's name.
        token: as for `restore`.
        peer_url: this member's.

    Raises:
        errors.TargetError: the directory has no room.
        errors.ToolError: the tool failed.
    """
    size = _stat(snapshot).st_size
    refuse_full(files.through(folder), size)
    with snapshot.open("rb") as file:
        os.fchmod(file.fileno(), 0o644)  # its folder is ours alone
        command = [
            *_tool(), "snapshot", "restore", f"/proc/self/fd/{file.fileno()}",
            f"--data-dir=/proc/self/fd/{folder}/data",
            f"--name={name}",
            f"--initial-cluster={name}={peer_url}",
            f"--initial-cluster-token={token}",
            f"--initial-advertise-peer-urls={peer_url}",
        ]  # fmt: skip
        failure = f"{snapshot.name} cannot be restored"
        _run(command, failure, size, descriptors=(folder, file.fileno()), outside=True)


def _can_bump() -> bool:
    """The installed tool can raise revisions on restore (3.4.27, 3.5.10, 3.6)."""
    version = service.version()
    return version >= (3, 5, 10) or (3, 4, 27) <= version < (3, 5, 0)


@dataclasses.dataclass(frozen=True)
class _Facts:
    revision: int
    version: str
    storage_version: str
    alarms: bool
    auth_enabled: bool


def _facts(file: bolt.File) -> _Facts | None:
    if any(file.bucket(name) is None for name in _ETCD_BUCKETS):
        return None
    version = file.get(file.bucket(b"cluster"), b"clusterVersion") or b""
    storage = file.get(file.bucket(b"meta"), b"storageVersion") or b""
    auth = file.get(file.bucket(b"auth"), b"authEnabled") or b""
    return _Facts(
        bolt.revision(file),
        version.decode(errors="replace"),
        storage.decode(errors="replace"),
        file.last(file.bucket(b"alarm")) is not None,
        auth == b"\x01",
    )


def _facts_of(path: pathlib.Path, file: bolt.File) -> _Facts:
    try:
        facts = _facts(file)
    except (bolt.FormatError, ValueError) as error:
        raise errors.BadHashError(f"{path} is damaged: {error}") from error
    if facts is None:
        raise errors.ForeignFileError(f"{path} is a database, but not one of etcd")
    return facts


def _unproven_facts(path: pathlib.Path, file: bolt.File) -> _Facts:
    """Those of a file without a hash, in which nothing says that its pages are of one moment."""
    try:
        return _facts_of(path, file)
    except (errors.BadHashError, errors.ForeignFileError) as error:
        raise errors.BadHashError(_TORN.format(path=path)) from error


def _refuse_newer(path: pathlib.Path, facts: _Facts, installed: tuple[int, int, int]) -> None:
    for version in (facts.version, facts.storage_version):
        try:
            major, minor = (int(part) for part in version.split(".")[:2])
        except ValueError:
            continue
        if (major, minor) > installed[:2]:
            own = ".".join(str(part) for part in installed)
            raise errors.NewerError(
                f"{path} was taken from etcd {major}.{minor}, but etcd {own} is installed: "
                "attach a release of that version as the etcd resource first"
            )


def _stat(path: pathlib.Path) -> os.stat_result:
    try:
        details = path.stat()
        if not path.is_file():
            raise errors.MissingError(f"{path} is not a file")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise errors.MissingError(f"there is no file {path}") from error
    except OSError as error:
        raise errors.MissingError(f"{path} cannot be read: {error.strerror}") from error
    return details


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Generator[bolt.File]:
    try:
        file = bolt.File(path)
    except bolt.FormatError as error:
        if path.stat().st_size == 0:
            raise errors.TruncatedError(f"{path} is empty") from error
        raise errors.ForeignFileError(f"{path} is not an etcd snapshot{_kind(path)}") from error
    with file:
        yield file


def _kind(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, kind in (
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"PK", "zip"),
        (b"BZh", "bzip2"),
    ):
        if start.startswith(magic):
            return f": unpack it first, it is compressed ({kind})"
    return ""


def _hash(path: pathlib.Path, size: int, hashed: bool) -> str:
    """The sha256 of the whole file; the one at its end is compared when it has one."""
    left = size - snapshot_stream.SNAPSHOT_HASH if hashed else size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(_CHUNK, left))):
            digest.update(block)
            left -= len(block)
        tail = file.read(snapshot_stream.SNAPSHOT_HASH) if hashed else b""
    if left > 0:
        raise errors.TruncatedError(f"{path} became shorter while it was read")
    if hashed and digest.digest() != tail:
        raise errors.BadHashError(f"{path} does not match its hash: it is damaged")
    digest.update(tail)
    return digest.hexdigest()


def _status(path: pathlib.Path) -> dict[str, Any]:
    """What the tool says after reading every page."""
    command = [*_tool(), "snapshot", "status", str(path.absolute()), "--write-out=json"]
    try:
        completed = _run(command, f"{path} is damaged", path.stat().st_size)
    except errors.ToolError as error:
        if not error.output:  # it did not run at all
            raise
        raise errors.BadHashError(str(error)) from error
    try:
        return outside.json_object(completed.stdout)
    except outside.OutsideError as error:
        raise errors.ToolError(f"{path} could not be examined", completed.stdout) from error


def refuse_full(folder: pathlib.Path, needed: int) -> None:
    """Refuse what does not fit.

    Raises:
        errors.TargetError: the folder cannot be used, or has less than `needed` bytes free.
    """
    try:
        details = os.statvfs(folder)
    except OSError as error:
        raise errors.TargetError(f"{folder} cannot be used: {error.strerror}") from error
    free = details.f_bavail * details.f_frsize
    if free < needed:
        raise errors.TargetError(
            f"{folder} has {free // 2**20} MiB free, but {needed // 2**20 + 1} MiB are needed"
        )


def _tool() -> list[str]:
    """`etcdutl` from 3.5 on, `etcdctl` before."""
    if service.version() >= (3, 5, 0):
        with contextlib.suppress(errors.ToolError):
            return [str(service.binary("etcdutl"))]
    return [str(service.binary("etcdctl"))]


def _run(
    command: list[str],
    failure: str,
    size: int,
    *,
    descriptors: tuple[int, ...] = (),
    outside: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the tool; the timeout allows for a slow disk."""
    timeout = 120 + size / SLOW_DISK
    try:
        completed = processes.run(
            command,
            timeout,
            environment={"ETCDCTL_API": "3"},
            descriptors=descriptors,
            outside=outside,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.ToolError(f"{failure}: {command[0]} could not be run: {error}") from error
    if completed.returncode:
        output = (completed.stdout + completed.stderr).strip()
        raise errors.ToolError(f"{failure}: {_told(output)}", output)
    return completed


def _told(output: str) -> str:
    """The line of a failed tool's output that tells most: its error or panic, else the last."""
    lines = output.splitlines()
    for line in lines:
        if line.startswith(("Error:", "panic:", "fatal error:")):
            return line[:300]
    return lines[-1][:300] if lines else "no reason given"
