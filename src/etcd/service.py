"""The local etcd as a systemd service: its configuration, its unit, its state, why it failed.

Functions that change something answer whether they did. Paths are those of a unit of the charm;
nothing here knows Juju.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, cast

import processes
from cluster import view
from etcd import client, data, errors, files

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT = "etcd.service"
USER = "etcd"
CONFIG = pathlib.Path("/etc/etcd/etcd.conf.yaml")
CLOSED_CONFIG = pathlib.Path("/etc/etcd/etcd-closed.conf.yaml")
GATEWAY = "gateway"
"""Name of what etcd's JSON gateway shows to the client port; its `ca.pem` is who is a client."""
OWN_GATEWAY = (3, 5, 0)
"""From this version on the gateway has a certificate of its own; before, it shows the server's."""
CLOSED_TLS = "founder"
"""Name of the administrator's certificate that an etcd believes which is closed to clients."""
TLS = pathlib.Path("/etc/etcd/tls")
REVOKED = TLS / "revoked.crl"
"""Certificates that etcd refuses: read at every handshake, and believed to be there."""
UNIT_FILE = pathlib.Path("/etc/systemd/system/etcd.service")
STARTED = pathlib.Path("/run/etcd/started")
INSTALLED = pathlib.Path("/usr/local/lib/etcd")  # symlink to the release from the resource
TEMPLATES = pathlib.Path(__file__).resolve().parent.parent / "templates"
HOME = pathlib.Path(__file__).resolve().parents[3]
"""Holds the charm, and goes from the machine with its unit, whoever removes that."""
GRACE = 1.0  # seconds for an etcd to end by itself whose cluster ends with it
STOP_SECONDS = 120  # over 5 s and two elections of 50 s, the longest that etcd allows
CIPHERS = tuple(
    f"TLS_ECDHE_{key}_WITH_AES_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("128_GCM_SHA256", "256_GCM_SHA384")
)
"""What etcd speaks in TLS 1.2, by names that 3.4 to 3.7 know."""
OPENSSL_CIPHERS = "ECDHE+AESGCM"
"""The same for servers of ours."""
GiB = 1024**3


class Initial(enum.Enum):
    """`initial-cluster-state`: whether an empty data directory founds or joins."""

    NEW = "new"
    EXISTING = "existing"


