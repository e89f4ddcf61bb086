"""What we sign, and how we swap it, with a real etcd on loopback."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from tls import authority, certificate, client_archive, store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not (shutil.which("etcd") and shutil.which("etcdctl")), reason="etcd is not installed"
)
SANS = ["127.0.0.1", "localhost"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Etcd:
    """One member on loopback with certificates from a store, as the charm runs it."""

    def __init__(self, at: pathlib.Path):
        self.at = at
        self.ours = authority.Authorities.create("etcd")
        self.disk = store.Store(at / "tls", owner=None)
        self.port, self.peer_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        peer = self.ours.peer.sign("etcd-0", SANS)
        self.disk.publish("peer", peer.cert, peer.key, self.ours.peer.ca)
        self.serve(self.ours.client.sign("etcd-0", SANS))

    def serve(self, pair: authority.Pair) -> None:
        self.disk.publish("server", pair.cert, pair.key, self.ours.client.ca)

    def command(self) -> list[str]:
        peer = f"https://127.0.0.1:{self.peer_port}"
        flags = {
            "name": "etcd-0",
            "data-dir": self.at / "data",
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"etcd-0={peer}",
            "client-cert-auth": "true",
            "peer-client-cert-auth": "true",
            "cert-file": self.disk.path("server") / "cert.pem",
            "key-file": self.disk.path("server") / "key.pem",
            "trusted-ca-file": self.disk.path("server") / "ca.pem",
            "peer-cert-file": self.disk.path("peer") / "cert.pem",
            "peer-key-file": self.disk.path("peer") / "key.pem",
            "peer-trusted-ca-file": self.disk.path("peer") / "ca.pem",
        }
        return ["etcd", *(f"--{key}={value}" for key, value in flags.items())]

    def ctl(self, directory: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "etcdctl",
                f"--endpoints={self.url}",
                f"--cacert={directory / 'ca.pem'}",
                f"--cert={directory / 'cert.pem'}",
                f"--key={directory / 'key.pem'}",
                "--command-timeout=3s",
                *arguments,
            ],
            env={"ETCDCTL_API": "3", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def admin(self) -> pathlib.Path:
        pair = self.ours.client.sign("root", (), authority.Usage.CLIENT)
        self.disk.publish("client", pair.cert, pair.key, self.ours.client.ca)
        return self.disk.path("client")

    def log(self) -> str:
        return (self.at / "log").read_text()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    made = Etcd(tmp_path_factory.mktemp("etcd"))
    with (
        (made.at / "log").open("w") as log,
        subprocess.Popen(made.command(), stdout=log, stderr=log) as process,
    ):
        try:
            admin = made.admin()
            deadline = time.monotonic() + 30
            while made.ctl(admin, "endpoint", "health").returncode:
                assert process.poll() is None, made.log()
                assert time.monotonic() < deadline, made.log()
            yield made
        finally:
            process.terminate()
            process.wait(timeout=20)


def shown(port: int, directory: pathlib.Path) -> str:
    """Fingerprint of the certificate that the port shows."""
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as sock,
    ):
        der = sock.getpeercert(binary_form=True)
    assert der is not None
    return certificate.fingerprint(ssl.DER_cert_to_PEM_cert(der).encode())


def test_given_our_certificates_when_a_client_writes_then_it_can_read(etcd):
    admin = etcd.disk.path("client")
    assert etcd.ctl(admin, "put", "key", "value").returncode == 0
    assert etcd.ctl(admin, "get", "key", "--print-value-only").stdout == "value\n"


def test_given_a_running_etcd_when_its_gateway_dials_it_then_nothing_is_refused(etcd):
    assert "bad certificate" not in etcd.log()


def test_given_a_certificate_of_another_authority_when_it_connects_then_refused(etcd, tmp_path):
    other = authority.Authorities.create("other").client
    disk = store.Store(tmp_path, owner=None)
    pair = other.sign("root", (), authority.Usage.CLIENT)
    disk.publish("client", pair.cert, pair.key, other.ca)
    (disk.path("client") / "ca.pem").write_bytes(etcd.ours.client.ca)
    assert etcd.ctl(disk.path("client"), "get", "key").returncode != 0


def asked(port: int, directory: pathlib.Path, ca: bytes) -> bytes:
    """What the port answers to whoever shows this certificate and believes the server.

    With TLS 1.3 a client learns only when it reads that its certificate was refused.
    """
    context = ssl.create_default_context(cadata=ca.decode())
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        return sock.recv(4096)


def test_given_a_peer_of_this_cluster_when_it_calls_the_peer_port_then_answered(etcd):
    answer = asked(etcd.peer_port, etcd.disk.path("peer"), etcd.ours.peer.ca)
    assert b"etcdserver" in answer


@pytest.mark.parametrize("who", ["our client", "another cluster's peer"])
def test_given_no_peer_of_this_cluster_when_it_calls_the_peer_port_then_refused(
    etcd, tmp_path, who
):
    directory = etcd.disk.path("client")
    if who != "our client":
        other = authority.Authorities.create("etcd").peer
        disk = store.Store(tmp_path, owner=None)
        pair = other.sign("etcd-0", SANS)
        disk.publish("peer", pair.cert, pair.key, other.ca)
        directory = disk.path("peer")
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"alert|reset|EOF|closed"):
        asked(etcd.peer_port, directory, etcd.ours.peer.ca)


@pytest.mark.parametrize("which", ["port", "peer_port"])
def test_given_plaintext_when_it_connects_then_refused(etcd, which):
    with socket.create_connection(("127.0.0.1", getattr(etcd, which)), timeout=5) as sock:
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = sock.recv(4096)
    assert b"etcdserver" not in answer
    assert b"200 OK" not in answer


def test_given_a_running_etcd_when_its_pair_is_swapped_then_the_next_handshake_shows_it(etcd):
    admin = etcd.disk.path("client")
    for _ in range(3):
        etcd.serve(etcd.ours.client.sign("etcd-0", SANS))
        facts = etcd.disk.load("server")
        assert facts is not None
        assert shown(etcd.port, admin) == facts.fingerprint
        assert etcd.ctl(admin, "get", "key").returncode == 0


def test_given_a_bundle_when_a_stranger_has_only_that_then_it_can_put_and_get(etcd, tmp_path):
    pair = etcd.ours.client.sign("reader", (), authority.Usage.CLIENT, days=1)
    path = tmp_path / "etcd_client_credentials.tar.gz"
    client_archive.write(pair, etcd.ours.client.ca, [etcd.url], path, owner=None)
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path, filter="data")
    done = subprocess.run(
        ["sh", "-c", ". ./env && etcdctl put a b && etcdctl get a --print-value-only"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.splitlines() == ["OK", "b"]
