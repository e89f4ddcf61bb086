"""Histories with one lie in them: each function makes one of a true history, or None where the
history has nothing that this lie could be about."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from proof import records
from proof.judge import Verdict

Kind = records.Kind
OK = records.Outcome.OK
Alter = Callable[[records.History], records.History | None]
ALL: dict[str, tuple[Alter, Verdict]] = {}
"""Name of a lie to the function that tells it, and what the judge has to say."""


def _lie(verdict: Verdict) -> Callable[[Alter], Alter]:
    def keep(alter: Alter) -> Alter:
        ALL[alter.__name__] = alter, verdict
        return alter

    return keep


def _with(history: records.History, old: records.Record, *new: records.Record) -> records.History:
    """The history with `new` in the place of `old`."""
    field = {
        records.Operation: "operations",
        records.WatchResponse: "responses",
        records.Machine: "machines",
        records.Announcement: "announcements",
    }[type(old)]
    its = list(getattr(history, field))
    place = next(n for n, each in enumerate(its) if each is old)
    its[place : place + 1] = new
    return dataclasses.replace(history, **{field: tuple(its)})


def _done(history: records.History, *kinds: Kind) -> list[records.Operation]:
    done = [o for o in history.operations if o.outcome is OK and o.header and o.kind in kinds]
    return sorted(done, key=lambda o: o.invoked)


def _writes(history: records.History) -> list[records.Operation]:
    return [o for o in _done(history, Kind.PUT, Kind.CAS, Kind.DELETE) if o.succeeded]


def _at(header: records.Header | None, revision: int) -> records.Header:
    assert header is not None
    return dataclasses.replace(header, revision=revision)


def _same(one: records.Operation, other: records.Operation) -> bool:
    assert one.header and other.header
    return one.header.cluster_id == other.header.cluster_id


@_lie(Verdict.STALE)
def stale_read(history: records.History) -> records.History | None:
    for read in reversed(_done(history, Kind.GET)):
        before = [
            o
            for o in _writes(history)
            if _same(o, read) and read.linearizable and (o.answered or 0) < read.invoked
        ]
        if before:
            newest = max(o.header.revision for o in before if o.header)
            old = dataclasses.replace(read, header=_at(read.header, newest - 1))
            return _with(history, read, old)
    return None


@_lie(Verdict.STALE)
def write_at_an_old_revision(history: records.History) -> records.History | None:
    writes = _writes(history)
    taken = {o.header.revision for o in writes if o.header}
    for write in reversed(writes):
        seen = [o for o in writes if _same(o, write) and (o.answered or 0) < write.invoked]
        if seen:
            newest = max(o.header.revision for o in seen if o.header)
            free = next(r for r in range(newest, 0, -1) if r not in taken)
            return _with(
                history, write, dataclasses.replace(write, header=_at(write.header, free))
            )
    return None


def _shown(history: records.History) -> Iterator[tuple[records.Operation, records.KV]]:
    """Full reads with what they show of acknowledged writes of their own cluster."""
    writes = {o.value: o for o in _writes(history) if o.kind is not Kind.DELETE}
    for read in _done(history, Kind.LIST):
        for kv in read.kvs:
            if kv.value in writes and _same(writes[kv.value], read) and not kv.lease:
                yield read, kv


@_lie(Verdict.LOST)
def lost_key(history: records.History) -> records.History | None:
    for read, kv in _shown(history):
        kvs = tuple(each for each in read.kvs if each is not kv)
        return _with(history, read, dataclasses.replace(read, kvs=kvs))
    return None


@_lie(Verdict.LOST)
def lost_write(history: records.History) -> records.History | None:
    writes = {o.value: o for o in _writes(history)}
    for read, kv in _shown(history):
        prev = writes[kv.value].prev
        if prev is not None:
            kvs = tuple(prev if each is kv else each for each in read.kvs)
            return _with(history, read, dataclasses.replace(read, kvs=kvs))
    return None


@_lie(Verdict.CONTENT)
def key_that_was_deleted(history: records.History) -> records.History | None:
    for delete in [o for o in _writes(history) if o.kind is Kind.DELETE]:
        assert delete.header
        for read in _done(history, Kind.LIST):
            assert read.header
            there = delete.key in {kv.key for kv in read.kvs}
            later = read.header.revision >= delete.header.revision
            if _same(read, delete) and delete.prev and later and not there:
                return _with(
                    history, read, dataclasses.replace(read, kvs=(*read.kvs, delete.prev))
                )
    return None


@_lie(Verdict.CONTENT)
def wrong_version(history: records.History) -> records.History | None:
    for read, kv in _shown(history):
        other = dataclasses.replace(kv, version=kv.version + 1)
        kvs = tuple(other if each is kv else each for each in read.kvs)
        return _with(history, read, dataclasses.replace(read, kvs=kvs))
    return None


@_lie(Verdict.INVENTED)
def value_of_nobody(history: records.History) -> records.History | None:
    for read, kv in _shown(history):
        other = dataclasses.replace(kv, value="nobody's")
        kvs = tuple(other if each is kv else each for each in read.kvs)
        return _with(history, read, dataclasses.replace(read, kvs=kvs))
    return None


@_lie(Verdict.INVENTED)
def refused_but_there(history: records.History) -> records.History | None:
    for read, kv in _shown(history):
        write = next(o for o in history.operations if o.value == kv.value and o is not read)
        refused = dataclasses.replace(
            write, outcome=records.Outcome.REFUSED, error="no", header=None
        )
        return _with(history, write, refused)
    return None


@_lie(Verdict.COMPARE)
def failed_cas_that_wrote(history: records.History) -> records.History | None:
    for read, kv in _shown(history):
        write = next(o for o in history.operations if o.value == kv.value and o is not read)
        if write.kind is Kind.CAS:
            return _with(history, write, dataclasses.replace(write, succeeded=False, kvs=()))
    return None


@_lie(Verdict.COMPARE)
def cas_that_should_have_failed(history: records.History) -> records.History | None:
    for write in _writes(history):
        if write.kind is Kind.CAS:
            other = dataclasses.replace(write, expected=write.expected + 1)
            return _with(history, write, other)
    return None


@_lie(Verdict.COMPARE)
def cas_that_should_have_succeeded(history: records.History) -> records.History | None:
    for failed in _done(history, Kind.CAS):
        if not failed.succeeded and failed.kvs:
            other = dataclasses.replace(failed, expected=failed.kvs[0].mod_revision)
            return _with(history, failed, other)
    return None


@_lie(Verdict.COMPARE)
def delete_of_nothing(history: records.History) -> records.History | None:
    for write in _writes(history):
        if write.kind is Kind.DELETE:
            return _with(history, write, dataclasses.replace(write, prev=None))
    return None


@_lie(Verdict.SAME_REVISION)
def same_revision_twice(history: records.History) -> records.History | None:
    for one in _writes(history):
        for other in _writes(history):
            if one is not other and _same(one, other):
                assert one.header
                twice = _at(other.header, one.header.revision)
                return _with(history, other, dataclasses.replace(other, header=twice))
    return None


@_lie(Verdict.PREVIOUS)
def wrong_prev_kv(history: records.History) -> records.History | None:
    for write in _writes(history):
        if write.prev and write.kind is Kind.PUT and not write.prev.lease:
            return _with(history, write, dataclasses.replace(write, prev=None))
    return None


@_lie(Verdict.PREVIOUS)
def prev_kv_of_nothing(history: records.History) -> records.History | None:
    for write in _writes(history):
        older = [o for o in _writes(history) if o.key == write.key and o.prev and _same(o, write)]
        if write.kind is Kind.PUT and write.prev is None and older:
            return _with(history, write, dataclasses.replace(write, prev=older[0].prev))
    return None


def _streams(history: records.History) -> dict[tuple[str, int], list[records.WatchResponse]]:
    found: dict[tuple[str, int], list[records.WatchResponse]] = {}
    for response in history.responses:
        found.setdefault((response.watcher, response.connection), []).append(response)
    return found


def _delivered(
    history: records.History,
) -> Iterator[tuple[list[records.WatchResponse], int, records.WatchResponse]]:
    """Streams with a response with events in them, and its place."""
    for stream in _streams(history).values():
        for place, response in enumerate(stream):
            if response.events:
                yield stream, place, response


@_lie(Verdict.WATCH_UNIQUE)
def duplicated_event(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        twice = (*response.events, response.events[-1])
        return _with(history, response, dataclasses.replace(response, events=twice))
    return None


@_lie(Verdict.WATCH_UNIQUE)
def event_again_after_the_resume(history: records.History) -> records.History | None:
    streams = _streams(history)
    for (watcher, connection), stream in streams.items():
        later = streams.get((watcher, connection + 1), [])
        mine = [r for r in stream if r.events]
        its = [r for r in later if r.events]
        if not mine or not its or not mine[-1].header or not its[0].header:
            continue
        if mine[-1].header.cluster_id == its[0].header.cluster_id:
            events = (mine[-1].events[-1], *its[0].events)
            return _with(history, its[0], dataclasses.replace(its[0], events=events))
    return None


@_lie(Verdict.WATCH_ORDER)
def reordered_events(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        first, last = response.events[0], response.events[-1]
        if first.kv.mod_revision != last.kv.mod_revision:
            events = response.events[::-1]
            return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.WATCH_LOST)
def lost_event(history: records.History) -> records.History | None:
    for stream, place, response in _delivered(history):
        revision = response.events[0].kv.mod_revision
        events = tuple(e for e in response.events if e.kv.mod_revision != revision)
        acked = any(
            o.header.revision == revision and response.header
            for o in _writes(history)
            if o.header and response.header and o.header.cluster_id == response.header.cluster_id
        )
        if acked and any(r.events for r in stream[place + 1 :]):
            return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.WATCH_LOST)
def lost_event_before_a_bookmark(history: records.History) -> records.History | None:
    for stream, place, response in _delivered(history):
        following = stream[place + 1 : place + 2]
        if following and following[0].progress and len(response.events) == 1:
            revision = response.events[0].kv.mod_revision
            if any(o.header and o.header.revision == revision for o in _writes(history)):
                return _with(history, response)
    return None


def _pairs(history: records.History) -> Iterator[tuple[records.WatchResponse, int]]:
    """Responses with two events of one revision, and the place of the first."""
    for _, _, response in _delivered(history):
        for place in range(len(response.events) - 1):
            one, other = response.events[place : place + 2]
            if one.kv.mod_revision == other.kv.mod_revision:
                yield response, place


@_lie(Verdict.WATCH_TORN)
def torn_transaction(history: records.History) -> records.History | None:
    for response, place in _pairs(history):
        events = response.events[: place + 1], response.events[place + 1 :]
        two = (dataclasses.replace(response, events=each) for each in events)
        return _with(history, response, *two)
    return None


@_lie(Verdict.WATCH_TORN)
def half_a_transaction(history: records.History) -> records.History | None:
    for response, place in _pairs(history):
        events = response.events[: place + 1] + response.events[place + 2 :]
        return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.WATCH_TORN)
def torn_across_the_resume(history: records.History) -> records.History | None:
    """The stream breaks between two events of one revision, and the next one begins with the
    second."""
    for response, place in _pairs(history):
        if place != len(response.events) - 2:
            continue
        stream = _streams(history)[response.watcher, response.connection]
        again = dataclasses.replace(
            response,
            connection=response.connection + 1000,
            asked=response.events[-1].kv.mod_revision + 1,
            events=(),
        )
        for each in stream[stream.index(response) + 1 :]:
            there = dataclasses.replace(each, connection=again.connection, asked=again.asked)
            history = _with(history, each, there)
        return _with(
            history,
            response,
            dataclasses.replace(response, events=response.events[:-1]),
            dataclasses.replace(response, events=(), broken=True, header=None),
            dataclasses.replace(again, created=True),
            dataclasses.replace(again, events=response.events[-1:]),
        )
    return None


@_lie(Verdict.WATCH_PREVIOUS)
def wrong_prev_kv_of_an_event(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        event = response.events[-1]
        if event.prev is not None and not event.prev.lease:
            events = (*response.events[:-1], dataclasses.replace(event, prev=None))
            return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.WATCH_BOOKMARK)
def event_after_its_bookmark(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        header = _at(response.header, response.events[0].kv.mod_revision)
        promise = dataclasses.replace(response, events=(), progress=True, header=header)
        return _with(history, response, promise, response)
    return None


@_lie(Verdict.INVENTED)
def event_of_nobody(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        event = response.events[-1]
        if not event.deleted:
            kv = dataclasses.replace(event.kv, value="nobody's")
            events = (*response.events[:-1], dataclasses.replace(event, kv=kv))
            return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.INVENTED)
def deletion_by_nobody(history: records.History) -> records.History | None:
    for _, _, response in _delivered(history):
        event = response.events[-1]
        if not event.deleted and not event.kv.lease and not (event.prev and event.prev.lease):
            gone = dataclasses.replace(event, deleted=True)
            events = (*response.events[:-1], gone)
            return _with(history, response, dataclasses.replace(response, events=events))
    return None


@_lie(Verdict.DEAF)
def deaf_watcher(history: records.History) -> records.History | None:
    last = _writes(history)
    if not last:
        return None
    write = max(last, key=lambda o: o.header.revision if o.header else 0)
    assert write.header
    revision = write.header.revision
    for stream in _streams(history).values():
        told = [r for r in stream if _reaches(r, revision)]
        opened = stream[0]
        if not told or not opened.created or stream[-1].broken or stream[-1].canceled:
            continue
        if not opened.asked or opened.asked > revision:
            continue
        kept = tuple(r for r in history.responses if not any(r is each for each in told))
        return dataclasses.replace(history, responses=kept)
    return None


def _reaches(response: records.WatchResponse, revision: int) -> bool:
    if response.progress and response.header:
        return response.header.revision >= revision
    return any(event.kv.mod_revision >= revision for event in response.events)


def _told_compacted(history: records.History) -> Iterator[records.WatchResponse]:
    return (r for r in history.responses if r.canceled and r.compact_revision)


@_lie(Verdict.FOOLED)
def fooled_watcher(history: records.History) -> records.History | None:
    """It never hears "compacted" and gets the other cluster's events."""
    for told in _told_compacted(history):
        later = [
            r
            for r in history.responses
            if r.watcher == told.watcher and r.connection > told.connection
        ]
        again = [r for r in later if r.connection == told.connection + 1]
        if not any(r.events for r in again):
            continue
        gone = {id(told), *(id(r) for r in again if r.created)}
        responses = tuple(
            dataclasses.replace(r, connection=told.connection, asked=told.asked)
            if any(r is each for each in again)
            else r
            for r in history.responses
            if id(r) not in gone
        )
        return _unlisted(dataclasses.replace(history, responses=responses), told.watcher)
    return None


