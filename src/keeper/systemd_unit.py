"""The keeper as a service of this unit: its files, its systemd unit."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex

from backup import keeper_files, rclone_errors, remote_settings, seal
from etcd import service
from machine import files, processes, sandbox, systemd

UNIT = "etcd-keeper.service"
ORPHANED_UNIT = "etcd-orphaned.service"
ORPHANED_PATH_UNIT = "etcd-orphaned.path"
"""Cleans up where the unit is gone from the machine: see `hook.removal`."""
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
    workdir = str(service.DATA_ROOT / "backup")
    systemd.ensure_service(UNIT, unit_text(charm_dir, keeper_files.Config.memory, workdir))


def ensure(
    charm_dir: pathlib.Path,
    config: keeper_files.Config,
    settings: remote_settings.Settings | None,
    chosen: remote_settings.Settings | None,
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
    for path in (keeper_files.CONFIG.parent, keeper_files.STATUS.parent):
        files.ensure_dir(path)
    changed = False
    if settings:
        changed = files.write(keeper_files.REMOTE, settings.to_json(), 0o600)
    else:
        keeper_files.REMOTE.unlink(missing_ok=True)
    if chosen and chosen != settings:
        files.write(keeper_files.CHOSEN, chosen.to_json(), 0o600)
    else:
        keeper_files.CHOSEN.unlink(missing_ok=True)
    if keys:
        files.write(keeper_files.KEYS, keys.to_json(), 0o600)
    config = dataclasses.replace(
        config,
        charm_dir=str(charm_dir),
        keys=str(keeper_files.KEYS) if keys else "",
        remote=str(keeper_files.REMOTE) if settings else "",
        mark=f"{settings.fingerprint} {keys.mark}" if settings else "",
    )
    changed = files.write(keeper_files.CONFIG, config.to_json(), 0o644) or changed
    text = unit_text(charm_dir, config.memory, config.workdir, settings)
    renewed = systemd.ensure_service(UNIT, text)
    if renewed or not systemd.service_active(UNIT):
        systemd.restart_service(UNIT)
    return renewed or changed


def remote() -> remote_settings.Settings | None:
    """The remote that the keeper was told last, None when it was told none."""
    try:
        return remote_settings.Settings.from_json(keeper_files.REMOTE.read_text())
    except (OSError, rclone_errors.RemoteError):
        return None


def unit_text(
    charm_dir: pathlib.Path,
    memory: int,
    workdir: str,
    settings: remote_settings.Settings | None = None,
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
    clean = f"systemctl start --no-block {ORPHANED_UNIT}"
    orphaned = f"test -e {home} || {{ sleep {_GONE}; test -e {home}; }}"
    return f"""# Written by the charm; changes made here are lost.
[Unit]
Description=etcd-keeper, backups of etcd on schedule
After=network-online.target etcd.service
Wants=network-online.target
ConditionPathExists={keeper_files.CONFIG}
ConditionPathExists={charm_dir}/src/keeper/service.py

[Service]
ExecStart={shlex.join(processes.charm_python(charm_dir, "keeper.service"))}
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

StateDirectory={keeper_files.STATUS.parent.name}
RuntimeDirectory={files.MEMORY.name}
RuntimeDirectoryPreserve=yes
{_sandbox(workdir, settings)}
[Install]
WantedBy=multi-user.target
"""


def _sandbox(workdir: str, settings: remote_settings.Settings | None) -> str:
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
