"""The keeper's round of backups: taken on schedule, proven, and thinned out.

All units run it, and the one that holds a key in etcd works (`keeper.holder`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import shutil
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import catalog as catalogs
from backup import create, fetch, keeper_files, proof, rclone, rclone_errors, schedule, worker
from backup import listing as listings
from backup import manifest as manifests
from etcd import service
from keeper import holder as holders
from machine import juju_exec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from etcd import client as clients

log = logging.getLogger("etcd-keeper")

CACHE = pathlib.Path("/var/lib/etcd-keeper/manifests")
_LOOK = 5.0  # seconds between two looks at etcd and at the configuration
_LIST = (60.0, 600.0)  # seconds between two looks at the remote, at least and at most
_HINDERED = 60.0  # seconds after which a proof that could not be made is tried again
_SWEEP = 3600.0  # seconds between two looks for what broken uploads left
_PAUSE = 60.0  # seconds at most between two looks while nothing answers
_WRITE = 15.0  # seconds after which numbers that always move are written down
_LOCKED = 3  # objects in a row that the store holds locked, after which the rest are left alone
_CLOSED = "the restored cluster is closed until it is confirmed; backups go on after that"
_ERRORS = (errors.EtcdError, rclone_errors.RemoteError, OSError)


class Keeper:
    """The loop's state between two looks."""

    def __init__(
        self,
        config: pathlib.Path = keeper_files.CONFIG,
        status: pathlib.Path = keeper_files.STATUS,
        cache: pathlib.Path = CACHE,
        lock: pathlib.Path = create.LOCK,
        wake: Callable[[], object] = juju_exec.wake_now,
        closed: Callable[[], bool] = service.is_closed,
    ) -> None:
        """Begin with nothing known.

        Args:
            config: the charm's file.
            status: the keeper's file.
            cache: directory for manifests.
            lock: keeps snapshots apart from defragmentation.
            wake: runs the charm when it has something to tell, by default through systemd.
            closed: whether this unit's etcd takes no clients, and the keeper is one.
        """
        self._config_file = config
        self._status_file = status
        self._cache = cache
        self._lock = lock
        self._wake = wake
        self._closed = closed
        self._text: str = ""
        self._config: keeper_files.Config | None = None
        self._remote: rclone.Remote | None = None
        self._holder = holders.Holder()
        self._listing = listings.Listing(())
        self._listed = 0.0
        self._swept = 0.0
        self._cluster = 0
        self._since_proof = 0
        self._proof_tried = ""
        self._proof_seconds = 0.0
        self._proof_after = 0.0
        self._failed = 0.0
        self._looked = 0.0
        self._sealed = False
        self._told = ""
        self._written = 0.0
        self.status = keeper_files.Status.read(status)

    def step(self) -> float:
        """Look once, and do what is due; answers seconds until the next look."""
        now = time.time()
        self._mind_clock(now)
        try:
            config = self._read_config()
            if config is None or config.off:
                self.close()
                self._say(now, role="off", error="", proof_error="", failures=0, interval=0.0)
                return _LOOK
            if self._closed():
                self._holder.disconnect()
                self._say(now, role="blind", error=_CLOSED, failures=0)
                return _LOOK
            return self._attend(config, now)
        except _ERRORS as error:
            self._fail(now, str(error))
            wait = schedule.retry(self._failed, self.status.failures, _PAUSE) - self._failed
            return min(wait, _PAUSE)
        except ValueError as error:
            self._say(now, role="blind", error=str(error))
        except Exception as error:  # a loop that died could not tell
            log.exception("unexpected")
            self._fail(now, f"the keeper failed ({error!r}): see `journalctl -u etcd-keeper`")
        return _LOOK

    def _mind_clock(self, now: float) -> None:
        """Forget what was noted by a clock that was set back since: it would be waited for."""
        if now < self._looked - schedule.SKEW:
            self._listed = self._swept = self._failed = self._proof_after = 0.0
            self._written = 0.0
            self._holder.forget_times()
        self._looked = now

    def close(self) -> None:
        """Let go of the key and of the connections."""
        self._holder.close()

    # Looking

    def _read_config(self) -> keeper_files.Config | None:
        try:
            text = self._config_file.read_text()
        except FileNotFoundError:
            return None
        if text != self._text:
            self._holder.disconnect()
            self._text, self._config = text, None
            self._listed, self._failed = 0.0, 0.0
            self._config = keeper_files.Config.from_json(text)
            self._sealed = bool(self._config.seals())
            proof.clear(self._config.own_workdir / "proof")  # of one that was killed
            _remove(self._config.own_workdir)
            self._remote = None
        if self._config is None:
            raise ValueError("the keeper's configuration cannot be used")
        return self._config

    def _attend(self, config: keeper_files.Config, now: float) -> float:
        client = self._holder.connect(config, now)
        here = client.status(config.local)
        voters = [m for m in client.members(linearizable=False).members if not m.learner]
        self._cluster = here.cluster_id
        held, full = self._holder.elected(voters, here, now)
        if usurper := self._holder.usurper():
            self._say(now, usurper=usurper, usurped_at=now)
        self._look_at_remote(config, now)
        self._say(
            now,
            role="holder" if held else "candidate",
            holder=config.member if held else self._holder.name(),
            interval=config.interval,
            revision=client.revision(),
            full=full,
            error="" if self.status.error == _CLOSED else self.status.error,
        )
        if not held:
            self._succeed(now)  # whatever did not answer before has answered now
            return _LOOK
        return self._keep(config, client, now)

    def _catalog(self, config: keeper_files.Config) -> catalogs.Catalog:
        return config.catalog(self._root(config), self._cache)

    def _root(self, config: keeper_files.Config) -> rclone.Remote:
        if self._remote is None:
            self._remote = config.root()
        return self._remote

    def _look_at_remote(self, config: keeper_files.Config, now: float) -> None:
        least, most = _LIST
        if self._listed and now - self._listed < min(max(config.interval, least), most):
            return
        self._adopt(self._catalog(config).read(), now)

    def _adopt(self, listing: listings.Listing, now: float) -> None:
        self._listing, self._listed = listing, now
        newest = self._newest()
        proven = listing.proven if self._sealed else listing.guarded
        overdue = len(listing.doomed(self._retention(), now))
        self.status = dataclasses.replace(
            self.status,
            count=len(listing.manifests),
            newest=newest.id if newest else "",
            newest_at=self._at(newest, now) if newest else 0.0,
            newest_revision=newest.revision if newest else 0,
            newest_seconds=newest.duration if newest else 0.0,
            proven=proven.id if proven else "",
            proven_at=self._at(proven, now) if proven else 0.0,
            problems=listing.problems,
            unsealed=len(listing.manifests) - len(listing.authentic),
            overdue=overdue,
            overdue_at=(self.status.overdue_at or now) if overdue else 0.0,
            foreign=self._foreign(),
        )

    def _foreign(self) -> str:
        """Why nothing may be written to the folder, "" when it may."""
        config = self._config
        if config is None:
            return ""
        return config.claimant.refused(self._listing, config.folder, self._cluster)

    def _retention(self) -> schedule.Retention:
        """What stays; all of it while the setting cannot be read."""
        with contextlib.suppress(schedule.ScheduleError):
            if self._config:
                return schedule.Retention.parse(self._config.retention)
        return schedule.Retention()

    def _at(self, manifest: manifests.Manifest, now: float) -> float:
        """When a backup was taken: of this unit's own, this unit's clock tells its age best."""
        own = self._config is not None and manifest.taken_by == self._config.unit
        if own and manifest.taken_at <= now + schedule.SKEW:
            return manifest.taken_at
        return self._listing.at(manifest)

    def _newest(self) -> manifests.Manifest | None:
        """The newest backup of the cluster as it is now, not of what it was restored from."""
        mine = (m for m in self._listing.manifests if m.cluster_id == self._cluster)
        return next(mine, None)

    # Working, as the holder

    def _keep(self, config: keeper_files.Config, client: clients.Client, now: float) -> float:
        if self.status.foreign:
            self._succeed(now)  # nothing failed, and nothing is tried
            return _LOOK
        due = self._due(config, now)
        self._say(now, next_at=max(due, now))
        if now < due:
            self._prove_if_due(config, due - now)
            return min(max(due - time.time(), 0.1), _LOOK)
        if self.status.full and self._listed < now:
            self._adopt(self._catalog(config).read(), now)  # somebody before may have been there
            if now < self._due(config, now):
                return 0.1
        newest = self._newest()
        before = (newest.cluster_id, newest.revision) if newest else None
        taken = self._at(newest, now) if newest else 0.0
        if schedule.unchanged(before, (self._cluster, self.status.revision), taken, now):
            log.info("nothing changed since %s", newest.id if newest else "")
            self._succeed(now, unchanged_at=now)
            return _LOOK
        with self._holder.holding():
            self._claim(config)
            self._back_up(config, client)
            self._thin(config)
        return 0.1

    def _due(self, config: keeper_files.Config, now: float) -> float:
        """When the next backup is due, seconds since the epoch."""
        newest = self._newest()
        times = (self._at(newest, now), self.status.unchanged_at) if newest else ()
        due = schedule.due(schedule.last(times, now), config.interval, f"{self._cluster:x}") or 0.0
        if self._failed:
            due = schedule.retry(self._failed, self.status.failures, config.interval)
        return due + self._holder.place * max(_LIST[0], config.interval / 2)

    def _claim(self, config: keeper_files.Config) -> None:
        """Write down that the folder is this application's, where that is news."""
        owner = config.claimant.owner(self._cluster)
        if config.application and self._listing.owner != owner:
            self._catalog(config).claim(owner)
            self._listing = dataclasses.replace(self._listing, owner=owner, claimed=True)

    def _back_up(self, config: keeper_files.Config, client: clients.Client) -> None:
        manifest = back_up(config, client, self._root(config), self._cache, self._lock)
        log.info("%s stored in %.1f s", manifest.id, manifest.duration)
        self._since_proof += 1
        self._adopt(self._listing.having(manifest), self._listed)
        self._succeed(time.time())

    def _thin(self, config: keeper_files.Config) -> None:
        """Remove what retention does not keep; a failure here loses nothing and is tried again."""
        catalog = self._catalog(config)
        try:
            if not self._listing.doomed(self._retention(), time.time()) and not self._sweeps():
                self._say(time.time(), stays="")
                return
            # Others may have been at it: decide on what is there now.
            listing = catalog.read()
            if config.claimant.refused(listing, config.folder, self._cluster):
                self._adopt(listing, time.time())
                return
            doomed = listing.doomed(self._retention(), time.time())
            removed, stays = _remove_backups(catalog, listing, doomed)
            self._adopt(listing.without(removed), time.time())
            self._say(time.time(), stays=stays)
            catalog.sweep(listing.leftovers)
        except rclone_errors.RemoteError as error:
            log.warning("old backups were not removed: %s", error)

    def _sweeps(self) -> bool:
        """Whether it is time to look for what broken uploads left."""
        if time.time() - self._swept <= _SWEEP:
            return False
        self._swept = time.time()
        return True

    def _prove_if_due(self, config: keeper_files.Config, seconds: float) -> None:
        """Prove the newest backup when its turn has come and there is time before the next."""
        newest = self._newest()
        if not newest or self._is_proven(newest) or newest.id == self._proof_tried:
            return
        if self._holder.place and newest.taken_by != config.unit:
            return  # who took it proves it
        if time.time() < self._proof_after:
            return
        if not schedule.prove_now(
            config.prove_every, self._since_proof, bool(self.status.proven), config.interval,
            self._proof_seconds, seconds,
        ):  # fmt: skip
            return
        self._proof_tried = newest.id
        with self._holder.holding():
            self._prove(config, newest)

    def _is_proven(self, manifest: manifests.Manifest) -> bool:
        """Proven, by this application where that can be told."""
        ours = manifest.id in self._listing.authentic or not self._sealed
        return ours and manifest.proven_at is not None

    def _prove(self, config: keeper_files.Config, manifest: manifests.Manifest) -> None:
        began = time.monotonic()
        workdir = config.own_workdir
        catalog = self._catalog(config)
        source = fetch.Stored(config.folder, manifest.id, manifest.sha256, manifest.size)
        pace = schedule.pace(manifest.size, config.interval)
        try:
            paced = self._root(config).paced(pace.moved)
            fetched = fetch.fetch(source, workdir / "proof-fetched", paced)
            limits = proof.Limits(memory=config.memory)
            found = worker.prove(
                worker.reach(config), fetched.path, workdir / "proof", manifest, limits
            )
            hashed = (found.hash, found.compacted)
            proven = catalog.mark_proven(manifest, time.time(), found.keys, hashed)
        except _ERRORS as error:
            log.warning("%s could not be proven: %s", manifest.id, error)
            if _blames_backup(error):
                self._say(time.time(), proof_error=str(error), hindered="")
                return
            self._say(time.time(), hindered=str(error))
            if not (isinstance(error, rclone_errors.RemoteError) and error.stays):
                self._proof_tried, self._proof_after = "", time.time() + _HINDERED
                self._listed = 0.0
            return
        finally:
            _remove(workdir / "proof-fetched")
            self._proof_seconds = time.monotonic() - began
        log.info("%s proven in %.1f s", manifest.id, found.seconds)
        self._since_proof = 0
        self._adopt(self._listing.having(proven), self._listed)
        self._say(time.time(), proof_error="", hindered="")

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
                self._wake()
        self._told = trouble


