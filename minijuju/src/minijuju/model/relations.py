"""Relations as the controller keeps them: matching endpoints, scopes, bags, and who may read them.

All functions work on a `store.ModelState`; those that change something are called inside a
transaction. Rules: Juju 3.6 `apiserver/facades/agent/uniter` and `state/relation*.go`.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from minijuju.model import charm, errors, records, spaces

if TYPE_CHECKING:
    from minijuju.model import store


def meta(state: store.ModelState, application: str) -> charm.Meta:
    """The charm that an application is meant to run."""
    url = state.applications[application].charm_url
    return charm.load(pathlib.Path(state.charms[url].directory))


def running(state: store.ModelState, unit: records.Unit) -> charm.Meta:
    """The charm that a unit runs at present (its application's before the first install)."""
    url = unit.charm_url or state.applications[unit.application].charm_url
    return charm.load(pathlib.Path(state.charms[url].directory))


# -- matching


def integrate(state: store.ModelState, first: str, second: str) -> records.Relation:
    """Relate two `app[:endpoint]` words."""
    ends, scope = match(state, first, second)
    for relation in state.relations:
        if {e.application + ":" + e.name for e in relation.endpoints} == {
            e.application + ":" + e.name for e in ends
        }:
            raise errors.JujuError(
                f'cannot add relation "{" ".join(_text(e) for e in ends)}": '
                f"relation {' '.join(_text(e) for e in ends)} already exists"
            )
    for end in ends:
        _limit(state, end)
    return _add(state, ends, scope)


def _text(end: records.Endpoint) -> str:
    return f"{end.application}:{end.name}"


def _limit(state: store.ModelState, end: records.Endpoint) -> None:
    declared = meta(state, end.application).endpoint(end.name)
    limit = declared.limit if declared else 0
    used = [
        r for r in state.relations_of(end.application) if r.end(end.application).name == end.name
    ]
    if limit and len(used) >= limit:
        raise errors.JujuError(
            f"establishing a new relation for {_text(end)} would exceed its maximum relation "
            f"limit of {limit}"
        )


def match(state: store.ModelState, first: str, second: str) -> tuple[list[records.Endpoint], str]:
    """The two endpoints meant by two words, requirer first, and the scope of their relation."""
    found: list[tuple[records.Endpoint, records.Endpoint, str]] = []
    for one, one_scope in _candidates(state, first):
        for two, two_scope in _candidates(state, second):
            roles = {one.role, two.role}
            if one.interface != two.interface or roles != {"provider", "requirer"}:
                continue
            if one.application == two.application:
                continue
            container = "container" in (one_scope, two_scope)
            found.append((one, two, "container" if container else "global"))
    explicit = [f for f in found if not (f[0].implicit or f[1].implicit)]
    found = explicit or found
    if not found:
        raise errors.JujuError(state.behaviour.no_match)
    if len(found) > 1:
        choices = ", ".join(sorted(f'"{_text(a)} {_text(b)}"' for a, b, _ in found))
        raise errors.JujuError(f'ambiguous relation: "{first} {second}" could refer to {choices}')
    one, two, scope = found[0]
    if scope == "container":
        kinds = {state.applications[e.application].subordinate for e in (one, two)}
        if kinds == {False}:
            raise errors.JujuError(
                f'cannot add relation "{_text(one)} {_text(two)}": container scoped relation '
                "requires at least one subordinate application"
            )
    return ([one, two] if one.role == "requirer" else [two, one]), scope


def _candidates(state: store.ModelState, word: str) -> list[tuple[records.Endpoint, str]]:
    name, _, endpoint = word.partition(":")
    if name not in state.applications:
        raise errors.JujuError(state.behaviour.no_application.format(name, word))
    if state.applications[name].life != records.ALIVE:
        raise errors.JujuError(f'application "{name}" is not alive')
    described = meta(state, name)
    if endpoint:
        declared = described.endpoint(endpoint)
        if declared is None:
            raise errors.JujuError(f'application "{name}" has no "{endpoint}" relation')
        found = [declared]
    else:
        found = [e for e in described.endpoints.values() if e.role != "peer"]
        if "juju-info" not in described.endpoints:
            found.append(described.endpoint("juju-info"))  # type: ignore[arg-type]
    return [
        (
            records.Endpoint(name, e.name, e.interface, e.role, e.name not in described.endpoints),
            e.scope,
        )
        for e in found
    ]


def add_peers(state: store.ModelState, application: str) -> None:
    """Make the peer relations that the charm declares and the application lacks."""
    have = {r.end(application).name for r in state.relations_of(application) if r.peer}
    for declared in meta(state, application).endpoints.values():
        if declared.role == "peer" and declared.name not in have:
            end = records.Endpoint(application, declared.name, declared.interface, "peer")
            _add(state, [end], declared.scope)


def _add(state: store.ModelState, ends: list[records.Endpoint], scope: str) -> records.Relation:
    relation = records.Relation(state.model.next("relation"), ends, scope)
    for end in ends:
        relation.apps[end.application] = records.Bag()
    return state.relations.add(relation.id, relation)


def find(state: store.ModelState, first: str, second: str) -> records.Relation:
    """An existing relation by two `app[:endpoint]` words, or by its id in `first`."""
    if not second:
        relation = state.relations.get(first)
        if relation is None:
            raise errors.JujuError(f'relation "{first}" not found')
        return relation
    found = [r for r in state.relations if not r.peer and _names(r, first) and _names(r, second)]
    if not found:
        raise errors.JujuError(f'relation "{first} {second}" not found')
    if len(found) > 1:
        choices = ", ".join(f'"{r.key}"' for r in found)
        raise errors.JujuError(f'ambiguous relation: "{first} {second}" could refer to {choices}')
    return found[0]


def _names(relation: records.Relation, word: str) -> bool:
    name, _, endpoint = word.partition(":")
    return any(e.application == name and endpoint in ("", e.name) for e in relation.endpoints)


# -- scopes


def together(state: store.ModelState, one: str, two: str) -> bool:
    """Whether one of two units is the other's principal."""
    first, second = state.units.get(one), state.units.get(two)
    return bool(first and second) and (first.principal == two or second.principal == one)


def members(
    state: store.ModelState, relation: records.Relation, unit: records.Unit
) -> dict[str, int]:
    """Bag version of each unit in scope that `unit` is to see."""
    found: dict[str, int] = {}
    for name, bag in relation.units.items():
        if not bag.in_scope or name == unit.name:
            continue
        if not relation.peer and name.rsplit("/", 1)[0] == unit.application:
            continue
        if relation.scope == "container" and not together(state, name, unit.name):
            continue
        found[name] = bag.version
    return found


def enter(
    state: store.ModelState, relation: records.Relation, unit: records.Unit, address: str
) -> None:
    """A unit enters a relation's scope: its bag is set to its addresses and nothing else."""
    bag = relation.units.setdefault(unit.name, records.Bag())
    if bag.in_scope:
        return
    bag.data, bag.in_scope = addresses(state, address), True
    bag.version += 1
    if relation.scope == "container" and not unit.principal:
        other = state.applications[relation.other(unit.application).application]
        have = any(s.application == other.name for s in state.subordinates_of(unit.name))
        if other.subordinate and other.life == records.ALIVE and not have:
            add_subordinate(state, other, unit)


def addresses(state: store.ModelState, address: str) -> dict[str, str]:
    """The keys that the controller itself puts into a unit's bag."""
    known = {"egress-subnets": spaces.egress(address), "ingress-address": address}
    return known | ({"private-address": address} if state.behaviour.private_address else {})


def add_subordinate(
    state: store.ModelState, application: records.Application, principal: records.Unit
) -> records.Unit:
    """A new subordinate unit beside its principal."""
    number = state.model.next(f"unit:{application.name}")
    unit = records.Unit(
        f"{application.name}/{number}",
        application.name,
        number,
        principal.machine,
        principal=principal.name,
    )
    return state.units.add(unit.name, unit)


def leave(state: store.ModelState, relation: records.Relation, unit: str) -> None:
    """A unit leaves a scope; its bag stays readable while the relation exists."""
    bag = relation.units.get(unit)
    if bag:
        bag.in_scope = False
    tidy(state, relation)


def destroy(state: store.ModelState, relation: records.Relation, *, force: bool = False) -> None:
    """Begin a relation's end; it is gone when the last unit has left its scope."""
    relation.life = records.DYING
    if relation.scope == "container":
        for unit in list(state.units):
            if unit.principal and relation.involves(unit.application):
                host = unit.principal.rsplit("/", 1)[0]
                if relation.involves(host) and not _other_bond(state, relation, unit, host):
                    unit.life = records.DYING
    if force:
        for bag in relation.units.values():
            bag.in_scope = False
    tidy(state, relation)


def _other_bond(
    state: store.ModelState, relation: records.Relation, unit: records.Unit, host: str
) -> bool:
    return any(
        r.id != relation.id and r.life == records.ALIVE and r.scope == "container"
        for r in state.relations_of(unit.application)
        if r.involves(host)
    )


def tidy(state: store.ModelState, relation: records.Relation) -> None:
    """Remove a dying relation that nobody is in."""
    if relation.life == records.ALIVE or any(bag.in_scope for bag in relation.units.values()):
        return
    if relation.peer and relation.endpoints[0].application in state.applications:
        application = state.applications[relation.endpoints[0].application]
        if state.units_of(application.name):
            return
    state.relations.remove(relation.id)
    for secret in state.secrets:
        secret.grants = [grant for grant in secret.grants if grant.relation != relation.id]


# -- bags


def write(bag: records.Bag, changes: dict[str, str]) -> bool:
    """Apply changes (an empty value deletes); whether anything really changed."""
    data = dict(bag.data)
    for key, value in changes.items():
        if value == "":
            data.pop(key, None)
        else:
            data[key] = value
    if data == bag.data:
        return False
    if sum(len(k) + len(v) for k, v in data.items()) > 16 * 2**20:
        raise errors.JujuError("relation settings exceed the limit of 16 MiB")
    bag.data = data
    bag.version += 1
    return True


def read(
    state: store.ModelState,
    relation: records.Relation,
    unit: records.Unit,
    target: str,
    *,
    leader: bool,
) -> dict[str, str]:
    """A bag as `unit` may read it; `target` is a unit or an application."""
    mine = unit.application
    if "/" not in target:
        mayread = relation.peer or leader or state.behaviour.own_app_bag
        if target == mine and not mayread:
            raise errors.JujuError("permission denied")
        if target not in relation.apps:
            raise errors.JujuError("permission denied")
        return dict(relation.apps[target].data)
    sibling = target.rsplit("/", 1)[0] == mine and target != unit.name
    bag = relation.units.get(target)
    if (sibling and not relation.peer) or not relation.involves(target.rsplit("/", 1)[0]):
        raise errors.JujuError("permission denied")
    if bag is None:
        raise errors.JujuError(
            f'cannot read settings for unit "{target}" in relation "{relation.key}": '
            f'unit "{target}": settings not found'
        )
    return dict(bag.data)
