"""Watches: ordered, unique, reliable, atomic, with the right bookmarks; never deaf, never fooled.

A stream is followed from the revision that it asked for. What it delivered up to its last event
or progress notification is its span: every known write in there has to be among its events.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses

from proof import records
from proof.judge_clusters import Cluster, Facts
from proof.judge_verdicts import Bounds, Finding, Verdict, shorten


@dataclasses.dataclass
class Stream:
    """One connection of a watcher.

    Attributes:
        watcher: its name.
        pinned: unit it is pinned to.
        endpoint: where it is connected.
        prefix: what it watches.
        asked: start revision asked for, 0 for none.
        home: cluster ID that the asked revision was learnt from, None for none.
        cluster_id: that accepted it, None for none.
        opened: when it was accepted, seconds.
        closed: when it ended, seconds.
        first: first revision that it has to deliver.
        next: first revision that it has not delivered.
        highest: revision of its latest event, in their right order.
        bookmark: the highest revision promised to be complete.
        keys: revision to the keys of its events.
        heard: times and revisions of what came after `created`.
    """

    watcher: str
    pinned: str
    endpoint: str
    prefix: str
    asked: int
    home: int | None
    cluster_id: int | None = None
    opened: float = 0
    closed: float = 0
    first: int = 0
    next: int = 0
    highest: int = 0
    bookmark: int = 0
    keys: dict[int, set[str]] = dataclasses.field(default_factory=dict)
    heard: list[tuple[float, int]] = dataclasses.field(default_factory=list)

    @property
    def span(self) -> tuple[int, int]:
        """First and last revision delivered in full; the last is below the first for none."""
        return self.first, self.next - 1


class _Watcher:
    """Follows one watcher through its connections."""

    def __init__(self, name: str, lists: list[records.Operation], history: records.History):
        self.name = name
        self.lists = lists
        self.history = history
        self.home: int | None = None
        self.streams: list[Stream] = []
        self.findings: list[Finding] = []
        self._now: Stream | None = None
        self._number = 0
        self._partial = 0  # revision whose events go on in the next fragment

    def run(self, responses: list[records.WatchResponse]) -> None:
        for response in responses:
            if response.connection != self._number:
                self._close(response.at)
                self._number = response.connection
            self._listed(response.at)
            if response.created and response.header is not None:
                self._open(response, response.header)
            if self._now is None or response.header is None:
                self._end(response)
                continue
            if response.header.cluster_id != self._now.cluster_id:
                self._fooled(response, response.header.cluster_id, "in the middle of a stream")
                self._now.cluster_id = response.header.cluster_id
            self._take(self._now, response, response.header)
            self._end(response)
        self._close(self.history.ended)

    def _listed(self, at: float) -> None:
        """What the watcher listed until `at` is what it goes on from."""
        while self.lists and (self.lists[0].answered or 0) <= at:
            listed = self.lists.pop(0)
            assert listed.header is not None
            self.home = listed.header.cluster_id

    def _open(self, response: records.WatchResponse, header: records.Header) -> None:
        self._close(response.at)
        asked = response.asked
        stream = Stream(
            self.name, response.pinned, response.endpoint, response.prefix, asked, self.home
        )
        stream.cluster_id = header.cluster_id
        stream.opened = response.at
        stream.first = stream.next = asked or header.revision + 1
        self.streams.append(stream)
        self._now = stream
        self._partial = 0
        if not asked or self.home is None:
            stream.home = self.home = header.cluster_id

    def _take(
        self, stream: Stream, response: records.WatchResponse, header: records.Header
    ) -> None:
        if response.events or response.progress:
            stream.heard.append((response.at, header.revision))
        for event in response.events:
            self._event(stream, event, response)
        if response.events:
            self._partial = stream.highest if response.fragment else 0
            stream.next = max(stream.next, stream.highest + (not response.fragment))
        if response.progress:
            stream.next = max(stream.next, header.revision + 1)
            stream.bookmark = max(stream.bookmark, header.revision)

    def _event(
        self, stream: Stream, event: records.Event, response: records.WatchResponse
    ) -> None:
        revision, key = event.kv.mod_revision, event.kv.key
        keys = stream.keys.get(revision, set())
        before = self._before(revision)
        trouble: tuple[Verdict, str] | None = None
        if key in keys or key in before:
            trouble = Verdict.WATCH_UNIQUE, "twice"
        elif revision < stream.first:
            trouble = Verdict.WATCH_ORDER, f"though it asked for {stream.first} and later"
        elif revision <= stream.bookmark:
            trouble = Verdict.WATCH_BOOKMARK, f"after it was told all up to {stream.bookmark}"
        elif keys and revision < stream.next and revision != self._partial:
            trouble = Verdict.WATCH_TORN, "after other events of that revision had ended"
        elif revision < stream.highest:
            trouble = Verdict.WATCH_ORDER, f"after revision {stream.highest}"
        if trouble is not None:
            sentence = f"watcher {self.name} got {key} at revision {revision} {trouble[1]}"
            self.findings.append(Finding(trouble[0], sentence, response.at))
        stream.keys.setdefault(revision, set()).add(key)
        stream.highest = max(stream.highest, revision)

    def _before(self, revision: int) -> set[str]:
        """Keys that an earlier stream got at a revision that this one did not ask for again."""
        now = self._now
        if now is None or revision >= now.first:
            return set()
        earlier = (s for s in self.streams[:-1] if s.cluster_id == now.cluster_id)
        return set().union(*(s.keys.get(revision, ()) for s in earlier))

    def _end(self, response: records.WatchResponse) -> None:
        if response.canceled or response.broken:
            self._close(response.at)
        if response.canceled:
            self.home = None

    def _close(self, at: float) -> None:
        if self._now is not None:
            self._now.closed = at
            if self._now.heard:
                self.home = self._now.cluster_id
            self._now = None

    def _fooled(self, response: records.WatchResponse, id_: int, how: str) -> None:
        sentence = f"watcher {self.name} is led over to cluster {id_:x} {how}"
        self.findings.append(Finding(Verdict.FOOLED, sentence, response.at))


def follow(history: records.History) -> tuple[list[Stream], list[Finding]]:
    """All streams of all watchers, and what is wrong with them by themselves."""
    responses: dict[str, list[records.WatchResponse]] = collections.defaultdict(list)
    for response in history.responses:
        responses[response.watcher].append(response)
    lists: dict[str, list[records.Operation]] = collections.defaultdict(list)
    for o in history.operations:
        done = o.outcome is records.Outcome.OK and o.header is not None
        if o.client in responses and o.kind is records.Kind.LIST and done:
            lists[o.client].append(o)
    streams: list[Stream] = []
    findings: list[Finding] = []
    for name, its in responses.items():
        listed = sorted(lists[name], key=lambda o: o.answered or 0)
        watcher = _Watcher(name, listed, history)
        watcher.run(its)
        streams += watcher.streams
        findings += watcher.findings
    return streams, findings


def missing(streams: list[Stream], facts: Facts) -> list[Finding]:
    """Known writes in a stream's span that are not among its events."""
    found: list[Finding] = []
    writes = {c.id: (c, sorted(c.writes)) for c in facts.clusters}
    for stream in streams:
        if stream.cluster_id is None:
            continue
        cluster, revisions = writes[stream.cluster_id]
        first, last = stream.span
        begin, end = bisect.bisect_left(revisions, first), bisect.bisect_right(revisions, last)
        lost: list[str] = []
        for revision in revisions[begin:end]:
            write = cluster.writes[revision]
            wanted = {key for key in write.changes if key.startswith(stream.prefix)}
            got = stream.keys.get(revision, set())
            if wanted - got and got:
                lacks = ", ".join(sorted(wanted - got))
                sentence = (
                    f"watcher {stream.watcher} got revision {revision} of cluster {cluster} in "
                    f"part: without {lacks}"
                )
                found.append(Finding(Verdict.WATCH_TORN, sentence, stream.closed))
            elif wanted - got:
                lost.append(f"revision {revision}: {', '.join(sorted(wanted))}")
        if lost:
            sentence = (
                f"watcher {stream.watcher} was not told of {len(lost)} writes of cluster "
                f"{cluster} between revisions {first} and {last}"
            )
            found.append(Finding(Verdict.WATCH_LOST, sentence, stream.closed, shorten(lost)))
    return found


