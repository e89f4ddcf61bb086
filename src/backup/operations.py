"""What an operator asks of one cluster's backups, by an action or on the unit.

What takes, proves or shows them is imported there: a hook that only names them needs none of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import catalog as catalogs
from backup import claimant as claimants
from backup import listing as listings
from backup import manifest as manifests
from backup import schedule, seal

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from backup import create, proof, rclone, worker
    from etcd import responses

_THINNING = 600.0  # seconds that retention may take after a backup
_PATIENCE = 600  # seconds that a member may be defragmented before a backup gives up


class BackupError(Exception):
    """Nothing was done; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Operations:
    """One cluster's backups, as one unit works on them.

    Attributes:
        remote: the root that clusters share.
        folder: this cluster's.
        about: who takes a backup, and of what; None without a cluster.
        workdir: on a disk with room for a snapshot.
        cluster: how to reach etcd.
        retention: which backups stay, as configured.
        keys: the application's, for manifests.
        claimant: who wants to write in the folder.
    """

    remote: rclone.Remote
    folder: str
    about: create.About | None
    workdir: pathlib.Path
    cluster: worker.Cluster
    retention: str = ""
    keys: seal.Keys = dataclasses.field(default_factory=seal.Keys)
    claimant: claimants.Claimant = dataclasses.field(default_factory=claimants.Claimant)

    def create(self, say: Callable[[str], None], *, take_over: bool = False) -> manifests.Manifest:
        """Take a backup now.

        Args:
            say: told in words how far it is.
            take_over: make the folder this application's, whosever it is.

        Raises:
            BackupError: there is nothing to back up, or the folder is another application's.
            errors.EtcdError: no snapshot could be had.
            rclone_errors.RemoteError: it could not be stored.
        """
        from backup import create

        if self.about is None:
            raise BackupError("there is no cluster to back up yet")
        catalog = self._catalog()
        with self.cluster.client() as online:
            cluster_id = online.members(linearizable=False).cluster_id
            listing = catalog.read()
            if not take_over:
                self._refuse_foreign(listing, cluster_id)
            owner = self.claimant.owner(cluster_id)
            if self.claimant.application and listing.owner != owner:
                catalog.claim(owner)
            return create.create_backup(
                online,
                self.cluster,
                catalog,
                self.workdir,
                self.about,
                say=say,
                patience=_PATIENCE,
            )

    def listing(self, cluster_name: str = "") -> listings.Listing:
        """The backups on the remote, of this cluster or of another one's folder.

        Raises:
            BackupError: that can be no folder.
            rclone_errors.RemoteError: the remote cannot be read.
        """
        listing = self._catalog(cluster_name).read()
        overdue = () if cluster_name else self._overdue(listing)
        return dataclasses.replace(listing, problems=(*listing.problems, *overdue))

    def _overdue(self, listing: listings.Listing) -> tuple[str, ...]:
        """A sentence on backups that should be gone, none where there are none."""
        now = time.time()
        newest = listing.newest
        if newest is None or now - listing.at(newest) < _THINNING:
            return ()  # they may be on their way
        doomed = listing.doomed(schedule.Retention.parse(self.retention), now)
        if not doomed:
            return ()
        return (
            f"{len(doomed)} backups stay that backup-retention does not keep: the store holds "
            "them locked, or does not let them be deleted",
        )

    def _refuse_foreign(self, listing: listings.Listing, cluster_id: int) -> None:
        refused = self.claimant.refused(listing, self.folder, cluster_id)
        if refused:
            raise BackupError(refused)

    def verify(self, wanted: str) -> tuple[manifests.Manifest, proof.Proof]:
        """Prove a backup by restoring it into a scratch etcd on this unit, also without a cluster.

        Raises:
            BackupError: there is no such backup.
            errors.EtcdError: it is not proven.
            rclone_errors.RemoteError: it cannot be had.
        """
        from backup import create, fetch, proof

        catalog = self._catalog()
        listing = catalog.read()
        manifest = select(listing, wanted)
        mine = not self.claimant.refused(listing, self.folder, 0)
        stored = fetch.Stored(self.folder, manifest.id, manifest.sha256, manifest.size)

        def theirs(revision: int) -> responses.HashKV | None:
            with contextlib.suppress(errors.EtcdError), self.cluster.client() as online:
                if online.members(linearizable=False).cluster_id == manifest.cluster_id:
                    return online.hash_kv(self.cluster.local, revision)
            return None

        with create.scratch(self.workdir) as folder:
            fetched = fetch.fetch(stored, folder / "fetched", self.remote)
            found = proof.prove(fetched.path, folder / "proof", manifest, theirs)
        if mine:
            catalog.mark_proven(manifest, time.time(), found.keys, (found.hash, found.compacted))
        return manifest, found

    def delete(self, wanted: str) -> manifests.Manifest:
        """Delete a backup, but not the newest proven one.

        Raises:
            BackupError: there is no such backup, or it is that one.
            rclone_errors.RemoteError: it is not deleted.
        """
        catalog = self._catalog()
        found = catalog.read()
        manifest = select(found, wanted)
        self._refuse_foreign(found, 0)
        if found.guarded is not None and manifest.id == found.guarded.id:
            raise BackupError(f"{manifest.id} is the newest proven backup: it was not deleted")
        catalog.delete(manifest)
        return manifest

    def _catalog(self, cluster_name: str = "") -> catalogs.Catalog:
        return catalogs.Catalog(self.remote, place(self.folder, cluster_name), keys=self.keys)


