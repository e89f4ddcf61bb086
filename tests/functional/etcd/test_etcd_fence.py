"""A generation in a peer certificate: etcd takes no notice, whoever dials it does."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import time

import etcd_cluster
import pytest

import errors
from etcd import config as etcd_config
from etcd import data
from etcd import stamp as stamps
from keeper import fence
from support import keeper_config
from tls import authority, pem_files, served, store

TOKENS = ("0123456789abcdef", "fedcba9876543210")


class Members:
    """A cluster whose peer certificates are published and named as the charm does."""

    def __init__(self, cluster: etcd_cluster.Cluster, folder: pathlib.Path, ca) -> None:
        self.cluster, self.folder, self.ca = cluster, folder, ca
        self.disks: list[store.Store] = []

    def found(self, count: int, number: int, token: str) -> list[etcd_cluster.Node]:
        nodes = []
        for _ in range(count):
            disk = store.Store(self.folder / f"tls-{len(self.disks)}", owner=None)
            self.disks.append(disk)
            self.say(len(self.disks) - 1, number, token)
            node = self.cluster.node()
            at = disk.path("peer")
            tls = pem_files.TLSFiles(at / "ca.pem", at / "cert.pem", at / "key.pem")
            node.config = dataclasses.replace(node.config, peer_tls=tls)
            nodes.append(node)
        initial = ",".join(f"{n.name}={n.peer_url}" for n in nodes)
        for node in nodes:
            node.start(initial_cluster=initial, token=token, initial=etcd_config.Initial.NEW)
        self.cluster.await_healthy(nodes=nodes)
        return nodes

    def say(self, index: int, number: int, token: str) -> None:
        uris = [served.Served.of(number, token).uri] if number else []
        pair = self.ca.sign(f"etcd-{index}", ("127.0.0.1", "localhost"), uris=uris)
        self.disks[index].publish("peer", pair.cert, pair.key, self.ca.ca)

    def peer(self, index: int) -> pathlib.Path:
        return self.disks[index].path("peer")


@pytest.fixture
def members(cluster, tmp_path) -> Members:
    return Members(cluster, tmp_path, authority.Authority.create("peer CA"))


def test_given_three_members_that_name_a_generation_when_asked_then_each_says_it(members, cluster):
    nodes = members.found(3, 1, TOKENS[0])
    online = cluster.client()
    assert len(online.members().members) == 3
    first = served.Served.of(1, TOKENS[0])
    urls = [node.peer_url for node in nodes]
    assert served.ask_all(urls, members.peer(0)) == dict.fromkeys(urls, first)
    # Re-issued under the running etcd; members go on talking to each other.
    members.say(2, 2, TOKENS[1])
    assert served.ask_all([urls[2]], members.peer(0)) == {urls[2]: served.Served.of(2, TOKENS[1])}
    nodes[1].stop()
    nodes[1].start()
    cluster.await_healthy()
    assert "etcd-charm" not in "".join(n.log.read_text(errors="replace") for n in nodes)
    for node in nodes:
        assert not _refused_handshakes(node)


def _refused_handshakes(node) -> list[str]:
    """What etcd said of connections that it refused for what they showed.

    A connection that comes while a member closes its port is refused, too, with "use of
    closed network connection", and says nothing of certificates.
    """
    lines = node.log.read_text(errors="replace").splitlines()
    refused = [json.loads(line) for line in lines if '"rejected connection"' in line]
    return [
        line["error"] for line in refused if re.search(r"tls:|x509:|certificate", line["error"])
    ]


def test_given_an_old_majority_when_the_survivor_serves_a_later_generation_then_it_stops(
    members, cluster, tmp_path
):
    old = members.found(3, 1, TOKENS[0])
    survivor = old[0].peer_url
    guards, waiting = [], {}
    for index in (1, 2):
        root = data.Root(tmp_path / f"root-{index}", owner=None)
        root.new_current(stamps.Stamp(TOKENS[0], 1, None, f"etcd-{index}"))
        others = {n.peer_url: n.name for n in old if n is not old[index]}
        known = fence.Known(str(tmp_path), str(root.path), others, {})
        told, config = tmp_path / f"fence-{index}.json", tmp_path / f"keeper-{index}.json"
        told.write_text(known.to_json())
        tls = cluster.tls
        config.write_text(
            keeper_config.told(local=old[index].client_url, tls=tls, token=TOKENS[0]).to_json()
        )
        node = old[index]
        guards.append(
            fence.Guard(lambda: None, told, config, members.peer(index),
                        lambda n=node: n.process is not None, node.stop)
        )  # fmt: skip
        waiting[index] = root
    until = time.monotonic() + 20
    while any(guard.look() != fence.CALM for guard in guards):
        assert time.monotonic() < until, "all take part"
        time.sleep(0.2)
    assert all(node.process for node in old)
    # The survivor's data founds another generation at the same address.
    old[0].stop()
    members.say(0, 2, TOKENS[1])
    new = dataclasses.replace(old[0].config, data_dir=tmp_path / "new")
    old[0].config = new
    old[0].start(
        initial_cluster=f"etcd-0={survivor}", token=TOKENS[1], initial=etcd_config.Initial.NEW
    )
    cluster.await_healthy(nodes=[old[0]])
    until = time.monotonic() + 20
    while any(old[index].process for index in (1, 2)):
        assert time.monotonic() < until, "the old majority is to stop"
        for guard in guards:
            guard.look()
        time.sleep(0.2)
    for root in waiting.values():
        found = root.fenced()
        assert found is not None
        assert (found.number, found.where) == (2, survivor)
    with pytest.raises(errors.EtcdError):
        cluster.client(old[1], old[2], timeout=1.0).revision()
    assert cluster.client(old[0]).revision() >= 1


def test_given_a_stranger_when_it_serves_a_later_generation_then_nobody_believes_it(
    members, cluster, tmp_path
):
    members.found(1, 1, TOKENS[0])
    other = Members(cluster, tmp_path / "other", authority.Authority.create("another peer CA"))
    (stranger,) = other.found(1, 9, TOKENS[1])
    assert served.ask_all([stranger.peer_url], members.peer(0)) == {}
