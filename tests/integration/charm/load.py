"""Clients that write all the time and remember every write that etcd acknowledged."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import secrets
import threading
import time
from typing import TYPE_CHECKING

import errors
from etcd import client as clients
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cluster import view as views

KEYS = 200
"""Keys of one client at a time: it comes back to each of them with another kind of write."""
SYNC = 2.0
"""Seconds between two looks at the member list, as etcd's own clients take them."""
ANSWER = 3.0
"""Seconds that a client waits for an answer."""


@dataclasses.dataclass(frozen=True, order=True)
class Write:
    """A write that etcd acknowledged.

    Attributes:
        revision: the store's revision that it made.
        key: what was written.
        value: what it became, None when it was deleted.
        at: when it was acknowledged, monotonic seconds.
    """

    revision: int
    key: str
    value: str | None
    at: float


class Load:
    """Several clients that write to keys of their own until they are stopped.

    They put and delete, and do both in transactions that compare the key's revision with the one
    that they left there. Each speaks to one endpoint at a time, so that no write is sent twice,
    turns to the next when that one does not answer, and follows the member list. A key whose
    write got no answer is not used again: the write may still be on its way.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: pem_files.TLSFiles,
        clients: int = 3,
        rate: float = 40.0,
        limit: int = 40_000,
    ) -> None:
        """Get ready to write.

        Args:
            endpoints: client URLs to begin with.
            tls: a client certificate.
            clients: how many clients.
            rate: writes per second of each client at most.
            limit: writes of each client at most, so that it stops by itself.
        """
        self.endpoints = tuple(endpoints)
        self.prefix = f"load-{secrets.token_hex(3)}/"
        self.writes: list[Write] = []
        self.refused: list[str] = []
        self._doubtful: dict[str, str | None] = {}
        self.tls = tls
        self._stop = threading.Event()
        writers = [_Writer(self, number, rate, limit) for number in range(clients)]
        self._threads = [
            threading.Thread(target=writer.run, args=(tls, self._stop), daemon=True)
            for writer in writers
        ]

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write no more; what was sent is answered first."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def times(self) -> list[float]:
        """When writes were acknowledged, monotonic seconds."""
        return [write.at for write in self.writes]

    def longest_gap(self, since: float = 0.0) -> float:
        """Longest time between two acknowledged writes, seconds (monotonic times)."""
        times = sorted(at for at in self.times if at >= since)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def lost(self, revision: int) -> int:
        """How many acknowledged writes are younger than `revision`."""
        return sum(write.revision > revision for write in self.writes)

    def missing(self, endpoints: Sequence[str] = ()) -> list[str]:
        """What the cluster does not hold as it was acknowledged, in words.

        Args:
            endpoints: where to ask; by default the members that were seen last.
        """
        return [*self.refused, *self._differences(self._held(endpoints), None)]

    def survived(self, least: int, endpoints: Sequence[str] = ()) -> int:
        """The revision up to which everything is there, and nothing younger.

        A survivor announces what its store holds; its log may hold more. Answers 0 where what is
        there is no beginning of what was acknowledged that reaches to `least`.
        """
        held = self._held(endpoints)
        younger = sorted(write.revision for write in self.writes if write.revision > least)
        for revision in (least, *younger):
            if not self._differences(held, revision):
                return revision
        return 0

    def _held(self, endpoints: Sequence[str]) -> dict[str, str]:
        with clients.Client(endpoints or self.endpoints, self.tls, timeout=20) as online:
            return {kv.key.decode(): kv.value.decode() for kv in online.get_prefix(self.prefix)}

    def _differences(self, held: dict[str, str], revision: int | None) -> list[str]:
        """Where `held` is not what was acknowledged up to `revision`, None for all, in words."""
        expected: dict[str, str | None] = {}
        for write in sorted(self.writes):
            if revision is None or write.revision <= revision:
                expected[write.key] = write.value
            else:
                expected.setdefault(write.key, None)
        wrong: list[str] = []
        for key, value in expected.items():
            found = held.get(key)
            if found != value and (key not in self._doubtful or found != self._doubtful[key]):
                wrong.append(f"{key}: wrote {value!r}, holds {found!r}")
        return wrong

    def acknowledge(self, write: Write) -> None:
        """Etcd answered: it has this write."""
        self.writes.append(write)

    def doubt(self, key: str, value: str | None) -> None:
        """Etcd did not answer: `key` may have become `value`, or may yet."""
        self._doubtful[key] = value

    def follow(self, members: Iterable[views.Member]) -> None:
        """Take the endpoints from the member list."""
        urls = [url for m in members if not m.learner for url in m.client_urls]
        self.endpoints = tuple(urls) or self.endpoints


class _Writer:
    """One client of a load, with keys of its own."""

    def __init__(self, load: Load, number: int, rate: float, limit: int) -> None:
        self._load = load
        self._number = number
        self._pause = 1 / rate
        self._limit = limit
        self._count = 0
        self._keys: dict[int, str] = {}
        self._revisions: dict[str, int] = {}

    def run(self, tls: pem_files.TLSFiles, stop: threading.Event) -> None:
        """Write through one endpoint after the other until told to stop."""
        turn = self._number
        while self._count < self._limit and not stop.is_set():
            endpoints = self._load.endpoints
            with clients.Client([endpoints[turn % len(endpoints)]], tls, timeout=ANSWER) as online:
                self._use(online, stop)
            turn += 1

    def _use(self, online: clients.Client, stop: threading.Event) -> None:
        """Write through this endpoint until it does not answer, or is a voter's no more."""
        synced = time.monotonic()
        while self._count < self._limit and not stop.wait(self._pause):
            self._count += 1
            if not self._write(online):
                return
            if time.monotonic() > synced + SYNC:
                synced = time.monotonic()
                if not self._sync(online):
                    return

    def _sync(self, online: clients.Client) -> bool:
        try:
            self._load.follow(online.members().members)
        except errors.EtcdError:
            return False
        return online.endpoints[0] in self._load.endpoints

    def _write(self, online: clients.Client) -> bool:
        """One write; whether it was answered."""
        slot, value = self._count % KEYS, f"{self._count}"
        key = self._keys.setdefault(slot, f"{self._load.prefix}{self._number}/{slot}")
        last = self._revisions.get(key, 0)
        kind = (self._count + self._count // KEYS * 5) % 6  # a key meets each kind in turn
        becomes = None if last and kind in (2, 5) else value
        try:
            revision = _send(online, kind, key, becomes, last)
        except errors.EtcdError as error:
            if getattr(error, "sent", True):
                self._load.doubt(key, becomes)
                self._keys[slot] = f"{key}+"
            return False
        if revision:
            self._revisions[key] = revision if becomes else 0
            self._load.acknowledge(Write(revision, key, becomes, time.monotonic()))
        else:
            self._load.refused.append(f"{key}: what revision {last} wrote is not there")
            self._keys[slot] = f"{key}+"
        return True


def _send(online: clients.Client, kind: int, key: str, value: str | None, last: int) -> int:
    """A put, a transaction or a deletion; answers its revision, 0 when etcd held something else.

    Args:
        online: how to reach etcd.
        kind: even for a plain write, odd for one that compares.
        key: what to write.
        value: what it becomes, None to delete it.
        last: the revision that wrote the key last, 0 when there is no such key.
    """
    if value is None:
        return online.withdraw(key, last) if kind % 2 else online.delete(key)
    return online.replace(key, value, last) if kind % 2 else online.put(key, value)


@contextlib.contextmanager
def running(
    addresses: Iterable[str], folder: pathlib.Path, port: int = 2379, **options: float
) -> Iterator[Load]:
    """A load on these addresses with the credentials in `folder`."""
    where = next(folder.rglob("ca.crt")).parent
    tls = pem_files.TLSFiles(where / "ca.crt", where / "client.crt", where / "client.key")
    load = Load([f"https://{address}:{port}" for address in addresses], tls, **options)
    with load:
        yield load
