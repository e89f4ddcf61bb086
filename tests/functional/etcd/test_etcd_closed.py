"""Restored members that are closed to clients: real handshakes, a real quorum, and the opening."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import subprocess
import time

import etcd_cluster
import pytest

from etcd import client as clients
from etcd import config as etcd_config
from etcd import gateway, service
from etcd import snapshot as snapshots
from tls import authority, pem_files, store

LOOPBACK = ("127.0.0.1",)
REFUSED = r"alert (bad certificate|unknown ca)|alert certificate|reset by peer|EOF"


class Restored:
    """Three members restored from one snapshot, with the certificates that the charm makes."""

    def __init__(self, cluster: etcd_cluster.Cluster, bump: int = 0) -> None:
        self.ours = authority.Authorities.create("etcd")
        self.cluster = cluster
        self.nodes: list[etcd_cluster.Node] = []
        disk = store.Store(cluster.folder / "units", owner=None)
        self._publish(disk, "founder", self.ours.peer.sign("root", (), authority.Usage.CLIENT))
        self._publish(disk, "client", self.ours.client.sign("root", (), authority.Usage.CLIENT))
        self.founder = etcd_config.tls_files("founder", cluster.folder / "units")
        self.client = etcd_config.tls_files("client", cluster.folder / "units")
        taken = cluster.folder / "taken.db"
        cluster.client().snapshot(taken)
        for number in range(3):
            name = f"etcd-{number}"
            own = store.Store(cluster.folder / f"tls-{number}", owner=None)
            self._publish(own, "peer", self.ours.peer.sign(name, LOOPBACK))
            self._publish(own, "server", self.ours.client.sign(name, LOOPBACK))
            at = cluster.folder / f"restored-{number}"
            node = etcd_cluster.Node(
                name, at, etcd_config.tls_files("peer", own.path("peer").parent)
            )
            node.config = dataclasses.replace(
                node.config,
                server_tls=etcd_config.tls_files("server", own.path("server").parent),
                gateway=True,
                token="t-2",
            )
            self.nodes.append(node)
            cluster.nodes.append(node)
        listed = ",".join(f"{node.name}={node.peer_url}" for node in self.nodes)
        for node in self.nodes:
            snapshots.restore(
                taken, node.data_dir, node.name, listed, "t-2", node.peer_url, bump=bump
            )
            node.config = dataclasses.replace(node.config, initial_cluster=listed, compare=False)

    def _publish(self, disk: store.Store, name: str, pair: authority.Pair) -> None:
        signer = self.ours.client if name in ("client", "server") else self.ours.peer
        disk.publish(name, pair.cert, pair.key, signer.ca)

    def start(self, node: etcd_cluster.Node, *, closed: bool) -> None:
        opened = node.config
        if closed:
            node.config = etcd_config.closed_to_clients(opened)
        node.start()
        node.config = opened

    def reach(self, tls: pem_files.TLSFiles, *nodes: etcd_cluster.Node) -> clients.Client:
        made = clients.Client([n.client_url for n in nodes or self.nodes], tls, 3.0)
        self.cluster.clients.append(made)
        return made

    def await_members(
        self, tls: pem_files.TLSFiles, *nodes: etcd_cluster.Node, seconds: float = 20
    ) -> clients.Client:
        """A client of these members, by default of all, once they are healthy."""
        until = time.monotonic() + seconds
        online = self.reach(tls, *nodes)
        names = {node.name for node in nodes or self.nodes}
        while True:
            try:
                if all(m.healthy or m.name not in names for m in online.observe().members):
                    return online
            except clients.errors.EtcdError:
                pass
            assert time.monotonic() < until, self.nodes[0].log.read_text()[-2000:]
            time.sleep(0.1)


@pytest.fixture
def restored(cluster):
    cluster.found(1)
    online = cluster.client()
    for number in range(10):
        online.put(f"key-{number}", "before")
    return Restored(cluster, bump=1000)


def handshake(node: etcd_cluster.Node, tls: pem_files.TLSFiles | None) -> bytes:
    """Shake hands as a client that would believe any server; what the server then sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if tls is not None:
        context.load_cert_chain(tls.cert, tls.key)
    address = node.client_url.rpartition("/")[2].split(":")
    with (
        socket.create_connection((address[0], int(address[1])), timeout=5) as raw,
        context.wrap_socket(raw) as secured,
    ):
        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        if sent := secured.recv(9):  # TLS 1.3 refuses a client only here
            return sent
    raise ConnectionError("EOF")


