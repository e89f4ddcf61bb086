"""Clients that write all the time and remember every write that etcd acknowledged."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import threading
import time
from typing import TYPE_CHECKING

from etcd import client, errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PREFIX = "load/"


@dataclasses.dataclass
class Load:
    """Several clients that put, create and delete keys of their own until they are stopped.

    Attributes:
        endpoints: client URLs; may be replaced while it runs.
        tls: a client certificate.
        clients: how many clients.
        rate: writes per second of each client at most.
        limit: writes of each client at most, so that it stops by itself.
    """

    endpoints: Sequence[str]
    tls: client.TLSFiles
    clients: int = 3
    rate: float = 40.0
    limit: int = 40_000
    acknowledged: dict[str, str | None] = dataclasses.field(default_factory=dict)
    unknown: set[str] = dataclasses.field(default_factory=set)
    times: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._write, args=(number,), daemon=True)
            for number in range(self.clients)
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

    def longest_gap(self, since: float = 0.0) -> float:
        """Longest time between two acknowledged writes, seconds (monotonic times)."""
        times = sorted(at for at in self.times if at >= since)
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def missing(self, endpoints: Sequence[str] = ()) -> list[str]:
        """Acknowledged writes that the cluster does not have, in words."""
        with client.Client(endpoints or self.endpoints, self.tls, timeout=20) as online:
            held = {kv.key.decode(): kv.value.decode() for kv in online.get_prefix(PREFIX)}
        wrong = []
        for key, value in self.acknowledged.items():
            if key in self.unknown:
                continue
            if held.get(key) != value:
                wrong.append(f"{key}: wrote {value!r}, holds {held.get(key)!r}")
        return wrong

    def _write(self, number: int) -> None:
        endpoints: Sequence[str] = ()
        with contextlib.ExitStack() as stack:
            online = None
            for count in range(self.limit):
                if self._stop.wait(1 / self.rate):
                    return
                if online is None or endpoints != self.endpoints:
                    endpoints = self.endpoints
                    turned = [*endpoints[number % len(endpoints) :], *endpoints]
                    online = stack.enter_context(
                        client.Client(list(dict.fromkeys(turned)), self.tls, timeout=3)
                    )
                self._one(online, f"{PREFIX}{number}/{count % 2000}", f"{count}")

    def _one(self, online: client.Client, key: str, value: str) -> None:
        delete = int(value) % 7 == 6
        try:
            if delete:
                online.delete(key)
            else:
                online.put(key, value)
        except errors.EtcdError:
            with self._lock:
                self.unknown.add(key)
            return
        with self._lock:
            self.acknowledged[key] = None if delete else value
            self.unknown.discard(key)
            self.times.append(time.monotonic())


@contextlib.contextmanager
def running(
    addresses: Iterable[str], folder: pathlib.Path, port: int = 2379, **options: float
) -> Iterator[Load]:
    """A load on these addresses with the credentials in `folder`."""
    where = next(folder.rglob("ca.crt")).parent
    tls = client.TLSFiles(where / "ca.crt", where / "client.crt", where / "client.key")
    load = Load([f"https://{address}:{port}" for address in addresses], tls, **options)
    with load:
        yield load
