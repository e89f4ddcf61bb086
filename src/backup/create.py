"""Taking a backup: to the local disk first, so that a slow remote holds none of etcd's pages."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import errors
from backup import catalog as catalogs
from backup import compression, worker
from backup import manifest as manifests
from etcd import bolt, responses
from etcd import snapshot as snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cluster import view as views
    from etcd import client as clients

LOCK = pathlib.Path("/run/etcd-charm/member.lock")
"""In a directory of root's: nobody else can hold it, or lead it elsewhere."""
_MARGIN = 64 << 20  # bytes to leave free on the disk
_TRIES = 5  # for a follower that lags behind the leader
_EVERY = 5.0  # seconds between two words on progress
_PREFIX = "etcd-backup-"


@dataclasses.dataclass(frozen=True)
class About:
    """Who takes a backup, and of what.

    Attributes:
        unit: Juju unit, `etcd/0`.
        generation: number of the committed generation.
        token: its token.
        high: highest revision that its record knows of.
    """

    unit: str
    generation: int
    token: str
    high: int = 0


@contextlib.contextmanager
def member_alone(path: pathlib.Path = LOCK, wait: float = 0.0) -> Generator[bool]:
    """Snapshot or defragment this unit's member, never both at once: etcd freezes on that.

    Yields whether the lock was had.

    Args:
        path: the lock's file, one for each unit.
        wait: seconds to wait for it.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        until = time.monotonic() + wait
        while not (had := _locked(descriptor)) and time.monotonic() < until:
            time.sleep(0.2)
        yield had
    finally:
        os.close(descriptor)


def alone_on(
    name: str, path: pathlib.Path = LOCK
) -> Callable[[views.Member], contextlib.AbstractContextManager[bool]]:
    """`member_alone` for the member of this unit; others are not locked from here.

    Args:
        name: the name of this unit's member.
        path: the lock's file.
    """

    def alone(member: views.Member) -> contextlib.AbstractContextManager[bool]:
        return member_alone(path) if member.name == name else contextlib.nullcontext(True)

    return alone


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def create_backup(
    client: clients.Client,
    cluster: worker.Cluster,
    catalog: catalogs.Catalog,
    workdir: pathlib.Path,
    about: About,
    pace: float = 0.0,
    say: Callable[[str], None] | None = None,
    lock: pathlib.Path = LOCK,
    patience: float = 600.0,
) -> manifests.Manifest:
    """Take a snapshot of one member and store it, packed where that pays.

    Args:
        client: of the cluster.
        cluster: how the process that takes the snapshot reaches it.
        catalog: where it goes.
        workdir: on a disk with room for the snapshot, and for it packed; left as it was.
        about: what the manifest tells.
        pace: as for `worker.snapshot`.
        say: told in words how far it is, every few seconds.
        lock: keeps it apart from a defragmentation of the same member.
        patience: seconds to wait for the end of one.

    Raises:
        errors.EtcdError: no snapshot could be had.
        rclone_errors.RemoteError: it could not be stored; nothing is listed that was not before.
    """
    taken_at = time.time()
    with scratch(workdir) as folder:
        status = client.status(cluster.local if pace else None)
        members = client.members().members
        _refuse_full(folder, status.db_size)
        with member_alone(lock, wait=patience) as alone:
            if not alone:
                raise errors.UnreachableError(
                    "this member is being defragmented: no backup until that is done"
                )
            told = _Told(say, "taken from etcd").plain
            path = folder / "snapshot.db"
            snapshot, facts = _snapshot(client, lambda: worker.snapshot(cluster, path, told, pace))
        stored, method = snapshot.path, compression.choose(snapshot.path)
        found = compression.Digest(snapshot.size, snapshot.sha256)
        if method:
            stored = folder / "packed"
            found = compression.pack(snapshot.path, stored, method)
            snapshot.path.unlink()
        name = manifests.new_id(taken_at, about.generation, facts.revision)
        manifest = manifests.Manifest(
            id=name,
            file=name + manifests.SUFFIXES[method],
            cluster_id=status.cluster_id,
            generation=about.generation,
            token=about.token,
            revision=facts.revision,
            raft_index=status.raft_applied,
            etcd_version=status.version,
            storage_version=facts.storage_version,
            size=snapshot.size,
            sha256=snapshot.sha256,
            stored_size=found.size,
            stored_sha256=found.sha256,
            compression=method,
            keys=0,
            members=tuple(member.name for member in members),
            taken_by=about.unit,
            taken_at=taken_at,
            duration=0.0,
            carries=facts.carries,
            high=max(about.high, facts.revision),
        )
        uploaded = _Told(say, f"uploaded to {catalog.remote.words}").of
        return catalog.publish(manifest, stored, uploaded)


@contextlib.contextmanager
def scratch(workdir: pathlib.Path) -> Generator[pathlib.Path]:
    """A directory below `workdir` to work in; those that died with their process are swept first.

    Args:
        workdir: made where it is not.
    """
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stale in workdir.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _held(stale) as alone:
            if alone:
                shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=workdir) as name:
        folder = pathlib.Path(name)
        with _held(folder):
            yield folder


@contextlib.contextmanager
def _held(folder: pathlib.Path) -> Generator[bool]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


@dataclasses.dataclass(frozen=True)
class _Facts:
    revision: int
    storage_version: str
    carries: str


class _Told:
    """Progress in words, not more often than every few seconds."""

    def __init__(self, say: Callable[[str], None] | None, what: str) -> None:
        self._say = say
        self._what = what
        self._last = time.monotonic()
        self._done = False

    def of(self, done: int, total: int) -> None:
        """So many bytes of so many."""
        finished = 0 < total <= done
        late = time.monotonic() - self._last >= _EVERY
        if self._say and not self._done and (late or finished):
            self._last, self._done = time.monotonic(), finished
            of = f" of {total / 2**20:.1f}" if total else ""
            self._say(f"{done / 2**20:.1f}{of} MiB {self._what}")

    def plain(self, done: int) -> None:
        """So many bytes."""
        self.of(done, 0)


def _snapshot(
    client: clients.Client, take: Callable[[], responses.Download]
) -> tuple[responses.Download, _Facts]:
    """A snapshot that holds at least all that was committed when it was asked for."""
    floor = client.revision()
    for _ in range(_TRIES):
        download = take()
        facts = _read(download.path)
        if facts.revision >= floor:
            return download, facts
        time.sleep(1.0)
    raise errors.UnreachableError(
        f"the member asked for a backup stays behind the cluster's revision {floor}"
    )


def _read(path: pathlib.Path) -> _Facts:
    try:
        with bolt.File(path) as file:
            version = file.get(file.bucket(b"meta"), b"storageVersion") or b""
            storage = version.decode(errors="replace")
            return _Facts(bolt.revision(file), storage, snapshots.carries(file))
    except (OSError, ValueError) as error:
        raise errors.BadHashError(f"the snapshot taken cannot be read: {error}") from error


def _refuse_full(folder: pathlib.Path, size: int) -> None:
    needed = 2 * size + _MARGIN
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise errors.TargetError(
            f"{folder.parent} has {free >> 20} MiB free, but a backup needs {needed >> 20} MiB to "
            "be made in: make room"
        )
