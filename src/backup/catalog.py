"""What lies on the remote: names, manifests, and how a backup becomes and stays visible.

One folder per cluster (docs/backups.md). In it `snapshots/<id>.db[.zst|.gz]` and its manifest
`snapshots/<id>.json`, uploaded last and deleted first: a backup exists when both do. `archive/` is
left for a continuous archive of changes, `snapshots/owner.json` says whose folder it is. The pure
part knows names and manifests; `Catalog` moves them.

What a manifest says is the store's word until its code is compared (`backup.seal`). Within a
cluster, backups are ordered by generation and revision, which no clock moves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import tempfile
import time
from typing import TYPE_CHECKING

from backup import listing as listings
from backup import manifest as manifests
from backup import owner as owners
from backup import rclone, rclone_errors, seal
from machine import files

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMED = f"{{{owners.FILE},????????T??????Z-g*-r*-??????.json}}"  # as rclone writes a pattern
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def folder(
    model: str = "", model_uuid: str = "", application: str = "", cluster_name: str = ""
) -> str:
    """The cluster's folder on the remote: `<cluster-name>`, or made of model and application.

    Raises:
        ValueError: the cluster name has characters that are no file name's everywhere.
    """
    if cluster_name:
        if not _FOLDER.fullmatch(cluster_name):
            raise ValueError(
                f"cluster-name {cluster_name!r} has more than letters, digits, '.', '_', '-' "
                "and '/' between names"
            )
        return cluster_name
    return f"{model}-{model_uuid[:8]}/{application}"


class Catalog:
    """One cluster's backups on a remote."""

    def __init__(
        self,
        remote: rclone.Remote,
        folder: str,
        cache: pathlib.Path | None = None,
        keys: seal.Keys | None = None,
    ) -> None:
        """Look at a cluster's folder; nothing is sent.

        Args:
            remote: the root that several clusters share.
            folder: this cluster's, see `folder()`.
            cache: a directory that keeps manifests between calls; without one each call reads
                them all.
            keys: the application's, to seal manifests with and to know them by.
        """
        self.remote = remote.child(folder)
        self.folder = folder
        self._snapshots = self.remote.child(listings.SNAPSHOTS)
        self._cache = cache
        self._keys = keys

    def read(self) -> listings.Listing:
        """List the backups; what is wrong with any of them does not hide the others.

        Raises:
            rclone_errors.RemoteError: the remote cannot be read.
        """
        entries = self._snapshots.list()
        if not entries:
            return listings.Listing(())
        with tempfile.TemporaryDirectory(prefix="etcd-catalog-") as scratch:
            cache = self._cache or pathlib.Path(scratch)
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            cache.chmod(0o700)  # what is in it, another user may write to
            folder = cache / "objects"
            folder.mkdir(exist_ok=True)
            self._snapshots.mirror(_NAMED, folder, manifests.LARGEST)
            names = {entry.name for entry in entries}
            texts: dict[str, str] = {}
            for path in folder.iterdir():
                text = listings.text_of(path) if path.name in names else None
                if text is None:
                    files.remove(path)
                else:
                    texts[path.name] = text
        return listings.judge(entries, texts, time.time(), self._keys)

    def publish(
        self,
        manifest: manifests.Manifest,
        file: pathlib.Path,
        progress: rclone.Progress | None = None,
    ) -> manifests.Manifest:
        """Upload a snapshot and then its manifest, with the duration until then.

        Raises:
            rclone_errors.RemoteError: nothing is listed that was not before.
        """
        done, sent = manifest, [manifest.file]
        try:
            self._snapshots.put(file, manifest.file, progress=progress)
            done = dataclasses.replace(manifest, duration=time.time() - manifest.taken_at)
            sent.insert(0, f"{manifest.id}.json")
            self.describe(done)
        except rclone_errors.RemoteError:
            for name in sent:
                with contextlib.suppress(rclone_errors.RemoteError):
                    self._snapshots.delete(name)
            raise
        return done

    def describe(self, manifest: manifests.Manifest) -> None:
        """Write a manifest, the first time or anew.

        Raises:
            rclone_errors.RemoteError: it could not be written.
        """
        text = manifest.to_json(self._keys, time.time())
        self._snapshots.put_bytes(f"{manifest.id}.json", text.encode())

    def claim(self, owner: owners.Owner) -> None:
        """Write down whose folder this is.

        Raises:
            rclone_errors.RemoteError: it could not be written.
        """
        self._snapshots.put_bytes(owners.FILE, owner.to_json().encode())

    def mark_proven(
        self,
        manifest: manifests.Manifest,
        at: float,
        keys: int = 0,
        hashed: tuple[int, int] = (0, 0),
    ) -> manifests.Manifest:
        """Write down that a backup was proven.

        Args:
            manifest: which one.
            at: when, seconds since the epoch.
            keys: live keys that were found in it.
            hashed: HashKV at its revision, and the compaction that it was made under.

        Raises:
            rclone_errors.RemoteError: it could not be written.
        """
        proven = dataclasses.replace(
            manifest,
            proven_at=float(int(at)),
            keys=keys or manifest.keys,
            hash=hashed[0] or manifest.hash,
            hash_compacted=hashed[1] if hashed[0] else manifest.hash_compacted,
        )
        self.describe(proven)
        return proven

    def manifest(self, wanted: str) -> manifests.Manifest:
        """The manifest of one id, without listing the others.

        Raises:
            rclone_errors.RemoteError: there is none, or it cannot be used.
        """
        if not manifests.ID.fullmatch(wanted):
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.NOT_FOUND, f"{wanted[:80]!r} is not the id of a backup"
            )
        try:
            found = self._snapshots.get_bytes(f"{wanted}.json", manifests.LARGEST + 1)
            text = found.decode(errors="replace")
            return manifests.Manifest.from_json(text)
        except ValueError as error:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CORRUPT, f"the manifest of {wanted} cannot be used: {error}"
            ) from error
        except rclone_errors.RemoteError as error:
            if error.kind is rclone_errors.Kind.NOT_FOUND:
                raise rclone_errors.RemoteError(
                    error.kind, f"there is no backup {wanted} in {self.remote.words}"
                ) from error
            raise

    def get(
        self,
        manifest: manifests.Manifest,
        local: pathlib.Path,
        progress: rclone.Progress | None = None,
    ) -> None:
        """Download a backup's file as it is stored, to be checked by the caller.

        Raises:
            rclone_errors.RemoteError: what is wrong, in one sentence.
        """
        self._snapshots.get(manifest.file, local, size=manifest.stored_size, progress=progress)

    def delete(self, manifest: manifests.Manifest) -> None:
        """Remove a backup, manifest first: it is never listed half.

        Raises:
            rclone_errors.RemoteError: it is still there, or its file is left over.
        """
        self._snapshots.delete(f"{manifest.id}.json")
        self._snapshots.delete(manifest.file)

    def sweep(self, names: Iterable[str]) -> None:
        """Remove leftovers by their names in `Listing.leftovers`, and those that no listing shows.

        Raises:
            rclone_errors.RemoteError: what is wrong, in one sentence.
        """
        for name in names:
            self.remote.delete(name)
        self.remote.abort_uploads(listings.LEFTOVER)
