"""The machine: packages, releases, users, files, mounts, and waking the charm.

The only module that uses `charmhelpers`, which imports on Ubuntu and CentOS only:
it is imported where it is used. Functions that change something answer whether they did.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import pwd
import shlex
import shutil
import subprocess
import tempfile
import time
import types
from typing import TYPE_CHECKING, Any

import processes
import sandbox
from etcd import errors, files, service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RELEASES = pathlib.Path("/usr/local/lib")
COMMANDS = pathlib.Path("/usr/local/bin")
SYSTEM_UNITS = pathlib.Path("/etc/systemd/system")
SLICE = pathlib.Path("/sys/fs/cgroup/system.slice")
FAILED_UNIT = "etcd-failed.service"
WAKE_UNIT = "etcd-wake.service"
WAKE_PATH_UNIT = "etcd-wake.path"
INSTALL_UNIT = "etcd-install.service"
ORPHANED_UNIT = "etcd-orphaned.service"
"""Cleans up where the unit is gone from the machine: see `removal`."""
SHARE_UNIT = "etcd-share.service"
DATA_ROOT = pathlib.Path("/var/lib/etcd")
MEMORY = pathlib.Path("/run/etcd-charm")
"""What need not outlive a reboot of the machine."""
WAKE = MEMORY / "wake"
"""Systemd runs the charm where this file is, and removes it first."""
_PROBLEM = MEMORY / "install-problem"  # why etcd could not be installed
_BEGUN = pathlib.Path("/var/lib/etcd-charm/installing")  # it outlives a reboot
_INSTALL_WAIT = 900.0  # seconds that a hook waits for packages
_PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_TOOLS = ("rclone", "zstd")
_NO_SHELL = "/usr/sbin/nologin"
_NO_HOME = pathlib.Path("/nonexistent")
_MARK = "release.sha256"

write_file = files.write


# Packages


def apt_install(*names: str) -> bool:
    """Install packages that are missing; True when there were any.

    The package lists are only fetched when they do not know a package.

    Raises:
        errors.InstallError: apt cannot install them.
    """
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return False
    apt, options = _fetch(), ["--option=Dpkg::Options::=--force-confold"]
    # Done before anything is unpacked: nothing from outside is missing any more.
    options.append(f"--option=DPkg::Pre-Invoke::=test ! -e {_BEGUN} || echo fetched > {_BEGUN}")
    if not all(_known(name) for name in missing):
        _apt_update(apt)
    try:
        apt.apt_install(missing, options, fatal=True, quiet=True)
    except subprocess.CalledProcessError:
        # The lists may be older than the archive.
        _apt_update(apt)
        try:
            apt.apt_install(missing, options, fatal=True, quiet=True)
        except subprocess.CalledProcessError as error:
            raise errors.InstallError(
                f"apt cannot install {', '.join(missing)}: see /var/log/apt/term.log; "
                "it is tried again"
            ) from error
    return True


def _apt_update(apt: Any) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        apt.apt_update(fatal=True)


def _known(package: str) -> bool:
    shown = _run(["apt-cache", "policy", package]).stdout
    return "Candidate:" in shown and "Candidate: (none)" not in shown


def _installed(package: str) -> bool:
    shown = _run(["dpkg-query", "--show", "--showformat=${Status}", package])
    return shown.returncode == 0 and shown.stdout.endswith("ok installed")


# etcd


def install(release: pathlib.Path | None) -> bool:
    """Install etcd and what backups need; when it cannot be, `install_problem` says why.

    Args:
        release: a tarball of an etcd release, instead of the distribution's package.
    """
    try:
        ensure_user(processes.WORKER, _NO_HOME)
        install_etcd(release)
        apt_install(*_TOOLS)
    except errors.InstallError as error:
        ensure_dir(_PROBLEM.parent)
        write_file(_PROBLEM, str(error))
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
    ensure_user(service.USER, DATA_ROOT)  # keys are made for it meanwhile
    ensure_dir(_BEGUN.parent)
    write_file(_BEGUN, "")
    try:
        _checked(
            [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={INSTALL_UNIT}",
                "--description=Install etcd",
                *charm_python(charm_dir, "install", *([str(release)] if release else [])),
            ]
        )
    except errors.ToolError:
        install(release)


def owe_install() -> None:
    """Note that etcd has yet to be installed: the unit could not have this machine before."""
    ensure_dir(_BEGUN.parent)
    write_file(_BEGUN, "")


def charm_python(charm_dir: pathlib.Path, module: str, *arguments: str) -> list[str]:
    """The command by which a service or a person runs a module of the charm."""
    program = str(charm_dir / "venv" / "bin" / "python")
    return processes.alone(
        processes.python(module, *arguments, program=program, sources=charm_dir / "src")
    )


def installing() -> bool:
    """Whether somebody installs beside this hook."""
    return _BEGUN.exists() and service_active(INSTALL_UNIT)


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
            if not service_active(INSTALL_UNIT):
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
    data_root = data_root or service.unit_root() or DATA_ROOT
    changed = False
    if resource is not None and resource.is_file() and resource.stat().st_size > 0:
        changed = _install_release(resource)
        changed = ensure_user(service.USER, data_root) or changed
        return service.ensure_unit(data_root) or changed
    changed = service.ensure_unit(data_root)
    if not pathlib.Path("/usr/bin/etcd").exists():
        changed = apt_install(*_etcd_packages(), *_TOOLS) or changed
    if service.INSTALLED.is_symlink():
        service.INSTALLED.unlink()
        _link_commands()
        changed = True
    changed = ensure_user(service.USER, data_root) or changed
    return service.ensure_unit(data_root) or changed


def _etcd_packages() -> tuple[str, ...]:
    """What the distribution calls etcd: two packages, or one in older ones."""
    two = ("etcd-server", "etcd-client")
    if not all(_known(name) for name in two) and not _known("etcd"):
        _apt_update(_fetch())
    return two if all(_known(name) for name in two) else ("etcd",)


def etcd_source() -> str:
    """Where the installed etcd is from: `release`, `distribution`, or "" when there is none."""
    path = service.binary("etcd", must_exist=False)
    if not path.exists():
        return ""
    return "release" if path.parent == service.INSTALLED else "distribution"


def _fetch() -> Any:
    from charmhelpers import fetch  # type: ignore[import-untyped]

    return fetch


def _install_release(tarball: pathlib.Path) -> bool:
    digest = _sha256(tarball)
    with contextlib.suppress(OSError):
        if (service.INSTALLED / _MARK).read_text().strip() == digest:
            return False
    RELEASES.mkdir(parents=True, exist_ok=True)
    working = pathlib.Path(tempfile.mkdtemp(dir=RELEASES, prefix=".etcd-"))
    try:
        from etcd import release  # costly, and most hooks install nothing

        release.unpack(tarball, working)
        version = release.check(working)
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
    _switch(service.INSTALLED, target)
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
            _switch(link, target)
        elif ours:
            link.unlink()


def _switch(link: pathlib.Path, target: pathlib.Path) -> None:
    """Point a symlink elsewhere, by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    files.rename(temporary, link)


