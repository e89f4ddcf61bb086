"""The actions: parse, call, answer; one that cannot be done says why in one sentence."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import ops

import errors
from backup import operations as backups
from backup import rclone_errors
from commands import operations, recover
from etcd import report
from hook import certificates as unit_certificates
from hook import client_access, course, idle, launcher, packages
from hook import config as configs
from hook import restore as restores
from machine import outside
from relations import databag
from tls import certificate, client_archive, inventory

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster import generation as generations
    from hook import unit as units

    Handler: TypeAlias = Callable[["Actions", ops.ActionEvent], dict[str, Any]]


_BROUGHT = {
    "authentication": "authentication will be on: users, passwords and roles become those of then",
    "alarms": "it was taken with an alarm armed, which is disarmed once the cluster is healthy",
}
"""What a restore brings along besides keys, for the operator."""
_UNSEALED = (
    "the backup's manifest was not sealed by this application: whether it is the one that you "
    "mean, only its content tells"
)
_ROOT_WARNING = (
    "authentication is on, or cannot be asked about: whoever holds this certificate is root, and "
    "may read, write and change everything; give people users of their own"
)


class RefusedError(Exception):
    """The action does nothing; the text says why and what to do."""


_REFUSALS = (
    RefusedError,
    client_archive.BundleError,
    errors.EtcdError,
    backups.BackupError,
    databag.PeerError,
    rclone_errors.RemoteError,
    configs.SettingsError,
    certificate.CertificateError,
)
"""Their text is one sentence for the operator."""


class Port(course.Charm, Protocol):
    """What the actions use of a unit's charm."""

    def node(self) -> units.Node:
        """This unit's parts, as they are now."""
        ...

    def reconcile(self, node: units.Node, recover: str | None = None) -> None:
        """Bring everything in line that may have moved."""
        ...


