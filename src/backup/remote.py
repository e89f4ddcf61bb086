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
import functools
import os
import re
import secrets
import selectors
import time
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING, Any, cast

import outside
import processes
from backup import destination, refusals
from etcd import files

if TYPE_CHECKING:
    import pathlib
    import subprocess

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0 when unknown), about once a second."""

_SHORT = 90.0  # seconds: a request that moves no more than a few kilobytes
_STALL = 300.0  # seconds without one byte moved, after which a transfer is given up
_CONNECT = "15s"
_IDLE = "60s"
_LIMIT = 1 << 20
_LISTING = 64 << 20  # bytes of a listing: some 300,000 objects
_ENTRIES = 500_000
_SAID = 64 * 1024  # bytes of rclone's last words
_PATIENCE = 5  # objects that do not end
_ATTEMPTS = 4  # connections for one download
_UNCOMPARED = ("--ignore-checksum",)  # by MD5: sizes are compared all the same

# Backends whose default upload buffers exceed what a backup may take of a machine's memory.
_SMALL = {
    "RCLONE_S3_CHUNK_SIZE": "5Mi",
    "RCLONE_S3_UPLOAD_CONCURRENCY": "2",
    "RCLONE_S3_UPLOAD_CUTOFF": "32Mi",
    "RCLONE_B2_CHUNK_SIZE": "8Mi",
    "RCLONE_B2_UPLOAD_CONCURRENCY": "2",
    "RCLONE_AZUREBLOB_UPLOAD_CONCURRENCY": "4",
    "RCLONE_DROPBOX_CHUNK_SIZE": "8Mi",
    "RCLONE_GOOGLEPHOTOS_BATCH_SIZE": "1",
}


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


class Remote:
    """A folder on a remote."""

    def __init__(
        self,
        settings: destination.Settings,
        binary: pathlib.Path | None = None,
        client: tuple[pathlib.Path, pathlib.Path] | None = None,
    ) -> None:
        """Prepare to reach a remote; nothing is sent.

        Args:
            settings: where it is and how to enter.
            binary: rclone, by default the one on the system's PATH.
            client: certificate and key files for a server that asks for them.
        """
        self.settings = settings
        self._binary = binary
        self._client = client

    def __repr__(self) -> str:
        """The path, and nothing secret."""
        return f"Remote({self.words})"

    def paced(self, pace: float) -> Remote:
        """This folder, filled and read at so many bytes per second where nothing limits it yet."""
        if self.settings.bandwidth:
            return self
        settings = dataclasses.replace(self.settings, bandwidth=f"{pace / 1024:.0f}K")
        return Remote(settings, self._binary, self._client)

    @property
    def words(self) -> str:
        """Where this is, safe to show."""
        return self.settings.path

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
        except refusals.RemoteError as error:
            if error.kind is not refusals.Kind.NOT_FOUND or not self._make_bucket():
                raise
            self.put_bytes(name, content)
        try:
            back = self.get_bytes(name)
        except refusals.RemoteError as error:
            raise refusals.RemoteError(
                error.kind, f"{self.words} takes objects but does not give them back: {error}"
            ) from error
        if back != content:
            raise refusals.RemoteError(
                refusals.Kind.CORRUPT, f"{self.words} gives back other bytes than it took"
            )
        try:
            self.delete(name)
        except refusals.RemoteError as error:
            if error.stays:
                return str(error)
            raise refusals.RemoteError(
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
                [*command, _through(file.fileno()), self._path(name)],
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
                        raise refusals.RemoteError(
                            refusals.Kind.CORRUPT,
                            f"{name} on {self.words} ends after {got} of {size} bytes",
                        )
                    break
                except refusals.RemoteError as error:
                    if not error.passing or attempt == _ATTEMPTS:
                        raise
                    time.sleep(min(2.0 ** (attempt - 1), 8.0))
            got = os.fstat(target.fileno()).st_size
            if size is not None and got > size:
                target.truncate(0)
                raise refusals.RemoteError(
                    refusals.Kind.CORRUPT,
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
            raise refusals.RemoteError(refusals.Kind.NOT_FOUND, f"{self.words} has no {name}")

    def put_bytes(self, name: str, data: bytes) -> None:
        """Upload a small object.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        self._run(["rcat", *_UNCOMPARED, self._path(name)], data=data)

    def get_bytes(self, name: str, limit: int = _LIMIT) -> bytes:
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
            raw = self._run(command, timeout=_SHORT * 4, limit=_LISTING)
        except refusals.RemoteError as error:
            if error.kind is refusals.Kind.NOT_FOUND:
                return ()
            raise
        try:
            listed = outside.json_list(raw, _ENTRIES, _LISTING)
            found = (_entry(e) for e in listed)
            return tuple(sorted((e for e in found if e), key=lambda entry: entry.name))
        except outside.OutsideError as error:
            raise refusals.RemoteError(
                refusals.Kind.OTHER, f"the listing of {self.words} cannot be understood: {error}"
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
        raise refusals.RemoteError(
            refusals.Kind.CORRUPT, f"{self.words} sends objects that do not end"
        )

    def _mirror(self, command: list[str], local: pathlib.Path, largest: int) -> str:
        """Copy once; the name of an object that did not end, "" for none."""
        try:
            with files.folder(local) as folder:
                os.fchmod(folder, 0o777)
                self._run(
                    [*command, self._path(""), _through(folder)],
                    timeout=_SHORT * 4,
                    check=lambda: _refuse_endless(local, largest),
                    descriptors=(folder,),
                )
        except _EndlessError as error:
            return error.name
        except refusals.RemoteError as error:
            lost = error.passing or not any(local.iterdir())
            if lost and error.kind not in (refusals.Kind.NOT_FOUND, refusals.Kind.CORRUPT):
                raise
        return ""

    def delete(self, name: str) -> bool:
        """Delete one object; False when there was none.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        try:
            self._run(["deletefile", self._path(name)])
        except refusals.RemoteError as error:
            if error.kind is refusals.Kind.NOT_FOUND:
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
        with contextlib.suppress(refusals.RemoteError):
            self._run(["backend", "cleanup", self._path(""), "-o", f"max-age={older:.0f}s"])

    def _make_bucket(self) -> bool:
        if not self.settings.path.startswith("s3:"):
            return False
        bucket = self.settings.path.split("/", 1)[0]
        self._run(["mkdir", "--s3-no-check-bucket=false", bucket])
        return True

    def _path(self, name: str) -> str:
        return _join(self.settings.path, name)

    def _run(
        self,
        arguments: list[str],
        data: bytes = b"",
        timeout: float = _SHORT,
        limit: int = _LIMIT,
        check: Callable[[], None] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> bytes:
        """Run rclone to its end and return what it printed, at most `limit` bytes.

        Args:
            arguments: what to do.
            data: its standard input.
            timeout: seconds.
            limit: more is an error.
            check: called several times a second; what it raises ends rclone.
            descriptors: what it inherits besides.
        """
        with self._prepared(arguments, descriptors) as (command, inherited, environment):
            with _memory("input", data) as stdin:
                os.lseek(stdin, 0, os.SEEK_SET)
                try:
                    process = processes.start(
                        command,
                        stdin=stdin,
                        stdout=processes.PIPE,
                        stderr=processes.PIPE,
                        environment=environment,
                        descriptors=inherited,
                        outside=self._needs_nothing,
                    )
                except OSError as error:
                    raise self._no_tool(error) from error
            try:
                out, said = self._read(process, time.monotonic() + timeout, limit, check)
                code = process.wait(timeout=30)
            except TimeoutError as error:
                raise refusals.RemoteError(
                    refusals.Kind.TIMEOUT, f"{self.words} did not answer within {timeout:.0f} s"
                ) from error
            finally:
                _end(process)
        if code:
            raise self._refusal(code, said.decode(errors="replace"))
        return out

    def _read(
        self,
        process: subprocess.Popen[bytes],
        until: float,
        limit: int,
        check: Callable[[], None] | None,
    ) -> tuple[bytes, bytes]:
        """Standard output, and the end of standard error, until both are closed."""
        assert process.stdout and process.stderr  # noqa: S101
        out, said = bytearray(), b""
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdout, process.stderr):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(timeout=0.2):
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        said = (said + chunk)[-_SAID:]
                    else:
                        out += chunk
                if len(out) > limit:
                    raise refusals.RemoteError(
                        refusals.Kind.CORRUPT, f"{self.words} answers with more than {limit} bytes"
                    )
                if check:
                    check()
                if time.monotonic() > until:
                    raise TimeoutError
        return bytes(out), said

    def _transfer(
        self,
        arguments: list[str],
        stdout: int,
        moved: Callable[[], int] | None,
        tell: Callable[[int], None],
        descriptors: tuple[int, ...] = (),
    ) -> None:
        """Run rclone for as long as bytes move, by `moved` or by rclone's own count."""
        arguments = [*arguments, "--stats", "1s", "--stats-log-level", "NOTICE"]
        with self._prepared(arguments, descriptors) as (command, inherited, environment):
            try:
                process = processes.start(
                    command,
                    stdout=stdout,
                    stderr=processes.PIPE,
                    environment=environment,
                    descriptors=inherited,
                    outside=self._needs_nothing,
                )
            except OSError as error:
                raise self._no_tool(error) from error
            try:
                said = self._watch(process, moved, tell)
                code = process.wait(timeout=30)
            finally:
                _end(process)
        if code:
            raise self._refusal(code, said)

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        moved: Callable[[], int] | None,
        tell: Callable[[int], None],
    ) -> str:
        """Follow a transfer until rclone closes its standard error; return its last words."""
        assert process.stderr is not None  # noqa: S101
        last, counted, before = "", 0, -1
        pending = b""
        alive = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stderr, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=1.0):
                    chunk = os.read(process.stderr.fileno(), 65536)
                    if not chunk:
                        return last
                    *lines, pending = (pending + chunk).split(b"\n")
                    pending = pending[-_SAID:]
                    for line in lines:
                        stats, words = refusals.heard(line.decode(errors="replace"))
                        counted = counted if stats is None else stats
                        last = (last + "\n" + words)[-8000:] if words else last
                now = time.monotonic()
                done = moved() if moved else counted
                if done != before:
                    alive, before = now, done
                    tell(done)
                if now - alive > _STALL:
                    raise refusals.RemoteError(
                        refusals.Kind.LOST,
                        f"{self.words} moved no byte for {_STALL:.0f} s: given up",
                    )

    @contextlib.contextmanager
    def _prepared(
        self, arguments: list[str], more: tuple[int, ...]
    ) -> Generator[tuple[list[str], tuple[int, ...], dict[str, str]]]:
        """The command, the descriptors it inherits and its environment."""
        settings = self.settings
        with contextlib.ExitStack() as stack:
            config = stack.enter_context(_memory("rclone", settings.config.encode()))
            descriptors = [config, *more]
            command = [str(self._binary or rclone()), "--config", _through(config)]
            # Nothing is ever written there: the folder need not exist.
            command += ["--cache-dir", "/nonexistent/rclone", "--use-json-log"]
            command += ["--contimeout", _CONNECT, "--timeout", _IDLE]
            command += ["--retries", "1", "--low-level-retries", "3"]
            command += ["--transfers", "1", "--checkers", "2", "--buffer-size", "1Mi"]
            command += ["--multi-thread-streams", "0", "--ask-password=false"]
            if settings.bandwidth:
                command += ["--bwlimit", settings.bandwidth]
            if settings.ca:
                ca = stack.enter_context(_memory("ca", settings.ca.encode() + b"\n"))
                descriptors.append(ca)
                command += ["--ca-cert", _through(ca)]
            for option, path in zip(("cert", "key"), self._client or (), strict=False):
                held = stack.enter_context(_memory(option, path.read_bytes()))
                descriptors.append(held)
                command += [f"--client-{option}", _through(held)]
            yield command + arguments, tuple(descriptors), _environment(settings)

    @functools.cached_property
    def _needs_nothing(self) -> bool:
        """Whether rclone needs no folder and no file of this machine: anyone can run it."""
        return not self.settings.folders and not self.settings.files

    def _refusal(self, code: int, said: str) -> refusals.RemoteError:
        return refusals.refusal(self.words, code, said, self.settings.config)

    def _no_tool(self, error: OSError) -> refusals.RemoteError:
        return refusals.RemoteError(
            refusals.Kind.TOOL, f"rclone cannot be run on this unit: {error.strerror}"
        )


