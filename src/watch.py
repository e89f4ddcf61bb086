"""What a unit's own etcd reports against itself between hooks: an alarm, or that nobody leads.

Juju announces neither, and its tick is five minutes apart.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backup import orders
from etcd import client, errors

if TYPE_CHECKING:
    import pathlib
    import threading
    from collections.abc import Callable

_LOOK = 5.0  # seconds between two looks
_ANSWER = 3.0  # seconds that etcd has for an answer


class Watch:
    """Looks at etcd and wakes the charm when two looks in a row find something new.

    One alone may be an election.
    """

    def __init__(
        self, wake: Callable[[orders.Config], None], config: pathlib.Path = orders.CONFIG
    ) -> None:
        """Begin with nothing known.

        Args:
            wake: runs the charm.
            config: the charm's file.
        """
        self._wake = wake
        self._config = config
        self._told: tuple[str, ...] = ()
        self._last: tuple[str, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(_LOOK):
            self.look()

    def look(self) -> None:
        """Look once; an etcd that does not answer is systemd's to tell of."""
        try:
            config = orders.Config.read(self._config)
            found = _reported(config)
        except (ValueError, OSError, errors.EtcdError):
            return
        if found == self._last and found != self._told:
            self._told = found
            with contextlib.suppress(errors.EtcdError):
                self._wake(config)
        self._last = found


def _reported(config: orders.Config) -> tuple[str, ...]:
    with client.Client([config.local], config.tls) as online:
        return tuple(sorted(online.status(config.local, _ANSWER).errors))
