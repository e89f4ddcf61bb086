"""Storage instances: directives, placement, attaching and letting go.

`rootfs`, `tmpfs` and `loop` live in the machine and die with it. Every other pool (`lxd` and
whatever else is named) is a host directory bound into the machine, which outlives its unit.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

from minijuju.model import charm, errors, records, relations

if TYPE_CHECKING:
    import pathlib

    from minijuju.model import store

MACHINE_POOLS = ("rootfs", "tmpfs", "loop")
DEFAULT_POOL = "rootfs"


def parse(directive: str, meta: charm.StorageMeta) -> tuple[str, int, int]:
    """A directive `[pool,][count,][size]` as (pool, count, MiB).

    Who names a pool or a size wants the storage: without a count, one instance at least.
    """
    least = meta.least if meta.multiple else 1
    pool, count, size = DEFAULT_POOL, max(least, 1) if directive else least, meta.size
    for word in filter(None, directive.split(",")):
        if re.fullmatch(r"[0-9]+", word):
            count = int(word)
        elif re.fullmatch(r"[0-9.]+[MGTPE](i?B)?", word):
            size = charm.mebibytes(word)
        elif re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]*", word):
            pool = word
        else:
            raise errors.JujuError(f'cannot parse storage directive "{directive}"')
    return pool, count, size


def check(meta: charm.Meta, directives: dict[str, str]) -> None:
    """Refuse directives for undeclared storage or with a count out of range."""
    for name, directive in directives.items():
        declared = meta.storage.get(name)
        if declared is None:
            raise errors.JujuError(f'charm "{meta.name}" has no store called "{name}"')
        count = parse(directive, declared)[1]
        most = declared.most
        if count < declared.least or (most is not None and count > most):
            raise errors.JujuError(
                f'charm "{meta.name}" store "{name}": {count} instances specified, '
                f"expected {declared.least}{'' if most is None else f' to {most}'}"
            )


def create_all(
    state: store.ModelState,
    unit: records.Unit,
    home: pathlib.Path,
    given: list[records.StorageInstance],
) -> None:
    """Give a new unit what its charm declares, `given` (detached) instances first."""
    meta = relations.meta(state, unit.application)
    directives = state.applications[unit.application].storage
    for instance in given:
        attach(state, unit, instance)
    for name, declared in meta.storage.items():
        pool, count, size = parse(directives.get(name, ""), declared)
        have = sum(1 for instance in given if instance.name == name)
        for _ in range(count - have):
            create(state, unit, name, pool, size, home)


def create(
    state: store.ModelState,
    unit: records.Unit,
    name: str,
    pool: str,
    size: int,
    home: pathlib.Path,
) -> records.StorageInstance:
    """A new instance on its way to a unit."""
    declared = relations.meta(state, unit.application).storage[name]
    number = state.model.next("storage")
    instance = records.StorageInstance(
        id=f"{name}/{number}", name=name, pool=pool, size=size, number=number, kind=declared.kind
    )
    if pool not in MACHINE_POOLS:
        instance.directory = str(home / "storage" / state.uuid / str(number))
    state.storage.add(instance.id, instance)
    _place(state, unit, instance, declared)
    return instance


def _place(
    state: store.ModelState,
    unit: records.Unit,
    instance: records.StorageInstance,
    declared: charm.StorageMeta,
) -> None:
    number = instance.id.rsplit("/", 1)[1]
    if not declared.location:
        place = f"{instance.name}/{number}"
        if state.behaviour.storage_by_uuid:
            place = str(uuid.uuid5(uuid.UUID(state.uuid), instance.id))
        location = f"/var/lib/juju/storage/{place}"
    elif declared.multiple:
        location = f"{declared.location}/{instance.name}/{number}"
    else:
        location = declared.location
    instance.owner, instance.machine, instance.location = unit.name, unit.machine, location
    instance.attachment, instance.since = "attaching", time.time()


def add(
    state: store.ModelState, unit: records.Unit, name: str, directive: str, home: pathlib.Path
) -> list[str]:
    """`add-storage` on a live unit."""
    declared = relations.meta(state, unit.application).storage.get(name)
    if declared is None:
        raise errors.JujuError(f'charm storage "{name}" not found')
    pool, count, size = parse(directive, declared)
    if not directive or not re.search(r"(^|,)[0-9]+(,|$)", directive):
        count = 1
    have = sum(1 for instance in state.storage_of(unit.name) if instance.name == name)
    if declared.most is not None and have + count > declared.most:
        raise errors.JujuError(
            f'cannot add storage to unit {unit.name}: charm "{unit.application}" store "{name}": '
            f"at most {declared.most} instances supported, {have + count} specified"
        )
    inherited = state.applications[unit.application].storage.get(name, "")
    if inherited and not re.search("[a-zA-Z]", directive):
        pool = parse(inherited, declared)[0]
    return [create(state, unit, name, pool, size, home).id for _ in range(count)]


def detached(state: store.ModelState, words: list[str]) -> list[records.StorageInstance]:
    """Instances named for attaching; each must exist and be free."""
    found: list[records.StorageInstance] = []
    for word in words:
        instance = instance_of(state, word)
        if instance.owner:
            raise errors.JujuError(
                f'cannot attach storage: storage {word} is attached to unit "{instance.owner}"'
            )
        if instance.life != records.ALIVE:
            raise errors.JujuError(f"storage {word} is not alive")
        found.append(instance)
    return found


def instance_of(state: store.ModelState, word: str) -> records.StorageInstance:
    """An instance by its id."""
    instance = state.storage.get(word)
    if instance is None:
        raise errors.JujuError(f'storage "{word}" not found')
    return instance


def attach(state: store.ModelState, unit: records.Unit, instance: records.StorageInstance) -> None:
    """Send a detached instance to a unit."""
    declared = relations.meta(state, unit.application).storage.get(instance.name)
    if declared is None:
        raise errors.JujuError(
            f"cannot attach storage {instance.id} to unit {unit.name}: charm has no storage "
            f'"{instance.name}"'
        )
    have = sum(1 for other in state.storage_of(unit.name) if other.name == instance.name)
    if declared.most is not None and have >= declared.most:
        raise errors.JujuError(
            f"cannot attach storage {instance.id} to unit {unit.name}: at most {declared.most} "
            "instances supported"
        )
    _place(state, unit, instance, declared)


def detach(
    state: store.ModelState, instance: records.StorageInstance, *, force: bool = False
) -> None:
    """`detach-storage`."""
    if not instance.owner:
        return
    unit = state.units[instance.owner]
    if not instance.detachable and not state.behaviour.detaches_rootfs:
        raise errors.JujuError(
            f"cannot detach storage {instance.id}: storage is non-detachable (bound to machine "
            f"{instance.machine})"
        )
    declared = relations.meta(state, unit.application).storage.get(instance.name)
    if declared and not force and unit.life == records.ALIVE:
        have = sum(1 for other in state.storage_of(unit.name) if other.name == instance.name)
        if not declared.multiple:
            raise errors.JujuError(
                f"cannot detach storage {instance.id}: cannot detach, storage is singular"
            )
        if have - 1 < declared.least:
            raise errors.JujuError(
                f"cannot detach storage {instance.id}: would leave {have - 1} instances, which is "
                f"less than the minimum of {declared.least}"
            )
    instance.attachment = "detaching"


def remove(
    state: store.ModelState, instance: records.StorageInstance, *, force: bool = False
) -> None:
    """`remove-storage`."""
    if instance.owner and not force:
        raise errors.JujuError(
            f"failed to remove storage {instance.id}: storage is attached to unit "
            f'"{instance.owner}"'
        )
    if instance.owner:
        instance.remove_after_detach = True
        instance.attachment, instance.life = "detaching", records.DYING
        return
    instance.life = records.DEAD


def released(state: store.ModelState, instance: records.StorageInstance) -> None:
    """A unit has let go of an instance: it is kept, or it goes."""
    unit = state.units.get(instance.owner)
    destroy = instance.remove_after_detach or bool(unit and unit.destroy_storage)
    instance.owner = instance.machine = instance.location = instance.attachment = ""
    instance.since = time.time()
    if destroy or not instance.detachable:
        instance.life = records.DEAD


def farewell(state: store.ModelState, unit: records.Unit, *, destroy: bool) -> list[str]:
    """The lines that `remove-unit` prints about a unit's storage."""
    return [
        f"- will {'remove' if destroy or not instance.detachable else 'detach'} storage "
        f"{instance.id}"
        for instance in state.storage_of(unit.name)
    ]
