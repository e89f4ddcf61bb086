"""The frozen picture for policy: Juju, etcd and this unit's disk, read once."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from typing import TYPE_CHECKING, Protocol

from cluster import generation as generations
from cluster import reading, view
from etcd import errors, service

if TYPE_CHECKING:
    import contextlib
    import pathlib
    from collections.abc import Sequence

    import node as node_
    from etcd import answers
    from etcd import client as clients

log = logging.getLogger(__name__)


def observe(node: node_.Node, *, leader: bool, recover: str | None = None) -> view.View:
    """Look at everything that policy may know, and tell the other units of our part.

    Args:
        node: this unit.
        leader: this unit is Juju's leader.
        recover: an operator's confirmed order to found anew from this unit's disk.
    """
    etcd = look(node)
    # After etcd: a member that was seen has its unit in Juju, or that unit is gone for good.
    node.peers.look_again()
    failure = _failure(node, etcd) if etcd.service is view.Service.FAILED else None
    if failure is not None and not failure.data_broken:
        etcd = dataclasses.replace(etcd, failure=failure.sentence)
    disk = _disk(node, etcd, failure)
    _tell(node, etcd, disk)
    node.seen = (etcd, disk)
    units = node.peers.units()
    lost = disk.token is None and not any(unit.token for unit in units)
    beside = _beside(node, etcd) if leader else ()
    newest, held = node.origin() if leader and lost and node.ready else (None, "")
    return view.View(
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
        since=tuple(node.since().items()),
        recover=recover,
        policy=node.settings.policy,
        turn=node.peers.turn(),
        newest_backup=newest,
        held=held,
        beside=beside,
        said_unanswered=node.said.unanswered,
    )


def _beside(node: node_.Node, etcd: view.Etcd) -> tuple[str, ...]:
    """Old members that the committed generation is not confirmed beside."""
    record = node.peers.generation()
    replacing = (generations.Source.BACKUP, generations.Source.SURVIVOR)
    if record is None or record.confirmed or record.source not in replacing:
        return ()
    if etcd.members is None and record.source is not generations.Source.SURVIVOR:
        return ()  # it is not confirmed now, whoever is there
    import fence  # costly, and most hooks confirm nothing

    return fence.beside(node)


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


def look(node: Reach) -> view.Etcd:
    """Look at the cluster through its members."""
    if not node.ready or not node.endpoints():
        return _alone(node, service.state())
    with node.client() as client:
        local = _local(client, node.local_url)
        # One that answers runs: systemd need not be asked.
        seen = _alone(node, view.Service.RUNNING if local else service.state())
        seen = dataclasses.replace(seen, local_id=local.member_id if local else None)
        try:
            membership = client.observe(local)
            leader = membership.leader or client.leader()
            alarms = client.alarms() if membership.alarms is None else membership.alarms
        except errors.EtcdError as error:
            log.info("the cluster does not answer: %s", error)
            return dataclasses.replace(seen, undated=_undated(node, error))
    return dataclasses.replace(
        seen,
        members=membership.members,
        cluster_id=membership.cluster_id,
        leader=leader,
        alarms=tuple(alarms),
        installed=_installed(local, seen.stale),
    )


def _installed(local: answers.EndpointStatus | None, stale: bool) -> str:
    """Version of the installed etcd; what runs is that one, unless it was replaced since."""
    if not stale:
        return local.version if local else ""
    try:
        return ".".join(map(str, service.version()))
    except errors.ToolError:
        return ""


def _undated(node: Reach, error: errors.EtcdError) -> bool:
    """Whether nobody answers because this machine's clock is far off."""
    if not isinstance(error, errors.UnreachableError):
        return False
    import clock

    return clock.is_off([url for url in node.endpoints() if url != node.local_url])


def _alone(node: Reach, state: view.Service) -> view.Etcd:
    """What can be said of this unit's etcd without asking it."""
    running = state is view.Service.RUNNING
    stale = running and (node.storage is not None or service.stale())
    return view.Etcd(service=state, stale=stale)


