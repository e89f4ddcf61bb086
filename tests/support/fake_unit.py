"""One unit of the application as the charm has it, beside a peer relation that holds its state.

The unit is the charm's own (`hook.unit.Node`), with folders of the test's; only Juju is not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import errors
from backup import seal
from cluster import view as views
from etcd import data
from hook import config as configs
from hook import unit as units
from relations import network
from tls import store

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Generator

    from cluster import generation as generations

ADDRESS = "198.18.0.1"
NAME = "etcd/0"


@dataclasses.dataclass
class Peers:
    """The `cluster` relation of one unit: what is set is what is read from then on.

    Attributes:
        name: of the unit.
        record: the committed one.
        proposed: the proposed one.
        others: what other units tell.
        told: what this unit told last.
        free: the application's free keys.
        granted: who may restart.
        keys: for the backups' manifests.
        address: of this unit, for peers and clients alike.
        bind: where it listens.
        dying: Juju is removing it.
    """

    name: str = NAME
    record: generations.Generation | None = None
    proposed: generations.Generation | None = None
    others: tuple[views.Unit, ...] = ()
    told: views.Unit | None = None
    free: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    granted: views.Turn = dataclasses.field(default_factory=views.Turn)
    keys: seal.Keys | None = None
    address: str = ADDRESS
    bind: str = ADDRESS
    dying: bool = False
    place: tuple[str, str, str] = ("etcd", "prod", "01234567-89ab")

    def generation(self) -> generations.Generation | None:
        return self.record

    def proposal(self) -> generations.Generation | None:
        return self.proposed

    def set_generation(self, record: generations.Generation) -> bool:
        changed, self.record = record != self.record, record
        return changed

    def set_proposal(self, record: generations.Generation | None) -> bool:
        changed, self.proposed = record != self.proposed, record
        return changed

    def state(self) -> dict[str, str]:
        return dict(self.free)

    def set_state(self, key: str, value: str) -> bool:
        before = dict(self.free)
        self.free.pop(key, None)
        if value:
            self.free[key] = value
        return self.free != before

    def turn(self) -> views.Turn:
        return self.granted

    def set_turn(self, turn: views.Turn) -> bool:
        changed, self.granted = turn != self.granted, turn
        return changed

    def units(self) -> tuple[views.Unit, ...]:
        return (*((self.told,) if self.told else ()), *self.others)

    def me(self) -> views.Unit:
        return self.told or views.Unit(self.name)

    def publish(self, unit: views.Unit) -> bool:
        changed, self.told = unit != self.told, unit
        return changed

    def planned(self) -> int:
        return sum(unit.alive for unit in self.units())

    def look_again(self) -> None:
        """Nothing is kept here from before."""

    def addresses(self) -> network.Addresses:
        return network.Addresses(self.address, self.address, self.bind, self.bind, (), ())

    def ensure_backup_keys(self, known: seal.Keys) -> seal.Keys:
        return known if self.keys is None else self.keys


class Unit(units.Node):
    """A unit whose cluster answers by `online`, or not at all where that is None."""

    online: Any = None

    @contextlib.contextmanager
    def client(self, *, others: bool = False) -> Generator[Any]:
        del others
        if self.online is None:
            raise errors.UnreachableError("nobody answers")
        yield self.online


def made(
    folder: pathlib.Path, peers: Peers | None = None, *, online: Any = None, **changes: Any
) -> Unit:
    """A unit whose files are in a folder.

    Args:
        folder: of the test; nothing is made in it yet.
        peers: its peer relation; by default that of a unit that has heard nothing.
        online: what a connection to the cluster is, None where nobody answers.
        changes: any fields of `Node`.
    """
    relation = peers or Peers()
    plain: dict[str, Any] = {
        "unit": relation.name,
        "root": data.Root(folder / "root", owner=None),
        "peers": relation,
        "settings": configs.Settings(),
        "certificates": store.Store(folder / "tls", owner=None),
        "charm_dir": folder,
        "me": relation.me(),
    }
    found = Unit(**{**plain, **changes})
    found.online = online
    return found