def keep_in_memory(path: pathlib.Path, name: str) -> None:
    """Make `path` a symlink to a file `name` of a memory file system; what it held is lost."""
    file = MEMORY / name
    ensure_dir(file.parent)
    file.touch(mode=0o600)
    if not path.is_symlink():
        _switch(path, file)


def forget_in_memory(name: str) -> None:
    """Delete what `keep_in_memory` kept, and its directory where nothing else is left there."""
    (MEMORY / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        MEMORY.rmdir()


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


# Users, files, mounts


def ensure_user(name: str, home: pathlib.Path) -> bool:
    """Create a system user with a group of its name and no shell; True when it was missing."""
    try:
        if not pwd.getpwnam(name).pw_shell.endswith(("/nologin", "/false")):
            _checked(["usermod", "--shell", _NO_SHELL, name])
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


def ensure_dir(
    path: pathlib.Path, mode: int = 0o755, owner: str | None = None, group: str | None = None
) -> bool:
    """Create a directory with its parents; True when it was missing or had another mode."""
    changed = not path.is_dir()
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o7777 != mode:
        path.chmod(mode)
        changed = True
    files.chown(path, owner, group)
    return changed


def free_bytes(path: pathlib.Path) -> int:
    """Bytes free for users on the file system of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    details = os.statvfs(path)
    return details.f_bavail * details.f_frsize


def is_mount(path: pathlib.Path) -> bool:
    """A file system is mounted at `path`."""
    return os.path.ismount(path)


def mount_of(path: pathlib.Path) -> pathlib.Path:
    """The mount point that `path` is on."""
    path = path.resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path


# systemd


def ensure_service(name: str, text: str) -> bool:
    """Write a systemd unit, let systemd read it, enable it; True when it changed.

    Args:
        name: with its suffix, `etcd-keeper.service`.
        text: the unit file.
    """
    changed = write_file(SYSTEM_UNITS / name, text, 0o644)
    if changed:
        _systemctl("daemon-reload")
    if "[Install]" in text and changed:
        _systemctl("enable", name)
    return changed


def remove_service(name: str) -> bool:
    """Stop, disable and delete a systemd unit of ours; True when it was there."""
    path = SYSTEM_UNITS / name
    if not path.exists():
        return False
    _run(["systemctl", "disable", "--now", name], timeout=120)
    path.unlink()
    _systemctl("daemon-reload")
    return True


def restart_service(name: str) -> None:
    """Restart a unit, whatever earlier failures systemd counted; does not wait until it is up."""
    _run(["systemctl", "reset-failed", name])
    _systemctl("restart", "--no-block", name)


def stop_service(name: str) -> None:
    """Stop a unit and wait for its end."""
    _systemctl("stop", name, timeout=120)


def service_runs(name: str) -> bool:
    """A unit has processes in its control group: a twentieth of the cost of asking systemd."""
    return (SLICE / name).is_dir()


def service_active(name: str) -> bool:
    """A unit is up: it has processes in its control group, or systemd says so."""
    if service_runs(name):
        return True
    return _run(["systemctl", "is-active", "--quiet", name]).returncode == 0


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
    _checked(
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
    changed = ensure_service(
        FAILED_UNIT,
        f"{head}[Unit]\nDescription=Tell the charm of {unit} that etcd gave up\n\n"
        f"[Service]\n{run}{sandbox.lines(juju)}",
    )
    # A file that comes while it runs is met afterwards.
    changed |= ensure_service(
        WAKE_UNIT,
        f"{head}[Unit]\nDescription=Wake the charm of {unit}\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nExecStartPre=/bin/rm -f {WAKE}\n{run}"
        f"{sandbox.lines([*juju, str(MEMORY)])}",
    )
    changed |= ensure_service(
        WAKE_PATH_UNIT,
        f"{head}[Unit]\nDescription=Watch for what wakes the charm of {unit}\n\n"
        f"[Path]\nPathExists={WAKE}\n\n[Install]\nWantedBy=multi-user.target\n",
    )
    if changed:
        _systemctl("restart", WAKE_PATH_UNIT)
    return changed


def cancel_wake(unit: str) -> None:
    """Forget a wake that is scheduled and has not begun."""
    _run(["systemctl", "stop", f"{_wake_name(unit)}-*.timer"])


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
    return _checked([*_juju_exec(), unit, wake_script(charm_dir, environment)], timeout)


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


def _systemctl(*arguments: str, timeout: float = 30.0) -> None:
    _checked(["systemctl", *arguments], timeout)


def _checked(arguments: Sequence[str], timeout: float = 30.0) -> str:
    """What a command prints; raises when it fails."""
    completed = _run(arguments, timeout)
    if completed.returncode:
        output = completed.stdout + completed.stderr
        raise errors.ToolError(f"{arguments[0]} {arguments[1]} failed", output)
    return completed.stdout


def _run(arguments: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    try:
        return processes.run(arguments, timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.ToolError(f"{arguments[0]} could not be run: {error}") from error
