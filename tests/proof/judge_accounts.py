"""Users, roles and leases: there from their acknowledgement until they are removed, or lost with
what was announced.

Users and roles are listed through raft, so that real time orders them. Leases are listed by one
member as it knows them: only its revision says what it has to know.
"""

from __future__ import annotations

import collections
import enum
import typing

from proof import records
from proof.judge_clusters import Cluster, Facts
from proof.judge_verdicts import Finding, Verdict

_Kind = records.Kind


class _Sort(typing.NamedTuple):
    word: str
    add: records.Kind
    remove: records.Kind
    list: records.Kind
    verdict: Verdict


_SORTS = (
    _Sort("user", _Kind.USER_ADD, _Kind.USER_DELETE, _Kind.USER_LIST, Verdict.ACCOUNT),
    _Sort("role", _Kind.ROLE_ADD, _Kind.ROLE_DELETE, _Kind.ROLE_LIST, Verdict.ACCOUNT),
    _Sort("lease", _Kind.LEASE_GRANT, _Kind.LEASE_REVOKE, _Kind.LEASE_LIST, Verdict.LEASE),
)


class _Effect(enum.Enum):
    """What is known of an operation's effect on a list."""

    SURE = enum.auto()
    NONE = enum.auto()
    OPEN = enum.auto()


def accounts(facts: Facts) -> list[Finding]:
    """Names that are missing from a list or there against all that was acknowledged."""
    found: list[Finding] = []
    for sort in _SORTS:
        changes: dict[str, list[records.Operation]] = collections.defaultdict(list)
        lists: list[records.Operation] = []
        for o in facts.history.operations:
            if o.kind in (sort.add, sort.remove):
                changes[o.key].append(o)
            elif o.kind is sort.list and o.outcome is records.Outcome.OK and o.header:
                lists.append(o)
        lists.sort(key=lambda o: o.invoked)
        judge = _Names(facts, sort, dict(changes))
        for listed in lists:
            judge.look(listed)
        found += judge.findings()
    return found


