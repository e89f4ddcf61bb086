"""Data on disk: the root with current, prepared and kept data, and what a directory holds.

Layout: `current/` is live, `prepared/<token>/` is built ahead of adoption, and
`kept/<utc>-g<generation>-<token8>/` was set aside. Each holds `etcd/` (etcd's `--data-dir`) and
`stamp.json`, which says which generation it belongs to. Every swap is one rename inside the root,
flushed to disk; a crash leaves either the old or the new name.

All of it is root's but `etcd/`: etcd's user can pass through to `current/etcd` and change nothing
else. What is in an `etcd/` is handled as somebody else's: no link there is followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import pathlib
import stat
from typing import Any

import errors
from cluster import view as views
from etcd import disk_facts, ownership
from etcd import stamp as stamps
from machine import files, outside

_KEPT = "kept.json"
_PART = ".part"
_WORK = ("fetched", "backup", "trial")
"""Folders of the root in which root works: what is in them is made anew."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Data that was set aside: where, what, when (UTC, ISO 8601) and why."""

    path: pathlib.Path
    stamp: stamps.Stamp | None
    at: str
    reason: str


def place(
    machine: pathlib.Path, storage: pathlib.Path | None
) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Where the data is, and the storage that it has yet to move to, None when there is none.

    Args:
        machine: the data root on the machine's own disk.
        storage: attached storage.
    """
    if storage is None or (machine / "current").exists():
        return machine, storage
    return storage, None


class Root:
    """The data root of a unit."""

    def __init__(self, path: pathlib.Path, owner: str | None = "etcd") -> None:
        """Name the root; nothing is touched yet.

        Args:
            path: the root, `/var/lib/etcd` or a mounted storage.
            owner: user that etcd runs as; None keeps the owner (in tests).
        """
        self.path = path
        self.owner = owner
        self.current = path / "current"
        self.etcd_dir = self.current / disk_facts.ETCD
        self._current_part = path / f"current{_PART}"
        self.prepared_dir = path / "prepared"
        self.kept_dir = path / "kept"

    def ensure(self) -> bool:
        """Create the root and its folders; True when something was missing.

        What a crash left unfinished is removed: one thing at a time is made here.
        """
        changed = self.guard()
        for folder in (self.path, self.prepared_dir, self.kept_dir):
            if not folder.is_dir():
                folder.mkdir(mode=ownership.OURS, parents=True)
                files.fsync(folder.parent)
                changed = True
        changed = self.guard() or changed
        for leftover in (self._current_part, *_folders(self.prepared_dir)):
            if leftover.suffix == _PART:
                files.remove(leftover)
        return changed

    def guard(self) -> bool:
        """Take what is not etcd's to change; True when something was.

        Earlier revisions gave all of the root to etcd's user, and so does the distribution's
        package whenever it is configured: what that user may have put there is not believed.

        Raises:
            errors.DataError: the current data is a link, or no directory.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            changed = ownership.seize(descriptor, ownership.PASSED, self.owner)
            for name in (*_WORK, self._current_part.name):
                details = ownership.lstat(name, descriptor)
                if details and not ownership.is_ours(details):
                    changed = files.remove(self.path / name)
            for folder in (self.prepared_dir, self.kept_dir):
                changed = ownership.take_all(folder, descriptor, self.owner) or changed
            details = ownership.lstat(self.current.name, descriptor)
            if details and not stat.S_ISDIR(details.st_mode):
                raise errors.DataError(
                    f"{self.current} is a link, or no directory, and was left alone: find out who "
                    "made it, and remove it"
                )
            return (
                bool(details) and ownership.take(self.current, descriptor, self.owner)
            ) or changed
        finally:
            os.close(descriptor)

    def stamp(self) -> stamps.Stamp | None:
        """Stamp of the current data, None without current data.

        Raises:
            errors.DataError: there is current data without a readable stamp.
        """
        if not self.current.is_dir():
            return None
        return stamps.read_stamp(self.current)

    def fence(self, token: str, fence: stamps.Fence) -> bool:
        """Keep systemd from starting the current data; False when it is not that of `token`.

        What is stamped and what is marked is one directory, wherever it is moved meanwhile.

        Raises:
            OSError: there is no current data, or the disk refuses.
        """
        folder = os.open(self.current, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.fdopen(
                os.open(stamps.STAMP, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            ) as file:
                if stamps.Stamp.from_json(file.read()).token != token:
                    return False
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            marker = os.open(stamps.FENCED, flags, 0o644, dir_fd=folder)
            with contextlib.suppress(OSError):  # on a full disk: that it is there is enough
                os.write(marker, fence.to_json().encode())
                os.fsync(marker)
            os.close(marker)
            os.fsync(folder)
            return True
        finally:
            os.close(folder)

    def fenced(self) -> stamps.Fence | None:
        """What keeps the current data from running, None when nothing does."""
        path = self.current / stamps.FENCED
        try:
            return stamps.Fence.from_json(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            stamp = stamps.read_stamp(self.current)
            return stamps.Fence(stamp.generation + 1, "", "")  # any later one may have been met

    def unfence(self) -> None:
        """Let systemd start the current data: the record, and a later one, says that it may."""
        (self.current / stamps.FENCED).unlink(missing_ok=True)

    def new_current(self, stamp: stamps.Stamp, *, closed: bool = False) -> pathlib.Path:
        """An empty, stamped `current/`; answers etcd's directory in it.

        One that etcd never began to write in is replaced.

        Args:
            stamp: what it is for.
            closed: no client may reach it until `open`.

        Raises:
            errors.DataError: there is current data.
        """
        if self.current.is_dir() and self._untouched():
            files.remove(self.current)
        self._refuse_current()
        part = self._fresh(self._current_part, stamp, closed)
        files.rename(part, self.current)
        return self.etcd_dir

    def is_closed(self) -> bool:
        """Whether no client may reach the current data yet."""
        return (self.current / disk_facts.CLOSED).exists()

    def open(self) -> bool:
        """Let clients reach the current data from etcd's next start on; answers what changed."""
        return disk_facts.opened(self.current)

    def copy_to(self, other: Root) -> None:
        """Copy the current data to another root, complete or not at all.

        What is current there is kept aside first.

        Raises:
            errors.TargetError: there is no room.
        """
        other.ensure()
        if not self.current.is_dir():
            return
        free, needed = other.free_bytes(), self.used_bytes()
        if free < needed:
            raise errors.TargetError(
                f"{other.path} has {free // 2**20} MiB free, but the data needs "
                f"{needed // 2**20 + 1} MiB: it stays in {self.path}; attach a larger storage"
            )
        other.set_aside("this unit's own data moved here")
        part = other._current_part
        files.copy_tree(self.current, part)
        ownership.give(part, other.owner)
        files.rename(part, other.current)

    def forget(self) -> None:
        """Delete the current data: there is a copy of it in another root."""
        with contextlib.suppress(OSError):
            files.remove(self.current)

    def prepared(self) -> tuple[str, ...]:
        """Tokens of complete prepared data."""
        return tuple(sorted(p.name for p in _folders(self.prepared_dir) if p.suffix != _PART))

    def preparing(self, stamp: stamps.Stamp) -> pathlib.Path:
        """A fresh, stamped working folder for `stamp.token`, closed until `open`.

        Etcd's directory, `etcd/` in it, does not exist yet, as restoring wants it.
        `prepare_done` completes the folder, `discard` gives it up.
        """
        part = self._fresh(self._part(stamp.token), stamp, closed=True)
        (part / disk_facts.ETCD).rmdir()
        return part

    def prepare_done(self, token: str) -> None:
        """Complete prepared data: owner, flush, and its final name in one rename."""
        part, final = self._part(token), self.prepared_dir / token
        files.remove(final)
        ownership.give(part, self.owner)
        files.rename(part, final)

    def discard(self, token: str) -> bool:
        """Remove prepared data, complete or not; True when there was some."""
        self.guard()
        found = [files.remove(path) for path in (self.prepared_dir / token, self._part(token))]
        if any(found):
            files.fsync(self.prepared_dir)
        return any(found)

    def set_aside(self, reason: str) -> pathlib.Path | None:
        """Rename `current/` into `kept/`; answers where it is, None without current data.

        Args:
            reason: why, for people who find it.
        """
        self.ensure()
        if not self.current.is_dir():
            return None
        try:
            stamp = self.stamp()
        except errors.DataError:
            stamp = None
        now = datetime.datetime.now(datetime.timezone.utc)
        note = {"at": now.isoformat(timespec="seconds"), "reason": reason}
        files.write(self.current / _KEPT, json.dumps(note), 0o600)
        label = f"g{stamp.generation}-{stamp.token[:8]}" if stamp else "g0-unknown"
        name = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}Z-{label}"
        files.rename(self.current, self.kept_dir / name)
        return self.kept_dir / name

    def adopt(self, token: str) -> bool:
        """Rename `prepared/<token>/` to `current/`; False when it is current already.

        Raises:
            errors.DataError: other current data is in the way, or nothing was prepared.
        """
        return self._promote(self.prepared_dir / token, token)

    def put_back(self, token: str) -> bool:
        """Rename the newest kept data of `token` to `current/`; False when it is current.

        It is open: there is no way back from it.

        Raises:
            errors.DataError: other current data is in the way, or none was kept.
        """
        kept = next((k for k in self.kept() if k.stamp and k.stamp.token == token), None)
        if kept is not None:
            disk_facts.opened(kept.path)
        return self._promote(kept.path if kept else None, token)

    def kept(self) -> tuple[Kept, ...]:
        """All data that was set aside, newest first."""
        found: list[Kept] = []
        for path in sorted(_folders(self.kept_dir), reverse=True):
            note: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError):
                note = outside.json_object(files.read(path / _KEPT))
            stamp = None
            with contextlib.suppress(errors.DataError):
                stamp = stamps.read_stamp(path)
            found.append(Kept(path, stamp, str(note.get("at", "")), str(note.get("reason", ""))))
        return tuple(found)

    def drop(self, kept: Kept) -> None:
        """Delete kept data for good."""
        if kept.path.parent != self.kept_dir:
            raise errors.DataError(f"{kept.path} is not kept data of {self.path}")
        self.guard()
        files.remove(kept.path)
        files.fsync(self.kept_dir)

    def move(self, kept: Kept, directory: pathlib.Path) -> pathlib.Path:
        """Move kept data into another directory, across file systems if need be.

        The copy is complete and on disk before the original goes.

        Raises:
            errors.DataError: the directory cannot be written to.
        """
        self.guard()
        try:
            with files.reached(directory, create=True) as there:
                self._copy_out(kept.path, there)
        except OSError as error:
            raise errors.DataError(
                f"the replaced data cannot be moved to {directory}: {error.strerror}; "
                f"it stays in {kept.path}"
            ) from error
        self.drop(kept)
        return directory / kept.path.name

    def _copy_out(self, source: pathlib.Path, there: int) -> None:
        """Copy kept data into an open directory, which others may be able to change.

        Raises:
            OSError: it is not there now, whole.
        """
        name, part = source.name, f"{source.name}{_PART}"
        if (found := ownership.lstat(name, there)) and ownership.is_ours(found):
            return  # the hook that copied it died before it could remove the original
        files.remove(files.through(there) / part)
        files.copy_tree(source, part, target_fd=there)
        with files.folder(part, there) as made:
            files.give_tree(disk_facts.ETCD, self.owner, made)
            files.give_tree(part, None, there)
            os.rename(part, name, src_dir_fd=there, dst_dir_fd=there)
            found = ownership.lstat(name, there)
            if found is None or found.st_ino != os.fstat(made).st_ino:
                raise OSError(errno.EBUSY, "somebody changes the directory meanwhile", name)
        os.fsync(there)

    def free_bytes(self) -> int:
        """Bytes that etcd may still write."""
        details = os.statvfs(self.path if self.path.exists() else self.path.parent)
        return details.f_bavail * details.f_frsize

    def used_bytes(self) -> int:
        """Bytes that the current data takes."""
        return sum(
            details.st_blocks * 512
            for _, _, names, descriptor in os.fwalk(self.current)
            for name in names
            if (details := ownership.lstat(name, descriptor))
        )

    def disk(self, broken: str = "", facts: bool = False) -> views.Disk:
        """The picture of this root for the planner.

        Args:
            broken: why etcd cannot use the current data, "" when nothing is known.
            facts: read how far the data got, too.
        """
        token, member = None, ""
        try:
            stamp = self.stamp()
            if stamp is not None and not self._untouched():
                token, member = stamp.token, stamp.member
        except errors.DataError as error:
            broken = broken or str(error)
            token = ""
        read = None
        if facts and token is not None:
            try:
                read = disk_facts.disk_facts(self.etcd_dir)
            except errors.DataError as error:
                broken = broken or str(error)
                read = views.DiskFacts(0, 0, 0)
        kept = tuple(dict.fromkeys(k.stamp.token for k in self.kept() if k.stamp))
        fence = self.fenced() if token else None
        return views.Disk(
            token,
            self.prepared(),
            kept,
            read,
            broken,
            member=member,
            fenced=views.Fenced(fence.number, fence.where) if fence else views.Fenced(),
            closed=self.is_closed(),
        )

    def _untouched(self) -> bool:
        """Whether etcd has not begun with the current data yet.

        It makes an empty database before it asks the members whether it may join them.
        """
        written = [
            pathlib.Path(folder, name)
            for folder, _, names in os.walk(self.etcd_dir)
            for name in names
        ]
        database = self.etcd_dir / "member" / "snap" / "db"
        return not written or (written == [database] and disk_facts.is_empty(database))

    def _part(self, token: str) -> pathlib.Path:
        return self.prepared_dir / f"{token}{_PART}"

    def _refuse_current(self) -> None:
        if self.current.exists():
            raise errors.DataError(f"there is data in {self.current} already; it was left alone")

    def _promote(self, source: pathlib.Path | None, token: str) -> bool:
        self.guard()
        stamp = self.stamp()
        if stamp is not None and stamp.token == token:
            return False
        self._refuse_current()
        if source is None or not source.is_dir():
            raise errors.DataError(f"there is no data of generation token {token[:8]} to use")
        files.rename(source, self.current)
        (self.current / _KEPT).unlink(missing_ok=True)
        return True

    def _fresh(
        self, part: pathlib.Path, stamp: stamps.Stamp, closed: bool = False
    ) -> pathlib.Path:
        self.ensure()
        (part / disk_facts.ETCD).mkdir(mode=ownership.OURS, parents=True)
        if closed:
            files.write(part / disk_facts.CLOSED, "open: etcd-admin open\n", 0o600)
        files.write(part / stamps.STAMP, stamp.to_json(), 0o600)
        ownership.give(part, self.owner)
        return part


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    there = path.is_dir() and not path.is_symlink()
    return [p for p in path.iterdir() if p.is_dir() and not p.is_symlink()] if there else []
