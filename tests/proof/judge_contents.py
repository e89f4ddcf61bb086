"""The replay of one cluster: every read, `prev_kv` and compare against the state at its revision.

etcd's revisions are the order, so one pass over writes and views, sorted by revision, is enough.
A write without an answer that nobody saw may explain that a key is gone or that its version is
higher than the writes that are known. It explains only where there is a revision left for it: one
that no known write has, and that no watcher was told all about.
"""

from __future__ import annotations

import bisect
import collections
import collections.abc

from proof import records
from proof.judge_clusters import Cluster, Facts, View, Write
from proof.judge_verdicts import Finding, Verdict


class Spans:
    """Revisions of which everything is known, and how many others lie between two of them.

    Args:
        covered: first and last revision of what watchers were told all about, in any order.
        known: revisions of known writes.
    """

    def __init__(
        self,
        covered: collections.abc.Iterable[tuple[int, int]],
        known: collections.abc.Iterable[int],
    ) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._before: list[int] = []
        total = 0
        for first, last in sorted((first, last) for first, last in covered if first <= last):
            if self._ends and first <= self._ends[-1] + 1:
                grown = max(0, last - self._ends[-1])
                self._ends[-1] += grown
            else:
                self._before.append(total)
                self._starts.append(first)
                self._ends.append(last)
                grown = last - first + 1
            total += grown
        self._known = sorted(r for r in known if not self._holds(r))

    def _holds(self, revision: int) -> bool:
        place = bisect.bisect_right(self._starts, revision)
        return bool(place) and revision <= self._ends[place - 1]

    def _covered(self, revision: int) -> int:
        """How many covered revisions there are up to this one."""
        place = bisect.bisect_right(self._starts, revision)
        if not place:
            return 0
        inside = min(revision, self._ends[place - 1]) - self._starts[place - 1] + 1
        return self._before[place - 1] + inside

    def free(self, after: int, upto: int) -> int:
        """How many revisions in (after, upto] may be those of writes that nobody saw."""
        if upto <= after:
            return 0
        covered = self._covered(upto) - self._covered(after)
        known = bisect.bisect_right(self._known, upto) - bisect.bisect_right(self._known, after)
        return upto - after - covered - known


class Unseen:
    """Writes without an answer that nobody saw, by key, and how many of them explained a thing."""

    def __init__(self, facts: Facts) -> None:
        self._times: dict[tuple[str, bool], list[float]] = collections.defaultdict(list)
        for o in facts.by_value.values():
            if o.outcome is records.Outcome.UNKNOWN and o.value not in facts.found:
                self._times[o.key, o.kind is records.Kind.DELETE].append(o.invoked)
        for times in self._times.values():
            times.sort()
        self._used: dict[tuple[str, bool], int] = collections.Counter()

    def deletes(self, key: str, at: float) -> bool:
        """Use up one deletion of `key` that was sent before `at`; False when there is none."""
        return self._use(key, True, 1, at)

    def puts(self, key: str, number: int, at: float) -> bool:
        """Use up `number` puts to `key` sent before `at`; False when there are less."""
        return self._use(key, False, number, at)

    def _use(self, key: str, delete: bool, number: int, at: float) -> bool:
        there = bisect.bisect_left(self._times[key, delete], at) - self._used[key, delete]
        if there < number:
            return False
        self._used[key, delete] += number
        return True


