#!/usr/bin/env python3
"""etcd-keeper, the resident service of every unit: what must not wait for a hook.

It takes backups on schedule, proves them and thins them out. All units run it; the one that holds
a key in etcd works, a follower where there is one, and when it dies another takes over within
seconds. The charm tells it everything in one file and reads its status from another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import host
from backup import catalog as catalogs
from backup import create, proof, restore, schedule
from backup import remote as remotes
from etcd import client as clients
from etcd import errors, files

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = logging.getLogger("etcd-keeper")

CONFIG = pathlib.Path("/etc/etcd/keeper.json")
REMOTE = pathlib.Path("/etc/etcd/remote.json")
STATUS = pathlib.Path("/var/lib/etcd-keeper/status.json")
CACHE = pathlib.Path("/var/lib/etcd-keeper/manifests")
UNIT = "etcd-keeper.service"
KEY = "/etcd-charm/keeper"
TTL = 15  # seconds after which a dead holder is replaced
_LOOK = 5.0  # seconds between two looks at etcd and at the configuration
_LIST = (60.0, 600.0)  # seconds between two looks at the remote, at least and at most
_PAUSE = 60.0  # seconds at most between two looks while nothing answers
_WRITE = 15.0  # seconds after which numbers that always move are written down
_VACANT = 4 * TTL  # seconds without a holder after which the leader takes it as well
_RECONNECT = 3600.0  # seconds after which certificates are read anew
_ERRORS = (errors.EtcdError, remotes.RemoteError, OSError)


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
        folder: the cluster's folder on the remote.
        interval: seconds between two backups, 0 is off.
        retention: as configured.
        prove_every: prove each such backup, 0 for none.
        workdir: where snapshots wait and are proven, on a disk with room.
        charm_dir: where the charm is, to be woken.
        memory: bytes that a proof may take.
        remote: file with the remote's settings, "" where there is none.
        mark: changes with the content of `remote`, so that a change is seen.
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
    remote: str = str(REMOTE)
    mark: str = ""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read the file's text.

        Raises:
            ValueError: it is not what the charm writes.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            known = {field.name for field in dataclasses.fields(cls)}
            values: dict[str, Any] = {key: raw[key] for key in known if key in raw}
            values["endpoints"] = tuple(raw["endpoints"])
            return cls(**values)
        except (AttributeError, KeyError, TypeError) as error:
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

    def catalog(self, folder: str = "", cache: pathlib.Path | None = None) -> catalogs.Catalog:
        """The backups of this cluster, or of another one on the same remote.

        Raises:
            remotes.RemoteError: there is no remote, or its settings cannot be read.
        """
        return catalogs.Catalog(self.root(), folder or self.folder, cache)

    def root(self) -> remotes.Remote:
        """The remote that clusters share.

        Raises:
            remotes.RemoteError: there is none, or its settings cannot be read.
        """
        if not self.remote:
            raise remotes.RemoteError(
                remotes.Kind.CONFIG,
                "no remote is configured: relate s3-credentials or set backup-remote",
            )
        try:
            text = pathlib.Path(self.remote).read_text()
        except OSError as error:
            raise remotes.RemoteError(
                remotes.Kind.CONFIG, f"{self.remote} cannot be read: {error.strerror}"
            ) from error
        return remotes.Remote(remotes.Settings.from_json(text))

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

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: pathlib.Path = STATUS) -> Status:
        """What the keeper of this unit said last; an empty one when it said nothing."""
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
            known = {field.name for field in dataclasses.fields(cls)}
            values: dict[str, Any] = {key: raw[key] for key in known if key in raw}
            values["problems"] = tuple(raw.get("problems", ()))
            return cls(**values)
        except (OSError, ValueError, TypeError, AttributeError):
            return cls()

    @property
    def worst_case(self) -> float:
        """Seconds of writes that a loss of everything may cost, as configured and measured."""
        return self.interval + self.newest_seconds

    def trouble(self, now: float) -> str:
        """The sentence for `juju status`, "" while backups are as they should be."""
        if self.role == "off" or not self.interval:
            return ""
        safe = max(self.newest_at, self.unchanged_at)
        late = now - safe > 2 * self.interval + max(2 * self.newest_seconds, 60.0)
        if self.error and (late or self.failures >= 3):
            return f"Backups fail: {self.error}"
        if self.proof_error:
            return f"The newest backup is not proven: {self.proof_error}"
        if safe and late:
            return f"The newest backup is {_age(now - self.newest_at)} old"
        return ""

    def words(self, now: float) -> str:
        """One sentence for people, as `health` says it."""
        if self.role == "off":
            return "Backups are off"
        if not self.newest:
            return "No backup yet" + (f": {self.error}" if self.error else "")
        text = f"Newest backup {_age(now - self.newest_at)} old"
        lag = self.revision - self.newest_revision
        if self.revision and lag >= 0:
            text += f", {lag} revisions behind"
        proven = f"{_age(now - self.proven_at)} old" if self.proven else "none"
        return f"{text}; newest proven {proven}; at most {_age(self.worst_case)} can be lost"


class Keeper:
    """The loop's state between two looks."""

    def __init__(
        self,
        config: pathlib.Path = CONFIG,
        status: pathlib.Path = STATUS,
        cache: pathlib.Path = CACHE,
        lock: pathlib.Path = create.LOCK,
        wake: Callable[[Config], None] | None = None,
    ) -> None:
        """Begin with nothing known.

        Args:
            config: the charm's file.
            status: the keeper's file.
            cache: directory for manifests.
            lock: keeps snapshots apart from defragmentation.
            wake: runs the charm when it has something to tell, by default through Juju.
        """
        self._config_file = config
        self._status_file = status
        self._cache = cache
        self._lock = lock
        self._wake = wake or _wake
        self._text = ""
        self._config: Config | None = None
        self._remote: remotes.Remote | None = None
        self._client: clients.Client | None = None
        self._election_client: clients.Client | None = None
        self._election: clients.Election | None = None
        self._connected = 0.0
        self._vacant = 0.0
        self._listing = catalogs.Listing(())
        self._listed = 0.0
        self._cluster = 0
        self._since_proof = 0
        self._proof_tried = ""
        self._proof_seconds = 0.0
        self._proof_after = 0.0
        self._failed = 0.0
        self._told = ""
        self._written = 0.0
        self.status = Status.read(status)

    def step(self) -> float:
        """Look once, and do what is due; answers seconds until the next look."""
        now = time.time()
        try:
            config = self._read_config()
            if config is None or config.off:
                self.close()
                self._say(now, role="off", error="", proof_error="", failures=0, interval=0.0)
                return _LOOK
            return self._attend(config, now)
        except _ERRORS as error:
            self._fail(now, str(error))
            wait = schedule.retry(self._failed, self.status.failures, _PAUSE) - self._failed
            return min(wait, _PAUSE)
        except ValueError as error:
            self._say(now, role="blind", error=str(error))
        return _LOOK

    def close(self) -> None:
        """Let go of the key and of the connections."""
        if self._election:
            self._election.resign()
        for client in (self._client, self._election_client):
            if client:
                client.close()
        self._election = self._client = self._election_client = None

    # Looking

    def _read_config(self) -> Config | None:
        try:
            text = self._config_file.read_text()
        except FileNotFoundError:
            return None
        if text != self._text:
            self.close()
            self._text, self._config = text, None
            self._listed, self._failed = 0.0, 0.0
            self._config = Config.from_json(text)
            self._remote = None
        if self._config is None:
            raise ValueError("the keeper's configuration cannot be used")
        return self._config

    def _attend(self, config: Config, now: float) -> float:
        client = self._connect(config, now)
        here = client.status(config.local)
        voters = [m for m in client.members(linearizable=False).members if not m.learner]
        self._cluster = here.cluster_id
        led = here.leader == here.member_id and len(voters) > 1
        held = self._campaign(not here.learner and not led, not here.learner, now)
        self._look_at_remote(config, now)
        self._say(
            now,
            role="holder" if held else "candidate",
            holder=config.member if held else self._held_by(),
            interval=config.interval,
            revision=client.revision(),
        )
        if not held:
            return _LOOK
        return self._keep(config, client, now)

    def _connect(self, config: Config, now: float) -> clients.Client:
        if self._client is None or now - self._connected > _RECONNECT:
            self.close()
            tls = clients.TLSFiles(
                pathlib.Path(config.ca), pathlib.Path(config.cert), pathlib.Path(config.key)
            )
            endpoints = tuple(dict.fromkeys((config.local, *config.endpoints)))
            self._client = clients.Client(endpoints, tls)
            self._election_client = clients.Client(endpoints, tls)
            self._election = clients.Election(self._election_client, KEY, config.member, TTL)
            self._connected = now
        return self._client

    def _campaign(self, suited: bool, able: bool, now: float) -> bool:
        """Hold the key if this is the place for it, or if nobody else takes it."""
        if self._election is None:
            return False
        if suited:
            return self._election.campaign()
        if able and not self._held_by():
            self._vacant = self._vacant or now
            if now - self._vacant > _VACANT:
                return self._election.campaign()
        else:
            self._vacant = 0.0
            if self._held_by() == (self._config.member if self._config else ""):
                self._election.resign()
        return False

    def _held_by(self) -> str:
        return self._election.holder() if self._election else ""

    def _catalog(self, config: Config) -> catalogs.Catalog:
        if self._remote is None:
            self._remote = config.root()
        return catalogs.Catalog(self._remote, config.folder, self._cache)

    def _look_at_remote(self, config: Config, now: float) -> None:
        least, most = _LIST
        if self._listed and now - self._listed < min(max(config.interval, least), most):
            return
        self._adopt(self._catalog(config).read(), now)

    def _adopt(self, listing: catalogs.Listing, now: float) -> None:
        self._listing, self._listed = listing, now
        newest, proven = self._newest(), listing.proven
        self.status = dataclasses.replace(
            self.status,
            count=len(listing.manifests),
            newest=newest.id if newest else "",
            newest_at=newest.taken_at if newest else 0.0,
            newest_revision=newest.revision if newest else 0,
            newest_seconds=newest.duration if newest else 0.0,
            proven=proven.id if proven else "",
            proven_at=proven.taken_at if proven else 0.0,
            problems=listing.problems,
        )

    def _newest(self) -> catalogs.Manifest | None:
        """The newest backup of the cluster as it is now, not of what it was restored from."""
        mine = (m for m in self._listing.manifests if m.cluster_id == self._cluster)
        return next(mine, None)

    # Working, as the holder

    def _keep(self, config: Config, client: clients.Client, now: float) -> float:
        newest = self._newest()
        last = max(newest.taken_at, self.status.unchanged_at) if newest else None
        due = schedule.due(last, config.interval, f"{self._cluster:x}") or 0.0
        if self._failed:
            due = schedule.retry(self._failed, self.status.failures, config.interval)
        self._say(now, next_at=max(due, now))
        if now < due:
            self._prove_if_due(config, client, due - now)
            return min(max(due - time.time(), 0.1), _LOOK)
        before = (newest.cluster_id, newest.revision) if newest else None
        taken = newest.taken_at if newest else 0.0
        if schedule.unchanged(before, (self._cluster, self.status.revision), taken, now):
            log.info("nothing changed since %s", newest.id if newest else "")
            self._succeed(now, unchanged_at=now)
            return _LOOK
        with self._holding():
            self._back_up(config, client)
            self._thin(config)
        return 0.1

    def _back_up(self, config: Config, client: clients.Client) -> None:
        catalog = self._catalog(config)
        manifest = create.create_backup(
            client,
            catalog,
            config.own_workdir,
            create.About(config.unit, config.generation, config.token),
            endpoint=config.local,
            say=log.info,
            lock=self._lock,
        )
        log.info("%s stored in %.1f s", manifest.id, manifest.duration)
        self._since_proof += 1
        manifests = (manifest, *self._listing.manifests)
        self._adopt(dataclasses.replace(self._listing, manifests=manifests), self._listed)
        self._succeed(time.time())

    def _thin(self, config: Config) -> None:
        """Remove what retention does not keep; a failure here loses nothing and is tried again."""
        catalog = self._catalog(config)
        try:
            retention = schedule.Retention.parse(config.retention)
            points = [
                schedule.Point(m.id, m.taken_at, m.proven_at is not None)
                for m in self._listing.manifests
            ]
            doomed = retention.doomed(points, time.time())
            if doomed or self._listing.leftovers:
                # Others may have been at it: decide on what is there now.
                listing = catalog.read()
                for manifest in listing.manifests:
                    if manifest.id in doomed:
                        catalog.delete(manifest)
                        log.info("%s removed by backup-retention", manifest.id)
                catalog.sweep(listing.leftovers)
                kept = tuple(m for m in listing.manifests if m.id not in doomed)
                self._adopt(dataclasses.replace(listing, manifests=kept), time.time())
        except (remotes.RemoteError, schedule.ScheduleError) as error:
            log.warning("old backups were not removed: %s", error)

    def _prove_if_due(self, config: Config, client: clients.Client, seconds: float) -> None:
        """Prove the newest backup when its turn has come and there is time before the next."""
        newest = self._newest()
        if not newest or newest.proven_at is not None or newest.id == self._proof_tried:
            return
        if time.time() < self._proof_after:
            return
        if not schedule.prove_now(
            config.prove_every, self._since_proof, bool(self.status.proven), config.interval,
            self._proof_seconds, seconds,
        ):  # fmt: skip
            return
        self._proof_tried = newest.id
        with self._holding():
            self._prove(config, client, newest)

    def _prove(self, config: Config, client: clients.Client, manifest: catalogs.Manifest) -> None:
        began = time.monotonic()
        workdir = config.own_workdir
        catalog = self._catalog(config)
        source = restore.Stored(config.folder, manifest.id, manifest.sha256, manifest.size)

        def theirs(revision: int) -> clients.HashKV | None:
            try:
                return client.hash_kv(config.local, revision)
            except errors.EtcdError:
                return None  # compacted meanwhile, or busy: nothing to compare with

        try:
            fetched = restore.fetch(source, workdir / "proof-fetched", self._remote)
            found = proof.prove(
                fetched.path,
                workdir / "proof",
                manifest,
                theirs,
                proof.Limits(memory=config.memory),
            )
            hashed = (found.hash, found.compacted)
            proven = catalog.mark_proven(manifest, time.time(), hashed=hashed)
        except _ERRORS as error:
            log.warning("%s could not be proven: %s", manifest.id, error)
            if _passing(error):
                self._proof_tried, self._proof_after = "", time.time() + _LIST[0]
                self._listed = 0.0
            else:
                self._say(time.time(), proof_error=str(error))
            return
        finally:
            _remove(workdir / "proof-fetched")
            self._proof_seconds = time.monotonic() - began
        log.info("%s proven in %.1f s", manifest.id, found.seconds)
        self._since_proof = 0
        manifests = tuple(proven if m.id == proven.id else m for m in self._listing.manifests)
        self._adopt(dataclasses.replace(self._listing, manifests=manifests), self._listed)
        self._say(time.time(), proof_error="")

    @contextlib.contextmanager
    def _holding(self) -> Generator[None]:
        """Keep the key while work takes longer than it lives."""
        done = threading.Event()
        election = self._election

        def hold() -> None:
            while election and not done.wait(TTL / 3):
                with contextlib.suppress(errors.EtcdError):
                    election.campaign()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    # Telling

    def _succeed(self, now: float, **changes: Any) -> None:
        self._failed = 0.0
        self._say(now, failures=0, error="", **changes)

    def _fail(self, now: float, sentence: str) -> None:
        log.warning("%s", sentence)
        self._failed = time.time()
        holder = self.status.role == "holder"
        failures = self.status.failures + 1 if holder else self.status.failures
        role = "holder" if holder else "blind"
        self._say(now, role=role, error=sentence, failures=max(failures, 1))

    def _say(self, now: float, **changes: Any) -> None:
        """Write the status, and wake the charm when it is another one for `juju status`."""
        unit = self._config.unit if self._config else self.status.unit
        before = self.status
        self.status = dataclasses.replace(before, at=now, unit=unit, **changes)
        moved = {"at": 0.0, "revision": 0, "next_at": 0.0}
        same = dataclasses.replace(before, **moved) == dataclasses.replace(self.status, **moved)
        if not same or now - self._written > _WRITE:
            self._written = now
            _write(self._status_file, self.status.to_json())
        trouble = self.status.trouble(now)
        if bool(trouble) != bool(self._told) and self._config:
            with contextlib.suppress(errors.EtcdError):
                self._wake(self._config)
        self._told = trouble