def place(own: str, cluster_name: str) -> str:
    """The folder that an operator names, or the cluster's own.

    Raises:
        BackupError: the name can be no folder's.
    """
    try:
        return catalogs.folder(cluster_name=cluster_name) if cluster_name else own
    except ValueError as error:
        raise BackupError(str(error)) from error


def select(listing: listings.Listing, wanted: str) -> manifests.Manifest:
    """The backup that an operator names.

    Raises:
        BackupError: there is none, or more than one.
    """
    try:
        return listings.select(listing, wanted)
    except LookupError as error:
        raise BackupError(str(error)) from error


_COLUMNS = ("ID", "TAKEN AT", "REVISION", "SIZE", "ETCD", "CLUSTER", "PROVEN AT", "AUTHENTIC")
_WORTH = (
    "not authentic: this application's key did not seal the manifest, so that what it says, also "
    "of its proof, is the store's word: an earlier revision of the charm or another application "
    "wrote it, or somebody changed it; recover-total-loss does not use it, restore and "
    "verify-backup do"
)


def table(listing: listings.Listing) -> str:
    """The backups for a person, newest first, and what is wrong on the remote."""
    from etcd import report

    rows = [
        (
            m.id,
            manifests.stamp(listing.at(m)),
            str(m.revision),
            report.size(m.size),
            m.etcd_version,
            f"{m.cluster_id:x}",
            manifests.stamp(m.proven_at) if m.proven_at else "-",
            "yes" if m.id in listing.authentic else "no",
        )
        for m in listing.manifests
    ]
    text = report.table(_COLUMNS, rows) if rows else "no backups"
    worth = [_WORTH] if len(listing.authentic) < len(rows) else []
    owner = [f"the folder belongs to {listing.owner.words}"] if listing.owner else []
    return "\n".join([text, *worth, *owner, *listing.problems])


def records(listing: listings.Listing) -> list[dict[str, Any]]:
    """The backups for a program, newest first."""
    return [
        {
            "id": m.id,
            "taken-at": manifests.stamp(listing.at(m)),
            "revision": m.revision,
            "size": m.size,
            "etcd-version": m.etcd_version,
            "cluster-id": f"{m.cluster_id:x}",
            "generation": m.generation,
            "proven-at": manifests.stamp(m.proven_at) if m.proven_at else None,
            "authentic": m.id in listing.authentic,
        }
        for m in listing.manifests
    ]


def backup_keys(manifest: manifests.Manifest) -> dict[str, str]:
    """One backup as results of an action."""
    taken = datetime.datetime.fromtimestamp(manifest.taken_at, datetime.timezone.utc)
    return {
        "id": manifest.id,
        "revision": str(manifest.revision),
        "size": str(manifest.size),
        "stored-size": str(manifest.stored_size),
        "sha256": manifest.sha256,
        "taken-at": taken.isoformat(timespec="seconds"),
    }


def proof_keys(found: proof.Proof) -> dict[str, str]:
    """A proof as results of an action."""
    compared = {True: "equal to the cluster's", False: "differs", None: "not compared"}
    return {"hash": compared[found.matched], "seconds": f"{found.seconds:.1f}"}
