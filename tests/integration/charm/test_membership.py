"""Membership for life, under a load that remembers every acknowledged write."""

from __future__ import annotations

import pathlib

import pytest
from cluster_under_test import Cluster, chaos, eventually
from load import running


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """One unit that signs for itself, to begin with."""
    juju.deploy(etcd_charm, "etcd")
    deployed = Cluster(juju)
    deployed.wait_healthy(1)
    return deployed


def addresses(cluster: Cluster) -> list[str]:
    return [unit.public_address for unit in cluster.units().values()]


def endpoints(cluster: Cluster) -> list[str]:
    return [f"https://{address}:2379" for address in addresses(cluster)]


def test_given_one_unit_when_it_grows_and_shrinks_then_no_acknowledged_write_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    with running(addresses(cluster), folder) as load:
        cluster.juju.add_unit("etcd", num_units=2)
        cluster.wait_healthy(3)
        load.endpoints = endpoints(cluster)
        cluster.juju.add_unit("etcd", num_units=2)
        cluster.wait_healthy(5, timeout=420)
        load.endpoints = endpoints(cluster)
        leaving = sorted(cluster.units(), key=lambda name: int(name.split("/")[1]))[:2]
        staying = [
            f"https://{cluster.address(u)}:2379" for u in cluster.units() if u not in leaving
        ]
        load.endpoints = staying
        cluster.juju.remove_unit(*leaving)
        cluster.wait_healthy(3)
    assert load.missing(endpoints(cluster)) == []
    assert len(cluster.hashes()) == 1
    print(f"{len(load.times)} writes, longest gap {load.longest_gap():.2f} s")


@pytest.mark.minijuju
def test_given_a_dead_machine_when_its_unit_is_forced_out_then_a_new_one_replaces_it(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    units = cluster.units()
    dead = next(name for name in units if not units[name].leader)
    living = [f"https://{units[u].public_address}:2379" for u in units if u != dead]
    with running(addresses(cluster), folder) as load:
        load.endpoints = living
        cluster.juju.cli("chaos", "kill", units[dead].machine)
        cluster.juju.remove_unit(dead, force=True)
        cluster.juju.add_unit("etcd")
        cluster.wait_healthy(3, timeout=420)
    assert load.missing(endpoints(cluster)) == []
    assert len(cluster.hashes()) == 1


@pytest.mark.minijuju
def test_given_a_machine_that_is_cut_off_when_it_heals_then_it_is_the_same_member(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    units = cluster.units()
    lost = next(name for name in units if not units[name].leader)
    with running(addresses(cluster), folder) as load:
        load.endpoints = [f"https://{units[u].public_address}:2379" for u in units if u != lost]
        with chaos(cluster.juju, "cut", units[lost].machine, undo="heal"):
            eventually(
                lambda: "true" not in cluster.etcdctl(lost, "endpoint health 2>&1", ok=False)
            )
        cluster.wait_healthy(3)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before
    assert load.missing(endpoints(cluster)) == []


def test_given_a_wiped_disk_when_etcd_restarts_then_the_member_joins_anew(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    units = cluster.units()
    hurt = next(name for name in units if not units[name].leader)
    with running(addresses(cluster), folder) as load:
        load.endpoints = [f"https://{units[u].public_address}:2379" for u in units if u != hurt]
        cluster.shell(hurt, "systemctl stop etcd; rm -rf /var/lib/etcd/current")
        cluster.juju.cli("model-config", "update-status-hook-interval=10s")
        try:
            eventually(
                lambda: "member" in cluster.shell(hurt, "ls /var/lib/etcd/current/etcd", ok=False),
                timeout=240,
            )
            cluster.wait_healthy(3, timeout=300)
        finally:
            cluster.juju.cli("model-config", "--reset", "update-status-hook-interval")
    assert load.missing(endpoints(cluster)) == []
    assert len(cluster.hashes()) == 1


def test_given_a_corrupt_database_when_etcd_gives_up_then_the_member_is_made_anew(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    units = cluster.units()
    hurt = next(name for name in units if not units[name].leader)
    with running(addresses(cluster), folder) as load:
        load.endpoints = [f"https://{units[u].public_address}:2379" for u in units if u != hurt]
        cluster.shell(
            hurt,
            "systemctl kill -s KILL etcd; f=/var/lib/etcd/current/etcd/member/snap/db; "
            "dd if=/dev/urandom of=$f bs=4096 count=8 conv=notrunc 2>/dev/null",
        )
        eventually(
            lambda: (
                "its database is corrupt"
                in cluster.shell(hurt, "cat /var/lib/etcd/kept/*/kept.json", ok=False)
            ),
            timeout=240,
        )
        cluster.wait_healthy(3, timeout=300)
    assert load.missing(endpoints(cluster)) == []
    assert len(cluster.hashes()) == 1


@pytest.mark.minijuju
def test_given_all_machines_reboot_when_they_are_up_then_the_cluster_is_as_it_was(
    cluster: Cluster,
):
    cluster.put("before", "the reboot")
    machines = [unit.machine for unit in cluster.units().values()]
    cluster.juju.cli("chaos", "reboot", *machines)
    eventually(
        lambda: "the reboot" in cluster.etcdctl(cluster.leader(), "get before 2>&1", ok=False),
        timeout=240,
    )
    cluster.wait_healthy(3)


@pytest.mark.minijuju
def test_given_the_majority_gone_when_recover_is_run_then_the_survivor_founds_anew(
    cluster: Cluster,
):
    cluster.put("survives", "yes")
    survivor = cluster.lose_majority()
    told = cluster.run("recover", survivor).results
    assert "confirm=true" in told["run"]
    cluster.run("recover", survivor, confirm=True)
    cluster.wait_healthy(1)
    assert cluster.get("survives") == "yes"
    cluster.juju.add_unit("etcd", num_units=2)
    cluster.wait_healthy(3)
