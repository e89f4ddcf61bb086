"""What a unit looked like when it had nothing left to do: a tick that finds it so again is over.

What Juju knows it announces by an event. A tick has only to look at what nobody announces: etcd,
its configuration, the disk and the keeper. All else is looked at again every hour, and when a
certificate is due.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import keeper_files
from etcd import client as clients
from etcd import data
from hook import observe
from machine import files
from tls import certificate, pem_files

if TYPE_CHECKING:
    from cluster import view as views
    from hook import unit as units

FILE = files.MEMORY / "settled.json"
VALID = 3600.0  # seconds until everything is looked at again


@dataclasses.dataclass(frozen=True)
class _Place:
    """How etcd is reached without asking Juju; an `observe.Reach`."""

    root: str
    local_url: str
    urls: list[str]
    tls: list[str]
    ready: bool = True
    storage: None = None

    def endpoints(self) -> tuple[str, ...]:
        return tuple(self.urls)

    def client(self) -> clients.Client:
        return clients.Client(self.urls, pem_files.TLSFiles(*map(pathlib.Path, self.tls)))


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
        list(node.endpoints()),
        [str(path) for path in (tls.ca, tls.cert, tls.key)],
    )
    now = time.time()
    due = certificate.next_due([facts for _, facts in node.certificate_facts()], now)
    noted = {
        "at": now,
        "until": min(now + VALID, due),
        "message": message,
        "place": dataclasses.asdict(place),
        "looks": _looks(*node.seen),
    }
    try:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        files.write(FILE, json.dumps(noted))
    except OSError:
        forget()


def forget() -> None:
    """From here on anything may change."""
    FILE.unlink(missing_ok=True)


def still() -> str:
    """What the status said when all looked as it does now, "" when anything has changed."""
    try:
        noted: dict[str, Any] = json.loads(FILE.read_text())
        place = _Place(**noted["place"])
        now = time.time()
        if not noted["at"] <= now < noted["until"] or keeper_files.Status.read().trouble(now):
            return ""
        etcd = observe.look(place)
        disk = data.Root(pathlib.Path(place.root)).disk()
        return str(noted["message"]) if _looks(etcd, disk) == noted["looks"] else ""
    except (OSError, ValueError, KeyError, TypeError, errors.EtcdError):
        return ""


def _looks(etcd: views.Etcd, disk: views.Disk) -> str:
    """All that tells two states apart: everything but what each write moves on."""
    members = tuple(dataclasses.replace(m, raft_index=0) for m in etcd.members or ())
    return repr(
        (dataclasses.replace(etcd, members=members), dataclasses.replace(disk, finished=0))
    )