def ensure(charm_dir: pathlib.Path, config: Config, settings: remotes.Settings | None) -> bool:
    """Tell this unit's keeper what to do, and have it run; True when anything changed.

    Args:
        charm_dir: where the charm is.
        config: what to tell it; `remote`, `mark` and `charm_dir` are filled in here.
        settings: how to reach the remote, None where there is none.
    """
    for path in (CONFIG.parent, STATUS.parent):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    changed = False
    if settings:
        changed = files.write(REMOTE, settings.to_json(), 0o600)
    else:
        REMOTE.unlink(missing_ok=True)
    config = dataclasses.replace(
        config,
        charm_dir=str(charm_dir),
        remote=str(REMOTE) if settings else "",
        mark=settings.fingerprint if settings else "",
    )
    changed = files.write(CONFIG, config.to_json(), 0o644) or changed
    changed = host.ensure_service(UNIT, unit_text(charm_dir)) or changed
    if not host.service_active(UNIT):
        host.restart_service(UNIT)
    return changed


def remove() -> None:
    """Stop the keeper and forget what it was told."""
    host.remove_service(UNIT)
    for path in (CONFIG, REMOTE):
        path.unlink(missing_ok=True)


def unit_text(charm_dir: pathlib.Path) -> str:
    """The service's systemd unit."""
    return f"""# Written by the charm; changes made here are lost.
[Unit]
Description=etcd-keeper, backups of etcd on schedule
After=network-online.target etcd.service
Wants=network-online.target
ConditionPathExists={CONFIG}

[Service]
ExecStart={charm_dir}/venv/bin/python {charm_dir}/src/keeper.py
Environment=PYTHONPATH={charm_dir}/lib:{charm_dir}/src
Environment=PYTHONUNBUFFERED=1
Restart=always
RestartSec=5
TimeoutStopSec=20
UMask=0077
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
OOMScoreAdjust=300
NoNewPrivileges=true
ProtectControlGroups=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictRealtime=true

[Install]
WantedBy=multi-user.target
"""


def _wake(config: Config) -> None:
    if config.charm_dir:
        host.wake(0, config.unit, pathlib.Path(config.charm_dir))


def _write(path: pathlib.Path, text: str) -> None:
    """Replace a file by one rename; not flushed, so as not to slow etcd's own disk."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.chmod(0o644)
    part.replace(path)


def _passing(error: Exception) -> bool:
    """Says something of the way to the remote, nothing of the backup."""
    return isinstance(error, remotes.RemoteError) and error.kind is not remotes.Kind.CORRUPT


def _remove(path: pathlib.Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _code() -> int:
    """Changes when the charm is refreshed under a running keeper."""
    try:
        return pathlib.Path(__file__).stat().st_mtime_ns
    except OSError:
        return 0


def _age(seconds: float) -> str:
    """`42 s`, `12 min`, `5 h`, `3 days`."""
    seconds = max(seconds, 0.0)
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    keeper = Keeper()
    code = _code()
    try:
        while not stop.wait(keeper.step()):
            if _code() != code:
                log.info("the charm was refreshed: starting anew")
                break
    finally:
        keeper.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
