"""Snapshot files: taken on request, turned into a proposal, fetched by its founders."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import os
import pathlib
import pwd
import secrets
import shutil
import socket
import tempfile
import time
import urllib.parse
from typing import TYPE_CHECKING

import errors
from backup import fetch, peer_transfer, rclone_errors
from cluster import generation as generations
from cluster import queries, revisions
from etcd import data, service
from etcd import salvage as salvages
from etcd import snapshot as snapshots
from etcd import stamp as stamps
from machine import files

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from etcd import client as clients
    from hook import unit as units

SHARE_SECONDS = 3600  # how long founders may take to fetch a shared file
MARGIN = 64 * 1024**2  # bytes that must stay free
_PERSON = "ubuntu"  # whom juju scp and juju ssh log in as


@dataclasses.dataclass(frozen=True)
class Source:
    """A verified snapshot on this unit, ready to be restored.

    Attributes:
        path: the file.
        bump: how far the revision is raised, so that no watcher is fooled.
    """

    path: pathlib.Path
    bump: int = 0


def take(node: units.Node, target: str) -> snapshots.SnapshotInfo:
    """Save a snapshot of the cluster in the directory `target` on this unit.

    Raises:
        errors.EtcdError: the directory cannot be used, or no snapshot could be had.
    """
    directory = pathlib.Path(target)
    if not directory.is_absolute():
        raise errors.TargetError(f"target {target!r} is not an absolute path: nothing was written")
    _refuse_data(node.root, directory)
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        with files.reached(directory, create=True) as there, node.client() as client:
            name = _free_name(f"etcd-{now:%Y%m%d-%H%M%S}", there)
            need = client.status().db_size + MARGIN
            free = files.free_bytes(files.through(there))
            if free < need:
                raise errors.TargetError(
                    f"{directory} has {free} bytes free and the snapshot needs {need}: nothing "
                    "was written; make room or choose another target"
                )
            with _unreachable(there) as own:
                info = _taken(client, files.through(own) / name, directory / name)
                files.give(name, _owner(there), own)
                os.rename(name, name, src_dir_fd=own, dst_dir_fd=there)
            os.fsync(there)
    except OSError as error:
        raise errors.TargetError(
            f"{directory} cannot be written: {error.strerror}; nothing was kept there"
        ) from error
    return info


def _free_name(stem: str, there: int) -> str:
    """A name that no file of an open directory has; short, because it ends in a command."""
    taken = set(os.listdir(there))
    names = (f"{stem}{f'-{number}' if number else ''}.db" for number in itertools.count())
    return next(name for name in names if name not in taken)


def _taken(
    client: clients.Client, path: pathlib.Path, shown: pathlib.Path
) -> snapshots.SnapshotInfo:
    """A verified snapshot at `path`, which is called `shown` in all that is said of it."""
    with _called(shown, path):
        taken = client.snapshot(path)
        info = snapshots.verify(path, sha256=taken.sha256)
    return dataclasses.replace(info, path=shown)


@contextlib.contextmanager
def _called(shown: pathlib.Path, path: pathlib.Path) -> Generator[None]:
    """Errors of a file call it by the name that the operator knows."""
    try:
        yield
    except errors.EtcdError as error:
        error.args = tuple(str(each).replace(str(path), str(shown)) for each in error.args)
        raise


@contextlib.contextmanager
def _unreachable(there: int) -> Generator[int]:
    """A directory of ours in an open one, which its owner can rename and remove, but not enter."""
    name = f".snapshot-{secrets.token_hex(8)}"
    os.mkdir(name, 0o700, dir_fd=there)
    with files.folder(name, there) as own:
        try:
            yield own
        finally:
            for left in os.listdir(own):
                os.unlink(left, dir_fd=own)
            with contextlib.suppress(OSError):  # somebody moved it: it is empty
                os.rmdir(name, dir_fd=there)


def _refuse_data(root: data.Root, directory: pathlib.Path) -> None:
    """Refuse a directory in which etcd, or a restore, moves and removes what it finds.

    Raises:
        errors.TargetError: it is in the current data, or in what is being prepared.
    """
    for own in (root.current, root.prepared_dir):
        if directory.resolve().is_relative_to(own.resolve()):
            raise errors.TargetError(
                f"target {directory} is inside etcd's own data, {own}: nothing was changed; "
                "choose a directory outside of it"
            )


def _owner(there: int) -> str | None:
    """The person whose home an open directory is in, to whom a snapshot there is given."""
    with contextlib.suppress(KeyError):  # no such user: root keeps the file
        home = pathlib.Path(pwd.getpwnam(_PERSON).pw_dir)
        return _PERSON if files.path_of(there).is_relative_to(home) else None
    return None


def propose_file(
    node: units.Node, path: str, *, allow_missing_hash: bool = False
) -> generations.Detail:
    """What a record says of a snapshot file on this unit, verified.

    A copy of root's is verified, as the file may be another one's to change: who restores it
    compares that with the sha256 of this one. Where there are other units, the file is to be
    served to them (`serve`).

    Raises:
        errors.EtcdError: the file cannot be used.
    """
    shown = pathlib.Path(path)
    with _copied(node, shown) as copy, _called(shown, copy):
        info = snapshots.verify(
            copy, binary_version=service.version(), allow_missing_hash=allow_missing_hash
        )
    detail = generations.Detail(
        unit=node.unit,
        path=path,
        revision=info.revision,
        carries=info.carries,
        size=info.size,
        sha256=info.sha256,
    )
    if any(unit.alive and unit.name != node.unit for unit in node.peers.units()):
        share = _share(node, shown, _free_port(node.addresses.peer_bind))
        return dataclasses.replace(detail, source="share", url=share.url)
    return detail


@contextlib.contextmanager
def _copied(node: units.Node, path: pathlib.Path) -> Generator[pathlib.Path]:
    """A copy of a file, on the file system of the data, that nobody else can change."""
    folder = node.fetched / "given"
    try:
        fetched = fetch.fetch(fetch.File(str(path.absolute())), folder)
        yield fetched.path
    except rclone_errors.RemoteError as error:
        raise errors.MissingError(f"{error}; nothing was changed") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # a restore that is under way has files there
            node.fetched.rmdir()


def _free_port(address: str) -> int:
    """A port of an address of this machine that nobody uses now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def _share(node: units.Node, path: pathlib.Path, port: int) -> peer_transfer.Share:
    peer = node.certificates.path("peer")
    tls = (peer / "cert.pem", peer / "key.pem", peer / "ca.pem")
    return peer_transfer.Share(path, node.addresses.peer, node.addresses.peer_bind, port, *tls)


