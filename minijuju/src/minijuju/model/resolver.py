"""What a unit's agent does next: a pure function of what it remembers and what it sees.

`next_operation(local, remote)` follows the order of Juju's resolver (`worker/uniter/resolver.go`):
nothing is queued as an event; every step is the difference between the agent's own memory
(`records.AgentState`) and the controller's present state (`Remote`), so what became moot is never
delivered and what happened twice is delivered once.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from minijuju.model import records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class RemoteRelation:
    """One relation as a unit sees it now."""

    id: int
    endpoint: str
    remote_app: str
    peer: bool = False
    implicit: bool = False
    known: bool = True
    """Whether the revision that the unit runs has the endpoint."""
    alive: bool = True
    members: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Bag version by unit in scope on the other side (for peers: the other units)."""
    app_version: int = 0
    in_scope: bool = False
    tells_departed: bool = True
    """Whether units hear of a unit that is gone; without, they keep it until they restart."""


@dataclasses.dataclass(frozen=True)
class Remote:
    """All that decides a unit's next operation."""

    dying: bool = False
    application_dying: bool = False
    leader: bool = False
    leader_settings: bool = True
    """Whether there is a `leader-settings-changed`."""
    resolved: str = ""
    upgrade: bool = False
    force_upgrade: bool = False
    config_hash: str = ""
    trust_hash: str = ""
    address_hash: str = ""
    relations: Mapping[int, RemoteRelation] = dataclasses.field(default_factory=dict)
    storage: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Attachment (attaching, attached, detaching) by storage id."""
    secrets: Sequence[records.Hook] = ()
    """Secret hooks that are due, in order."""
    task: str = ""
    """The next pending task."""
    command: bool = False
    """Whether a `juju-exec` of the machine waits."""
    subordinates: bool = False
    rebooted: bool = False
    retry_due: bool = False
    update_due: bool = False


@dataclasses.dataclass(frozen=True)
class Operation:
    """The next thing to do.

    `kind`: deploy, upgrade, hook, skip (take a failed hook as done), task, command, enter or leave
    (a relation's scope, without hooks), resign, dead.
    """

    kind: str
    hook: records.Hook | None = None
    task: str = ""
    relation: int | None = None


def next_operation(
    local: records.AgentState, remote: Remote, name: str, shuffle: random.Random | None = None
) -> Operation | None:
    """The next operation of unit `name`, or None when there is nothing to do."""
    order = list(remote.relations.values())
    (shuffle or random).shuffle(order)
    steps = (
        _setup(local, remote),
        _created(local, remote, order),
        _leadership(local, remote),
        _secrets(local, remote),
        _tasks(local, remote),
        _storage(local, remote),
        _pending(local, remote),
        _next(local, remote, order, name),
    )
    for step in steps:
        operation = next(step, None)
        if operation is not None:
            return None if operation is _WAIT else operation
    return None


_WAIT = Operation("wait")


def _hook(name: str) -> Operation:
    return Operation("hook", records.Hook(name))


def _relation_hook(
    relation: RemoteRelation, kind: str, unit: str, departing: str = ""
) -> Operation:
    hook = records.Hook(
        f"{relation.endpoint}-relation-{kind}",
        relation=relation.id,
        remote_unit=unit,
        remote_app=relation.remote_app,
        departing=departing,
    )
    return Operation("hook", hook)


def _ready(local: records.AgentState, remote: Remote) -> bool:
    """Installed, between hooks, and staying."""
    return local.installed and local.hook is None and not remote.dying


def _setup(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    if remote.rebooted and local.hook is None and local.started and not local.stopped:
        yield _hook("start")
    if not local.deployed and not remote.dying:
        yield Operation("deploy")


def _created(
    local: records.AgentState, remote: Remote, order: Sequence[RemoteRelation]
) -> Iterator[Operation]:
    if not _ready(local, remote):
        return
    for relation in order:
        if relation.id in local.relations or not (relation.alive and relation.known):
            continue
        if relation.implicit:
            if not relation.in_scope:
                yield Operation("enter", relation=relation.id)
            continue
        yield _relation_hook(relation, "created", "")


def _leadership(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    if local.leader and not remote.leader:
        yield Operation("resign")
    if not _ready(local, remote):
        return
    if remote.leader and not local.leader:
        yield _hook("leader-elected")
    if remote.leader_settings and not remote.leader and not local.leader_settings_seen:
        yield _hook("leader-settings-changed")


def _secrets(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    if _ready(local, remote):
        for hook in remote.secrets:
            yield Operation("hook", hook)


def _tasks(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    # After a storage hook even before install.
    begun = local.installed or bool(local.storage)
    idle = begun and local.hook is None and not local.removed
    failed = local.hook is not None and local.step == "pending"
    if idle or failed:
        if remote.task:
            yield Operation("task", task=remote.task)
        if remote.command:
            yield Operation("command")


def _storage(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    if local.hook is not None:
        return
    for identity in local.storage:
        if remote.dying or remote.storage.get(identity) == "detaching":
            yield _storage_hook(identity, "detaching")
    if remote.dying:
        return
    for identity, attachment in sorted(remote.storage.items()):
        if attachment == "attached" and identity not in local.storage:
            yield _storage_hook(identity, "attached")
    if not local.installed and set(remote.storage) - set(local.storage):
        yield _WAIT


def _storage_hook(identity: str, kind: str) -> Operation:
    name = identity.rsplit("/", 1)[0]
    return Operation("hook", records.Hook(f"{name}-storage-{kind}", storage=identity))


def _pending(local: records.AgentState, remote: Remote) -> Iterator[Operation]:
    if local.hook is None:
        return
    if local.step == "queued":
        yield Operation("hook", local.hook)
    if remote.upgrade and remote.force_upgrade:
        yield Operation("upgrade")
    if remote.resolved == "no-retry":
        yield Operation("skip", local.hook)
    if remote.resolved == "retry" or remote.retry_due:
        yield Operation("hook", local.hook)
    yield _WAIT


def _next(
    local: records.AgentState, remote: Remote, order: Sequence[RemoteRelation], name: str
) -> Iterator[Operation]:
    if remote.dying:
        yield from _relations(local, remote, order, name)
        if local.started and not local.stopped:
            yield _hook("stop")
        if local.installed and not local.removed:
            yield _hook("remove")
        if not remote.subordinates:
            yield Operation("dead")
        return
    if not local.installed:
        yield _hook("install")
    if remote.upgrade:
        yield Operation("upgrade")
    seen = (local.config_hash, local.trust_hash, local.address_hash)
    if seen != (remote.config_hash, remote.trust_hash, remote.address_hash):
        yield _hook("config-changed")
    yield from _relations(local, remote, order, name)
    if remote.update_due:
        yield _hook("update-status")


def _relations(
    local: records.AgentState, remote: Remote, order: Sequence[RemoteRelation], name: str
) -> Iterator[Operation]:
    for relation in order:
        if relation.in_scope and not relation.alive and relation.id not in local.relations:
            yield Operation("leave", relation=relation.id)
    mine = [(local.relations[each.id], each) for each in order if each.id in local.relations]
    for memory, relation in sorted(mine, key=lambda pair: not pair[0].changed_pending):
        yield from _relation(memory, remote, relation, name)


def _relation(
    mine: records.LocalRelation, remote: Remote, relation: RemoteRelation, name: str
) -> Iterator[Operation]:
    leaving = remote.dying or not relation.alive
    members = {} if leaving else relation.members
    if mine.changed_pending:
        yield _relation_hook(relation, "changed", mine.changed_pending)
    told = leaving or relation.tells_departed
    for unit in sorted(set(mine.members) - set(members)) if told else ():
        own = remote.dying or remote.application_dying
        yield _relation_hook(relation, "departed", unit, departing=name if own else unit)
    if leaving:
        if not relation.peer:
            yield _relation_hook(relation, "broken", "")
        return
    if relation.app_version != mine.app_version:
        yield _relation_hook(relation, "changed", "")
    for unit in sorted(set(members) - set(mine.members)):
        yield _relation_hook(relation, "joined", unit)
    for unit in sorted(members):
        if members[unit] != mine.members[unit]:
            yield _relation_hook(relation, "changed", unit)


_FLAGS = {
    "install": {"installed": True},
    "start": {"started": True, "stopped": False},
    "stop": {"stopped": True},
    "remove": {"removed": True},
    "leader-elected": {"leader": True, "leader_settings_seen": True},
    "leader-settings-changed": {"leader_settings_seen": True},
}
"""What the success of a hook sets."""


def commit(local: records.AgentState, hook: records.Hook, remote: Remote) -> None:
    """Take a hook as done: bring `local` up to what the hook has seen."""
    local.hook, local.step = None, ""
    name = hook.kind
    for flag, value in _FLAGS.get(name, {}).items():
        setattr(local, flag, value)
    if hook.relation is not None:
        _commit_relation(local, hook, remote)
    elif name == "storage-attached":
        local.storage.append(hook.storage)
    elif name == "storage-detaching" and hook.storage in local.storage:
        local.storage.remove(hook.storage)
    elif name == "upgrade-charm":
        local.hook, local.step = records.Hook("config-changed"), "queued"
    elif name == "config-changed":
        local.config_hash, local.trust_hash = remote.config_hash, remote.trust_hash
        local.address_hash = remote.address_hash
        if not local.started and not remote.dying:
            local.hook, local.step = records.Hook("start"), "queued"
    elif hook.secret and hook.secret_revision is not None:
        _commit_secret(local, hook.name, hook.secret, hook.secret_revision)


def _commit_secret(local: records.AgentState, name: str, secret: str, revision: int) -> None:
    if name == "secret-changed":
        local.secrets_seen[secret] = revision
    elif name == "secret-remove":
        told = local.secrets_obsolete.setdefault(secret, [])
        if revision not in told:
            told.append(revision)


def _commit_relation(local: records.AgentState, hook: records.Hook, remote: Remote) -> None:
    assert hook.relation is not None
    seen = remote.relations.get(hook.relation)
    kind = hook.kind.removeprefix("relation-")
    if kind == "created":
        local.relations[hook.relation] = records.LocalRelation()
        return
    mine = local.relations.get(hook.relation)
    if mine is None:
        return
    if kind == "broken":
        del local.relations[hook.relation]
    elif kind == "departed":
        mine.members.pop(hook.remote_unit, None)
        mine.changed_pending = ""
    elif kind == "joined":
        mine.members[hook.remote_unit] = seen.members.get(hook.remote_unit, 0) if seen else 0
        mine.changed_pending = hook.remote_unit
    elif hook.remote_unit:
        mine.changed_pending = ""
        if seen and hook.remote_unit in seen.members:
            mine.members[hook.remote_unit] = seen.members[hook.remote_unit]
    elif seen:
        mine.app_version = seen.app_version
