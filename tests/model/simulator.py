"""A Juju model and an etcd cluster small enough to be run by the million.

`World` holds both truths: what Juju and its databags say, and what etcd's members, logs and
disks are. Units run hooks, each a generator that stops between any two steps, so that hooks of
several units truly interleave and any of them can be killed at any point. etcd refuses here what
the real one refuses; what must never happen raises `Violation`.

A log is one number per cluster, since all that policy can break is whether a quorum still holds
every acknowledged entry; what is in the log besides is the membership. Each entry is a revision of
the store, counted from the one that it began with: clients remember those.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import zlib
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import lead, loop, losses, queries, revisions, steps, telling
from cluster import plan as plans
from cluster import view as views

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

RUNNING, STOPPED, FAILED, ABSENT = (
    views.Service.RUNNING,
    views.Service.STOPPED,
    views.Service.FAILED,
    views.Service.ABSENT,
)


FILE = generations.Detail(path="b1", revision=50)
"""A snapshot that somebody took of another cluster, which any operator may restore again."""
WAIT = 5.0
"""Seconds from one look of a leaving unit to the next."""
BACKUP_EVERY = 16
"""Entries between two backups of a confirmed generation."""

_MOVING = (
    steps.SetAside,
    steps.Adopt,
    steps.PutBack,
    steps.Found,
    steps.Join,
    steps.Discard,
    steps.Finish,
)
"""Steps that put data somewhere else, or away."""


class Violation(AssertionError):
    """A promise was broken."""


class Refused(Exception):
    """etcd said no."""


class Record:
    """One entry of a member list."""

    __slots__ = ("id", "learner", "name", "started", "url")

    def __init__(self, id_: int, name: str, url: str, learner: bool, started: bool = False):
        self.id, self.name, self.url = id_, name, url
        self.learner, self.started = learner, started

    def changed(self, **values: object) -> Record:
        new = Record(self.id, self.name, self.url, self.learner, self.started)
        for key, value in values.items():
            setattr(new, key, value)
        return new


class Data:
    """One data directory: who it is, how far its log goes, the membership at that point."""

    __slots__ = (
        "base",
        "closed",
        "content",
        "fenced",
        "index",
        "member",
        "members",
        "name",
        "returned",
        "token",
    )

    def __init__(
        self, token: str, member: int, index: int, members: tuple[Record, ...], content: int
    ):
        self.token, self.member, self.index = token, member, index
        self.members = members
        self.content = content
        self.name = ""
        self.base = 0  # revision of the store that its log goes on from
        self.closed = False  # no client reaches it
        self.returned = False  # its disk came back after its unit had told of it as lost
        self.fenced = views.Fenced()

    def copy(self) -> Data:
        data = Data(self.token, self.member, self.index, self.members, self.content)
        data.closed, data.base = self.closed, self.base
        return data

    @property
    def revision(self) -> int:
        """Of its store."""
        return self.base + self.index

    def record(self) -> Record | None:
        return next((m for m in self.members if m.id == self.member), None)


class Machine:
    """A unit, its machine and its disk."""

    def __init__(self, name: str, url: str):
        self.name, self.url = name, url
        self.up = True
        self.cut = False
        self.side = 0  # of a network that is split: it reaches those of its own
        self.installed = False
        self.alive = True
        self.enabled = False
        self.running = False
        self.failed = False
        self.current: Data | None = None
        self.prepared: dict[str, Data] = {}
        self.kept: dict[str, list[Data]] = {}
        self.lost: Data | None = None
        self.broken = ""
        self.facts: views.DiskFacts | None = None
        self.finished = 0
        self.stale = False
        self.last_started = 0
        self.joins: list[float] = []
        self.turn_done = 0
        self.seen = views.KnownVoters()
        self.since: dict[str, float] = {}
        self.unable = False
        self.slow = 0
        self.corrupt = False
        self.caught_up_at = 0.0
        self.skew = 0.0
        self.mute = False  # Juju does not reach it: no hook runs, and what it told stays
        self.serves = 0  # number of the generation by which its etcd was started last
        self.stays = False  # its unit is gone, and Juju cannot tell the machine so
        self.paused = False  # it stands still, in the middle of whatever it did
        self.stands = False  # its hook does, and all else goes on
        self.between = False  # the next hook of its removal is a look that the charm asked for

    def may_begin(self, record: generations.Generation) -> bool:
        """Whether the record still lets it start what it prepared."""
        named = generations.Founder(self.name, self.url) in record.founders
        return named and self.last_started < record.number

    @property
    def connected(self) -> bool:
        """Whether its etcd reaches those of others."""
        return self.up and not self.cut and not self.paused


class World:
    """The whole: see the module's docstring."""

    def __init__(
        self,
        seed: int | random.Random = 0,
        units: int = 3,
        planned: int | None = None,
        decide: Callable[[views.View], plans.Plan] = plans.plan,
        policy: views.Policy = views.Policy(),  # noqa: B008
    ):
        self.random = seed if isinstance(seed, random.Random) else random.Random(seed)
        self.decide = decide
        self.policy = policy
        self.now = 1000.0
        self.machines: dict[str, Machine] = {}
        self.gone: list[Machine] = []
        self.count = 0
        self.tokens = 0
        self.ids = 100
        self.generation: generations.Generation | None = None
        self.proposal: generations.Generation | None = None
        self.turn = views.Turn()
        self.bags: dict[str, views.Unit] = {}
        self.older: dict[str, views.Unit] = {}
        self.flaky = True
        self.recover: str | None = None
        self.acked: dict[str, int] = {}
        self.contents = 0
        self.changed_at = -100.0
        self.epoch = 0
        self.hooks: dict[str, Iterator[None]] = {}
        self.hook_count = 0
        self.ended: dict[str, plans.Plan] = {}
        self.trace: list[str] | None = None
        self.backup = FILE
        self.served: dict[str, tuple[int, int]] = {}  # token to its first and newest revision
        self.recorded: set[str] = set()
        self.confirmed: set[int] = set()
        self.led: dict[str, int] = {}  # token to the member that raft leadership was moved to
        self.alarms: dict[str, set[int]] = {}  # token to members with a CORRUPT alarm, 0: unnamed
        self.opened: set[str] = set()
        self.strict = True  # etcd before 3.5.30 and 3.6.11: one member down, and none is added
        self.fences = True
        self.juju_once = False  # a seeded bug: hooks ask Juju once, and etcd anew in each round
        for _ in range(units):
            self.add_unit()
        self.planned = planned or units
        self.leader = next(iter(self.machines), "")
        self.last: dict[str, Hook] = {}  # each unit's newest
        self.leased = 0.0  # until when Juju's leader leads, whatever comes

    # Juju

    def add_unit(self) -> Machine:
        name = f"etcd/{self.count}"
        machine = Machine(name, f"https://m{self.count}:2380")
        self.count += 1
        self.machines[name] = machine
        return machine

    def remove_unit(self, name: str) -> None:
        self.machines[name].alive = False

    def force_remove(self, name: str) -> None:
        """Juju forgets the unit; the machine may go on where nobody sees it."""
        machine = self.machines.pop(name)
        self.hooks.pop(name, None)
        self.bags.pop(name, None)
        self.ended.pop(name, None)
        self.gone.append(machine)
        machine.cut = True
        self.epoch += 1
        if self.leader == name:
            self.elect()

    def elect(self) -> None:
        able = (m for m in self.machines.values() if m.up and not m.mute and not m.paused)
        names = [m.name for m in able if m.alive]
        names = names or list(self.machines)
        before, self.leader = self.leader, self.random.choice(names) if names else ""
        if before in self.machines and self.leader != before:
            self.now = max(self.now, self.leased)  # Juju's lease runs out first

    def log(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:.0f} {text}")

    # etcd

    def reach(self, a: Machine, b: Machine) -> bool:
        return a is b or (a.connected and b.connected and a.side == b.side)

    def peers(self, of: Machine, token: str) -> list[Machine]:
        """Machines that `of` reaches and that run a member of the cluster `token`."""
        near = of.connected
        return [
            m
            for m in (*self.machines.values(), *self.gone)
            if m.running
            and m.current
            and m.current.token == token
            and not m.paused
            and (m is of or (near and m.up and not m.cut and m.side == of.side))
        ]

    def quorum(self, of: Machine, token: str) -> tuple[Data, list[Machine]] | None:
        """The most advanced log and the voters behind it, when they are a quorum."""
        machines = self.peers(of, token)
        if not machines:
            return None
        best = _newest(machines)
        voters = {r.id for r in best.members if not r.learner}
        present = [m for m in machines if m.current and m.current.member in voters]
        if len(present) < queries.quorum(len(voters)):
            return None
        best = _newest(present)
        if best.index < self.acked.get(token, 0):
            raise Violation(f"a quorum of {token} without an acknowledged entry")
        return best, present

    def commit(self, of: Machine, token: str, members: tuple[Record, ...] | None = None) -> None:
        """Append one entry, of data or a membership change, to all that are connected."""
        found = self.quorum(of, token)
        if found is None:
            raise Refused("no quorum")
        best, present = found
        index = best.index + 1
        members = members if members is not None else best.members
        self.contents += 1
        ids = {r.id for r in best.members}
        learners = {r.id for r in best.members if r.learner}
        for machine in self.peers(of, token):
            data = machine.current
            if data is None or data.member not in ids:
                continue
            if data.member in learners and self.now < machine.caught_up_at:
                continue
            if machine in present or data.member in learners:
                data.index, data.members, data.content = index, members, self.contents
        self.acked[token] = index
        self.check_revisions(best, index)
        self.check_one_cluster()

    def check_revisions(self, data: Data, index: int) -> None:
        """No watcher is fooled: no revision comes twice, nor one below what clients were told.

        A first generation counts from when it was confirmed: before that nobody was told of it.
        """
        record = self.generation
        first = data.base == 0 and data.token not in self.served
        if first and (record is None or record.token != data.token or not record.confirmed):
            return
        new, revision = data.token not in self.served, data.base + index
        for token, (begin, end) in self.served.items():
            if token == data.token:
                continue
            told = token in self.opened or begin == 0
            if data.base <= end and (begin <= revision or (new and told)):
                raise Violation(f"revision {revision} of {data.token}, {token} had {begin}..{end}")
        self.served[data.token] = (data.base, revision)
        if index % BACKUP_EVERY == 0 and record and record.token == data.token:
            self.back_up(revision, record)

    def back_up(self, revision: int, record: generations.Generation) -> None:
        """A backup of the schedule's: its manifest knows what the record does."""
        if record.confirmed:
            known = max(revisions.high(record), revision, self.known())
            self.backup = generations.Detail(path=f"b{revision}", revision=revision, high=known)

    def known(self) -> int:
        """The highest revision that the backups' manifests know of."""
        return self.backup.high

    def restorable(self) -> generations.Detail:
        """What an operator restores, as `restore.proposed` has it: a backup, or the old file."""
        detail = self.backup if self.tokens % 2 else FILE
        machine = self.machines[self.leader]
        _, found = self.answer(machine, self.generation)
        disks = [bag.facts for bag in self.bags.values()]
        if found is None and machine.current is not None:
            disks.append(views.DiskFacts(1, machine.current.index, machine.current.revision))
        high = revisions.begin(
            snapshot=detail.revision,
            live=found[0].revision if found else 0,
            disks=disks,
            record=self.generation,
            backups=detail.high or (0 if found else self.known()),
        )
        return dataclasses.replace(detail, high=high)

    def run(self, machine: Machine) -> None:
        """The process starts: what etcd checks by itself at that point."""
        machine.facts = None
        machine.running, machine.failed, machine.stale = True, False, False
        machine.enabled = True
        data = machine.current
        if data is None or machine.broken == "corrupt":
            machine.running, machine.failed = False, True
            return
        found = self.quorum(machine, data.token)
        if found and all(r.id != data.member for r in found[0].members):
            machine.running, machine.failed = False, True
            machine.broken = "removed"

    def tick(self) -> None:
        """What etcd does by itself: learn, publish names, catch up, notice a removal."""
        for machine in list(self.machines.values()):
            data = machine.current
            if not machine.running or data is None:
                continue
            found = self.quorum(machine, data.token)
            if found is None:
                continue
            best, _ = found
            record = next((r for r in best.members if r.id == data.member), None)
            if record is None:
                machine.running, machine.failed, machine.broken = False, True, "removed"
                continue
            if self.now >= machine.caught_up_at:
                data.index, data.members, data.content = best.index, best.members, best.content
            name = generations.member_name(machine.name)
            if (not record.started or record.name != name) and self.now >= machine.caught_up_at:
                new = record.changed(name=name, started=True)
                self.commit(
                    machine,
                    data.token,
                    tuple(new if r is record else r for r in best.members),
                )
        for machine in list(self.machines.values()):
            data = machine.current
            if machine.running and data and self.random.random() < 0.3:
                with contextlib.suppress(Refused):
                    self.commit(machine, data.token)
                break
        self.fence()

    def fence(self) -> None:
        """What the keepers do: data that was replaced stops, or whose unit is gone.

        A machine asks only those that it reaches.
        """
        everywhere = (*self.machines.values(), *self.gone)
        running = [m for m in everywhere if m.running and m.current and m.connected]
        for machine in running:
            gone = machine.name not in self.machines and not machine.stays
            near = (m for m in running if m.side == machine.side)
            later = [m.serves for m in near if self.replaces(m, machine)]
            if machine.current and (gone or (later and self.fences)):
                machine.running = machine.enabled = False
                machine.current.fenced = views.Fenced(max(later, default=0), "https://later")
        serving: dict[int, set[str]] = {}
        for machine in running:
            data = machine.current
            if data and machine.running and not data.closed and self.quorum(machine, data.token):
                serving.setdefault(machine.side, set()).add(data.token)
        for tokens in serving.values():
            if len(tokens) > 1:
                raise Violation(f"two clusters that reach each other: {sorted(tokens)}")

    def replaces(self, one: Machine, other: Machine) -> bool:
        """As `tls.served` has it: a later number, and not the same data by it."""
        a, b = one.current, other.current
        return bool(a and b) and one.serves > other.serves and a.token != b.token

    def check_one_cluster(self) -> None:
        """No two clusters of this application serve at once: units of Juju, by token."""
        serving: set[str] = set()
        for machine in self.machines.values():
            data = machine.current
            if not machine.running or not data or data.closed or data.token in serving:
                continue
            if self.quorum(machine, data.token):
                serving.add(data.token)
        if len(serving) > 1:
            raise Violation(f"two clusters: {sorted(serving)}")

    def leads(self, hook: Hook) -> bool:
        """As `Peers.leads` has it."""
        known = hook.lead.known(self.now)
        return hook.lead.heard(self.ask_lead(hook.unit), self.now) if known is None else known

    def wrote_in_time(self, hook: Hook) -> bool:
        """As `Peers.check_lead` has it."""
        return self.leads(hook)

    def ask_lead(self, unit: str) -> bool:
        """As Juju answers: who is told so leads for a while, whatever comes."""
        if self.leader == unit:
            self.leased = self.now + lead.HELD
        return self.leader == unit

    # observe

    def observe(self, machine: Machine, hook: Hook) -> views.View:
        generation, leads = hook.generation, self.leads(hook)
        etcd = self.client(machine, generation)
        if not self.juju_once or not hook.names:
            hook.names = {m.name: m.alive for m in self.machines.values()}
        now, disk = self.now + machine.skew, self.disk(machine)
        others = [bag for name, bag in hook.bags.items() if name in hook.names]
        machine.seen = telling.seen(etcd, generation, [*others, hook.me], machine.seen)
        began = machine.since.get(queries.silent_key(generation)) if generation else None
        hook.me = telling.describe_unit(
            hook.me,
            etcd,
            disk,
            telling.Known(
                machine.seen,
                peer_url=machine.url if machine.installed else None,
                client_url=machine.url if machine.installed else None,
                joins=sum(t > self.now - 3600 for t in machine.joins),
                waited=0.0 if began is None else now - began,
            ),
            committed=generation,
            proposal=hook.proposal,
            patience=self.policy.answer_wait,
        )
        units = []
        for name, alive in hook.names.items():
            bag = hook.bags.get(name)
            if name == machine.name:
                unit = hook.me
                if unit.alive is hook.dying:
                    unit = dataclasses.replace(unit, alive=not hook.dying)
            elif bag is None:
                unit = views.Unit(name, alive=alive)
            else:
                unit = bag if alive else dataclasses.replace(bag, alive=False)
            units.append(unit)
        view = views.View(
            me=machine.name,
            leader=leads,
            now=now,
            ready=machine.installed,
            dying=hook.dying,
            planned=self.planned_units(),
            units=tuple(units),
            generation=generation,
            proposal=hook.proposal,
            disk=disk,
            etcd=etcd,
            fresh_token=f"t{self.tokens + 1}",
            since=tuple(machine.since.items()),
            recover=self.recover if leads else None,
            policy=self.policy,
            turn=hook.turn,
            newest_backup=self.backup if self.policy.recover_total_loss else None,
            beside=self.beside(machine, generation) if leads else (),
            said_unanswered=hook.said_unanswered,
        )
        hook.prepared = view.disk.prepared
        return view

    def disk(self, machine: Machine) -> views.Disk:
        return views.Disk(
            token=machine.current.token if machine.current else None,
            prepared=tuple(machine.prepared),
            kept=tuple(machine.kept),
            facts=machine.facts,
            broken=machine.broken,
            finished=machine.finished,
            member=machine.current.name if machine.current else "",
            fenced=machine.current.fenced if machine.current else views.Fenced(),
            closed=machine.current is not None and machine.current.closed,
        )

    def beside(
        self, machine: Machine, generation: generations.Generation | None
    ) -> tuple[str, ...]:
        """Old members that the leader's machine reaches, and that serve still."""
        if generation is None or generation.confirmed:
            return ()
        return tuple(
            m.name
            for m in self.gone
            if m.running and m.current and self.reach(m, machine)
            if m.current.token != generation.token and m.serves < generation.number
        )

    def planned_units(self) -> int:
        return max(self.planned if self.generation is None else 0, len(self.machines))

    def service(self, machine: Machine) -> views.Service:
        if not machine.installed:
            return ABSENT
        return RUNNING if machine.running else FAILED if machine.failed else STOPPED

    def answer(
        self, machine: Machine, generation: generations.Generation | None
    ) -> tuple[list[Machine], tuple[Data, list[Machine]] | None]:
        """Members that let the charm of `machine` in, and the quorum that answers it."""
        told = [
            m
            for m in (self.peers(machine, generation.token) if generation else ())
            if m.current and m.current.closed == generation.closed
        ]
        return told, self.quorum(machine, generation.token) if generation and told else None

    def client(self, machine: Machine, generation: generations.Generation | None) -> views.Etcd:
        service = self.service(machine)
        told, found = self.answer(machine, generation)
        local = machine.current.member if machine in told and machine.current else None
        if found is None or generation is None:
            return views.Etcd(service, local_id=local, stale=machine.stale and machine.running)
        best, present = found
        by_id = {m.current.member: m for m in told if m.current}
        alarms = self.alarms.get(generation.token, set())
        members = []
        for r in best.members:
            at = by_id.get(r.id)
            members.append(
                views.Member(
                    r.id,
                    r.name,
                    (r.url,),
                    (r.url,) if r.started else (),
                    r.learner,
                    at is not None and not (self.flaky and self.random.random() < 0.02),
                    at.current.index if at is not None and at.current else 0,
                    r.id in alarms,
                )
            )
        led = self.led.get(generation.token)
        data = [m.current for m in present if m.current]
        head = next((d for d in data if d.member == led), data[0] if data else None)
        return views.Etcd(
            service,
            tuple(members),
            zlib.crc32(generation.token.encode()),
            head.member if head else None,
            local,
            machine.stale and machine.running,
            alarms=tuple(views.Alarm(i, "CORRUPT") for i in sorted(alarms)),
        )

    # act

    def start_hook(self, name: str) -> None:
        machine = self.machines[name]
        if machine.up and name not in self.hooks:
            self.hooks[name] = self.hook(machine)
            self.hook_count += 1

    def advance(self, name: str) -> bool:
        """Run one step of the unit's hook, starting one when none runs; False at its end."""
        if name not in self.machines or not self.machines[name].up:
            self.hooks.pop(name, None)
            return False
        if self.machines[name].mute or self.machines[name].paused or self.machines[name].stands:
            return False
        self.start_hook(name)
        try:
            next(self.hooks[name])
        except StopIteration:
            self.hooks.pop(name, None)
            return False
        return True

    def crash(self, name: str) -> None:
        """The hook process is killed where it stands: its databag writes are lost."""
        if self.hooks.pop(name, None) is not None:
            self.log(f"{name} CRASH")

    def full_hook(self, name: str) -> None:
        while self.advance(name):
            pass

    def hook(self, machine: Machine) -> Iterator[None]:
        """One hook of the unit: it drives the loop that ships."""
        hook = self.last[machine.name] = Hook(self, machine.name)
        hook.dying = not machine.alive
        hook.leaves, machine.between = hook.dying and not machine.between, False
        bag = self.bags.get(machine.name, views.Unit(machine.name))
        hook.me = bag
        if bag.last_started < machine.last_started or bag.turn_done < machine.turn_done:
            hook.me = dataclasses.replace(
                bag,
                last_started=max(bag.last_started, machine.last_started),
                turn_done=max(bag.turn_done, machine.turn_done),
            )
        hook.said_unanswered = bag.unanswered
        machine.installed = True
        ended = yield from self.drive(machine, hook)
        yield
        if ended.stays:
            return  # it fails: nothing is flushed, and Juju runs it again
        if hook.leaves and ended.plan.steps:
            self.check_leaver(machine)
        self.flush(machine, hook)

    def drive(self, machine: Machine, hook: Hook) -> Generator[None, None, loop.Ended]:
        """Give the loop what it asks for; others go on between any two steps."""
        run = loop.run(
            leaves=hook.leaves,
            leader=self.leads(hook),
            read_at=hook.read_at,
            decide=self.decide,
        )
        answer: object = None
        while True:
            try:
                request = run.send(answer)
            except StopIteration as end:
                return end.value
            answer = None
            match request:
                case loop.Look():
                    answer = hook.view = self.observe(machine, hook)
                    hook.epoch = self.epoch
                    self.check_loss(hook.view)
                case loop.Planned(plan=plan, now=now):
                    machine.since = {k: min(machine.since.get(k, now), now) for k in plan.clocks}
                    self.ended[machine.name] = plan
                    if hook.leaves and not plan.steps and queries.alive(hook.view):
                        self.check_leaver(machine)  # what comes later nobody can know
                case loop.Time():
                    yield
                    answer = self.now
                case loop.Again(exactly=exactly):
                    machine.between = machine.between or (exactly and hook.dying)
                    self.now += WAIT if hook.leaves and not exactly else 0
                case loop.Do(step=step):
                    answer = yield from self.do(machine, hook, step)

    def do(self, machine: Machine, hook: Hook, step: steps.Step) -> Generator[None, None, str]:
        """Do one step, and say why it could not be done."""
        if self.trace is not None:
            self.log(f"{machine.name} {step!r}")
        begun = machine.last_started
        try:
            self.step(machine, hook, step)
        except Refused as error:
            self.log(f"{machine.name} refused: {error}")
            if machine.current is None:
                machine.last_started = begun
            if token := loop.founding(step):
                hook.me = dataclasses.replace(hook.me, failure=views.Failure(token, str(error)))
            return str(error)
        if isinstance(step, steps.Restart):
            yield
            self.run(machine)
            machine.turn_done = hook.turn.number
        if (hook.me.last_started, hook.me.turn_done) != (machine.last_started, machine.turn_done):
            hook.me = dataclasses.replace(
                hook.me, last_started=machine.last_started, turn_done=machine.turn_done
            )
        if isinstance(step, steps.Wake) and hook.leaves:
            self.now += WAIT
        return ""

    def flush(self, machine: Machine, hook: Hook) -> None:
        if hook.writes:
            if self.leader != machine.name:
                self.log(f"{machine.name} flush refused: not leader")
                return
            if not self.wrote_in_time(hook):
                self.log(f"{machine.name} fails: another may have led meanwhile")
                return
            self.check_kept(hook)
            self.check_onward(hook)
            for key, value in hook.writes.items():
                setattr(self, key, value)
                if self.trace is not None:
                    self.log(f"{machine.name} wrote {key} = {value!r}")
            if "proposal" in hook.writes and self.proposal is not None:
                self.recover = None
            if "generation" in hook.writes and self.generation is not None:
                self.recorded.add(self.generation.token)
                if self.generation.confirmed:
                    self.confirmed.add(self.generation.number)
        if machine.name in self.bags:
            self.older[machine.name] = self.bags[machine.name]
        self.bags[machine.name] = hook.me
        if hook.leaves:  # Juju takes the unit away, and the machine with all that runs on it
            machine.running = False
            self.machines.pop(machine.name)
            self.bags.pop(machine.name, None)
            self.ended.pop(machine.name, None)
            machine.up = False
            self.gone.append(machine)
            if self.leader == machine.name:
                self.elect()

    def check_loss(self, view: views.View) -> None:
        """Nobody is told that the data is lost, and what to restore, while a unit has it."""
        generation = self.generation
        if generation is None or not losses.all_lost(view):
            return
        token = generation.token
        there = [
            m.name
            for m in self.machines.values()
            if (m.current and m.current.token == token and not m.current.returned)
            or (token in m.prepared and m.may_begin(generation))
        ]
        if there:
            raise Violation(f"{view.me} calls lost what {there[0]} has")

    def check_leaver(self, leaver: Machine) -> None:
        """A disk that goes away for good takes no quorum with it from the units that stay."""
        generation, data = self.generation, leaver.current
        if generation is None or data is None or data.token != generation.token:
            return
        disks = [
            m.current
            for m in self.machines.values()
            if m.current and m.current.token == data.token and m.broken != "corrupt"
        ]
        if self.could_serve(disks) and not self.could_serve([d for d in disks if d is not data]):
            raise Violation(f"{leaver.name} took the quorum with it")

    def could_serve(self, disks: list[Data]) -> bool:
        """Whether these disks would be a quorum if all their machines ran and met."""
        if not disks:
            return False
        newest = max(disks, key=lambda d: d.index)
        voters = {r.id for r in newest.members if not r.learner}
        return len(voters & {d.member for d in disks}) >= queries.quorum(len(voters))

    def check_ready(self, hook: Hook, new: generations.Generation) -> None:
        """No cluster stops for a restore that some founder has not told to be ready for."""
        if new.confirmed or new == self.generation or new.source is not generations.Source.BACKUP:
            return
        for founder in new.founders:
            bag, machine = hook.bags.get(founder.unit), self.machines.get(founder.unit)
            told = bag is not None and bag.prepared == new.token
            told = told or (founder.unit == hook.unit and new.token in hook.prepared)
            if machine and not told and new.token not in machine.prepared:
                raise Violation(f"committed before {founder.unit} was ready")

    def check_onward(self, hook: Hook) -> None:
        """What was confirmed stays the record until a later one replaces it."""
        new, old = hook.writes.get("generation"), self.generation
        if not isinstance(new, generations.Generation) or old is None or not old.confirmed:
            return
        if new.number < old.number or (new.number == old.number and new != old):
            raise Violation(f"record {new.number} replaced the confirmed one {old.number}")

    def check_kept(self, hook: Hook) -> None:
        """What clients could write to is never taken back."""
        new, old = hook.writes.get("generation"), self.generation
        back = isinstance(new, generations.Generation) and (
            new.source is generations.Source.PREVIOUS and not new.confirmed
        )
        # Two leaders in turn may write the same record.
        if back and old is not None and new != old and old.token in self.opened:
            raise Violation("went back from a cluster that clients could write to")

    def step(self, machine: Machine, hook: Hook, step: steps.Step) -> None:
        view = hook.view
        token = self.generation.token if self.generation else ""
        before = view.etcd.members is not None and bool(self.quorum(machine, token))
        ordered = (view.dying and not queries.alive(view)) or (
            machine.current is not None
            and view.generation is not None
            and machine.current.token != view.generation.token
        )
        copies = self.copies() if isinstance(step, _MOVING) else {}
        getattr(self, f"do_{type(step).__name__}")(machine, hook, step)
        self.check_copies(copies, step)
        if before and hook.epoch == self.epoch and not ordered:
            others = [
                m for m in self.machines.values() if m is not machine and self.reach(m, machine)
            ]
            watch = [machine, *others]
            if not any(self.quorum(m, token) for m in watch) and self.generation.token == token:
                records = machine.current.members if machine.current else ()
                alone = sum(not r.learner for r in records) <= 2 and isinstance(
                    step, steps.Restart
                )
                if not alone:
                    raise Violation(f"{machine.name}: {step!r} cost the quorum")

    def copies(self) -> dict[str, int]:
        """How far the newest copy of each cluster's data goes, wherever it lies."""
        newest: dict[str, int] = {}
        for m in (*self.machines.values(), *self.gone):
            kept = [data for datas in m.kept.values() for data in datas]
            for data in filter(None, (m.current, m.lost, *kept)):
                newest[data.token] = max(newest.get(data.token, 0), data.index)
        return newest

    def check_copies(self, before: dict[str, int], step: steps.Step) -> None:
        """The newest copy is never deleted, unless the operator asked for that."""
        after = self.copies() if before else {}
        asked = step.generation if isinstance(step, steps.Finish) else None
        for token, index in before.items():
            spared = asked is None or not asked.skip_backup or token == asked.token
            if spared and after.get(token, 0) < index:
                raise Violation(f"{step!r} deleted the newest copy of {token}")

    def token_used(self, token: str) -> None:
        if token == f"t{self.tokens + 1}":
            self.tokens += 1

    def do_Propose(self, machine: Machine, hook: Hook, step: steps.Propose) -> None:  # noqa: N802
        hook.writes["proposal"] = step.proposal
        if step.proposal is None:
            return
        self.token_used(step.proposal.token)
        if step.proposal.source is generations.Source.SURVIVOR and self.recover is None:
            self.check_survivor(step.proposal)

    def check_survivor(self, proposal: generations.Generation) -> None:
        """Recovery that nobody asked for: the best disk, and never beside a living majority."""
        if self.generation is None:
            return
        token = self.generation.token
        everywhere = (*self.machines.values(), *self.gone)
        datas = [m.current for m in everywhere if m.current and m.current.token == token]
        machine = self.machines.get(proposal.founders[0].unit)
        chosen = machine.current if machine else None
        here = [m.current for m in self.machines.values() if m.current and m.alive]
        best = max((d.index for d in here if d.token == token), default=0)
        if chosen is None or chosen.token != token:
            return  # lost between the look and the proposal: preparing it will fail
        if chosen.index < best:
            raise Violation("recovery from a disk that is not the best")
        newest = max(datas, key=lambda d: d.index)
        ids = {r.id for r in newest.members if not r.learner}
        present = sum(1 for m in self.machines.values() if m.current and m.current.member in ids)
        if present < queries.quorum(len(ids)):
            return
        if chosen.index < self.acked.get(token, 0):
            raise Violation("recovery that loses what a quorum of units still has")
        if any(self.quorum(m, token) for m in self.machines.values()):
            raise Violation("recovery beside a quorum that runs")

    def do_Commit(self, machine: Machine, hook: Hook, step: steps.Commit) -> None:  # noqa: N802
        generation = step.generation
        self.token_used(generation.token)
        self.check_ready(hook, generation)
        hook.writes["generation"] = generation
        if hook.proposal is not None and hook.proposal.token == generation.token:
            hook.writes["proposal"] = None

    def do_Grant(self, machine: Machine, hook: Hook, step: steps.Grant) -> None:  # noqa: N802
        hook.writes["turn"] = views.Turn(step.unit, step.number)

    def do_Fail(self, machine: Machine, hook: Hook, step: steps.Fail) -> None:  # noqa: N802
        hook.me = dataclasses.replace(hook.me, failure=views.Failure(step.token, step.reason))

    def do_Wake(self, machine: Machine, hook: Hook, step: steps.Wake) -> None:  # noqa: N802
        pass

    def founding_records(self, g: generations.Generation) -> tuple[Record, ...]:
        return tuple(
            Record(member_id(f.peer_url, g.token), f.member, f.peer_url, False) for f in g.founders
        )

    def do_Prepare(self, machine: Machine, hook: Hook, step: steps.Prepare) -> None:  # noqa: N802
        g = step.proposal
        if machine.unable:
            machine.unable = False
            raise Refused("no space left")
        content, base = 0, revisions.high(g)
        if g.source is generations.Source.SURVIVOR:
            if machine.running:
                raise Violation("salvage of a running member's disk")
            if machine.current is None:
                raise Refused("no data")
            content = machine.current.content
            base = max(base, revisions.begin(snapshot=machine.current.revision))
        mine = member_id(machine.url, g.token)
        data = Data(g.token, mine, 1, self.founding_records(g), content)
        data.name = generations.member_name(machine.name)
        data.closed, data.base = True, base
        machine.prepared[g.token] = data

    def do_Discard(self, machine: Machine, hook: Hook, step: steps.Discard) -> None:  # noqa: N802
        g = self.generation
        wanted = g and g.token == step.token and g.founder(machine.name) and not g.confirmed
        wanted = wanted and g.source is not generations.Source.PREVIOUS  # that starts from kept
        if g and wanted and machine.last_started < g.number:
            raise Violation("discarded what the committed generation starts from")
        machine.prepared.pop(step.token, None)

    def do_Stop(self, machine: Machine, hook: Hook, step: steps.Stop) -> None:  # noqa: N802
        machine.running = machine.failed = machine.enabled = False

    def do_SetAside(self, machine: Machine, hook: Hook, step: steps.SetAside) -> None:  # noqa: N802
        if machine.running:
            raise Violation("data moved under a running etcd")
        if machine.current is not None:
            machine.kept.setdefault(machine.current.token, []).append(machine.current)
        machine.current, machine.broken, machine.facts = None, "", None
        machine.corrupt = False

    def do_Adopt(self, machine: Machine, hook: Hook, step: steps.Adopt) -> None:  # noqa: N802
        if machine.current is not None:
            raise Refused("adoption over data")
        if step.token not in machine.prepared:
            raise Refused("not prepared")
        machine.current = machine.prepared.pop(step.token)

    def do_PutBack(self, machine: Machine, hook: Hook, step: steps.PutBack) -> None:  # noqa: N802
        if machine.current is not None:
            raise Refused("put back over data")
        if step.token not in machine.kept:
            raise Refused("not kept")
        kept = machine.kept[step.token]
        machine.current = kept.pop()
        machine.current.closed = False
        if not kept:
            del machine.kept[step.token]

    def committed(self, token: str) -> generations.Generation:
        """The record as flushed: only such a one lets etcd start."""
        if self.generation is None or token not in self.recorded:
            raise Violation("etcd started on a record that was never flushed")
        return self.generation

    def do_Found(self, machine: Machine, hook: Hook, step: steps.Found) -> None:  # noqa: N802
        g = step.generation
        self.committed(g.token)
        if not g.founder(machine.name) or machine.current is not None:
            raise (Violation if machine.current is None else Refused)(
                "founded without being named"
            )
        mine = member_id(machine.url, g.token)
        for peer in self.peers(machine, g.token):
            data = peer.current
            if data and any(r.id == mine and r.started for r in data.members):
                raise Refused("member has already been bootstrapped")
        machine.current = Data(g.token, mine, 1, self.founding_records(g), 0)
        machine.current.name = generations.member_name(machine.name)
        machine.last_started = machine.serves = g.number
        self.run(machine)
        self.check_one_cluster()

    def do_Start(self, machine: Machine, hook: Hook, step: steps.Start) -> None:  # noqa: N802
        if machine.current is None:
            raise Refused("start without data")
        g = self.committed(machine.current.token)
        if hook.generation is None or machine.current.token != hook.generation.token:
            raise Violation("started data of another generation")
        machine.last_started = max(machine.last_started, hook.generation.number)
        machine.serves, machine.current.fenced = hook.generation.number, views.Fenced()
        del g
        self.run(machine)
        self.check_one_cluster()

    def do_Restart(self, machine: Machine, hook: Hook, step: steps.Restart) -> None:  # noqa: N802
        machine.running = False

    def do_EndTurn(self, machine: Machine, hook: Hook, step: steps.EndTurn) -> None:  # noqa: N802
        machine.turn_done = hook.turn.number

    def do_Join(self, machine: Machine, hook: Hook, step: steps.Join) -> None:  # noqa: N802
        token = step.generation.token
        found = self.quorum(machine, token)
        if found is None:
            raise Refused("cannot fetch the cluster from its peers")
        best, _ = found
        urls = ",".join(sorted(r.url for r in best.members))
        given = ",".join(sorted(p.split("=", 1)[1] for p in step.initial_cluster.split(",")))
        if urls != given:
            raise Refused("member count is unequal")
        record = next((r for r in best.members if r.url == machine.url), None)
        if record is None or machine.current is not None:
            raise Refused("not a member")
        machine.current = Data(token, record.id, 0, best.members, 0)
        machine.current.closed, machine.current.base = step.generation.closed, best.base
        machine.current.name = generations.member_name(machine.name)
        machine.last_started = max(machine.last_started, step.generation.number)
        machine.serves = step.generation.number
        machine.caught_up_at = self.now + machine.slow
        self.run(machine)

    def do_CatchUp(self, machine: Machine, hook: Hook, step: steps.CatchUp) -> None:  # noqa: N802
        data = machine.current
        found = self.quorum(machine, data.token) if data is not None else None
        if data is None or found is None or self.now < machine.caught_up_at:
            return
        best, _ = found
        record = next((r for r in best.members if r.id == data.member), None)
        if record is None or not record.learner or not machine.running:
            return
        data.index, data.members, data.content = best.index, best.members, best.content
        self.do_Promote(machine, hook, steps.Promote(data.member))

    def change(self, machine: Machine) -> tuple[str, Data, list[Machine]]:
        token = self.generation.token if self.generation else ""
        found = self.quorum(machine, token)
        if found is None:
            raise Refused("no quorum")
        return token, *found

    def settle(self) -> None:
        if self.now - self.changed_at < 5:
            raise Refused("unhealthy cluster")
        self.changed_at = self.now

    def do_AddLearner(self, machine: Machine, hook: Hook, step: steps.AddLearner) -> None:  # noqa: N802
        token, best, present = self.change(machine)
        if any(r.learner for r in best.members):
            raise Refused("too many learner members in cluster")
        if any(r.url == step.peer_url for r in best.members):
            raise Refused("peer URL exists")
        connected = {m.current.member for m in present if m.current}
        down = any(not r.learner and r.id not in connected for r in best.members)
        if down and self.strict:
            raise Refused("unhealthy cluster")
        self.settle()
        self.ids += 1
        machine.joins.append(self.now)
        self.commit(machine, token, (*best.members, Record(self.ids, "", step.peer_url, True)))

    def do_Promote(self, machine: Machine, hook: Hook, step: steps.Promote) -> None:  # noqa: N802
        token, best, _ = self.change(machine)
        record = next((r for r in best.members if r.id == step.member_id), None)
        if record is None or not record.learner:
            raise Refused("not a learner")
        at = [m for m in self.peers(machine, token) if m.current and m.current.member == record.id]
        if not at or not at[0].current or at[0].current.index < 0.9 * best.index:
            raise Refused("learner is not in sync")
        new = record.changed(learner=False)
        self.commit(machine, token, tuple(new if r is record else r for r in best.members))
        data = at[0].current
        data.index, data.members = self.acked[token], best.members
        for m in self.peers(machine, token):
            if m.current and m.current.index == self.acked[token]:
                data.members = m.current.members if m is not at[0] else data.members
        self.changed_at = self.now

    def do_RemoveMember(  # noqa: N802
        self, machine: Machine, hook: Hook, step: steps.RemoveMember
    ) -> None:
        token, best, present = self.change(machine)
        record = next((r for r in best.members if r.id == step.member_id), None)
        if record is None:
            raise Refused("member not found")
        rest = [r for r in best.members if r is not record and not r.learner]
        active = [m for m in present if m.current and m.current.member != record.id]
        if not record.learner and len(active) < queries.quorum(len(rest)):
            raise Refused("unhealthy cluster")
        owner = next(
            (
                m
                for m in self.machines.values()
                if m.current and m.running and m.current.member == record.id
            ),
            None,
        )
        if (
            owner
            and owner is not machine
            and owner.alive
            and record.started
            and not record.learner
        ):
            raise Violation(f"removed the member of {owner.name}, which is there")
        self.changed_at = self.now
        self.commit(machine, token, tuple(r for r in best.members if r is not record))
        for m in self.peers(machine, token):
            if m.current and m.current.member == record.id:
                m.running, m.failed, m.broken = False, True, "removed"

    def do_UpdateMember(  # noqa: N802
        self, machine: Machine, hook: Hook, step: steps.UpdateMember
    ) -> None:
        token, best, _ = self.change(machine)
        record = next((r for r in best.members if r.id == step.member_id), None)
        if record is None:
            raise Refused("member not found")
        if record.learner:
            raise Violation("update of a learner")
        if any(r is not record and r.url == step.peer_url for r in best.members):
            raise Refused("peer URL exists")
        new = record.changed(url=step.peer_url)
        self.commit(machine, token, tuple(new if r is record else r for r in best.members))
        machine.stale = True

    def do_MoveLeader(self, machine: Machine, hook: Hook, step: steps.MoveLeader) -> None:  # noqa: N802
        token, _, present = self.change(machine)
        if not any(m.current and m.current.member == step.to for m in present):
            raise Refused("the transferee does not answer")
        self.led[token] = step.to

    def do_Open(self, machine: Machine, hook: Hook, step: steps.Open) -> None:  # noqa: N802
        g = hook.generation
        back = g is not None and g.source is generations.Source.PREVIOUS
        if g is None or not (back or g.number in self.confirmed):
            raise Violation("opened to clients before it was confirmed")
        if machine.current is None:
            raise Refused("no data to open")
        if machine.current.token != g.token:
            raise Violation("opened data of another generation")
        machine.current.closed = False
        self.opened.add(g.token)

    def do_Compare(self, machine: Machine, hook: Hook, step: steps.Compare) -> None:  # noqa: N802
        token, best, present = self.change(machine)
        voters = {r.id for r in best.members if not r.learner}
        asked = {m.current.member: m.corrupt for m in present if m.current}
        wrong = {i for i, corrupt in asked.items() if corrupt and i in voters}
        right = {i for i, corrupt in asked.items() if not corrupt and i in voters}
        if len(right) < queries.quorum(len(voters)) or (not wrong and right != voters):
            raise Refused("undecided")
        self.alarms[token] = self.alarms.get(token, set()) - {0} | wrong

    def do_Disarm(self, machine: Machine, hook: Hook, step: steps.Disarm) -> None:  # noqa: N802
        token, best, _ = self.change(machine)
        if step.alarm.member_id in {r.id for r in best.members}:
            raise Violation("disarmed the alarm of a member that is there")
        self.alarms.get(token, set()).discard(step.alarm.member_id)

    def do_Finish(self, machine: Machine, hook: Hook, step: steps.Finish) -> None:  # noqa: N802
        if step.generation.number not in self.confirmed:
            raise Violation("finished before it was confirmed")
        machine.finished = step.generation.number
        if step.generation.skip_backup:
            machine.kept = {}

    def do_ReadFacts(self, machine: Machine, hook: Hook, step: steps.ReadFacts) -> None:  # noqa: N802
        if machine.current is not None:
            data = machine.current
            machine.facts = views.DiskFacts(1, data.index, data.revision)


