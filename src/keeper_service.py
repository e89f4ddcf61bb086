"""The keeper as a service of this unit: its files, its systemd unit."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

import host
from backup import destination, orders, refusals
from etcd import files, service

if TYPE_CHECKING:
    import pathlib

UNIT = "etcd-keeper.service"
_GONE = 3  # seconds after which a unit that is still gone is gone
_BESIDES = 256 << 20  # bytes for everything but the scratch etcd of a proof


def install(charm_dir: pathlib.Path) -> None:
    """Have the service ready to start, so that no later hook waits for systemd to read it.

    Args:
        charm_dir: where the charm is.
    """
    host.ensure_service(UNIT, unit_text(charm_dir, orders.Config.memory))


def ensure(
    charm_dir: pathlib.Path,
    config: orders.Config,
    settings: destination.Settings | None,
    chosen: destination.Settings | None,
) -> bool:
    """Tell this unit's keeper what to do, and have it run; True when anything changed.

    Args:
        charm_dir: where the charm is.
        config: what to tell it; `remote`, `mark` and `charm_dir` are filled in here.
        settings: how to reach the remote, None where there is none.
        chosen: that of actions, which are not kept waiting for the check of a changed one.
    """
    for path in (orders.CONFIG.parent, orders.STATUS.parent):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    changed = False
    if settings:
        changed = files.write(orders.REMOTE, settings.to_json(), 0o600)
    else:
        orders.REMOTE.unlink(missing_ok=True)
    if chosen and chosen != settings:
        files.write(orders.CHOSEN, chosen.to_json(), 0o600)
    else:
        orders.CHOSEN.unlink(missing_ok=True)
    config = dataclasses.replace(
        config,
        charm_dir=str(charm_dir),
        remote=str(orders.REMOTE) if settings else "",
        mark=settings.fingerprint if settings else "",
    )
    changed = files.write(orders.CONFIG, config.to_json(), 0o644) or changed
    changed = host.ensure_service(UNIT, unit_text(charm_dir, config.memory)) or changed
    if not host.service_active(UNIT):
        host.restart_service(UNIT)
    return changed


def remote() -> destination.Settings | None:
    """The remote that the keeper was told last, None when it was told none."""
    try:
        return destination.Settings.from_json(orders.REMOTE.read_text())
    except (OSError, refusals.RemoteError):
        return None


def unit_text(charm_dir: pathlib.Path, memory: int) -> str:
    """The service's systemd unit.

    Args:
        charm_dir: where the charm is.
        memory: bytes that a proof may take; pages of files that it reads and writes are counted
            by systemd, and taken back by the kernel at the limit.
    """
    home = charm_dir.parent
    orphaned = f"test -e {home} || {{ sleep {_GONE}; test -e {home}; }}"
    return f"""# Written by the charm; changes made here are lost.
[Unit]
Description=etcd-keeper, backups of etcd on schedule
After=network-online.target etcd.service
Wants=network-online.target
ConditionPathExists={orders.CONFIG}
ConditionPathExists={charm_dir}/src/keeper.py

[Service]
ExecStart={shlex.join(host.charm_python(charm_dir, "keeper"))}
# However the keeper ends: where its unit is gone, nobody is left to stop etcd.
ExecStopPost=-/bin/sh -c '{orphaned} || systemctl stop --no-block {service.UNIT}'
Restart=always
RestartSec=5
TimeoutStopSec=20
UMask=0077
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
IOWeight=20
MemoryMax={memory + _BESIDES}
TasksMax=256
OOMScoreAdjust=300
NoNewPrivileges=true
ProtectControlGroups=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictRealtime=true

[Install]
WantedBy=multi-user.target
"""
