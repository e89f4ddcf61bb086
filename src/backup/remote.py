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
import enum
import hashlib
import json
import os
import pathlib
import re
import secrets
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import configparser

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0 when unknown), about once a second."""

_SHORT = 90.0  # seconds: a request that moves no more than a few kilobytes
_STALL = 300.0  # seconds without one byte moved, after which a transfer is given up
_CONNECT = "15s"
_IDLE = "60s"
_LIMIT = 1 << 20
_ATTEMPTS = 4  # connections for one download

_PASSED = ("AWS_", "AZURE_", "GOOGLE_", "OS_")
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


class Kind(enum.Enum):
    """What is wrong, for callers that decide by it."""

    UNREACHABLE = "unreachable"
    READ_ONLY = "read-only"
    FULL = "full"
    CREDENTIALS = "credentials"
    CA = "ca"
    NOT_FOUND = "not-found"
    LOST = "lost"
    SERVER = "server"
    CONFIG = "config"
    TIMEOUT = "timeout"
    CORRUPT = "corrupt"
    TOOL = "tool"
    OTHER = "other"


class RemoteError(Exception):
    """A remote did not do what was asked; `str()` is the sentence that an operator reads.

    Attributes:
        kind: what is wrong.
    """

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class Settings:
    """What reaching a remote takes. Holds credentials: write it to 0600 files only.

    Attributes:
        config: an rclone configuration, INI text.
        path: an rclone path, `name:folder`, or an absolute local folder.
        ca: PEM certificates to trust instead of the system's, "" for the system's.
        bandwidth: rclone's `--bwlimit`, bytes per second with a suffix (`10M`), "" for no limit.
        environment: variables for rclone, as a role or the file of a token takes them.
    """

    config: str = dataclasses.field(repr=False)
    path: str
    ca: str = dataclasses.field(default="", repr=False)
    bandwidth: str = ""
    environment: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse what rclone could never use, or what would put a secret on a command line.

        Raises:
            RemoteError: of kind CONFIG.
        """
        problem = _problem(self)
        if problem:
            raise RemoteError(Kind.CONFIG, problem)

    @property
    def fingerprint(self) -> str:
        """Changes whenever anything here does, and tells nothing about it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """All of it, credentials included."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote.

        Raises:
            RemoteError: of kind CONFIG.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                config=str(raw["config"]),
                path=str(raw["path"]),
                ca=str(raw.get("ca", "")),
                bandwidth=str(raw.get("bandwidth", "")),
                environment=tuple((str(k), str(v)) for k, v in raw.get("environment", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteError(
                Kind.CONFIG, "the remote's settings on this unit cannot be read"
            ) from error


@dataclasses.dataclass(frozen=True)
class S3:
    """What the `s3` interface tells, typed.

    Attributes:
        bucket: its name.
        access_key: access key ID; "" with `secret_key` "" takes a role from the environment.
        secret_key: secret access key.
        endpoint: URL, "" for AWS.
        region: "" for the endpoint's default.
        path: folder in the bucket, "" for its root.
        uri_style: `path` or `host`.
        storage_class: "" for the bucket's default.
        ca_chain: PEM certificates of the endpoint's authority, empty for the system's.
    """

    bucket: str
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    endpoint: str = ""
    region: str = ""
    path: str = ""
    uri_style: str = "path"
    storage_class: str = ""
    ca_chain: tuple[str, ...] = dataclasses.field(default=(), repr=False)


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


def from_s3(s3: S3, bandwidth: str = "") -> Settings:
    """Settings for a bucket that a relation describes.

    Raises:
        RemoteError: of kind CONFIG.
    """
    if not s3.bucket:
        raise RemoteError(Kind.CONFIG, "the s3 relation names no bucket")
    if s3.uri_style not in ("", "path", "host"):
        raise RemoteError(
            Kind.CONFIG, f"the s3 relation asks for uri style {s3.uri_style!r}: not path or host"
        )
    amazon = not s3.endpoint or "amazonaws.com" in s3.endpoint
    options = {
        "type": "s3",
        "provider": "AWS" if amazon else "Other",
        "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key,
        "env_auth": "false" if s3.access_key else "true",
        "endpoint": s3.endpoint.rstrip("/"),
        "region": s3.region or "us-east-1",
        "force_path_style": "false" if s3.uri_style == "host" else "true",
        "storage_class": s3.storage_class,
        # Asking for the bucket on every upload needs rights that a good policy does not give.
        "no_check_bucket": "true",
        # The manifest's SHA-256 guards the whole; each part still carries its own MD5.
        "disable_checksum": "true",
    }
    lines = ["[s3]"]
    for key, value in options.items():
        if _unwritable(value):
            raise RemoteError(Kind.CONFIG, f"the s3 relation's {key} has characters not allowed")
        if value:
            lines.append(f"{key} = {value}")
    folder = s3.path.strip("/")
    return Settings(
        config="\n".join(lines) + "\n",
        path=f"s3:{s3.bucket}" + (f"/{folder}" if folder else ""),
        ca="\n".join(part.strip() for part in s3.ca_chain if part.strip()),
        bandwidth=bandwidth,
    )


def from_config(
    path: str,
    config: str,
    bandwidth: str = "",
    environment: str = "",
) -> Settings:
    """Settings for any rclone remote: `backup-remote` and `rclone-config` as configured.

    Args:
        path: an rclone path.
        config: an rclone configuration.
        bandwidth: as in `Settings`.
        environment: lines of `NAME=value`.

    Raises:
        RemoteError: of kind CONFIG.
    """
    lines = [line.strip() for line in environment.splitlines() if line.strip()]
    return Settings(
        config=config.replace("\r\n", "\n"),
        path=path.strip(),
        bandwidth=bandwidth.strip(),
        environment=tuple((k.strip(), v.strip()) for k, _, v in (x.partition("=") for x in lines)),
    )


class Remote:
    """A folder on a remote."""

    def __init__(
        self,
        settings: Settings,
        binary: pathlib.Path | None = None,
        client: tuple[pathlib.Path, pathlib.Path] | None = None,
    ) -> None:
        """Prepare to reach a remote; nothing is sent.

        Args:
            settings: where it is and how to enter.
            binary: rclone, by default the one on PATH.
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
        except RemoteError as error:
            if error.kind is not Kind.NOT_FOUND or not self._make_bucket():
                raise
            self.put_bytes(name, content)
        try:
            back = self.get_bytes(name)
        except RemoteError as error:
            raise RemoteError(
                error.kind, f"{self.words} takes objects but does not give them back: {error}"
            ) from error
        if back != content:
            raise RemoteError(Kind.CORRUPT, f"{self.words} gives back other bytes than it took")
        try:
            self.delete(name)
        except RemoteError as error:
            raise RemoteError(
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
            stdout=subprocess.DEVNULL,
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
                        raise RemoteError(
                            Kind.CORRUPT,
                            f"{name} on {self.words} ends after {got} of {size} bytes",
                        )
                    break
                except RemoteError as error:
                    if error.kind not in _PASSING or attempt == _ATTEMPTS:
                        raise
                    time.sleep(min(2.0 ** (attempt - 1), 8.0))
            got = os.fstat(target.fileno()).st_size
            if size is not None and got > size:
                target.truncate(0)
                raise RemoteError(
                    Kind.CORRUPT, f"{name} on {self.words} is longer than its {size} bytes"
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
            raise RemoteError(Kind.NOT_FOUND, f"{self.words} has no {name}")

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
        except RemoteError as error:
            if error.kind is Kind.NOT_FOUND:
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
            raise RemoteError(
                Kind.OTHER, f"the listing of {self.words} cannot be understood"
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
        except RemoteError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.CORRUPT):
                raise

    def delete(self, name: str) -> bool:
        """Delete one object; False when there was none.

        Raises:
            RemoteError: what is wrong, in one sentence.
        """
        try:
            self._run(["deletefile", self._path(name)])
        except RemoteError as error:
            if error.kind is Kind.NOT_FOUND:
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
        name = self.settings.path.partition(":")[0]
        parser = _parsed(self.settings.config)
        if parser is None or parser.get(name, "type", fallback="") != "s3":
            return
        with contextlib.suppress(RemoteError):
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
                done = subprocess.run(
                    command,
                    input=data if data is not None else b"",
                    capture_output=True,
                    pass_fds=descriptors,
                    env=environment,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise RemoteError(
                    Kind.TIMEOUT, f"{self.words} did not answer within {timeout:.0f} s"
                ) from error
            except OSError as error:
                raise self._no_tool(error) from error
        if done.returncode:
            raise self._error(done.returncode, done.stderr.decode(errors="replace"))
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
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=subprocess.PIPE,
                    pass_fds=descriptors,
                    env=environment,
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
            raise self._error(code, said)

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
                        stats, words = _heard(line.decode(errors="replace"))
                        counted = counted if stats is None else stats
                        last = (last + "\n" + words)[-8000:] if words else last
                now = time.monotonic()
                done = moved() if moved else counted
                if done != before:
                    alive, before = now, done
                    tell(done)
                if now - alive > _STALL:
                    raise RemoteError(
                        Kind.LOST, f"{self.words} moved no byte for {_STALL:.0f} s: given up"
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

    def _no_tool(self, error: OSError) -> RemoteError:
        return RemoteError(Kind.TOOL, f"rclone cannot be run on this unit: {error.strerror}")

    def _error(self, code: int, said: str) -> RemoteError:
        kind, reason = classify(code, said)
        return RemoteError(
            kind, f"{self.words} {_PHRASES[kind]}{_scrub(reason, self.settings.config)}"
        )


_PASSING = {Kind.LOST, Kind.SERVER, Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OTHER}
"""What may be over at the next try."""


def rclone() -> pathlib.Path:
    """The rclone to run.

    Raises:
        RemoteError: of kind TOOL, when there is none.
    """
    found = shutil.which("rclone")
    if not found:
        raise RemoteError(Kind.TOOL, "rclone is not installed on this unit")
    return pathlib.Path(found)


# First match wins: specific causes stand before the general words that accompany them.
_CAUSES: tuple[tuple[Kind, str], ...] = (
    (Kind.CA, r"x509:|certificate (is|has|signed)|unknown authority|tls: .*certificate"),
    (Kind.CA, r"server gave HTTP response to HTTPS|first record does not look like a TLS"),
    (Kind.FULL, r"no space left|quota ?exceeded|insufficient ?storage|disk quota|\b507\b"),
    (
        Kind.FULL,
        r"storage ?full|over ?quota|not enough space|too big for remaining disk|XMinioStorageFull",
    ),
    (Kind.CONFIG, r"didn't find section|couldn't find type|unknown backend|can't be blank"),
    (Kind.CONFIG, r"unable to decrypt configuration|Failed to (load|parse) config|unknown flag"),
    (
        Kind.CONFIG,
        r"InvalidBucketName|need (user|pass|bucket|url)|password not set|must be set|obscure",
    ),
    (Kind.CREDENTIALS, r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken"),
    (Kind.CREDENTIALS, r"NoCredentialProviders|no valid credential|unable to authenticate"),
    (Kind.CREDENTIALS, r"\b401\b|Unauthorized|invalid_grant|Login incorrect|bad credentials"),
    (Kind.READ_ONLY, r"read-only|permission denied|MethodNotAllowed|\b405\b|AccessDenied"),
    (Kind.READ_ONLY, r"\b403\b|Forbidden"),
    (Kind.CORRUPT, r"corrupted on transfer|failed to authenticate decrypted|bad magic|BadDigest"),
    (Kind.UNREACHABLE, r"connection refused|no such host|no route to host|network is unreach"),
    (Kind.UNREACHABLE, r"dial tcp|server misbehaving|lookup .* on |couldn't connect"),
    (Kind.LOST, r"connection reset|unexpected EOF|\bEOF\b|broken pipe|use of closed network"),
    (Kind.LOST, r"i/o timeout|timeout awaiting|deadline exceeded|connection (was )?closed"),
    (Kind.LOST, r"Incomplete ?Body|RequestTimeout"),
    (Kind.SERVER, r"\b50[0234]\b|SlowDown|ServiceUnavailable|InternalError"),
    (Kind.NOT_FOUND, r"NoSuchBucket|NoSuchKey|not found|doesn't exist|no such file|\b404\b"),
)

_NUMBERS = re.compile(r"status code: \d+, request id: ")
"""Begins the line below the cause in which older clients of S3 give a request's numbers."""

_PHRASES = {
    Kind.UNREACHABLE: "cannot be reached: ",
    Kind.READ_ONLY: "does not permit this: ",
    Kind.FULL: "is full: ",
    Kind.CREDENTIALS: "refuses the credentials: ",
    Kind.CA: "cannot be trusted, its certificate does not fit the authorities given: ",
    Kind.NOT_FOUND: "does not have it: ",
    Kind.LOST: "broke the connection off: ",
    Kind.SERVER: "fails on its own side: ",
    Kind.CONFIG: "is not configured rightly: ",
    Kind.TIMEOUT: "is too slow: ",
    Kind.CORRUPT: "answers with damaged data: ",
    Kind.TOOL: "cannot be used: ",
    Kind.OTHER: "failed: ",
}


def classify(code: int, said: str) -> tuple[Kind, str]:
    """What rclone's exit code and words mean, and the words cut down to the reason.

    Args:
        code: rclone's exit code (3 and 4: folder, file not found).
        said: what it wrote on standard error, JSON lines or plain ones.
    """
    messages: list[str] = []
    for line in said.splitlines():
        _, words = _heard(line)
        if words:
            messages.append(words)
    text = "\n".join(messages)
    causes = [words for words in messages if not _NUMBERS.match(words)] or messages
    reason = _reason(causes[-1] if causes else f"rclone ended with code {code}")
    for kind, pattern in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return kind, reason
    if code in (3, 4):
        return Kind.NOT_FOUND, reason
    return (Kind.LOST if code == 5 else Kind.OTHER), reason


def _reason(message: str) -> str:
    """The end of rclone's chain of wrapped errors, which is where the cause stands."""
    message = re.sub(r"\s+", " ", message).strip()
    message = re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\w+ +: )?", "", message)
    message = re.sub(r"^Failed to \S+( with \d+ errors)?: (last error was: )?", "", message)
    message = re.sub(
        r"https response error StatusCode: \d+, RequestID: \S*, HostID: \S*,", "", message
    )
    message = re.sub(r"\s+(status code: \d+, )?request id: .*$", "", message)
    return message if len(message) <= 240 else "... " + message[-236:]


def _heard(line: str) -> tuple[int | None, str]:
    """One line of rclone's standard error: bytes moved when it says so, and its message."""
    if not line.startswith("{"):
        return None, line.strip()
    try:
        raw = cast("dict[str, Any]", json.loads(line))
    except ValueError:
        return None, line.strip()
    stats = raw.get("stats")
    if isinstance(stats, dict):
        return int(cast("dict[str, Any]", stats).get("bytes") or 0), ""
    if raw.get("level") in ("info", "debug"):
        return None, ""
    return None, str(raw.get("msg", "")).strip()


def _scrub(text: str, config: str) -> str:
    """`text` without any value of an option that sounds secret."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if re.search(r"key|pass|secret|token|credential|account", key, re.IGNORECASE):
            value = value.strip()
            if len(value) >= 6:
                text = text.replace(value, "***")
    return text


def _problem(settings: Settings) -> str:
    """Why settings cannot be used, "" when nothing speaks against them."""
    path, config = settings.path, settings.config
    if "RCLONE_ENCRYPT_V0" in config:
        return "rclone-config is encrypted: give it in plain text, a Juju secret protects it"
    if _unwritable(path) or path != path.strip():
        return "backup-remote has characters not allowed"
    if settings.bandwidth and not re.fullmatch(
        r"off|\d+(\.\d+)?[bkmgtpBKMGTP]?", settings.bandwidth
    ):
        return f"the bandwidth limit {settings.bandwidth!r} is not a number with B, K, M or G"
    for variable, value in settings.environment:
        if not re.fullmatch(rf"({'|'.join(_PASSED)})[A-Z0-9_]+", variable) or not value:
            return (
                "rclone-config's field environment has a line that is none of AWS_...=, "
                "AZURE_...=, GOOGLE_...=, OS_...= with a value"
            )
    if path.startswith("/"):
        return ""
    if path.startswith(":"):
        return "backup-remote names options in its path: put them in rclone-config instead"
    name, colon, _ = path.partition(":")
    if not colon or not name:
        return f"backup-remote {path!r} is not of the form name:path"
    if "," in name:
        return "backup-remote names options in its path: put them in rclone-config instead"
    names = section_names(config)
    if names is None:
        return "rclone-config is not an rclone configuration: it has no [section] with options"
    if name not in names:
        return f"rclone-config has no section [{name}], which backup-remote names"
    return ""


def section_names(config: str) -> tuple[str, ...] | None:
    """The remotes that an rclone configuration defines, None when it is not one."""
    parser = _parsed(config)
    return None if parser is None else tuple(parser.sections())


def _parsed(config: str) -> configparser.RawConfigParser | None:
    import configparser  # costly, and most remotes come by the relation

    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), allow_no_value=True)
    try:
        parser.read_string(config)
    except configparser.Error:
        return None
    return parser


def _unwritable(value: str) -> bool:
    """Could not stand in rclone's configuration as it is."""
    return bool(re.search(r"[\x00-\x1f\x7f]", value)) or value[:1] in ('"', "`") or "%(" in value


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


def _environment(settings: Settings) -> dict[str, str]:
    """The environment of rclone: no home, a role's variables, the model's proxy, small buffers."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "GOMEMLIMIT": "64MiB",
        "GOGC": "50",
    }
    environment.update({k: v for k, v in os.environ.items() if k.startswith(_PASSED)})
    environment.update(settings.environment)
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
