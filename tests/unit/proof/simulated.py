"""A small etcd that keeps its promises, and clients and watchers that record what it does.

Everything happens at times of a simulated clock. Members lag behind, answers get lost, writes
without an answer take effect late or never, keys go with their leases, others write too, and the
cluster is replaced: by a restore, by a recovery, or by one that is rolled back unseen.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable

from proof import records

PREFIX = "/proof/"
KEYS = tuple(f"{PREFIX}k{number}" for number in range(4))
UNITS = ("etcd/0", "etcd/1", "etcd/2")
BUMP = 1_000_000
Kind = records.Kind
State = dict[str, records.KV]


@dataclasses.dataclass
class Plan:
    """What a run does, and which promise its etcd breaks.

    Attributes:
        operations: how many each client does.
        changes: what happens to the cluster, in this order: `restore`, `recover`, `rollback`.
        losses: whether answers get lost.
        quiet: seconds after the last operation in which watchers catch up.
        bump: revisions that a new cluster leaves out.
        off: revisions by which a new cluster begins elsewhere than was announced.
        silent: a new cluster's losses are not announced.
        early: a cluster that is to be rolled back answers clients.
        both: the old cluster goes on after a change.
    """

    operations: int = 12
    changes: tuple[str, ...] = ()
    losses: bool = True
    quiet: float = 20.0
    bump: int = BUMP
    off: int = 0
    silent: bool = False
    early: bool = False
    both: bool = False


class Etcd:
    """One cluster: its revisions, users and leases; all of its past."""

    def __init__(self, id_: int, revision: int, state: State) -> None:
        self.id = id_
        self.revision = revision
        self.compacted = revision
        self.states: dict[int, State] = {revision: state}
        self.events: dict[int, tuple[records.Event, ...]] = {}
        self.users: set[str] = set()
        self.roles: set[str] = set()
        self.leases: dict[str, float] = {}
        self.past: dict[int, tuple[frozenset[str], frozenset[str], tuple[str, ...]]] = {}
        self.applied = dict.fromkeys(UNITS, revision)
        self.remember()

    @property
    def state(self) -> State:
        return self.states[self.revision]

    def remember(self) -> None:
        """Users, roles and leases as they are before the next revision."""
        names = tuple(sorted(self.leases))
        self.past[self.revision] = frozenset(self.users), frozenset(self.roles), names

    def write(self, puts: dict[str, tuple[str, int]], gone: tuple[str, ...] = ()) -> None:
        """One transaction: keys to value and lease, and keys that go."""
        before = self.state
        self.revision += 1
        after = dict(before)
        events: list[records.Event] = []
        for key in gone:
            kv = records.KV(key, "", 0, self.revision, 0)
            events.append(records.Event(kv, deleted=True, prev=after.pop(key)))
        for key, (value, lease) in puts.items():
            had = before.get(key)
            created = had.create_revision if had else self.revision
            version = had.version + 1 if had else 1
            after[key] = records.KV(key, value, created, self.revision, version, lease)
            events.append(records.Event(after[key], prev=had))
        self.states[self.revision] = after
        self.events[self.revision] = tuple(sorted(events, key=lambda e: e.kv.key))
        self.remember()

    def header(self, unit: str, revision: int | None = None) -> records.Header:
        member = self.id * 10 + UNITS.index(unit)
        return records.Header(self.id, member, revision or self.revision, 2)


class Run:
    """One history in the making."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.random = random.Random(seed)
        self.plan = plan
        self.now = 0.0
        self.etcd = Etcd(0xA0, 1, {})
        self.clusters = [self.etcd]
        self.serving = True
        self.records: list[records.Record] = []
        self.traffic_over = 0.0
        self.generation = 1
        self.differs = False  # a new cluster began with another state than was announced
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._tick = itertools.count()
        self._values = itertools.count()

    def at(self, after: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + after, next(self._tick), what))

    def value(self) -> str:
        return f"v{next(self._values)}"

    def play(self) -> records.History:
        clients = [Client(self, f"c{n}", "") for n in range(2)]
        clients += [Client(self, f"p{n}", unit) for n, unit in enumerate(UNITS[:2])]
        watchers = [Watcher(self, f"w{n}", unit) for n, unit in enumerate(UNITS)]
        for client in clients:
            self.at(self.random.random(), client.next)
        for watcher in watchers:
            self.at(self.random.random(), watcher.open)
        length = self.plan.operations * 0.6
        for place, change in enumerate(self.plan.changes, 1):
            self.at(place * length / (len(self.plan.changes) + 1), lambda c=change: self.change(c))
        self.at(0.5, self.others)
        for unit in UNITS:
            self.records.append(records.Status(0.1, unit, "active", "Healthy"))
        until = length + 4.0
        while self._queue and (self._queue[0][0] < until or self.traffic_over == 0.0):
            self.now, _, what = heapq.heappop(self._queue)
            what()
            if not any(client.left for client in clients) and not self.traffic_over:
                self.traffic_over = self.now
                until = self.now + self.plan.quiet + 2.0
                self.at(0.5, self.settle)
                self.at(0.4, clients[0].read_all)
        for unit in UNITS:
            newest = self.generation
            machine = records.Machine(
                unit, False, True, True, newest, f"t{newest}", True, f"t{newest}", newest,
                self.etcd.id, (),
            )  # fmt: skip
            self.records.append(machine)
        return records.History.of(PREFIX, 0.0, self.now, self.records)

    def settle(self) -> None:
        """Members and watchers catch up; probes say so."""
        for unit in UNITS:
            self.etcd.applied[unit] = self.etcd.revision
            self.probe(unit)
        if self.now < self.traffic_over + self.plan.quiet:
            self.at(1.0, self.settle)

    def probe(self, unit: str) -> None:
        etcd, revision = self.etcd, self.etcd.applied[unit]
        head = etcd.header(unit, revision)
        probe = records.Probe(self.now, unit, True, etcd.id, head.member_id, revision, 2, 1)
        self.records.append(probe)

    def others(self) -> None:
        """The charm's own keys take revisions; members lag; leases run out."""
        self.at(self.random.uniform(0.2, 0.6), self.others)
        if not self.serving:
            return
        etcd = self.etcd
        if self.random.random() < 0.5:
            etcd.write({})
        for unit in UNITS:
            if self.random.random() < 0.8:
                lag = self.random.choice((0, 0, 1, 3))
                etcd.applied[unit] = max(etcd.applied[unit], etcd.revision - lag)
            self.probe(unit)
        for lease in [name for name, until in etcd.leases.items() if until < self.now]:
            self.end_lease(lease)

    def end_lease(self, lease: str) -> None:
        etcd = self.etcd
        etcd.leases.pop(lease, None)
        keys = tuple(k for k, kv in etcd.state.items() if kv.lease == int(lease))
        if keys:
            etcd.write({}, keys)
        etcd.remember()

    def change(self, what: str) -> None:
        """Replace the cluster, and go on with the new one or with the old."""
        if not self.serving:
            self.at(0.3, lambda: self.change(what))
            return
        old = self.etcd
        oldest = old.compacted
        cut = self.random.randint(max(oldest, old.revision - 12), old.revision)
        action = "restore" if what == "rollback" else what
        self.generation += 1
        lost = None if self.plan.silent else cut
        said = records.Announcement(
            self.now, action, "etcd/0", False, self.generation, cut, lost, "under way"
        )
        self.records += [said, records.Fault(self.now, what)]
        self.serving = False
        begins = max(oldest, cut - self.plan.off)
        self.differs = self.differs or old.states[begins] != old.states[cut]
        state = dict(old.states[begins])
        highest = max(etcd.revision for etcd in self.clusters)
        revision = highest + self.plan.bump if self.plan.bump else begins
        new = Etcd(old.id + len(self.clusters), revision, state)
        users, roles, leases = old.past[begins]
        new.users, new.roles = set(users), set(roles)
        new.leases = dict.fromkeys(leases, self.now + 1000.0)
        new.remember()
        self.at(self.random.uniform(0.5, 1.5), lambda: self.start(what, new))

    def start(self, what: str, new: Etcd) -> None:
        old = self.etcd
        self.clusters.append(new)
        if what == "rollback":
            self.generation += 1
            if self.plan.early:
                self.etcd, self.serving = new, True
                self.at(1.0, lambda: self.back(old))
            else:
                self.serving = True
            return
        self.etcd, self.serving = new, True
        if self.plan.both:
            self.both(old)

    def back(self, old: Etcd) -> None:
        self.etcd = old

    def both(self, old: Etcd) -> None:
        """A client still writes to the old cluster."""
        for delay in (0.5, 1.5):
            self.at(delay, lambda: self._write_to(old))

    def _write_to(self, old: Etcd) -> None:
        value, key = self.value(), KEYS[0]
        had = old.state.get(key)
        invoked = self.now
        old.write({key: (value, 0)})
        self.records.append(
            records.Operation(
                "zombie", Kind.PUT, invoked, key, value, pinned="etcd/9", answered=self.now + 0.01,
                outcome=records.Outcome.OK, header=old.header("etcd/2"), prev=had,
            )
        )  # fmt: skip