def tls_files(name: str, root: pathlib.Path | None = None) -> client.TLSFiles:
    """The published certificate directory `name` (`peer`, `server`, `client`) of this unit."""
    folder = (root or TLS) / name
    return client.TLSFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def served_tls(root: pathlib.Path | None = None) -> client.TLSFiles:
    """What the client port shows, and the authorities whose clients it believes.

    Who signed what it shows is another matter: an outside authority signs servers, not clients.
    """
    shown = tls_files("server", root)
    return dataclasses.replace(shown, ca=tls_files(GATEWAY, root).ca)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that etcd is told.

    Attributes:
        name: member name, `etcd-0`.
        data_dir: etcd's `--data-dir`.
        version: of the etcd that will read it; chooses the names of some options.
        listen_client_urls: where to serve clients.
        advertise_client_urls: where clients are told to go.
        listen_peer_urls: where to serve peers.
        advertise_peer_urls: where peers are told to go.
        server_tls: what clients see, and the CAs that sign clients.
        gateway_tls: what the JSON gateway shows to the client port, None for what clients see.
        peer_tls: this member among its peers, and their CA.
        token: `initial-cluster-token`.
        initial_cluster: `etcd-0=https://...,etcd-1=https://...`; "" once data exists.
        initial: whether an empty data directory founds or joins.
        heartbeat_ms: milliseconds between heartbeats.
        election_ms: milliseconds without a heartbeat until an election, at least 5 heartbeats.
        quota_bytes: database size that arms the NOSPACE alarm.
        auto_compaction_mode: `periodic` or `revision`.
        auto_compaction_retention: hours or a duration, or a number of revisions; "0" is off.
        snapshot_count: raft entries between two raft snapshots.
        max_request_bytes: largest request.
        max_txn_ops: most operations of a transaction.
        watch_progress: seconds after which an idle watch that asks is told how far it is.
        log_level: debug, info, warn, error.
        gateway: serve the JSON gateway.
        compare: compare the keys with the peers' before serving (initial corruption check).
        metrics_urls: further URLs for metrics and health only; never plaintext.
        revoked: the list of certificates to refuse, None for no list.
    """

    name: str
    data_dir: pathlib.Path
    version: tuple[int, int, int]
    listen_client_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    listen_peer_urls: tuple[str, ...]
    advertise_peer_urls: tuple[str, ...]
    server_tls: client.TLSFiles = dataclasses.field(default_factory=served_tls)
    gateway_tls: client.TLSFiles | None = None
    peer_tls: client.TLSFiles = dataclasses.field(default_factory=lambda: tls_files("peer"))
    token: str = ""
    initial_cluster: str = ""
    initial: Initial = Initial.EXISTING
    heartbeat_ms: int = 100
    election_ms: int = 1000
    quota_bytes: int = 8 * GiB
    auto_compaction_mode: str = "periodic"
    auto_compaction_retention: str = "0"
    snapshot_count: int = 10000
    max_request_bytes: int = 1536 * 1024
    max_txn_ops: int = 128
    watch_progress: int = 5
    log_level: str = "info"
    gateway: bool = True
    metrics_urls: tuple[str, ...] = ()
    compare: bool = True
    revoked: pathlib.Path | None = None

    def __post_init__(self) -> None:
        """Refuse plaintext: there is no road to it."""
        for address in (
            *self.listen_client_urls,
            *self.advertise_client_urls,
            *self.listen_peer_urls,
            *self.advertise_peer_urls,
            *self.metrics_urls,
        ):
            if not address.startswith("https://"):
                raise errors.EtcdError(f"{address} is not an https URL: etcd only serves TLS")


def url(host: str, port: int) -> str:
    """`https://host:port`, an IPv6 address in brackets."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def render(config: Config, force_new_cluster: bool = False) -> str:
    """The configuration file's text.

    Args:
        config: what to say.
        force_new_cluster: start a one-member cluster from existing data; for copies only.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values |= {
        "data_dir": str(config.data_dir),
        "initial": config.initial.value,
        "gates": [
            f"InitialCorruptCheck={str(config.compare).lower()}",
            "CompactHashCheck=true",
            "StopGRPCServiceOnDefrag=true",
        ],
        "ciphers": CIPHERS,
        "own_gateway": OWN_GATEWAY,
        "force_new_cluster": force_new_cluster,
        "revoked": config.revoked and str(config.revoked),
    }
    return _template("etcd.conf.yaml.j2").render(values)


def ensure_config(config: Config) -> bool:
    """Write the configuration, and the one for data that is closed to clients.

    Returns:
        Whether anything changed. A running etcd does not notice.
    """
    CONFIG.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    wrote = files.write(CLOSED_CONFIG, render(closed_to_clients(config)), 0o644)
    return files.write(CONFIG, render(config), 0o644) or wrote


def closed_to_clients(config: Config) -> Config:
    """The same, but the client port is the peers': their authority signed no client's certificate.

    It shows the peer certificate, with which etcd's gateway then dials etcd itself.
    """
    return dataclasses.replace(config, server_tls=config.peer_tls, gateway_tls=None, gateway=True)


def is_closed() -> bool:
    """Whether the current data of this unit is closed to clients."""
    root = unit_root()
    with contextlib.suppress(OSError):
        return root is not None and data.Root(root).is_closed()
    return False


def open_to_clients(root: data.Root, wait: float = 0.0) -> bool:
    """Let clients reach the data of this unit, now and from now on; True when they could not.

    What they are told is taken back where the charm rolls the cluster back after all.

    Args:
        root: this unit's data root.
        wait: seconds for etcd to be ready again.
    """
    if not root.is_closed():
        return False
    # Stopped first: whoever dies in between leaves an etcd that the charm starts again.
    ran = stop(last=True)
    root.open()
    if ran:
        start(wait)
    return True


def ensure_unit(data_root: pathlib.Path) -> bool:
    """Write the systemd unit and let systemd read it; True when it changed.

    Args:
        data_root: the only place that etcd may write to.
    """
    text = _template("etcd.service.j2").render(
        data_root=data_root,
        home=HOME,
        fenced=data.FENCED,
        closed=data_root / "current" / data.CLOSED,
        config=CONFIG,
        closed_config=CLOSED_CONFIG,
        user=USER,
        command=" ".join(f'"{word}"' if "$" in word else word for word in _command()),
        fingerprint=_fingerprint_command(),
        stop_seconds=STOP_SECONDS,
    )
    changed = files.write(UNIT_FILE, text, 0o644)
    if changed:
        _systemctl("daemon-reload")
    return changed


def _command() -> list[str]:
    """Etcd with an environment of its own; systemd is told by it when it is ready."""
    own = {**environment(), "NOTIFY_SOCKET": "$$NOTIFY_SOCKET"}
    return processes.alone([str(binary("etcd", must_exist=False))], **own)


def environment() -> dict[str, str]:
    """What etcd wants in its environment to run on this machine."""
    wanted = {"aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
    name = wanted.get(os.uname().machine, "")
    return {"ETCD_UNSUPPORTED_ARCH": name} if name else {}


def unit_root() -> pathlib.Path | None:
    """The data root that the unit file lets etcd write to, None without our unit file."""
    with contextlib.suppress(OSError):
        for line in UNIT_FILE.read_text().splitlines():
            if line.startswith("ReadWritePaths="):
                return pathlib.Path(line.partition("=")[2])
    return None


def start(wait: float = 0.0) -> bool:
    """Start etcd, whatever earlier failures systemd counted; True when it was not running.

    Args:
        wait: seconds to wait for it to be ready (to have a quorum); 0 returns at once.
    """
    until = time.monotonic() + wait
    changed = state() is not view.Service.RUNNING
    if changed:
        _systemctl("reset-failed", UNIT, check=False)
        if not wait:
            _systemctl("start", "--no-block", UNIT)
    if wait:
        with contextlib.suppress(errors.ToolError):  # not in time: it goes on starting
            if _systemctl("start", UNIT, timeout=wait, check=False).returncode:
                await_active(until - time.monotonic())  # systemd tries again what failed
    return changed


def stop(*, last: bool = False) -> bool:
    """Stop etcd and wait for its end; True when it ran. etcd hands leadership on, if it can.

    Args:
        last: nobody is to take over. A leader that looks for somebody, until its request timeout,
            is killed after a moment: all that it acknowledged is in its log on the disk.
    """
    changed = state() in (view.Service.RUNNING, view.Service.FAILED)
    if changed and last:
        try:
            _systemctl("stop", UNIT, timeout=GRACE)
        except errors.ToolError:  # not in time
            _systemctl("kill", "--signal=KILL", UNIT, check=False)
    _systemctl("stop", UNIT, timeout=STOP_SECONDS + 30, check=changed)
    _systemctl("reset-failed", UNIT, check=False)
    return changed


def end() -> None:
    """Stop etcd at once, also where systemd does not obey: an older one asks for more rights.

    What its unit's conditions then see keeps it from coming back.
    """
    try:
        stop(last=True)
    except errors.ToolError:
        with contextlib.suppress(ProcessLookupError):
            if pid := int(_properties("MainPID").get("MainPID") or 0):
                os.kill(pid, signal.SIGKILL)


def restart(wait: float = 0.0) -> None:
    """Restart etcd with what is on disk now."""
    stop()
    start(wait)


def state() -> view.Service:
    """What systemd says of etcd.

    One that is up but waits for its peers runs; one that was restarted three times without
    becoming ready has failed, as one that systemd gave up on.
    """
    if not binary("etcd", must_exist=False).exists() or not UNIT_FILE.exists():
        return view.Service.ABSENT
    shown = _properties("ActiveState", "NRestarts")
    active, restarts = shown.get("ActiveState", ""), int(shown.get("NRestarts") or 0)
    if active == "failed":
        return view.Service.FAILED
    if active in ("activating", "reloading"):
        return view.Service.FAILED if restarts >= 3 else view.Service.RUNNING
    if active in ("active", "deactivating"):
        return view.Service.RUNNING
    return view.Service.STOPPED


def stale() -> bool:
    """The running etcd was started with another configuration, trust or binary than now on disk.

    Certificates and keys do not count: etcd reads them again at every handshake.
    """
    try:
        started = files.read(STARTED).split()[0]  # etcd's user may put anything there
    except (OSError, ValueError, IndexError):
        return False
    return started != _fingerprint()


def binary(name: str, must_exist: bool = True) -> pathlib.Path:
    """Path of `etcd`, `etcdctl` or `etcdutl`: the resource's release, else the distribution's.

    Raises:
        errors.ToolError: there is none.
    """
    own = INSTALLED / name
    if own.exists():
        return own
    for folder in ("/usr/bin", "/usr/local/bin"):
        if (path := pathlib.Path(folder, name)).exists():
            return path
    if must_exist:
        found = processes.which(name)
        if not found:
            raise errors.ToolError(f"{name} is not installed")
        return found
    return pathlib.Path("/usr/bin", name)


def version(program: pathlib.Path | None = None) -> tuple[int, int, int]:
    """Version of an etcd binary, by default the installed one: (3, 5, 16).

    Raises:
        errors.ToolError: it does not run, or does not say.
    """
    path = program or binary("etcd")
    try:
        details = path.stat()
    except OSError as error:
        raise errors.ToolError(f"{path} cannot be run: {error.strerror}") from error
    return _version(str(path), details.st_mtime_ns, details.st_size)


@functools.lru_cache(maxsize=8)
def _version(path: str, changed_ns: int, size: int) -> tuple[int, int, int]:
    del changed_ns, size  # part of the key: another file is asked again
    completed = _run([path, "--version"])
    match = re.search(r"etcd Version: (\d{1,9})\.(\d{1,9})\.(\d{1,9})", completed.stdout)
    if completed.returncode or not match:
        raise errors.ToolError(
            f"{path} does not say its version", completed.stdout + completed.stderr
        )
    return int(match[1]), int(match[2]), int(match[3])


class FailureKind(enum.Enum):
    """Why etcd does not run."""

    REMOVED = "removed"  # the cluster removed this member: its data is of no use
    CORRUPT = "corrupt"  # the database, or it differs from the peers'
    BAD_WAL = "bad-wal"  # the log cannot be read, or lost entries that were committed
    MISMATCH = "mismatch"  # the initial cluster is not the member list, or is bootstrapped
    FOREIGN = "foreign"  # its peers are of another cluster
    NEWER = "newer"  # the data is of a newer etcd
    DISK_FULL = "disk-full"
    CERTIFICATE = "certificate"
    ADDRESS = "address"  # cannot listen
    MEMORY = "memory"
    OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A reason with the sentence for the operator.

    Attributes:
        differs: how many members etcd found to hold other keys, which says nothing of whose are
            wrong: it gives up for one.
        last_index: the last one of its log by etcd's words, where it was told of later ones.
    """

    kind: FailureKind
    sentence: str
    differs: int = 0
    last_index: int | None = None

    @property
    def data_broken(self) -> bool:
        """No etcd can use the data any more, if the disk says the same (`offline.confirms`)."""
        return not self.differs and self.kind in (
            FailureKind.REMOVED,
            FailureKind.CORRUPT,
            FailureKind.BAD_WAL,
        )