@_lie(Verdict.FOOLED)
def watcher_fooled_in_silence(history: records.History) -> records.History | None:
    """The other cluster accepts its revision, and nothing comes any more."""
    for told in _told_compacted(history):
        responses = tuple(
            r
            for r in history.responses
            if r.watcher != told.watcher or (r is not told and r.connection <= told.connection)
        )
        return _unlisted(dataclasses.replace(history, responses=responses), told.watcher)
    return None


def _unlisted(history: records.History, watcher: str) -> records.History:
    kept = tuple(o for o in history.operations if o.client != watcher)
    return dataclasses.replace(history, operations=kept)


def _unnamed(
    history: records.History, add: Kind, remove: Kind, list_: Kind
) -> records.History | None:
    """One acknowledged name is missing from the first list that shows it, and later ones."""
    removed = {o.key for o in history.operations if o.kind is remove}
    for added in _done(history, add):
        assert added.header
        shown = [
            o
            for o in _done(history, list_)
            if added.key in o.names
            and o.invoked > (added.answered or 0)
            and o.header
            and o.header.cluster_id == added.header.cluster_id
            and o.header.revision > added.header.revision
        ]
        short = added.ttl and added.ttl < 100
        if added.key in removed or short or not shown:
            continue
        for read in shown:
            names = tuple(name for name in read.names if name != added.key)
            history = _with(history, read, dataclasses.replace(read, names=names))
        return history
    return None


