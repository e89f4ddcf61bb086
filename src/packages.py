"""The packages of a unit: installed beside its first hooks, again when that failed or is new."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import ops

import host
import keeper_service
from etcd import service

if TYPE_CHECKING:
    import pathlib

    import owner

log = logging.getLogger(__name__)


def ensure(
    charm: ops.CharmBase,
    event: ops.EventBase,
    fresh: bool = False,
) -> None:
    """Install what this event asks for; what cannot be installed is said until it can.

    A machine of our own is used by nobody else while the packages go in beside the hooks. Where
    other units are, Juju lets one of them work at a time, and this one keeps to it.

    Args:
        charm: the charm.
        event: what has brought this hook.
        fresh: this unit has just got the machine, in a hook later than its first.
    """
    if isinstance(event, ops.InstallEvent):
        charm.unit.status = ops.MaintenanceStatus("Installing etcd")
        if _alone(charm):
            host.begin_install(resource(charm, "etcd"), charm.charm_dir)
        else:
            host.install(resource(charm, "etcd"))
        _install_services(charm)
        return
    if fresh:
        host.owe_install()
    host.await_install()
    if isinstance(event, ops.UpgradeCharmEvent) or host.install_problem():
        charm.unit.status = ops.MaintenanceStatus("Installing etcd")
        if not host.install(resource(charm, "etcd")):
            return
        _install_services(charm)
    version = ".".join(map(str, service.version()))
    charm.unit.set_workload_version(version)
    log.info("etcd is installed, version %s", version)


def wanted(event: ops.EventBase) -> bool:
    """Whether this event is one to install at, or to look whether that went well."""
    if isinstance(event, ops.UpdateStatusEvent):
        return bool(problem())
    return isinstance(event, (ops.InstallEvent, ops.UpgradeCharmEvent, ops.StartEvent))


def problem() -> str:
    """Why etcd could not be installed, "" when it was, or somebody is still at it."""
    return "" if host.installing() else host.install_problem()


def resource(charm: ops.CharmBase, name: str) -> pathlib.Path | None:
    """An attached resource; an empty file means none, as charms have it."""
    try:
        path = charm.model.resources.fetch(name)
    except ops.ModelError:
        return None
    return path if path.stat().st_size else None


def remove(me: owner.Owner) -> ops.StatusBase:
    """Leave the machine in this unit's last hook; the status names what is left."""
    import removal

    told = f"{me.unit} is removed: {removal.leave(me)}"
    log.warning("%s", told)
    return ops.MaintenanceStatus(told)


def _install_services(charm: ops.CharmBase) -> None:
    import removal  # costly, and most hooks install nothing

    host.ensure_wakes(charm.unit.name, charm.charm_dir)
    keeper_service.install(charm.charm_dir)
    removal.install(charm.charm_dir.parent, charm.unit.name)


def _alone(charm: ops.CharmBase) -> bool:
    """Whether no other unit's agent is on this machine."""
    return len(list(charm.charm_dir.parent.parent.glob("unit-*"))) <= 1
