"""Which unit takes the backups: the one that holds a key in etcd.

A follower where there is one; when it dies, another takes over within seconds.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import errors
from backup import worker
from etcd import election

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from backup import keeper_files
    from cluster import view as views
    from etcd import client as clients
    from etcd import responses

KEY = "/etcd-charm/keeper"
TTL = 15  # seconds after which a dead holder is replaced
_VACANT = 4 * TTL  # seconds without a holder after which the leader takes it as well
_RECONNECT = 3600.0  # seconds after which certificates are read anew


class Holder:
    """The key, as this unit has it or sees it.

    Attributes:
        place: how many others come before this unit where a full etcd gives nobody the key.
    """

    def __init__(self) -> None:
        self._client: clients.Client | None = None
        self._election_client: clients.Client | None = None
        self._election: election.Election | None = None
        self._member = ""
        self._connected = 0.0
        self._vacant = 0.0
        self.place = 0

    def forget_times(self) -> None:
        """The clock was set back: what it noted would be waited for."""
        self._connected = self._vacant = 0.0

    def close(self) -> None:
        """Let go of the key and of the connections."""
        if self._election:
            self._election.resign()
            self._election = None
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections; the key stays."""
        for client in (self._client, self._election_client):
            if client:
                client.close()
        self._client = self._election_client = None

    def connect(self, config: keeper_files.Config, now: float) -> clients.Client:
        """Give the client of the whole cluster; now and then it reads certificates anew."""
        if self._client is None or now - self._connected > _RECONNECT:
            self.disconnect()
            cluster = worker.reach(config)
            self._client, self._election_client = cluster.client(), cluster.client()
            if self._election is None:
                self._election = election.Election(self._election_client, KEY, config.member, TTL)
            # Letting go and holding anew would cost two revisions of the users' keyspace.
            self._election.go_through(self._election_client)
            self._connected, self._member = now, config.member
        return self._client

    def elected(
        self, voters: Sequence[views.Member], here: responses.EndpointStatus, now: float
    ) -> tuple[bool, bool]:
        """Whether to take the backups, and whether etcd is full.

        A full etcd gives no lease, and a backup matters most then. So all voters that take the
        key for vacant take turns, followers first: the first is in time, and the others find that
        nothing is due while it works.
        """
        if self._election:
            self._election.among([m.name for m in voters])
        led = here.leader == here.member_id and len(voters) > 1
        try:
            held = self._campaign(not here.learner and not led, not here.learner, now)
        except errors.NoSpaceError:
            order = sorted(voters, key=lambda m: (m.id == here.leader, m.name))
            self.place = [m.id for m in order].index(here.member_id)
            return True, True
        self.place = 0
        return held, False

    def _campaign(self, suited: bool, able: bool, now: float) -> bool:
        """Hold the key if this is the place for it, or if nobody else takes it."""
        if self._election is None:
            return False
        if suited:
            return self._election.campaign()
        if able and not self.name():
            self._vacant = self._vacant or now
            if now - self._vacant > _VACANT:
                return self._election.campaign()
        else:
            self._vacant = 0.0
            if self.name() == self._member:
                self._election.resign()
            self._election.disown()
        return False

    def usurper(self) -> str:
        """Who held the key and is no member, "" for nobody; told once."""
        if self._election is None or not self._election.usurper:
            return ""
        found, self._election.usurper = self._election.usurper, ""
        return found

    def name(self) -> str:
        """The member that holds the key, "" for none."""
        return self._election.holder() if self._election else ""

    @contextlib.contextmanager
    def holding(self) -> Generator[None]:
        """Keep the key while work takes longer than it lives."""
        done = threading.Event()
        election = self._election

        def hold() -> None:
            while election and not done.wait(TTL / 3):
                with contextlib.suppress(errors.EtcdError):
                    election.campaign()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