@_lie(Verdict.ACCOUNT)
def lost_user(history: records.History) -> records.History | None:
    return _unnamed(history, Kind.USER_ADD, Kind.USER_DELETE, Kind.USER_LIST)


@_lie(Verdict.ACCOUNT)
def lost_role(history: records.History) -> records.History | None:
    return _unnamed(history, Kind.ROLE_ADD, Kind.ROLE_DELETE, Kind.ROLE_LIST)


@_lie(Verdict.LEASE)
def lost_lease(history: records.History) -> records.History | None:
    return _unnamed(history, Kind.LEASE_GRANT, Kind.LEASE_REVOKE, Kind.LEASE_LIST)


@_lie(Verdict.ACCOUNT)
def user_that_was_removed(history: records.History) -> records.History | None:
    for removed in _done(history, Kind.USER_DELETE):
        for read in _done(history, Kind.USER_LIST):
            if _same(read, removed) and read.invoked > (removed.answered or 0):
                names = (*read.names, removed.key)
                return _with(history, read, dataclasses.replace(read, names=names))
    return None


@_lie(Verdict.RECORDS)
def old_data_on_a_machine(history: records.History) -> records.History | None:
    machine = next((m for m in history.machines if m.etcd_running), None)
    if machine is None:
        return None
    old = dataclasses.replace(machine, removed=True, data_token="t0", data_generation=0)
    return _with(history, machine, old)