class Replay:
    """Plays the writes of one cluster, and says where a view differs."""

    def __init__(self, facts: Facts, cluster: Cluster, spans: Spans, unseen: Unseen) -> None:
        self.cluster = cluster
        self.spans = spans
        self.unseen = unseen
        self.state: dict[str, records.KV | None] = dict(cluster.base)
        self.findings: list[Finding] = []
        self._said: set[tuple[object, ...]] = set()
        self._compacts = any("compact" in fault.name for fault in facts.history.faults)

    def run(self) -> list[Finding]:
        """Play all; afterwards the cluster knows its versions."""
        steps: list[tuple[int, int, float, View | Write]] = [
            (w.revision, 1, w.at, w) for w in self.cluster.writes.values()
        ]
        steps += [(v.revision, 0 if v.before else 2, v.at, v) for v in self.cluster.views]
        steps.sort(key=lambda step: step[:3])
        for _, _, _, step in steps:
            if isinstance(step, Write):
                self._write(step)
            else:
                self._view(step)
        return self.findings

    def _set(self, key: str, revision: int, kv: records.KV | None) -> None:
        self.state[key] = kv
        revisions, kvs = self.cluster.versions.setdefault(key, ([], []))
        revisions.append(revision)
        kvs.append(kv)

    def _say(
        self, verdict: Verdict, sentence: str, at: float, once: tuple[object, ...], *evidence: str
    ) -> None:
        if once not in self._said:
            self._said.add(once)
            self.findings.append(Finding(verdict, sentence, at, evidence))

    def _write(self, write: Write) -> None:
        for key, kv in write.changes.items():
            had = self.state.get(key)
            if write.operation is not None:
                self._compare(write, key, kv)
            elif had is None or not had.lease:
                sentence = f"{key} was deleted at revision {write.revision}, and by nobody"
                self._say(Verdict.INVENTED, sentence, write.at, (key, write.revision))
            if kv is not None:
                kv = self._follow(write, kv, had)
            self._set(key, write.revision, kv)

    def _compare(self, write: Write, key: str, kv: records.KV | None) -> None:
        """Whether the compare of an acknowledged transaction held."""
        o = write.operation
        assert o is not None
        if not write.acknowledged or key != o.key:
            return
        prev = o.prev.mod_revision if o.prev else 0
        had = self.state.get(key)
        there = had.mod_revision if had else 0
        if o.kind is records.Kind.CAS and {prev, there} != {o.expected}:
            wanted = f"mod revision {o.expected}"
        elif o.kind is records.Kind.DELETE and o.prev is None and kv is None:
            wanted = "a key that is there"
        else:
            return
        self._say(
            Verdict.COMPARE,
            f"{o.kind.value} of {key} at revision {write.revision} succeeded without {wanted}",
            write.at,
            (key, write.revision),
            f"prev_kv has {prev}, the state {there}",
        )

    def _follow(self, write: Write, kv: records.KV, had: records.KV | None) -> records.KV:
        """A put's KV after what was there; checked where its version was seen."""
        if had is None:
            create, version = write.revision, 1
        else:
            create, version = had.create_revision, had.version + 1
        lease = kv.lease
        expected = records.KV(kv.key, kv.value, create, write.revision, version, lease)
        if not kv.version:
            return expected
        if kv == expected or self._explains(kv, expected, had, write.at):
            return kv
        self._say(
            Verdict.CONTENT,
            f"{kv.key} has version {kv.version} since revision {kv.create_revision} at revision "
            f"{write.revision}, and should have version {version} since {create}",
            write.at,
            (kv.key, write.revision, "version"),
        )
        return kv

    def _explains(
        self, kv: records.KV, expected: records.KV, had: records.KV | None, at: float
    ) -> bool:
        """Whether unseen writes before `kv` make its version and create revision what they are."""
        after = had.mod_revision if had else self.cluster.floor
        free = self.spans.free(after, kv.mod_revision)
        missing = kv.version - expected.version
        if kv.create_revision != expected.create_revision:
            missing = kv.version - 1
            if not after < kv.create_revision <= kv.mod_revision:
                return False
            if had is not None:
                free -= 1
                if free < 0 or not (had.lease or self.unseen.deletes(kv.key, at)):
                    return False
        return 0 <= missing <= free and self.unseen.puts(kv.key, missing, at)

    def _view(self, view: View) -> None:
        for key, kv in view.items:
            self._look(view, key, kv)
        if not view.full:
            return
        shown = {key for key, _ in view.items}
        for key in [k for k, had in self.state.items() if had is not None and k not in shown]:
            self._look(view, key, None)

    def _look(self, view: View, key: str, kv: records.KV | None) -> None:
        had = self.state.get(key)
        if kv == had:
            return
        upto = view.revision - 1 if view.before else view.revision
        gone = kv is None and had is not None
        if gone and (self._untold(view) or self._gone(key, had, upto, view.at)):
            return
        verdict = view.verdict
        if verdict is Verdict.CONTENT and self._lost(kv, had):
            verdict = Verdict.LOST
        once = (verdict, key, had and had.mod_revision, kv and kv.mod_revision)
        self._say(
            verdict,
            f"at revision {upto} of cluster {self.cluster}, {key} is {_told(kv)} instead of "
            f"{_told(had)}",
            view.at,
            once,
            view.source,
        )

    def _untold(self, view: View) -> bool:
        """Whether the answer has no prev_kv because history was compacted."""
        return view.verdict is Verdict.WATCH_PREVIOUS and self._compacts

    def _gone(self, key: str, had: records.KV | None, upto: int, at: float) -> bool:
        """Whether a deletion that nobody saw took `key` away; then it is gone from here on."""
        if had is None or not self.spans.free(had.mod_revision, upto):
            return False
        if not had.lease and not self.unseen.deletes(key, at):
            return False
        self._set(key, upto, None)
        return True

    def _lost(self, kv: records.KV | None, had: records.KV | None) -> bool:
        """Whether what is shown lacks an acknowledged write."""
        if had is None or (kv is not None and kv.mod_revision >= had.mod_revision):
            return False
        write = self.cluster.writes.get(had.mod_revision)
        return write is None or write.acknowledged


def _told(kv: records.KV | None) -> str:
    if kv is None:
        return "nothing"
    words = f"{kv.value} (mod {kv.mod_revision}, created {kv.create_revision}, "
    return f"{words}version {kv.version}" + (f", lease {kv.lease:x})" if kv.lease else ")")
