"""This unit's parts, gathered once for each hook: what `observe` reads and steps work on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
import urllib.parse
from typing import TYPE_CHECKING

import errors
from cluster import generation as generations
from cluster import view as views
from etcd import client as clients
from etcd import config as etcd_config
from etcd import data, install, service
from hook import notes
from machine import files, juju_exec
from relations import network, peers
from tls import pem_files

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Generator

    from backup import rclone
    from hook import config as configs
    from tls import certificate, store

log = logging.getLogger(__name__)

TRIED = files.MEMORY / "tried"  # digests of the last configurations that etcd could start with
CONFIGURED = files.MEMORY / "configured"  # fingerprint of the options in etcd's file
_KNOWN = 4  # of these
FINISHED = "finished"
_WITH_AUTHORITY = ("peer", "server", "client")
"""Certificates whose authorities are told of; those of the others are among these."""
CERTIFICATES = ("peer", "server", "client", etcd_config.GATEWAY)
WAKE_SHARE = 4  # a wake-up is this many hooks away
WAKE_LONGEST = 60  # seconds


@dataclasses.dataclass
class Node:
    """One unit of the application.

    Attributes:
        unit: `etcd/0`.
        root: its data root.
        peers: the `cluster` relation.
        settings: the configuration.
        certificates: where its certificates are.
        charm_dir: where the charm is unpacked.
        me: this unit's part as the databag has it, changed by steps, published by `observe`.
        storage: attached storage that the data has yet to move to, None when it is there.
        remote: gives the remote that backups go to; raises when there is none.
        origin: asks the remote what the cluster is to be founded from: the newest proven backup,
            as a record tells it, and why an empty one may not be founded.
        announce: has the peer certificate name the committed generation.
        ready: package and certificates are there.
        leads: this unit is Juju's leader.
        hook: Juju runs a hook, and not an action or a look that the charm asked for.
        quiet: only time has passed: addresses are what this unit last published.
        outside: an outside authority signs what etcd shows to clients.
        reread: reads the configuration again, given the options that etcd just refused here.
        say: shows a sentence in `juju status` at once, in a hook that takes long.
        seen: etcd and the disk, as the last look found them.
        unheard: peer URLs at which nobody answered in this hook.
        began: when this hook began, monotonic seconds.
        said: this unit's part as the others can read it until this hook has ended.
    """

    unit: str
    root: data.Root
    peers: peers.Peers
    settings: configs.Settings
    certificates: store.Store
    charm_dir: pathlib.Path
    me: views.Unit
    storage: pathlib.Path | None = None
    remote: Callable[[], rclone.Remote] | None = None
    origin: Callable[[], tuple[generations.Detail | None, str]] = lambda: (None, "")
    announce: Callable[[], None] = lambda: None
    reread: Callable[[views.Failure | None], configs.Settings] | None = None
    say: Callable[[str], None] = lambda _: None
    ready: bool = False
    leads: bool = False
    hook: bool = False
    quiet: bool = False
    outside: bool = False
    seen: tuple[views.Etcd, views.Disk] | None = None
    unheard: set[str] = dataclasses.field(default_factory=set[str])
    began: float = dataclasses.field(default_factory=time.monotonic)
    said: views.Unit = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Note what the others can read: `me` changes from here on."""
        self.said = self.me

    @functools.cached_property
    def notes(self) -> notes.Notes:
        """What it notes from one hook to the next."""
        return notes.Notes(self.unit)

    @property
    def torn_down(self) -> bool:
        """Whether this is a hook of the unit's removal: when it ends well, the removal goes on."""
        return self.hook and self.peers.dying

    @property
    def member(self) -> str:
        """The etcd member name."""
        return generations.member_name(self.unit)

    def token(self) -> str | None:
        """Token of the data that this unit has, None without any, "" where that is not known."""
        try:
            stamp = self.root.stamp()
        except errors.DataError:
            return ""
        return stamp.token if stamp else None

    @functools.cached_property
    def addresses(self) -> network.Addresses:
        """What `network-get` says, asked once for each hook."""
        return self.peers.addresses()

    @property
    def fetched(self) -> pathlib.Path:
        """Where fetched snapshots wait, on the file system of the data."""
        return self.root.path / "fetched"

    @property
    def peer_url(self) -> str:
        """Where peers reach this unit."""
        told = self.me.peer_url if self.quiet else None
        return network.url(_host(told) or self.addresses.peer, self.settings.peer_port)

    @property
    def client_url(self) -> str:
        """Where clients reach this unit: another port than configured until etcd has restarted."""
        return network.url(self._client_host, self.port)

    @property
    def _client_host(self) -> str:
        told = self.me.client_url if self.quiet else None
        return _host(told) or self.addresses.client

    @property
    def port(self) -> int:
        """The port on which etcd serves clients, by what it runs with."""
        return etcd_config.client_port() or self.settings.port

    @property
    def local_url(self) -> str:
        """Where the charm reaches the etcd of this unit."""
        return network.url("127.0.0.1", self.port)

    def tls(self) -> pem_files.TLSFiles:
        """The administrator's client certificate."""
        return self._tls("client")

    def tls_now(self) -> pem_files.TLSFiles:
        """The administrator's certificate that members of the committed generation believe now.

        Where somebody opened the data of this unit by hand, its etcd is heard all the same: else a
        cluster that serves clients would look dead, and be rolled back.
        """
        committed = self.peers.generation()
        closed = committed is not None and committed.closed and not self._is_open(committed.token)
        return self._tls(etcd_config.CLOSED_TLS if closed else "client")

    def _is_open(self, token: str) -> bool:
        """Whether clients reach the data of this generation on this unit."""
        stamp = self.root.stamp()
        return stamp is not None and stamp.token == token and not self.root.is_closed()

    def _tls(self, name: str) -> pem_files.TLSFiles:
        path = self.certificates.path(name)
        return pem_files.TLSFiles(path / "ca.pem", path / "cert.pem", path / "key.pem")

    def endpoints(self) -> tuple[str, ...]:
        """Client URLs of the members of the committed generation, this unit's first.

        A unit whose disk holds another generation's data is left out: in the middle of a restore
        its etcd is another cluster.
        """
        committed = self.peers.generation()
        if committed is None:
            return ()
        stamp = self.root.stamp()
        mine = stamp is not None and stamp.token == committed.token
        local = [self.local_url] if mine else []
        others = [
            unit.client_url
            for unit in self.peers.units()
            if unit.name != self.unit and unit.token == committed.token and unit.client_url
        ]
        return (*local, *others)

    def certificate_facts(self) -> list[tuple[str, certificate.Facts]]:
        """What this unit's certificates say, by name."""
        found = [(name, self.certificates.load(name)) for name in CERTIFICATES]
        return [(name, facts) for name, facts in found if facts]

    def certificate_dates(self) -> dict[str, tuple[float, float]]:
        """When each certificate, and the authority above it that ends first, begins and ends."""
        found: dict[str, tuple[float, float]] = {}
        for name, facts in self.certificate_facts():
            found[name] = facts.not_before, facts.not_after
            if facts.chain_ends and name in _WITH_AUTHORITY:
                found[f"{name}-authority"] = facts.chain_begins, facts.chain_ends
        return found

    @contextlib.contextmanager
    def client(self, *, others: bool = False) -> Generator[clients.Client]:
        """A client of the whole cluster.

        Args:
            others: leave out this unit's member, which does not serve yet.

        Raises:
            errors.UnreachableError: no unit has a member of the committed generation.
        """
        endpoints = [url for url in self.endpoints() if not others or url != self.local_url]
        if not endpoints:
            raise errors.UnreachableError("no unit runs a member of the cluster yet")
        with clients.Client(endpoints, self.tls_now()) as open_client:
            yield open_client

    def move(self) -> None:
        """Move the data onto the attached storage; etcd is stopped, the member stays the same.

        What the storage held is kept aside there; the old place is emptied last.

        Raises:
            errors.EtcdError: there is no room; everything is as it was.
        """
        if self.storage is None:
            return
        self.root.copy_to(data.Root(self.storage))
        old, self.root, self.storage = self.root, data.Root(self.storage), None
        old.forget()

    def keep_configured(self) -> None:
        """Write the configuration of an etcd that was started here; a full disk leaves it be.

        The certificates that it names are there: an etcd that crashes now starts with it.

        Raises:
            errors.EtcdError: as for `configure`.
        """
        self.root.guard()
        if self.root.stamp() is None:
            return
        install.await_install()
        try:
            self.configure()
        except OSError as error:
            log.warning("etcd's configuration stays as it was: %s", error)

    def configure(
        self,
        *,
        initial: etcd_config.Initial = etcd_config.Initial.EXISTING,
        initial_cluster: str = "",
        token: str = "",
        compare: bool = True,
    ) -> bool:
        """Write etcd's configuration, tried before; answers whether it changed.

        Raises:
            errors.EtcdError: it could not be tried; the one of before stays.
            errors.OptionsError: etcd cannot start with it, likewise.
        """
        config = self._config(initial, initial_cluster, token, compare)
        self._try(config)
        changed = etcd_config.ensure_config(config)
        files.ensure_dir(files.MEMORY)
        files.write(CONFIGURED, self.settings.fingerprint)
        mark = etcd_config.digest(config)
        known = [each for each in _tried() if each != mark]
        files.write(TRIED, "\n".join([*known[1 - _KNOWN :], mark]))
        return changed

    def try_options(self) -> None:
        """Have etcd try what it would be told, before it is told anything for the first time.

        Raises:
            errors.EtcdError: as for `configure`.
        """
        self._try(self._config(etcd_config.Initial.EXISTING, "", "", compare=True))

    def _try(self, config: etcd_config.Config) -> None:
        if problem := etcd_config.unknown(config):
            raise errors.OptionsError(problem)
        if etcd_config.in_place(config) or (
            self.settings.usual and not etcd_config.CONFIG.exists()
        ):
            return
        if etcd_config.digest(config) in _tried():
            return
        from etcd import trial  # costly, and most hooks try nothing

        if problem := trial.why_not(config, self.root.path / "trial"):
            raise errors.OptionsError(problem)

    @property
    def configured(self) -> str:
        """Fingerprint of the options that etcd's next start reads, "" where that is not known."""
        try:
            return CONFIGURED.read_text()
        except OSError:
            return ""

    def refuse_options(self, why: str) -> None:
        """Tell the others that etcd cannot have the present options, and use those of before."""
        self.me = dataclasses.replace(
            self.me, refused=views.Failure(self.settings.fingerprint, f"{why} ({self.unit})")
        )
        if self.reread is not None:
            self.settings = self.reread(self.me.refused)

    def _config(
        self, initial: etcd_config.Initial, initial_cluster: str, token: str, compare: bool
    ) -> etcd_config.Config:
        wanted = self.settings
        # An earlier gateway shows what etcd shows: no client's where an outside one signs it.
        shows_client = wanted.trust_client_authority or not self.outside
        version = service.version()
        listen = (self.addresses.client_bind, "127.0.0.1")
        return etcd_config.Config(
            name=self.member,
            data_dir=self.root.etcd_dir,
            version=version,
            listen_client_urls=tuple(dict.fromkeys(network.url(at, wanted.port) for at in listen)),
            advertise_client_urls=(network.url(self._client_host, wanted.port),),
            listen_peer_urls=(network.url(self.addresses.peer_bind, wanted.peer_port),),
            advertise_peer_urls=(self.peer_url,),
            gateway_tls=etcd_config.tls_files(etcd_config.GATEWAY),
            gateway=shows_client or version >= etcd_config.OWN_GATEWAY,
            token=token,
            initial_cluster=initial_cluster,
            initial=initial,
            heartbeat_ms=wanted.heartbeat_ms,
            election_ms=wanted.election_ms,
            quota_bytes=wanted.quota_bytes,
            auto_compaction_mode=wanted.compaction_mode,
            auto_compaction_retention=wanted.compaction_retention,
            snapshot_count=wanted.snapshot_count,
            max_request_bytes=wanted.max_request_bytes,
            max_txn_ops=wanted.max_txn_ops,
            watch_progress=wanted.watch_progress,
            log_level=wanted.log_level,
            tls_min_version=wanted.tls_min_version,
            compare=compare,
            revoked=etcd_config.REVOKED if etcd_config.REVOKED.exists() else None,
        )

    def finished(self) -> int:
        """Number of the generation whose aftermath was done on this data, 0 for none."""
        try:
            return int((self.root.current / FINISHED).read_text())
        except (OSError, ValueError):
            return 0

    def finish(self, number: int) -> None:
        """Note that the aftermath of this generation is done on this data."""
        files.write(self.root.current / FINISHED, f"{number}\n")

    def wake(self, seconds: float) -> None:
        """Look again in so many seconds; a leaving unit, which has no later hook, waits here.

        Juju runs a wake-up before it delivers relation events: one that came too often would keep
        them from this unit for ever. So it is several hooks away, and further the longer nothing
        has moved.
        """
        if self.torn_down:
            time.sleep(min(seconds, 1.0))
            return
        now = time.time()
        age = max((now - began for began in self.notes.since().values()), default=0.0)
        delay = max(seconds, WAKE_SHARE * (time.monotonic() - self.began), age / WAKE_SHARE)
        self.wake_in(min(delay, WAKE_LONGEST))

    def wake_in(self, seconds: float) -> None:
        """Look again in exactly so many seconds."""
        try:
            juju_exec.wake(seconds, self.unit, self.charm_dir)
        except errors.EtcdError as error:
            log.warning("no earlier look than update-status: %s", error)

    def begin(self, number: int) -> None:
        """Note on the machine's own disk that data of this generation was started here.

        It outlives the data and a hook that dies before its databag is flushed.
        """
        self.me = dataclasses.replace(self.me, last_started=number)
        self.notes.note(begun=number)

    def use_turn(self, number: int) -> None:
        """Note that this turn to restart was used."""
        self.me = dataclasses.replace(self.me, turn_done=number)
        self.notes.note(turn_done=number)

    def restarts_in(self, number: int) -> None:
        """Note that etcd is restarted in this turn, which is used by that."""
        self.use_turn(number)
        self.notes.note(restarted=number)

    @property
    def restarted_in(self) -> int:
        """Number of the last turn in which etcd was restarted, 0 for none."""
        return self.notes.numbers().get("restarted", 0)

    def recall(self) -> None:
        """Add what is noted on the machine to what the databag says of this unit."""
        noted = self.notes.numbers()
        self.me = dataclasses.replace(
            self.me,
            last_started=max(self.me.last_started, noted.get("begun", 0)),
            turn_done=max(self.me.turn_done, noted.get("turn_done", 0)),
        )


def _tried() -> list[str]:
    try:
        return TRIED.read_text().split()
    except OSError:
        return []


def _host(url: str | None) -> str | None:
    return urllib.parse.urlsplit(url).hostname if url else None
