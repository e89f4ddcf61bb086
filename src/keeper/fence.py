"""Who runs data of an older generation stops, as soon as anything it can reach serves a newer one.

A unit that is removed by force may leave its machine, its etcd and this keeper behind, and no hook
comes there any more. So the keeper itself looks: while a member of its cluster does not take part,
it asks every peer that it ever knew which generation that serves (`tls.served`). It also stops
etcd when the unit is gone from the machine. Nothing is deleted: a file beside the data keeps
systemd from starting it again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import pathlib
import time
from typing import TYPE_CHECKING

import errors
from backup import keeper_files
from etcd import config as etcd_config
from etcd import connected, data, service
from etcd import stamp as stamps
from machine import codec, systemd
from tls import served

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping


log = logging.getLogger("etcd-keeper")

FILE = pathlib.Path("/etc/etcd/fence.json")
CALM = 5.0  # seconds between two looks while all members take part
ALERT = 2.0  # seconds between two looks while one does not
GONE = 3.0  # seconds after which a unit that is still gone is gone
_ANSWER = 2.0  # seconds that this unit's etcd has for an answer


@dataclasses.dataclass(frozen=True)
class Known:
    """What the charm tells about the members of this cluster and of those before it.

    Attributes:
        home: the directory on the machine that goes with the unit.
        root: the data root.
        members: the other members, as a quorum last told: peer URL to unit.
        former: all others that were ever seen, the newest last.
    """

    home: str
    root: str
    members: dict[str, str]
    former: dict[str, str]

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(_KNOWN.to_object(self), indent=1) + "\n"  # in the order of `former`

    @classmethod
    def read(cls, path: pathlib.Path | None = None) -> Known | None:
        """What the charm told last, None when it told nothing that can be used."""
        try:
            return _KNOWN.read_json((path or FILE).read_text())
        except (OSError, ValueError):
            return None

    @property
    def peers(self) -> dict[str, str]:
        """All of them, peer URL to unit."""
        return {**self.former, **self.members}


_KNOWN = codec.Codec(Known, {"former": codec.Form(count=10_000)})


def place(peers: Mapping[str, str], url: str) -> str:
    """A unit and where it is, in words."""
    return f"{peers[url]} at {url.removeprefix('https://')}"


class Guard:
    """Stops the etcd of this unit when its data must not run any more."""

    def __init__(
        self,
        wake: Callable[[], object],
        known: pathlib.Path = FILE,
        config: pathlib.Path = keeper_files.CONFIG,
        certificate: pathlib.Path | None = None,
        runs: Callable[[], bool] | None = None,
        stop_etcd: Callable[[], object] | None = None,
    ) -> None:
        """Begin with nothing known.

        Args:
            wake: runs the charm.
            known: the charm's file for this.
            config: the charm's file for the keeper.
            certificate: this unit's peer certificate.
            runs: whether etcd is up.
            stop_etcd: stops it, within seconds.
        """
        self._wake = wake
        self._known = known
        self._config = config
        self._certificate = certificate or etcd_config.TLS / "peer"
        self._runs = runs or (lambda: systemd.service_active(service.UNIT))
        self._stop_etcd = stop_etcd or service.end
        self._missed: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop, or until the unit is gone; then tell the keeper to stop."""
        pause = ALERT
        while not stop.wait(pause):
            try:
                pause = self.look()
            except (OSError, ValueError, errors.EtcdError) as error:
                log.warning("whether this generation is the newest cannot be seen: %s", error)
                pause = ALERT
            except Exception:  # a guard that died would guard nothing
                log.exception("unexpected")
                pause = ALERT
            if pause <= 0:
                stop.set()

    def look(self) -> float:
        """Look once; answers seconds until the next look, 0 when there is nothing left to do."""
        known = Known.read(self._known)
        if known is None:
            return CALM
        root = data.Root(pathlib.Path(known.root), owner=None)
        if self._gone(known):
            self._fence(root, self._stamp(root), 0, "")
            return 0.0
        if self._missed is not None:
            return GONE
        if not self._runs():
            return ALERT
        stamp = root.stamp()
        if stamp is None or self._all_take_part(known):
            return CALM
        own = self._own(stamp)
        found = served.ask_all(known.peers, self._certificate)
        newer = {url: other for url, other in found.items() if other.replaces(own)}
        if newer:
            where = max(newer, key=lambda url: newer[url].number)
            self._fence(root, stamp, newer[where].number, where)
            with contextlib.suppress(errors.EtcdError):
                self._wake()
        return ALERT

    def _gone(self, known: Known) -> bool:
        """Whether the unit's own directory was not there in two looks, seconds apart."""
        if pathlib.Path(known.home).is_dir():
            self._missed = None
            return False
        now = time.monotonic()
        if self._missed is None:
            self._missed = now
        return now - self._missed >= GONE

    def _own(self, stamp: stamps.Stamp) -> served.Served:
        """What this unit serves: since a rollback, an older generation's data by a new number."""
        own = served.Served.of(stamp.generation, stamp.token)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads((self._certificate / "facts.json").read_text())
            said = served.Served.read(map(str, facts["uris"]))
            if said.token == own.token and said.number > own.number:
                return said
        return own

    def _all_take_part(self, known: Known) -> bool:
        """Whether this unit's etcd is connected to all other members of its cluster."""
        try:
            config = keeper_files.Config.read(self._config)
            dialled = connected.dialled(config.local, config.tls, _ANSWER)
        except (OSError, ValueError):
            return False
        return len(dialled) >= len(known.members)

    def _fence(self, root: data.Root, stamp: stamps.Stamp | None, number: int, where: str) -> None:
        """Mark the data of `stamp`, so that nothing starts it again, and stop etcd at once."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        try:
            if stamp and not root.fence(stamp.token, stamps.Fence(number, where, now)):
                return  # another generation's data was put in place meanwhile
        except (OSError, ValueError) as error:
            log.warning("the data in %s could not be marked: %s", root.current, error)
        why = f"generation {number} is served at {where}" if where else "this unit is gone"
        log.warning("etcd stops: %s", why)
        self._stop_etcd()

    @staticmethod
    def _stamp(root: data.Root) -> stamps.Stamp | None:
        try:
            return root.stamp()
        except errors.DataError:
            return None
