"""The packages of a unit: installed beside its first hooks, again when that failed or is new."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import ops

from etcd import install, service
from keeper import systemd_unit
from machine import juju_exec

if TYPE_CHECKING:
    import pathlib

    from hook import owner

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
            install.begin_install(resource(charm.model, "etcd"), charm.charm_dir)
        else:
            install.install(resource(charm.model, "etcd"))
        _install_services(charm)
        return
    if fresh:
        install.owe_install()
    install.await_install()
    if isinstance(event, ops.UpgradeCharmEvent) or install.install_problem():
        charm.unit.status = ops.MaintenanceStatus("Installing etcd")
        if not install.install(resource(charm.model, "etcd")):
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
    return "" if install.installing() else install.install_problem()


def resource(model: ops.Model, name: str) -> pathlib.Path | None:
    """An attached resource; an empty file means none, as charms have it."""
    try:
        path = model.resources.fetch(name)
    except ops.ModelError:
        return None
    return path if path.stat().st_size else None


def remove(me: owner.Owner) -> str:
    """Leave the machine in this unit's last hook; answers with what is left, one sentence."""
    from hook import removal

    told = f"{me.unit} is removed: {removal.leave(me)}"
    log.warning("%s", told)
    return told


def _install_services(charm: ops.CharmBase) -> None:
    from hook import removal  # costly, and most hooks install nothing

    juju_exec.ensure_wakes(charm.unit.name, charm.charm_dir)
    systemd_unit.install(charm.charm_dir)
    removal.ensure_services(charm.charm_dir.parent, charm.unit.name)


def _alone(charm: ops.CharmBase) -> bool:
    """Whether no other unit's agent is on this machine."""
    return len(list(charm.charm_dir.parent.parent.glob("unit-*"))) <= 1
