"""A charm with our endpoints and no behaviour, to try the relations on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

from relations import juju_units

if TYPE_CHECKING:
    from collections.abc import Iterator

META = {
    "name": "etcd",
    "peers": {"cluster": {"interface": "etcd-cluster"}},
    "requires": {"certificates": {"interface": "tls-certificates"}},
    "provides": {"db": {"interface": "etcd"}, "cos-agent": {"interface": "cos_agent"}},
}


class Charm(ops.CharmBase):
    pass


class Juju:
    """One unit, its state, and what `goal-state` answers."""

    def __init__(self) -> None:
        self.context = testing.Context(Charm, meta=META, app_name="etcd", unit_id=0)
        self.goals = {"etcd/0": "active"}
        self.ahead: dict[str, dict[str, str]] = {}  # bags of units that have not joined here
        self.out: testing.State | None = None

    @contextlib.contextmanager
    def hook(self, state: testing.State) -> Iterator[Charm]:
        with self.context(self.context.on.update_status(), state) as manager:
            yield manager.charm
            self.out = manager.run()

    def bag(self, relation: testing.RelationBase, kind: str = "local_unit_data") -> dict[str, Any]:
        assert self.out is not None
        found = dict(getattr(self.out.get_relation(relation.id), kind))
        for key in ("egress-subnets", "ingress-address", "private-address"):
            found.pop(key, None)
        return found


@pytest.fixture
def juju(monkeypatch: pytest.MonkeyPatch) -> Juju:
    made = Juju()
    monkeypatch.setattr(juju_units, "goal_state", lambda: made.goals)
    monkeypatch.setattr(juju_units, "told_ahead", lambda _, unit: made.ahead.get(unit, {}))
    return made
