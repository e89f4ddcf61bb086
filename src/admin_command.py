"""etcd-admin as a command of this unit: its files, and what it reaches by them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
from typing import Any

import host
from etcd import client, errors, service

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
    """

    endpoints: tuple[str, ...]
    quota: int = 0
    member: str = ""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: pathlib.Path = PLACE) -> Place:
        """Read the file.

        Raises:
            errors.EtcdError: the charm has not written it yet.
        """
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
            return cls(
                tuple(raw["endpoints"]), int(raw.get("quota", 0)), str(raw.get("member", ""))
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise errors.EtcdError(
                f"{path} cannot be read: wait until juju status says that etcd is installed, and "
                "run this as root"
            ) from error

    def client(self) -> client.Client:
        """A connection, as the administrator."""
        return client.Client(self.endpoints, admin_tls())


def admin_tls() -> client.TLSFiles:
    """The administrator's certificate that the etcd of this unit believes now."""
    return service.tls_files(service.CLOSED_TLS if service.is_closed() else "client")


def ensure(charm_dir: pathlib.Path, place: Place) -> bool:
    """Give people on the unit the command; answers whether anything changed."""
    command = shlex.join(host.charm_python(charm_dir, "admin"))
    text = f'#!/bin/sh\numask 077\nexec {command} "$@"\n'
    host.ensure_dir(PLACE.parent)
    changed = host.write_file(COMMAND, text, mode=0o755)
    return host.write_file(PLACE, place.to_json(), mode=0o644) or changed
