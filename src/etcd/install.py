"""Etcd on this machine: the distribution's package or a release, installed beside the hooks.

`python -m etcd.install [RELEASE]` is what `begin_install` runs as a service: a tarball of an etcd
release, else the distribution's package. Functions that change something answer whether they did.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import errors
from etcd import service
from machine import apt, files, processes, systemd, users

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASES = pathlib.Path("/usr/local/lib")
COMMANDS = pathlib.Path("/usr/local/bin")
INSTALL_UNIT = "etcd-install.service"
_PROBLEM = files.MEMORY / "install-problem"  # why etcd could not be installed
_BEGUN = pathlib.Path("/var/lib/etcd-charm/installing")  # it outlives a reboot
_INSTALL_WAIT = 900.0  # seconds that a hook waits for packages
_PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_TOOLS = ("rclone", "zstd")
_NO_HOME = pathlib.Path("/nonexistent")
_MARK = "release.sha256"


def install(release: pathlib.Path | None) -> bool:
    """Install etcd and what backups need; when it cannot be, `install_problem` says why.

    Args:
        release: a tarball of an etcd release, instead of the distribution's package.
    """
    try:
        users.ensure_user(processes.WORKER, _NO_HOME)
        install_etcd(release)
        _packages(*_TOOLS)
    except errors.InstallError as error:
        files.ensure_dir(_PROBLEM.parent)
        files.write(_PROBLEM, str(error))
        return False
    _PROBLEM.unlink(missing_ok=True)
    _BEGUN.unlink(missing_ok=True)
    return True


def begin_install(release: pathlib.Path | None, charm_dir: pathlib.Path) -> None:
    """Install beside the hooks that follow: what they do without etcd need not wait for it.

    Args:
        release: as for `install`.
        charm_dir: where the charm is.
    """
    users.ensure_user(service.USER, service.DATA_ROOT)  # keys are made for it meanwhile
    files.ensure_dir(_BEGUN.parent)
    files.write(_BEGUN, "")
    try:
        processes.checked(
            [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={INSTALL_UNIT}",
                "--description=Install etcd",
                *processes.charm_python(
                    charm_dir, "etcd.install", *([str(release)] if release else [])
                ),
            ]
        )
    except errors.ToolError:
        install(release)


def owe_install() -> None:
    """Note that etcd has yet to be installed: the unit could not have this machine before."""
    files.ensure_dir(_BEGUN.parent)
    files.write(_BEGUN, "")


def installing() -> bool:
    """Whether somebody installs beside this hook."""
    return _BEGUN.exists() and systemd.service_active(INSTALL_UNIT)


def await_packages() -> bool:
    """Wait until the packages are here, unpacked or not; False when they cannot be had."""
    _await_install(_fetched)
    return (_fetched() and installing()) or service.binary("etcd", must_exist=False).exists()


def await_install() -> None:
    """Wait until nobody installs any more, within bounds."""
    _await_install(lambda: False)


def _await_install(enough: Callable[[], bool]) -> None:
    until = time.monotonic() + _INSTALL_WAIT
    asked = 0.0
    while _BEGUN.exists() and not enough() and (now := time.monotonic()) < until:
        if now > asked + 1:  # systemd takes longer to answer
            asked = now
            if not systemd.service_active(INSTALL_UNIT):
                return
        time.sleep(0.02)


def _fetched() -> bool:
    with contextlib.suppress(OSError):
        return bool(_BEGUN.read_text())
    return False


def install_problem() -> str:
    """Why etcd could not be installed at the last attempt, "" when it was."""
    if _PROBLEM.exists():
        return _PROBLEM.read_text()
    if _BEGUN.exists():
        return "the installation of etcd was interrupted: it is tried again"
    return ""


def _packages(*names: str) -> bool:
    return apt.install(*names, fetched=f"test ! -e {_BEGUN} || echo fetched > {_BEGUN}")


def install_etcd(
    resource: pathlib.Path | None = None, data_root: pathlib.Path | None = None
) -> bool:
    """Install etcd, from the distribution or from a release; True when something changed.

    Our systemd unit goes in first, so that no package can start etcd on a default configuration.
    The caller restarts etcd when it runs.

    Args:
        resource: an upstream release tarball; None or an empty file for the distribution's.
        data_root: the only place that etcd may write to; by default the one it has.

    Raises:
        errors.InstallError: with the reason; what was installed before still is.
    """
    data_root = data_root or service.unit_root() or service.DATA_ROOT
    changed = False
    if resource is not None and resource.is_file() and resource.stat().st_size > 0:
        changed = _install_release(resource)
        changed = users.ensure_user(service.USER, data_root) or changed
        return service.ensure_unit(data_root) or changed
    changed = service.ensure_unit(data_root)
    if not pathlib.Path("/usr/bin/etcd").exists():
        changed = _packages(*_etcd_packages(), *_TOOLS) or changed
    if service.INSTALLED.is_symlink():
        service.INSTALLED.unlink()
        _link_commands()
        changed = True
    changed = users.ensure_user(service.USER, data_root) or changed
    return service.ensure_unit(data_root) or changed


def _etcd_packages() -> tuple[str, ...]:
    """What the distribution calls etcd: two packages, or one in older ones."""
    two = ("etcd-server", "etcd-client")
    if not all(apt.known(name) for name in two) and not apt.known("etcd"):
        apt.update()
    return two if all(apt.known(name) for name in two) else ("etcd",)


def _install_release(tarball: pathlib.Path) -> bool:
    digest = _sha256(tarball)
    with contextlib.suppress(OSError):
        if (service.INSTALLED / _MARK).read_text().strip() == digest:
            return False
    RELEASES.mkdir(parents=True, exist_ok=True)
    working = pathlib.Path(tempfile.mkdtemp(dir=RELEASES, prefix=".etcd-"))
    try:
        from etcd import release as releases  # costly, and most hooks install nothing

        releases.unpack(tarball, working)
        version = releases.check(working)
        (working / _MARK).write_text(f"{digest}\n")
        working.chmod(0o755)
        files.fsync_tree(working)
        target = RELEASES / f"etcd-{'.'.join(str(part) for part in version)}"
        if target.exists():
            # Another build of this version: processes keep the files they have open.
            shutil.rmtree(target)
        files.rename(working, target)
    except OSError as error:
        raise errors.InstallError(
            f"the etcd resource cannot be unpacked: {error.strerror}; nothing was changed"
        ) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    files.switch(service.INSTALLED, target)
    _link_commands()
    return True


def _link_commands() -> None:
    """Give people who are logged in the programs of the release, or the distribution's again.

    What somebody else put there stays.
    """
    for name in _PROGRAMS:
        link, target = COMMANDS / name, service.INSTALLED / name
        ours = link.is_symlink() and pathlib.Path(os.readlink(link)) == target
        if target.exists() and (ours or not os.path.lexists(link)):
            files.switch(link, target)
        elif ours:
            link.unlink()


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


def main() -> int:
    """Install; 1 when it could not be done, which `install_problem` tells the hooks."""
    release = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
    if not install(release):
        print(install_problem())
        return 1
    print("etcd is installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
