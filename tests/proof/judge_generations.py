"""Across clusters: one at a time, each beginning with what was announced, none rolled back in use.

Clusters are ordered by their first answer. One is *rolled back* when an older one goes on
acknowledging after it did so last, and it is not the one that serves at the end.
"""

from __future__ import annotations

import bisect
import collections
import collections.abc
import math

from proof import records
from proof.judge_clusters import Cluster, Facts, announced
from proof.judge_contents import Spans, Unseen
from proof.judge_verdicts import Bounds, Finding, Verdict, shorten

CHANGES = frozenset(records.Kind) - {
    records.Kind.GET,
    records.Kind.LIST,
    records.Kind.LEASE_LIST,
    records.Kind.USER_LIST,
    records.Kind.ROLE_LIST,
}
"""Operations that change something."""


Windows = collections.abc.Sequence[tuple[float, float]]
"""From when and until when, seconds."""


def final(facts: Facts) -> int:
    """The cluster ID that serves at the end, 0 for none: what most machines run, else the last
    that acknowledged anything."""
    runs = [
        m.cluster_id
        for m in facts.history.machines
        if m.reachable and m.etcd_running and m.cluster_id and not m.removed
    ]
    if runs:
        return collections.Counter(runs).most_common(1)[0][0]
    acked = [o for o in facts.history.operations if _acknowledged(o)]
    latest = max(acked, key=lambda o: o.answered or 0, default=None)
    return latest.header.cluster_id if latest is not None and latest.header is not None else 0


def _acknowledged(o: records.Operation) -> bool:
    return (
        o.outcome is records.Outcome.OK
        and o.linearizable
        and o.header is not None
        and o.answered is not None
    )


def rolled_back(facts: Facts) -> dict[int, Cluster]:
    """Place of each rolled back cluster, and the older one that went on."""
    last = final(facts)
    latest: dict[int, float] = {}
    for o in facts.history.operations:
        if _acknowledged(o) and o.header is not None and o.kind is not records.Kind.LEASE_LIST:
            id_ = o.header.cluster_id
            latest[id_] = max(latest.get(id_, 0), o.invoked)
    found: dict[int, Cluster] = {}
    for cluster in facts.clusters:
        over = max(cluster.first, latest.get(cluster.id, 0))
        for older in facts.clusters[: cluster.place]:
            if cluster.id != last and latest.get(older.id, 0) > over:
                found[cluster.place] = older
    return found


def unconfirmed(facts: Facts, undone: dict[int, Cluster]) -> list[Finding]:
    """Whatever a client got from a cluster that was rolled back."""
    found: list[Finding] = []
    for place, older in undone.items():
        cluster = facts.clusters[place]
        got = list(_got(facts.history, cluster))
        got.sort()
        acked = [
            o.kind.value
            for o in facts.history.operations
            if o.kind in CHANGES and _acknowledged(o) and o.header and o.succeeded
            if o.header.cluster_id == cluster.id
        ]
        counts = collections.Counter(acked).most_common()
        changes = ", ".join(f"{number} {kind}" for kind, number in counts) or "no change"
        sentence = (
            f"cluster {cluster} answered clients {len(got)} times, acknowledged {changes}, and "
            f"was rolled back to cluster {older}"
        )
        lines = shorten([line for _, line in got])
        found.append(Finding(Verdict.UNCONFIRMED, sentence, got[0][0], lines))
    return found


def _got(
    history: records.History, cluster: Cluster
) -> collections.abc.Iterator[tuple[float, str]]:
    """Time and words of each answer of a cluster."""
    for o in history.operations:
        if o.header is not None and o.header.cluster_id == cluster.id:
            at = o.answered or o.invoked
            yield at, f"{o.client}: {o.kind.value} {o.key} at {at:.3f}"
    for r in history.responses:
        if r.header is not None and r.header.cluster_id == cluster.id:
            yield r.at, f"watcher {r.watcher} at {r.at:.3f}"
    for p in history.probes:
        if p.cluster_id == cluster.id:
            yield p.at, f"{p.unit} answered a probe at {p.at:.3f}"


def split(facts: Facts, undone: dict[int, Cluster], bounds: Bounds) -> list[Finding]:
    """Acknowledgements of two clusters that overlap in time."""
    found: list[Finding] = []
    back = [
        (a.at, a.at + bounds.fence)
        for a in facts.history.announcements
        if a.action == records.BACK
    ]
    with_acks = [c for c in facts.clusters if c.acks]
    for place, one in enumerate(with_acks):
        for other in with_acks[place + 1 :]:
            found += _overlap(one, other, other.place in undone, back)
    for cluster in facts.clusters:
        found += _late_reads(facts, cluster, undone, back)
    return found


def _granted(at: float, back: Windows) -> bool:
    """Whether machines of an older generation had just come within reach again."""
    return any(begin <= at <= end for begin, end in back)


