"""One holder among many candidates, elected through etcd."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from etcd import errors

if TYPE_CHECKING:
    from etcd import client


class Election:
    """One holder among many candidates, by a key that lives as long as its holder's lease."""

    def __init__(self, client: client.Client, key: str, name: str, ttl: int = 15) -> None:
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

    def campaign(self) -> bool:
        """Become or stay the holder; True when this candidate holds the key now."""
        if self._lease and not self._client.keep_alive(self._lease):
            self._lease = 0
        found = self._client.get(self._key)
        if found is not None:
            return bool(self._lease) and found.lease == self._lease
        if not self._lease:
            self._lease = self._client.grant(self._ttl)
        if self._client.create(self._key, self._name, self._lease):
            return True
        self.resign()
        return False

    def go_through(self, client: client.Client) -> None:
        """Use another client from now on; what is held stays held."""
        self._client = client

    def resign(self) -> None:
        """Let go of the key, if held."""
        lease, self._lease = self._lease, 0
        if lease:
            with contextlib.suppress(errors.EtcdError):
                self._client.revoke(lease)

    def holder(self) -> str:
        """Who holds the key, "" for nobody."""
        found = self._client.get(self._key)
        return found.value.decode(errors="replace") if found else ""
