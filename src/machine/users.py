"""Users of the machine.

`charmhelpers` imports on Ubuntu and CentOS only: it is imported where it is used.
"""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING, Any

from machine import processes

if TYPE_CHECKING:
    import pathlib

_NO_SHELL = "/usr/sbin/nologin"


def ensure_user(name: str, home: pathlib.Path) -> bool:
    """Create a system user with a group of its name and no shell; True when it was missing."""
    try:
        if not pwd.getpwnam(name).pw_shell.endswith(("/nologin", "/false")):
            processes.checked(["usermod", "--shell", _NO_SHELL, name])
    except KeyError:
        from charmhelpers.core import host  # type: ignore[import-untyped]

        charmhelpers: Any = host
        charmhelpers.add_group(name, system_group=True)
        charmhelpers.adduser(
            name,
            shell=_NO_SHELL,
            system_user=True,
            primary_group=name,
            home_dir=str(home),
        )
        return True
    return False
