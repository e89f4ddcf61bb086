"""Backups of this application: where they go, and what an operator asks of them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from typing import TYPE_CHECKING

from backup import catalog as catalogs
from backup import claimant as claimants
from backup import (
    keeper_files,
    operations,
    rclone,
    rclone_errors,
    remote_choice,
    remote_settings,
    seal,
)
from backup import listing as listings
from backup import manifest as manifests
from cluster import revisions
from etcd import service
from hook import fencing
from keeper import systemd_unit
from machine import files, processes
from relations import rclone_config

if TYPE_CHECKING:
    import pathlib

    import ops

    from cluster import generation as generations
    from hook import unit as units

log = logging.getLogger(__name__)

CHECKED = files.MEMORY / "remote-checked"


@dataclasses.dataclass(frozen=True)
class Problem:
    """What keeps backups, or options, from being as they should be.

    Attributes:
        sentence: for `juju status`.
        waiting: another application's answer is awaited; nobody here can do anything.
        reason: its key in `cluster.reasons`.
    """

    sentence: str
    waiting: bool = False
    reason: str = "backups"

    @classmethod
    def untold(cls, error: OSError) -> Problem:
        """The keeper's files cannot be written."""
        return cls(
            f"the keeper and etcd-admin were not told what changed ({error.strerror}): "
            "they go on with what they had, and are told once that is mended"
        )