def _newest(machines: list[Machine]) -> Data:
    best = machines[0].current
    for machine in machines:
        if best is None or (machine.current and machine.current.index > best.index):
            best = machine.current
    assert best is not None
    return best


class Hook:
    """What one hook saw at its start, and what it wants to write."""

    __slots__ = (
        "bags",
        "dying",
        "epoch",
        "generation",
        "lead",
        "leaves",
        "me",
        "names",
        "prepared",
        "proposal",
        "read_at",
        "said_unanswered",
        "turn",
        "unit",
        "view",
        "writes",
    )

    def __init__(self, world: World, unit: str):
        self.read_at = world.now
        self.lead = lead.Lead()
        self.lead.heard(world.ask_lead(unit), world.now)  # before anything is read
        self.generation, self.proposal = world.generation, world.proposal
        self.turn = world.turn
        self.bags = dict(world.bags)
        if world.flaky:
            # Juju's agent hands out the databag of a unit as it was at its last `changed`.
            for name, bag in world.older.items():
                if name in self.bags and world.random.random() < 0.2:
                    self.bags[name] = bag
        self.names: dict[str, bool] = {}  # units by Juju's goal state, and whether they live
        self.writes: dict[str, object] = {}
        self.dying = False  # its unit is being removed
        self.leaves = False  # this hook is its teardown, and no look that the charm asked for
        self.epoch = 0
        self.view: views.View
        self.me = views.Unit(unit)  # what it tells of itself, flushed when it ends
        self.said_unanswered = False
        self.prepared: tuple[str, ...] = ()  # as it saw its disk last
        self.unit = unit


def member_id(url: str, token: str) -> int:
    """As etcd makes it: from URL and token, so a founder founding twice is the same member."""
    return zlib.crc32(f"{url} {token}".encode())
