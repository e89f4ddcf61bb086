"""Etcd tried with a configuration before the running one's is replaced.

It starts on a scratch directory and on loopback, as the service's user and with the service's
limits, and says itself that it is ready. Where it will listen is tried apart: nothing may serve
there that is not the cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import select
import shutil
import socket
import subprocess
import time
import urllib.parse
from typing import TYPE_CHECKING

import errors
from etcd import config as etcd_config
from etcd import failure as failures
from etcd import scratch, service
from etcd.bindable import NO_ADDRESS
from machine import files, processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WAIT = 60.0  # seconds for it to be ready; a loaded machine may take many
_BIND = 20.0  # seconds
_POLL = 0.1  # seconds
_LOG = 1 << 20  # bytes
_ROOM = 256 << 20  # bytes: etcd lays out two segments of its log beforehand
_ELECTION = 1000  # milliseconds, at most: one member waits that long before it leads
_SYSTEMD = pathlib.Path("/run/systemd/system")
_NOT_FOR_A_TRIAL = (
    "Exec",
    "Restart",
    "RuntimeDirectory",
    "Timeout",
    "Type",
    "ReadWritePaths",
)


def why_not(config: etcd_config.Config, folder: pathlib.Path) -> str:
    """Why etcd could not start on this unit with this configuration, "" where it can.

    Args:
        config: what the service would be told.
        folder: a directory to make, on the disk of the data; it is removed again.

    Raises:
        errors.EtcdError: that cannot be told now, for reasons that are not the configuration's.
    """
    if problem := _not_bindable((*config.listen_client_urls, *config.listen_peer_urls)):
        return problem
    try:
        files.remove(folder)
        folder.mkdir(mode=0o700, parents=True)
        if shutil.disk_usage(folder).free < _ROOM:
            raise errors.DataError(
                f"{folder.parent} has less than {_ROOM >> 20} MiB free, too little to try etcd's "
                "new configuration: the one of before stays in use"
            )
        return _started(config, folder)
    except OSError as error:
        raise errors.DataError(
            f"etcd's new configuration cannot be tried in {folder}: {error.strerror}; the one of "
            "before stays in use"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_bindable(urls: Iterable[str]) -> str:
    """Which of these cannot be listened on by a user without rights; etcd's own places count."""
    wanted: list[str] = []
    for url in sorted(set(urls) - etcd_config.listening()):
        parts = urllib.parse.urlsplit(url)
        wanted += [parts.hostname or "", str(parts.port)]
    if not wanted:
        return ""
    try:
        process = processes.start(
            processes.python("etcd.bindable", *wanted), stdout=processes.PIPE, outside=True
        )
        with process:
            said, _ = process.communicate(timeout=_BIND)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.ToolError(f"whether ports are free could not be tried: {error}") from error
    if process.returncode:
        raise errors.ToolError("whether ports are free could not be tried")
    problem = said.decode(errors="replace").strip()
    if problem.endswith(NO_ADDRESS):
        raise errors.DataError(f"{problem}: etcd's configuration of before stays in use")
    return problem


def _started(config: etcd_config.Config, folder: pathlib.Path) -> str:
    trial = _on_loopback(config, folder)
    text = folder / "etcd.conf.yaml"
    files.write(text, etcd_config.render(trial), 0o644)
    name = f"etcd-trial-{secrets.token_hex(8)}"
    own = {**service.environment(), "NOTIFY_SOCKET": f"@{name}"}
    command = processes.alone([str(service.binary("etcd")), "--config-file", str(text)], **own)
    by_systemd = not os.geteuid() and _SYSTEMD.is_dir() and service.UNIT_FILE.exists()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
        (folder / "log").open("w+b") as log,  # what has this name later may be another's
    ):
        if by_systemd:
            files.chown(folder, service.USER)
            command = [*_as_the_service(name, folder), *command]
        told.bind(f"\0{name}")
        process = processes.start(command, stdout=log.fileno(), stderr=processes.STDOUT)
        try:
            ready = _await_ready(told, process)
        finally:
            if by_systemd:
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    processes.run(["systemctl", "stop", f"{name}.service"], 60)
            _end(process)
        log.seek(0)
        lines = log.read(_LOG).decode(errors="replace").splitlines()
        return "" if ready else _reason(lines, process.returncode)


def _on_loopback(config: etcd_config.Config, folder: pathlib.Path) -> etcd_config.Config:
    """The same, for a member that is alone and that nobody reaches."""
    client_url, peer_url = (etcd_config.url("127.0.0.1", port) for port in scratch.free_ports(2))
    election = min(config.election_ms, _ELECTION)
    return dataclasses.replace(
        config,
        data_dir=folder / "data",
        listen_client_urls=(client_url,),
        advertise_client_urls=(client_url,),
        listen_peer_urls=(peer_url,),
        advertise_peer_urls=(peer_url,),
        metrics_urls=(),
        token="trial",  # noqa: S106 - nobody joins it
        initial=etcd_config.Initial.NEW,
        initial_cluster=f"{config.name}={peer_url}",
        heartbeat_ms=min(config.heartbeat_ms, election // 5),
        election_ms=election,
        compare=False,
    )


def _as_the_service(name: str, folder: pathlib.Path) -> list[str]:
    """What has systemd run a command as it runs etcd, with its user and its limits."""
    unit = service.UNIT_FILE.read_text()
    limits = [
        line.strip()
        for line in unit.partition("[Service]")[2].partition("[Install]")[0].splitlines()
        if "=" in line and not line.startswith(("#", *_NOT_FOR_A_TRIAL))
    ]
    limits += [f"ReadWritePaths={folder}", "TimeoutStopSec=10"]
    return [
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={name}"),
        *(f"--property={limit}" for limit in limits),
    ]


def _await_ready(told: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    """Whether it says that it is ready; False when it ends instead.

    Raises:
        errors.ToolError: neither in time.
    """
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        if select.select([told], [], [], _POLL)[0]:
            if b"READY=1" in told.recv(4096):
                return True
        elif process.poll() is not None:
            return False
    raise errors.ToolError(
        f"etcd was not ready within {WAIT:.0f} s with its new configuration: the one of before "
        "stays in use, and the new one is tried again"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_ELSEWHERE = (
    failures.FailureKind.DISK_FULL,
    failures.FailureKind.MEMORY,
    failures.FailureKind.CERTIFICATE,
)
"""Kinds of failure that the options have no part in."""


def _reason(lines: Sequence[str], code: int) -> str:
    """What etcd died of, in its own words.

    Raises:
        errors.ToolError: it was not the configuration, or etcd did not say.
    """
    failure = failures.reason(lines) or failures.last_complaint(lines)
    if failure is None or failure.kind in _ELSEWHERE:
        why = failure.sentence if failure else f"it ends with {code}"
        raise errors.ToolError(
            f"etcd could not be tried with its new configuration: {why}; the one of before stays "
            "in use, and the new one is tried again",
            "\n".join(lines[-20:]),
        )
    return failure.sentence
