"""All traffic of one run: who asks whom, from the first write to the last answer."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING

from proof import records
from proof.traffic import clients, watchers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proof.traffic import wire

EVERYWHERE = 3
"""Clients with all endpoints."""
RATE, PINNED_RATE = 9.0, 4.0
"""Operations per second of each client with all endpoints, and of each pinned one."""
LONGEST = 1800.0
"""Seconds after which the traffic ends by itself."""
LIMIT = 20_000
"""Operations of one client at most."""
SETTLES = 15.0
"""Seconds that watchers have for the last writes."""


class Traffic:
    """Clients, watchers and probers of one run.

    Three clients and a watcher have all endpoints that ever were. Each member has a client, a
    watcher and a prober of its own, which go on asking when its unit is gone.
    """

    def __init__(self, credentials: wire.Credentials) -> None:
        """Get ready; nothing is sent yet."""
        self.prefix = f"proof-{secrets.token_hex(3)}/"
        self.began = time.monotonic()
        self.records: list[records.Record] = []
        self._credentials = credentials
        self._peers: dict[str, clients.Peer] = {}
        self._stop = threading.Event()
        self._asking = threading.Event()
        self._threads: list[threading.Thread] = []
        self._clients: list[threading.Thread] = []
        self._watchers: list[watchers.Watcher] = []

    def record(self, record: records.Record) -> None:
        """Keep a record, of whoever made it."""
        self.records.append(record)

    def peers(self) -> tuple[clients.Peer, ...]:
        """All members that ever were."""
        return tuple(self._peers.values())

    def start(self, peers: Iterable[clients.Peer]) -> None:
        """Begin to ask these members, and return when the first writes are acknowledged."""
        self.began = time.monotonic()
        self.follow(peers)
        for number in range(EVERYWHERE):
            self._ask(f"all{number}", "", RATE)
        self._watch("watch-all", "")
        self._end_in_time()
        until = time.monotonic() + 30
        while not self.acknowledged(20):
            if time.monotonic() > until:
                raise AssertionError(f"no writes are acknowledged: {self.records[-1:]}")
            time.sleep(0.1)

    def follow(self, peers: Iterable[clients.Peer]) -> None:
        """Ask these members as well; those that were known are asked on."""
        for peer in peers:
            known = self._peers.get(peer.unit)
            if known == peer:
                continue
            self._peers[peer.unit] = peer
            if known is not None:
                continue
            name = peer.unit.rpartition("/")[2]
            self._ask(f"pin{name}", peer.unit, PINNED_RATE)
            self._watch(f"watch{name}", peer.unit)
            self._run(clients.Prober(peer, self._credentials, self.record, 1.0).run, self._stop)

    def acknowledged(self, count: int) -> bool:
        """Whether so many writes were acknowledged."""
        return sum(is_written(record) for record in self.records) >= count

    def quiet_for(self, since: float) -> bool:
        """Whether no write was acknowledged after `since`, monotonic seconds."""
        return not any(is_written(r) and r.answered > since for r in self.records[-400:])

    def stop(self) -> records.History:
        """Write no more, let watchers get what was written, and hand all records over."""
        self._asking.set()
        for thread in self._clients:
            thread.join(15)
        last = self._finally()
        for watcher in self._watchers:
            watcher.stay()
        until = time.monotonic() + SETTLES
        while time.monotonic() < until and not self._caught_up(last):
            time.sleep(0.2)
        ended = time.monotonic()
        self._stop.set()
        for thread in self._threads:
            thread.join(15)
        return self.history(ended)

    def history(self, ended: float) -> records.History:
        """What was recorded up to now."""
        return records.History.of(self.prefix, self.began, ended, list(self.records))

    def _finally(self) -> int:
        """One last write and a full read, by a client with all endpoints; answers its revision."""
        name = "last"
        client = clients.Client(
            name, self.prefix, self.peers, "", self._credentials, self.record, 1.0, 100
        )
        put = {"kind": records.Kind.PUT, "key": f"{self.prefix}k0"}
        for attempt in range(10):
            over = client.do({**put, "value": f"{name}.{attempt}"})
            if over.header is not None:
                client.read_all()
                return over.header.revision
            time.sleep(0.5)
        return 0

    def _caught_up(self, revision: int) -> bool:
        return all(w.reached >= revision for w in self._watchers if w.alive)

    def _end_in_time(self) -> None:
        def end() -> None:
            if not self._stop.wait(LONGEST):
                self._asking.set()
                self._stop.set()

        threading.Thread(target=end, daemon=True).start()

    def _ask(self, name: str, unit: str, rate: float) -> None:
        client = clients.Client(
            name,
            self.prefix,
            self._chosen(unit),
            unit,
            self._credentials,
            self.record,
            rate,
            LIMIT,
        )
        self._clients.append(self._run(client.run, self._asking))

    def _watch(self, name: str, unit: str) -> None:
        watcher = watchers.Watcher(
            name, self.prefix, self._chosen(unit), unit, self._credentials, self.record
        )
        self._watchers.append(watcher)
        self._run(watcher.run, self._stop)

    def _chosen(self, unit: str):
        return (lambda: (self._peers[unit],)) if unit else self.peers

    def _run(self, target, stop: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=target, args=(stop,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread


def is_written(record: records.Record) -> bool:
    """Whether this is a write of a client with all endpoints that was acknowledged."""
    return (
        isinstance(record, records.Operation)
        and record.outcome is records.Outcome.OK
        and not record.pinned
        and record.kind in (records.Kind.PUT, records.Kind.CAS, records.Kind.DELETE)
        and record.succeeded
    )
