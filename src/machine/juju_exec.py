"""Waking the charm: by a timer, by a file that systemd watches, and when etcd gives up."""

from __future__ import annotations

import shlex
import shutil
import time
import types
from typing import TYPE_CHECKING

import errors
from machine import files, processes, sandbox, systemd

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

FAILED_UNIT = "etcd-failed.service"
WAKE_UNIT = "etcd-wake.service"
WAKE_PATH_UNIT = "etcd-wake.path"
WAKE = files.MEMORY / "wake"
"""Systemd runs the charm where this file is, and removes it first."""


def wake(seconds: float, unit: str, charm_dir: pathlib.Path) -> None:
    """Run the charm again after `seconds`, as `update-status`, without Juju's tick.

    The latest call counts: it replaces what was scheduled before, not what already runs. Juju's
    own lock keeps it apart from other hooks.

    Args:
        seconds: from now; at once for 0.
        unit: this unit's Juju name, `etcd/0`.
        charm_dir: where the charm's `dispatch` is.

    Raises:
        errors.ToolError: systemd refuses.
    """
    cancel_wake(unit)
    command = processes.alone([*_juju_exec(), unit, wake_script(charm_dir)])
    processes.checked(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--on-active={max(seconds, 0.1):.3f}s",
            "--timer-property=AccuracySec=100ms",
            f"--unit={_wake_name(unit)}-{time.time_ns()}",
            f"--description=Wake the charm of {unit}",
            *command,
        ]
    )


def wake_now() -> None:
    """Have systemd run the charm at once, by a file that it watches: no privilege is needed.

    Raises:
        errors.ToolError: the file cannot be written.
    """
    try:
        WAKE.touch()
    except OSError as error:
        raise errors.ToolError(f"{WAKE} cannot be written: {error.strerror}") from error


def ensure_wakes(unit: str, charm_dir: pathlib.Path) -> bool:
    """Let systemd run the charm when etcd gives up (`OnFailure=`), and for `wake_now`.

    Args:
        unit: this unit's Juju name, `etcd/0`.
        charm_dir: where the charm's `dispatch` is.

    Returns:
        Whether anything of that is new.
    """
    program, *words = processes.alone([*_juju_exec(), unit, wake_script(charm_dir)])
    # systemd expands `%` and `$` in a command line.
    quoted = [shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in words]
    run = f"Type=oneshot\nExecStart={program} {' '.join(quoted)}\n"
    # What it runs is run by Juju's agent; the way there is Juju's to write on.
    juju = ["/var/lib/juju", "/var/log/juju"]
    head = "# Written by the charm; changes made here are lost.\n"
    changed = systemd.ensure_service(
        FAILED_UNIT,
        f"{head}[Unit]\nDescription=Tell the charm of {unit} that etcd gave up\n\n"
        f"[Service]\n{run}{sandbox.lines(juju)}",
    )
    # A file that comes while it runs is met afterwards.
    changed |= systemd.ensure_service(
        WAKE_UNIT,
        f"{head}[Unit]\nDescription=Wake the charm of {unit}\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nExecStartPre=/bin/rm -f {WAKE}\n{run}"
        f"{sandbox.lines([*juju, str(files.MEMORY)])}",
    )
    changed |= systemd.ensure_service(
        WAKE_PATH_UNIT,
        f"{head}[Unit]\nDescription=Watch for what wakes the charm of {unit}\n\n"
        f"[Path]\nPathExists={WAKE}\n\n[Install]\nWantedBy=multi-user.target\n",
    )
    if changed:
        systemd.systemctl("restart", WAKE_PATH_UNIT)
    return changed


def cancel_wake(unit: str) -> None:
    """Forget a wake that is scheduled and has not begun."""
    processes.completed(["systemctl", "stop", f"{_wake_name(unit)}-*.timer"])


def ask(
    unit: str, charm_dir: pathlib.Path, environment: Mapping[str, str], timeout: float = 600.0
) -> str:
    """Run the charm as `update-status`, wait for it and answer what it prints; not from a hook.

    Args:
        unit: this unit's Juju name, `etcd/0`.
        charm_dir: where the charm's `dispatch` is.
        environment: what it finds in its environment besides; no secrets.
        timeout: seconds, those for which another hook runs included.

    Raises:
        errors.ToolError: it could not be run, or failed.
    """
    return processes.checked([*_juju_exec(), unit, wake_script(charm_dir, environment)], timeout)


def wake_script(
    charm_dir: pathlib.Path, environment: Mapping[str, str] = types.MappingProxyType({})
) -> str:
    """Shell text that runs the charm as Juju would for `update-status`."""
    named = {
        "JUJU_DISPATCH_PATH": "hooks/update-status",
        "JUJU_HOOK_NAME": "update-status",
        **environment,
    }
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in named.items())
    return f"cd {shlex.quote(str(charm_dir))} && {words} ./dispatch"


def _wake_name(unit: str) -> str:
    return f"etcd-wake-{unit.replace('/', '-')}"


def _juju_exec() -> list[str]:
    for name in ("juju-exec", "juju-run"):  # the second before Juju 3
        found = shutil.which(name, path="/usr/bin:/usr/local/bin:/snap/bin")
        if found:
            return [found]
    return ["/usr/bin/juju-exec"]
