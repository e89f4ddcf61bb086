"""How things end: units, applications, machines; with and without an agent to help.

Everything here changes records inside a transaction. Agents see that they are dying and tear
themselves down; `force_out` is what the controller does for a unit whose agent does not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from minijuju.model import leases, records, relations, storage

if TYPE_CHECKING:
    from minijuju.model import store


def destroy_unit(
    state: store.ModelState,
    unit: records.Unit,
    *,
    force: bool = False,
    no_wait: bool = False,
    destroy_storage: bool = False,
) -> None:
    """Set a unit dying; its subordinates die with it."""
    unit.destroy_storage = unit.destroy_storage or destroy_storage
    if force:
        at = time.time() + (0 if no_wait else state.behaviour.force_seconds)
        unit.force_at = at if unit.force_at is None else min(at, unit.force_at)
    for subordinate in state.subordinates_of(unit.name):
        destroy_unit(state, subordinate, force=force, no_wait=no_wait)
    if unit.life == records.ALIVE:
        unit.life = records.DYING
    if not unit.state.deployed and unit.agent.current == "allocating":
        bury(state, unit)


def destroy_application(
    state: store.ModelState,
    application: records.Application,
    *,
    force: bool = False,
    no_wait: bool = False,
    destroy_storage: bool = False,
) -> None:
    """Set an application dying with its relations and units."""
    application.life = records.DYING
    application.destroy_storage = destroy_storage
    for relation in state.relations_of(application.name):
        if not relation.peer:
            relations.destroy(state, relation)
    for unit in state.units_of(application.name):
        destroy_unit(state, unit, force=force, no_wait=no_wait, destroy_storage=destroy_storage)
    tidy_application(state, application.name)


def bury(state: store.ModelState, unit: records.Unit) -> None:
    """Remove a unit that has ended from scopes, leadership, secrets, storage; then its machine."""
    for relation in state.relations_of(unit.application):
        if unit.name in relation.units:
            relations.leave(state, relation, unit.name)
    for instance in state.storage_of(unit.name):
        storage.released(state, instance)
    for secret in state.secrets:
        secret.consumers.pop(unit.name, None)
        secret.grants = [grant for grant in secret.grants if grant.target != unit.name]
        if secret.owner == unit.name:
            state.secrets.remove(secret.id)
    for task in state.tasks:
        if task.receiver == unit.name and not task.done:
            task.status, task.completed = "cancelled", time.time()
    leases.release(state, unit)
    state.units.remove(unit.name)
    tidy_application(state, unit.application)
    if not unit.principal:
        tidy_machine(state, unit.machine)


def force_out(state: store.ModelState, unit: records.Unit) -> None:
    """End a unit without its agent: scopes, storage and the row go at once."""
    for subordinate in state.subordinates_of(unit.name):
        force_out(state, subordinate)
    bury(state, unit)


def tidy_application(state: store.ModelState, name: str) -> None:
    """Remove a dying application that has neither units nor relations left."""
    application = state.applications.get(name)
    if application is None or application.life == records.ALIVE or state.units_of(name):
        return
    mine = state.relations_of(name)
    if any(not relation.peer for relation in mine):
        return
    for relation in mine:
        state.relations.remove(relation.id)
    for secret in state.secrets:
        secret.grants = [grant for grant in secret.grants if grant.target != name]
        if secret.owner == name:
            state.secrets.remove(secret.id)
    for resource in state.resources:
        if resource.application == name:
            state.resources.remove(f"{name}/{resource.name}")
    state.applications.remove(name)


def tidy_machine(state: store.ModelState, machine: str) -> None:
    """A machine that lost its last unit goes too."""
    record = state.machines.get(machine)
    if record and not state.units_on(machine):
        record.life = records.DEAD


def tidy_relations(state: store.ModelState) -> None:
    """Finish what a removed relation has left waiting: applications without relations."""
    for application in state.applications:
        tidy_application(state, application.name)