class Backups:
    """The backups of one application, as one unit sees them.

    Args:
        node: this unit.
        chosen: where they go.
        folder: the application's folder on the remote.
    """

    def __init__(self, node: units.Node, chosen: remote_choice.Choice, folder: str):
        self._node = node
        self._chosen = chosen
        self._folder = folder

    @classmethod
    def of(cls, charm: ops.CharmBase, node: units.Node, related: remote_choice.Choice) -> Backups:
        """Those of an application, by its configuration.

        Args:
            charm: the charm.
            node: this unit.
            related: what the `s3-credentials` relation says.
        """
        config, environment = rclone_config.read(charm.model, charm.config)
        settings = node.settings
        chosen = remote_choice.choose(
            related,
            settings.backup_remote,
            config,
            settings.backup_bandwidth,
            environment,
            processes.proxies(),
        )
        model = charm.model
        folder = catalogs.folder(model.name, model.uuid, charm.app.name, settings.cluster_name)
        return cls(node, chosen, folder)

    def ensure(self) -> Problem | None:
        """Tell the keeper of this unit what to do; answers what is wrong with the remote.

        A remote is tried by a write, a read back and a delete before it is used. Until that works,
        and while credentials are awaited, the keeper goes on with the one before.
        """
        fencing.tell(self._node)
        settings, problem = self._usable()
        systemd_unit.ensure(
            self._node.charm_dir, self._config(), settings, self._chosen.settings, self._keys
        )
        if problem is None and (trouble := keeper_files.Status.read().trouble(time.time())):
            return Problem(trouble)
        return problem

    def _usable(self) -> tuple[remote_settings.Settings | None, Problem | None]:
        """The remote that the keeper is to use, and why it is not the one that was chosen."""
        settings = self._chosen.settings
        if self._chosen.state is remote_choice.State.WAITING:
            return systemd_unit.remote(), Problem(self._chosen.sentence, waiting=True)
        if settings is None:
            return None, Problem(self._chosen.sentence) if self._chosen.sentence else None
        try:
            if not self._was_checked(settings):
                rclone.Remote(settings).check()
                files.ensure_dir(CHECKED.parent)
                files.write(CHECKED, settings.fingerprint)
        except rclone_errors.RemoteError as error:
            before = systemd_unit.remote()
            if before is None or before == settings:
                return before, Problem(f"Backups are not taken: {error}")
            return before, Problem(f"Backups still go where they went before: {error}")
        return settings, None

    def remote(self) -> rclone.Remote:
        """The remote that was chosen, also while the keeper still uses the one before.

        To list and to restore it has to be readable only; and who has just named another remote
        never restores or deletes what is on the former.

        Raises:
            operations.BackupError: there is none.
        """
        if self._chosen.settings is None:
            raise operations.BackupError(
                self._chosen.sentence
                or "there is no remote: relate s3-credentials, or set backup-remote"
            )
        return rclone.Remote(self._chosen.settings)

    def manual(self) -> operations.Operations:
        """What an operator may ask of them.

        Raises:
            operations.BackupError: there is no remote.
        """
        from backup import create, worker

        node, committed = self._node, self._node.peers.generation()
        return operations.Operations(
            remote=self.remote(),
            folder=self._folder,
            about=create.About(
                node.unit, committed.number, committed.token, revisions.high(committed)
            )
            if committed
            else None,
            workdir=self._workdir,
            retention=node.settings.backup_retention,
            keys=self._keys,
            claimant=self._claimant,
            cluster=worker.Cluster(tuple(node.endpoints()), node.local_url, node.tls_now()),
        )

    def chosen(
        self, wanted: str, cluster_name: str = ""
    ) -> tuple[manifests.Manifest, generations.Detail]:
        """A backup to restore from, and what the generation record says of it.

        Args:
            wanted: id, part of one, `latest` or `proven`.
            cluster_name: another cluster's folder, "" for this application's.
        """
        listing = self._listing(cluster_name)
        manifest = operations.select(listing, wanted)
        _refuse_newer(manifest, service.version())
        # Clients of this application remember what its own backups know of.
        high = max(listing.high, self.high()) if cluster_name else listing.high
        return manifest, self._detail(listing, manifest, high, cluster_name)

    def high(self) -> int:
        """The highest revision that the backups know of, 0 where they cannot be listed."""
        try:
            return self._listing().high
        except (operations.BackupError, rclone_errors.RemoteError) as error:
            log.info("what revisions the backups know of cannot be seen: %s", error)
            return 0

    def origin(self) -> tuple[generations.Detail | None, str]:
        """What a cluster without data is to be founded from, as the operator has it.

        Returns:
            What a record says of the newest proven backup, None for nothing; and one sentence on
            why an empty cluster may not be founded, "" when it may.
        """
        settings = self._node.settings
        if not settings.recover_total_loss and not settings.cluster_name:
            return None, ""
        continues = settings.recover_total_loss and settings.cluster_name
        if self._chosen.state is remote_choice.State.OFF and not continues:
            return None, ""  # nothing says that anything was ever stored
        try:
            listing = self._listing()
        except (operations.BackupError, rclone_errors.RemoteError) as error:
            return None, f"whether {self._folder} has backups cannot be seen: {error}"
        if not listing.manifests:
            return None, ""
        if settings.recover_total_loss and listing.proven is not None:
            return self._detail(listing, listing.proven, listing.high), ""
        proven = "none of them proven by this one, " if settings.recover_total_loss else ""
        application = self._node.unit.rpartition("/")[0]
        return None, (
            f"the remote has {len(listing.manifests)} backups in {self._folder}, {proven}and they "
            f"are not used unasked: run `juju run {application}/leader restore backup-id=latest`, "
            "or set another cluster-name for an empty cluster"
        )

    def _detail(
        self,
        listing: listings.Listing,
        manifest: manifests.Manifest,
        high: int,
        cluster_name: str = "",
    ) -> generations.Detail:
        from backup import fetch  # costly, and most hooks restore nothing

        folder = operations.place(self._folder, cluster_name)
        stored = fetch.Stored(folder, manifest.id, manifest.sha256, manifest.size)
        return dataclasses.replace(
            fetch.to_detail(stored),
            revision=manifest.revision,
            carries=manifest.carries,
            high=high,
            cluster=f"{manifest.cluster_id:x}",
            authentic="yes" if manifest.id in listing.authentic else "no",
        )

    def words(self) -> str:
        """One sentence on freshness, for `health`."""
        return keeper_files.Status.read().words(time.time())

    def _listing(self, cluster_name: str = "") -> listings.Listing:
        folder = operations.place(self._folder, cluster_name)
        return catalogs.Catalog(self.remote(), folder, keys=self._keys).read()

    @functools.cached_property
    def _keys(self) -> seal.Keys:
        """What this application seals manifests with, asked once for each hook."""
        return self._node.peers.ensure_backup_keys(keeper_files.keys())

    @property
    def _claimant(self) -> claimants.Claimant:
        """Who wants to write in the folder."""
        committed = self._node.peers.generation()
        place = self._node.peers.place
        if committed is None:
            return claimants.Claimant(*place)
        return claimants.Claimant(*place, committed.token, committed.detail.cluster)

    @property
    def _workdir(self) -> pathlib.Path:
        return self._node.root.path / "backup"

    def _config(self) -> keeper_files.Config:
        node, settings = self._node, self._node.settings
        committed = node.peers.generation()
        tls, claimant = node.tls(), self._claimant
        facts, dates = dict(node.certificate_facts()), node.certificate_dates()
        return keeper_files.Config(
            unit=node.unit,
            member=node.member,
            endpoints=tuple(sorted(node.endpoints())),
            local=node.local_url,
            ca=str(tls.ca),
            cert=str(tls.cert),
            key=str(tls.key),
            generation=committed.number if committed else 0,
            token=committed.token if committed else "",
            high=revisions.high(committed),
            folder=self._folder,
            interval=settings.backup_interval,
            retention=settings.backup_retention,
            workdir=str(self._workdir),
            units=sum(unit.alive for unit in node.peers.units()),
            leads=node.leads,
            certificates={name: end for name, (_, end) in dates.items()},
            certificates_from={name: begin for name, (begin, _) in dates.items()},
            believed=facts["client"].ca_fingerprint if "client" in facts else "",
            metrics_port=settings.metrics_port,
            tls_min_version=settings.tls_min_version,
            application=claimant.application,
            model=claimant.model,
            model_uuid=claimant.model_uuid,
            continues=claimant.continues,
        )

    @staticmethod
    def _was_checked(settings: remote_settings.Settings) -> bool:
        try:
            return CHECKED.read_text() == settings.fingerprint
        except OSError:
            return False


def _refuse_newer(manifest: manifests.Manifest, installed: tuple[int, int, int]) -> None:
    """Refuse a backup whose etcd is of a newer minor version than the installed one.

    Raises:
        operations.BackupError: it is; the running cluster is as it was.
    """
    taken = manifest.storage_version or manifest.etcd_version
    numbers = tuple(int(part) for part in taken.split(".")[:2] if part.isdigit())
    if numbers > installed[:2]:
        own = ".".join(map(str, installed))
        raise operations.BackupError(
            f"{manifest.id} is of etcd {taken}, and {own} is installed: nothing was changed; "
            "attach a newer etcd resource first"
        )
