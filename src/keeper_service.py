"""The keeper as a service of this unit: its files, its systemd unit."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

import host
import sandbox
from backup import destination, orders, refusals, seal
from etcd import files, service

UNIT = "etcd-keeper.service"
ORPHANED = 75
"""The keeper's exit code where its unit is gone: it has nothing left to do."""
_NO_PROGRAM = 203  # systemd's own exit code where a program is gone (systemd.exec)
_GONE = 3  # seconds after which a unit that is still gone is gone
_HOMES = ("/home", "/root", "/run/user")
_BESIDES = 256 << 20  # bytes for everything but the scratch etcd of a proof


def install(charm_dir: pathlib.Path) -> None:
    """Have the service ready to start, so that no later hook waits for systemd to read it.

    Args:
        charm_dir: where the charm is.
    """
    workdir = str(host.DATA_ROOT / "backup")
    host.ensure_service(UNIT, unit_text(charm_dir, orders.Config.memory, workdir))


def ensure(
    charm_dir: pathlib.Path,
    config: orders.Config,
    settings: destination.Settings | None,
    chosen: destination.Settings | None,
    keys: seal.Keys,
) -> bool:
    """Tell this unit's keeper what to do, and have it run; True when anything changed.

    Args:
        charm_dir: where the charm is.
        config: what to tell it; `remote`, `mark`, `keys` and `charm_dir` are filled in here.
        settings: how to reach the remote, None where there is none.
        chosen: that of actions, which are not kept waiting for the check of a changed one.
        keys: the application's, for manifests.
    """
    for path in (orders.CONFIG.parent, orders.STATUS.parent):
        host.ensure_dir(path)
    changed = False
    if settings:
        changed = files.write(orders.REMOTE, settings.to_json(), 0o600)
    else:
        orders.REMOTE.unlink(missing_ok=True)
    if chosen and chosen != settings:
        files.write(orders.CHOSEN, chosen.to_json(), 0o600)
    else:
        orders.CHOSEN.unlink(missing_ok=True)
    if keys:
        files.write(orders.KEYS, keys.to_json(), 0o600)
    config = dataclasses.replace(
        config,
        charm_dir=str(charm_dir),
        keys=str(orders.KEYS) if keys else "",
        remote=str(orders.REMOTE) if settings else "",
        mark=f"{settings.fingerprint} {keys.mark}" if settings else "",
    )
    changed = files.write(orders.CONFIG, config.to_json(), 0o644) or changed
    text = unit_text(charm_dir, config.memory, config.workdir, settings)
    renewed = host.ensure_service(UNIT, text)
    if renewed or not host.service_active(UNIT):
        host.restart_service(UNIT)
    return renewed or changed


def remote() -> destination.Settings | None:
    """The remote that the keeper was told last, None when it was told none."""
    try:
        return destination.Settings.from_json(orders.REMOTE.read_text())
    except (OSError, refusals.RemoteError):
        return None


def unit_text(
    charm_dir: pathlib.Path,
    memory: int,
    workdir: str,
    settings: destination.Settings | None = None,
) -> str:
    """The service's systemd unit.

    Root without capabilities reads what root owns, and no disk of etcd's or of a person.

    Args:
        charm_dir: where the charm is.
        memory: bytes that a proof may take; pages of files that it reads and writes are counted
            by systemd, and taken back by the kernel at the limit.
        workdir: where it works, in the data root; that is not named, because it is renamed in.
        settings: the remote, which may be a folder of the machine, or need a file of it.
    """
    home = charm_dir.parent
    stop = f"systemctl stop --no-block {service.UNIT}"
    clean = f"systemctl start --no-block {host.ORPHANED_UNIT}"
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
ExecStopPost=-/bin/sh -c '{orphaned} || {{ {stop}; {clean}; }}'
Restart=always
RestartSec=5
# systemd looks at no condition before it starts a service anew.
RestartPreventExitStatus={ORPHANED} {_NO_PROGRAM}
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

StateDirectory={orders.STATUS.parent.name}
RuntimeDirectory={host.MEMORY.name}
RuntimeDirectoryPreserve=yes
{_sandbox(workdir, settings)}
[Install]
WantedBy=multi-user.target
"""


def _sandbox(workdir: str, settings: destination.Settings | None) -> str:
    """What it may do: more only where the remote is on this machine, or needs a file of it."""
    folders = settings.folders if settings else ()
    read = settings.files if settings else ()
    able = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]  # to have another user work, and to end it
    if folders or read:
        able.append("CAP_DAC_OVERRIDE" if folders else "CAP_DAC_READ_SEARCH")
    changes = {"CapabilityBoundingSet": " ".join(able)}
    if any(path.startswith(_HOMES) for path in (*folders, *read)):
        changes["ProtectHome"] = "read-only"
    return sandbox.lines([str(pathlib.Path(workdir).parent), *map(_present, folders)], **changes)


def _present(folder: str) -> str:
    """The folder, or what there is of the way to it."""
    path = pathlib.Path(folder)
    while not path.exists() and path.parent != pathlib.Path("/"):
        path = path.parent
    return str(path)
