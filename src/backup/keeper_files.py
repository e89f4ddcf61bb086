"""The two files between the charm and its keeper: what the keeper is told, and what it says."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from typing import TYPE_CHECKING

from backup import catalog as catalogs
from backup import claimant as claimants
from backup import listing as listings
from backup import rclone, rclone_errors, remote_settings, schedule, seal
from machine import codec, files, outside
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = pathlib.Path("/etc/etcd/keeper.json")
REMOTE = pathlib.Path("/etc/etcd/remote.json")
KEYS = pathlib.Path("/etc/etcd/backup-keys.json")
"""What the application seals its manifests with (`backup.seal`)."""
CHOSEN = pathlib.Path("/etc/etcd/remote-chosen.json")
"""The remote that people ask of, there while the keeper still uses the one before."""
REASON = files.MEMORY / "reason"
"""Why this unit shows what it shows: a key of `reasons`, written by the charm."""
STATUS = pathlib.Path("/var/lib/etcd-keeper/status.json")
METRICS_HOST = "127.0.0.1"  # where the keeper serves metrics, over TLS
METRICS_PATH = "/metrics"
_UNPROVEN = 2 * 86400.0  # seconds after which a proof is overdue: one a day is made
_OVERDUE = 600.0  # seconds that retention may take
_REMEMBERED = 86400.0  # seconds that a foreign hand on the keeper's key is told of


def reason() -> str:
    """The key in `reasons.REASONS` of what this unit shows, "" where that is not known."""
    with contextlib.suppress(OSError):
        return outside.printable(REASON.read_text(), 40)
    return ""


def told_reason() -> dict[str, str]:
    """The key of `health` for it, {} where it is not known."""
    told = reason()
    return {"reason": told} if told else {}


@dataclasses.dataclass(frozen=True)
class Config:
    """What the charm tells the keeper; no secrets.

    Attributes:
        unit: `etcd/0`.
        member: `etcd-0`.
        endpoints: client URLs of all members.
        local: client URL of this unit's.
        ca: path of the authority of servers.
        cert: path of the administrator's certificate.
        key: path of its key.
        generation: number of the committed generation.
        token: its token.
        high: highest revision that its record knows of.
        folder: the cluster's folder on the remote.
        interval: seconds between two backups, 0 is off.
        retention: as configured.
        prove_every: prove each such backup, 0 for none.
        workdir: where snapshots wait and are proven, on a disk with room.
        charm_dir: where the charm is, to be woken.
        memory: bytes that a proof may take.
        remote: file with the remote's settings, "" where there is none.
        mark: changes with the content of `remote`, so that a change is seen.
        units: how many units Juju has.
        leads: this unit was Juju's leader in its last hook.
        certificates: when each of this unit's ends, seconds since the epoch.
        certificates_from: when each begins, the same.
        believed: fingerprint of the authorities in `ca`: others want new connections.
        metrics_port: where to serve metrics on loopback, 0 for nowhere.
        tls_min_version: of what serves the metrics, `TLS1.2` or `TLS1.3`.
        keys: file with the application's keys for manifests, "" where there is none.
        application: its name in Juju, "" where an earlier revision of the charm did not tell it.
        model: the model's name.
        model_uuid: its UUID.
        continues: hexadecimal ID of the cluster whose backup this one was founded from.
    """

    unit: str
    member: str
    endpoints: tuple[str, ...]
    local: str
    ca: str
    cert: str
    key: str
    generation: int
    token: str
    folder: str
    interval: float
    retention: str
    prove_every: int = 1
    workdir: str = "/var/lib/etcd-keeper/work"
    charm_dir: str = ""
    memory: int = 1 << 30
    high: int = 0
    remote: str = str(REMOTE)
    mark: str = ""
    units: int = 0
    leads: bool = False
    certificates: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    certificates_from: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    believed: str = ""
    metrics_port: int = 0
    tls_min_version: str = "TLS1.2"
    keys: str = ""
    application: str = ""
    model: str = ""
    model_uuid: str = ""
    continues: str = ""

    def to_json(self) -> str:
        """The file's text."""
        return _CONFIG.to_json(self, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read the file's text.

        Raises:
            ValueError: it is not what the charm writes.
        """
        try:
            return _CONFIG.read_json(text)
        except outside.OutsideError as error:
            raise ValueError(f"the keeper's configuration cannot be used: {error}") from error

    @classmethod
    def read(cls, path: pathlib.Path = CONFIG) -> Config:
        """What the charm told this unit's keeper.

        Raises:
            ValueError: nothing, or nothing that can be used; in one sentence.
        """
        try:
            return cls.from_json(path.read_text())
        except OSError as error:
            raise ValueError(
                f"no backups are configured on this unit: {path} cannot be read"
            ) from error

    def root(self) -> rclone.Remote:
        """The remote that clusters share.

        Raises:
            rclone_errors.RemoteError: there is none, or its settings cannot be read.
        """
        if not self.remote:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CONFIG,
                "no remote is configured: relate s3-credentials or set backup-remote",
            )
        try:
            text = pathlib.Path(self.remote).read_text()
        except OSError as error:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CONFIG, f"{self.remote} cannot be read: {error.strerror}"
            ) from error
        return rclone.Remote(remote_settings.Settings.from_json(text))

    def seals(self) -> seal.Keys:
        """The application's keys for manifests; none where they cannot be read."""
        return keys(pathlib.Path(self.keys)) if self.keys else seal.Keys()

    def catalog(
        self, remote: rclone.Remote, cache: pathlib.Path | None = None
    ) -> catalogs.Catalog:
        """The cluster's folder on a remote."""
        return catalogs.Catalog(remote, self.folder, cache, self.seals())

    @property
    def claimant(self) -> claimants.Claimant:
        """Who wants to write there."""
        return claimants.Claimant(
            self.application, self.model, self.model_uuid, self.token, self.continues
        )

    @property
    def tls(self) -> pem_files.TLSFiles:
        """The administrator's client certificate."""
        return pem_files.TLSFiles(*(pathlib.Path(path) for path in (self.ca, self.cert, self.key)))

    @property
    def own_workdir(self) -> pathlib.Path:
        """The keeper's part of `workdir`: actions work beside it."""
        return pathlib.Path(self.workdir, "keeper")

    @property
    def off(self) -> bool:
        """There is nothing to do."""
        return not self.remote or self.interval <= 0


@dataclasses.dataclass(frozen=True)
class Status:
    """What the keeper tells the charm; times in seconds since the epoch, 0 for never.

    Attributes:
        at: when this was written.
        unit: by whom.
        role: `off`, `holder`, `candidate`, or `blind` when etcd or the remote did not answer.
        holder: member that takes the backups, "" for nobody.
        interval: seconds between two backups, as configured.
        count: backups on the remote.
        newest: id of the newest one of this cluster.
        newest_at: when it was taken.
        newest_revision: its revision.
        newest_seconds: how long it took until it was stored.
        revision: the cluster's revision now: the difference is what would be lost.
        proven: id of the newest one that was proven.
        proven_at: when that one was taken.
        next_at: when the next is due.
        unchanged_at: when a backup was last skipped since nothing had changed.
        failures: failed tries in a row.
        error: why the last try failed, "" when it did not.
        proof_error: why the newest proof failed, "" when it did not.
        problems: what is wrong on the remote, one sentence each.
        unsealed: how many of the backups this application did not write, or an earlier charm did.
        foreign: why nothing is written to the folder, "" when it is this application's.
        stays: why the store does not delete what retention does not keep, "" when it does.
        overdue: how many backups there are that retention does not keep.
        overdue_at: since when there were any.
        hindered: why no proof could be made, which is no fault of the backup; "" when one could.
        full: etcd takes no writes: backups are taken without the key that elects who takes them.
        usurper: what a client had written to the key that elects the holder, quoted.
        usurped_at: when that was found and taken over.
    """

    at: float = 0.0
    unit: str = ""
    role: str = "off"
    holder: str = ""
    interval: float = 0.0
    count: int = 0
    newest: str = ""
    newest_at: float = 0.0
    newest_revision: int = 0
    newest_seconds: float = 0.0
    revision: int = 0
    proven: str = ""
    proven_at: float = 0.0
    next_at: float = 0.0
    unchanged_at: float = 0.0
    failures: int = 0
    error: str = ""
    proof_error: str = ""
    problems: tuple[str, ...] = ()
    unsealed: int = 0
    foreign: str = ""
    stays: str = ""
    overdue: int = 0
    overdue_at: float = 0.0
    hindered: str = ""
    full: bool = False
    usurper: str = ""
    usurped_at: float = 0.0

    def to_json(self) -> str:
        """The file's text."""
        return _STATUS.to_json(self, indent=1)

    @classmethod
    def read(cls, path: pathlib.Path = STATUS) -> Status:
        """What the keeper of this unit said last; an empty one when it said nothing."""
        try:
            return _STATUS.read_json(path.read_text())
        except (OSError, ValueError):
            return cls()

    def covered_at(self, now: float) -> float:
        """Every write before this moment is in a backup; 0 when nobody knows."""
        return schedule.last((self.newest_at, self.unchanged_at), now) or 0.0

    @property
    def worst_case(self) -> float:
        """Seconds of writes that a loss of everything may cost, as configured and measured."""
        return self.interval + self.newest_seconds

    def trouble(self, now: float) -> str:
        """The sentence for `juju status`, "" while backups are as they should be."""
        if self.role == "off" or not self.interval:
            return ""
        if self.foreign:
            return f"Backups are not taken: {self.foreign}"
        if self.newest_at > now + schedule.SKEW:
            return (
                f"The newest backup lies {listings.duration(self.newest_at - now)} in the future: "
                f"set the clock of this unit, or of the one that took {self.newest}"
            )
        covered = self.covered_at(now)
        late = now - covered > 2 * self.interval + max(2 * self.newest_seconds, 60.0)
        if self.error and (late or self.failures >= 3):
            return f"Backups fail: {self.error}"
        if self.proof_error:
            return f"The newest backup is not proven: {self.proof_error}"
        if covered and late:
            return f"The newest backup is {_age(now, self.newest_at)} old"
        if self.proven_at and now - self.proven_at > 2 * self.interval + _UNPROVEN:
            why = f": {self.hindered}" if self.hindered else ""
            return f"The newest proven backup is {_age(now, self.proven_at)} old{why}"
        if self.stays:
            return f"Old backups stay: {self.stays}"
        return ""

    def words(self, now: float) -> str:
        """One sentence for people, as `health` says it."""
        if self.role == "off":
            return "Backups are off"
        if not self.newest and self.role == "candidate" and self.holder:
            return f"{self.holder} takes the backups; this unit has seen none on the remote so far"
        if not self.newest:
            return "No backup yet" + (f": {self.error}" if self.error else "")
        text = f"Newest backup {_age(now, self.newest_at)} old"
        lag = self.revision - self.newest_revision
        if self.revision and lag >= 0 and self.role != "blind":  # which does not see etcd
            text += f", {lag} revisions behind" if lag else ", nothing was written since"
        proven = f"{_age(now, self.proven_at)} old" if self.proven else "none"
        text += (
            f"; newest proven {proven}; at most {listings.duration(self.worst_case)} can be lost"
        )
        return "; ".join([text, *self._remarks(now)])

    def _remarks(self, now: float) -> Iterator[str]:
        """What else an operator should know."""
        if self.foreign:
            yield self.foreign
        if self.full:
            yield "etcd takes no writes (NOSPACE): backups go on without the keeper's key"
        if self.hindered:
            yield f"the last proof could not be made: {self.hindered}"
        if self.stays or (self.overdue and now - self.overdue_at > _OVERDUE):
            why = self.stays or "the store holds them locked, or does not let them be deleted"
            yield f"{self.overdue} backups stay that backup-retention does not keep: {why}"
        if self.unsealed:
            yield (
                f"{self.unsealed} of {self.count} backups are not authenticated by this "
                "application: recover-total-loss does not use them"
            )
        if self.usurper and now - self.usurped_at < _REMEMBERED:
            ago = _age(now, self.usurped_at)
            yield (
                f"a client wrote {self.usurper} to the keeper's key, which took it back {ago} ago"
            )


def keys(path: pathlib.Path = KEYS) -> seal.Keys:
    """The keys that the charm wrote there; none where they cannot be read."""
    try:
        return seal.Keys.from_json(path.read_text())
    except (OSError, ValueError):
        return seal.Keys()


def _age(now: float, at: float) -> str:
    """How old something is; a time in the future is a fault, and no age."""
    if at > now + schedule.SKEW:
        return f"{listings.duration(at - now)} in the future (a clock is wrong), not"
    return listings.duration(max(now - at, 0.0))


_TOLD = codec.Form(told=True, count=100_000)  # a problem for each object of a remote
_CONFIG = codec.Codec(Config)
_STATUS = codec.Codec(
    Status,
    dict.fromkeys(("error", "proof_error", "problems", "foreign", "stays", "hindered"), _TOLD),
)
