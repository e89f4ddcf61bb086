"""The course of a hook: certificates, options, the loop, clients, the keeper, the status."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Protocol

import ops

from cluster import status
from etcd import install
from hook import backups as unit_backups
from hook import certificates as unit_certificates
from hook import client_access, idle, launcher, options, shown
from hook import unit as units

if TYPE_CHECKING:
    from relations import certificates, cos, db, peers

log = logging.getLogger(__name__)


class Charm(Protocol):
    """What a hook's course uses of the charm."""

    @property
    def unit(self) -> ops.Unit:
        """This unit."""
        ...

    @property
    def app(self) -> ops.Application:
        """Its application."""
        ...

    @property
    def model(self) -> ops.Model:
        """Its model."""
        ...

    @property
    def peers(self) -> peers.Peers:
        """The peer relation."""
        ...

    @property
    def certificates(self) -> certificates.Certificates:
        """The relation with an authority."""
        ...

    @property
    def db(self) -> db.Db:
        """The relations with consumers."""
        ...

    @property
    def cos(self) -> cos.Cos:
        """The relations with agents of observability."""
        ...

    def backups(self, node: units.Node) -> unit_backups.Backups:
        """Where this application's backups go."""
        ...


def run(
    charm: Charm,
    node: units.Node,
    recover: str | None = None,
    *,
    event: ops.EventBase | None = None,
) -> shown.Shown:
    """Bring everything in line that an event may have moved.

    Args:
        charm: the charm.
        node: this unit.
        recover: an operator's order to found anew from this unit's disk.
        event: what has brought this hook, None for an action.

    Returns:
        What `juju status` is to say.
    """
    from hook import reconcile  # costly, and most ticks do not come here

    idle.forget()
    ticks = isinstance(event, ops.UpdateStatusEvent)
    told = _only_told(event)
    keyring = _keyring(charm, node)
    node.announce = keyring.announce
    node.hook = event is not None and not ticks
    node.quiet = told and keyring.is_fresh()
    trusted = keyring.heed() if node.quiet else keyring.ensure()
    node.ready = trusted.ready and install.await_packages()
    options.put_in_place(node, told=event is None or not trusted.ready or told)
    node.leads = leader = charm.peers.leads()
    plan = reconcile.reconcile(node, leader=leader, recover=recover)
    if not (node.quiet and ticks) or plan.steps:
        client_access.publish(node, charm.db, leader=leader)
        charm.cos.publish(node.settings.metrics_port, client_access.server_ca(node))
    leaving = leader and unit_certificates.revoke(node)
    if leader:
        client_access.remember(node)
    problem = _instruct(charm, node)
    if problem and not node.settings.problem and plan.status == "active":
        node.wake(units.WAKE_LONGEST)  # no event tells that a remote is back
    withdrawn = charm.peers.state().get("withdrawn", "") if leader else ""
    record = charm.peers.generation() if leader else None
    aftermath = status.aftermath(plan.state, withdrawn, record)
    found = shown.of(plan, trusted, problem, aftermath)
    busy = trusted.message or plan.steps or plan.clocks or aftermath or leaving
    if found.status == "active" and not busy:
        idle.remember(node, found.sentence)
    return found


def _keyring(charm: Charm, node: units.Node) -> unit_certificates.Keyring:
    owner = (charm.unit.name, charm.app.name, charm.model.uuid, node.token)
    return unit_certificates.Keyring(
        node.certificates,
        charm.peers,
        charm.certificates,
        *owner,
        node.settings.trust_client_authority,
        node.settings.sans(charm.unit.name, os.uname().nodename),
    )


def _instruct(charm: Charm, node: units.Node) -> unit_backups.Problem | None:
    """Tell the keeper and `etcd-admin` what changed; answers what the operator is to mend."""
    try:
        started = node.ready and node.root.stamp() is not None
        problem = charm.backups(node).ensure() if started else None
        launcher.ensure(node.charm_dir, launcher.Place.of(node))
    except OSError as error:
        log.warning("the keeper and etcd-admin go on with what they had: %s", error)
        return unit_backups.Problem.untold(error)
    if untaken := node.settings.problem:
        return unit_backups.Problem(untaken, reason="configuration")
    return problem


def _only_told(event: ops.EventBase | None) -> bool:
    """Only time has passed, or a unit has told something: certificates and configuration stay."""
    return isinstance(event, ops.UpdateStatusEvent) or (
        isinstance(event, ops.RelationEvent) and event.relation.name == "cluster"
    )
