"""Proving a backup: it is restored into an etcd of its own, opened, and compared."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import errors
from etcd import client as clients
from etcd import responses, scratch
from etcd import snapshot as snapshots
from machine import files, processes

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Generator

    from backup import manifest as manifests

_PLACE = "etcd"  # in the directory of a proof, where the other user works
_REMOVAL = 300.0  # seconds
_LOOK = 1.0  # seconds between two looks at its memory
_ANSWER = 5.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a proof may take of the machine.

    Attributes:
        memory: bytes that the scratch etcd may allocate; the file's pages are not counted, the
            kernel takes those back at will.
        seconds: for all of it.
    """

    memory: int = 1 << 30
    seconds: float = 1800.0


@dataclasses.dataclass(frozen=True)
class Proof:
    """What the restored backup was found to hold.

    Attributes:
        revision: its store's revision.
        keys: how many there are at that revision.
        hash: HashKV at that revision.
        compacted: the compaction that the hash was made under.
        matched: the hash is the cluster's at that revision; None when there was none to compare
            with (the cluster compacted it, is another one, or did not answer).
        seconds: how long it took.
        memory: most bytes that the scratch etcd had allocated.
    """

    revision: int
    keys: int
    hash: int
    compacted: int
    matched: bool | None
    seconds: float
    memory: int


class ProofError(errors.EtcdError):
    """A backup is not what it should be; the text says why."""


class HinderedError(errors.EtcdError):
    """No proof could be made, for want of disk, memory or time: the backup may be good."""


def prove(
    path: pathlib.Path,
    directory: pathlib.Path,
    manifest: manifests.Manifest | None = None,
    cluster: Callable[[int], responses.HashKV | None] | None = None,
    limits: Limits | None = None,
) -> Proof:
    """Restore a snapshot into a scratch etcd on loopback, open it and compare what it holds.

    Args:
        path: the snapshot, unpacked.
        directory: where to work, made and removed; on a disk with room for the snapshot twice.
        manifest: what it should hold, None when that is not known.
        cluster: asks the cluster for its hash at a revision, None for no comparison.
        limits: memory and time.

    Raises:
        ProofError: it cannot be restored, or holds something else, in one sentence.
        HinderedError: disk, memory or time did not suffice to find that out.
        errors.EtcdError: it is no snapshot, or a newer etcd's.
    """
    limits = limits or Limits()
    began = time.monotonic()
    clear(directory)
    directory.mkdir(mode=0o700, parents=True)
    try:
        with _restored(path, directory, limits, began) as (online, endpoint, watch):
            revision = online.revision()
            if manifest is not None and revision != manifest.revision:
                raise ProofError(
                    f"{path.name} restores to revision {revision}, not to {manifest.revision} as "
                    "its manifest says"
                )
            left = max(1.0, limits.seconds - (time.monotonic() - began))
            found = online.hash_kv(endpoint, revision, timeout=left)
            keys = online.count()
            theirs = cluster(revision) if cluster else None
            matched = None
            if theirs is not None and theirs.compact_revision == found.compact_revision:
                matched = theirs.hash == found.hash
            if matched is False:
                raise ProofError(
                    f"{path.name} hashes to {found.hash:08x} at revision {revision}, the cluster "
                    f"to {theirs.hash if theirs else 0:08x}: it is not a true copy"
                )
            memory = watch.check(now=True)  # a small one may be over before the second look
        return Proof(
            revision,
            keys,
            found.hash,
            found.compact_revision,
            matched,
            time.monotonic() - began,
            memory,
        )
    finally:
        clear(directory)


def clear(directory: pathlib.Path) -> None:
    """Remove where a proof worked: what the other user made there only that one can remove."""
    place = directory / _PLACE
    with contextlib.suppress(OSError, subprocess.SubprocessError), files.folder(place) as made:
        command = ["rm", "-rf", "--", f"/proc/self/fd/{made}/data"]
        processes.run(command, _REMOVAL, descriptors=(made,), outside=True)
    shutil.rmtree(directory, ignore_errors=True)


class _Watch:
    """A process's memory and time, looked at whenever there is a moment."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, began: float) -> None:
        self._process = process
        self._limits = limits
        self._began = began
        self._most = 0
        self._looked = 0.0

    def check(self, *, now: bool = False) -> int:
        """Most bytes allocated so far, looked at once a second.

        Args:
            now: look, however short a time ago it was.

        Raises:
            HinderedError: a limit was passed.
        """
        if now or time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            self._most = max(self._most, _allocated(self._process.pid))
        if self._most > self._limits.memory:
            raise HinderedError(
                f"proving the backup took more than {self._limits.memory >> 20} MiB of memory: "
                "given up; it may be good"
            )
        if time.monotonic() - self._began > self._limits.seconds:
            raise HinderedError(
                f"proving the backup took more than {self._limits.seconds:.0f} s: given up; "
                "it may be good"
            )
        return self._most


@contextlib.contextmanager
def _restored(
    path: pathlib.Path, directory: pathlib.Path, limits: Limits, began: float
) -> Generator[tuple[clients.Client, str, _Watch]]:
    """A running one-member etcd restored from a snapshot, and a client of it."""
    place = directory / _PLACE
    place.mkdir()
    config = scratch.config("proof", place, token=secrets.token_hex(16))
    peer_url = config.advertise_peer_urls[0]
    with files.folder(place) as folder:
        os.fchmod(folder, 0o777)  # for the user who works in it; nobody else gets there
        try:
            snapshots.restore_outside(path, folder, "proof", config.token, peer_url)
        except errors.TargetError as error:
            raise HinderedError(f"the backup could not be proven: {error}") from error
        except errors.ToolError as error:
            lacks = not error.output or scratch.lacks(error.output)
            raise (HinderedError if lacks else ProofError)(str(error)) from error
        member = scratch.start(config, memory=limits.memory, folder=folder)
        try:
            watch = _Watch(member.process, limits, began)
            with member.client() as online:
                member.await_healthy(online, watch.check)
                yield online, member.endpoint, watch
        except scratch.ScratchError as error:
            kind = HinderedError if error.machine else ProofError
            raise kind(f"the restored backup does not start: {error}") from error
        except errors.UnreachableError as error:
            raise HinderedError(f"the restored backup does not answer: {error}") from error
        finally:
            member.stop(signal.SIGKILL)


def _allocated(pid: int) -> int:
    """Bytes that a process of the other user has allocated, 0 where nobody can tell.

    Only that user sees it where the service hides other users' processes.
    """
    command = ["grep", "RssAnon:", f"/proc/{pid}/status"]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, IndexError):
        return int(processes.run(command, _ANSWER, outside=True).stdout.split()[1]) * 1024
    return 0