def fooled(streams: list[Stream], facts: Facts, bounds: Bounds) -> list[Finding]:
    """Streams that another cluster than the revision's own accepted, and goes on with."""
    found: list[Finding] = []
    for stream in streams:
        if stream.home is None or stream.cluster_id in (None, stream.home):
            continue
        lasted = stream.closed - stream.opened
        if not stream.heard and lasted < bounds.accepted:
            continue
        sentence = (
            f"watcher {stream.watcher} resumed at revision {stream.asked} of cluster "
            f"{stream.home:x}, and cluster {stream.cluster_id:x} accepted it"
        )
        evidence = f"the stream lasted for {lasted:.1f} s and told of {len(stream.keys)} revisions"
        found.append(Finding(Verdict.FOOLED, sentence, stream.opened, (evidence,)))
        missed = _missed(stream, facts.cluster(stream.cluster_id), bounds)
        if missed:
            sentence = (
                f"watcher {stream.watcher} never got {len(missed)} acknowledged writes of cluster "
                f"{stream.cluster_id:x}, which accepted it and told it of later revisions"
            )
            at = missed[0].answered or 0
            lines = shorten([f"{o.kind.value} {o.key} at {o.answered:.3f}" for o in missed])
            found.append(Finding(Verdict.DEAF, sentence, at, lines))
    return found


