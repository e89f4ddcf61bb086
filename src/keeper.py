#!/usr/bin/env python3
"""etcd-keeper, the resident service of every unit: what must not wait for a hook.

It takes backups on schedule, proves them and thins them out. All units run it; the one that holds
a key in etcd works, a follower where there is one, and when it dies another takes over within
seconds. On each unit it serves metrics and watches etcd. The charm tells it everything in one
file and reads its status from another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import fence
import host
import keeper_service
import metrics
import outside
import watch
from backup import aside, create, orders, proof, refusals, restore, schedule
from backup import catalog as catalogs
from backup import remote as remotes
from etcd import client as clients
from etcd import election, errors, service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = logging.getLogger("etcd-keeper")

CACHE = pathlib.Path("/var/lib/etcd-keeper/manifests")
KEY = "/etcd-charm/keeper"
TTL = 15  # seconds after which a dead holder is replaced
_LOOK = 5.0  # seconds between two looks at etcd and at the configuration
_LIST = (60.0, 600.0)  # seconds between two looks at the remote, at least and at most
_SWEEP = 3600.0  # seconds between two looks for what broken uploads left
_PAUSE = 60.0  # seconds at most between two looks while nothing answers
_WRITE = 15.0  # seconds after which numbers that always move are written down
_VACANT = 4 * TTL  # seconds without a holder after which the leader takes it as well
_SKEW = 60.0  # seconds that another unit's clock may be ahead
_RECONNECT = 3600.0  # seconds after which certificates are read anew
_CLOSED = "the restored cluster is closed until it is confirmed; backups go on after that"
_ERRORS = (errors.EtcdError, refusals.RemoteError, OSError)


class Keeper:
    """The loop's state between two looks."""

    def __init__(
        self,
        config: pathlib.Path = orders.CONFIG,
        status: pathlib.Path = orders.STATUS,
        cache: pathlib.Path = CACHE,
        lock: pathlib.Path = create.LOCK,
        wake: Callable[[orders.Config], None] | None = None,
        closed: Callable[[], bool] = service.is_closed,
    ) -> None:
        """Begin with nothing known.

        Args:
            config: the charm's file.
            status: the keeper's file.
            cache: directory for manifests.
            lock: keeps snapshots apart from defragmentation.
            wake: runs the charm when it has something to tell, by default through Juju.
            closed: whether this unit's etcd takes no clients, and the keeper is one.
        """
        self._config_file = config
        self._status_file = status
        self._cache = cache
        self._lock = lock
        self._wake = wake or _wake
        self._closed = closed
        self._text = ""
        self._config: orders.Config | None = None
        self._remote: remotes.Remote | None = None
        self._client: clients.Client | None = None
        self._election_client: clients.Client | None = None
        self._election: election.Election | None = None
        self._connected = 0.0
        self._vacant = 0.0
        self._listing = catalogs.Listing(())
        self._listed = 0.0
        self._swept = 0.0
        self._cluster = 0
        self._since_proof = 0
        self._proof_tried = ""
        self._proof_seconds = 0.0
        self._proof_after = 0.0
        self._failed = 0.0
        self._told = ""
        self._written = 0.0
        self.status = orders.Status.read(status)

    def step(self) -> float:
        """Look once, and do what is due; answers seconds until the next look."""
        now = time.time()
        try:
            config = self._read_config()
            if config is None or config.off:
                self.close()
                self._say(now, role="off", error="", proof_error="", failures=0, interval=0.0)
                return _LOOK
            if self._closed():
                self._disconnect()
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

    def close(self) -> None:
        """Let go of the key and of the connections."""
        if self._election:
            self._election.resign()
            self._election = None
        self._disconnect()

    def _disconnect(self) -> None:
        for client in (self._client, self._election_client):
            if client:
                client.close()
        self._client = self._election_client = None

    # Looking

    def _read_config(self) -> orders.Config | None:
        try:
            text = self._config_file.read_text()
        except FileNotFoundError:
            return None
        if text != self._text:
            self._disconnect()
            self._text, self._config = text, None
            self._listed, self._failed = 0.0, 0.0
            self._config = orders.Config.from_json(text)
            _remove(self._config.own_workdir)  # of one that was killed
            self._remote = None
        if self._config is None:
            raise ValueError("the keeper's configuration cannot be used")
        return self._config

    def _attend(self, config: orders.Config, now: float) -> float:
        client = self._connect(config, now)
        here = client.status(config.local)
        voters = [m for m in client.members(linearizable=False).members if not m.learner]
        self._cluster = here.cluster_id
        led = here.leader == here.member_id and len(voters) > 1
        if self._election:
            self._election.among([m.name for m in voters])
        held = self._campaign(not here.learner and not led, not here.learner, now)
        self._tell_usurper(now)
        self._look_at_remote(config, now)
        self._say(
            now,
            role="holder" if held else "candidate",
            holder=config.member if held else self._held_by(),
            interval=config.interval,
            revision=client.revision(),
            error="" if self.status.error == _CLOSED else self.status.error,
        )
        if not held:
            self._succeed(now)  # whatever did not answer before has answered now
            return _LOOK
        return self._keep(config, client, now)

    def _connect(self, config: orders.Config, now: float) -> clients.Client:
        if self._client is None or now - self._connected > _RECONNECT:
            self._disconnect()
            cluster = aside.reach(config)
            self._client, self._election_client = cluster.client(), cluster.client()
            if self._election is None:
                self._election = election.Election(self._election_client, KEY, config.member, TTL)
            # Letting go and holding anew would cost two revisions of the users' keyspace.
            self._election.go_through(self._election_client)
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
            self._election.disown()
        return False

    def _tell_usurper(self, now: float) -> None:
        if self._election and self._election.usurper:
            self._say(now, usurper=self._election.usurper, usurped_at=now)
            self._election.usurper = ""

    def _held_by(self) -> str:
        return self._election.holder() if self._election else ""

    def _catalog(self, config: orders.Config) -> catalogs.Catalog:
        return catalogs.Catalog(self._root(config), config.folder, self._cache)

    def _root(self, config: orders.Config) -> remotes.Remote:
        if self._remote is None:
            self._remote = config.root()
        return self._remote

    def _look_at_remote(self, config: orders.Config, now: float) -> None:
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
        """The newest backup of the cluster as it is now, not of what it was restored from.

        One from the future would let none be due until then.
        """
        latest = time.time() + _SKEW
        mine = (m for m in self._listing.manifests if m.cluster_id == self._cluster)
        return next((m for m in mine if m.taken_at <= latest), None)

    # Working, as the holder

    def _keep(self, config: orders.Config, client: clients.Client, now: float) -> float:
        newest = self._newest()
        last = max(newest.taken_at, self.status.unchanged_at) if newest else None
        due = schedule.due(last, config.interval, f"{self._cluster:x}") or 0.0
        if self._failed:
            due = schedule.retry(self._failed, self.status.failures, config.interval)
        self._say(now, next_at=max(due, now))
        if now < due:
            self._prove_if_due(config, due - now)
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

    def _back_up(self, config: orders.Config, client: clients.Client) -> None:
        manifest = back_up(config, client, self._root(config), self._cache, self._lock)
        log.info("%s stored in %.1f s", manifest.id, manifest.duration)
        self._since_proof += 1
        manifests = (manifest, *self._listing.manifests)
        self._adopt(dataclasses.replace(self._listing, manifests=manifests), self._listed)
        self._succeed(time.time())

    def _thin(self, config: orders.Config) -> None:
        """Remove what retention does not keep; a failure here loses nothing and is tried again."""
        catalog = self._catalog(config)
        try:
            retention = schedule.Retention.parse(config.retention)
            points = [
                schedule.Point(m.id, m.taken_at, m.proven_at is not None)
                for m in self._listing.manifests
            ]
            doomed = retention.doomed(points, time.time())
            if doomed or time.time() - self._swept > _SWEEP:
                # Others may have been at it: decide on what is there now.
                listing = catalog.read()
                for manifest in listing.manifests:
                    if manifest.id in doomed:
                        catalog.delete(manifest)
                        log.info("%s removed by backup-retention", manifest.id)
                catalog.sweep(listing.leftovers)
                self._swept = time.time()
                kept = tuple(m for m in listing.manifests if m.id not in doomed)
                self._adopt(dataclasses.replace(listing, manifests=kept), time.time())
        except (refusals.RemoteError, schedule.ScheduleError) as error:
            log.warning("old backups were not removed: %s", error)

    def _prove_if_due(self, config: orders.Config, seconds: float) -> None:
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
            self._prove(config, newest)

    def _prove(self, config: orders.Config, manifest: catalogs.Manifest) -> None:
        began = time.monotonic()
        workdir = config.own_workdir
        catalog = self._catalog(config)
        source = restore.Stored(config.folder, manifest.id, manifest.sha256, manifest.size)
        pace = schedule.pace(manifest.size, config.interval)
        try:
            paced = self._root(config).paced(pace.moved)
            fetched = restore.fetch(source, workdir / "proof-fetched", paced)
            limits = proof.Limits(memory=config.memory)
            found = aside.prove(
                aside.reach(config), fetched.path, workdir / "proof", manifest, limits
            )
            hashed = (found.hash, found.compacted)
            proven = catalog.mark_proven(manifest, time.time(), found.keys, hashed)
        except _ERRORS as error:
            log.warning("%s could not be proven: %s", manifest.id, error)
            if _blames_backup(error):
                self._say(time.time(), proof_error=str(error))
            else:
                self._proof_tried, self._proof_after = "", time.time() + _LIST[0]
                self._listed = 0.0
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


