"""The one road out: everything that leaves for a remote goes through rclone, and only here.

A `Remote` is a folder on anything rclone speaks to. Its configuration, which holds credentials,
reaches rclone as an anonymous memory file (`memfd`) inherited by that one process: it is on no
disk, on no command line and in no log. Memory is bounded independently of the size of what is
moved; nothing is read into this process but what `get_bytes` and `list` return.

Works with rclone 1.60 (Debian 12 and 13) and later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import secrets
import selectors
import subprocess
import time
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING, Any, cast

import processes
from backup import destination, refusals

if TYPE_CHECKING:
    import pathlib

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0 when unknown), about once a second."""

_SHORT = 90.0  # seconds: a request that moves no more than a few kilobytes
_STALL = 300.0  # seconds without one byte moved, after which a transfer is given up
_CONNECT = "15s"
_IDLE = "60s"
_LIMIT = 1 << 20
_ATTEMPTS = 4  # connections for one download

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

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

    def check(self) -> None:
        """Write a small object, read it back, delete it.

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
            raise refusals.RemoteError(
                error.kind, f"{self.words} does not let objects be deleted: {error}"
            ) from error

    def put(
        self,
        local: pathlib.Path,
        name: str,
        progress: Progress | None = None,
    ) -> None:
        """Upload a file; given up after 300 s without a byte moved.

        Args:
            local: what to upload.
            name: its name on the remote, relative to this folder.
            progress: told how far it is.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        total = local.stat().st_size

        def tell(done: int) -> None:
            if progress:
                progress(min(done, total), total)

        self._transfer(
            ["copyto", "--no-check-dest", str(local.absolute()), self._path(name)],
            stdout=processes.DEVNULL,
            moved=None,
            tell=tell,
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

        self._transfer(
            ["cat", "--offset", str(offset), self._path(name)],
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
        self._run(["rcat", self._path(name)], data=data)

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
            raw = self._run(command, timeout=_SHORT * 4)
        except refusals.RemoteError as error:
            if error.kind is refusals.Kind.NOT_FOUND:
                return ()
            raise
        try:
            listed = cast("list[dict[str, Any]]", json.loads(raw))
            return tuple(
                sorted(
                    (
                        Entry(str(e["Path"]), int(e["Size"]), _seconds(str(e.get("ModTime", ""))))
                        for e in listed
                    ),
                    key=lambda entry: entry.name,
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise refusals.RemoteError(
                refusals.Kind.OTHER, f"the listing of {self.words} cannot be understood"
            ) from error

    def mirror(self, pattern: str, local: pathlib.Path) -> None:
        """Copy small objects directly in this folder to a local one, only those that changed.

        What cannot be read is not there afterwards, and is no error as long as others were.

        Args:
            pattern: which names, such as `*.json`; at most 256 KiB each.
            local: where to; objects that are gone from the remote stay here.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        command = ["copy", "--include", f"/{pattern}", "--max-depth", "1", "--max-size", "256Ki"]
        command += ["--checksum", "--transfers", "8", "--checkers", "8"]
        try:
            self._run([*command, self._path(""), str(local.absolute())], timeout=_SHORT * 4)
        except refusals.RemoteError as error:
            if error.kind not in (refusals.Kind.NOT_FOUND, refusals.Kind.CORRUPT):
                raise

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
        self, arguments: list[str], data: bytes | None = None, timeout: float = _SHORT
    ) -> bytes:
        """Run rclone to its end and return what it printed."""
        with self._prepared(arguments) as (command, descriptors, environment):
            try:
                done = processes.run_bytes(
                    command,
                    timeout,
                    data=data or b"",
                    environment=environment,
                    descriptors=descriptors,
                )
            except subprocess.TimeoutExpired as error:
                raise refusals.RemoteError(
                    refusals.Kind.TIMEOUT, f"{self.words} did not answer within {timeout:.0f} s"
                ) from error
            except OSError as error:
                raise self._no_tool(error) from error
        if done.returncode:
            raise self._refusal(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout

    def _transfer(
        self,
        arguments: list[str],
        stdout: int,
        moved: Callable[[], int] | None,
        tell: Callable[[int], None],
    ) -> None:
        """Run rclone for as long as bytes move, by `moved` or by rclone's own count."""
        arguments = [*arguments, "--stats", "1s", "--stats-log-level", "NOTICE"]
        with self._prepared(arguments) as (command, descriptors, environment):
            try:
                process = processes.start(
                    command,
                    stdout=stdout,
                    stderr=processes.PIPE,
                    environment=environment,
                    descriptors=descriptors,
                )
            except OSError as error:
                raise self._no_tool(error) from error
            try:
                said = self._watch(process, moved, tell)
                code = process.wait(timeout=30)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                if process.stderr:
                    process.stderr.close()
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
        self, arguments: list[str]
    ) -> Generator[tuple[list[str], tuple[int, ...], dict[str, str]]]:
        """The command, the descriptors it inherits and its environment."""
        settings = self.settings
        with contextlib.ExitStack() as stack:
            config = stack.enter_context(_memory("rclone", settings.config))
            descriptors = [config]
            command = [str(self._binary or rclone()), "--config", f"/proc/self/fd/{config}"]
            # Nothing is ever written there: the folder need not exist.
            command += ["--cache-dir", "/nonexistent/rclone", "--use-json-log"]
            command += ["--contimeout", _CONNECT, "--timeout", _IDLE]
            command += ["--retries", "1", "--low-level-retries", "3"]
            command += ["--transfers", "1", "--checkers", "2", "--buffer-size", "1Mi"]
            command += ["--multi-thread-streams", "0", "--ask-password=false"]
            if settings.bandwidth:
                command += ["--bwlimit", settings.bandwidth]
            if settings.ca:
                ca = stack.enter_context(_memory("ca", settings.ca + "\n"))
                descriptors.append(ca)
                command += ["--ca-cert", f"/proc/self/fd/{ca}"]
            if self._client:
                certificate, key = self._client
                command += ["--client-cert", str(certificate), "--client-key", str(key)]
            yield command + arguments, tuple(descriptors), _environment(settings)

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


def _join(path: str, name: str) -> str:
    name = name.strip("/")
    if not name:
        return path
    return path + name if path.endswith((":", "/")) else f"{path}/{name}"


def _seconds(stamp: str) -> float:
    """RFC 3339, with up to nine digits after the point, as seconds since the epoch."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", stamp)
    if not match:
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = datetime.datetime.fromisoformat(match[1] + zone).timestamp()
    return whole + float(match[2] or 0)


def _environment(settings: destination.Settings) -> dict[str, str]:
    """The environment of rclone: no home, a role's variables, the model's proxy, small buffers."""
    environment = {"GOMEMLIMIT": "64MiB", "GOGC": "50", **dict(settings.environment)}
    # rclone 1.60 refuses every S3 remote when this is set; `Settings.ca` says the same.
    environment.pop("AWS_CA_BUNDLE", None)
    for name in _PROXIES:
        value = os.environ.get(f"JUJU_CHARM_{name}") or os.environ.get(name)
        if value:
            environment[name] = value
    if not re.search(r"^\s*(chunk_size|upload_concurrency)\s*=", settings.config, re.MULTILINE):
        environment.update(_SMALL)
    return environment


@contextlib.contextmanager
def _memory(name: str, text: str) -> Generator[int]:
    """A file in memory, gone with the processes that hold it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text.encode())
        yield descriptor
    finally:
        os.close(descriptor)
