"""Units of systemd: written, restarted, asked for."""

from __future__ import annotations

import pathlib

from machine import files, processes

SYSTEM_UNITS = pathlib.Path("/etc/systemd/system")
SLICE = pathlib.Path("/sys/fs/cgroup/system.slice")


def ensure_service(name: str, text: str) -> bool:
    """Write a systemd unit, let systemd read it, enable it; True when it changed.

    Args:
        name: with its suffix, `etcd-keeper.service`.
        text: the unit file.
    """
    changed = files.write(SYSTEM_UNITS / name, text, 0o644)
    if changed:
        systemctl("daemon-reload")
    if "[Install]" in text and changed:
        systemctl("enable", name)
    return changed


def restart_service(name: str) -> None:
    """Restart a unit, whatever earlier failures systemd counted; does not wait until it is up."""
    processes.completed(["systemctl", "reset-failed", name])
    systemctl("restart", "--no-block", name)


def service_runs(name: str) -> bool:
    """A unit has processes in its control group: a twentieth of the cost of asking systemd."""
    return (SLICE / name).is_dir()


def service_active(name: str) -> bool:
    """A unit is up: it has processes in its control group, or systemd says so."""
    if service_runs(name):
        return True
    return processes.completed(["systemctl", "is-active", "--quiet", name]).returncode == 0


def systemctl(*arguments: str, timeout: float = 30.0) -> None:
    """Ask systemd for something, such as `restart UNIT`.

    Raises:
        errors.ToolError: it refuses.
    """
    processes.checked(["systemctl", *arguments], timeout)
