"""One holder among many candidates, elected through etcd."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from etcd import client as clients
    from etcd import responses

log = logging.getLogger(__name__)


class Election:
    """One holder among many candidates, by a key that lives as long as its holder's lease.

    Every client that may write there can write the key. It counts only with a lease and the name
    of a candidate; under this candidate's name, only with this candidate's lease.

    Attributes:
        usurper: what stood in the key when it was last taken from somebody who is no candidate.
    """

    def __init__(self, client: clients.Client, key: str, name: str, ttl: int = 15) -> None:
        """Be a candidate.

        Args:
            client: how to reach etcd.
            key: what is contended for.
            name: this candidate, the value of the key when it holds.
            ttl: seconds after which a silent holder loses it.
        """
        self._client = client
        self._key = key
        self._name = name
        self._ttl = ttl
        self._lease = 0
        self._candidates: frozenset[str] = frozenset({name})
        self.usurper = ""

    def among(self, candidates: Collection[str]) -> None:
        """Tell who may hold the key, this candidate included."""
        self._candidates = frozenset({*candidates, self._name})

    def campaign(self) -> bool:
        """Become or stay the holder; True when this candidate holds the key now."""
        if self._lease and not self._client.keep_alive(self._lease):
            self._lease = 0
        found = self._client.get(self._key)
        if found is not None and self._counts(found):
            return bool(self._lease) and found.lease == self._lease
        if not self._lease:
            self._lease = self._client.grant(self._ttl)
        before = found.mod_revision if found is not None else 0
        if self._client.replace(self._key, self._name, before, self._lease):
            self._note(found)
            return True
        self.resign()
        return False

    def disown(self) -> None:
        """Remove a key that names this candidate without being its own."""
        found = self._client.get(self._key)
        if found is None or _name(found) != self._name or self._counts(found):
            return
        if self._client.withdraw(self._key, found.mod_revision):
            self._note(found)

    def _counts(self, found: responses.KeyValue) -> bool:
        if self._lease and found.lease == self._lease:
            return _name(found) == self._name
        return bool(found.lease) and _name(found) in self._candidates - {self._name}

    def _note(self, found: responses.KeyValue | None) -> None:
        """Tell of a key of somebody who is no candidate; an own one of before is none."""
        if found is None or (found.lease and _name(found) == self._name):
            return
        self.usurper = repr(_name(found)[:40])
        log.warning("a client had written %s to %s", self.usurper, self._key)

    def go_through(self, client: clients.Client) -> None:
        """Use another client from now on; what is held stays held."""
        self._client = client

    def resign(self) -> None:
        """Let go of the key, if held."""
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(errors.EtcdError):
                self._client.revoke(lease)

    def holder(self) -> str:
        """Which candidate holds the key, "" for nobody."""
        found = self._client.get(self._key)
        return _name(found) if found is not None and self._counts(found) else ""


def _name(found: responses.KeyValue) -> str:
    return found.value.decode(errors="replace")
