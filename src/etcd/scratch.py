"""Etcd for a moment: a member on loopback, over TLS, that no other machine can reach.

A backup is proven in one and a survivor's data is read by one. Its certificate lives as long.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import processes
from etcd import client, errors, files, service

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

_POLL = 0.1  # seconds between two looks at a member that starts
_STOP = 30  # seconds for it to end


class ScratchError(errors.EtcdError):
    """It does not start; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A started member.

    Attributes:
        config: what it was told.
        process: the process.
        log: where it writes.
    """

    config: service.Config
    process: subprocess.Popen[bytes]
    log: pathlib.Path

    @property
    def endpoint(self) -> str:
        """Its client URL."""
        return self.config.advertise_client_urls[0]

    def client(self, timeout: float = 5.0) -> client.Client:
        """A client of it; the caller closes it."""
        return client.Client([self.endpoint], self.config.server_tls, timeout=timeout)

    def await_healthy(self, online: client.Client, check: Callable[[], object]) -> None:
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
                raise ScratchError(self._reason())
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

    def _reason(self) -> str:
        found = service.reason(self.log.read_text(errors="replace").splitlines())
        return found.sentence if found else f"etcd ends with {self.process.returncode}"


def config(
    name: str,
    folder: pathlib.Path,
    tls: client.TLSFiles | None = None,
    urls: tuple[str, str] | None = None,
    **options: Any,
) -> service.Config:
    """A configuration for `start`, with its data in `folder/data`.

    Args:
        name: the member's name.
        folder: a directory of its own, which exists.
        tls: for clients and peers alike, by default a certificate made in `folder`.
        urls: for clients and for peers, by default ports of loopback that are free now.
        options: further fields of `service.Config`.
    """
    client_url, peer_url = urls or (service.url("127.0.0.1", port) for port in free_ports(2))
    tls = tls or certificate(folder)
    values: dict[str, Any] = {"quota_bytes": 64 * service.GiB, "log_level": "warn"}
    values |= {"gateway": False, **options}
    return service.Config(
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
    config: service.Config, *, force_new_cluster: bool = False, memory: int | None = None
) -> Member:
    """Start etcd on `config.data_dir`; its configuration and its log lie beside that.

    Args:
        config: what to tell it, see the function `config`.
        force_new_cluster: make a cluster of one of what the data says.
        memory: bytes that it shall try to stay under, None for no such wish.
    """
    folder = config.data_dir.parent
    configuration, log = folder / "etcd.conf.yaml", folder / "log"
    configuration.write_text(service.render(config, force_new_cluster))
    environment = service.environment()
    if memory is not None:
        environment["GOMEMLIMIT"] = f"{memory >> 20}MiB"
    with log.open("ab") as output:
        process = processes.start(
            [str(service.binary("etcd")), "--config-file", str(configuration.absolute())],
            stdout=output.fileno(),
            stderr=processes.STDOUT,
            environment=environment,
        )
    return Member(config, process, log)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def certificate(folder: pathlib.Path) -> client.TLSFiles:
    """A key and a certificate for loopback and CN=root, good for two days, and who signed it."""
    from tls import authority  # costly, and few hooks need it

    signer = authority.Authority.create("scratch", days=2)
    pair = signer.sign("root", ["127.0.0.1"], days=2)
    paths = client.TLSFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    files.write(paths.ca, signer.ca, 0o600)
    files.write(paths.cert, pair.cert, 0o600)
    files.write(paths.key, pair.key, 0o600)
    return paths