_REASONS: tuple[tuple[str, FailureKind, str], ...] = (
    # First: their errors repeat URLs that others chose.
    (r"member count is unequal|unmatched member while checking PeerURLs|"
     r"error validating peerURLs|couldn't find local name|has different advertised",
     FailureKind.MISMATCH, "the initial cluster differs from the member list"),
    (r"permanently removed from the cluster", FailureKind.REMOVED,
     "the cluster removed this member"),
    (r"no space left on device", FailureKind.DISK_FULL, "the disk is full"),
    (r"oom-kill|killed by the OOM killer", FailureKind.MEMORY, "the machine ran out of memory"),
    (r"bind: address already in use", FailureKind.ADDRESS,
     "another program listens on etcd's port"),
    (r"cannot assign requested address", FailureKind.ADDRESS,
     "the address to listen on is not one of this machine"),
    (r"cannot be downgraded|is lower than determined cluster version|"
     r"invalid downgrade|storage version.*(?:higher|unsupported)", FailureKind.NEWER,
     "the data was written by a newer etcd than the one installed"),
    (r"has already been bootstrapped", FailureKind.MISMATCH,
     "a member of this name and address was founded before"),
    (r"permission denied", FailureKind.OTHER,
     "the etcd user may not read or write one of its files"),
    (r"another etcd process is using", FailureKind.OTHER,
     "another etcd process uses the same data"),
    (r"data inconsistency|checkInitialHashKV failed|alarm raised.*\bCORRUPT\b|"
     r"corruption check failed|invalid database|freepages: |"
     r"[Pp]age expected to be|unexpected page type|"
     r"page \d+: (?:multiple references|already freed|unreachable)|"
     r"failed to open (?:database|backend)|failed to recover v3 backend|"
     r"failed to find database snapshot|file size too small|checksum error|SIGBUS|"
     r"snap: (?:crc mismatch|empty snapshot)|failed to unmarshal",
     FailureKind.CORRUPT, "its database is corrupt"),
    (r"crc mismatch|failed to (?:open|read|repair|create) WAL|wal: |walpb|tocommit\(|"
     r"cannot be repaired|Was the raft log corrupted|unexpected EOF.*wal",
     FailureKind.BAD_WAL, "its write-ahead log cannot be used"),
    (r"cluster ID mismatch", FailureKind.FOREIGN, "its peers belong to another cluster"),
    (r"private key does not match|failed to find any PEM data|x509: |"
     r"open \S*\.(?:pem|crt|key): |no such file or directory.*\.pem|tls: failed",
     FailureKind.CERTIFICATE, "its certificates cannot be used"),
)  # fmt: skip


