"""How rclone is run: to its end, or for as long as bytes move.

It gets its configuration in memory, through an open descriptor, and an environment of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import time
from typing import TYPE_CHECKING

from backup import rclone_errors, remote_settings
from machine import processes

if TYPE_CHECKING:
    import pathlib
    import subprocess
    from collections.abc import Callable, Generator

SHORT = 90.0  # seconds: a request that moves no more than a few kilobytes
_STALL = 300.0  # seconds without one byte moved, after which a transfer is given up
_CONNECT = "15s"
_IDLE = "60s"
LIMIT = 1 << 20
_SAID = 64 * 1024  # bytes of rclone's last words
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


class Process:
    """rclone, run for one remote: with its settings, and with nothing else of this machine."""

    def __init__(
        self,
        settings: remote_settings.Settings,
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

    @property
    def words(self) -> str:
        """Where this is, safe to show."""
        return self.settings.path

    def _run(
        self,
        arguments: list[str],
        data: bytes = b"",
        timeout: float = SHORT,
        limit: int = LIMIT,
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
                process = self._start(command, inherited, environment, stdin=stdin)
            try:
                out, said = self._read(process, time.monotonic() + timeout, limit, check)
                code = process.wait(timeout=30)
            except TimeoutError as error:
                raise rclone_errors.RemoteError(
                    rclone_errors.Kind.TIMEOUT,
                    f"{self.words} did not answer within {timeout:.0f} s",
                ) from error
            finally:
                _end(process)
        if code:
            raise self._refusal(code, said.decode(errors="replace"))
        return out

    def _start(
        self,
        command: list[str],
        inherited: tuple[int, ...],
        environment: dict[str, str],
        *,
        stdin: int = processes.DEVNULL,
        stdout: int = processes.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start rclone as `_prepared` has it."""
        try:
            return processes.start(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=processes.PIPE,
                environment=environment,
                descriptors=inherited,
                outside=self._needs_nothing,
            )
        except OSError as error:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.TOOL, f"rclone cannot be run on this unit: {error.strerror}"
            ) from error

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
                    raise rclone_errors.RemoteError(
                        rclone_errors.Kind.CORRUPT,
                        f"{self.words} answers with more than {limit} bytes",
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
            process = self._start(command, inherited, environment, stdout=stdout)
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
                        stats, words = rclone_errors.heard(line.decode(errors="replace"))
                        counted = counted if stats is None else stats
                        last = (last + "\n" + words)[-8000:] if words else last
                now = time.monotonic()
                done = moved() if moved else counted
                if done != before:
                    alive, before = now, done
                    tell(done)
                if now - alive > _STALL:
                    raise rclone_errors.RemoteError(
                        rclone_errors.Kind.LOST,
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
            command = [str(self._binary or binary()), "--config", through(config)]
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
                command += ["--ca-cert", through(ca)]
            for option, path in zip(("cert", "key"), self._client or (), strict=False):
                held = stack.enter_context(_memory(option, path.read_bytes()))
                descriptors.append(held)
                command += [f"--client-{option}", through(held)]
            yield command + arguments, tuple(descriptors), _environment(settings)

    @functools.cached_property
    def _needs_nothing(self) -> bool:
        """Whether rclone needs no folder and no file of this machine: anyone can run it."""
        return not self.settings.folders and not self.settings.files

    def _refusal(self, code: int, said: str) -> rclone_errors.RemoteError:
        return rclone_errors.refusal(self.words, code, said, self.settings.config)


def binary() -> pathlib.Path:
    """The rclone to run.

    Raises:
        RemoteError: of kind TOOL, when there is none.
    """
    found = processes.which("rclone")
    if not found:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.TOOL, "rclone is not installed on this unit"
        )
    return found


def through(descriptor: int) -> str:
    """What the process that inherits it calls an open file or folder."""
    return f"/proc/self/fd/{descriptor}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _environment(settings: remote_settings.Settings) -> dict[str, str]:
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