def _local(client: clients.Client, local_url: str) -> answers.EndpointStatus | None:
    """What this unit's etcd says, None when it does not answer or is of another cluster."""
    if local_url not in client.endpoints:
        return None
    try:
        return client.status(local_url, timeout=3)
    except errors.EtcdError as error:
        log.info("the local etcd does not answer: %s", error)
        return None


def _failure(node: node_.Node, etcd: view.Etcd) -> service.Failure | None:
    """Why etcd gave up; broken data only when the member list or the disk says the same."""
    failure = service.why_failed()
    if failure is None or not failure.data_broken:
        return failure
    from etcd import offline  # a hook beside a running etcd reads no disk

    listed = None if etcd.members is None else [member.id for member in etcd.members]
    looked = f"{failure} {listed} {offline.mark(node.root.etcd_dir)}"
    found = node.examined(looked)
    if found is None:
        found = offline.confirms(failure, node.root.etcd_dir, listed)
        node.note_examined(looked, found)
    return failure if found else offline.unconfirmed(failure)


def _disk(node: node_.Node, etcd: view.Etcd, failure: service.Failure | None) -> view.Disk:
    broken = failure.sentence if failure is not None and failure.data_broken else ""
    disk = node.root.disk(broken, facts=etcd.members is None)
    differs = failure.differs if failure is not None else 0
    return dataclasses.replace(disk, differs=differs, finished=node.finished())


def _tell(node: node_.Node, etcd: view.Etcd, disk: view.Disk) -> None:
    """Publish this unit's part of the picture.

    What failed stays told until it is of no consequence: until a quorum answers.
    """
    proposal, committed = node.peers.proposal(), node.peers.generation()
    live = {record.token for record in (proposal, committed) if record is not None}
    failure = node.me.failure
    if failure is not None and failure[0] not in live and etcd.members is not None:
        failure = None
    listed, seen = node.me.listed, node.account()
    answered = etcd.members is not None and committed is not None
    if etcd.members is not None and committed is not None:
        seen = view.Account(_voters(node, etcd.members), committed.token)
        node.keep_account(seen)
        own = (m for m in etcd.members if m.id == etcd.local_id)
        listed = next((m.peer_urls[0] for m in own if m.peer_urls), listed)
    told = view.Account(node.me.voters, node.me.voters_of)
    told = reading.account(told, seen, node.unit, answered=answered)
    node.me = dataclasses.replace(
        node.me,
        peer_url=node.peer_url if node.ready else node.me.peer_url,
        client_url=node.client_url if node.ready else node.me.client_url,
        token=disk.token,
        member=disk.member,
        failure=failure,
        member_id=etcd.local_id,
        started=etcd.local_id is not None,
        prepared=_ready(disk, proposal, committed),
        heard=committed.token if committed else "",
        broken=bool(disk.broken),
        unanswered=not answered and committed is not None and _unanswered(node, committed),
        facts=disk.facts,
        stale=etcd.stale,
        voters=told.voters,
        voters_of=told.token,
        joins=node.joins(),
        listed=listed,
    )
    node.peers.publish(node.me)


def _unanswered(node: node_.Node, committed: generations.Generation) -> bool:
    began = node.since().get(reading.silent_key(committed))
    return began is not None and time.time() - began > node.settings.policy.answer_wait


def _ready(disk: view.Disk, *records: generations.Generation | None) -> str | None:
    """Token of the first of these records whose data is ready on the disk and not started."""
    wanted = (record for record in records if record is not None)
    return next((each.token for each in wanted if reading.ready_for(disk, each)), None)


def _voters(node: node_.Node, members: tuple[view.Member, ...]) -> tuple[str, ...]:
    """Unit names of the voters; one that has no name yet is known by its address."""
    at = {unit.peer_url: unit.name for unit in node.peers.units() if unit.peer_url}
    known = (
        generations.unit_name(m.name) if m.name else at.get(next(iter(m.peer_urls), ""), "")
        for m in members
        if not m.learner
    )
    return tuple(sorted(unit for unit in known if unit))