_REMOVED = "the member has been permanently removed from the cluster"
_COMPARED = re.compile(r"data inconsistency|checkInitialHashKV failed")
_BEHIND = re.compile(r"tocommit\(\d+\) is out of range \[lastIndex\((\d{1,20})\)\]")
_DYING = ("panic: ", "fatal error: ", "unexpected fault address", "[signal ")
_KILLED = re.compile(r"etcd\.service: .*(oom-kill|killed by the OOM killer)")


def reason(lines: Sequence[str]) -> Failure | None:
    """What etcd died of by its last log lines (zap's JSON), None when they do not say.

    Only its own last words count: what strangers send stands in the fields of other lines.
    """
    fallback = ""
    for line in reversed(lines):
        text = _last_words(line)
        if not text:
            continue
        for pattern, kind, sentence in _REASONS:
            if re.search(pattern, text):
                return _failure(kind, sentence, text, lines)
        fallback = fallback or text
    return Failure(FailureKind.OTHER, _printable(fallback)) if fallback else None


def _failure(kind: FailureKind, sentence: str, text: str, lines: Sequence[str]) -> Failure:
    if _COMPARED.search(text) and (differs := _differing(lines)):
        return Failure(kind, "members hold other keys", differs)
    behind = _BEHIND.search(text)
    return Failure(kind, sentence, last_index=int(behind[1]) if behind else None)


