"""Every process that this charm starts: where, with what environment, path and umask.

Nothing of whoever started us is passed on: a person's directory, PATH, PYTHONPATH, LD_PRELOAD or
ETCDCTL_* would be root's then. No other module starts one.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Directories that belong to root: where programs are looked for."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Variables that reach what speaks to a remote, by its settings, and nothing else."""
WORKER = "etcd-worker"
"""A user without any rights, who works on bytes from outside."""
DEVNULL, PIPE, STDOUT = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
_NO_MORE = ("/usr/bin/setpriv", "--no-new-privs", "--")
_UMASK = 0o077
_SHOWN = 0o022  # of another user, whose files we read without being allowed more than anyone
_SOURCES = pathlib.Path(__file__).resolve().parents[1]
_JUJU = ("JUJU_", "CHARM_")


def which(name: str) -> pathlib.Path | None:
    """Where a program is, None when there is none."""
    found = shutil.which(name, path=PATH)
    return pathlib.Path(found) if found else None


def python(
    module: str, *arguments: str, program: str = sys.executable, sources: pathlib.Path = _SOURCES
) -> list[str]:
    """The command that runs a module of ours, wherever and with whatever environment it is run.

    Args:
        module: its name, `backup.peer_transfer`.
        arguments: what it finds on its command line.
        program: the Python to run it with.
        sources: the charm's `src`.
    """
    return [program, "-I", str(sources / "launch.py"), module, *arguments]


def charm_python(charm_dir: pathlib.Path, module: str, *arguments: str) -> list[str]:
    """The command by which a service or a person runs a module of the charm."""
    program = str(charm_dir / "venv" / "bin" / "python")
    return alone(python(module, *arguments, program=program, sources=charm_dir / "src"))


def alone(command: Sequence[str], **variables: str) -> list[str]:
    """A command for systemd or a person to start, which gets nothing of the environment there.

    Args:
        command: the program and its arguments.
        variables: to add to the few that every process of ours has.
    """
    named = [f"{name}={value}" for name, value in _environment(variables).items()]
    return ["/usr/bin/env", "-i", *named, *command]


def run(
    arguments: Sequence[str],
    timeout: float,
    *,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    outside: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it prints, as text.

    Args:
        arguments: the program and its arguments.
        timeout: seconds that it may take.
        environment: variables to add to the few that every process of ours has.
        descriptors: open files that it inherits.
        outside: as for `start`.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it was ended.
    """
    done = run_bytes(
        arguments, timeout, environment=environment, descriptors=descriptors, outside=outside
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, _text(done.stdout), _text(done.stderr)
    )


def completed(arguments: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """As `run`, for a tool of the system, whatever it answers.

    Raises:
        errors.ToolError: it cannot be started, or takes too long.
    """
    try:
        return run(arguments, timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.ToolError(f"{arguments[0]} could not be run: {error}") from error


def checked(arguments: Sequence[str], timeout: float = 30.0) -> str:
    """What a tool of the system prints.

    Raises:
        errors.ToolError: as for `completed`, or it fails.
    """
    done = completed(arguments, timeout)
    if done.returncode:
        output = done.stdout + done.stderr
        raise errors.ToolError(f"{arguments[0]} {arguments[1]} failed", output)
    return done.stdout


def run_bytes(
    arguments: Sequence[str],
    timeout: float,
    *,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    outside: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """As `run`, with bytes in and out.

    Args:
        arguments: as for `run`.
        timeout: as for `run`.
        data: what it reads from its standard input.
        environment: as for `run`.
        descriptors: open files that it inherits.
        outside: as for `start`.
    """
    person = _worker() if outside else None
    return subprocess.run(
        _bound(arguments, person),
        input=data,
        capture_output=True,
        timeout=timeout,
        check=False,
        cwd="/",
        env=_environment(environment),
        umask=_UMASK if person is None else _SHOWN,
        pass_fds=descriptors,
        user=None if person is None else person.pw_uid,
        group=None if person is None else person.pw_gid,
        extra_groups=None if person is None else [],
    )


def start(
    arguments: Sequence[str],
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int | None = DEVNULL,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    session: bool = False,
    outside: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program and leave its end to the caller.

    Args:
        arguments: the program and its arguments.
        stdin: a descriptor, `PIPE` or `DEVNULL`.
        stdout: likewise.
        stderr: likewise, or `STDOUT`; None for where ours goes.
        environment: as for `run`.
        descriptors: as for `run_bytes`.
        session: it leads a session of its own, to be ended with all that it starts.
        outside: it reads bytes from outside, and needs nothing but what is open for it: it runs as
            `WORKER`.

    Raises:
        OSError: it cannot be started.
    """
    person = _worker() if outside else None
    return subprocess.Popen(
        _bound(arguments, person),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd="/",
        env=_environment(environment),
        umask=_UMASK if person is None else _SHOWN,
        pass_fds=descriptors,
        start_new_session=session,
        user=None if person is None else person.pw_uid,
        group=None if person is None else person.pw_gid,
        extra_groups=None if person is None else [],
    )


def hook_tool(arguments: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a hook tool, which is found by the PATH and asked by the variables that Juju set.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it was ended.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith(_JUJU)}
    environment["PATH"] = os.environ.get("PATH", PATH)
    return run(arguments, timeout, environment=environment)


def proxies() -> tuple[tuple[str, str], ...]:
    """The model's proxies, as Juju tells a hook of them; ways to a remote, and to nothing else.

    What cannot stand in an environment is left out.
    """
    told = (
        (name, os.environ.get(f"JUJU_CHARM_{name}") or os.environ.get(name)) for name in PROXIES
    )
    return tuple((name, value) for name, value in told if value and value.isprintable())


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C.UTF-8", **(more or {})}


def _worker() -> pwd.struct_passwd | None:
    """Who works on bytes from outside; None for us: without root, or before the install."""
    try:
        return None if os.geteuid() else pwd.getpwnam(WORKER)
    except KeyError:
        return None


def _bound(arguments: Sequence[str], person: pwd.struct_passwd | None) -> list[str]:
    """The command, for another user as one that no program on the disk makes more of."""
    return [*([] if person is None else _NO_MORE), *arguments]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
