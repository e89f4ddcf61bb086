"""What minijuju needs from the host: tools, limits, commands and locks."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import pathlib
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

TOOLS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "bridge": "iproute2",
    "dpkg-scanpackages": "dpkg-dev",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
    "losetup": "mount",
}
"""Tools used, and the package of Debian and Ubuntu that brings each."""

INOTIFY_INSTANCES = 2048
"""Each systemd takes about eight of these; the kernel's default is 128 for all of root."""

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Error(Exception):
    """Something on the host did not do as asked; the message is a sentence for the user."""


class Unsupported(Error):
    """This host cannot run machines; the message says why in one sentence."""


class CommandError(Error):
    """A command on the host failed.

    Attributes:
        output: what it wrote, the last 20 lines.
    """

    def __init__(self, argv: Sequence[str], reason: str, output: str):
        self.output = "\n".join(output.strip().splitlines()[-20:])
        tail = f": {self.output}" if self.output else ""
        super().__init__(f"{pathlib.Path(argv[0]).name} {reason}{tail}")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment with the administrator's tools on PATH, and ``extra`` over it."""
    env = dict(os.environ)
    env["PATH"] = f"{env['PATH']}:{_SEARCH_PATH}" if env.get("PATH") else _SEARCH_PATH
    env["LC_ALL"] = "C.UTF-8"
    env.update(extra or {})
    return env


def run(
    *argv: str | os.PathLike[str],
    timeout: float = 30,
    accept: Sequence[int] = (0,),
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: pathlib.Path | None = None,
    log: pathlib.Path | None = None,
) -> str:
    """Run a command on the host and return what it wrote to standard output.

    Args:
        argv: the command and its arguments.
        timeout: seconds until the command is killed.
        accept: exit codes that mean it succeeded.
        stdin: text for its standard input.
        env: additions to the environment.
        cwd: working directory.
        log: a file that gets both outputs instead; the answer is then empty.

    Raises:
        CommandError: it failed, took too long or does not exist.
    """
    words = [os.fspath(word) for word in argv]
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("ab")) if log else subprocess.PIPE
        try:
            done = subprocess.run(
                words,
                input=stdin.encode(),
                stdout=out,
                stderr=subprocess.STDOUT if log else subprocess.PIPE,
                timeout=timeout,
                env=environment(env),
                cwd=cwd,
                check=False,
            )
        except FileNotFoundError:
            raise CommandError(words, "is not installed", "") from None
        except subprocess.TimeoutExpired:
            raise CommandError(words, f"took over {timeout:g} s", _tail(log)) from None
    if done.returncode not in accept:
        output = _tail(log) if log else (done.stderr or done.stdout).decode(errors="replace")
        raise CommandError(words, f"failed with {done.returncode}", output)
    return "" if log else done.stdout.decode(errors="replace")


def _tail(log: pathlib.Path | None) -> str:
    if not log:
        return ""
    with log.open(errors="replace") as lines:
        return "".join(collections.deque(lines, maxlen=20))


def os_release() -> dict[str, str]:
    """The host's ``os-release`` as a dictionary; empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def require(*, install: bool = True) -> None:
    """Check that this host can run machines, installing missing tools when allowed to.

    Raises:
        Unsupported: it cannot, and why.
    """
    release = os_release()
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if not family & {"debian", "ubuntu"} or os.uname().sysname != "Linux":
        name = release.get("PRETTY_NAME", os.uname().sysname)
        raise Unsupported(f"minijuju runs on Debian 12, 13 and Ubuntu; this is {name}.")
    if os.geteuid():
        raise Unsupported("minijuju starts real machines and needs root: run it as root or sudo.")
    missing = sorted({TOOLS[tool] for tool in TOOLS if not _which(tool)})
    if missing and install:
        with contextlib.suppress(CommandError):
            _install(missing)
        missing = sorted({TOOLS[tool] for tool in TOOLS if not _which(tool)})
    if missing:
        raise Unsupported(
            f"Tools are missing; install them with: apt-get install {' '.join(missing)}"
        )
    for filesystem in ("overlay", "ext4", "cgroup2"):
        if not _has_filesystem(filesystem):
            raise Unsupported(f"This kernel has no {filesystem} file system, which machines need.")
    if not os.access("/dev/loop-control", os.W_OK):
        raise Unsupported(
            "There are no loop devices here (/dev/loop-control), which machines need."
        )
    _raise_limit("fs/inotify/max_user_instances", INOTIFY_INSTANCES)


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=environment()["PATH"])


def _install(packages: Sequence[str]) -> None:
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *packages)
    try:
        run(*command, timeout=600, env=env)
    except CommandError:
        run("apt-get", "update", "-q", timeout=300, env=env)
        run(*command, timeout=600, env=env)


def _has_filesystem(name: str) -> bool:
    known = pathlib.Path("/proc/filesystems").read_text().split()
    if name not in known:
        with contextlib.suppress(CommandError):
            run("modprobe", name)
        known = pathlib.Path("/proc/filesystems").read_text().split()
    return name in known


def _raise_limit(name: str, value: int) -> None:
    path = pathlib.Path("/proc/sys", name)
    with contextlib.suppress(OSError):
        if int(path.read_text()) < value:
            path.write_text(str(value))


@contextlib.contextmanager
def locked(path: pathlib.Path, *, blocking: bool = True) -> Generator[None]:
    """Hold an exclusive lock on ``path``, made if need be; it dies with the process.

    Raises:
        BlockingIOError: another process holds it and ``blocking`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            # Whoever held it may have removed the file: then the lock is on a file of no name.
            if _same(handle.fileno(), path):
                yield
                return


def _same(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def architecture() -> str:
    """This host's architecture by Juju's name."""
    machine = platform.machine()
    names = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}
    return names.get(machine, machine)
