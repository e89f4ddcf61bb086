"""What etcd refuses while it runs: certificates whose serial numbers are on its list."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING

import pytest

import errors
from etcd import client as clients
from etcd import config as etcd_config
from tls import authority, certificate, pem_files, revocation, served, store

if TYPE_CHECKING:
    import pathlib


@dataclasses.dataclass
class Trust:
    """An authority, what it signed, and the list."""

    folder: pathlib.Path
    signer: authority.Authority = dataclasses.field(
        default_factory=lambda: authority.Authority.create("CA")
    )

    def issue(
        self, name: str, usage: authority.Usage = authority.Usage.BOTH
    ) -> pem_files.TLSFiles:
        pair = self.signer.sign(name, ("127.0.0.1", "localhost"), usage)
        disk = store.Store(self.folder / name, owner=None)
        disk.publish("peer", pair.cert, pair.key, self.signer.ca)
        at = disk.path("peer")
        return pem_files.TLSFiles(at / "ca.pem", at / "cert.pem", at / "key.pem")

    @property
    def list(self) -> pathlib.Path:
        return self.folder / "revoked.crl"

    def revoke(self, *which: pem_files.TLSFiles) -> None:
        facts = [certificate.parse(f.cert.read_bytes(), self.signer.ca) for f in which]
        self.list.write_bytes(revocation.render(self.signer, {f.serial: 1 for f in facts}))


@pytest.fixture
def trust(tmp_path: pathlib.Path) -> Trust:
    made = Trust(tmp_path / "trust")
    made.folder.mkdir()
    made.revoke()
    return made


def reaches(url: str, tls: pem_files.TLSFiles, seconds: float = 3.0) -> bool:
    online = clients.Client([url], tls, seconds)
    with contextlib.suppress(errors.EtcdError, ssl.SSLError, OSError), online:
        return online.revision() > 0
    return False


def found(cluster, trust: Trust, *shown: pem_files.TLSFiles) -> list:
    """A cluster with a member for each certificate."""
    for tls in shown:
        node = cluster.node()
        node.config = dataclasses.replace(
            node.config, server_tls=tls, peer_tls=tls, revoked=trust.list
        )
    initial = ",".join(f"{n.name}={n.peer_url}" for n in cluster.nodes)
    for node in cluster.nodes:
        node.start(initial_cluster=initial, token="t", initial=etcd_config.Initial.NEW)
    cluster.await_healthy()
    return cluster.nodes


def test_given_a_running_member_when_a_certificate_is_revoked_then_no_restart_is_needed(
    cluster, trust
):
    stays, leaves = (trust.issue(n, authority.Usage.CLIENT) for n in ("stays", "leaves"))
    server = trust.issue("etcd-0")
    cluster.tls = stays
    (node,) = found(cluster, trust, server)
    assert reaches(node.client_url, leaves)
    trust.revoke(leaves)
    assert not reaches(node.client_url, leaves)
    assert reaches(node.client_url, stays)
    trust.revoke()
    assert reaches(node.client_url, leaves)


def test_given_a_member_that_was_removed_when_its_certificate_is_revoked_then_peers_refuse_it(
    cluster, trust
):
    admin = trust.issue("root", authority.Usage.CLIENT)
    cluster.tls = admin
    tls = [trust.issue(f"etcd-{n}") for n in range(3)]
    nodes = found(cluster, trust, *tls)
    leaver = nodes[2]
    online = cluster.client(*nodes[:2])
    gone = next(m for m in online.members().members if m.name == leaver.name)
    until = time.monotonic() + 20
    while True:
        try:
            online.remove(gone.id)
            break
        except errors.UnhealthyError:
            assert time.monotonic() < until
            time.sleep(0.5)
    leaver.stop()
    urls = [node.peer_url for node in nodes[:2]]
    folder = tls[2].cert.parent
    assert set(served.ask_all(urls, folder)) == set(urls)
    assert answers(urls[0], tls[2])
    trust.revoke(tls[2])
    assert not answers(urls[0], tls[2])
    assert answers(urls[0], tls[1])
    for node in nodes[:2]:  # those that stay find each other again after any restart
        node.stop()
        node.start()
        cluster.await_healthy(nodes=nodes[:2])


def answers(url: str, tls: pem_files.TLSFiles) -> bool:
    """Whether a peer port talks to who shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(tls.ca)
    context.load_cert_chain(tls.cert, tls.key)
    parts = urllib.parse.urlsplit(url)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((parts.hostname or "", parts.port or 0), 3) as raw,
        context.wrap_socket(raw) as peer,
    ):
        peer.sendall(b"GET /version HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
        return peer.recv(4096).startswith(b"HTTP/1.1 200")
    return False
