"""The one road out: everything that leaves for a remote goes through rclone, and only here.

A `Remote` is a folder on anything rclone speaks to. Its configuration, which holds credentials,
reaches rclone as an anonymous memory file (`memfd`) inherited by that one process: it is on no
disk, on no command line and in no log. What a store sends is read by a user without any rights
(`processes.WORKER`), who reaches our files and folders through what is open for it alone. Memory
is bounded independently of the size of what is moved; nothing is read into this process but what
`get_bytes` and `list` return.

rclone's own comparison by MD5 is off: the ETag of a store that encrypts by itself is none, and
whether what is stored is what was sent our own SHA-256 says.

Works with rclone 1.60 (Debian 12 and 13) and later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import secrets
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from backup import rclone_errors, rclone_process
from machine import files, outside, processes

if TYPE_CHECKING:
    import pathlib

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0 when unknown), about once a second."""
_LISTING = 64 << 20  # bytes of a listing: some 300,000 objects
_ENTRIES = 500_000
_PATIENCE = 5  # objects that do not end
_ATTEMPTS = 4  # connections for one download
_UNCOMPARED = ("--ignore-checksum",)  # by MD5: sizes are compared all the same


@dataclasses.dataclass(frozen=True)
class Entry:
    """One object on the remote.

    Attributes:
        name: relative to what was listed.
        size: bytes.
        modified: seconds since the epoch, by the remote's clock; 0 when it does not say.
    """

    name: str
    size: int
    modified: float