def _overlap(one: Cluster, other: Cluster, undone: bool, back: Windows) -> list[Finding]:
    answered = (o.answered or 0 for o in one.acks)
    times = [at for at in answered if not _granted(at, back)]
    begin, end = other.acks[0].answered or 0, other.acks[-1].answered or 0
    if not times or times[-1] < begin or end < times[0]:
        return []
    between = bisect.bisect_right(times, end) - bisect.bisect_left(times, begin)
    if not between and undone:
        return []  # it came and went between two of the other's: that is a rollback
    sentence = f"clusters {one} and {other} acknowledged writes at the same time"
    evidence = (
        f"{one}: {len(times)} writes from {times[0]:.3f} to {times[-1]:.3f}",
        f"{other}: {len(other.acks)} writes from {begin:.3f} to {end:.3f}",
    )
    return [Finding(Verdict.SPLIT, sentence, max(begin, times[0]), evidence)]


def _late_reads(
    facts: Facts, cluster: Cluster, undone: dict[int, Cluster], back: Windows
) -> list[Finding]:
    """Linearizable reads that an older cluster answered after `cluster` acknowledged a write."""
    if not cluster.acks or cluster.place in undone:
        return []
    begin = cluster.acks[0].answered or 0
    older = {c.id: c for c in facts.clusters[: cluster.place] if c.place not in undone}
    late: dict[int, list[records.Operation]] = collections.defaultdict(list)
    for o in facts.history.operations:
        reads = o.kind in (records.Kind.GET, records.Kind.LIST)
        if not reads or not _acknowledged(o) or o.header is None:
            continue
        granted = _granted(o.answered or 0, back)
        if o.invoked > begin and o.header.cluster_id in older and not granted:
            late[o.header.cluster_id].append(o)
    return [
        Finding(
            Verdict.SPLIT,
            f"cluster {older[id_]} answered {len(its)} linearizable reads after cluster {cluster} "
            "had acknowledged a write",
            its[0].answered or 0,
            shorten([f"{o.client}: {o.kind.value} {o.key} sent at {o.invoked:.3f}" for o in its]),
        )
        for id_, its in late.items()
    ]


def revisions(facts: Facts) -> list[Finding]:
    """New clusters whose revisions clients know from an older one, or will."""
    found: list[Finding] = []
    for cluster in facts.clusters[1:]:
        older = max(facts.clusters[: cluster.place], key=lambda c: c.highest)
        if cluster.lowest <= older.highest:
            sentence = (
                f"cluster {cluster} has revision {cluster.lowest}, and clients saw up to "
                f"{older.highest} of cluster {older}"
            )
            found.append(Finding(Verdict.REVISIONS, sentence, cluster.first))
    return found


