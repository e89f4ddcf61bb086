"""The application's configuration, read once into a frozen value; pure."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, TypeVar

from backup import catalog, destination, schedule
from cluster import view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

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
OFF = ("metrics-port", "backup-bandwidth")
"""Options whose 0 stands for none."""
LOG_LEVELS = ("debug", "info", "warn")
"""Why a member ends that was removed, and that members differ, etcd says by warnings."""
LONGEST_HISTORY = 87600 * 3600  # seconds of auto-compaction-retention; etcd cannot count 300 years
MOST_REVISIONS = 10**12
PROGRESS = (1, 3600)  # seconds between two notes of a watch's progress
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
        backup_remote: an rclone path, "" for none.
        backup_interval: seconds between two backups, 0 off.
        backup_retention: which backups stay, as `backup.schedule.Retention` reads it.
        backup_bandwidth: KiB per second, 0 for no limit.
        s3_encryption: how the related bucket encrypts, `AES256` or `aws:kms`, "" as it does.
        s3_kms_key: its KMS key, "" for the store's own.
        cluster_name: folder on the remote, "" for one made of model and application.
        trust_client_authority: clients of the authority on `certificates` are believed, too.
        recover_quorum_loss: see `cluster.view.Policy`.
        recover_total_loss: see `cluster.view.Policy`.
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
    backup_remote: str = ""
    backup_interval: float = 3600.0
    backup_retention: str = "last=24 hourly=24 daily=7 weekly=4 monthly=12"
    backup_bandwidth: int = 0
    s3_encryption: str = ""
    s3_kms_key: str = ""
    cluster_name: str = ""
    trust_client_authority: bool = False
    recover_quorum_loss: bool = False
    recover_total_loss: bool = False

    @classmethod
    def parse(cls, raw: Mapping[str, bool | int | float | str]) -> Settings:
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
            backup_remote=str(raw.get("backup-remote", "")),
            backup_interval=_scheduled(raw, "backup-interval", schedule.interval),
            backup_retention=str(raw["backup-retention"]),
            backup_bandwidth=_number(raw, "backup-bandwidth"),
            s3_encryption=str(raw.get("s3-encryption", "")).strip(),
            s3_kms_key=str(raw.get("s3-kms-key-id", "")).strip(),
            cluster_name=str(raw.get("cluster-name", "")),
            trust_client_authority=bool(raw.get("trust-client-authority", False)),
            recover_quorum_loss=bool(raw.get("recover-quorum-loss", False)),
            recover_total_loss=bool(raw.get("recover-total-loss", False)),
        )
        _scheduled(raw, "backup-retention", schedule.Retention.parse)
        _scheduled(raw, "cluster-name", lambda name: catalog.folder(cluster_name=name or "x"))
        _refuse_shared_port(settings)
        problem = destination.encryption_problem(settings.s3_encryption, settings.s3_kms_key)
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
    def policy(self) -> view.Policy:
        """The part that membership policy reads."""
        return view.Policy(
            recover_quorum_loss=self.recover_quorum_loss,
            recover_total_loss=self.recover_total_loss,
        )


def _refuse_shared_port(settings: Settings) -> None:
    ports = {"port": settings.port, "peer-port": settings.peer_port}
    ports["metrics-port"] = settings.metrics_port
    for (one, first), (other, second) in itertools.combinations(ports.items(), 2):
        if first == second:
            raise SettingsError(f"{one} and {other} are both {first}: choose two ports")


def _scheduled(
    raw: Mapping[str, bool | int | float | str], key: str, read: Callable[[str], T]
) -> T:
    try:
        return read(str(raw.get(key, "")))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _number(raw: Mapping[str, bool | int | float | str], key: str) -> int:
    value, (low, high) = raw[key], RANGES[key]
    whole = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if low <= whole <= high or (whole == 0 and key in OFF):
        return whole
    none = ", or to 0 for none" if key in OFF else ""
    raise SettingsError(f"{key} is {value}: set it to a whole number from {low} to {high}{none}")


def _one_of(
    raw: Mapping[str, bool | int | float | str], key: str, choices: tuple[str, ...]
) -> str:
    value = str(raw[key])
    if value not in choices:
        words = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise SettingsError(f"{key} is {value!r}: set it to {words}")
    return value


def _progress(raw: Mapping[str, bool | int | float | str]) -> int:
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
