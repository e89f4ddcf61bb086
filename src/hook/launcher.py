"""etcd-admin as a command of this unit: its files, and what it reaches by them."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from typing import TYPE_CHECKING

import errors
from cluster import view as views
from etcd import client as clients
from etcd import config as etcd_config
from etcd import service
from machine import codec, files, processes

if TYPE_CHECKING:
    from hook import unit as units
    from tls import pem_files

PLACE = pathlib.Path("/etc/etcd/admin.json")
"""Where the charm writes what a person on the unit needs: endpoints and quota."""
COMMAND = pathlib.Path("/usr/local/bin/etcd-admin")
RESTORE = "ETCD_ADMIN_RESTORE"
"""Variable that carries the parameters of a restore, as JSON, to the charm."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The cluster as this unit reaches it.

    Attributes:
        endpoints: client URLs, this unit's first.
        quota: configured quota of the database, bytes.
        member: name of this unit's member.
        units: the units that Juju has, with their names and what tells their members.
    """

    endpoints: tuple[str, ...]
    quota: int = 0
    member: str = ""
    units: tuple[views.Unit, ...] = ()

    @classmethod
    def of(cls, node: units.Node) -> Place:
        """The cluster as this unit reaches it now."""
        units = (
            views.Unit(u.name, peer_url=u.peer_url, member_id=u.member_id)
            for u in node.peers.units()
            if u.alive
        )
        return cls(node.endpoints(), node.settings.quota_bytes, node.member, tuple(units))

    def to_json(self) -> str:
        """The file's text."""
        return _PLACE.to_json(self) + "\n"

    @classmethod
    def read(cls, path: pathlib.Path = PLACE) -> Place:
        """Read the file.

        Raises:
            errors.EtcdError: the charm has not written it yet.
        """
        try:
            return _PLACE.read_json(path.read_text())
        except (OSError, ValueError) as error:
            raise errors.EtcdError(
                f"{path} cannot be read: wait until juju status says that etcd is installed, and "
                "run this as root"
            ) from error

    def client(self) -> clients.Client:
        """A connection, as the administrator."""
        return clients.Client(self.endpoints, admin_tls())


_PLACE = codec.Codec(Place, {"units": codec.Form(sparse=True)})


def admin_tls() -> pem_files.TLSFiles:
    """The administrator's certificate that the etcd of this unit believes now."""
    return etcd_config.tls_files(etcd_config.CLOSED_TLS if service.is_closed() else "client")


def ensure(charm_dir: pathlib.Path, place: Place) -> bool:
    """Give people on the unit the command; answers whether anything changed."""
    command = shlex.join(processes.charm_python(charm_dir, "commands.etcd_admin"))
    text = f'#!/bin/sh\numask 077\nexec {command} "$@"\n'
    files.ensure_dir(PLACE.parent)
    changed = files.write(COMMAND, text, mode=0o755)
    return files.write(PLACE, place.to_json(), mode=0o644) or changed