def etcdctl(restored: Restored, tls: pem_files.TLSFiles, *arguments: str, timeout: float = 20):
    """What a client gets that was told whom to believe, and believes this server as well."""
    believes = restored.cluster.folder / "believes.pem"
    believes.write_bytes(restored.ours.client.ca + restored.ours.peer.ca)
    return subprocess.run(
        [
            str(service.binary("etcdctl")), f"--endpoints={restored.nodes[0].client_url}",
            f"--cacert={believes}", f"--cert={tls.cert}", f"--key={tls.key}",
            "--dial-timeout=1s", "--command-timeout=1s", *arguments,
        ],
        capture_output=True, text=True, timeout=timeout, check=False,
        env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"},
    )  # fmt: skip


def is_refused(restored: Restored, *arguments: str) -> bool:
    """Whether a client gets nothing; for some requests etcdctl tries again for ever."""
    try:
        answered = etcdctl(restored, restored.client, *arguments, timeout=3)
    except subprocess.TimeoutExpired as waited:
        return not waited.stdout
    return answered.returncode != 0 and not answered.stdout.strip()


def test_given_closed_members_when_clients_come_then_only_units_are_let_in_until_opened(restored):
    for node in restored.nodes:
        restored.start(node, closed=True)
    units = restored.await_members(restored.founder)
    revision = units.revision()
    assert revision == 11 + 1000

    for node in restored.nodes:
        for stranger in (restored.client, restored.cluster.tls, None):
            with pytest.raises((ssl.SSLError, ConnectionError), match=f"(?i){REFUSED}"):
                handshake(node, stranger)
        assert handshake(node, restored.founder), "HTTP/2 settings"
    for arguments in (
        ("put", "key-0", "lost"),
        ("get", "key-0"),
        ("watch", "--rev=1", "key-0"),
        ("user", "add", "somebody:secret"),
        ("member", "list"),
        ("alarm", "disarm"),
    ):
        assert is_refused(restored, *arguments), arguments
    assert units.revision() == revision
    assert etcdctl(restored, restored.founder, "get", "key-0").stdout.split() == [
        "key-0",
        "before",
    ]
    context = gateway.context(*dataclasses.astuple(restored.founder))
    through = gateway.Gateway(restored.nodes[1].client_url, context)
    told = through.ask("/v3/maintenance/status", {}, 3.0, need_leader=False)
    assert int(told["header"]["revision"]) == revision
    through.close()
    assert units.health() > 0, "a read by quorum"

    began = time.monotonic()
    for node in restored.nodes:
        node.stop()
        restored.start(node, closed=False)
    opened = restored.await_members(restored.client)
    print(f"opened one after another in {time.monotonic() - began:.1f} s")
    assert opened.revision() == revision
    assert opened.get("key-0").value == b"before"
    assert opened.put("key-0", "after") == revision + 1
    assert etcdctl(restored, restored.client, "user", "add", "somebody:secret").returncode == 0
    for node in restored.nodes:
        with pytest.raises((ssl.SSLError, ConnectionError), match=f"(?i){REFUSED}"):
            handshake(node, restored.founder)


def test_given_one_member_still_closed_when_others_opened_then_all_serve_as_one(restored):
    for number, node in enumerate(restored.nodes):
        restored.start(node, closed=number == 2)
    late = restored.nodes[2]
    online = restored.await_members(restored.client, *restored.nodes[:2])
    written = online.put("key-1", "after")
    inside = restored.reach(restored.founder, late)
    assert inside.get("key-1").value == b"after"
    assert inside.revision() == written