def _differing(lines: Sequence[str]) -> int:
    """How many peers etcd says in these lines to hold other keys, by their endpoints."""
    entries = (_entry(line) for line in lines)
    return len(
        {
            json.dumps(entry.get("remote-peer-endpoints"))
            for entry in entries
            if str(entry.get("msg")).startswith("found different hash values from remote peer")
        }
    )


def _last_words(line: str) -> str:
    """What a line says of etcd's end, "" when it is about anything else.

    zap's message and the error that belongs to it, at a level that etcd does not survive; what
    Go's runtime and systemd print; and how a member ends that was removed, which is a warning.
    """
    entry = _entry(line)
    if not entry:
        return line if line.startswith(_DYING) or _KILLED.match(line) else ""
    message, error = str(entry.get("msg", "")), str(entry.get("error", ""))
    if entry.get("level") in ("fatal", "panic"):
        return f"{message}: {error}" if error else message
    return _REMOVED if (message, error) == ("server error", _REMOVED) else ""


def _entry(line: str) -> dict[str, Any]:
    """A line of zap's JSON, {} when it is none."""
    if not line.startswith("{"):
        return {}
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def why_failed() -> Failure | None:
    """Why etcd ended the last time, from its journal; None when the journal does not tell."""
    completed = _run(
        ["journalctl", "--unit", UNIT, "--output", "cat", "--no-pager", "--lines", "300"],
        timeout=20,
    )
    lines = completed.stdout.splitlines()
    # Only what belongs to the last attempt counts.
    for position in range(len(lines) - 1, -1, -1):
        if lines[position].startswith(("Starting etcd", f"Starting {UNIT}")):
            lines = lines[position:]
            break
    return reason(lines)