@_lie(Verdict.RECORDS)
def old_record_on_a_machine(history: records.History) -> records.History | None:
    machine = next((m for m in history.machines if m.etcd_running), None)
    if machine is None:
        return None
    return _with(history, machine, dataclasses.replace(machine, number=0, token="t0"))


@_lie(Verdict.RECORDS)
def neither_confirmed_nor_rolled_back(history: records.History) -> records.History | None:
    if not history.machines:
        return None
    machines = tuple(dataclasses.replace(m, confirmed=False) for m in history.machines)
    return dataclasses.replace(history, machines=machines)


@_lie(Verdict.RECORDS)
def second_cluster_on_a_machine(history: records.History) -> records.History | None:
    machine = next((m for m in history.machines if m.etcd_running), None)
    if machine is None:
        return None
    return _with(history, machine, dataclasses.replace(machine, cluster_id=0xBAD))


@_lie(Verdict.ADVICE)
def destructive_advice(history: records.History) -> records.History | None:
    at = _lively(history)
    if at is None:
        return None
    words = "no unit has the cluster's data any more: run `juju run etcd/leader restore path=x`"
    said = records.Status(at, "etcd/1", "blocked", words)
    return dataclasses.replace(history, statuses=(*history.statuses, said))


@_lie(Verdict.ADVICE)
def destructive_refusal(history: records.History) -> records.History | None:
    at = _lively(history)
    if at is None:
        return None
    words = "etcd/1 does not answer: run `juju remove-unit --force etcd/1`, and restore again"
    said = records.Announcement(at, "restore", "etcd/0", failed=True, text=words)
    return dataclasses.replace(history, announcements=(*history.announcements, said))


def _lively(history: records.History) -> float | None:
    """A time long after which and shortly before which writes were acknowledged all the while."""
    times = sorted(o.answered or 0 for o in _writes(history))
    begin = times[0]
    for before, after in itertools.pairwise(times):
        if after - before > 2.9:
            begin = after
        if after - begin > 26.0:
            return after - 5.5
    return None
