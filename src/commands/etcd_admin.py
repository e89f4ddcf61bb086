"""etcd-admin: the actions' twin for people who are logged in on a unit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import create, keeper_files, rclone_errors, worker
from backup import operations as backups
from commands import operations
from commands.operations import Answer
from etcd import client as clients
from etcd import data, report, service
from hook import launcher
from machine import juju_exec, outside
from tls import certificate, store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_START_WAIT = 20.0  # seconds for etcd to be ready again


def members(online: clients.Client, _: argparse.Namespace, __: launcher.Place) -> Answer:
    """`member list`."""
    return operations.member_list(online)


def endpoint_status(online: clients.Client, _: argparse.Namespace, __: launcher.Place) -> Answer:
    """`endpoint status`."""
    return operations.endpoint_status(online)


def health(online: clients.Client, _: argparse.Namespace, place: launcher.Place) -> Answer:
    """`health`, with the certificates and the backups as the charm and the keeper last told."""
    now, ends = time.time(), dict[str, float]()
    with contextlib.suppress(ValueError):  # the charm has told the keeper nothing yet
        ends = dict(keeper_files.Config.read().certificates)
    return operations.health(online, place.quota, ends, keeper_files.Status.read().words(now))


def remove(online: clients.Client, asked: argparse.Namespace, place: launcher.Place) -> Answer:
    """`member remove`."""
    return operations.member_remove(online, asked.member, place.units)


def move_leader(online: clients.Client, asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`move-leader`."""
    return operations.move_leader(online, asked.member)


def alarm_list(online: clients.Client, _: argparse.Namespace, __: launcher.Place) -> Answer:
    """`alarm list`."""
    return operations.alarm_list(online)


def alarm_disarm(online: clients.Client, _: argparse.Namespace, __: launcher.Place) -> Answer:
    """`alarm disarm`."""
    return operations.alarm_disarm(online)


