"""Watchers that come back as those of clientv3 do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from proof import records
from proof.traffic import clients, operations, wire

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS_EVERY = 1.0
"""Seconds between two questions for the watch's progress."""
MOVES_EVERY = 20.0
"""Seconds that a watcher with all endpoints stays at one member."""
PAUSE = 0.5
"""Seconds before a watcher connects again."""


class Watcher:
    """One watch on a prefix, on the next member whenever its stream ends.

    Args:
        name: unique in the run.
        prefix: of the keys.
        peers: whom it may ask, as of now.
        pinned: the unit whose member alone it asks, "" for all: then it moves by itself, too.
        credentials: its certificate.
        sink: takes each message.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        peers: Callable[[], tuple[clients.Peer, ...]],
        pinned: str,
        credentials: wire.Credentials,
        sink: clients.Sink,
    ) -> None:
        self.name = name
        self.reached = 0
        self.alive = False
        self._prefix = prefix
        self._peers = peers
        self._pinned = pinned
        self._sink = sink
        self._connections = clients.Connections(credentials)
        self._connection = 0
        self._next = 0
        self._stays = False

    def run(self, stop: threading.Event) -> None:
        """Watch until told to stop."""
        while not stop.is_set():
            peer = self._connections.next(self._peers())
            self._stream(peer, stop)
            self.alive = False
            stop.wait(PAUSE)
        self._connections.close()

    def stay(self) -> None:
        """Move no more by itself: the run is about to end."""
        self._stays = True

    def _stream(self, peer: clients.Peer, stop: threading.Event) -> None:
        """One stream, from what was seen last, until it ends."""
        self._connection += 1
        over = threading.Event()
        connection = self._connections.to(peer.endpoint)
        call = connection.watch(self._prefix, self._next, over, PROGRESS_EVERY)
        threading.Thread(target=self._ends, args=(call, stop, over), daemon=True).start()
        asked, said = self._next, ""
        try:
            for raw in call:
                self._take(raw, asked, peer)
                if raw.canceled:
                    if raw.compact_revision:
                        self._list(peer)
                    return
        except grpc.RpcError as error:
            said = wire.failed(error).text
            if error.code() is not grpc.StatusCode.CANCELLED:
                self._connections.avoid(peer.endpoint)
        finally:
            over.set()
            call.cancel()
        self._sink(self._message(asked, peer, broken=True, reason=said))

    def _ends(self, call: Any, stop: threading.Event, over: threading.Event) -> None:
        """End the stream when the run is over, or when it is time to move on."""
        until = time.monotonic() + MOVES_EVERY
        while not over.wait(0.2):
            moves = not self._pinned and not self._stays and time.monotonic() > until
            if stop.is_set() or moves:
                call.cancel()
                return

    def _take(self, raw: Any, asked: int, peer: clients.Peer) -> None:
        head = wire.header(raw.header)
        events = tuple(wire.event(each) for each in raw.events)
        progress = not (raw.created or raw.canceled or events)
        self._sink(
            self._message(
                asked,
                peer,
                header=head,
                created=raw.created,
                canceled=raw.canceled,
                compact_revision=raw.compact_revision,
                reason=raw.cancel_reason,
                progress=progress,
                events=events,
            )
        )
        self.alive = not raw.canceled
        self._connections.praise(peer.endpoint)
        if events:
            self._reach(events[-1].kv.mod_revision)
        elif progress or (raw.created and not asked):
            self._reach(head.revision)

    def _reach(self, revision: int) -> None:
        self.reached = revision
        self._next = max(self._next, revision + 1)

    def _list(self, peer: clients.Peer) -> None:
        """Its events are compacted: read all, and go on from there."""
        asked = records.Operation(
            client=self.name,
            kind=records.Kind.LIST,
            invoked=time.monotonic(),
            key=self._prefix,
            pinned=self._pinned,
            endpoint=peer.endpoint,
        )
        try:
            found = operations.carry_out(self._connections.to(peer.endpoint), asked, 3.0)
        except wire.Failed as error:
            self._sink(operations.undone(asked, time.monotonic(), error))
            return
        over = operations.done(asked, time.monotonic(), found)
        self._sink(over)
        if over.header is not None:
            self._next = over.header.revision + 1
            self.reached = over.header.revision

    def _message(self, asked: int, peer: clients.Peer, **found: Any) -> records.WatchResponse:
        return records.WatchResponse(
            watcher=self.name,
            prefix=self._prefix,
            connection=self._connection,
            asked=asked,
            at=time.monotonic(),
            pinned=self._pinned,
            endpoint=peer.endpoint,
            **found,
        )
