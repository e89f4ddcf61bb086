"""What a history proves of each cluster: who answered when, and which writes there were.

A write counts when it was acknowledged, or when its unique value was seen anywhere: in a read, in
an event or in a `prev_kv`. A write without an answer that nobody saw is never asked for.
"""

from __future__ import annotations

import bisect
import collections
import collections.abc
import dataclasses
import typing

from proof import records
from proof.judge_verdicts import Finding, Verdict

WRITES = (records.Kind.PUT, records.Kind.CAS, records.Kind.DELETE)
READS = (records.Kind.GET, records.Kind.LIST)


class View(typing.NamedTuple):
    """What one answer shows of keys at one revision.

    Attributes:
        revision: of the store.
        before: shown is the state right before that revision.
        at: when it was seen, seconds.
        items: key and what was there; None for nothing.
        full: all keys are shown that there are.
        verdict: what it is when the state says otherwise.
        source: who saw it.
    """

    revision: int
    before: bool
    at: float
    items: tuple[tuple[str, records.KV | None], ...]
    full: bool
    verdict: Verdict
    source: str


@dataclasses.dataclass
class Write:
    """What is proven to have happened at one revision.

    Attributes:
        revision: etcd's.
        changes: key to what it became, None for a deletion; version 0 where it was not seen.
        operation: who did it; None for keys that went with their lease.
        at: when it was known first, seconds.
    """

    revision: int
    changes: dict[str, records.KV | None]
    operation: records.Operation | None
    at: float

    @property
    def acknowledged(self) -> bool:
        """Whether the client was told."""
        operation = self.operation
        return operation is not None and operation.outcome is records.Outcome.OK


@dataclasses.dataclass
class Cluster:
    """All that is known of one cluster ID.

    Attributes:
        id: etcd's cluster ID.
        place: among all clusters, by their first answer, from 0.
        answers: time and revision of each answer, by time; of a probe, the time of asking.
        known: the same without probes.
        acks: acknowledged writes, by the time of the answer.
        writes: revision to write.
        views: in any order.
        floor: revisions up to this one are an older cluster's.
        announcement: what the charm said of it before, None for nothing or until it is known.
        versions: key to its revisions and what was there from each on, made by `judge_contents`.
        base: key to what was there at the beginning.
        parent: cluster that it continues, None for the first or an unknown one.
        cut: revision of `parent` that it begins with.
    """

    id: int
    place: int = 0
    answers: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    known: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    acks: list[records.Operation] = dataclasses.field(default_factory=list)
    writes: dict[int, Write] = dataclasses.field(default_factory=dict)
    views: list[View] = dataclasses.field(default_factory=list)
    floor: int = 0
    announcement: records.Announcement | None = None
    versions: dict[str, tuple[list[int], list[records.KV | None]]] = dataclasses.field(
        default_factory=dict
    )
    base: dict[str, records.KV | None] = dataclasses.field(default_factory=dict)
    parent: Cluster | None = None
    cut: int = 0

    def __str__(self) -> str:
        return f"{self.id:x}"

    @property
    def first(self) -> float:
        """When it answered first, seconds."""
        return self.answers[0][0]

    @property
    def last(self) -> float:
        """When it answered last, seconds."""
        return self.answers[-1][0]

    @property
    def lowest(self) -> int:
        """The lowest revision that anybody saw of a store that was filled: a new member's is at 1
        until it has the data, and etcd tells 0 where it cancels a watch."""
        return min((revision for _, revision in self.answers if revision > 1), default=1)

    @property
    def highest(self) -> int:
        """The highest revision that anybody saw."""
        return max(revision for _, revision in self.answers)

    def state_at(self, revision: int) -> dict[str, records.KV | None]:
        """Key to what was there at `revision`, None for nothing any more."""
        state = dict(self.base)
        for key, (revisions, kvs) in self.versions.items():
            place = bisect.bisect_right(revisions, revision)
            if place:
                state[key] = kvs[place - 1]
        return state


@dataclasses.dataclass
class Facts:
    """What was read out of a history.

    Attributes:
        history: all of it.
        clusters: by their first answer.
        by_value: value to the operation that wrote it, or wanted to.
        found: values of writes without an answer that were seen.
        findings: what cannot be, whatever the state was.
    """

    history: records.History
    clusters: list[Cluster]
    by_value: dict[str, records.Operation]
    found: set[str] = dataclasses.field(default_factory=set)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def cluster(self, id_: int) -> Cluster:
        """The cluster of an ID that answered."""
        return next(c for c in self.clusters if c.id == id_)

    def parent_of(self, place: int, revision: int) -> Cluster:
        """The cluster before the one at `place` that `revision` was most likely of."""
        earlier = self.clusters[:place]
        return next((c for c in reversed(earlier) if c.lowest <= revision), earlier[0])


def wrote(operation: records.Operation) -> bool:
    """Whether it is an acknowledged write of a key."""
    return (
        operation.kind in WRITES
        and operation.outcome is records.Outcome.OK
        and operation.succeeded
        and operation.header is not None
    )


