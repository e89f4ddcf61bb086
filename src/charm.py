#!/usr/bin/env python3
"""The etcd charm: events in, steps out."""

from __future__ import annotations

import os
import pathlib
import sys

import startup

if __name__ == "__main__":
    if startup.unused(os.environ):
        sys.exit()
    startup.begin()

import ops

from etcd import data, service
from hook import backups as unit_backups
from hook import course, idle, launcher, options, owner, packages, shown
from hook import unit as units
from machine import files, outside
from relations import certificates, cos, db, peers, s3
from tls import store


class EtcdCharm(ops.CharmBase):
    """One unit of etcd."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        outside.guard_logs()
        self.peers = peers.Peers(self)
        self.certificates = certificates.Certificates(self)
        self.db = db.Db(self)
        self.s3 = s3.S3(self)
        self.cos = cos.Cos(self)
        self._shown: shown.Shown | None = None
        for event in (
            self.on.install,
            self.on.start,
            self.on.upgrade_charm,
            self.on.config_changed,
            self.on.update_status,
            self.on.leader_elected,
            self.on.secret_changed,
            self.on.stop,
            self.on.remove,
            self.on["data"].storage_attached,
            self.on["data"].storage_detaching,
        ):
            framework.observe(event, self._on_event)
        for endpoint in ("cluster", "certificates", "db", cos.ENDPOINT, s3.ENDPOINT):
            on = self.on[endpoint]
            for event in (
                on.relation_created,
                on.relation_changed,
                on.relation_departed,
                on.relation_broken,
            ):
                framework.observe(event, self._on_event)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)
        framework.observe(framework.on.pre_commit, self._on_pre_commit)
        if "JUJU_ACTION_NAME" in os.environ or launcher.RESTORE in os.environ:
            from commands import actions  # costly, and most hooks run none

            self.actions = actions.Actions(self, self)

    # Events

    def _on_event(self, event: ops.EventBase) -> None:
        if isinstance(event, ops.StorageAttachedEvent) and not self.peers.related:
            return  # before `install`
        try:
            fresh = owner.claim(self._me(), lambda: self.peers.told)
        except owner.ForeignError as error:
            self._shown = shown.fault(error)
            return
        if isinstance(event, ops.UpdateStatusEvent) and (message := idle.still()):
            self._shown = shown.Shown("healthy", "active", message)
            return
        idle.forget()
        if isinstance(event, ops.RemoveEvent):
            self._shown = shown.Shown("", "maintenance", packages.remove(self._me()))
            return
        try:
            if isinstance(event, ops.InstallEvent):
                self.peers.ensure_authorities()  # the others want them in their next hook
            if fresh or packages.wanted(event):
                packages.ensure(self, event, fresh)
            if isinstance(event, ops.StorageDetachingEvent) and not self.peers.dying:
                service.stop()  # the next event finds no data, and joins anew on the old disk
            elif self.peers.related:
                self._reconcile(event)
        except tuple(shown.FAULTS) as error:
            self._shown = shown.fault(error)
        if problem := packages.problem():
            idle.forget()  # there is something left to do
            self._shown = shown.Shown("packages", "blocked", problem)

    def _reconcile(self, event: ops.EventBase) -> None:
        node = self.node()
        if isinstance(event, ops.ConfigChangedEvent):
            self.unit.set_ports(*{node.settings.port, node.port})
        self.reconcile(node, event=event)

    def reconcile(
        self,
        node: units.Node,
        recover: str | None = None,
        *,
        event: ops.EventBase | None = None,
    ) -> None:
        """Bring everything in line that an event may have moved, see `hook.course`."""
        self._shown = course.run(self, node, recover, event=event)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        if (own := self._shown) is not None:
            event.add_status(ops.StatusBase.from_name(own.status, own.printable))
            own.tell()

    def _on_pre_commit(self, _: ops.EventBase) -> None:
        self.peers.check_lead()  # the last act of each hook and action

    # Parts

    def node(self) -> units.Node:
        """This unit's parts, as they are now.

        Raises:
            owner.ForeignError: the etcd of this machine is another's.
            configs.SettingsError: the configuration cannot be used.
            peers.PeerError: the peer relation cannot be read.
        """
        owner.check(self._me(), lambda: self.peers.told)
        attached = [storage.location for storage in self.model.storages["data"]]
        root, storage = data.place(service.DATA_ROOT, attached[0] if attached else None)
        node = units.Node(
            unit=self.unit.name,
            root=data.Root(root),
            storage=storage,
            peers=self.peers,
            settings=options.read(self.config, self.peers, self.app.name),
            certificates=store.Store(),
            charm_dir=self.charm_dir,
            me=self.peers.me(),
        )
        node.outside = self.certificates.related
        node.say = lambda text: setattr(self.unit, "status", ops.MaintenanceStatus(text))
        node.reread = lambda own: options.read(self.config, self.peers, self.app.name, own)
        node.remote = lambda: self.backups(node).remote()
        node.origin = lambda: self.backups(node).origin()
        return node

    def backups(self, node: units.Node) -> unit_backups.Backups:
        """Where this application's backups go."""
        s3 = self.s3.choice(node.settings.s3_encryption, node.settings.s3_kms_key)
        return unit_backups.Backups.of(self, node, s3)

    def _me(self) -> owner.Owner:
        return owner.Owner(self.model.uuid, self.model.name, self.app.name, self.unit.name)


if __name__ == "__main__":
    startup.ready()
    # Nothing is kept between hooks: with a full disk, a database there would fail every one.
    name = f"{os.environ['JUJU_UNIT_NAME'].replace('/', '-')}.db"
    files.keep_in_memory(pathlib.Path(".unit-state.db"), name)
    ops.main(EtcdCharm)
    if os.environ.get("JUJU_DISPATCH_PATH") == "hooks/remove":
        files.forget_in_memory(name)