def back_up(
    config: orders.Config,
    client: clients.Client,
    remote: remotes.Remote,
    cache: pathlib.Path | None = None,
    lock: pathlib.Path = create.LOCK,
) -> catalogs.Manifest:
    """Take a scheduled backup, no faster than those who write to etcd hardly notice.

    Raises:
        errors.EtcdError: no snapshot could be had.
        refusals.RemoteError: it could not be stored.
    """
    pace = schedule.pace(client.status(config.local).db_size, config.interval)
    return create.create_backup(
        client,
        aside.reach(config),
        catalogs.Catalog(remote.paced(pace.moved), config.folder, cache),
        config.own_workdir,
        create.About(config.unit, config.generation, config.token, config.high),
        pace=pace.read,
        say=log.info,
        lock=lock,
    )


def _wake(_: orders.Config) -> None:
    host.wake_now()


def _write(path: pathlib.Path, text: str) -> None:
    """Replace a file by one rename; not flushed, so as not to slow etcd's own disk."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.chmod(0o644)
    part.replace(path)


def _blames_backup(error: Exception) -> bool:
    """Says something of the backup, and not of the way to it."""
    return not isinstance(error, refusals.RemoteError) or error.kind is refusals.Kind.CORRUPT


def _remove(path: pathlib.Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _code() -> int:
    """Changes when the charm is refreshed under a running keeper, whatever times it carries."""
    try:
        return pathlib.Path(__file__).stat().st_ctime_ns
    except OSError:
        return 0


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    outside.guard_logs()
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    watched = watch.Watch(_wake)
    keeper, exporter = Keeper(), metrics.Exporter(sight=lambda: watched.sight)
    code = _code()
    for run in (watched.run, fence.Guard(_wake).run):
        threading.Thread(target=run, args=(stop,), daemon=True).start()
    try:
        exporter.follow()
        while not stop.wait(keeper.step()):
            exporter.follow()
            if _code() not in (code, 0):  # a charm that is gone takes its etcd along
                log.info("the charm was refreshed: starting anew")
                return 0
    finally:
        keeper.close()
    return keeper_service.ORPHANED  # the guard ends the loop for nothing else


if __name__ == "__main__":
    sys.exit(main())