def back_up(
    config: keeper_files.Config,
    client: clients.Client,
    remote: rclone.Remote,
    cache: pathlib.Path | None = None,
    lock: pathlib.Path = create.LOCK,
) -> manifests.Manifest:
    """Take a scheduled backup, no faster than those who write to etcd hardly notice.

    Raises:
        errors.EtcdError: no snapshot could be had.
        rclone_errors.RemoteError: it could not be stored.
    """
    pace = schedule.pace(client.status(config.local).db_size, config.interval)
    return create.create_backup(
        client,
        worker.reach(config),
        config.catalog(remote.paced(pace.moved), cache),
        config.own_workdir,
        create.About(config.unit, config.generation, config.token, config.high),
        pace=pace.read,
        say=log.info,
        lock=lock,
    )


def _write(path: pathlib.Path, text: str) -> None:
    """Replace a file by one rename; not flushed, so as not to slow etcd's own disk."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.chmod(0o644)
    part.replace(path)


def _remove_backups(
    catalog: catalogs.Catalog, listing: listings.Listing, doomed: Collection[str]
) -> tuple[set[str], str]:
    """Remove backups; those that are gone, and why others stay where that is a lack of rights.

    What the store holds locked stays until it lets it go, which is no fault.

    Raises:
        rclone_errors.RemoteError: the remote fails otherwise.
    """
    removed: set[str] = set()
    locked = 0
    for manifest in listing.manifests[::-1]:
        if manifest.id not in doomed:
            continue
        try:
            catalog.delete(manifest)
        except rclone_errors.RemoteError as error:
            if error.kind is rclone_errors.Kind.LOCKED:
                log.info("%s stays: %s", manifest.id, error)
                locked += 1
                if locked == _LOCKED:
                    break
                continue
            if error.stays:
                return removed, str(error)
            raise
        locked = 0
        removed.add(manifest.id)
        log.info("%s removed by backup-retention", manifest.id)
    return removed, ""


def _blames_backup(error: Exception) -> bool:
    """Says something of the backup, and not of the way to it or of this machine."""
    if isinstance(error, rclone_errors.RemoteError):
        return error.kind is rclone_errors.Kind.CORRUPT
    return isinstance(error, errors.EtcdError) and not isinstance(error, proof.HinderedError)


def _remove(path: pathlib.Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
