"""A snapshot of data whose etcd does not run."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING

import errors
from etcd import client as clients
from etcd import disk_facts, scratch
from etcd import snapshot as snapshots
from etcd import wal as wals
from machine import files

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Generator


def salvage(
    data_dir: pathlib.Path, workdir: pathlib.Path, timeout: float = 600.0
) -> snapshots.SnapshotInfo:
    """Make a snapshot of a stopped member's data, its log included; the original is only read.

    A copy is started as a cluster of one on loopback, over TLS with certificates that live as
    long as it, and asked for a snapshot. Nothing that the survivor acknowledged, or knew from
    the leader, is left out (`wal.commit_tail`).

    Args:
        data_dir: a survivor's `--data-dir`; no etcd runs on it.
        workdir: where to work; the snapshot is `salvage.db` in it. Needs room for two copies.
        timeout: seconds for the copy to come up.

    Raises:
        errors.EtcdError: the data cannot be started from.
    """
    if not disk_facts.has_data(data_dir):
        raise errors.DataError(f"there is no etcd data in {data_dir} to recover from")
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = workdir / "scratch"
    if folder.exists():
        shutil.rmtree(folder)
    size = sum(p.stat().st_size for p in data_dir.rglob("*") if p.is_file())
    snapshots.refuse_full(workdir, 2 * size)
    target = workdir / "salvage.db"
    try:
        folder.mkdir(mode=0o700)
        files.copy_tree(data_dir, folder / "data")
        try:
            wals.commit_tail(folder / "data")
        except ValueError as error:
            raise errors.DataError(f"{data_dir} cannot be recovered from: {error}") from error
        with _alone(folder, timeout) as online:
            online.snapshot(target, timeout=max(timeout, size / snapshots.SLOW_DISK))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return snapshots.verify(target)


@contextlib.contextmanager
def _alone(folder: pathlib.Path, timeout: float) -> Generator[clients.Client]:
    """A running etcd on `folder/data`, forced to be a cluster of one, and a client of it."""
    until = time.monotonic() + timeout

    def in_time() -> None:
        if time.monotonic() > until:
            raise errors.DataError(f"the copied data did not come up within {timeout:.0f} s")

    member = scratch.start(scratch.config("salvage", folder), force_new_cluster=True)
    try:
        with member.client() as online:
            member.await_healthy(online, in_time)
            yield online
    except scratch.ScratchError as error:
        raise errors.DataError(f"the data cannot be recovered from: {error}") from error
    finally:
        member.stop()