def rclone() -> pathlib.Path:
    """The rclone to run.

    Raises:
        RemoteError: of kind TOOL, when there is none.
    """
    found = processes.which("rclone")
    if not found:
        raise refusals.RemoteError(refusals.Kind.TOOL, "rclone is not installed on this unit")
    return found


def _mirroring(pattern: str, largest: int, without: list[str]) -> list[str]:
    command = ["copy", "--max-depth", "1", "--max-size", str(largest), *_UNCOMPARED]
    command += ["--use-server-modtime", "--transfers", "8", "--checkers", "8"]
    for name in without:
        command += ["--filter", f"- /{name}"]
    return [*command, "--filter", f"+ /{pattern}", "--filter", "- *"]


def _through(descriptor: int) -> str:
    """What the process that inherits it calls an open file or folder."""
    return f"/proc/self/fd/{descriptor}"


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


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _environment(settings: destination.Settings) -> dict[str, str]:
    """The environment of rclone: no home, a role's variables, its proxies, small buffers."""
    environment = {"GOMEMLIMIT": "64MiB", "GOGC": "50", **dict(settings.environment)}
    # rclone 1.60 refuses every S3 remote when this is set; `Settings.ca` says the same.
    environment.pop("AWS_CA_BUNDLE", None)
    environment.update((k, v) for k, v in settings.proxies if k in processes.PROXIES)
    environment["RCLONE_S3_USE_MULTIPART_ETAG"] = "false"
    if not re.search(r"^\s*(chunk_size|upload_concurrency)\s*=", settings.config, re.MULTILINE):
        environment.update(_SMALL)
    return environment


@contextlib.contextmanager
def _memory(name: str, content: bytes) -> Generator[int]:
    """A file in memory, gone with the processes that hold it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)