class Actions(ops.Object):
    """Answers every action of the charm."""

    def __init__(self, etcd: ops.CharmBase, port: Port):
        super().__init__(etcd, "actions")
        self._charm = port
        handlers = {
            "health": self._on_health,
            "snapshot": self._on_snapshot,
            "restore": self._on_restore,
            "generate-client-certificates": self._on_generate_client_certificates,
            "certificates": self._on_certificates,
            "list-client-certificates": self._on_list_client_certificates,
            "revoke-client-certificate": self._on_revoke_client_certificate,
            "member-list": self._on_member_list,
            "endpoint-status": self._on_endpoint_status,
            "member-remove": self._on_member_remove,
            "move-leader": self._on_move_leader,
            "recover": self._on_recover,
            "create-backup": self._on_create_backup,
            "list-backups": self._on_list_backups,
            "verify-backup": self._on_verify_backup,
            "delete-backup": self._on_delete_backup,
            "alarm-list": self._on_alarm_list,
            "alarm-disarm": self._on_alarm_disarm,
            "compact": self._on_compact,
            "defrag": self._on_defrag,
        }
        for name, handler in handlers.items():
            self.framework.observe(etcd.on[name].action, handler)
        if launcher.RESTORE in os.environ:
            self.framework.observe(etcd.on.update_status, self._on_ordered_restore)

    @staticmethod
    def _answering(handler: Handler) -> Callable[[Actions, ops.ActionEvent], None]:
        @functools.wraps(handler)
        def answer(self: Actions, event: ops.ActionEvent) -> None:
            try:
                event.set_results(_printable(handler(self, event)))
            except _REFUSALS as error:
                event.fail(outside.printable(str(error)))

        return answer

    @_answering
    def _on_health(self, _: ops.ActionEvent) -> dict[str, Any]:
        node = self._charm.node()
        words = self._charm.backups(node).words()
        ends = {name: end for name, (_, end) in node.certificate_dates().items()}
        with node.client() as online:
            return operations.health(online, node.settings.quota_bytes, ends, words).as_results()

    @_answering
    def _on_snapshot(self, event: ops.ActionEvent) -> dict[str, Any]:
        info = restores.take(self._charm.node(), event.params["target"])
        return {
            "snapshot": {
                "path": str(info.path),
                "size": str(info.size),
                "sha256": info.sha256,
                "revision": str(info.revision),
            },
            "copy": {"cmd": client_archive.copy_command(self._charm.unit.name, info.path)},
        }

    @_answering
    def _on_restore(self, event: ops.ActionEvent) -> dict[str, Any]:
        return self._restore(event.params)

    def _on_ordered_restore(self, _: ops.UpdateStatusEvent) -> None:
        """`etcd-admin restore` asked for it, and reads what is printed."""
        try:
            told = {"results": self._restore(json.loads(os.environ[launcher.RESTORE]))}
        except _REFUSALS as error:
            told = {"refused": str(error)}
        sys.stdout.write(json.dumps(told) + "\n")

    def _restore(self, params: dict[str, Any]) -> dict[str, Any]:
        self._refuse_without_lead("restore")
        node = self._charm.node()
        with self._charm.peers.leading():  # a large file takes long to be read
            proposal = restores.propose(
                node,
                self._source(params),
                known=lambda: self._charm.backups(node).high(),
                keep=params["target"],
                skip_backup=params["skip-backup"],
            )
            restores.serve(node, proposal)
        idle.forget()  # a look that comes before the record is told would say active again
        self._charm.peers.set_proposal(proposal)
        self._charm.peers.set_state("withdrawn", "")
        waits = f"preparing the restore: 0 of {len(proposal.founders)} units ready"
        node.say(waits)  # who waits for active again must not find it still
        detail = proposal.detail
        brought = [_BROUGHT[word] for word in detail.carries.split(",") if word]
        return {
            "generation": str(proposal.number),
            "revision": str(detail.revision),
            "units": ",".join(founder.unit for founder in proposal.founders),
            "message": "; ".join(
                [
                    "verified; the units restore it now, juju status tells its end",
                    f"its revisions go on after {detail.high}, above all that were ever seen",
                    *brought,
                    *([_UNSEALED] if detail.authentic == "no" else []),
                ]
            ),
        }

    def _source(self, params: dict[str, Any]) -> generations.Detail:
        """What to restore, verified where it is a file: a backup, a path, or the resource."""
        node = self._charm.node()
        if params.get("backup-id") and params.get("path"):
            raise RefusedError("path and backup-id exclude each other: give one of them")
        if params.get("backup-id"):
            _, detail = self._charm.backups(node).chosen(
                params["backup-id"], params["cluster-name"]
            )
            return detail
        path = params.get("path") or packages.resource(self._charm.model, "snapshot")
        if not path:
            raise RefusedError(
                "nothing to restore: give path= or backup-id=, or attach the snapshot resource"
            )
        return restores.propose_file(
            node, str(path), allow_missing_hash=params["allow-missing-hash"]
        )

    @_answering
    def _on_generate_client_certificates(self, event: ops.ActionEvent) -> dict[str, Any]:
        params = event.params
        node = self._charm.node()
        path = client_access.hand_out(
            node, params["common-name"], params["validity-days"], params["key-type"]
        )
        found: dict[str, Any] = {"copy": {"cmd": client_archive.copy_command(node.unit, path)}}
        if params["common-name"] == unit_certificates.ADMIN and _authenticates(node):
            found["warning"] = _ROOT_WARNING
        return found

    @_answering
    def _on_certificates(self, event: ops.ActionEvent) -> dict[str, Any]:
        found = operations.certificates(self._charm.node().certificates)
        return found.as_results(event.params["format"])

    @_answering
    def _on_list_client_certificates(self, event: ops.ActionEvent) -> dict[str, Any]:
        node = self._charm.node()
        refused = client_access.refused(node)
        records = [
            {
                "serial": one.serial,
                "common-name": one.name,
                "made": inventory.date(one.made),
                "ends": inventory.date(one.until),
                "unit": one.unit,
                "state": "revoked" if one.serial in refused else "believed",
            }
            for one in client_access.handed(node)
        ]
        if event.params["format"] == "json":
            return {"certificates": report.to_json(records)}
        columns = ("SERIAL", "COMMON NAME", "MADE", "ENDS", "UNIT", "STATE")
        return {"certificates": report.table(columns, [list(each.values()) for each in records])}

    @_answering
    def _on_revoke_client_certificate(self, event: ops.ActionEvent) -> dict[str, Any]:
        self._refuse_without_lead("revoke-client-certificate")
        node = self._charm.node()
        serial, name = (event.params[key] for key in ("serial", "common-name"))
        found = client_access.take_back(node, str(serial), str(name))
        node.wake_in(0)  # this unit's own etcd hears of it, too
        return {
            "revoked": " ".join(one.serial for one in found),
            "common-name": found[0].name,
        }

    @_answering
    def _on_member_list(self, event: ops.ActionEvent) -> dict[str, Any]:
        with self._charm.node().client() as online:
            return operations.member_list(online).as_results(event.params["format"])

    @_answering
    def _on_endpoint_status(self, event: ops.ActionEvent) -> dict[str, Any]:
        with self._charm.node().client() as online:
            return operations.endpoint_status(online).as_results(event.params["format"])

    @_answering
    def _on_member_remove(self, event: ops.ActionEvent) -> dict[str, Any]:
        node = self._charm.node()
        with node.client() as online:
            units = node.peers.units()
            return operations.member_remove(online, event.params["member"], units).as_results()

    @_answering
    def _on_move_leader(self, event: ops.ActionEvent) -> dict[str, Any]:
        with self._charm.node().client() as online:
            return operations.move_leader(online, event.params["to"]).as_results()

    @_answering
    def _on_alarm_list(self, _: ops.ActionEvent) -> dict[str, Any]:
        with self._charm.node().client() as online:
            return operations.alarm_list(online).as_results()

    @_answering
    def _on_alarm_disarm(self, _: ops.ActionEvent) -> dict[str, Any]:
        with self._charm.node().client() as online:
            return operations.alarm_disarm(online).as_results()

    @_answering
    def _on_compact(self, event: ops.ActionEvent) -> dict[str, Any]:
        revision, physical = (event.params[key] for key in ("revision", "physical"))
        with self._charm.node().client() as online:
            return operations.compact(online, revision, physical).as_results()

    @_answering
    def _on_defrag(self, event: ops.ActionEvent) -> dict[str, Any]:
        node = self._charm.node()
        with node.client() as online:
            done = operations.defrag(online, event.params["member"], node.member, event.log)
        return done.as_results(event.params["format"])

    @_answering
    def _on_create_backup(self, event: ops.ActionEvent) -> dict[str, Any]:
        take_over = event.params["take-over"]
        return operations.backup_create(self._manual(), event.log, take_over).as_results()

    @_answering
    def _on_list_backups(self, event: ops.ActionEvent) -> dict[str, Any]:
        found = operations.backup_list(self._manual(), event.params["cluster-name"])
        return found.as_results(event.params["format"])

    @_answering
    def _on_verify_backup(self, event: ops.ActionEvent) -> dict[str, Any]:
        return operations.backup_verify(self._manual(), event.params["backup-id"]).as_results()

    @_answering
    def _on_delete_backup(self, event: ops.ActionEvent) -> dict[str, Any]:
        return operations.backup_delete(self._manual(), event.params["backup-id"]).as_results()

    def _manual(self) -> backups.Operations:
        return self._charm.backups(self._charm.node()).manual()

    @_answering
    def _on_recover(self, event: ops.ActionEvent) -> dict[str, Any]:
        self._refuse_without_lead("recover")
        node = self._charm.node()
        try:
            with node.client() as online:
                online.health()
        except errors.EtcdError:
            pass
        else:
            raise RefusedError("the cluster answers: there is nothing to recover")
        disks = {u.name: u.facts for u in node.peers.units() if u.alive and u.facts}
        own = node.root.disk(facts=True).facts
        if own is not None:
            disks[node.unit] = own
        if not disks:
            raise RefusedError("no unit's disk holds data of the cluster: restore a backup")
        unit = event.params["unit"] or max(disks, key=lambda name: disks[name])
        if unit not in disks:
            raise RefusedError(f"{unit} holds no data: choose one of {', '.join(sorted(disks))}")
        held = {
            name.replace("/", "-"): f"revision {f.revision}, term {f.term}, index {f.index}"
            for name, f in disks.items()
        }
        committed = node.peers.generation()
        silent = [
            u.name
            for u in node.peers.units()
            if u.alive and u.name not in disks and committed and u.token == committed.token
        ]
        words = recover.loss(unit, disks, silent)
        if not event.params["confirm"]:
            command = f"juju run {node.unit} recover unit={unit} confirm=true"
            members, left = recover.left_behind_by(node)
            words = "; ".join(filter(None, (words, left)))
            return {"disks": held, "members": members, "message": words, "run": command}
        self._charm.reconcile(node, recover=unit)
        return {"disks": held, "message": f"recovering from {unit}; {words}"}

    def _refuse_without_lead(self, action: str) -> None:
        if not self._charm.peers.leads():
            application = self._charm.app.name
            raise RefusedError(f"the leader does this: juju run {application}/leader {action}")


def _authenticates(node: units.Node) -> bool:
    """Whether etcd asks who a client is; where it does not say, it may."""
    try:
        with node.client() as online:
            return online.auth_enabled() is not False
    except errors.EtcdError:
        return True


def _printable(value: Any) -> Any:
    """Results without what steers a terminal, in keys as in values."""
    if isinstance(value, dict):
        results = cast("dict[str, Any]", value)
        return {_printable(key): _printable(inner) for key, inner in results.items()}
    return outside.printable(value, len(value), lines=True) if isinstance(value, str) else value
