"""The databags of the peer relation, and who may write the leader's."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from cluster import lead
from relations import juju_units

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import ops


class LeadLostError(Exception):
    """What this hook would write may come after what another leader wrote."""


class PeerBag:
    """The application's bag and this unit's own.

    Args:
        charm: the charm.
        endpoint: name of the peer relation.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str):
        self._charm = charm
        self._endpoint = endpoint
        self._lead = lead.Lead()
        self._recorded = False
        self.read_at = time.monotonic()
        """When Juju's records were read, or before that; seconds of the monotonic clock."""

    def leads(self) -> bool:
        """Whether this unit is Juju's leader, and has been since this hook read its records.

        One that did not lead in between may have read records that another has replaced.
        """
        now = time.monotonic()
        known = self._lead.known(now)
        if known is not None:
            return known
        first = not self._lead.heard_of
        said = self._charm.unit.is_leader() if first else juju_units.is_leader()
        return self._lead.heard(said, now)

    @contextlib.contextmanager
    def leading(self) -> Generator[None]:
        """Ask for the lead all the while: what takes long may end in a record of its leader."""
        done = threading.Event()

        def ask() -> None:
            while not done.wait(lead.HELD / 3):
                self.leads()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def check_lead(self) -> None:
        """Fail the hook where its records may come after another leader's: Juju runs it again.

        What Juju gets from a hook that failed is nothing.

        Raises:
            LeadLostError: this unit wrote records, and may not have led all the while.
        """
        if self._recorded and not self.leads():
            raise LeadLostError(
                "another unit may have led while this hook stood still: its records are not "
                "written, and Juju runs it again"
            )

    @property
    def _relation(self) -> ops.Relation | None:
        return self._charm.model.get_relation(self._endpoint)

    def _app_bag(self) -> Mapping[str, str]:
        relation = self._relation
        if relation is None:
            return {}
        if not self._lead.heard_of:
            self.leads()  # before it is read
            self.read_at = time.monotonic()
        return relation.data[self._charm.app]

    def _unit_bag(self) -> Mapping[str, str]:
        relation = self._relation
        return relation.data[self._charm.unit] if relation else {}

    def _set_app(self, key: str, value: str) -> bool:
        relation = self._relation
        return relation is not None and _set(relation.data[self._charm.app], key, value)

    def _set_record(self, key: str, value: str) -> bool:
        written = self._set_app(key, value)
        self._recorded = self._recorded or written
        return written

    def _set_unit(self, key: str, value: str) -> bool:
        relation = self._relation
        return relation is not None and _set(relation.data[self._charm.unit], key, value)


def _set(bag: ops.RelationDataContent, key: str, value: str) -> bool:
    if bag.get(key, "") == value:
        return False
    bag[key] = value
    return True