def compact(online: clients.Client, asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`compact`."""
    return operations.compact(online, asked.revision, asked.physical)


def defrag(online: clients.Client, asked: argparse.Namespace, place: launcher.Place) -> Answer:
    """`defrag`."""
    return operations.defrag(online, asked.member, place.member, _progress)


def backup_create(asked: argparse.Namespace, __: launcher.Place) -> Answer:
    """`backup create`."""
    return operations.backup_create(_backups(), _progress, asked.take_over)


def backup_list(asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`backup list`."""
    return operations.backup_list(_backups(), asked.cluster_name)


def backup_verify(asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`backup verify`."""
    return operations.backup_verify(_backups(), asked.backup_id)


def backup_delete(asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`backup delete`."""
    return operations.backup_delete(_backups(), asked.backup_id)


def certificates(_: argparse.Namespace, __: launcher.Place) -> Answer:
    """`certificates`."""
    return operations.certificates(store.Store())


def _backups() -> backups.Operations:
    """The backups of this cluster, on the remote that the actions use."""
    config = _told()
    if keeper_files.CHOSEN.exists():
        config = dataclasses.replace(config, remote=str(keeper_files.CHOSEN))
    return backups.Operations(
        remote=config.root(),
        folder=config.folder,
        about=create.About(config.unit, config.generation, config.token, config.high)
        if config.token
        else None,
        workdir=pathlib.Path(config.workdir),
        retention=config.retention,
        keys=config.seals(),
        claimant=config.claimant,
        cluster=dataclasses.replace(worker.reach(config), tls=launcher.admin_tls()),
    )


def _told() -> keeper_files.Config:
    try:
        return keeper_files.Config.read()
    except ValueError as error:
        raise backups.BackupError(str(error)) from error


def open_to_clients(_: argparse.Namespace, __: launcher.Place) -> Answer:
    """`open`: what the charm does once the restored cluster is confirmed, on this unit alone."""
    root = service.unit_root()
    opened = root is not None and service.open_to_clients(data.Root(root), _START_WAIT)
    words = "clients reach the etcd of this unit" + (" again" if opened else " already")
    return Answer(words, {"opened": opened})


def restore(asked: argparse.Namespace, _: launcher.Place) -> Answer:
    """`restore`: the charm does it, since a new generation is Juju's leader's to propose."""
    params = {
        "backup-id": asked.backup_id,
        "path": str(pathlib.Path(asked.path).absolute()) if asked.path else "",
        "cluster-name": asked.cluster_name,
        "target": asked.target,
        "skip-backup": asked.skip_backup,
        "allow-missing-hash": asked.allow_missing_hash,
    }
    config = _told()
    printed = juju_exec.ask(
        config.unit, pathlib.Path(config.charm_dir), {launcher.RESTORE: json.dumps(params)}
    )
    results = _results(printed)
    words = f"generation {results['generation']} from revision {results['revision']}"
    return Answer(f"{words}, {results['message']}", results)


def _results(printed: str) -> dict[str, str]:
    """What the charm answers in the last line that it prints.

    Raises:
        backups.BackupError: it refused, or did not answer.
    """
    try:
        told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise backups.BackupError(
            "the charm did not answer: whether it restores, juju status and juju debug-log tell"
        ) from error
    if "refused" in told:
        raise backups.BackupError(str(told["refused"]))
    return told["results"]


def _progress(words: str) -> None:
    sys.stderr.write(f"{outside.printable(words)}\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    import argparse  # costly, and no hook parses arguments

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", choices=("table", "json"), default="table")
    top = argparse.ArgumentParser(prog="etcd-admin", description=__doc__)
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(
        under: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
        name: str,
        words: str,
        handler: Callable[[clients.Client, argparse.Namespace, launcher.Place], Answer]
        | None = None,
        offline: Callable[[argparse.Namespace, launcher.Place], Answer] | None = None,
    ) -> argparse.ArgumentParser:
        made = under.add_parser(name, help=words, description=words, parents=[common])
        made.set_defaults(handler=handler, offline=offline)
        return made

    verb(verbs, "health", "how the cluster is, in words", health)
    member = verbs.add_parser("member", help="members").add_subparsers(
        required=True, metavar="VERB"
    )
    verb(
        verbs,
        "open",
        "let clients reach a restored etcd on this unit, where the charm cannot do it",
        offline=open_to_clients,
    )
    verb(member, "list", "the members that etcd knows", members)
    removing = verb(member, "remove", "remove a member, unless it costs the quorum", remove)
    removing.add_argument("member", help="name or hexadecimal ID")
    endpoint = verbs.add_parser("endpoint", help="endpoints").add_subparsers(
        required=True, metavar="VERB"
    )
    verb(endpoint, "status", "version, size, leader and raft of every member", endpoint_status)
    verb(endpoint, "health", "how the cluster is, in words", health)
    moving = verb(verbs, "move-leader", "hand raft leadership to another voter", move_leader)
    moving.add_argument("member", nargs="?", default="", help="name or hexadecimal ID")
    verb(
        verbs,
        "certificates",
        "this unit's certificates and the authorities that it knows",
        offline=certificates,
    )
    alarm = verbs.add_parser("alarm", help="alarms").add_subparsers(required=True, metavar="VERB")
    verb(alarm, "list", "armed alarms", alarm_list)
    verb(alarm, "disarm", "disarm all alarms", alarm_disarm)
    compacting = verb(verbs, "compact", "forget the history before a revision", compact)
    compacting.add_argument("revision", nargs="?", type=int, default=0, help="0, the newest")
    compacting.add_argument(
        "--no-physical", dest="physical", action="store_false", help="do not wait"
    )
    defragmenting = verb(verbs, "defrag", "one member after another, the leader last", defrag)
    defragmenting.add_argument("member", nargs="?", default="", help="name or hexadecimal ID")
    backup = verbs.add_parser("backup", help="backups").add_subparsers(
        required=True, metavar="VERB"
    )
    creating = verb(backup, "create", "take a backup now", offline=backup_create)
    creating.add_argument(
        "--take-over", action="store_true", help="make another application's folder this one's"
    )
    listing = verb(backup, "list", "the backups on the remote", offline=backup_list)
    listing.add_argument("--cluster-name", default="", help="another cluster's folder")
    verifying = verb(
        backup, "verify", "prove a backup in a scratch etcd on this unit", offline=backup_verify
    )
    verifying.add_argument(
        "backup_id", metavar="backup-id", nargs="?", default="latest", help="as list names it"
    )
    deleting = verb(backup, "delete", "delete a backup", offline=backup_delete)
    deleting.add_argument("backup_id", metavar="backup-id", help="as list names it")
    restoring = verb(
        verbs, "restore", "restore a backup or a file on every member", offline=restore
    )
    restoring.add_argument(
        "backup_id", metavar="backup-id", nargs="?", default="", help="as backup list names it"
    )
    restoring.add_argument("--path", default="", help="a file on this unit instead")
    restoring.add_argument("--cluster-name", default="", help="another cluster's folder")
    restoring.add_argument("--target", default="", help="where the replaced data is kept")
    restoring.add_argument("--skip-backup", action="store_true", help="do not keep it")
    restoring.add_argument(
        "--allow-missing-hash", action="store_true", help="for a member/snap/db"
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; 1 with one sentence on standard error when it cannot be done."""
    asked = parser().parse_args(argv)
    try:
        answer = _answer(asked, launcher.Place.read())
    except (
        errors.EtcdError,
        backups.BackupError,
        rclone_errors.RemoteError,
        certificate.CertificateError,
        OSError,
    ) as error:
        sys.stderr.write(f"etcd-admin: {outside.printable(str(error))}\n")
        return 1
    words = report.to_json(answer.data) if asked.output == "json" else answer.words
    sys.stdout.write(outside.printable(words, len(words), lines=True) + "\n")
    return 0


def _answer(asked: argparse.Namespace, place: launcher.Place) -> Answer:
    if asked.offline:
        return asked.offline(asked, place)
    with place.client() as online:
        return asked.handler(online, asked, place)


if __name__ == "__main__":
    sys.exit(main())
