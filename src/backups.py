"""Backups of this application: where they go, and what an operator asks of them."""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import time
from typing import TYPE_CHECKING

import host
import keeper_service
from backup import catalog as catalogs
from backup import choice, create, orders, proof, restore
from backup import remote as remotes
from etcd import answers, errors, report, service, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import node as node_

log = logging.getLogger(__name__)

CHECKED = pathlib.Path("/run/etcd-charm/remote-checked")
PATIENCE = 600  # seconds that a member may be defragmented before a backup gives up


class BackupError(Exception):
    """Nothing was done; the text is one sentence for `juju status` or the action."""


class Backups:
    """The backups of one application, as one unit sees them.

    Args:
        node: this unit.
        chosen: where they go.
        folder: the application's folder on the remote.
    """

    def __init__(self, node: node_.Node, chosen: choice.Choice, folder: str):
        self._node = node
        self._chosen = chosen
        self._folder = folder

    def ensure(self) -> str:
        """Tell the keeper of this unit what to do; answers what is wrong with the remote, or "".

        A remote is tried by a write, a read back and a delete before it is used.
        """
        settings = self._chosen.settings
        if self._chosen.state is choice.State.WAITING:
            return self._chosen.sentence  # what was used before goes on being used
        if settings is None:
            keeper_service.ensure(self._node.charm_dir, self._config(), None)
            return self._chosen.sentence
        try:
            if not self._was_checked(settings):
                remotes.Remote(settings).check()
                host.ensure_dir(CHECKED.parent)
                host.write_file(CHECKED, settings.fingerprint)
        except remotes.RemoteError as error:
            return f"Backups are not taken: {error}"
        keeper_service.ensure(self._node.charm_dir, self._config(), settings)
        return orders.Status.read().trouble(time.time())

    def remote(self) -> remotes.Remote:
        """The remote that was chosen.

        Raises:
            BackupError: there is none.
        """
        if self._chosen.settings is None:
            raise BackupError(
                self._chosen.sentence
                or "there is no remote: relate s3-credentials, or set backup-remote"
            )
        return remotes.Remote(self._chosen.settings)

    def create(self, say: Callable[[str], None]) -> catalogs.Manifest:
        """Take a backup now."""
        committed = self._node.peers.generation()
        if committed is None:
            raise BackupError("there is no cluster to back up yet")
        about = create.About(self._node.unit, committed.number, committed.token)
        with self._node.client() as online:
            return create.create_backup(
                online, self._catalog(), self._workdir, about, say=say, patience=PATIENCE
            )

    def listing(self, cluster_name: str = "") -> catalogs.Listing:
        """The backups on the remote, of this application or of another folder."""
        folder = catalogs.folder(cluster_name=cluster_name) if cluster_name else self._folder
        return catalogs.Catalog(self.remote(), folder).read()

    def verify(self, wanted: str) -> tuple[catalogs.Manifest, proof.Proof]:
        """Prove a backup by restoring it into a scratch etcd on this unit."""
        catalog = self._catalog()
        manifest = select(catalog.read().manifests, wanted)
        fetched = restore.fetch(self._stored(manifest), self._workdir / "verify", self.remote())
        try:
            with contextlib.ExitStack() as stack:
                online = stack.enter_context(self._node.client())

                def cluster(revision: int) -> answers.HashKV | None:
                    with contextlib.suppress(errors.EtcdError):
                        same = online.members(linearizable=False).cluster_id
                        if same == manifest.cluster_id:
                            return online.hash_kv(self._node.local_url, revision)
                    return None

                found = proof.prove(fetched.path, self._workdir / "proof", manifest, cluster)
        finally:
            fetched.path.unlink(missing_ok=True)
        catalog.mark_proven(manifest, time.time(), found.keys, (found.hash, found.compacted))
        return manifest, found

    def delete(self, wanted: str) -> catalogs.Manifest:
        """Delete a backup, but not the newest proven one."""
        catalog = self._catalog()
        found = catalog.read()
        manifest = select(found.manifests, wanted)
        if found.proven is not None and manifest.id == found.proven.id:
            raise BackupError(f"{manifest.id} is the newest proven backup: it was not deleted")
        catalog.delete(manifest)
        return manifest

    def chosen(
        self, wanted: str, cluster_name: str = ""
    ) -> tuple[catalogs.Manifest, dict[str, str]]:
        """A backup to restore from, and what the generation record says of it.

        Args:
            wanted: id, part of one, `latest` or `proven`.
            cluster_name: another cluster's folder, "" for this application's.
        """
        manifest = select(self.listing(cluster_name).manifests, wanted)
        _refuse_newer(manifest, service.version())
        return manifest, self._detail(manifest, cluster_name)

    def origin(self) -> tuple[tuple[tuple[str, str], ...] | None, str]:
        """What a cluster without data is to be founded from, as the operator has it.

        Returns:
            What a record says of the newest proven backup, None for nothing; and one sentence on
            why an empty cluster may not be founded, "" when it may.
        """
        settings = self._node.settings
        if not settings.recover_total_loss and not settings.cluster_name:
            return None, ""
        continues = settings.recover_total_loss and settings.cluster_name
        if self._chosen.state is choice.State.OFF and not continues:
            return None, ""  # nothing says that anything was ever stored
        try:
            listing = self.listing()
        except (BackupError, remotes.RemoteError) as error:
            return None, f"whether {self._folder} has backups cannot be seen: {error}"
        if not listing.manifests:
            return None, ""
        if settings.recover_total_loss and listing.proven is not None:
            return tuple(sorted(self._detail(listing.proven).items())), ""
        proven = "none of them proven, " if settings.recover_total_loss else ""
        application = self._node.unit.rpartition("/")[0]
        return None, (
            f"the remote has {len(listing.manifests)} backups in {self._folder}, {proven}and they "
            f"are not used unasked: run `juju run {application}/leader restore backup-id=latest`, "
            "or set another cluster-name for an empty cluster"
        )

    def _detail(self, manifest: catalogs.Manifest, cluster_name: str = "") -> dict[str, str]:
        return {
            **restore.to_detail(self._stored(manifest, cluster_name)),
            "revision": str(manifest.revision),
            "carries": manifest.carries,
            "bump": str(snapshot.bump_for(manifest.revision, manifest.revision)),
        }

    def words(self) -> str:
        """One sentence on freshness, for `health`."""
        return orders.Status.read().words(time.time())

    def _stored(self, manifest: catalogs.Manifest, cluster_name: str = "") -> restore.Stored:
        folder = catalogs.folder(cluster_name=cluster_name) if cluster_name else self._folder
        return restore.Stored(folder, manifest.id, manifest.sha256, manifest.size)

    def _catalog(self) -> catalogs.Catalog:
        return catalogs.Catalog(self.remote(), self._folder)

    @property
    def _workdir(self) -> pathlib.Path:
        return self._node.root.path / "backup"

    def _config(self) -> orders.Config:
        node, settings = self._node, self._node.settings
        committed = node.peers.generation()
        tls = node.tls()
        return orders.Config(
            unit=node.unit,
            member=node.member,
            endpoints=tuple(sorted(node.endpoints())),
            local=node.local_url,
            ca=str(tls.ca),
            cert=str(tls.cert),
            key=str(tls.key),
            generation=committed.number if committed else 0,
            token=committed.token if committed else "",
            folder=self._folder,
            interval=settings.backup_interval,
            retention=settings.backup_retention,
            workdir=str(self._workdir),
            units=sum(unit.alive for unit in node.peers.units()),
            certificates={name: facts.not_after for name, facts in node.certificate_facts()},
            metrics_port=settings.metrics_port,
        )

    @staticmethod
    def _was_checked(settings: remotes.Settings) -> bool:
        try:
            return CHECKED.read_text() == settings.fingerprint
        except OSError:
            return False


