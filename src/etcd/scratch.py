"""Etcd for a moment: a member on loopback, over TLS, that no other machine can reach.

A backup is proven in one and a survivor's data is read by one. Its certificate lives as long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import errors
from etcd import client as clients
from etcd import config as etcd_config
from etcd import failure as failures
from etcd import service
from machine import files, processes
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL = 0.1  # seconds between two looks at a member that starts
_STOP = 30  # seconds for it to end
_MACHINES = (
    failures.FailureKind.DISK_FULL, failures.FailureKind.MEMORY, failures.FailureKind.ADDRESS
)  # fmt: skip
_LACKS = re.compile(
    r"no space left on device|[Dd]isk quota exceeded|out of memory|cannot allocate memory|"
    r"too many open files|resource temporarily unavailable"
)


class ScratchError(errors.EtcdError):
    """It does not start; the text is the reason.

    Attributes:
        machine: the disk or the memory of the machine is to blame, and not the data.
    """

    def __init__(self, sentence: str, machine: bool = False) -> None:
        super().__init__(sentence)
        self.machine = machine


@dataclasses.dataclass(frozen=True)
class Member:
    """A started member.

    Attributes:
        config: what it was told.
        process: the process.
        log: where it writes.
    """

    config: etcd_config.Config
    process: subprocess.Popen[bytes]
    log: pathlib.Path

    @property
    def endpoint(self) -> str:
        """Its client URL."""
        return self.config.advertise_client_urls[0]

    def client(self, timeout: float = 5.0) -> clients.Client:
        """A client of it; the caller closes it."""
        return clients.Client([self.endpoint], self.config.server_tls, timeout=timeout)

    def await_healthy(self, online: clients.Client, check: Callable[[], object]) -> None:
        """Wait until it has a quorum and answers.

        Args:
            online: a client of it.
            check: called at every look; what it raises ends the waiting.

        Raises:
            ScratchError: it ended.
        """
        while True:
            check()
            if self.process.poll() is not None:
                raise self._failure()
            try:
                online.health()
            except errors.EtcdError:
                time.sleep(_POLL)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, if it has not ended, and wait for that."""
        self.process.send_signal(how)
        try:
            self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _failure(self) -> ScratchError:
        code = self.process.returncode
        found = failures.reason(self.log.read_text(errors="replace").splitlines())
        sentence = found.sentence if found else f"etcd ends with {code}"
        machine = found is not None and found.kind in _MACHINES
        return ScratchError(sentence, machine or code == -signal.SIGKILL or lacks(sentence))


def lacks(said: str) -> bool:
    """Whether a program ended for want of disk or memory, by what it said (Go, Linux)."""
    return bool(_LACKS.search(said))


def config(
    name: str,
    folder: pathlib.Path,
    tls: pem_files.TLSFiles | None = None,
    urls: tuple[str, str] | None = None,
    **options: Any,
) -> etcd_config.Config:
    """A configuration for `start`, with its data in `folder/data`.

    Args:
        name: the member's name.
        folder: a directory of its own, which exists.
        tls: for clients and peers alike, by default a certificate made in `folder`.
        urls: for clients and for peers, by default ports of loopback that are free now.
        options: further fields of `service.Config`.
    """
    client_url, peer_url = urls or (etcd_config.url("127.0.0.1", port) for port in free_ports(2))
    tls = tls or certificate(folder)
    values: dict[str, Any] = {"quota_bytes": 64 * etcd_config.GiB, "log_level": "warn"}
    values |= {"gateway": False, **options}
    return etcd_config.Config(
        name=name,
        data_dir=folder / "data",
        version=service.version(),
        listen_client_urls=(client_url,),
        advertise_client_urls=(client_url,),
        listen_peer_urls=(peer_url,),
        advertise_peer_urls=(peer_url,),
        server_tls=tls,
        peer_tls=tls,
        **values,
    )


def start(
    config: etcd_config.Config,
    *,
    force_new_cluster: bool = False,
    memory: int | None = None,
    folder: int | None = None,
) -> Member:
    """Start etcd on `config.data_dir`; its configuration and its log lie beside that.

    Args:
        config: what to tell it, see the function `config`.
        force_new_cluster: make a cluster of one of what the data says.
        memory: bytes that it shall try to stay under, None for no such wish.
        folder: the open directory of all that, for data that comes from outside: a user without
            any rights works on it, and reaches nothing but what is in there.
    """
    place = config.data_dir.parent
    seen = place.absolute() if folder is None else pathlib.Path(f"/proc/self/fd/{folder}")
    configuration, log = place / "etcd.conf.yaml", place / "log"
    configuration.write_text(etcd_config.render(_moved(config, place, seen), force_new_cluster))
    command = [str(service.binary("etcd")), "--config-file", str(seen / configuration.name)]
    if folder is not None:
        for path in (configuration, *dataclasses.astuple(config.server_tls)):
            path.chmod(0o644)  # nobody else gets in there
        # The first to go when memory is short, and nobody but itself may say so.
        order = 'echo 1000 >/proc/self/oom_score_adj; exec "$@"'
        command = ["/bin/sh", "-c", order, "sh", *command]
    environment = service.environment()
    if memory is not None:
        environment["GOMEMLIMIT"] = f"{memory >> 20}MiB"
    with log.open("ab") as output:
        process = processes.start(
            command,
            stdout=output.fileno(),
            stderr=processes.STDOUT,
            environment=environment,
            descriptors=() if folder is None else (folder,),
            outside=folder is not None,
        )
    return Member(config, process, log)


def _moved(
    config: etcd_config.Config, place: pathlib.Path, seen: pathlib.Path
) -> etcd_config.Config:
    """The same, as a process writes its paths to which the folder has another name."""
    if seen == place.absolute():
        return config
    tls = pem_files.TLSFiles(
        *(seen / path.name for path in dataclasses.astuple(config.server_tls))
    )
    data_dir = seen / config.data_dir.name
    return dataclasses.replace(config, data_dir=data_dir, server_tls=tls, peer_tls=tls)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def certificate(folder: pathlib.Path) -> pem_files.TLSFiles:
    """A key and a certificate for loopback and CN=root, good for two days, and who signed it."""
    from tls import authority  # costly, and few hooks need it

    signer = authority.Authority.create("scratch", days=2)
    pair = signer.sign("root", ["127.0.0.1"], days=2)
    paths = pem_files.TLSFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    files.write(paths.ca, signer.ca, 0o600)
    files.write(paths.cert, pair.cert, 0o600)
    files.write(paths.key, pair.key, 0o600)
    return paths
