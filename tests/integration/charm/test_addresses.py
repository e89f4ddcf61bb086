"""Machines get new addresses, under a load that remembers every acknowledged write."""

from __future__ import annotations

import json
import pathlib
import socket
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually
from load import running

if TYPE_CHECKING:
    import jubilant

pytestmark = pytest.mark.minijuju


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, pack_charm, charms) -> Cluster:
    """Three units, and an application that uses them."""
    juju.deploy(etcd_charm, "etcd", num_units=3)
    requires = {"requires": {"db": {"interface": "etcd"}}}
    juju.deploy(pack_charm(charms / "probe", metadata=requires), "user")
    juju.integrate("user:db", "etcd:db")
    deployed = Cluster(juju)
    deployed.wait_healthy(3)
    return deployed


def readdress(cluster: Cluster, unit: str) -> str:
    """Give the unit's machine another address; answers with the new one."""
    before = cluster.address(unit)
    cluster.juju.cli("chaos", "readdress", cluster.units()[unit].machine)
    return eventually(lambda: a if (a := cluster.address(unit)) != before else "")


def told(cluster: Cluster) -> set[str]:
    """The connection strings that the user of the cluster is told, by any unit."""
    shown = json.loads(cluster.juju.cli("show-unit", "user/0", "--format", "json"))
    relation = next(r for r in shown["user/0"]["relation-info"] if r["endpoint"] == "db")
    return {
        unit["data"].get("connection_string", "") for unit in relation["related-units"].values()
    }


def advertised(cluster: Cluster, asked: str = "") -> dict[str, list[str]]:
    """Member name to its peer and client URLs, {} while the unit asked has no quorum."""
    answer = cluster.etcdctl(asked or cluster.leader(), "member list -w json", ok=False)
    try:
        members = json.loads(answer)["members"]
    except ValueError:
        return {}
    return {m["name"]: [*m["peerURLs"], *m.get("clientURLs", [])] for m in members}


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_given_a_new_address_when_config_changed_runs_then_the_same_member_is_there(
    cluster: Cluster, tmp_path: pathlib.Path, leads: bool
):
    cluster.credentials(tmp_path)
    identities = {m["name"]: m["ID"] for m in cluster.members(cluster.leader())["members"]}
    unit = next(name for name, unit in cluster.units().items() if bool(unit.leader) is leads)
    with running([u.public_address for u in cluster.units().values()], tmp_path) as load:
        address = readdress(cluster, unit)
        urls = [f"https://{address}:2380", f"https://{address}:2379"]
        name = unit.replace("/", "-")
        other = next(each for each in cluster.units() if each != unit)
        eventually(lambda: advertised(cluster, other).get(name) == urls, timeout=240)
        cluster.wait_healthy(3, timeout=300)
    assert {m["name"]: m["ID"] for m in cluster.members(unit)["members"]} == identities
    assert load.missing(urls[1:]) == []
    assert len(cluster.hashes()) == 1
    everywhere = ",".join(sorted(urls[1] for urls in advertised(cluster).values()))
    eventually(lambda: told(cluster) == {everywhere})
    print(f"{len(load.times)} writes, longest gap {load.longest_gap():.2f} s")


def ipv6_space(juju: jubilant.Juju) -> str:
    """A space of the model's IPv6 subnet; `alpha` has IPv4 alone from then on."""
    subnets = json.loads(juju.cli("subnets", "--format", "json"))["subnets"]
    juju.cli("add-space", "six", next(subnet for subnet in subnets if ":" in subnet))
    return "six"


def test_given_only_ipv6_when_deployed_then_it_founds_grows_and_restarts(juju_model, etcd_charm):
    with juju_model() as juju:
        juju.deploy(etcd_charm, "etcd", num_units=2, bind=ipv6_space(juju))
        cluster = Cluster(juju)
        cluster.wait_healthy(2)
        juju.add_unit("etcd")
        cluster.wait_healthy(3)
        process = "systemctl show etcd --property=MainPID --value"
        before = {unit: cluster.shell(unit, process) for unit in cluster.units()}
        juju.config("etcd", {"heartbeat-interval": 120, "election-timeout": 1200})
        eventually(lambda: all(cluster.shell(u, process) != pid for u, pid in before.items()))
        cluster.wait_healthy(3)
        for peer, client in advertised(cluster).values():
            assert peer.startswith("https://[fd")
            assert client.startswith("https://[fd")
            # From any unit, by address: the certificate names it.
            cluster.etcdctl(cluster.leader(), "endpoint health", endpoints=client)


def test_given_a_space_for_peers_when_deployed_then_clients_are_on_another_network(
    juju_model, etcd_charm
):
    with juju_model() as juju:
        space = ipv6_space(juju)
        juju.deploy(etcd_charm, "etcd", num_units=3, bind={"cluster": space})
        cluster = Cluster(juju)
        cluster.wait_healthy(3)
        for peer, client in advertised(cluster).values():
            assert peer.startswith("https://[fd")
            assert client.startswith("https://198.")
        for unit in cluster.units():
            address = cluster.address(unit)
            socket.create_connection((address, 2379), timeout=5).close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, 2380), timeout=5)
