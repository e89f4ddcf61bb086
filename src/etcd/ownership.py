"""Whose the folders of the data root are: root's, but for the `etcd/` in which etcd works.

Everything goes by descriptors, and no link is followed: what etcd's user may have put there is
somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from etcd import disk_facts
from machine import files

if TYPE_CHECKING:
    import pathlib

PASSED = 0o710
"""A folder of root's that etcd's group passes through."""
OURS = 0o700
"""A folder of root's."""


def take_all(folder: pathlib.Path, root: int, owner: str | None) -> bool:
    """Take a folder of the root with the data in it."""
    details = lstat(folder.name, root)
    if details is None:
        return False
    if not stat.S_ISDIR(details.st_mode):
        return files.remove(folder)
    with files.folder(folder.name, root) as descriptor:
        if not seize(descriptor, OURS, owner):
            return False
        for name in os.listdir(descriptor):
            entry = lstat(name, descriptor)
            if entry and stat.S_ISDIR(entry.st_mode):
                take(folder / name, descriptor, owner)
            else:
                files.remove(folder / name)
    return True


def take(path: pathlib.Path, parent: int, owner: str | None) -> bool:
    """Take stamped data but for `etcd/`; True when it was another's.

    Files are written anew: somebody may still have the old ones open.
    """
    with files.folder(path.name, parent) as descriptor:
        if not seize(descriptor, PASSED, owner):
            return False
        for name in os.listdir(descriptor):
            entry = lstat(name, descriptor)
            if name == disk_facts.ETCD and entry and stat.S_ISDIR(entry.st_mode):
                continue
            text = None
            with contextlib.suppress(OSError, ValueError):
                text = files.read(path / name)
            files.remove(path / name)
            if text is not None:
                files.write(path / name, text, 0o600)
    return True


def seize(descriptor: int, mode: int, owner: str | None) -> bool:
    """Make an open directory ours, and etcd's group's to pass where `mode` says so."""
    details = os.fstat(descriptor)
    uid, gid = os.geteuid(), files.ids(owner)[1] if mode == PASSED else -1
    if details.st_uid == uid and details.st_mode & 0o7777 == mode and gid in (-1, details.st_gid):
        return False
    os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)
    return True


def give(part: pathlib.Path, owner: str | None) -> None:
    """Let etcd pass into data and change what it runs on, and flush all of it."""
    with files.folder(part) as descriptor:
        seize(descriptor, PASSED, owner)
        if lstat(disk_facts.ETCD, descriptor):
            files.give_tree(disk_facts.ETCD, owner, descriptor)
    files.fsync_tree(part)


def lstat(name: str, directory: int) -> os.stat_result | None:
    """What `name` is in an open directory, itself where it is a link; None without it."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_ours(details: os.stat_result) -> bool:
    """Whether it is a directory of this process's user."""
    return stat.S_ISDIR(details.st_mode) and details.st_uid == os.geteuid()
