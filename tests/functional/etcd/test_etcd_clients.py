"""Who is a client: our authority's, where an outside authority signs what the servers show."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import urllib.parse

import etcd_cluster
import pytest

from etcd import client as clients
from etcd import config as etcd_config
from etcd import gateway, grpc_calls, service
from tls import authority, certificate, pem_files, store

LOOPBACK = ("127.0.0.1", "localhost")


class Served:
    """One member that shows a certificate of an outside authority."""

    def __init__(self, cluster: etcd_cluster.Cluster) -> None:
        self.cluster = cluster
        self.ours = authority.Authorities.create("etcd")
        self.outside = authority.Authority.create("outside CA")
        self.disk = store.Store(cluster.folder / "unit", owner=None)
        root = cluster.folder / "unit"
        self._publish("peer", self.ours.peer.sign("etcd-0", LOOPBACK), self.ours.peer.ca)
        both = certificate.bundle(self.ours.client.ca, self.outside.ca)
        self._publish("server", self.outside.sign("etcd-0-1a2b3c4d", LOOPBACK), both)
        self.believe(self.ours.client.ca)
        self.node = etcd_cluster.Node("etcd-0", cluster.folder / "0", self.tls("peer"))
        cluster.nodes.append(self.node)
        self.node.config = dataclasses.replace(
            self.node.config,
            server_tls=etcd_config.served_tls(root),
            gateway_tls=etcd_config.tls_files(etcd_config.GATEWAY, root),
            gateway=service.version() >= etcd_config.OWN_GATEWAY,
            initial_cluster=f"etcd-0={self.node.peer_url}",
            initial=etcd_config.Initial.NEW,
            token="t-1",
        )

    def _publish(self, name: str, pair: authority.Pair, ca: bytes) -> None:
        self.disk.publish(name, pair.cert, pair.key, ca)

    def believe(self, ca: bytes) -> None:
        """Clients of these authorities."""
        self._publish("gateway", self.ours.client.sign("", (), authority.Usage.CLIENT), ca)

    def tls(self, name: str) -> pem_files.TLSFiles:
        return etcd_config.tls_files(name, self.cluster.folder / "unit")

    def of(self, signer: authority.Authority, common_name: str) -> pem_files.TLSFiles:
        """A client's files; it verifies the server as everybody does."""
        disk = store.Store(self.cluster.folder / f"{common_name}-{signer.fingerprint[:8]}", None)
        pair = signer.sign(common_name, (), authority.Usage.CLIENT)
        both = certificate.bundle(self.ours.client.ca, self.outside.ca)
        disk.publish("client", pair.cert, pair.key, both)
        return etcd_config.tls_files("client", disk.path("client").parent)

    def reach(self, tls: pem_files.TLSFiles) -> clients.Client:
        made = clients.Client([self.node.client_url], tls, 3.0)
        self.cluster.clients.append(made)
        return made

    def start(self, **changes: object) -> clients.Client:
        self.node.start(**changes)
        return self.await_served()

    def await_served(self) -> clients.Client:
        online = self.reach(self.of(self.ours.client, "root"))
        assert self.node.member
        self.node.member.await_healthy(online, lambda: None)
        return online

    def ctl(self, tls: pem_files.TLSFiles, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                str(service.binary("etcdctl")), f"--endpoints={self.node.client_url}",
                f"--cacert={tls.ca}", f"--cert={tls.cert}", f"--key={tls.key}",
                "--dial-timeout=4s", "--command-timeout=8s", *arguments,
            ],
            capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"},
        )  # fmt: skip

    def refusals(self) -> list[str]:
        lines = self.node.log.read_text().splitlines()
        return [line for line in lines if "rejected connection" in line]


@pytest.fixture
def served(cluster):
    return Served(cluster)


def post(served: Served, tls: pem_files.TLSFiles, path: str, body: dict, **headers: str):
    """What the JSON gateway answers; no header but those that are named."""
    parts = urllib.parse.urlsplit(served.node.client_url)
    context = gateway.context(tls.ca, tls.cert, tls.key)
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port, context=context, timeout=5
    )
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.parametrize("name", ["root", "reader", "etcd-0"])
def test_given_an_outside_authority_when_it_signs_a_client_then_the_port_refuses_it(served, name):
    online = served.start()
    online.put("key", "value")
    attacker = served.of(served.outside, name)
    answered = served.ctl(attacker, "put", "key", "lost")
    assert answered.returncode != 0 and not answered.stdout.strip()
    assert any("unknown authority" in line for line in served.refusals())
    with pytest.raises(OSError):
        post(served, attacker, "/v3/maintenance/status", {})
    assert online.get("key").value == b"value"


