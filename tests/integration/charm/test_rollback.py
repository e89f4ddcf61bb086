"""A restore that cannot end well puts the old cluster back, on every unit."""

from __future__ import annotations

import pathlib

import pytest
from cluster_under_test import ETCDCTL, Cluster, eventually
from load import running

UNITS = 3
SPOIL = (
    "systemd-run --quiet --unit=spoil --property=RuntimeMaxSec=120 sh -c '"
    "while ! ls -d /var/lib/etcd/prepared/*/etcd/member/snap 2>/dev/null | grep -v part; "
    "do sleep 0.05; done; "
    "for f in /var/lib/etcd/prepared/*/etcd/member/snap/db; do "
    "dd if=/dev/urandom of=$f bs=4096 count=8 conv=notrunc; done'"
)


FOUNDER = ETCDCTL.replace("/tls/client/", "/tls/founder/")


def serves_units(cluster: Cluster, unit: str) -> bool:
    """Whether the unit's etcd is closed to clients, and has a quorum for the units themselves."""
    closed = "test -e /var/lib/etcd/current/closed"
    health = f"{FOUNDER} --endpoints=https://127.0.0.1:2379 endpoint health 2>&1"
    return "is healthy" in cluster.shell(unit, f"{closed} && {health}", ok=False)


def answers_clients(cluster: Cluster, unit: str, command: str) -> bool:
    """Whether a client gets an answer from the unit's etcd; some requests are tried for ever."""
    client = ETCDCTL.replace("etcdctl ", "timeout 4 etcdctl ", 1)
    asked = f"{client} --endpoints=https://127.0.0.1:2379 {command}"
    return "ANSWERED" in cluster.shell(unit, f"{asked} && echo ANSWERED", ok=False)


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Three units."""
    juju.deploy(etcd_charm, "etcd", num_units=UNITS)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def test_given_prepared_data_that_spoils_when_restored_then_the_old_cluster_is_back(
    cluster: Cluster,
):
    cluster.put("kept", "before")
    leader = cluster.leader()
    taken = cluster.run("snapshot", leader).results["snapshot"]
    cluster.put("kept", "after")
    before = cluster.members(leader)["header"]["cluster_id"]
    for unit in cluster.units():
        if unit != leader:  # one would only be replaced: two cost the new cluster its quorum
            cluster.shell(unit, SPOIL)

    cluster.run("restore", leader, path=taken["path"])
    eventually(
        lambda: (
            '"number": 3'
            in cluster.juju.cli("show-unit", leader, "--format", "json").replace("\\", "")
        ),
        timeout=420,
    )
    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.members(leader)["header"]["cluster_id"] == before
    assert cluster.get("kept") == "after"
    assert "was undone" in cluster.units()[cluster.leader()].workload_status.message
    assert len(cluster.hashes()) == 1


def test_given_writing_clients_when_a_restore_is_undone_then_no_acknowledged_write_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    credentials = cluster.credentials(tmp_path)
    leader = cluster.leader()
    taken = cluster.run("snapshot", leader).results["snapshot"]
    before = cluster.members(leader)["header"]["cluster_id"]
    spoiled = next(unit for unit in cluster.units() if unit != leader)
    cluster.shell(spoiled, SPOIL)  # the other two are a quorum, and serve until it is undone

    with running(map(cluster.address, cluster.units()), credentials) as load:
        cluster.run("restore", leader, path=taken["path"])
        eventually(lambda: serves_units(cluster, leader), timeout=240, every=0.1)
        for command in ("get kept", "put probe x", "user add lost:secret", "member list"):
            assert not answers_clients(cluster, leader, command), command
        assert serves_units(cluster, leader), "it was rolled back meanwhile: nothing was shown"
        written = len(load.writes)
        eventually(
            lambda: cluster.etcdctl(leader, "put probe x 2>&1", ok=False).strip() == "OK",
            timeout=420,
        )
        eventually(lambda: len(load.writes) > written + 50)

    cluster.wait_healthy(UNITS, timeout=420)
    assert cluster.members(leader)["header"]["cluster_id"] == before
    assert load.missing() == []


def test_given_a_unit_without_room_when_restored_then_nothing_stops_and_it_is_said(
    cluster: Cluster,
):
    leader = cluster.leader()
    taken = cluster.run("snapshot", leader).results["snapshot"]
    before = cluster.members(leader)["header"]["cluster_id"]
    full = next(unit for unit in cluster.units() if unit != leader)
    cluster.shell(
        full, "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 40000000)) /ballast"
    )
    try:
        cluster.run("restore", leader, path=taken["path"])
        eventually(
            lambda: "the restore needs" in cluster.units()[leader].workload_status.message,
            timeout=240,
        )
    finally:
        cluster.shell(full, "rm -f /ballast")
    cluster.wait_healthy(UNITS)
    assert cluster.members(leader)["header"]["cluster_id"] == before