def _missed(stream: Stream, cluster: Cluster, bounds: Bounds) -> list[records.Operation]:
    """Acknowledged writes that a fooled stream stood for, and passed over without an event."""
    passed = max((revision for _, revision in stream.heard), default=0)
    return [
        o
        for o in cluster.acks
        if o.header is not None
        and o.key.startswith(stream.prefix)
        and stream.opened <= o.invoked
        and (o.answered or 0) <= stream.closed - bounds.deaf
        and o.header.revision <= passed
        and o.header.revision not in stream.keys
    ]


def deaf(streams: list[Stream], facts: Facts, bounds: Bounds) -> list[Finding]:
    """Streams without the last acknowledged write, although their member has it and answers."""
    found: list[Finding] = []
    units = _units(facts.history)
    for cluster in facts.clusters:
        acked = [w for w in cluster.writes.values() if w.acknowledged]
        last = max(acked, key=lambda w: w.revision, default=None)
        if last is None or last.operation is None:
            continue
        proofs = _proofs(facts.history, cluster, last.revision, units)
        for stream in streams:
            if stream.cluster_id != cluster.id or _has(stream, last.revision):
                continue
            if not last.operation.key.startswith(stream.prefix):
                continue
            since = max(last.operation.answered or 0, stream.opened)
            times = proofs.get(_member(stream.pinned, stream.endpoint, units), [])
            place = bisect.bisect_left(times, since)
            if place < len(times) and times[place] + bounds.deaf <= stream.closed:
                sentence = (
                    f"watcher {stream.watcher} never got revision {last.revision}, the last "
                    f"acknowledged write of cluster {cluster}"
                )
                evidence = (
                    f"its member had it at {times[place]:.3f}, and the stream, which began at "
                    f"revision {stream.first}, stood until {stream.closed:.3f}"
                )
                found.append(Finding(Verdict.DEAF, sentence, times[place], (evidence,)))
    return found


def _has(stream: Stream, revision: int) -> bool:
    """Whether a stream delivered a revision, or began after it in the same cluster."""
    passed = stream.home == stream.cluster_id and stream.next > revision
    return passed or revision in stream.keys


def _units(history: records.History) -> dict[str, str]:
    """Endpoint to the unit behind it, by what is pinned."""
    pairs = [(o.endpoint, o.pinned) for o in history.operations]
    pairs += [(r.endpoint, r.pinned) for r in history.responses]
    return {endpoint: pinned for endpoint, pinned in pairs if endpoint and pinned}


def _member(pinned: str, endpoint: str, units: dict[str, str]) -> str:
    return pinned or units.get(endpoint, endpoint)


def _proofs(
    history: records.History, cluster: Cluster, revision: int, units: dict[str, str]
) -> dict[str, list[float]]:
    """Unit to the times at which its member answered, and had `revision`."""
    times: dict[str, list[float]] = collections.defaultdict(list)
    for probe in history.probes:
        if probe.cluster_id == cluster.id and probe.revision >= revision:
            times[probe.unit].append(probe.at)
    for o in history.operations:
        if o.header is None or o.answered is None or o.header.cluster_id != cluster.id:
            continue
        if o.header.revision >= revision:
            times[_member(o.pinned, o.endpoint, units)].append(o.answered)
    for its in times.values():
        its.sort()
    return times