@pytest.mark.parametrize("name", ["root", "reader"])
def test_given_the_option_when_an_outside_authority_signs_a_client_then_it_is_served(served, name):
    served.believe(certificate.bundle(served.ours.client.ca, served.outside.ca))
    served.start()
    stranger = served.of(served.outside, name)
    assert served.ctl(stranger, "put", "key", "value").stdout == "OK\n"
    assert served.ctl(served.of(served.ours.client, "ours"), "get", "key").returncode == 0


def test_given_an_outside_authority_when_its_server_is_shown_then_it_is_no_client_either(served):
    served.start()
    shown = dataclasses.replace(served.tls("server"), ca=served.of(served.outside, "x").ca)
    assert served.ctl(shown, "get", "key").returncode != 0


def test_given_an_outside_authority_when_looked_at_then_the_charm_is_answered_and_none_refused(
    served, monkeypatch
):
    served.start()
    before = len(served.refusals())
    monkeypatch.setattr(grpc_calls, "loaded", lambda: False)
    if service.version() >= etcd_config.OWN_GATEWAY:
        monkeypatch.setattr(grpc_calls, "etcd3", lambda: pytest.fail("gRPC was needed"))
    online = served.reach(served.of(served.ours.client, "root"))
    assert online.observe().members[0].healthy and online.health() > 0
    assert before == len(served.refusals()) == 0


def test_given_authentication_when_the_gateway_is_asked_then_it_is_nobody(served):
    """etcd takes the name in the gateway's certificate for the user's, without `Accept`."""
    online = served.start()
    online.put("key", "value")
    root = served.of(served.ours.client, "root")
    if service.version() >= (3, 5, 0):
        assert served.ctl(root, "user", "add", "root", "--no-password").returncode == 0
    else:
        added = ("user", "add", "root", "--interactive=false", "--new-user-password=x")
        assert served.ctl(root, *added).returncode == 0
    for arguments in (("user", "grant-role", "root", "root"), ("auth", "enable")):
        assert served.ctl(root, *arguments).returncode == 0
    for headers in ({}, {"Accept": "*/*"}):
        for tls in (root, served.of(served.ours.client, "etcd-0")):
            status, text = post(served, tls, "/v3/kv/range", {"key": "a2V5"}, **headers)
            assert status != 200 and "kvs" not in text
    assert served.ctl(root, "get", "key").stdout.split() == ["key", "value"]
    assert served.ctl(served.of(served.ours.client, "etcd-0"), "get", "key").returncode != 0


def test_given_the_gateway_off_when_closed_to_clients_then_units_are_answered_by_it(served):
    closed = etcd_config.closed_to_clients(served.node.config)
    founder = served.ours.peer.sign("root", (), authority.Usage.CLIENT)
    served._publish("founder", founder, served.ours.peer.ca)
    served.node.config = closed
    served.node.start()
    online = served.reach(served.tls("founder"))
    served.node.member.await_healthy(online, lambda: None)
    status, _ = post(served, served.tls("founder"), "/v3/maintenance/status", {})
    assert status == 200 and online.health() > 0
    assert not served.refusals()


def test_given_an_etcd_of_an_earlier_charm_when_it_changes_over_then_ours_are_always_let_in(
    served,
):
    """Its file names `server/ca.pem`, in which our authority stays, for who is a client."""
    earlier = {"server_tls": served.tls("server"), "gateway_tls": None, "gateway": True}
    served.start(**earlier)
    ours = served.of(served.ours.client, "consumer")
    assert served.ctl(ours, "put", "key", "1").returncode == 0
    assert served.ctl(served.of(served.outside, "root"), "get", "key").returncode == 0
    served.node.stop()  # it crashes before the new configuration is there
    served.start(**earlier)
    assert served.ctl(ours, "get", "key").returncode == 0
    served.node.stop()
    served.start()
    assert served.ctl(ours, "get", "key").stdout.split() == ["key", "1"]
    assert served.ctl(served.of(served.outside, "root"), "get", "key").returncode != 0
