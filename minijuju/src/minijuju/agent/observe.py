"""The controller's state as one unit's agent sees it: the input of the resolver."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from minijuju.model import leases, records, relations, resolver, secrets

if TYPE_CHECKING:
    from minijuju.model import store


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def observe(
    state: store.ModelState,
    unit: records.Unit,
    *,
    command: bool = False,
    rebooted: bool = False,
    retry_due: bool = False,
    update_due: bool = False,
) -> tuple[resolver.Remote, float | None]:
    """What decides a unit's next operation, and when time alone may change it (Unix seconds)."""
    application = state.applications[unit.application]
    meta = relations.running(state, unit)
    hooks, later = secrets.due(state, unit) if unit.state.installed else ([], None)
    upgrade = (unit.charm_url, unit.charm_modified_version) != (
        application.charm_url,
        application.charm_modified_version,
    )
    remote = resolver.Remote(
        dying=unit.life != records.ALIVE,
        application_dying=application.life != records.ALIVE,
        leader=leases.leads(state, unit),
        leader_settings=state.behaviour.leader_settings,
        resolved=unit.resolved,
        upgrade=upgrade and unit.state.deployed,
        force_upgrade=application.force_units,
        config_hash=_hash(meta.settings(application.config)),
        trust_hash=_hash(application.trust),
        address_hash=_hash(state.machines[unit.machine].address),
        relations={
            relation.id: _relation(state, relation, unit)
            for relation in state.relations_of(unit.application)
        },
        storage={i.id: i.attachment for i in state.storage_of(unit.name)},
        secrets=hooks,
        task=next(
            (t.id for t in state.tasks if t.receiver == unit.name and t.status == "pending"), ""
        ),
        command=command,
        subordinates=bool(state.subordinates_of(unit.name)),
        rebooted=rebooted,
        retry_due=retry_due,
        update_due=update_due,
    )
    return remote, later


def _relation(
    state: store.ModelState, relation: records.Relation, unit: records.Unit
) -> resolver.RemoteRelation:
    mine, other = relation.end(unit.application), relation.other(unit.application)
    bag = relation.units.get(unit.name)
    host = unit.principal.rsplit("/", 1)[0]
    foreign = relation.scope == "container" and bool(host) and not relation.involves(host)
    return resolver.RemoteRelation(
        id=relation.id,
        endpoint=mine.name,
        remote_app=other.application,
        peer=relation.peer,
        implicit=mine.implicit,
        known=relations.running(state, unit).endpoint(mine.name) is not None and not foreign,
        alive=relation.life == records.ALIVE,
        members=relations.members(state, relation, unit),
        app_version=relation.apps[other.application].version,
        in_scope=bool(bag and bag.in_scope),
        tells_departed=not relation.peer or state.behaviour.peer_departed,
    )