class Remote(rclone_process.Process):
    """A folder on a remote."""

    def paced(self, pace: float) -> Remote:
        """This folder, filled and read at so many bytes per second where nothing limits it yet."""
        if self.settings.bandwidth:
            return self
        settings = dataclasses.replace(self.settings, bandwidth=f"{pace / 1024:.0f}K")
        return Remote(settings, self._binary, self._client)

    def child(self, folder: str) -> Remote:
        """The remote's folder of that name."""
        path = _join(self.settings.path, folder)
        return Remote(
            dataclasses.replace(self.settings, path=path), self._binary, client=self._client
        )

    def check(self) -> str:
        """Write a small object, read it back, delete it.

        Returns:
            Why the object stays where the store does not let it be deleted, "" where it does: what
            is stored there is as good.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        name = f".probe-{secrets.token_hex(8)}"
        content = secrets.token_hex(32).encode()
        try:
            self.put_bytes(name, content)
        except rclone_errors.RemoteError as error:
            if error.kind is not rclone_errors.Kind.NOT_FOUND or not self._make_bucket():
                raise
            self.put_bytes(name, content)
        try:
            back = self.get_bytes(name)
        except rclone_errors.RemoteError as error:
            raise rclone_errors.RemoteError(
                error.kind, f"{self.words} takes objects but does not give them back: {error}"
            ) from error
        if back != content:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CORRUPT, f"{self.words} gives back other bytes than it took"
            )
        try:
            self.delete(name)
        except rclone_errors.RemoteError as error:
            if error.stays:
                return str(error)
            raise rclone_errors.RemoteError(
                error.kind, f"{self.words} does not let objects be deleted: {error}"
            ) from error
        return ""

    def put(
        self,
        local: pathlib.Path,
        name: str,
        progress: Progress | None = None,
    ) -> None:
        """Upload a file; given up after 300 s without a byte moved.

        Args:
            local: what to upload, in a folder that nobody else can enter.
            name: its name on the remote, relative to this folder.
            progress: told how far it is.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        total = local.stat().st_size

        def tell(done: int) -> None:
            if progress:
                progress(min(done, total), total)

        with local.open("rb") as file:
            os.fchmod(file.fileno(), 0o644)  # its folder is ours alone
            command = ["copyto", "--no-check-dest", "--copy-links", *_UNCOMPARED]
            self._transfer(
                [*command, rclone_process.through(file.fileno()), self._path(name)],
                stdout=processes.DEVNULL,
                moved=None,
                tell=tell,
                descriptors=(file.fileno(),),
            )
        tell(total)

    def get(
        self,
        name: str,
        local: pathlib.Path,
        size: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Download to a file, through `<local>.part`, going on where a lost connection left off.

        A `.part` that an earlier call left is continued. The content is for the caller to check:
        a download that fails its check was continued from a foreign `.part`, or is damaged.

        Args:
            name: on the remote, relative to this folder.
            local: what to write; it appears complete, or not at all. It is not flushed to the
                disk: what a restore only reads once need not wait for that.
            size: bytes expected, None when unknown.
            progress: told how far it is.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        part = local.with_name(local.name + ".part")
        with part.open("ab") as target:
            if size is not None and target.tell() > size:
                target.truncate(0)
            for attempt in range(1, _ATTEMPTS + 1):
                before = os.fstat(target.fileno()).st_size
                if before == size:
                    break
                try:
                    self._get_from(name, target, before, size, progress)
                    got = os.fstat(target.fileno()).st_size
                    if got == before:
                        self._must_exist(name)
                    if size is not None and got < size:
                        raise rclone_errors.RemoteError(
                            rclone_errors.Kind.CORRUPT,
                            f"{name} on {self.words} ends after {got} of {size} bytes",
                        )
                    break
                except rclone_errors.RemoteError as error:
                    if not error.passing or attempt == _ATTEMPTS:
                        raise
                    time.sleep(min(2.0 ** (attempt - 1), 8.0))
            got = os.fstat(target.fileno()).st_size
            if size is not None and got > size:
                target.truncate(0)
                raise rclone_errors.RemoteError(
                    rclone_errors.Kind.CORRUPT,
                    f"{name} on {self.words} is longer than its {size} bytes",
                )
        part.replace(local)
        if progress:
            progress(got, got)

    def _get_from(
        self,
        name: str,
        target: IO[bytes],
        offset: int,
        size: int | None,
        progress: Progress | None,
    ) -> None:
        def moved() -> int:
            return os.fstat(target.fileno()).st_size

        def tell(done: int) -> None:
            if progress:
                progress(done, size or 0)

        command = ["cat", "--offset", str(offset)]
        if size is not None:  # one byte more shows that it is longer
            command += ["--count", str(size - offset + 1)]
        self._transfer(
            [*command, self._path(name)],
            stdout=target.fileno(),
            moved=moved,
            tell=tell,
        )

    def _must_exist(self, name: str) -> None:
        """Object stores take a missing object for an empty folder, which reads as no bytes."""
        if not self._run(["lsf", "--files-only", self._path(name)]).strip():
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.NOT_FOUND, f"{self.words} has no {name}"
            )

    def put_bytes(self, name: str, data: bytes) -> None:
        """Upload a small object.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        self._run(["rcat", *_UNCOMPARED, self._path(name)], data=data)

    def get_bytes(self, name: str, limit: int = rclone_process.LIMIT) -> bytes:
        """Download a small object, at most `limit` bytes of it.

        Raises:
            RemoteError: what is wrong, in one sentence; of kind NOT_FOUND when it is not there.
        """
        data = self._run(["cat", "--count", str(limit), self._path(name)])
        if not data:
            self._must_exist(name)
        return data

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """All objects below a folder, sorted by name; a folder that is not there is empty.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        command = ["lsjson", "--recursive", "--files-only", "--no-mimetype"]
        command += ["--use-server-modtime", self._path(prefix)]
        try:
            raw = self._run(command, timeout=rclone_process.SHORT * 4, limit=_LISTING)
        except rclone_errors.RemoteError as error:
            if error.kind is rclone_errors.Kind.NOT_FOUND:
                return ()
            raise
        try:
            listed = outside.json_list(raw, _ENTRIES, _LISTING)
            found = (_entry(e) for e in listed)
            return tuple(sorted((e for e in found if e), key=lambda entry: entry.name))
        except outside.OutsideError as error:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.OTHER,
                f"the listing of {self.words} cannot be understood: {error}",
            ) from error

    def mirror(self, pattern: str, local: pathlib.Path, largest: int) -> None:
        """Copy small objects directly in this folder to a local one, only those that changed.

        What cannot be read is not there afterwards, and is no error as long as others were.

        Args:
            pattern: which names, such as `*.json`.
            local: where to, in a folder that nobody else can enter; objects that are gone from
                the remote stay here.
            largest: bytes; larger ones are left out, and so are those that do not end there.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        endless: list[str] = []
        while len(endless) < _PATIENCE:
            longer = self._mirror(_mirroring(pattern, largest, endless), local, largest)
            if not longer:
                return
            endless.append(longer)
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CORRUPT, f"{self.words} sends objects that do not end"
        )

    def _mirror(self, command: list[str], local: pathlib.Path, largest: int) -> str:
        """Copy once; the name of an object that did not end, "" for none."""
        try:
            with files.folder(local) as folder:
                os.fchmod(folder, 0o777)
                self._run(
                    [*command, self._path(""), rclone_process.through(folder)],
                    timeout=rclone_process.SHORT * 4,
                    check=lambda: _refuse_endless(local, largest),
                    descriptors=(folder,),
                )
        except _EndlessError as error:
            return error.name
        except rclone_errors.RemoteError as error:
            lost = error.passing or not any(local.iterdir())
            if lost and error.kind not in (
                rclone_errors.Kind.NOT_FOUND,
                rclone_errors.Kind.CORRUPT,
            ):
                raise
        return ""

    def delete(self, name: str) -> bool:
        """Delete one object; False when there was none.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        try:
            self._run(["deletefile", self._path(name)])
        except rclone_errors.RemoteError as error:
            if error.kind is rclone_errors.Kind.NOT_FOUND:
                return False
            raise
        return True

    def abort_uploads(self, older: float) -> None:
        """Have an S3 store drop the parts of uploads that never ended.

        A killed rclone leaves them; they are in no listing, and cost as much as others. Where the
        credentials do not allow this, it is the bucket's lifecycle that does it.

        Args:
            older: seconds since they began, at least.
        """
        if self.settings.type != "s3":
            return
        with contextlib.suppress(rclone_errors.RemoteError):
            self._run(["backend", "cleanup", self._path(""), "-o", f"max-age={older:.0f}s"])

    def _make_bucket(self) -> bool:
        if not self.settings.path.startswith("s3:"):
            return False
        bucket = self.settings.path.split("/", 1)[0]
        self._run(["mkdir", "--s3-no-check-bucket=false", bucket])
        return True

    def _path(self, name: str) -> str:
        return _join(self.settings.path, name)