def serve(node: units.Node, proposal: generations.Generation) -> None:
    """Serve this unit's file to the other founders, over mutual TLS, until `end_share`.

    Nothing may refuse the proposal after this: it takes the place of what was served before.

    Raises:
        rclone_errors.RemoteError: it cannot be served.
    """
    if _is_shared_by(node, proposal):
        port = urllib.parse.urlsplit(proposal.detail.url).port or 0
        _share(node, pathlib.Path(proposal.detail.path), port).start(SHARE_SECONDS)


def end_share(node: units.Node) -> None:
    """Serve no longer than the restore needs it that asked for it."""
    committed = node.peers.generation()
    now = time.time()
    unsettled = committed if committed and _unsettled(node, committed, now) else None
    waiting = [record for record in (node.peers.proposal(), unsettled) if record]
    if not any(_is_shared_by(node, record) for record in waiting):
        peer_transfer.Share.stop()


def _is_shared_by(node: units.Node, record: generations.Generation) -> bool:
    return record.detail.source == "share" and record.detail.unit == node.unit


def propose(
    node: units.Node,
    detail: generations.Detail,
    *,
    known: Callable[[], int] = lambda: 0,
    keep: str = "",
    skip_backup: bool = False,
) -> generations.Generation:
    """The next generation, restored on every unit from what `detail` names.

    Args:
        node: this unit, Juju's leader.
        detail: of a file (`propose_file`) or of a backup (`backups.Backups.chosen`).
        known: the highest revision that the backups know of, asked where the cluster is silent
            and `detail` does not tell it.
        keep: directory for the replaced data, "" beside the data.
        skip_backup: drop the replaced data once the new generation is healthy.

    Raises:
        errors.EtcdError: no unit is ready yet, or `keep` cannot be used.
    """
    if keep:
        check_keep(node, keep)
    committed = node.peers.generation()
    founders = tuple(
        generations.Founder(unit.name, unit.peer_url)
        for unit in node.peers.units()
        if unit.alive and unit.peer_url
    )
    if not founders:
        raise errors.DataError("no unit has etcd installed yet: wait until one has")
    if committed is None and any(unit.token for unit in node.peers.units()):
        raise errors.DataError(
            "attached disks hold a cluster's data, nothing was changed: wait until it is founded"
        )
    if node.peers.proposal() is not None or (committed and _unsettled(node, committed)):
        raise errors.DataError("a restore is under way already: wait for its end in juju status")
    high = _begin(node, detail, committed, known)
    return generations.Generation(
        number=committed.number + 1 if committed else 1,
        token=secrets.token_hex(16),
        source=generations.Source.BACKUP,
        founders=founders,
        detail=dataclasses.replace(detail, high=high),
        keep=keep,
        skip_backup=skip_backup,
    )