def gather(history: records.History) -> Facts:
    """Read out of a history what it proves."""
    by_value = {o.value: o for o in history.operations if o.kind in WRITES}
    facts = Facts(history, _clusters(history), by_value)
    _announce(facts)
    places = {c.id: c for c in facts.clusters}
    for operation in history.operations:
        if operation.header is not None and operation.outcome is records.Outcome.OK:
            _view_operation(places[operation.header.cluster_id], operation, history.prefix)
            _branch(facts, operation)
    for response in history.responses:
        if response.header is not None:
            _view_events(places[response.header.cluster_id], response)
    for cluster in facts.clusters:
        cluster.acks.sort(key=lambda o: o.answered or 0)
        _acknowledged(facts, cluster)
    _Finder(facts).run()
    _deleted_by_nobody(facts, places)
    return facts


def _clusters(history: records.History) -> list[Cluster]:
    clusters: dict[int, Cluster] = {}
    for at, id_, revision in _answers(history):
        clusters.setdefault(id_, Cluster(id_)).known.append((at, revision))
    for probe in history.probes:
        if probe.answered and probe.cluster_id:
            cluster = clusters.setdefault(probe.cluster_id, Cluster(probe.cluster_id))
            cluster.answers.append((probe.at, probe.revision))
    for cluster in clusters.values():
        cluster.known.sort()
        cluster.answers = sorted(cluster.answers + cluster.known)
    found = sorted(clusters.values(), key=lambda c: c.first)
    for place, cluster in enumerate(found):
        cluster.place = place
    return found


def _answers(history: records.History) -> collections.abc.Iterator[tuple[float, int, int]]:
    """Time, cluster ID and revision of all that operations and watchers got from etcd."""
    for o in history.operations:
        if o.header is not None and o.answered is not None:
            yield o.answered, o.header.cluster_id, o.header.revision
    for r in history.responses:
        if r.header is not None:
            yield r.at, r.header.cluster_id, r.header.revision


def _announce(facts: Facts) -> None:
    """Give each later cluster its floor, by what had been announced before it answered."""
    for cluster in facts.clusters[1:]:
        said = [a.revision for a in announced(facts, cluster.first)]
        if any(said):
            cluster.floor = max(said)
        else:
            earlier = facts.clusters[: cluster.place]
            seen = [r for c in earlier for at, r in c.answers if at < cluster.first]
            cluster.floor = min(max(seen), cluster.lowest - 1)


def announced(facts: Facts, before: float) -> list[records.Announcement]:
    """What was said of clusters to come, and no older cluster was known to be meant by."""
    used = [c.announcement for c in facts.clusters]
    return sorted(
        (
            a
            for a in facts.history.announcements
            if not a.failed
            and (a.revision or a.lost is not None)
            and a.at < before
            and not any(a is each for each in used)
        ),
        key=lambda a: a.at,
    )


def _view_operation(cluster: Cluster, o: records.Operation, prefix: str) -> None:
    """Take in what an acknowledged operation shows of keys."""
    assert o.header is not None
    at = o.answered or o.invoked
    revision = o.header.revision
    source = f"{o.kind.value} {o.key} by {o.client} at {at:.3f}"
    if o.kind is records.Kind.LIST:
        if prefix.startswith(o.key):
            shown = tuple((kv.key, kv) for kv in o.kvs if kv.key.startswith(prefix))
            cluster.views.append(View(revision, False, at, shown, True, Verdict.CONTENT, source))
    elif o.kind in WRITES and o.succeeded:
        cluster.acks.append(o)
        shown = ((o.key, o.prev),)
        cluster.views.append(View(revision, True, at, shown, False, Verdict.PREVIOUS, source))
    elif o.kind in WRITES or o.kind is records.Kind.GET:
        shown = ((o.key, o.kvs[0] if o.kvs else None),)
        cluster.views.append(View(revision, False, at, shown, False, Verdict.CONTENT, source))


def _branch(facts: Facts, o: records.Operation) -> None:
    """Whether a transaction that took its "else" had to."""
    if o.succeeded or o.kind not in (records.Kind.CAS, records.Kind.DELETE):
        return
    there = o.kvs[0].mod_revision if o.kvs else 0
    held = there == o.expected if o.kind is records.Kind.CAS else there != 0
    if held:
        sentence = f"{o.kind.value} of {o.key} failed although its compare held"
        evidence = f"{o.client} compared with {o.expected}, and read mod revision {there}"
        at = o.answered or o.invoked
        facts.findings.append(Finding(Verdict.COMPARE, sentence, at, (evidence,)))


def _view_events(cluster: Cluster, response: records.WatchResponse) -> None:
    for event in response.events:
        kv = event.kv
        source = f"event of {kv.key} for {response.watcher} at {response.at:.3f}"
        shown = ((kv.key, event.prev),)
        verdict = Verdict.WATCH_PREVIOUS
        view = View(kv.mod_revision, True, response.at, shown, False, verdict, source)
        cluster.views.append(view)
        became = None if event.deleted else kv
        shown = ((kv.key, became),)
        view = View(kv.mod_revision, False, response.at, shown, False, Verdict.CONTENT, source)
        cluster.views.append(view)