class _Names:
    """Judges all lists of one sort."""

    def __init__(
        self, facts: Facts, sort: _Sort, changes: dict[str, list[records.Operation]]
    ) -> None:
        self.facts = facts
        self.sort = sort
        self.changes = changes
        self.clusters = {c.id: c for c in facts.clusters}
        self._missing: dict[tuple[int, str], Finding] = {}
        self._back: dict[str, Finding] = {}
        for its in changes.values():
            its.sort(key=lambda o: o.invoked)
        self._coming = sorted(changes, key=lambda name: -changes[name][0].invoked)
        self._open: dict[int, set[str]] = {c.id: set() for c in facts.clusters}
        self._present: dict[int, set[str]] = {c.id: set() for c in facts.clusters}
        self._absent: dict[int, set[str]] = {c.id: set() for c in facts.clusters}

    def findings(self) -> list[Finding]:
        return [*self._missing.values(), *self._back.values()]

    def look(self, listed: records.Operation) -> None:
        """Judge one list; lists come in the order in which they were sent."""
        assert listed.header is not None
        names = set(listed.names)
        cluster = self.clusters[listed.header.cluster_id]
        self._forgive(names, cluster)
        while self._coming and self.changes[self._coming[-1]][0].invoked <= listed.invoked:
            name = self._coming.pop()
            for its in self._open.values():
                its.add(name)
        wanted, unwanted = self._present[cluster.id], self._absent[cluster.id]
        missing, back = wanted - names, unwanted & names
        for name in list(self._open[cluster.id]):
            want = self._wanted(self.changes[name], listed, cluster)
            if want is True and name not in names:
                missing.add(name)
            if want is False and name in names:
                back.add(name)
            if self._settled(self.changes[name], listed):
                self._open[cluster.id].remove(name)
                if want is not None:
                    (wanted if want else unwanted).add(name)
        self._say(listed, cluster, missing, back)

    def _forgive(self, names: set[str], cluster: Cluster) -> None:
        """A list of leases that lacks or still has one was only old if a later one differs."""
        if self.sort.verdict is Verdict.LEASE:
            for name in names:
                self._missing.pop((cluster.id, name), None)
            for name in self._back.keys() - names:
                del self._back[name]

    def _say(
        self, listed: records.Operation, cluster: Cluster, missing: set[str], back: set[str]
    ) -> None:
        at = listed.answered or listed.invoked
        source = f"{listed.client} asked {listed.endpoint} at {listed.invoked:.3f}"
        for name in sorted(missing):
            sentence = f"{self.sort.word} {name} was acknowledged and is not in cluster {cluster}"
            finding = Finding(self.sort.verdict, sentence, at, (source,))
            self._missing.setdefault((cluster.id, name), finding)
        for name in sorted(back):
            sentence = (
                f"{self.sort.word} {name} was removed and is in cluster {cluster} all the same"
            )
            self._back.setdefault(name, Finding(self.sort.verdict, sentence, at, (source,)))

    def _settled(self, changes: list[records.Operation], listed: records.Operation) -> bool:
        """Whether all later lists of this cluster have to show the same of a name."""
        lease = self.sort.verdict is Verdict.LEASE
        return all(
            o.outcome is not records.Outcome.UNKNOWN
            and o.answered is not None
            and o.answered < listed.invoked
            and (not lease or (o.kind is self.sort.add and self._expires(o, listed)))
            for o in changes
        )

    def _wanted(
        self, changes: list[records.Operation], listed: records.Operation, cluster: Cluster
    ) -> bool | None:
        """Whether the name has to be there, must not be there, or either may be."""
        effects = [(o, self._effect(o, listed, cluster)) for o in changes]
        adds = [(o, e) for o, e in effects if o.kind is self.sort.add and e is not _Effect.NONE]
        removes = [
            (o, e) for o, e in effects if o.kind is self.sort.remove and e is not _Effect.NONE
        ]
        for add, effect in adds:
            there = effect is _Effect.SURE and not self._expires(add, listed)
            if there and not any(_may_follow(remove, add) for remove, _ in removes):
                return True
        sure = [o for o, effect in removes if effect is _Effect.SURE]
        if adds and all(any(_follows(remove, add) for remove in sure) for add, _ in adds):
            return False
        return None

    def _expires(self, add: records.Operation, listed: records.Operation) -> bool:
        """Whether a lease may have run out by itself: it lives for its time, at least."""
        at = listed.answered or listed.invoked
        return self.sort.add is _Kind.LEASE_GRANT and at > add.invoked + add.ttl

    def _effect(
        self, o: records.Operation, listed: records.Operation, cluster: Cluster
    ) -> _Effect:
        """Whether the list has to show what `o` did."""
        if o.outcome is records.Outcome.REFUSED or o.invoked > (listed.answered or 0):
            return _Effect.NONE
        if o.outcome is not records.Outcome.OK or o.header is None:
            return _Effect.OPEN
        if o.header.cluster_id != cluster.id:
            effect = self._inherited(o, cluster)
        else:
            before = o.answered is not None and o.answered < listed.invoked
            effect = _Effect.SURE if before else _Effect.OPEN
        if self.sort.verdict is Verdict.LEASE and effect is _Effect.SURE:
            assert listed.header is not None
            return effect if listed.header.revision > o.header.revision else _Effect.OPEN
        return effect

    def _inherited(self, o: records.Operation, cluster: Cluster) -> _Effect:
        """What an older cluster acknowledged is here if it was before the cut."""
        assert o.header is not None
        effect = _Effect.SURE
        while cluster.parent is not None:
            said = cluster.announcement
            if said is None or said.lost is not None:
                if o.header.revision > cluster.cut:
                    return _Effect.NONE
                if o.header.revision == cluster.cut:
                    effect = _Effect.OPEN
            cluster = cluster.parent
            if cluster.id == o.header.cluster_id:
                return effect
        return _Effect.NONE


def _may_follow(remove: records.Operation, add: records.Operation) -> bool:
    """Whether a removal may have come after the addition."""
    over = remove.outcome is records.Outcome.OK and remove.answered is not None
    return not (over and (remove.answered or 0) < add.invoked)


def _follows(remove: records.Operation, add: records.Operation) -> bool:
    """Whether a removal surely came after the addition."""
    over = add.outcome is records.Outcome.OK and add.answered is not None
    return over and (add.answered or 0) < remove.invoked
