"""The local etcd as a systemd service: its configuration, its unit, its state, why it failed.

Functions that change something answer whether they did. Paths are those of a unit of the charm;
nothing here knows Juju.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import signal
import time
from typing import TYPE_CHECKING

import errors
from cluster import view as views
from etcd import config as etcd_config
from etcd import data, disk_facts
from etcd import stamp as stamps
from machine import files, processes

if TYPE_CHECKING:
    import subprocess

    pass

UNIT = "etcd.service"
USER = "etcd"
UNIT_FILE = pathlib.Path("/etc/systemd/system/etcd.service")
STARTED = pathlib.Path("/run/etcd/started")
INSTALLED = pathlib.Path("/usr/local/lib/etcd")  # symlink to the release from the resource
HOME = pathlib.Path(__file__).resolve().parents[3]
"""Holds the charm, and goes from the machine with its unit, whoever removes that."""
DATA_ROOT = pathlib.Path("/var/lib/etcd")
GRACE = 1.0  # seconds for an etcd to end by itself whose cluster ends with it
STOP_SECONDS = 120  # over 5 s and two elections of 50 s, the longest that etcd allows


def is_closed() -> bool:
    """Whether the current data of this unit is closed to clients."""
    root = unit_root()
    with contextlib.suppress(OSError):
        return root is not None and data.Root(root).is_closed()
    return False


def open_to_clients(root: data.Root, wait: float = 0.0) -> bool:
    """Let clients reach the data of this unit, now and from now on; True when they could not.

    What they are told is taken back where the charm rolls the cluster back after all.

    Args:
        root: this unit's data root.
        wait: seconds for etcd to be ready again.
    """
    if not root.is_closed():
        return False
    # Stopped first: whoever dies in between leaves an etcd that the charm starts again.
    ran = stop(last=True)
    root.open()
    if ran:
        start(wait)
    return True


def ensure_unit(data_root: pathlib.Path) -> bool:
    """Write the systemd unit and let systemd read it; True when it changed.

    Args:
        data_root: the only place that etcd may write to.
    """
    text = etcd_config.template("etcd.service.j2").render(
        data_root=data_root,
        home=HOME,
        fenced=stamps.FENCED,
        closed=data_root / "current" / disk_facts.CLOSED,
        config=etcd_config.CONFIG,
        closed_config=etcd_config.CLOSED_CONFIG,
        user=USER,
        command=" ".join(f'"{word}"' if "$" in word else word for word in _command()),
        fingerprint=_fingerprint_command(),
        stop_seconds=STOP_SECONDS,
    )
    changed = files.write(UNIT_FILE, text, 0o644)
    if changed:
        _systemctl("daemon-reload")
    return changed


def _command() -> list[str]:
    """Etcd with an environment of its own; systemd is told by it when it is ready."""
    own = {**environment(), "NOTIFY_SOCKET": "$$NOTIFY_SOCKET"}
    return processes.alone([str(binary("etcd", must_exist=False))], **own)


def environment() -> dict[str, str]:
    """What etcd wants in its environment to run on this machine."""
    wanted = {"aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
    name = wanted.get(os.uname().machine, "")
    return {"ETCD_UNSUPPORTED_ARCH": name} if name else {}


def unit_root() -> pathlib.Path | None:
    """The data root that the unit file lets etcd write to, None without our unit file."""
    with contextlib.suppress(OSError):
        for line in UNIT_FILE.read_text().splitlines():
            if line.startswith("ReadWritePaths="):
                return pathlib.Path(line.partition("=")[2])
    return None


def start(wait: float = 0.0) -> bool:
    """Start etcd, whatever earlier failures systemd counted; True when it was not running.

    Args:
        wait: seconds to wait for it to be ready (to have a quorum); 0 returns at once.
    """
    until = time.monotonic() + wait
    changed = state() is not views.Service.RUNNING
    if changed:
        _systemctl("reset-failed", UNIT, check=False)
        if not wait:
            _systemctl("start", "--no-block", UNIT)
    if wait:
        with contextlib.suppress(errors.ToolError):  # not in time: it goes on starting
            if _systemctl("start", UNIT, timeout=wait, check=False).returncode:
                await_active(until - time.monotonic())  # systemd tries again what failed
    return changed


def stop(*, last: bool = False) -> bool:
    """Stop etcd and wait for its end; True when it ran. etcd hands leadership on, if it can.

    Args:
        last: nobody is to take over. A leader that looks for somebody, until its request timeout,
            is killed after a moment: all that it acknowledged is in its log on the disk.
    """
    changed = state() in (views.Service.RUNNING, views.Service.FAILED)
    if changed and last:
        try:
            _systemctl("stop", UNIT, timeout=GRACE)
        except errors.ToolError:  # not in time
            _systemctl("kill", "--signal=KILL", UNIT, check=False)
    _systemctl("stop", UNIT, timeout=STOP_SECONDS + 30, check=changed)
    _systemctl("reset-failed", UNIT, check=False)
    return changed


def end() -> None:
    """Stop etcd at once, also where systemd does not obey: an older one asks for more rights.

    What its unit's conditions then see keeps it from coming back.
    """
    try:
        stop(last=True)
    except errors.ToolError:
        with contextlib.suppress(ProcessLookupError):
            if pid := int(_properties("MainPID").get("MainPID") or 0):
                os.kill(pid, signal.SIGKILL)


def restart(wait: float = 0.0) -> None:
    """Restart etcd with what is on disk now."""
    stop()
    start(wait)


def state() -> views.Service:
    """What systemd says of etcd.

    One that is up but waits for its peers runs; one that was restarted three times without
    becoming ready has failed, as one that systemd gave up on.
    """
    if not binary("etcd", must_exist=False).exists() or not UNIT_FILE.exists():
        return views.Service.ABSENT
    shown = _properties("ActiveState", "NRestarts")
    active, restarts = shown.get("ActiveState", ""), int(shown.get("NRestarts") or 0)
    if active == "failed":
        return views.Service.FAILED
    if active in ("activating", "reloading"):
        return views.Service.FAILED if restarts >= 3 else views.Service.RUNNING
    if active in ("active", "deactivating"):
        return views.Service.RUNNING
    return views.Service.STOPPED


def stale() -> bool:
    """The running etcd was started with another configuration, trust or binary than now on disk.

    Certificates and keys do not count: etcd reads them again at every handshake.
    """
    try:
        started = files.read(STARTED).split()[0]  # etcd's user may put anything there
    except (OSError, ValueError, IndexError):
        return False
    return started != _fingerprint()


def binary(name: str, must_exist: bool = True) -> pathlib.Path:
    """Path of `etcd`, `etcdctl` or `etcdutl`: the resource's release, else the distribution's.

    Raises:
        errors.ToolError: there is none.
    """
    own = INSTALLED / name
    if own.exists():
        return own
    for folder in ("/usr/bin", "/usr/local/bin"):
        if (path := pathlib.Path(folder, name)).exists():
            return path
    if must_exist:
        found = processes.which(name)
        if not found:
            raise errors.ToolError(f"{name} is not installed")
        return found
    return pathlib.Path("/usr/bin", name)


def version(program: pathlib.Path | None = None) -> tuple[int, int, int]:
    """Version of an etcd binary, by default the installed one: (3, 5, 16).

    Raises:
        errors.ToolError: it does not run, or does not say.
    """
    path = program or binary("etcd")
    try:
        details = path.stat()
    except OSError as error:
        raise errors.ToolError(f"{path} cannot be run: {error.strerror}") from error
    return _version(str(path), details.st_mtime_ns, details.st_size)


@functools.lru_cache(maxsize=8)
def _version(path: str, changed_ns: int, size: int) -> tuple[int, int, int]:
    del changed_ns, size  # part of the key: another file is asked again
    completed = processes.completed([path, "--version"])
    match = re.search(r"etcd Version: (\d{1,9})\.(\d{1,9})\.(\d{1,9})", completed.stdout)
    if completed.returncode or not match:
        raise errors.ToolError(
            f"{path} does not say its version", completed.stdout + completed.stderr
        )
    return int(match[1]), int(match[2]), int(match[3])


def _once() -> tuple[pathlib.Path, ...]:
    """Files that etcd reads once, at its start, beside its configuration."""
    return tuple(etcd_config.tls_files(name).ca for name in ("peer", etcd_config.GATEWAY))


def _fingerprint_command() -> str:
    """Shell text, for a systemd unit, that prints what `_fingerprint` answers for file `$c`."""
    trust = " ".join(str(path) for path in _once())
    program = binary("etcd", must_exist=False)
    return (
        f'( sed -E "/{etcd_config.FOUNDING}/d; s/{etcd_config.COMPARING}//" $$c; cat {trust}; '
        f'stat -L -c "%%s %%Y" {program} ) 2>/dev/null | sha256sum'
    )


def _fingerprint() -> str:
    """Digest of the configuration, the trusted CAs, and the binary's size and date.

    `initial-*` and whether to compare keys are left out: they are for one start.
    """
    digest = hashlib.sha256()
    config = etcd_config.CLOSED_CONFIG if is_closed() else etcd_config.CONFIG
    with contextlib.suppress(OSError):
        digest.update(etcd_config.lasting(config.read_text()).encode())
    for path in _once():
        with contextlib.suppress(OSError):
            digest.update(path.read_bytes())
    with contextlib.suppress(OSError):
        details = binary("etcd", must_exist=False).stat()
        digest.update(f"{details.st_size} {int(details.st_mtime)}\n".encode())
    return digest.hexdigest()


def _properties(*names: str) -> dict[str, str]:
    shown = _systemctl("show", UNIT, f"--property={','.join(names)}", check=False).stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def await_active(wait: float) -> None:
    """Wait until etcd is ready (has a quorum) or has failed, `wait` seconds at most."""
    until = time.monotonic() + wait
    while time.monotonic() < until:
        if _properties("ActiveState").get("ActiveState") in ("active", "failed"):
            return
        time.sleep(0.1)


def _systemctl(
    *arguments: str, timeout: float = 30.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    completed = processes.completed(["systemctl", *arguments], timeout)
    if check and completed.returncode:
        raise errors.ToolError(
            f"systemctl {' '.join(arguments)} failed", completed.stdout + completed.stderr
        )
    return completed
