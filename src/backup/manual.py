"""What an operator asks of one cluster's backups, by an action or on the unit.

What takes, proves or shows them is imported there: a hook that only names them needs none of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from typing import TYPE_CHECKING, Any

from backup import catalog as catalogs
from etcd import errors

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Sequence

    from backup import aside, create, proof
    from backup import remote as remotes
    from etcd import answers

_PATIENCE = 600  # seconds that a member may be defragmented before a backup gives up


class BackupError(Exception):
    """Nothing was done; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Manual:
    """One cluster's backups, as one unit works on them.

    Attributes:
        remote: the root that clusters share.
        folder: this cluster's.
        about: who takes a backup, and of what; None without a cluster.
        workdir: on a disk with room for a snapshot.
        cluster: how to reach etcd.
    """

    remote: remotes.Remote
    folder: str
    about: create.About | None
    workdir: pathlib.Path
    cluster: aside.Cluster

    def create(self, say: Callable[[str], None]) -> catalogs.Manifest:
        """Take a backup now.

        Raises:
            BackupError: there is nothing to back up.
            errors.EtcdError: no snapshot could be had.
            refusals.RemoteError: it could not be stored.
        """
        from backup import create

        if self.about is None:
            raise BackupError("there is no cluster to back up yet")
        with self.cluster.client() as online:
            return create.create_backup(
                online,
                self.cluster,
                self._catalog(),
                self.workdir,
                self.about,
                say=say,
                patience=_PATIENCE,
            )

    def listing(self, cluster_name: str = "") -> catalogs.Listing:
        """The backups on the remote, of this cluster or of another one's folder.

        Raises:
            BackupError: that can be no folder.
            refusals.RemoteError: the remote cannot be read.
        """
        return self._catalog(cluster_name).read()

    def verify(self, wanted: str) -> tuple[catalogs.Manifest, proof.Proof]:
        """Prove a backup by restoring it into a scratch etcd on this unit, also without a cluster.

        Raises:
            BackupError: there is no such backup.
            errors.EtcdError: it is not proven.
            refusals.RemoteError: it cannot be had.
        """
        from backup import create, proof, restore

        catalog = self._catalog()
        manifest = select(catalog.read().manifests, wanted)
        stored = restore.Stored(self.folder, manifest.id, manifest.sha256, manifest.size)

        def theirs(revision: int) -> answers.HashKV | None:
            with contextlib.suppress(errors.EtcdError), self.cluster.client() as online:
                if online.members(linearizable=False).cluster_id == manifest.cluster_id:
                    return online.hash_kv(self.cluster.local, revision)
            return None

        with create.scratch(self.workdir) as folder:
            fetched = restore.fetch(stored, folder / "fetched", self.remote)
            found = proof.prove(fetched.path, folder / "proof", manifest, theirs)
        catalog.mark_proven(manifest, time.time(), found.keys, (found.hash, found.compacted))
        return manifest, found

    def delete(self, wanted: str) -> catalogs.Manifest:
        """Delete a backup, but not the newest proven one.

        Raises:
            BackupError: there is no such backup, or it is that one.
            refusals.RemoteError: it is not deleted.
        """
        catalog = self._catalog()
        found = catalog.read()
        manifest = select(found.manifests, wanted)
        if found.proven is not None and manifest.id == found.proven.id:
            raise BackupError(f"{manifest.id} is the newest proven backup: it was not deleted")
        catalog.delete(manifest)
        return manifest

    def _catalog(self, cluster_name: str = "") -> catalogs.Catalog:
        return catalogs.Catalog(self.remote, place(self.folder, cluster_name))


def place(own: str, cluster_name: str) -> str:
    """The folder that an operator names, or the cluster's own.

    Raises:
        BackupError: the name can be no folder's.
    """
    try:
        return catalogs.folder(cluster_name=cluster_name) if cluster_name else own
    except ValueError as error:
        raise BackupError(str(error)) from error


def select(manifests: Sequence[catalogs.Manifest], wanted: str) -> catalogs.Manifest:
    """The backup that an operator names.

    Raises:
        BackupError: there is none, or more than one.
    """
    try:
        return catalogs.select(manifests, wanted)
    except LookupError as error:
        raise BackupError(str(error)) from error


_COLUMNS = ("ID", "TAKEN AT", "REVISION", "SIZE", "ETCD", "CLUSTER", "PROVEN AT")


def table(listing: catalogs.Listing) -> str:
    """The backups for a person, newest first, and what is wrong on the remote."""
    from etcd import report

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


def records(listing: catalogs.Listing) -> list[dict[str, Any]]:
    """The backups for a program, newest first."""
    return [
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


def backup_keys(manifest: catalogs.Manifest) -> dict[str, str]:
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