def _mirroring(pattern: str, largest: int, without: list[str]) -> list[str]:
    command = ["copy", "--max-depth", "1", "--max-size", str(largest), *_UNCOMPARED]
    command += ["--use-server-modtime", "--transfers", "8", "--checkers", "8"]
    for name in without:
        command += ["--filter", f"- /{name}"]
    return [*command, "--filter", f"+ /{pattern}", "--filter", "- *"]


def _join(path: str, name: str) -> str:
    name = name.strip("/")
    if not name:
        return path
    return path + name if path.endswith((":", "/")) else f"{path}/{name}"


def _entry(raw: Any) -> Entry | None:
    """One object of a listing, None when that can be none."""
    if not isinstance(raw, dict):
        return None
    found = cast("dict[str, Any]", raw)
    name, size = found.get("Path"), found.get("Size")
    if not isinstance(name, str) or not isinstance(size, int) or not 0 < len(name) <= 4096:
        return None
    return Entry(name, size, _seconds(str(found.get("ModTime", ""))))


def _seconds(stamp: str) -> float:
    """RFC 3339, with up to nine digits after the point, as seconds since the epoch; 0 if none."""
    match = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?"
        r"(Z|[+-][0-9]{2}:[0-9]{2})",
        stamp,
    )
    if not match:
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        whole = datetime.datetime.fromisoformat(match[1] + zone).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return whole + float(match[2] or 0)


class _EndlessError(Exception):
    """An object is longer than the remote's listing said.

    Attributes:
        name: its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _refuse_endless(folder: pathlib.Path, largest: int) -> None:
    """Look whether a file that is being written grew beyond `largest` bytes, and remove it."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.stat().st_size > largest:
                path.unlink(missing_ok=True)
                raise _EndlessError(re.sub(r"\.[0-9a-z]+\.partial$", "", path.name))