def select(manifests: Sequence[catalogs.Manifest], wanted: str) -> catalogs.Manifest:
    """The backup that an operator names.

    Raises:
        BackupError: there is none, or more than one.
    """
    try:
        return catalogs.select(manifests, wanted)
    except LookupError as error:
        raise BackupError(str(error)) from error


def _refuse_newer(manifest: catalogs.Manifest, installed: tuple[int, int, int]) -> None:
    """Refuse a backup whose etcd is of a newer minor version than the installed one.

    Raises:
        BackupError: it is; the running cluster is as it was.
    """
    taken = manifest.storage_version or manifest.etcd_version
    numbers = tuple(int(part) for part in taken.split(".")[:2] if part.isdigit())
    if numbers > installed[:2]:
        own = ".".join(map(str, installed))
        raise BackupError(
            f"{manifest.id} is of etcd {taken}, and {own} is installed: nothing was changed; "
            "attach a newer etcd resource first"
        )


_COLUMNS = ("ID", "TAKEN AT", "REVISION", "SIZE", "ETCD", "CLUSTER", "PROVEN AT")


def table(listing: catalogs.Listing) -> str:
    """The backups for a person, newest first, and what is wrong on the remote."""
    rows = [
        (
            m.id,
            catalogs.stamp(m.taken_at),
            str(m.revision),
            report.size(m.size),
            m.etcd_version,
            f"{m.cluster_id:x}",
            catalogs.stamp(m.proven_at) if m.proven_at else "-",
        )
        for m in listing.manifests
    ]
    text = report.table(_COLUMNS, rows) if rows else "no backups"
    return "\n".join([text, *listing.problems])


def records(listing: catalogs.Listing) -> str:
    """The backups for a program: JSON, one object for each."""
    return report.to_json(
        [
            {
                "id": m.id,
                "taken-at": catalogs.stamp(m.taken_at),
                "revision": m.revision,
                "size": m.size,
                "etcd-version": m.etcd_version,
                "cluster-id": f"{m.cluster_id:x}",
                "generation": m.generation,
                "proven-at": catalogs.stamp(m.proven_at) if m.proven_at else None,
            }
            for m in listing.manifests
        ]
    )


def manifest_keys(manifest: catalogs.Manifest) -> dict[str, str]:
    """One backup as an action's results."""
    taken = datetime.datetime.fromtimestamp(manifest.taken_at, datetime.timezone.utc)
    return {
        "id": manifest.id,
        "revision": str(manifest.revision),
        "size": str(manifest.size),
        "stored-size": str(manifest.stored_size),
        "sha256": manifest.sha256,
        "taken-at": taken.isoformat(timespec="seconds"),
    }
