"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile


def fsync(path: pathlib.Path) -> None:
    """Flush a file, or a directory's entries, to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: pathlib.Path) -> None:
    """Flush every file and directory below `root`, and `root`."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(folder, name)
            if path.is_file() and not path.is_symlink():
                fsync(path)
        fsync(pathlib.Path(folder))


def rename(source: pathlib.Path, target: pathlib.Path) -> None:
    """One rename, flushed on both sides."""
    source.rename(target)
    fsync(target.parent)
    if source.parent != target.parent:
        fsync(source.parent)


def chown(path: pathlib.Path, owner: str | None, group: str | None = None) -> None:
    """Give a path to a user by name; does nothing without one, or when we are not root."""
    if os.geteuid() == 0 and (owner or group):
        shutil.chown(path, owner, group or owner)  # type: ignore[arg-type]


def chown_tree(root: pathlib.Path, owner: str | None) -> None:
    """Give `root` and all below it to a user."""
    chown(root, owner)
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            chown(pathlib.Path(folder, name), owner)


def write(
    path: pathlib.Path,
    content: str | bytes,
    mode: int = 0o644,
    owner: str | None = None,
    group: str | None = None,
) -> bool:
    """Replace a file's content by one rename; False when it has this content and mode already.

    Args:
        path: the file; its directory exists.
        content: what it shall hold.
        mode: permission bits.
        owner: user name, None for the one we are.
        group: group name, None for the owner's.
    """
    data = content.encode() if isinstance(content, str) else content
    with contextlib.suppress(OSError):
        if path.read_bytes() == data and path.stat().st_mode & 0o7777 == mode:
            return False
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = pathlib.Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        chown(temporary, owner, group)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True
