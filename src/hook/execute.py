"""Steps into effects: each one idempotent, so that a hook may die anywhere in it."""

from __future__ import annotations

import dataclasses
import functools
import logging
import pathlib
import shutil
import time
from typing import TYPE_CHECKING

import errors
from cluster import generation as generations
from cluster import steps
from cluster import view as views
from etcd import config as etcd_config
from etcd import service
from etcd import stamp as stamps
from hook import options

if TYPE_CHECKING:
    from hook import unit as units

log = logging.getLogger(__name__)

SYNC_PAUSE = 0.05  # seconds between two attempts to promote
START_WAIT = 20  # seconds that a hook waits for a started etcd to become a member


class Actor:
    """Does what `cluster.plan` asks for on one unit."""

    def __init__(self, node: units.Node):
        self._node = node

    @functools.singledispatchmethod
    def do(self, step: steps.Step) -> None:
        """Carry out one step."""
        raise TypeError(f"no effect for {step!r}")

    @do.register
    def _(self, step: steps.Propose) -> None:
        self._node.peers.set_proposal(step.proposal)
        if step.proposal is None:
            self._node.peers.set_state("withdrawn", step.reason)

    @do.register
    def _(self, step: steps.Commit) -> None:
        proposal = self._node.peers.proposal()
        self._node.peers.set_generation(step.generation)
        if proposal is not None and proposal.token == step.generation.token:
            self._node.peers.set_proposal(None)
            self._node.peers.set_state("withdrawn", "")

    @do.register
    def _(self, step: steps.Prepare) -> None:
        from hook import restore as restores  # costly, and most hooks restore nothing

        proposal = step.proposal
        founder = proposal.founder(self._node.unit)
        if founder is None:
            raise errors.DataError(f"{self._node.unit} is no founder of this proposal")
        try:
            restores.prepare(self._node, proposal, founder)
        except (errors.EtcdError, OSError):
            self._node.root.discard(proposal.token)  # the disk may just be too full for it
            raise
        self._node.root.prepare_done(proposal.token)

    @do.register
    def _(self, step: steps.Discard) -> None:
        self._node.root.discard(step.token)

    @do.register
    def _(self, step: steps.Stop) -> None:
        service.stop(last=step.last)

    @do.register
    def _(self, step: steps.SetAside) -> None:
        service.stop()
        self._node.root.set_aside(step.reason)

    @do.register
    def _(self, step: steps.Adopt) -> None:
        self._begin()
        service.ensure_unit(self._node.root.path)  # a boot in between heeds that it is closed
        self._node.configure(compare=False)
        self._node.root.adopt(step.token)

    @do.register
    def _(self, step: steps.PutBack) -> None:
        self._node.root.put_back(step.token)

    @do.register
    def _(self, step: steps.Found) -> None:
        self._first_start(
            step.generation, etcd_config.Initial.NEW, step.generation.initial_cluster
        )

    @do.register
    def _(self, step: steps.Join) -> None:
        self._first_start(step.generation, etcd_config.Initial.EXISTING, step.initial_cluster)

    @do.register
    def _(self, step: steps.CatchUp) -> None:
        until = time.monotonic() + START_WAIT
        with self._node.client(others=True) as client:
            member = client.members().by_url(step.peer_url)
            if member is None:
                raise errors.NoSuchMemberError(f"no member is at {step.peer_url}")
            while time.monotonic() < until and service.state() is views.Service.RUNNING:
                try:
                    client.promote(member.id)
                    break
                except errors.NotInSyncError:
                    time.sleep(SYNC_PAUSE)
        service.await_active(until - time.monotonic())

    def _first_start(
        self, record: generations.Generation, initial: etcd_config.Initial, initial_cluster: str
    ) -> None:
        self._begin()
        if self._node.root.current.is_dir():
            service.stop()  # one that was refused is started by systemd again and again
        stamp = stamps.Stamp(record.token, record.number, None, self._node.member)
        self._node.root.new_current(stamp, closed=record.closed)
        service.ensure_unit(self._node.root.path)
        self._node.configure(initial=initial, initial_cluster=initial_cluster, token=record.token)
        service.start(wait=START_WAIT if initial is etcd_config.Initial.NEW else 0)

    @do.register
    def _(self, step: steps.Start) -> None:
        self._begin()
        self._node.root.unfence()
        service.ensure_unit(self._node.root.path)
        self._configure(compare=step.compare)
        service.start(wait=START_WAIT)

    def _configure(self, *, compare: bool = True) -> None:
        """Write the configuration; where that cannot be, etcd starts with the one it has."""
        try:
            self._node.configure(compare=compare)
        except (errors.EtcdError, OSError) as error:
            if not etcd_config.CONFIG.exists():
                raise
            log.warning("etcd starts with the configuration it has: %s", error)

    def _begin(self) -> None:
        """Say for ever that this unit has started the committed generation's data once.

        Its peers, and those of earlier generations, read it in the certificate.
        """
        committed = self._node.peers.generation()
        if committed is not None:
            self._node.begin(committed.number)
        self._node.announce()

    @do.register
    def _(self, step: steps.EndTurn) -> None:
        self._node.use_turn(self._node.peers.turn().number)

    @do.register
    def _(self, step: steps.Restart) -> None:
        self._node.restarts_in(self._node.peers.turn().number)
        if self._node.storage is not None:
            service.stop()
            self._node.move()
            service.ensure_unit(self._node.root.path)
        self._configure()
        service.restart(wait=START_WAIT)
        options.judge(self._node, START_WAIT)

    @do.register
    def _(self, step: steps.AddLearner) -> None:
        with self._node.client() as client:
            self._node.notes.joined()
            try:
                client.add_learner([step.peer_url])
            except errors.RefusedError:
                self._node.notes.not_joined()  # another was faster: no failure of this unit
                raise

    @do.register
    def _(self, step: steps.Promote) -> None:
        with self._node.client() as client:
            client.promote(step.member_id)

    @do.register
    def _(self, step: steps.RemoveMember) -> None:
        with self._node.client() as client:
            client.remove(step.member_id)

    @do.register
    def _(self, step: steps.UpdateMember) -> None:
        with self._node.client() as client:
            client.update(step.member_id, [step.peer_url])

    @do.register
    def _(self, step: steps.MoveLeader) -> None:
        with self._node.client() as client:
            client.move_leader(step.to)

    @do.register
    def _(self, step: steps.Grant) -> None:
        self._node.peers.set_turn(views.Turn(step.unit, step.number))

    @do.register
    def _(self, step: steps.Fail) -> None:
        self._node.me = dataclasses.replace(
            self._node.me, failure=views.Failure(step.token, step.reason)
        )

    @do.register
    def _(self, step: steps.ReadFacts) -> None:
        pass  # `observe` reads and publishes them whenever etcd does not run

    @do.register
    def _(self, step: steps.Wake) -> None:
        self._node.wake(step.seconds)

    @do.register
    def _(self, step: steps.Open) -> None:
        self._node.configure(compare=False)
        service.open_to_clients(self._node.root, START_WAIT)

    @do.register
    def _(self, step: steps.Compare) -> None:
        from etcd import corruption

        with self._node.client() as client:
            for member in corruption.compare(client):
                log.warning("%s holds other keys than the majority", member.name)

    @do.register
    def _(self, step: steps.Arm) -> None:
        with self._node.client() as client:
            client.arm(step.alarm)

    @do.register
    def _(self, step: steps.Disarm) -> None:
        with self._node.client() as client:
            client.disarm(step.alarm)

    @do.register
    def _(self, step: steps.Finish) -> None:
        record = step.generation
        for kept in self._node.root.kept():
            if kept.stamp is None or kept.stamp.generation >= record.number:
                continue
            if record.skip_backup:
                self._node.root.drop(kept)
            elif record.keep:
                self._node.root.move(kept, pathlib.Path(record.keep))
        for token in self._node.root.prepared():
            self._node.root.discard(token)
        shutil.rmtree(self._node.fetched, ignore_errors=True)
        self._node.finish(record.number)