def _begin(
    node: units.Node,
    detail: generations.Detail,
    committed: generations.Generation | None,
    known: Callable[[], int],
) -> int:
    """The revision that a restore begins with, above all that this unit can learn of."""
    live, backups = 0, detail.high
    disks = [unit.facts for unit in node.peers.units()]
    try:
        with node.client() as client:
            live = client.revision()
    except errors.EtcdError:
        disks.append(node.root.disk(facts=True).facts)
        backups = backups or known()
    return revisions.begin(
        snapshot=detail.revision,
        live=live,
        disks=disks,
        record=committed,
        backups=backups,
    )


def _unsettled(node: units.Node, committed: generations.Generation, unknown: float = 0.0) -> bool:
    """The last restore or recovery is neither confirmed nor given up yet.

    Args:
        node: this unit.
        committed: its record.
        unknown: when it began where this unit has not noted that.
    """
    if committed.confirmed or committed.source is generations.Source.NEW:
        return False
    began = node.notes.since().get(queries.confirm_key(committed), unknown)
    return time.time() - began <= node.settings.policy.confirm_deadline


def check_keep(node: units.Node, keep: str) -> None:
    """Refuse a directory for replaced data that cannot take it.

    Raises:
        errors.TargetError: not absolute, not writable, or too small.
    """
    directory = pathlib.Path(keep)
    if not directory.is_absolute():
        raise errors.TargetError(f"target {keep!r} is not an absolute path: nothing was changed")
    _refuse_data(node.root, directory)
    try:
        with (
            files.reached(directory, create=True) as there,
            tempfile.TemporaryFile(dir=files.through(there)),  # it has no name
        ):
            free = files.free_bytes(files.through(there))
    except OSError as error:
        raise errors.TargetError(
            f"target {keep} cannot be written: {error.strerror}; nothing was changed"
        ) from error
    if free < node.root.used_bytes() + MARGIN:
        raise errors.TargetError(
            f"target {keep} has {free} bytes free and the replaced data needs "
            f"{node.root.used_bytes() + MARGIN}: nothing was changed"
        )


def _source(node: units.Node, detail: generations.Detail) -> fetch.Source:
    """Where this unit gets the file of a record from."""
    if detail.unit == node.unit:
        return fetch.File(detail.path, detail.sha256, detail.size)
    return fetch.from_detail(detail)


def prepare(
    node: units.Node, proposal: generations.Generation, founder: generations.Founder
) -> None:
    """Restore the data of a proposal beside the running cluster's.

    Args:
        node: this unit.
        proposal: what is to be restored.
        founder: this unit's part in it.

    Raises:
        errors.EtcdError: it cannot be had, or is not what the proposal names.
    """
    stamp = stamps.Stamp(proposal.token, proposal.number, None, founder.member)
    with _opened(node, proposal) as source:
        snapshots.restore(
            source.path,
            node.root.preparing(stamp) / "etcd",
            founder.member,
            proposal.initial_cluster,
            proposal.token,
            founder.peer_url,
            bump=source.bump,
            skip_hash_check=True,  # all of it was just compared with what the record says
        )


@contextlib.contextmanager
def _opened(node: units.Node, proposal: generations.Generation) -> Generator[Source]:
    """The snapshot that a proposal is made from, on this unit's disk and verified.

    Raises:
        errors.EtcdError: it cannot be had, or is not what the proposal names.
    """
    detail, directory = proposal.detail, node.fetched
    if proposal.source is generations.Source.SURVIVOR:
        try:
            info = salvages.salvage(node.root.etcd_dir, directory)
            high = max(revisions.high(proposal), revisions.begin(snapshot=info.revision))
            yield Source(info.path, high - info.revision)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return
    bump = revisions.high(proposal) - detail.revision
    need = detail.size * 2 + MARGIN
    free = node.root.free_bytes()
    if free < need:
        raise errors.TargetError(
            f"{free} bytes are free beside the data and the restore needs {need}: "
            "the cluster was left as it was; make room and restore again"
        )
    peer = node.certificates.path("peer")
    try:
        fetched = fetch.fetch(
            _source(node, detail),
            directory,
            remote=node.remote() if detail.source == "remote" and node.remote else None,
            tls=(peer / "cert.pem", peer / "key.pem", peer / "ca.pem"),
        )
        snapshots.refuse_newer(fetched.path)
        yield Source(fetched.path, bump)
    except rclone_errors.RemoteError as error:
        raise errors.EtcdError(str(error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
