"""Each verb once: what it does, and what it answers people, programs and actions.

`actions` and `etcd_admin` are two shells around these: they differ in how parameters come and how
an answer is shown, never in what is guarded or told.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from backup import create, keeper_files
from backup import operations as backups
from etcd import membership, report, upkeep
from tls import certificate, inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cluster import view as views
    from etcd import client as clients
    from tls import store


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a verb answers.

    Attributes:
        words: for people: a table or a sentence.
        data: for programs: what JSON has.
        results: keys of the action's results.
        shown: key of the action's results that holds the table, or JSON where that is asked for;
            "" where the action has keys alone.
    """

    words: str
    data: Any
    results: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    shown: str = ""

    def as_results(self, form: str = "table") -> dict[str, Any]:
        """The results of an action, in the `format` that was asked for."""
        text = report.to_json(self.data) if form == "json" else self.words
        return {**({self.shown: text} if self.shown else {}), **self.results}


# The cluster.


def health(online: clients.Client, quota: int, ends: Mapping[str, float], words: str) -> Answer:
    """How the cluster is.

    Args:
        online: a connection.
        quota: bytes of the database that arm NOSPACE.
        ends: when each certificate and authority ends, seconds since the epoch.
        words: how backups are, one sentence.
    """
    now = time.time()
    days = {name: int((end - now) / certificate.DAY) for name, end in ends.items()}
    found = report.health(online, quota, days, {"backups": words})
    keys = {**found.keys(), **keeper_files.told_reason()}
    return Answer(found.words(), keys, {**keys, "summary": found.words()})


def member_list(online: clients.Client) -> Answer:
    """The members that etcd knows."""
    found = online.observe().members
    return Answer(report.member_table(found), report.member_records(found), shown="members")


def endpoint_status(online: clients.Client) -> Answer:
    """Version, size, leader and raft of every member."""
    found = report.endpoints(online)
    version = {"cluster-version": found.cluster_version}
    return Answer(found.table(), found.records(), version, "endpoints")


def member_remove(online: clients.Client, wanted: str, units: Iterable[views.Unit]) -> Answer:
    """Remove a member, unless it costs the quorum or a living unit.

    Raises:
        errors.EtcdError: it stays, and why.
    """
    member = membership.remove(online, wanted, units)
    words = f"removed {member.name} ({member.id:x})"
    return Answer(words, report.member_records([member]), {"removed": _named(member)})


def move_leader(online: clients.Client, wanted: str) -> Answer:
    """Hand raft leadership to another voter, "" for any.

    Raises:
        errors.EtcdError: it was not moved, and why.
    """
    member = membership.move_leader(online, wanted)
    words = f"{member.name} ({member.id:x}) leads"
    return Answer(words, report.member_records([member]), {"leader": _named(member)})


def _named(member: views.Member) -> dict[str, str]:
    return {"name": member.name, "id": f"{member.id:x}"}


def alarm_list(online: clients.Client) -> Answer:
    """Armed alarms."""
    alarms = online.alarms()
    records = [{"member": f"{alarm.member_id:x}", "alarm": alarm.kind} for alarm in alarms]
    words = report.alarm_words(alarms)
    return Answer(words, records, {"alarms": words})


def alarm_disarm(online: clients.Client) -> Answer:
    """Disarm all alarms."""
    count = online.disarm()
    return Answer(f"{count} alarms disarmed", {"disarmed": count}, {"disarmed": str(count)})


def compact(online: clients.Client, revision: int, physical: bool) -> Answer:
    """Forget the history before a revision, 0 for the newest."""
    done = upkeep.compact(online, revision, physical)
    return Answer(f"compacted revision {done}", {"compacted": done}, {"compacted": str(done)})


def defrag(online: clients.Client, wanted: str, own: str, say: Callable[[str], None]) -> Answer:
    """Defragment one member after another, the leader last.

    Args:
        online: a connection.
        wanted: one member's name or hexadecimal ID, "" for all.
        own: name of this unit's member: nobody defragments it beside a backup.
        say: is told of each member.
    """
    done = upkeep.defragment(online, wanted, create.alone_on(own), say)
    reclaimed = {"reclaimed": str(sum(each.reclaimed for each in done))}
    return Answer(report.defrag_table(done), report.defrag_records(done), reclaimed, "members")


# Certificates.


def certificates(held: store.Store) -> Answer:
    """This unit's certificates and the authorities that it knows."""
    found, now = inventory.read(held), time.time()
    words = report.table(inventory.COLUMNS, inventory.rows(found, now))
    return Answer(words, inventory.records(found, now), shown="certificates")


# Backups.


def backup_create(own: backups.Operations, say: Callable[[str], None], take_over: bool) -> Answer:
    """Take a backup now."""
    made = backups.backup_keys(own.create(say, take_over=take_over))
    return Answer(f"{made['id']}, revision {made['revision']}", made, {"backup": made})


def backup_list(own: backups.Operations, cluster_name: str) -> Answer:
    """The backups on the remote."""
    listing = own.listing(cluster_name)
    return Answer(backups.table(listing), backups.records(listing), shown="backups")


def backup_verify(own: backups.Operations, wanted: str) -> Answer:
    """Prove a backup in a scratch etcd on this unit."""
    manifest, found = own.verify(wanted)
    keys = {"backup": backups.backup_keys(manifest), "proof": backups.proof_keys(found)}
    proof = keys["proof"]
    words = f"{manifest.id} is proven in {proof['seconds']} s: its hash is {proof['hash']}"
    return Answer(words, keys, keys)


def backup_delete(own: backups.Operations, wanted: str) -> Answer:
    """Delete a backup."""
    deleted = {"deleted": own.delete(wanted).id}
    return Answer(f"deleted {deleted['deleted']}", deleted, deleted)
