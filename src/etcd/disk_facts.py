"""What a data directory holds, read while no etcd runs on it."""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING

import errors
from cluster import view as views
from machine import files

if TYPE_CHECKING:
    import pathlib

CLOSED = "closed"
"""Lies beside `etcd/` in data that no client may reach yet: the systemd unit looks for it."""
ETCD = "etcd"


def has_data(data_dir: pathlib.Path) -> bool:
    """There is a write-ahead log: etcd knows who it is and ignores `initial-*`."""
    from etcd import wal as wals  # costly, and a hook beside a running etcd reads no log

    return bool(wals.logs(data_dir))


def member_ids(data_dir: pathlib.Path) -> tuple[int, int] | None:
    """(member ID, cluster ID) that the data was written by, None without readable data."""
    from etcd import wal as wals

    try:
        return wals.member_ids(data_dir)
    except ValueError:
        return None


def is_empty(database: pathlib.Path) -> bool:
    """Whether a database without a log holds nothing; one that cannot be read may hold all."""
    from etcd import bolt

    try:
        if not stat.S_ISREG(database.lstat().st_mode):
            return False
        with bolt.File(database) as file:
            return bolt.revision(file) <= 1
    except (OSError, ValueError):
        return database.lstat().st_size == 0


def disk_facts(data_dir: pathlib.Path) -> views.DiskFacts | None:
    """How far a data directory got: last term and index of its log, revision of its store.

    It only reads. Beside a running etcd the answer may be slightly old. A log that ends in the
    middle of a record is read up to there, as etcd does.

    Args:
        data_dir: etcd's `--data-dir`.

    Returns:
        None when there is no data.

    Raises:
        errors.DataError: the log or the database cannot be read.
    """
    from etcd import bolt
    from etcd import wal as wals

    logs = wals.logs(data_dir)
    database = data_dir / "member" / "snap" / "db"
    if not logs and not database.exists():
        return None
    try:
        term, index = wals.last_entry(data_dir)
    except (ValueError, OSError) as error:
        raise errors.DataError(f"the log of {data_dir} cannot be read: {error}") from error
    revision = 0
    for attempt in range(3):  # a running etcd may change pages under our eyes
        try:
            with bolt.File(database) as file:
                revision = bolt.revision(file)
            break
        except FileNotFoundError:
            break
        except (bolt.FormatError, OSError, struct.error) as error:
            if attempt == 2:
                raise errors.DataError(f"the database {database} cannot be read: {error}") from (
                    error
                )
    return views.DiskFacts(term, index, revision)


def opened(folder: pathlib.Path) -> bool:
    """Take the mark of closed data away, for good."""
    try:
        (folder / CLOSED).unlink()
    except FileNotFoundError:
        return False
    files.fsync(folder)
    return True
