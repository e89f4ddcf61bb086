"""The `db` relation (interface etcd), as the provider.

A consumer reads the databag of an arbitrary unit of ours, so every unit publishes the same
values, all of them or none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import ops


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What a consumer needs: PEM texts, where to connect, and etcd's version.

    Attributes:
        client_cert: certificate to show.
        client_key: its key.
        client_ca: what verifies the servers.
        connection_string: see `connection_string`.
        version: of etcd, `3.5.16`.
    """

    client_cert: str
    client_key: str = dataclasses.field(repr=False)
    client_ca: str
    connection_string: str
    version: str

    def to_databag(self) -> dict[str, str]:
        """The raw keys of the interface.

        Raises:
            ValueError: a value is empty: a consumer must never see a part.
        """
        bag = dataclasses.asdict(self)
        empty = sorted(key for key, value in bag.items() if not value)
        if empty:
            raise ValueError(f"nothing to publish for {', '.join(empty)}")
        return bag


def connection_string(client_urls: Iterable[str]) -> str:
    """`https://198.18.0.10:2379,https://198.18.0.11:2379`: distinct, sorted, the same anywhere."""
    return ",".join(sorted({url.rstrip("/") for url in client_urls if url}))


class Db:
    """Typed access to all relations of the endpoint.

    Args:
        charm: the charm.
        endpoint: name of the endpoint.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = "db"):
        self._charm = charm
        self._endpoint = endpoint

    @property
    def _relations(self) -> list[ops.Relation]:
        return [each for each in self._charm.model.relations[self._endpoint] if each.active]

    @property
    def related(self) -> bool:
        """Whether anyone consumes this cluster."""
        return bool(self._relations)

    def publish(self, credentials: Credentials) -> bool:
        """Tell every consumer, from this unit; answers whether that changed anything.

        Only to be called once this unit's member is started.

        Raises:
            ValueError: a value is empty; nothing is published.
        """
        wanted = credentials.to_databag()
        changed = False
        for relation in self._relations:
            bag = relation.data[self._charm.unit]
            for key, value in wanted.items():
                if bag.get(key) != value:
                    bag[key] = value
                    changed = True
        return changed

    def withdraw(self) -> bool:
        """Take back what this unit published, when its member leaves."""
        changed = False
        for relation in self._relations:
            bag = relation.data[self._charm.unit]
            for field in dataclasses.fields(Credentials):
                if bag.get(field.name):
                    bag[field.name] = ""
                    changed = True
        return changed
