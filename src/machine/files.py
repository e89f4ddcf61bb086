"""Files that are either the old ones or the new ones, whatever happens in between.

Root works here in what others own, too. Such places are entered by descriptors, one name at a
time, and no link in them is followed: what a name meant a moment ago it need not mean now.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import pwd
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

MEMORY = pathlib.Path("/run/etcd-charm")
"""What need not outlive a reboot of the machine."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_LINKS = 40  # followed on one way, as in Linux
_SMALL = 1 << 20  # bytes
_CHUNK = 1 << 20


def fsync(path: pathlib.Path | str, dir_fd: int | None = None) -> None:
    """Flush a file, or a directory's entries, to its disk."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: pathlib.Path, target: pathlib.Path) -> None:
    """One rename, flushed on both sides."""
    source.rename(target)
    fsync(target.parent)
    if source.parent != target.parent:
        fsync(source.parent)


def chown(path: pathlib.Path, owner: str | None, group: str | None = None) -> None:
    """Give a path to a user by name; does nothing without one, or when we are not root.

    A link is given away itself. The directory that the path is in has to be root's.
    """
    os.chown(path, *ids(owner, group), follow_symlinks=False)


def ids(owner: str | None, group: str | None = None) -> tuple[int, int]:
    """Numbers of a user and a group, by default the user's own; -1 for those to leave alone.

    Only root gives anything away.
    """
    if os.geteuid() or not (owner or group):
        return -1, -1
    person = pwd.getpwnam(owner) if owner else None
    if group:
        import grp  # nearly all have the group of their user

        return person.pw_uid if person else -1, grp.getgrnam(group).gr_gid
    return (person.pw_uid, person.pw_gid) if person else (-1, -1)


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
    with contextlib.suppress(OSError), opened(path) as descriptor:
        details = os.fstat(descriptor)
        same = details.st_mode & 0o7777 == mode and details.st_size == len(data)
        if same and os.read(descriptor, len(data)) == data:
            return False
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = pathlib.Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, *ids(owner, group))
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


# Places that others own


@contextlib.contextmanager
def opened(path: pathlib.Path | str, dir_fd: int | None = None) -> Generator[int]:
    """A regular file, open for reading; no link, and nothing that would keep us waiting.

    Raises:
        OSError: it is not there, or something else.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def regular(path: str, flags: int) -> int:
    """An opener for `open` that takes files only: a pipe would keep us waiting, a device not end.

    Raises:
        OSError: it is not there, or something else.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def read(path: pathlib.Path) -> str:
    """The text of a small file that somebody else may have put there.

    Raises:
        OSError: it is not there, is a link or no file, or is too large.
        ValueError: it is no text.
    """
    with opened(path) as descriptor:
        if os.fstat(descriptor).st_size > _SMALL:
            raise OSError(errno.EFBIG, "too large", str(path))
        return os.read(descriptor, _SMALL).decode()


@contextlib.contextmanager
def folder(path: pathlib.Path | str, dir_fd: int | None = None) -> Generator[int]:
    """An open directory; its last name is no link.

    Raises:
        OSError: it is not there, or something else.
    """
    descriptor = os.open(path, _FOLDER, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reached(path: pathlib.Path, create: bool = False) -> Generator[int]:
    """The directory that an operator names, open; only links that root made are followed.

    In a directory that another user may change, a link is somebody's attempt to lead root away.

    Args:
        path: absolute.
        create: make what is missing.

    Raises:
        OSError: it cannot be reached, or not safely.
    """
    descriptor, left, links = os.open("/", _FOLDER), list(path.parts[1:]), _LINKS
    try:
        while left:
            name = left.pop(0)
            following = _entered(name, descriptor, create)
            if following is None:
                links -= 1
                if links < 0 or not _only_roots(descriptor):
                    raise OSError(errno.ELOOP, "a link on the way is not root's", str(path))
                target = pathlib.Path(os.readlink(name, dir_fd=descriptor))
                left[:0] = [part for part in target.parts if part != "/"]
                following = os.open(
                    "/" if target.is_absolute() else ".", _FOLDER, dir_fd=descriptor
                )
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def _entered(name: str, directory: int, create: bool) -> int | None:
    """The directory of that name, open; None for a link."""
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=directory)
    try:
        return os.open(name, _FOLDER, dir_fd=directory)
    except OSError:
        details = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(details.st_mode):
            return None
        raise


def _only_roots(directory: int) -> bool:
    """Nobody but root, or whoever we are, can change what is in an open directory."""
    details = os.fstat(directory)
    return details.st_uid in (0, os.geteuid()) and not details.st_mode & 0o022


def path_of(directory: int) -> pathlib.Path:
    """Where an open directory is now, without links."""
    return pathlib.Path(os.readlink(f"/proc/self/fd/{directory}"))


def through(directory: int) -> pathlib.Path:
    """A path by which we and our children reach an open directory, whatever is renamed."""
    return pathlib.Path(f"/proc/{os.getpid()}/fd/{directory}")


def _visit(directory: int, act: Callable[[int], None]) -> None:
    """Act on every file and directory below an open directory, and on it, last.

    Raises:
        errors.DataError: there is something else, or a file of two names.
    """
    for name in sorted(os.listdir(directory)):
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _strange(directory, name) from error
            raise
        try:
            details = os.fstat(descriptor)
            if stat.S_ISDIR(details.st_mode):
                _visit(descriptor, act)
            elif stat.S_ISREG(details.st_mode) and details.st_nlink == 1:
                act(descriptor)
            else:
                raise _strange(directory, name)
        finally:
            os.close(descriptor)
    act(directory)


def _strange(directory: int, name: str) -> errors.DataError:
    return errors.DataError(
        f"{path_of(directory) / name} is a link or a special file, which etcd never makes: it was "
        "left alone; find out who made it, and remove it"
    )


def fsync_tree(root: pathlib.Path) -> None:
    """Flush every file and directory below `root`, and `root`."""
    with folder(root) as descriptor:
        _visit(descriptor, os.fsync)


def give_tree(root: pathlib.Path | str, owner: str | None, dir_fd: int | None = None) -> None:
    """Give a directory and all below it to a user, and flush it.

    Raises:
        errors.DataError: there is a link in it, or a file of two names.
    """
    uid, gid = ids(owner)

    def give(descriptor: int) -> None:
        os.fchown(descriptor, uid, gid)
        os.fsync(descriptor)

    with folder(root, dir_fd) as descriptor:
        _visit(descriptor, give)


def give(name: str, owner: str | None, dir_fd: int) -> None:
    """Give a regular file in an open directory to a user, and nothing else of that name.

    Raises:
        OSError: it is not there, or something else.
    """
    with opened(name, dir_fd) as descriptor:
        os.fchown(descriptor, *ids(owner))


def copy_tree(
    source: pathlib.Path | str,
    target: pathlib.Path | str,
    *,
    source_fd: int | None = None,
    target_fd: int | None = None,
) -> None:
    """Copy a directory with its directories and regular files; the copies are ours alone.

    Args:
        source: what to copy.
        target: it is made, and must not be there.
        source_fd: the open directory that `source` is in.
        target_fd: the open directory that `target` is in.

    Raises:
        errors.DataError: there is a link in it, or a file of two names.
    """
    os.mkdir(target, 0o700, dir_fd=target_fd)
    with folder(source, source_fd) as inside, folder(target, target_fd) as outside:
        for name in sorted(os.listdir(inside)):
            details = os.stat(name, dir_fd=inside, follow_symlinks=False)
            if stat.S_ISDIR(details.st_mode):
                copy_tree(name, name, source_fd=inside, target_fd=outside)
            elif stat.S_ISREG(details.st_mode) and details.st_nlink == 1:
                _copy(name, inside, outside)
            else:
                raise _strange(inside, name)


def _copy(name: str, source: int, target: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with opened(name, source) as taken:
        descriptor = os.open(name, flags, 0o600, dir_fd=target)
        with os.fdopen(descriptor, "wb") as made, os.fdopen(os.dup(taken), "rb") as read_:
            shutil.copyfileobj(read_, made, _CHUNK)


def remove(path: pathlib.Path) -> bool:
    """Remove a file, a link or a directory with all in it; False when there is none."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)  # by descriptors: it follows no link
    else:
        path.unlink()
    return True


def switch(link: pathlib.Path, target: pathlib.Path) -> None:
    """Point a symlink elsewhere, by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    rename(temporary, link)


def keep_in_memory(path: pathlib.Path, name: str) -> None:
    """Make `path` a symlink to a file `name` of a memory file system; what it held is lost."""
    file = MEMORY / name
    ensure_dir(file.parent)
    file.touch(mode=0o600)
    if not path.is_symlink():
        switch(path, file)


def forget_in_memory(name: str) -> None:
    """Delete what `keep_in_memory` kept, and its directory where nothing else is left there."""
    (MEMORY / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        MEMORY.rmdir()


def ensure_dir(
    path: pathlib.Path, mode: int = 0o755, owner: str | None = None, group: str | None = None
) -> bool:
    """Create a directory with its parents; True when it was missing or had another mode."""
    changed = not path.is_dir()
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o7777 != mode:
        path.chmod(mode)
        changed = True
    chown(path, owner, group)
    return changed


def free_bytes(path: pathlib.Path) -> int:
    """Bytes free for users on the file system of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    details = os.statvfs(path)
    return details.f_bavail * details.f_frsize


def is_mount(path: pathlib.Path) -> bool:
    """A file system is mounted at `path`."""
    return os.path.ismount(path)
