"""Use an etcd cluster from another charm, by the interface `etcd`.

In `metadata.yaml`:

    requires:
      etcd:
        interface: etcd

In the charm, in whichever hook it settles its workload:

    from charms.etcd.v0 import etcd

    cluster = etcd.EtcdRequirer(self, "etcd")
    if cluster.write(pathlib.Path("/etc/my-app/etcd")):
        restart_my_app()
    credentials = cluster.credentials()   # None until the cluster is ready

It works with any provider of the interface: this charm, and the classic etcd charm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib

    import ops

LIBID = "0f08006877854638a6e873735b0bda94"
LIBAPI = 0
LIBPATCH = 1

FILES = ("ca.crt", "client.crt", "client.key")


@dataclasses.dataclass(frozen=True)
class Credentials:
    """All that a client of the cluster needs.

    Attributes:
        endpoints: client URLs, `https://198.18.0.10:2379`.
        client_cert: PEM certificate to show.
        client_key: its PEM key.
        client_ca: PEM of what verifies the servers.
        version: of etcd, "" when the provider does not say.
    """

    endpoints: tuple[str, ...]
    client_cert: str
    client_key: str = dataclasses.field(repr=False)
    client_ca: str
    version: str = ""

    @property
    def connection_string(self) -> str:
        """The endpoints with commas, as etcdctl and most clients take them."""
        return ",".join(self.endpoints)


class EtcdRequirer:
    """The relation to a cluster; make one wherever it is wanted, it keeps nothing.

    Args:
        charm: the charm.
        endpoint: name of the endpoint with the interface `etcd`.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = "etcd"):
        self._charm = charm
        self._endpoint = endpoint

    @property
    def related(self) -> bool:
        """Whether there is a cluster to wait for."""
        return self._relation is not None

    def credentials(self) -> Credentials | None:
        """What the cluster says, None until it has said all of it."""
        relation = self._relation
        if relation is None:
            return None
        # Every unit of the provider says the same once it is started; any one will do.
        for unit in sorted(relation.units, key=lambda unit: unit.name):
            bag = relation.data[unit]
            endpoints = tuple(filter(None, bag.get("connection_string", "").split(",")))
            pems = [bag.get(key, "") for key in ("client_cert", "client_key", "client_ca")]
            if endpoints and all(pems):
                return Credentials(endpoints, *pems, version=bag.get("version", ""))
        return None

    def write(self, directory: pathlib.Path) -> bool:
        """Keep `ca.crt`, `client.crt` and `client.key` in `directory` as the cluster says.

        Each file is replaced by a rename, the key is readable by its owner only, and what was
        there stays while the cluster says nothing.

        Returns:
            Whether anything changed.
        """
        found = self.credentials()
        if found is None:
            return False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        contents = (found.client_ca, found.client_cert, found.client_key)
        changed = [
            _write(directory / name, content)
            for name, content in zip(FILES, contents, strict=True)
        ]
        return any(changed)

    @property
    def _relation(self) -> ops.Relation | None:
        relations = self._charm.model.relations[self._endpoint]
        return next((each for each in relations if each.active), None)


def _write(path: pathlib.Path, content: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == content:
            return False
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    mode = 0o600 if path.suffix == ".key" else 0o644
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)
    temporary.replace(path)
    return True
