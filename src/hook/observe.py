"""The frozen picture for policy: Juju, etcd and this unit's disk, read once."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from typing import TYPE_CHECKING, Protocol

import errors
from cluster import generation as generations
from cluster import queries, telling
from cluster import view as views
from etcd import connected, service
from etcd import failure as failures

if TYPE_CHECKING:
    import contextlib
    import pathlib
    from collections.abc import Sequence

    from etcd import client as clients
    from etcd import responses
    from hook import unit as units

log = logging.getLogger(__name__)

DIAL_WAIT = 10.0  # seconds that an etcd has to dial its peers after a restart


def observe(node: units.Node, *, leader: bool, recover: str | None = None) -> views.View:
    """Look at everything that policy may know, and tell the other units of our part.

    Args:
        node: this unit.
        leader: this unit is Juju's leader.
        recover: an operator's confirmed order to found anew from this unit's disk.
    """
    etcd = look(node)
    # After etcd: a member that was seen has its unit in Juju, or that unit is gone for good.
    node.peers.look_again()
    failure = _failure(node, etcd) if etcd.service is views.Service.FAILED else None
    if failure is not None and not failure.data_broken:
        etcd = dataclasses.replace(etcd, failure=failure.sentence)
    disk = _disk(node, etcd, failure)
    _tell(node, etcd, disk)
    node.seen = (etcd, disk)
    units = node.peers.units()
    lost = disk.token is None and not any(unit.token for unit in units)
    beside = _beside(node, etcd) if leader else ()
    newest, held = node.origin() if leader and lost and node.ready else (None, "")
    return views.View(
        me=node.unit,
        leader=leader,
        now=time.time(),
        ready=node.ready,
        dying=node.peers.dying,
        planned=node.peers.planned(),
        units=units,
        generation=node.peers.generation(),
        proposal=node.peers.proposal(),
        disk=disk,
        etcd=etcd,
        fresh_token=secrets.token_hex(16),
        since=tuple(node.notes.since().items()),
        recover=recover,
        policy=node.settings.policy,
        turn=node.peers.turn(),
        newest_backup=newest,
        held=held,
        beside=beside,
        said_unanswered=node.said.unanswered,
    )


def _beside(node: units.Node, etcd: views.Etcd) -> tuple[str, ...]:
    """Old members that the committed generation is not confirmed beside."""
    record = node.peers.generation()
    replacing = (generations.Source.BACKUP, generations.Source.SURVIVOR)
    if record is None or record.confirmed or record.source not in replacing:
        return ()
    if etcd.members is None and record.source is not generations.Source.SURVIVOR:
        return ()  # it is not confirmed now, whoever is there
    from hook import fencing  # costly, and most hooks confirm nothing

    return fencing.beside(node)


class Reach(Protocol):
    """What has to be known of a unit to look at its etcd."""

    @property
    def ready(self) -> bool:
        """Whether etcd may run."""
        ...

    @property
    def storage(self) -> pathlib.Path | None:
        """Attached storage that the data has yet to move to."""
        ...

    @property
    def local_url(self) -> str:
        """Where the etcd of this unit is reached."""
        ...

    def endpoints(self) -> Sequence[str]:
        """Client URLs of the members, this unit's first."""
        ...

    def client(self) -> contextlib.AbstractContextManager[clients.Client]:
        """A client of them all."""
        ...


def look(node: Reach) -> views.Etcd:
    """Look at the cluster through its members."""
    if not node.ready or not node.endpoints():
        return _alone(node, service.state())
    with node.client() as client:
        local = _local(client, node.local_url)
        # One that answers runs: systemd need not be asked.
        seen = _alone(node, views.Service.RUNNING if local else service.state())
        seen = dataclasses.replace(seen, local_id=local.member_id if local else None)
        try:
            membership = client.observe(local)
            leader = membership.leader or client.leader()
            alarms = client.alarms() if membership.alarms is None else membership.alarms
        except errors.EtcdError as error:
            log.info("the cluster does not answer: %s", error)
            return dataclasses.replace(seen, clock_skewed=_clock_skewed(node, error))
    return dataclasses.replace(
        seen,
        members=membership.members,
        cluster_id=membership.cluster_id,
        leader=leader,
        alarms=tuple(alarms),
        installed=_installed(local, seen.stale),
    )


def _installed(local: responses.EndpointStatus | None, stale: bool) -> str:
    """Version of the installed etcd; what runs is that one, unless it was replaced since."""
    if not stale:
        return local.version if local else ""
    try:
        return ".".join(map(str, service.version()))
    except errors.ToolError:
        return ""