def _template(name: str) -> Any:
    import jinja2  # costly, and most hooks render nothing

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML and systemd syntax; strings go through tojson
    )
    return environment.get_template(name)


_FOUNDING = "^initial-"
_COMPARING = "(initial-corrupt-check: |InitialCorruptCheck=)(true|false)"


def _once() -> tuple[pathlib.Path, ...]:
    """Files that etcd reads once, at its start, beside its configuration."""
    return tuple(tls_files(name).ca for name in ("peer", GATEWAY))


def _fingerprint_command() -> str:
    """Shell text, for a systemd unit, that prints what `_fingerprint` answers for file `$c`."""
    trust = " ".join(str(path) for path in _once())
    program = binary("etcd", must_exist=False)
    return (
        f'( sed -E "/{_FOUNDING}/d; s/{_COMPARING}//" $$c; cat {trust}; '
        f'stat -L -c "%%s %%Y" {program} ) 2>/dev/null | sha256sum'
    )


def _fingerprint() -> str:
    """Digest of the configuration, the trusted CAs, and the binary's size and date.

    `initial-*` and whether to compare keys are left out: they are for one start.
    """
    digest = hashlib.sha256()
    config = CLOSED_CONFIG if is_closed() else CONFIG
    with contextlib.suppress(OSError):
        for line in config.read_text().splitlines(keepends=True):
            if not re.match(_FOUNDING, line):
                digest.update(re.sub(_COMPARING, "", line).encode())
    for path in _once():
        with contextlib.suppress(OSError):
            digest.update(path.read_bytes())
    with contextlib.suppress(OSError):
        details = binary("etcd", must_exist=False).stat()
        digest.update(f"{details.st_size} {int(details.st_mtime)}\n".encode())
    return digest.hexdigest()


def _properties(*names: str) -> dict[str, str]:
    shown = _systemctl("show", UNIT, f"--property={','.join(names)}", check=False).stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def await_active(wait: float) -> None:
    """Wait until etcd is ready (has a quorum) or has failed, `wait` seconds at most."""
    until = time.monotonic() + wait
    while time.monotonic() < until:
        if _properties("ActiveState").get("ActiveState") in ("active", "failed"):
            return
        time.sleep(0.1)


def _systemctl(
    *arguments: str, timeout: float = 30.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    completed = _run(["systemctl", *arguments], timeout)
    if check and completed.returncode:
        raise errors.ToolError(
            f"systemctl {' '.join(arguments)} failed", completed.stdout + completed.stderr
        )
    return completed


def _run(arguments: list[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    try:
        return processes.run(arguments, timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.ToolError(f"{arguments[0]} could not be run: {error}") from error
