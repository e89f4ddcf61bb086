"""What our systemd services may do on the machine: next to nothing that they do not need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STRICT: Mapping[str, str] = {
    "UMask": "0077",
    # What would work before a program of ours is started without its environment.
    "UnsetEnvironment": "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
}
"""systemd.exec's settings; root without capabilities is refused what is not root's own."""


def lines(writable: Iterable[str] = (), **changes: str) -> str:
    """The settings as lines of a unit file.

    Args:
        writable: where it may write, besides what else the unit says; what is missing is left out.
        changes: settings with other values.
    """
    settings = {**STRICT, **changes}
    settings |= {"ReadWritePaths": " ".join(f"-{_quoted(path)}" for path in writable)}
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _quoted(path: str) -> str:
    """A path as systemd reads it: `%` and what separates words are its own."""
    return path.replace("\\", "\\\\").replace("%", "%%").replace(" ", "\\x20").replace('"', '\\"')
