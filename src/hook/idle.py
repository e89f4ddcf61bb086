"""What a unit looked like when it had nothing left to do: a tick that finds it so again is over.

What Juju knows it announces by an event. A tick has only to look at what nobody announces: etcd,
its configuration, the disk and the keeper. All else is looked at again every hour, and when a
certificate is due.
"""

from __future__ import annotations

import dataclasses
import pathlib
import time
from typing import TYPE_CHECKING

import errors
from backup import keeper_files
from etcd import client as clients
from etcd import data
from hook import observe
from machine import codec, files
from tls import certificate, pem_files

if TYPE_CHECKING:
    from cluster import view as views
    from hook import unit as units

FILE = files.MEMORY / "idle.json"
VALID = 3600.0  # seconds until everything is looked at again


@dataclasses.dataclass(frozen=True)
class _Place:
    """How etcd is reached without asking Juju; an `observe.Reach`."""

    root: str
    local_url: str
    urls: tuple[str, ...]
    tls: tuple[str, ...]
    ready: bool = True
    storage: None = None

    def endpoints(self) -> tuple[str, ...]:
        return self.urls

    def client(self) -> clients.Client:
        return clients.Client(self.urls, pem_files.TLSFiles(*map(pathlib.Path, self.tls)))


@dataclasses.dataclass(frozen=True)
class _Noted:
    """What a hook saw that left nothing to do.

    Attributes:
        at: when, seconds since the epoch.
        until: when all is looked at again.
        message: what the active status says.
        place: how to look.
        looks: what was seen, see `_looks`.
    """

    at: float
    until: float
    message: str
    place: _Place
    looks: str


_NOTED = codec.Codec(_Noted, {"looks": codec.Form(free=True, longest=1 << 20)})


def remember(node: units.Node, message: str) -> None:
    """Note what was seen by a hook that left nothing to do; a full disk notes nothing.

    Args:
        node: this unit.
        message: what its active status says.
    """
    if node.seen is None or node.storage is not None:
        return
    tls = node.tls_now()
    place = _Place(
        str(node.root.path),
        node.local_url,
        node.endpoints(),
        (str(tls.ca), str(tls.cert), str(tls.key)),
    )
    now = time.time()
    due = certificate.next_due([facts for _, facts in node.certificate_facts()], now)
    noted = _Noted(now, min(now + VALID, due), message, place, _looks(*node.seen))
    try:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        files.write(FILE, _NOTED.to_json(noted))
    except OSError:
        forget()


def forget() -> None:
    """From here on anything may change."""
    FILE.unlink(missing_ok=True)


def still() -> str:
    """What the status said when all looked as it does now, "" when anything has changed."""
    try:
        noted = _NOTED.read_json(FILE.read_text())
        place = noted.place
        now = time.time()
        if not noted.at <= now < noted.until or keeper_files.Status.read().trouble(now):
            return ""
        etcd = observe.look(place)
        disk = data.Root(pathlib.Path(place.root)).disk()
        return noted.message if _looks(etcd, disk) == noted.looks else ""
    except (OSError, ValueError, errors.EtcdError):
        return ""


def _looks(etcd: views.Etcd, disk: views.Disk) -> str:
    """All that tells two states apart: everything but what each write moves on."""
    members = tuple(dataclasses.replace(m, raft_index=0) for m in etcd.members or ())
    return repr(
        (dataclasses.replace(etcd, members=members), dataclasses.replace(disk, finished=0))
    )
