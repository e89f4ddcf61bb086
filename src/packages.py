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
    from collections.abc import Callable

log = logging.getLogger(__name__)


def ensure(
    charm: ops.CharmBase,
    event: ops.EventBase,
    resource: Callable[[str], pathlib.Path | None],
) -> None:
    """Install what this event asks for; what cannot be installed is said until it can.

    A machine of our own is used by nobody else while the packages go in beside the hooks. Where
    other units are, Juju lets one of them work at a time, and this one keeps to it.

    Args:
        charm: the charm.
        event: what has brought this hook.
        resource: fetches an attached resource, None for an empty one.
    """
    if isinstance(event, ops.InstallEvent):
        charm.unit.status = ops.MaintenanceStatus("Installing etcd")
        if _alone(charm):
            host.begin_install(resource("etcd"), charm.charm_dir)
        else:
            host.install(resource("etcd"))
        host.ensure_wakes(charm.unit.name, charm.charm_dir)
        keeper_service.install(charm.charm_dir)
        return
    host.await_install()
    if isinstance(event, ops.UpgradeCharmEvent) or host.install_problem():
        charm.unit.status = ops.MaintenanceStatus("Installing etcd")
        if not host.install(resource("etcd")):
            return
        host.ensure_wakes(charm.unit.name, charm.charm_dir)
        keeper_service.install(charm.charm_dir)
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


def _alone(charm: ops.CharmBase) -> bool:
    """Whether no other unit's agent is on this machine."""
    return len(list(charm.charm_dir.parent.parent.glob("unit-*"))) <= 1
