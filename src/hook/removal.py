"""What is left of a unit on a machine that stays: its data, and nothing that runs or is secret.

The unit's last hook sees to it. A unit that was removed by force has no such hook: there a service
does it that systemd starts when Juju has taken the unit's directory away. The keeper asks for it,
and so does every boot. That one leaves the data and the record of its owner in place.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import errors
from backup import keeper_files, peer_transfer
from etcd import config as etcd_config
from etcd import install, service
from hook import launcher, owner
from keeper import fence, systemd_unit
from machine import files, juju_exec, processes, sandbox, systemd
from tls import client_archive, store

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

KEPT = pathlib.Path("/var/lib/etcd-removed")
"""Root's own: data of units that were removed from this machine."""
_RUNNING = (systemd_unit.UNIT, juju_exec.WAKE_PATH_UNIT, service.UNIT)
_ENABLED = (*_RUNNING, systemd_unit.ORPHANED_UNIT, systemd_unit.ORPHANED_PATH_UNIT)
_UNITS = (*_ENABLED, juju_exec.FAILED_UNIT, juju_exec.WAKE_UNIT)
_WANTS = systemd.SYSTEM_UNITS / "multi-user.target.wants"
_STOP = 150.0  # seconds: etcd hands leadership on
_INSTALL = 600  # seconds that packages may take to go in
_GONE = 3  # seconds after which a unit that is still gone is gone


def paths() -> tuple[pathlib.Path, ...]:
    """Everything that goes: what is secret, what somebody would run, and what only we read."""
    return (
        store.ROOT,
        etcd_config.CONFIG,
        etcd_config.CLOSED_CONFIG,
        keeper_files.CONFIG,
        keeper_files.REMOTE,
        keeper_files.CHOSEN,
        keeper_files.KEYS,
        fence.FILE,
        launcher.PLACE,
        launcher.COMMAND,
        client_archive.PATH,
        keeper_files.STATUS.parent,
        service.STARTED.parent,
        *(systemd.SYSTEM_UNITS / name for name in _UNITS),
        *(_WANTS / name for name in _ENABLED),  # also where systemd does not obey
    )


def commands() -> Iterator[list[str]]:
    """All of it as commands, each of which may fail where there is nothing to do."""
    # A package that is just going in would start its own etcd once our unit file is gone.
    installs = f"systemctl is-active --quiet {install.INSTALL_UNIT}"
    yield ["timeout", str(_INSTALL), "sh", "-c", f"while {installs}; do sleep 1; done"]
    for unit in _RUNNING:
        yield ["systemctl", "disable", "--now", unit]
    yield ["systemctl", "disable", systemd_unit.ORPHANED_UNIT]
    yield ["systemctl", "disable", "--now", systemd_unit.ORPHANED_PATH_UNIT]
    yield ["systemctl", "stop", peer_transfer.SHARE_UNIT, juju_exec.WAKE_UNIT, "etcd-wake-*.timer"]
    yield ["rm", "-rf", *map(str, paths())]
    # The state of a hook that runs lies there, too.
    yield ["find", str(files.MEMORY), "-mindepth", "1", "!", "-name", "*.db", "-delete"]
    yield [
        "rmdir",
        "--ignore-fail-on-non-empty",
        str(etcd_config.CONFIG.parent),
        str(files.MEMORY),
    ]
    yield ["chmod", "700", str(service.DATA_ROOT)]
    yield ["systemctl", "daemon-reload"]
    yield ["systemctl", "reset-failed", *_UNITS]


def ensure_services(home: pathlib.Path, unit: str) -> bool:
    """Have systemd clean up where this unit is removed and no hook comes; True when that is new.

    Args:
        home: the unit's directory among Juju's agents.
        unit: its name, `etcd/0`.
    """
    changed = systemd.ensure_service(systemd_unit.ORPHANED_UNIT, unit_text(home, unit))
    watch = systemd.ensure_service(systemd_unit.ORPHANED_PATH_UNIT, path_text(home))
    if watch:
        systemd.restart_service(systemd_unit.ORPHANED_PATH_UNIT)
    return changed or watch


def path_text(home: pathlib.Path) -> str:
    """Has systemd look when one of Juju's agents comes or goes, also while no keeper runs."""
    return f"""# Written by the charm; changes made here are lost.
[Unit]
Description=Watch for the removal of a unit of etcd

[Path]
PathChanged={home.parent}

[Install]
WantedBy=multi-user.target
"""


def unit_text(home: pathlib.Path, unit: str) -> str:
    """The service's systemd unit: it does nothing where the machine has another owner by now."""
    # `"unit": "etcd/0"}`, without what systemd and the shell take for their own.
    ours = f"[ ! -e {owner.FILE} ] || grep -q unit....{unit}.}} {owner.FILE}"
    check = f"sleep {_GONE}; [ ! -e {home} ] && {{ {ours}; }}"
    condition = processes.alone(["/bin/sh", "-c", check])
    writable = ("/etc", "/usr/local", "/var/lib", "/run", client_archive.PATH.parent)
    steps = "\n".join(f"ExecStart=-{shlex.join(processes.alone(w))}" for w in commands())
    sandboxed = sandbox.lines(
        map(str, writable), CapabilityBoundingSet="CAP_DAC_OVERRIDE", ProtectHome="read-only"
    )
    return f"""# Written by the charm; changes made here are lost.
[Unit]
Description=Clean up after a unit of etcd that Juju has removed
ConditionPathExists=!{home}
RequiresMountsFor={home}

[Service]
Type=oneshot
ExecCondition={shlex.join(condition)}
{steps}
{sandboxed}
[Install]
WantedBy=multi-user.target
"""


def leave(me: owner.Owner) -> str:
    """Clean up in the unit's last hook; answers where its data is, in a sentence.

    The record goes last: whoever dies in between does it all again.
    """
    install.await_install()
    with contextlib.suppress(errors.ToolError):
        service.end()
    for words in commands():
        _try(words)
    kept = _keep(me)
    files.remove(owner.LOCAL)
    if not kept:
        return "nothing of it is left on the machine"
    return f"its data is kept in {kept}, for root alone"


def _try(words: list[str]) -> None:
    try:
        done = processes.run(words, _STOP)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s: %s", shlex.join(words[:3]), error)
    else:
        log.info("%s: %d %s", shlex.join(words[:3]), done.returncode, done.stderr.strip())


def _keep(me: owner.Owner) -> pathlib.Path | None:
    """Move the data on the machine's own disk aside; answers where it is, None without any."""
    if not owner.has_files(service.DATA_ROOT):
        if not files.is_mount(service.DATA_ROOT):
            files.remove(service.DATA_ROOT)
        return None
    now = datetime.datetime.now(datetime.timezone.utc)
    model = re.sub(r"[^A-Za-z0-9.-]", "-", me.model)
    target = KEPT / f"{now:%Y%m%dT%H%M%SZ}-{me.unit.replace('/', '-')}-{model}"
    files.ensure_dir(KEPT, 0o700)
    try:
        files.write(service.DATA_ROOT / owner.FILE.name, me.to_json(), 0o600)
        files.rename(service.DATA_ROOT, target)
    except OSError as error:  # a file system of its own
        log.warning("the data stays in %s: %s", service.DATA_ROOT, error)
        return service.DATA_ROOT
    target.chmod(0o700)
    return target
