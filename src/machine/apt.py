"""Packages of the distribution.

`charmhelpers` imports on Ubuntu and CentOS only: it is imported where it is used.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import errors
from machine import processes


def install(*names: str, fetched: str = "true") -> bool:
    """Install packages that are missing; True when there were any.

    The package lists are only fetched when they do not know a package.

    Args:
        names: of packages.
        fetched: shell words to run when nothing from outside is missing any more: everything is
            fetched, and nothing unpacked.

    Raises:
        errors.InstallError: apt cannot install them.
    """
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return False
    apt, options = _fetch(), ["--option=Dpkg::Options::=--force-confold"]
    options.append(f"--option=DPkg::Pre-Invoke::={fetched}")
    if not all(known(name) for name in missing):
        update(apt)
    try:
        apt.apt_install(missing, options, fatal=True, quiet=True)
    except subprocess.CalledProcessError:
        # The lists may be older than the archive.
        update(apt)
        try:
            apt.apt_install(missing, options, fatal=True, quiet=True)
        except subprocess.CalledProcessError as error:
            raise errors.InstallError(
                f"apt cannot install {', '.join(missing)}: see /var/log/apt/term.log; "
                "it is tried again"
            ) from error
    return True


def update(apt: Any = None) -> None:
    """Fetch the package lists; what fails is met again at the install."""
    apt = apt or _fetch()
    with contextlib.suppress(subprocess.CalledProcessError):
        apt.apt_update(fatal=True)


def known(package: str) -> bool:
    """The package lists have a version of it to install."""
    shown = processes.completed(["apt-cache", "policy", package]).stdout
    return "Candidate:" in shown and "Candidate: (none)" not in shown


def _installed(package: str) -> bool:
    shown = processes.completed(["dpkg-query", "--show", "--showformat=${Status}", package])
    return shown.returncode == 0 and shown.stdout.endswith("ok installed")


def _fetch() -> Any:
    from charmhelpers import fetch  # type: ignore[import-untyped]

    return fetch