class Basis:
    """What a later cluster begins with, and whether that is what was announced."""

    def __init__(self, facts: Facts, cluster: Cluster, unseen: Unseen, spans: dict[int, Spans]):
        self.facts = facts
        self.cluster = cluster
        self.unseen = unseen
        self.spans = spans
        self.own: dict[str, int] = {}  # key to the first revision that this cluster gave it
        for revision in sorted(cluster.writes):
            for key in cluster.writes[revision].changes:
                self.own.setdefault(key, revision)
        self.shown: dict[str, records.KV | None] = {}
        self.full_at: int | None = None
        self._reconstruct()

    def _reconstruct(self) -> None:
        """Undo this cluster's own writes in what it showed."""
        views = [(v.revision - v.before, v) for v in self.cluster.views]
        for revision, view in sorted(views, key=lambda pair: pair[0]):
            for key, kv in view.items:
                if key not in self.shown and self._untouched(key, revision):
                    self.shown[key] = kv
            if view.full and self.full_at is None:
                self.full_at = revision

    def _untouched(self, key: str, revision: int) -> bool:
        return self.own.get(key, revision + 1) > revision

    def judge(self, undone: collections.abc.Container[int]) -> list[Finding]:
        """Settle base, parent and cut of the cluster; say what differs from the announcement."""
        cluster = self.cluster
        found: list[Finding] = []
        said = announced(self.facts, cluster.first)
        if not said:
            sentence = f"cluster {cluster} began, and nothing was announced"
            found.append(Finding(Verdict.BASIS, sentence, cluster.first))
        tries = [(a, *each) for a in said or [None] for each in self._tries(a)]
        judged = [(*each, self._difference(*each[1:])) for each in tries]
        match = next((each for each in judged if not each[3]), None)
        if match is None:  # the latest announcement is the likeliest
            match = next(each for each in judged if each[0] is judged[-1][0])
        cluster.announcement, parent, cut, differs = match
        if differs:
            sentence = (
                f"cluster {cluster} does not begin with the state at revision {cut} of cluster "
                f"{parent}"
            )
            found.append(Finding(Verdict.BASIS, sentence, cluster.first, shorten(differs)))
        cluster.parent, cluster.cut = parent, cut
        cluster.base = {**parent.state_at(cut), **self.shown}
        if self.full_at is not None:
            for key in cluster.base.keys() - self.shown.keys():
                if self._untouched(key, self.full_at):
                    cluster.base[key] = None
        return found if cluster.place in undone else found + self._lost(undone)

    def _tries(self, said: records.Announcement | None) -> list[tuple[Cluster, int]]:
        """Older clusters and their revisions that this one may begin with, the likeliest first."""
        earlier = self.facts.clusters[: self.cluster.place]
        cut = said.revision if said is not None else 0
        kept = [kv.mod_revision for kv in self.shown.values() if kv is not None]
        newest = max((r for r in kept if r <= max(c.highest for c in earlier)), default=0)
        cuts = [cut] if cut else []
        if not cut or (said is not None and said.action.startswith("recover") and newest > cut):
            cuts.append(newest)  # a survivor may hold more than it said
        likely = self.facts.parent_of(self.cluster.place, cuts[0])
        order = [likely, *(c for c in reversed(earlier) if c is not likely)]
        tries = [(parent, each) for each in cuts for parent in order]
        if not cut:  # keys that went with their lease since then leave no other trace
            after = sorted(r for r in likely.writes if r > newest)[:50]
            tries += [(likely, r) for r in after if likely.writes[r].operation is None]
        return tries

    def _difference(self, parent: Cluster, cut: int) -> list[str]:
        state = parent.state_at(cut)
        differs: list[str] = []
        for key in sorted(state.keys() | self.shown.keys()):
            if key in self.shown:
                shown = self.shown[key]
            elif self.full_at is not None and self._untouched(key, self.full_at):
                shown = None
            else:
                continue
            was = state.get(key)
            if was != shown and not self._deleted_unseen(parent, cut, was, shown):
                differs.append(f"{key} is {_told(shown)}, and was {_told(was)}")
        return differs

    def _deleted_unseen(
        self, parent: Cluster, cut: int, was: records.KV | None, shown: records.KV | None
    ) -> bool:
        """Whether a deletion that nobody saw took the key away before the cut."""
        if shown is not None or was is None:
            return False
        if not self.spans[parent.place].free(was.mod_revision, cut):
            return False
        return bool(was.lease) or self.unseen.deletes(was.key, self.cluster.first)

    def _lost(self, undone: collections.abc.Container[int]) -> list[Finding]:
        """Acknowledged writes that are gone, and were not announced as lost."""
        cluster, said = self.cluster, self.cluster.announcement
        parent = cluster.parent
        assert parent is not None
        told = said.lost if said is not None else None
        before = next(
            c for c in reversed(self.facts.clusters[: cluster.place]) if c.place not in undone
        )
        kept = {c.id: upto for c, upto in [(parent, cluster.cut), *_alive(parent)[1:]]}
        lost = [
            f"revision {revision} of {older}: {o.kind.value} {o.key}"
            for older, upto in _alive(before)
            for o, revision in ((o, o.header.revision) for o in older.acks if o.header)
            if kept.get(older.id, 0) < revision <= (upto if told is None else min(upto, told))
        ]
        if not lost:
            return []
        words = "nothing was said to be lost"
        if told is not None:
            words = f"only what came after revision {told} was said to be lost"
        sentence = f"cluster {cluster} lacks {len(lost)} acknowledged writes, and {words}"
        return [Finding(Verdict.LOST, sentence, cluster.first, shorten(lost))]


def _alive(cluster: Cluster) -> list[tuple[Cluster, float]]:
    """Clusters with the revision up to which their writes are in this one, itself first."""
    found: list[tuple[Cluster, float]] = [(cluster, math.inf)]
    while cluster.parent is not None:
        found.append((cluster.parent, cluster.cut))
        cluster = cluster.parent
    return found


def _told(kv: records.KV | None) -> str:
    return f"{kv.value} (mod {kv.mod_revision})" if kv is not None else "nothing"


def machines(facts: Facts, bounds: Bounds) -> list[Finding]:
    """Records and data on the machines at the end, and that one cluster answers."""
    history = facts.history
    found: list[Finding] = []
    there = [m for m in history.machines if m.reachable]
    newest = max(there, key=lambda m: (m.number, m.confirmed), default=None)
    if newest is not None and newest.number:
        for machine in there:
            found += [
                Finding(Verdict.RECORDS, sentence, history.ended)
                for sentence in _wrong(machine, newest)
            ]
    ids = {m.cluster_id: m.unit for m in there if m.etcd_running and m.cluster_id}
    for probe in history.probes:
        if probe.answered and probe.cluster_id and probe.at >= history.ended - bounds.quiet:
            ids[probe.cluster_id] = probe.unit
    if len(ids) > 1:
        told = ", ".join(f"{id_:x} on {unit}" for id_, unit in ids.items())
        sentence = f"{len(ids)} clusters run at the end: {told}"
        found.append(Finding(Verdict.RECORDS, sentence, history.ended))
    return found


def _wrong(machine: records.Machine, newest: records.Machine) -> list[str]:
    """What is wrong on one machine, compared with the newest record that any machine knows."""
    told: list[str] = []
    if machine.etcd_running and machine.data_token and machine.data_token != newest.token:
        told.append(
            f"{machine.unit} runs data of generation {machine.data_generation} "
            f"({machine.data_token}), and generation {newest.number} is committed"
        )
    if not machine.removed and machine.number < newest.number:
        told.append(f"{machine.unit} knows generation {machine.number}, and not {newest.number}")
    if not machine.removed and machine is newest and not machine.confirmed:
        told.append(f"generation {machine.number} is neither confirmed nor rolled back")
    return told
