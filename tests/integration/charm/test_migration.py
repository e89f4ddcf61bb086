"""Moving in from elsewhere: a bare etcd 3.4's snapshot, and a bare copy of its database."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[3]


def binary(name: str) -> str:
    """A tool of etcd 3.4, from where the functional tests have it."""
    found = ROOT / "build" / "etcd-3.4" / name
    return str(found) if found.exists() else str(shutil.which(name))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Iterator[pathlib.Path]:
    """A folder with the snapshot and the database of an etcd that no charm knows."""
    folder = tmp_path_factory.mktemp("bare")
    client, peer = free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    process = subprocess.Popen(
        [
            binary("etcd"),
            f"--data-dir={folder}/data",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
    )

    def etcdctl(*words: str) -> None:
        env = {**os.environ, "ETCDCTL_API": "3"}
        argv = [binary("etcdctl"), f"--endpoints={url}", *words]
        subprocess.run(argv, check=True, env=env, capture_output=True, timeout=30)

    try:
        eventually(lambda: listening(client), timeout=30)
        for number in range(50):
            etcdctl("put", f"moved/{number}", "in")
        etcdctl("snapshot", "save", str(folder / "snapshot.db"))
        time.sleep(1)
    finally:
        process.terminate()
        process.wait(30)
    shutil.copy(folder / "data" / "member" / "snap" / "db", folder / "db")
    yield folder


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Two units."""
    juju.deploy(etcd_charm, "etcd", num_units=2)
    deployed = Cluster(juju)
    deployed.wait_healthy(2)
    return deployed


def moved(cluster: Cluster) -> None:
    leader = cluster.leader()
    eventually(
        lambda: "in" in cluster.etcdctl(leader, "get moved/49 2>&1", ok=False).splitlines(),
        timeout=240,
    )
    cluster.wait_healthy(2)
    assert cluster.etcdctl(leader, "get --prefix --keys-only moved/").count("moved/") == 50
    assert len(cluster.hashes()) == 1


def test_given_a_bare_cluster_when_its_snapshot_is_restored_then_its_keys_are_here(
    cluster: Cluster, bare: pathlib.Path
):
    leader = cluster.leader()
    cluster.juju.scp(str(bare / "snapshot.db"), f"{leader}:/home/ubuntu/snapshot.db")
    cluster.run("restore", leader, path="/home/ubuntu/snapshot.db")
    moved(cluster)


def test_given_a_copied_database_when_restored_then_it_asks_first_and_its_keys_are_here(
    cluster: Cluster, bare: pathlib.Path
):
    leader = cluster.leader()
    cluster.etcdctl(leader, "del --prefix moved/")
    cluster.juju.scp(str(bare / "db"), f"{leader}:/home/ubuntu/db")
    assert "allow-missing-hash" in cluster.refusal("restore", leader, path="/home/ubuntu/db")

    on_unit = "cd /home/ubuntu && etcd-admin restore --path"
    told = cluster.shell(leader, f"{on_unit} db 2>&1", ok=False).strip()
    assert told.startswith("etcd-admin: ") and "allow-missing-hash" in told
    assert len(told.splitlines()) == 1, told
    assert "generation" in cluster.shell(leader, f"{on_unit} db --allow-missing-hash")
    moved(cluster)
