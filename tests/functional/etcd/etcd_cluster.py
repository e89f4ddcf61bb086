"""Real etcd members on loopback with TLS, without systemd."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import os
import random
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid

from etcd import client, errors, service

if TYPE_CHECKING:
    import pathlib


class Authority:
    """A certificate authority that signs for loopback."""

    def __init__(self, folder: pathlib.Path, name: str = "test") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, f"{name} CA")])
        certificate = self._builder(self.name, self.key.public_key(), True).sign(
            self.key, hashes.SHA256()
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str) -> client.TLSFiles:
        folder = self.folder / common_name
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, common_name)])
        certificate = self._builder(subject, key.public_key(), False).sign(
            self.key, hashes.SHA256()
        )
        files = client.TLSFiles(self.ca, folder / "cert.pem", folder / "key.pem")
        files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _builder(self, subject, public_key, ca):
        now = datetime.datetime.now(datetime.timezone.utc)
        usages = [oid.ExtendedKeyUsageOID.SERVER_AUTH, oid.ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), critical=False
            ).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder


def _ports():
    """Ports below those that the kernel hands out, of another stretch for each test worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    stretch = list(range(20000 + worker * 1200, 20000 + (worker + 1) * 1200))
    random.shuffle(stretch)  # another run may be under way
    while True:
        yield from stretch


_PORTS = _ports()


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found.append(port)
    return found


class Node:
    """One member: a data directory, a configuration, sometimes a process."""

    def __init__(self, name, folder, tls, host="127.0.0.1", **options) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.tls = tls
        client_port, peer_port = free_ports(2, host)
        self.client_url = service.url(host, client_port)
        self.peer_url = service.url(host, peer_port)
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.config = service.Config(
            name=name,
            data_dir=self.data_dir,
            version=service.version(),
            listen_client_urls=(self.client_url,),
            advertise_client_urls=(self.client_url,),
            listen_peer_urls=(self.peer_url,),
            advertise_peer_urls=(self.peer_url,),
            server_tls=tls,
            peer_tls=tls,
            **{"gateway": False, **options},
        )

    def start(self, **changes) -> Node:
        path = self.folder / "etcd.conf.yaml"
        path.write_text(service.render(dataclasses.replace(self.config, **changes)))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(service.binary("etcd")), "--config-file", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        return self

    def stop(self, how: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_end(self, seconds: float = 20) -> list[str]:
        assert self.process is not None
        self.process.wait(seconds)
        return self.log.read_text(errors="replace").splitlines()


class Cluster:
    """Members that found together, and those that join."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "tls")
        self.tls = self.authority.issue("root")
        self.nodes: list[Node] = []
        self.clients: list[client.Client] = []

    def node(self, host="127.0.0.1", **options) -> Node:
        name = f"etcd-{len(self.nodes)}"
        tls = self.authority.issue(name)
        node = Node(name, self.folder / name, tls, host, **options)
        self.nodes.append(node)
        return node

    def found(self, count: int, token: str = "t-1", **options) -> Cluster:
        nodes = [self.node(**options) for _ in range(count)]
        initial_cluster = ",".join(f"{n.name}={n.peer_url}" for n in nodes)
        for node in nodes:
            node.start(initial_cluster=initial_cluster, token=token, initial=service.Initial.NEW)
        self.await_healthy()
        return self

    def client(self, *nodes: Node, timeout: float = 5.0) -> client.Client:
        chosen = nodes or tuple(self.nodes)
        made = client.Client([n.client_url for n in chosen], self.tls, timeout)
        self.clients.append(made)
        return made

    def etcdctl(self, *arguments: str) -> str:
        command = [
            str(service.binary("etcdctl")),
            f"--endpoints={self.nodes[0].client_url}",
            f"--cacert={self.tls.ca}",
            f"--cert={self.tls.cert}",
            f"--key={self.tls.key}",
            *arguments,
        ]
        environment = {"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        ).stdout

    def await_healthy(self, seconds: float = 20, nodes=()) -> None:
        until = time.monotonic() + seconds
        online = self.client(*nodes)
        while True:
            try:
                for endpoint in online.endpoints:
                    online.health(endpoint)
                return
            except errors.EtcdError:  # noqa: PERF203 - until it works
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def join(self, seconds: float = 20) -> Node:
        """Add one more member the charm's way: learner, in sync, promoted."""
        online = self.client(*[n for n in self.nodes if n.process])
        node = self.node()
        added = online.add_learner([node.peer_url])
        node.start(initial_cluster=added.initial_cluster(node.name))
        promote(online, added.member.id, seconds)
        return node

    def close(self) -> None:
        for made in self.clients:
            made.close()
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            node.stop()


def promote(online: client.Client, member_id: int, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            online.promote(member_id)
            return
        except (errors.NotInSyncError, errors.UnhealthyError):  # noqa: PERF203 - until it works
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