def _acknowledged(facts: Facts, cluster: Cluster) -> None:
    for o in cluster.acks:
        assert o.header is not None
        _add(facts, cluster, o.header.revision, _changes(o, o.header.revision), o, o.answered or 0)


def _changes(o: records.Operation, revision: int) -> dict[str, records.KV | None]:
    """What a write makes of keys; version 0 says that only the state can tell the rest."""
    if o.kind is records.Kind.DELETE:
        return {o.key: None, o.marker: records.KV(o.marker, o.value, 0, revision, 0)}
    return {o.key: records.KV(o.key, o.value, 0, revision, 0, o.lease)}


def _add(
    facts: Facts,
    cluster: Cluster,
    revision: int,
    changes: dict[str, records.KV | None],
    operation: records.Operation,
    at: float,
) -> None:
    other = cluster.writes.get(revision)
    if other is None:
        cluster.writes[revision] = Write(revision, changes, operation, at)
        return
    told = (other.operation, operation)
    facts.findings.append(
        Finding(
            Verdict.SAME_REVISION,
            f"two writes have revision {revision} of cluster {cluster}",
            at,
            tuple(f"{o.client}: {o.kind.value} {o.key} = {o.value}" for o in told if o),
        )
    )


class _Finder:
    """Finds writes by their values, in what each cluster showed, the oldest cluster first."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.said: set[str] = set()
        self.home = {o.value: cluster for cluster in facts.clusters for o in cluster.acks}

    def run(self) -> None:
        for cluster in self.facts.clusters:
            for view in sorted(cluster.views, key=lambda v: v.at):
                for _, kv in view.items:
                    if kv is not None:
                        self._see(cluster, kv, view)

    def _see(self, cluster: Cluster, kv: records.KV, view: View) -> None:
        operation = self.facts.by_value.get(kv.value)
        trouble = _impossible(operation, kv)
        if trouble is None:
            if operation is not None and kv.value not in self.home:
                self._find(cluster, kv, operation, view)
            _complete(self.home[kv.value], kv)
        elif kv.value not in self.said:
            self.said.add(kv.value)
            verdict, why = trouble
            sentence = f"{kv.key} = {kv.value} {why}"
            self.facts.findings.append(Finding(verdict, sentence, view.at, (view.source,)))

    def _find(
        self, cluster: Cluster, kv: records.KV, operation: records.Operation, view: View
    ) -> None:
        """A write without an answer took effect: let it take part."""
        revision = kv.mod_revision
        if cluster.place and revision <= cluster.floor:
            cluster = self.facts.parent_of(cluster.place, revision)
        self.home[kv.value] = cluster
        self.facts.found.add(kv.value)
        _add(self.facts, cluster, revision, _changes(operation, revision), operation, view.at)


def _impossible(operation: records.Operation | None, kv: records.KV) -> tuple[Verdict, str] | None:
    """Why no such value can be there, whatever happened."""
    if operation is None:
        return Verdict.INVENTED, "was written by nobody"
    deletes = operation.kind is records.Kind.DELETE
    if kv.key != (operation.marker if deletes else operation.key):
        return Verdict.INVENTED, "was written to another key"
    if operation.outcome is records.Outcome.REFUSED:
        return Verdict.INVENTED, f"was refused: {operation.error}"
    if operation.outcome is records.Outcome.OK and not operation.succeeded:
        return Verdict.COMPARE, "is there although its compare did not hold"
    return None


def _complete(home: Cluster, kv: records.KV) -> None:
    """Note create revision, version and lease of a write, when they are seen first."""
    write = home.writes.get(kv.mod_revision)
    if write is None or not kv.version:
        return
    known = write.changes.get(kv.key)
    if known is not None and not known.version and known.value == kv.value:
        write.changes[kv.key] = kv


def _deleted_by_nobody(facts: Facts, places: dict[int, Cluster]) -> None:
    """Deletions that no client asked for: keys that went with their lease, as events tell.

    Whether there was a lease, the replay knows.
    """
    gone: dict[tuple[int, int], dict[str, float]] = collections.defaultdict(dict)
    for response in facts.history.responses:
        for event in response.events:
            if event.deleted and response.header is not None:
                at = (response.header.cluster_id, event.kv.mod_revision)
                gone[at].setdefault(event.kv.key, response.at)
    for (id_, revision), keys in gone.items():
        cluster = places[id_]
        write = cluster.writes.get(revision)
        if write is None:
            changes: dict[str, records.KV | None] = dict.fromkeys(keys)
            cluster.writes[revision] = Write(revision, changes, None, min(keys.values()))
            continue
        for key in keys.keys() - {k for k, kv in write.changes.items() if kv is None}:
            sentence = f"an event says that {key} was deleted at revision {revision} by nobody"
            facts.findings.append(Finding(Verdict.INVENTED, sentence, keys[key]))
