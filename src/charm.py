#!/usr/bin/env python3
"""The etcd charm: events in, steps out."""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import host
import ops

import act
import clients
import node as node_
import settings
import snapshots
import trust
from etcd import data, errors, report, service
from relations import certificates, db, peers
from tls import bundle, store

if TYPE_CHECKING:
    from cluster import plan as policy

log = logging.getLogger(__name__)

DATA_ROOT = pathlib.Path("/var/lib/etcd")

Handler = Callable[["EtcdCharm", ops.ActionEvent], None]


def answering(handler: Handler) -> Handler:
    """An action that fails says why in one sentence."""

    @functools.wraps(handler)
    def answer(charm: EtcdCharm, event: ops.ActionEvent) -> None:
        try:
            handler(charm, event)
        except (
            errors.EtcdError,
            settings.SettingsError,
            peers.PeerError,
            bundle.BundleError,
        ) as error:
            event.fail(str(error))

    return answer


class EtcdCharm(ops.CharmBase):
    """One unit of etcd."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.peers = peers.Peers(self)
        self.certificates = certificates.Certificates(self)
        self.db = db.Db(self)
        self._status: ops.StatusBase | None = None
        for event in (
            self.on.install,
            self.on.start,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.update_status,
            self.on.leader_elected,
            self.on.secret_changed,
            self.on.stop,
            self.on["data"].storage_attached,
            self.on["data"].storage_detaching,
        ):
            framework.observe(event, self._on_event)
        for endpoint in ("cluster", "certificates", "db"):
            on = self.on[endpoint]
            for event in (
                on.relation_created,
                on.relation_changed,
                on.relation_departed,
                on.relation_broken,
            ):
                framework.observe(event, self._on_event)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)
        for name, handler in (
            ("health", self._on_health),
            ("snapshot", self._on_snapshot),
            ("restore", self._on_restore),
            ("generate-client-certificates", self._on_client_certificates),
            ("member-list", self._on_member_list),
            ("endpoint-status", self._on_endpoint_status),
        ):
            framework.observe(self.on[name].action, handler)

    # Events

    def _on_event(self, event: ops.EventBase) -> None:
        try:
            if isinstance(event, (ops.InstallEvent, ops.UpgradeCharmEvent)):
                self._install()
            if self.peers.related:
                self._reconcile(event)
        except (settings.SettingsError, peers.PeerError, errors.InstallError) as error:
            self._status = ops.BlockedStatus(str(error))

    def _install(self) -> None:
        self.unit.status = ops.MaintenanceStatus("Installing etcd")
        host.install_etcd(self._resource("etcd"))
        self.unit.set_workload_version(".".join(map(str, service.version())))

    def _reconcile(self, event: ops.EventBase) -> None:
        node = self._node()
        if isinstance(event, ops.ConfigChangedEvent):
            self.unit.set_ports(node.settings.port)
        trusted = self._keyring().ensure()
        node.ready = trusted.ready and service.binary("etcd", must_exist=False).exists()
        leader = self.unit.is_leader()
        verdict = act.settle(node, leader=leader)
        self.peers.publish(node.me)
        clients.publish(node, self.db, leader=leader)
        self._status = _status(verdict, trusted)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if self._status is not None:
            event.add_status(self._status)

    # Actions

    @answering
    def _on_health(self, event: ops.ActionEvent) -> None:
        node = self._node()
        server = node.certificates.load("server")
        with node.client() as client:
            health = report.Health.of(client, quota=node.settings.quota_bytes, certificate=server)
        event.set_results({**health.keys(), "summary": health.words()})

    @answering
    def _on_snapshot(self, event: ops.ActionEvent) -> None:
        info = snapshots.take(self._node(), event.params["target"])
        event.set_results(
            {
                "snapshot": {
                    "path": str(info.path),
                    "size": str(info.size),
                    "sha256": info.sha256,
                    "revision": str(info.revision),
                },
                "copy": {"cmd": f"juju scp {self.unit.name}:{info.path} ."},
            }
        )

    @answering
    def _on_restore(self, event: ops.ActionEvent) -> None:
        if not self.unit.is_leader():
            application = self.app.name
            event.fail(f"only the leader restores: run juju run {application}/leader restore")
            return
        path = event.params.get("path") or self._resource("snapshot")
        if not path:
            event.fail("nothing to restore: give path=..., or attach the snapshot resource")
            return
        proposal = snapshots.propose(
            self._node(),
            str(path),
            keep=event.params["target"],
            skip_backup=event.params["skip-backup"],
            allow_missing_hash=event.params["allow-missing-hash"],
        )
        self.peers.set_proposal(proposal)
        event.set_results(
            {
                "generation": str(proposal.number),
                "revision": dict(proposal.detail)["revision"],
                "units": ",".join(f.unit for f in proposal.founders),
                "message": "verified; the units restore it now, juju status tells its end",
            }
        )

    @answering
    def _on_client_certificates(self, event: ops.ActionEvent) -> None:
        name, days = event.params["common-name"], event.params["validity-days"]
        path = clients.hand_out(self._node(), name, days)
        event.set_results({"copy": {"cmd": bundle.copy_command(self.unit.name, path)}})

    @answering
    def _on_member_list(self, event: ops.ActionEvent) -> None:
        with self._node().client() as client:
            event.set_results({"members": report.members(client, event.params["format"])})

    @answering
    def _on_endpoint_status(self, event: ops.ActionEvent) -> None:
        with self._node().client() as client:
            event.set_results({"endpoints": report.endpoints(client, event.params["format"])})

    # Parts

    def _node(self) -> node_.Node:
        return node_.Node(
            unit=self.unit.name,
            root=data.Root(self._data_root()),
            peers=self.peers,
            settings=settings.Settings.parse(self.config),
            certificates=store.Store(),
            charm_dir=self.charm_dir,
            me=self.peers.me(),
        )

    def _keyring(self) -> trust.Keyring:
        return trust.Keyring(
            store.Store(),
            self.peers,
            self.certificates,
            self.unit.name,
            self.app.name,
            self.model.uuid,
        )

    def _data_root(self) -> pathlib.Path:
        for storage in self.model.storages["data"]:
            return storage.location
        return DATA_ROOT

    def _resource(self, name: str) -> pathlib.Path | None:
        """An attached resource; an empty file means none, as charms have it."""
        try:
            path = self.model.resources.fetch(name)
        except ops.ModelError:
            return None
        return path if path.stat().st_size else None


def _status(verdict: policy.Plan, trusted: trust.Trust) -> ops.StatusBase:
    if trusted.wrong:
        return ops.BlockedStatus(trusted.message)
    if not trusted.ready:
        return ops.WaitingStatus(trusted.message)
    return ops.StatusBase.from_name(verdict.status, verdict.message)


if __name__ == "__main__":
    ops.main(EtcdCharm)