class Client:
    """One operation after the other."""

    def __init__(self, run: Run, name: str, pinned: str) -> None:
        self.run = run
        self.name = name
        self.pinned = pinned
        self.left = run.plan.operations
        self.seen: dict[str, int] = {}
        self.mine: dict[Kind, list[str]] = {
            Kind.USER_ADD: [],
            Kind.ROLE_ADD: [],
            Kind.LEASE_GRANT: [],
        }

    def next(self) -> None:
        if not self.left:
            return
        self.left -= 1
        run = self.run
        wanted = self.wanted()
        unit = self.pinned or run.random.choice(UNITS)
        asked = records.Operation(
            self.name, invoked=run.now, pinned=self.pinned, endpoint=f"{unit}:2379", **wanted
        )
        refused = not run.serving
        if refused:
            over = dataclasses.replace(asked, outcome=records.Outcome.REFUSED, error="refused")
            run.at(0.05, lambda: self.done(over))
            return
        lost = run.plan.losses and run.random.random() < 0.12
        late = lost and run.random.random() < 0.3
        etcd = run.etcd
        delay = run.random.uniform(1.0, 4.0) if late else run.random.uniform(0.001, 0.05)
        if lost:
            if run.random.random() < 0.6:
                run.at(delay, lambda: self.apply(asked, unit, etcd, False))
            answered = run.random.choice((None, run.now + 0.5))
            over = dataclasses.replace(asked, answered=answered, error="timeout")
            run.at(0.5, lambda: self.done(over))
        else:
            run.at(delay, lambda: self.apply(asked, unit, etcd, True))

    def read_all(self) -> None:
        """The last operation of a run."""
        now, etcd = self.run.now, self.run.etcd
        kvs = tuple(kv for _, kv in sorted(etcd.state.items()))
        asked = records.Operation(self.name, Kind.LIST, now, PREFIX, endpoint="etcd/0:2379")
        self.run.records.append(
            dataclasses.replace(
                asked, answered=now, outcome=records.Outcome.OK, header=etcd.header("etcd/0"),
                kvs=kvs,
            )
        )  # fmt: skip

    def wanted(self) -> dict:
        random_ = self.run.random
        kind = random_.choice((Kind.PUT,) * 5 + (Kind.CAS, Kind.GET, Kind.LIST) * 3 + tuple(Kind))
        key = random_.choice(KEYS)
        if kind is Kind.GET:
            return {"kind": kind, "key": key, "linearizable": random_.random() < 0.7}
        if kind is Kind.LIST:
            return {"kind": kind, "key": PREFIX}
        if kind in (Kind.PUT, Kind.CAS, Kind.DELETE):
            wanted = {"kind": kind, "key": key, "value": self.run.value()}
            if kind is Kind.CAS:
                wanted["expected"] = self.seen.get(key, 0)
            if kind is Kind.DELETE:
                wanted["marker"] = f"{PREFIX}m{self.name}"
            if kind is Kind.PUT and self.mine[Kind.LEASE_GRANT] and random_.random() < 0.3:
                wanted["lease"] = int(random_.choice(self.mine[Kind.LEASE_GRANT]))
            return wanted
        return self.account(kind)

    def account(self, kind: Kind) -> dict:
        if kind in (Kind.USER_ADD, Kind.ROLE_ADD):
            return {"kind": kind, "key": f"{self.name}-{self.left}"}
        if kind is Kind.LEASE_GRANT:
            ttl = self.run.random.choice((3.0, 1000.0))
            name = str(self.run.random.getrandbits(40))
            return {"kind": kind, "key": name, "ttl": ttl}
        added = {
            Kind.USER_DELETE: Kind.USER_ADD,
            Kind.ROLE_DELETE: Kind.ROLE_ADD,
            Kind.LEASE_REVOKE: Kind.LEASE_GRANT,
        }.get(kind)
        if added and self.mine[added]:
            return {"kind": kind, "key": self.mine[added].pop()}
        if kind in (Kind.LEASE_LIST, Kind.ROLE_LIST, Kind.USER_LIST):
            return {"kind": kind, "key": ""}
        return {"kind": Kind.LIST, "key": PREFIX}

    def apply(self, o: records.Operation, unit: str, etcd: Etcd, answers: bool) -> None:
        """What etcd makes of it, if it still is the one that was asked and serves."""
        run = self.run
        if etcd is not run.etcd or not run.serving:
            if answers:
                lost = dataclasses.replace(o, error="connection lost")
                run.at(0.1, lambda: self.done(lost))
            return
        found = getattr(self, "_" + o.kind.value.replace("-", "_"))(o, etcd, unit)
        if not answers:
            return
        found.setdefault("outcome", records.Outcome.OK)
        if found["outcome"] is records.Outcome.OK:
            found.setdefault("header", etcd.header(unit))
        run.at(
            run.random.uniform(0.001, 0.05),
            lambda: self.done(dataclasses.replace(o, answered=run.now, **found)),
        )

    def done(self, o: records.Operation) -> None:
        run = self.run
        if o.outcome is records.Outcome.REFUSED and o.answered is None:
            o = dataclasses.replace(o, answered=run.now)
        run.records.append(o)
        if o.outcome is records.Outcome.OK and o.header is not None:
            if o.kind in self.mine:
                self.mine[o.kind].append(o.key)
            for kv in o.kvs:
                self.seen[kv.key] = kv.mod_revision
            if o.kind in (Kind.PUT, Kind.CAS) and o.succeeded:
                self.seen[o.key] = o.header.revision
            if o.kind is Kind.DELETE or (o.kind is Kind.GET and not o.kvs):
                self.seen.pop(o.key, None)
        run.at(run.random.uniform(0.01, 0.8), self.next)

    def _get(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        revision = etcd.revision if o.linearizable else etcd.applied[unit]
        kv = etcd.states[revision].get(o.key)
        return {"kvs": (kv,) if kv else (), "header": etcd.header(unit, revision)}

    def _list(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        return {"kvs": tuple(kv for _, kv in sorted(etcd.state.items()))}

    def _put(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        if o.lease and str(o.lease) not in etcd.leases:
            return {"outcome": records.Outcome.REFUSED, "error": "lease not found"}
        prev = etcd.state.get(o.key)
        etcd.write({o.key: (o.value, o.lease)})
        return {"prev": prev}

    def _cas(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        had = etcd.state.get(o.key)
        if (had.mod_revision if had else 0) != o.expected:
            return {"succeeded": False, "kvs": (had,) if had else ()}
        return self._put(o, etcd, unit)

    def _delete(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        had = etcd.state.get(o.key)
        if had is None:
            return {"succeeded": False}
        etcd.write({o.marker: (o.value, 0)}, (o.key,))
        return {"prev": had}

    def _user_add(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        (etcd.users if o.kind is Kind.USER_ADD else etcd.roles).add(o.key)
        etcd.remember()
        return {}

    _role_add = _user_add

    def _user_delete(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        (etcd.users if o.kind is Kind.USER_DELETE else etcd.roles).discard(o.key)
        etcd.remember()
        return {}

    _role_delete = _user_delete

    def _user_list(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        return {"names": tuple(sorted(etcd.users))}

    def _role_list(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        return {"names": tuple(sorted(etcd.roles))}

    def _lease_grant(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        etcd.leases[o.key] = self.run.now + o.ttl
        etcd.remember()
        return {}

    def _lease_revoke(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        if o.key not in etcd.leases:
            return {"outcome": records.Outcome.REFUSED, "error": "lease not found"}
        self.run.end_lease(o.key)
        return {}

    def _lease_list(self, o: records.Operation, etcd: Etcd, unit: str) -> dict:
        revision = etcd.applied[unit]
        names = etcd.past[revision][2]
        return {"names": names, "header": etcd.header(unit, revision)}


class Watcher:
    """One watch, resumed as clientv3 does."""

    def __init__(self, run: Run, name: str, unit: str) -> None:
        self.run = run
        self.name = name
        self.unit = unit
        self.connection = 0
        self.asked = 0
        self.next = 0
        self.etcd: Etcd | None = None

    def respond(self, **what: object) -> None:
        response = records.WatchResponse(
            self.name, PREFIX, self.connection, self.asked, self.run.now, self.unit,
            f"{self.unit}:2379", **what,  # type: ignore[arg-type]
        )  # fmt: skip
        self.run.records.append(response)

    def open(self) -> None:
        run = self.run
        self.connection += 1
        self.asked = self.next
        if not run.serving:
            self.respond(broken=True, reason="connection refused")
            run.at(0.3, self.open)
            return
        etcd = self.etcd = run.etcd
        applied = etcd.applied[self.unit]
        header = etcd.header(self.unit, applied)
        self.respond(header=header, created=True)
        if self.asked and self.asked < etcd.compacted:
            self.respond(header=header, canceled=True, compact_revision=etcd.compacted)
            run.at(0.05, self.relist)
            return
        self.next = self.asked or applied + 1
        run.at(run.random.uniform(0.05, 0.5), self.pump)

    def relist(self) -> None:
        """Told "compacted": read everything, and go on from there."""
        run = self.run
        if run.serving:
            etcd = run.etcd
            header = etcd.header(self.unit)
            kvs = tuple(kv for _, kv in sorted(etcd.state.items()))
            run.records.append(
                records.Operation(
                    self.name, Kind.LIST, run.now, PREFIX, pinned=self.unit,
                    answered=run.now + 0.001, outcome=records.Outcome.OK, header=header, kvs=kvs,
                )
            )  # fmt: skip
            self.next = header.revision + 1
        run.at(0.1, self.open)

    def pump(self) -> None:
        run, etcd = self.run, self.etcd
        assert etcd is not None
        lost = run.random.random() < (0.0 if run.traffic_over else 0.05)
        if etcd is not run.etcd or not run.serving or lost:
            self.respond(broken=True, reason="connection lost")
            run.at(run.random.uniform(0.05, 0.6), self.open)
            return
        slow = not run.traffic_over and run.random.random() < 0.2
        applied = etcd.applied[self.unit]
        if not slow and self.next <= applied:
            upto = applied if run.random.random() < 0.7 else run.random.randint(self.next, applied)
            found = [etcd.events.get(r, ()) for r in range(self.next, upto + 1)]
            events = tuple(event for each in found for event in each)
            if events:
                self.respond(header=etcd.header(self.unit, applied), events=events)
                self.next = events[-1].kv.mod_revision + 1
        if not slow and run.random.random() < 0.3:
            left = any(etcd.events.get(r) for r in range(self.next, applied + 1))
            if not left and applied + 1 >= self.next:
                self.respond(header=etcd.header(self.unit, applied), progress=True)
                self.next = applied + 1
        run.at(run.random.uniform(0.05, 0.5), self.pump)


def history(seed: int, plan: Plan | None = None) -> records.History:
    """The history of one seed."""
    return Run(seed, plan or Plan()).play()
