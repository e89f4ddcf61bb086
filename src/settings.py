"""The application's configuration, read once into a frozen value; pure."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, TypeVar

from backup import catalog, schedule
from cluster import view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
_RETENTION = re.compile(r"\d+|(\d+h)?(\d+m)?(\d+s)?(?<=[hms])")


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
        backup_remote: an rclone path, "" for none.
        backup_interval: seconds between two backups, 0 off.
        backup_retention: which backups stay, as `backup.schedule.Retention` reads it.
        backup_bandwidth: KiB per second, 0 for no limit.
        cluster_name: folder on the remote, "" for one made of model and application.
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
    backup_remote: str = ""
    backup_interval: float = 3600.0
    backup_retention: str = "last=24 hourly=24 daily=7 weekly=4 monthly=12"
    backup_bandwidth: int = 0
    cluster_name: str = ""
    recover_quorum_loss: bool = False
    recover_total_loss: bool = False

    @classmethod
    def parse(cls, raw: Mapping[str, bool | int | float | str]) -> Settings:
        """Read `config-get`'s answer.

        Raises:
            SettingsError: a value is out of range, or two exclude each other.
        """
        settings = cls(
            port=_between(raw, "port", 1, 65535),
            peer_port=_between(raw, "peer-port", 1, 65535),
            metrics_port=_between(raw, "metrics-port", 0, 65535),
            heartbeat_ms=_between(raw, "heartbeat-interval", 10, 10_000),
            election_ms=_between(raw, "election-timeout", 50, 50_000),
            quota_bytes=_between(raw, "quota-backend-bytes", 64 * 1024**2, 64 * 1024**3),
            compaction_mode=str(raw.get("auto-compaction-mode", "periodic")),
            compaction_retention=str(raw.get("auto-compaction-retention", "0")),
            backup_remote=str(raw.get("backup-remote", "")),
            backup_interval=_scheduled(raw, "backup-interval", schedule.interval),
            backup_retention=str(raw["backup-retention"]),
            backup_bandwidth=_between(raw, "backup-bandwidth", 0, 10_000_000),
            cluster_name=str(raw.get("cluster-name", "")),
            recover_quorum_loss=bool(raw.get("recover-quorum-loss", False)),
            recover_total_loss=bool(raw.get("recover-total-loss", False)),
        )
        _scheduled(raw, "backup-retention", schedule.Retention.parse)
        _scheduled(raw, "cluster-name", lambda name: catalog.folder(cluster_name=name or "x"))
        _refuse_shared_port(settings)
        if settings.election_ms < 5 * settings.heartbeat_ms:
            # etcd refuses to start below this (etcd docs, tuning: at least five heartbeats).
            raise SettingsError(
                f"election-timeout is {settings.election_ms} ms, under five heartbeats of "
                f"{settings.heartbeat_ms} ms: set it to {5 * settings.heartbeat_ms} or more"
            )
        if settings.compaction_mode not in ("periodic", "revision"):
            raise SettingsError(
                f"auto-compaction-mode is {settings.compaction_mode!r}: set it to periodic or "
                "revision"
            )
        if not _RETENTION.fullmatch(settings.compaction_retention) or (
            settings.compaction_mode == "revision" and not settings.compaction_retention.isdigit()
        ):
            raise SettingsError(
                f"auto-compaction-retention is {settings.compaction_retention!r}: set it to 0, "
                "hours such as 1 or 30m in periodic mode, or a number of revisions"
            )
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


def _between(raw: Mapping[str, bool | int | float | str], key: str, low: int, high: int) -> int:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(f"{key} is {value}: set it to a whole number from {low} to {high}")
    return value