def _clock_skewed(node: Reach, error: errors.EtcdError) -> bool:
    """Whether nobody answers because this machine's clock is far off."""
    if not isinstance(error, errors.UnreachableError):
        return False
    from hook import clock

    return clock.is_off([url for url in node.endpoints() if url != node.local_url])


def _alone(node: Reach, state: views.Service) -> views.Etcd:
    """What can be said of this unit's etcd without asking it."""
    running = state is views.Service.RUNNING
    stale = running and (node.storage is not None or service.stale())
    return views.Etcd(service=state, stale=stale)


def _local(client: clients.Client, local_url: str) -> responses.EndpointStatus | None:
    """What this unit's etcd says, None when it does not answer or is of another cluster."""
    if local_url not in client.endpoints:
        return None
    try:
        return client.status(local_url, timeout=3)
    except errors.EtcdError as error:
        log.info("the local etcd does not answer: %s", error)
        return None


def _failure(node: units.Node, etcd: views.Etcd) -> failures.Failure | None:
    """Why etcd gave up; broken data only when the member list or the disk says the same."""
    failure = failures.why_failed()
    if failure is None or not failure.data_broken:
        return failure
    from etcd import offline  # a hook beside a running etcd reads no disk

    listed = None if etcd.members is None else [member.id for member in etcd.members]
    looked = f"{failure} {listed} {offline.mark(node.root.etcd_dir)}"
    found = node.notes.examined(looked)
    if found is None:
        found = offline.confirms(failure, node.root.etcd_dir, listed)
        node.notes.note_examined(looked, found)
    return failure if found else offline.unconfirmed(failure)


def _disk(node: units.Node, etcd: views.Etcd, failure: failures.Failure | None) -> views.Disk:
    broken = failure.sentence if failure is not None and failure.data_broken else ""
    disk = node.root.disk(broken, facts=etcd.members is None)
    differs = failure.differs if failure is not None else 0
    return dataclasses.replace(disk, differs=differs, finished=node.finished())


def _tell(node: units.Node, etcd: views.Etcd, disk: views.Disk) -> None:
    """Publish this unit's part of the picture."""
    proposal, committed = node.peers.proposal(), node.peers.generation()
    voters = telling.seen(etcd, committed, node.peers.units(), node.notes.known_voters())
    node.notes.keep_known_voters(voters)
    began = node.notes.since().get(queries.silent_key(committed)) if committed else None
    node.me = telling.describe_unit(
        node.me,
        etcd,
        disk,
        telling.Known(
            voters,
            peer_url=node.peer_url if node.ready else None,
            client_url=node.client_url if node.ready else None,
            joins=node.notes.joins(),
            options=_running_options(node, etcd),
            cut_off=_cut_off(node, etcd),
            waited=0.0 if began is None else time.time() - began,
        ),
        committed=committed,
        proposal=proposal,
        patience=node.settings.policy.answer_wait,
    )
    node.peers.publish(node.me)


def _running_options(node: units.Node, etcd: views.Etcd) -> str:
    """Fingerprint of the options that the running etcd was started with."""
    if etcd.local_id is None or etcd.stale or node.configured != node.settings.fingerprint:
        return node.me.options
    return node.settings.fingerprint


def _restarted(node: units.Node) -> bool:
    """Whether this unit has the turn to restart, and its etcd was restarted in it.

    One that ran on may count a peer as inactive whose address went and came back, and reach it.
    """
    turn = node.peers.turn()
    return turn.unit == node.unit and node.restarted_in == turn.number


def _cut_off(node: units.Node, etcd: views.Etcd) -> bool:
    """Whether the local etcd cannot dial a member that answers; looked at after its turn.

    A turn is over only then: each member looks well for as long as the others dial it. One that
    has moved cannot be dialled before its own turn.
    """
    if not (node.me.cut_off or _restarted(node)):
        return False
    if etcd.members is None or etcd.local_id is None:
        return node.me.cut_off
    units = {unit.member_id: unit for unit in node.peers.units()}
    moved = {m.id for m in etcd.members if m.id in units and queries.moved(m, units[m.id])}
    answering = {m.id for m in etcd.members if m.healthy} - {etcd.local_id} - moved
    until = time.monotonic() + (0 if node.me.cut_off else DIAL_WAIT)
    while True:
        try:
            missing = answering - connected.dialled(node.local_url, node.tls_now())
        except OSError as error:
            log.info("whom etcd has dialled is not known: %s", error)
            return node.me.cut_off
        if not missing or time.monotonic() > until:
            return bool(missing)
        time.sleep(0.2)
