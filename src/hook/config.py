"""The application's configuration, read once into a frozen value; pure."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import ipaddress
import itertools
import json
import re
import shlex
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from backup import catalog as catalogs
from backup import remote_settings, schedule
from cluster import view as views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
Value: TypeAlias = "bool | int | float | str"
Raw: TypeAlias = "Mapping[str, Value]"

RANGES: Mapping[str, tuple[int, int]] = {
    "port": (1024, 65535),
    "peer-port": (1024, 65535),
    "metrics-port": (1024, 65535),
    "heartbeat-interval": (10, 10_000),
    "election-timeout": (50, 50_000),
    "quota-backend-bytes": (64 * 1024**2, 64 * 1024**3),
    "max-request-bytes": (64 * 1024, 10 * 1024**2),
    "max-txn-ops": (1, 65536),
    "snapshot-count": (1, 1_000_000),
    "backup-bandwidth": (1, 10_000_000),
}
"""What a whole number may be, by option; `config.yaml` says the same."""
ETCD: Mapping[str, str] = {
    "port": "port",
    "peer-port": "peer_port",
    "heartbeat-interval": "heartbeat_ms",
    "election-timeout": "election_ms",
    "quota-backend-bytes": "quota_bytes",
    "auto-compaction-mode": "compaction_mode",
    "auto-compaction-retention": "compaction_retention",
    "max-request-bytes": "max_request_bytes",
    "max-txn-ops": "max_txn_ops",
    "snapshot-count": "snapshot_count",
    "watch-progress-notify-interval": "watch_progress",
    "log-level": "log_level",
    "tls-min-version": "tls_min_version",
}
"""Options that etcd is told at its start, and their attributes."""
OFF = ("metrics-port", "backup-bandwidth")
"""Options whose 0 stands for none."""
LOG_LEVELS = ("debug", "info", "warn")
"""Why a member ends that was removed, and that members differ, etcd says by warnings."""
TLS_VERSIONS = ("TLS1.2", "TLS1.3")
LONGEST_HISTORY = 87600 * 3600  # seconds of auto-compaction-retention; etcd cannot count 300 years
MOST_REVISIONS = 10**12
PROGRESS = (1, 3600)  # seconds between two notes of a watch's progress
MOST_SANS = 32
_WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")  # of a host name
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]{1,9}[hms]){1,3}")


class SettingsError(Exception):
    """A value that cannot be used; the text is the sentence for `juju status`."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the operator chose.

    Attributes:
        port: client port.
        peer_port: peer port.
        metrics_port: port of the metrics on loopback, 0 for none.
        heartbeat_ms: raft heartbeat, milliseconds.
        election_ms: raft election timeout, milliseconds.
        quota_bytes: size at which the database stops taking writes.
        compaction_mode: `periodic` or `revision`.
        compaction_retention: as etcd takes it, `0` off.
        max_request_bytes: largest request.
        max_txn_ops: most operations of a transaction.
        snapshot_count: raft entries between two raft snapshots.
        watch_progress: seconds after which an idle watch is told how far it is.
        log_level: one of `LOG_LEVELS`.
        tls_min_version: one of `TLS_VERSIONS`.
        backup_remote: an rclone path, "" for none.
        backup_interval: seconds between two backups, 0 off.
        backup_retention: which backups stay, as `backup.schedule.Retention` reads it.
        backup_bandwidth: KiB per second, 0 for no limit.
        s3_encryption: how the related bucket encrypts, `AES256` or `aws:kms`, "" as it does.
        s3_kms_key: its KMS key, "" for the store's own.
        cluster_name: folder on the remote, "" for one made of model and application.
        extra_sans: further names and addresses of the servers' certificates, see `sans`.
        trust_client_authority: clients of the authority on `certificates` are believed, too.
        recover_quorum_loss: see `cluster.view.Policy`.
        recover_total_loss: see `cluster.view.Policy`.
        raw: the options as Juju has them.
        problem: why other values are in use than Juju has, one sentence, "" when they are not.
        wanted: fingerprint of what Juju has.
    """

    port: int = 2379
    peer_port: int = 2380
    metrics_port: int = 2381
    heartbeat_ms: int = 100
    election_ms: int = 1000
    quota_bytes: int = 8 * 1024**3
    compaction_mode: str = "periodic"
    compaction_retention: str = "0"
    max_request_bytes: int = 1536 * 1024
    max_txn_ops: int = 128
    snapshot_count: int = 10_000
    watch_progress: int = 5
    log_level: str = "info"
    tls_min_version: str = "TLS1.2"
    backup_remote: str = ""
    backup_interval: float = 3600.0
    backup_retention: str = "last=24 hourly=24 daily=7 weekly=4 monthly=12"
    backup_bandwidth: int = 0
    s3_encryption: str = ""
    s3_kms_key: str = ""
    cluster_name: str = ""
    extra_sans: tuple[str, ...] = ()
    trust_client_authority: bool = False
    recover_quorum_loss: bool = False
    recover_total_loss: bool = False
    raw: Raw = dataclasses.field(default_factory=dict[str, Value], compare=False, repr=False)
    problem: str = dataclasses.field(default="", compare=False)
    wanted: str = dataclasses.field(default="", compare=False)

    @classmethod
    def parse(cls, raw: Raw) -> Settings:
        """Read `config-get`'s answer.

        Raises:
            SettingsError: a value is out of range, or two exclude each other.
        """
        settings = cls(
            port=_number(raw, "port"),
            peer_port=_number(raw, "peer-port"),
            metrics_port=_number(raw, "metrics-port"),
            heartbeat_ms=_number(raw, "heartbeat-interval"),
            election_ms=_number(raw, "election-timeout"),
            quota_bytes=_number(raw, "quota-backend-bytes"),
            compaction_mode=_one_of(raw, "auto-compaction-mode", ("periodic", "revision")),
            compaction_retention=str(raw["auto-compaction-retention"]),
            max_request_bytes=_number(raw, "max-request-bytes"),
            max_txn_ops=_number(raw, "max-txn-ops"),
            snapshot_count=_number(raw, "snapshot-count"),
            watch_progress=_progress(raw),
            log_level=_one_of(raw, "log-level", LOG_LEVELS),
            tls_min_version=_one_of(raw, "tls-min-version", TLS_VERSIONS),
            backup_remote=str(raw.get("backup-remote", "")),
            backup_interval=_scheduled(raw, "backup-interval", schedule.interval),
            backup_retention=str(raw["backup-retention"]),
            backup_bandwidth=_number(raw, "backup-bandwidth"),
            s3_encryption=str(raw.get("s3-encryption", "")).strip(),
            s3_kms_key=str(raw.get("s3-kms-key-id", "")).strip(),
            cluster_name=str(raw.get("cluster-name", "")),
            extra_sans=_extra_sans(str(raw.get("certificate-extra-sans", ""))),
            trust_client_authority=bool(raw.get("trust-client-authority", False)),
            recover_quorum_loss=bool(raw.get("recover-quorum-loss", False)),
            recover_total_loss=bool(raw.get("recover-total-loss", False)),
            raw={key: value for key, value in raw.items() if key != "rclone-config"},
            wanted=_fingerprint(raw),
        )
        _scheduled(raw, "backup-retention", schedule.Retention.parse)
        _scheduled(raw, "cluster-name", lambda name: catalogs.folder(cluster_name=name or "x"))
        _refuse_shared_port(settings)
        problem = remote_settings.encryption_problem(settings.s3_encryption, settings.s3_kms_key)
        if problem:
            raise SettingsError(f"s3-encryption and s3-kms-key-id cannot be used: {problem}")
        if settings.election_ms < 5 * settings.heartbeat_ms:
            # etcd refuses to start below this (etcd docs, tuning: at least five heartbeats).
            raise SettingsError(
                f"election-timeout is {settings.election_ms} ms, under five heartbeats of "
                f"{settings.heartbeat_ms} ms: set it to {5 * settings.heartbeat_ms} or more"
            )
        _refuse_retention(settings)
        return settings

    @property
    def fingerprint(self) -> str:
        """Tells apart what etcd is told; the same on all units."""
        return _fingerprint(self.raw)

    def sans(self, unit: str, hostname: str) -> tuple[str, ...]:
        """`extra_sans` of one unit.

        Args:
            unit: `etcd/0`.
            hostname: its machine's.
        """
        return tuple(_expanded(each, unit.replace("/", "-"), hostname) for each in self.extra_sans)

    @property
    def usual(self) -> bool:
        """Whether etcd is told what it is told where an operator has chosen nothing."""
        usual = Settings()
        return all(getattr(self, name) == getattr(usual, name) for name in ETCD.values())

    @property
    def policy(self) -> views.Policy:
        """The part that membership policy reads."""
        return views.Policy(
            recover_quorum_loss=self.recover_quorum_loss,
            recover_total_loss=self.recover_total_loss,
        )


def resolve(raw: Raw, agreed: Raw, refused: Mapping[str, str], application: str) -> Settings:
    """What is in use: what Juju has, or what was in use before where that cannot be.

    Args:
        raw: `config-get`'s answer.
        agreed: what all units last ran with, {} where that is not known.
        refused: why etcd cannot start with options, by their fingerprint.
        application: its name.

    Raises:
        SettingsError: the values cannot be used, and none were before.
    """
    try:
        wanted = Settings.parse(raw)
    except SettingsError as error:
        if (kept := _before(raw, agreed)) is None:
            raise
        problem = f"{error}; what was configured before stays in use"
        return dataclasses.replace(kept, problem=problem, wanted=_fingerprint(raw))
    if (why := refused.get(wanted.fingerprint)) is None:
        return wanted
    kept = _before(raw, {key: agreed[key] for key in ETCD if key in agreed})
    if kept is None or kept.fingerprint == wanted.fingerprint:
        raise SettingsError(
            f"etcd cannot start with these options: {why}; nothing was changed: "
            f"choose other values with `juju config {application}`"
        )
    changed = [key for key in ETCD if kept.raw[key] != raw[key]]
    now, back = (_assigned(each, changed) for each in (raw, kept.raw))
    problem = (
        f"etcd cannot start with {now}: {why}; {back} stays in use: choose another value, or run "
        f"`juju config {application} {back}`"
    )
    return dataclasses.replace(kept, problem=problem, wanted=wanted.fingerprint)


def _before(raw: Raw, agreed: Raw) -> Settings | None:
    try:
        return Settings.parse({**raw, **agreed}) if agreed else None
    except SettingsError:
        return None


def _assigned(raw: Raw, keys: Sequence[str]) -> str:
    return " ".join(f"{key}={shlex.quote(str(raw[key]))}" for key in keys)


def _fingerprint(raw: Raw) -> str:
    told = json.dumps({key: raw.get(key) for key in ETCD})
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _refuse_shared_port(settings: Settings) -> None:
    ports = {"port": settings.port, "peer-port": settings.peer_port}
    ports["metrics-port"] = settings.metrics_port
    for (one, first), (other, second) in itertools.combinations(ports.items(), 2):
        if first == second:
            raise SettingsError(f"{one} and {other} are both {first}: choose two ports")


def _scheduled(raw: Raw, key: str, read: Callable[[str], T]) -> T:
    try:
        return read(str(raw.get(key, "")))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _number(raw: Raw, key: str) -> int:
    value, (low, high) = raw[key], RANGES[key]
    whole = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if low <= whole <= high or (whole == 0 and key in OFF):
        return whole
    none = ", or to 0 for none" if key in OFF else ""
    raise SettingsError(f"{key} is {value}: set it to a whole number from {low} to {high}{none}")


def _one_of(raw: Raw, key: str, choices: tuple[str, ...]) -> str:
    value = str(raw[key])
    if value not in choices:
        words = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise SettingsError(f"{key} is {value!r}: set it to {words}")
    return value


def _extra_sans(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(filter(None, re.split(r"[\s,]+", text))))
    wrong = [each for each in words if not _is_san(_expanded(each, "etcd-0", "machine-0"))]
    if wrong or len(words) > MOST_SANS:
        which = f"has {wrong[0]!r}" if wrong else f"has {len(words)} names"
        raise SettingsError(
            f"certificate-extra-sans {which}: set it to at most {MOST_SANS} host names and "
            "addresses, apart by spaces or commas; {unit} and {hostname} may stand in them"
        )
    return words


def _expanded(san: str, unit: str, hostname: str) -> str:
    return san.replace("{unit}", unit).replace("{hostname}", hostname)


def _is_san(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text.strip("[]")))
    labels = text.removeprefix("*.").split(".")
    numbers = all(label.isdigit() for label in labels)  # an address that is none
    return len(text) <= 253 and not numbers and all(map(_WORD.fullmatch, labels))


def _progress(raw: Raw) -> int:
    text, (low, high) = str(raw["watch-progress-notify-interval"]), PROGRESS
    seconds = _seconds(text)
    if seconds is None or not low <= seconds <= high:
        raise SettingsError(
            f"watch-progress-notify-interval is {text!r}: set it to a time such as 5s or 10m, "
            f"from {low}s to {high}s"
        )
    return seconds


def _refuse_retention(settings: Settings) -> None:
    text = settings.compaction_retention
    number = int(text) if re.fullmatch("[0-9]{1,18}", text) else None
    if settings.compaction_mode == "revision":
        if number is None or number > MOST_REVISIONS:
            raise SettingsError(
                f"auto-compaction-retention is {text!r}: with auto-compaction-mode revision, set "
                f"it to a number of revisions up to {MOST_REVISIONS}, or to 0"
            )
        return
    seconds = _seconds(text) if number is None else number * 3600
    if seconds is None or seconds > LONGEST_HISTORY:
        raise SettingsError(
            f"auto-compaction-retention is {text!r}: with auto-compaction-mode periodic, set it "
            f"to hours such as 1, or a time such as 30m, up to {LONGEST_HISTORY // 3600}h, or to 0"
        )


def _seconds(text: str) -> int | None:
    """A time as etcd takes it, `1h30m`; None for anything else."""
    if not _DURATION.fullmatch(text):
        return None
    parts = re.findall("([0-9]+)([hms])", text)
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)
