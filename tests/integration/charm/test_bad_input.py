"""Authorities and resources that are not what they should be: one sentence, nothing changed."""

from __future__ import annotations

import io
import pathlib
import tarfile

import pytest
from cluster_under_test import Cluster


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, easyrsa_charm) -> Cluster:
    """One unit whose authority answers with a certificate for another name."""
    juju.deploy(easyrsa_charm, "easyrsa", config={"fault": "wrong-name"})
    juju.deploy(etcd_charm, "etcd")
    juju.integrate("etcd:certificates", "easyrsa:client")
    return Cluster(juju)


def message(cluster: Cluster) -> str:
    (unit,) = cluster.units().values()
    return unit.workload_status.message


def until_blocked(cluster: Cluster, words: str) -> str:
    def blocked(status) -> bool:
        return all(
            unit.workload_status.current == "blocked" and words in unit.workload_status.message
            for unit in status.apps["etcd"].units.values()
        )

    cluster.juju.wait(blocked, timeout=240)
    return message(cluster)


@pytest.mark.parametrize("fault", ["wrong-name", "wrong-key", "garbage"])
def test_given_an_authority_that_answers_wrongly_when_related_then_blocked_and_not_started(
    cluster: Cluster, fault: str
):
    cluster.juju.config("easyrsa", {"fault": fault})
    sentence = until_blocked(cluster, "easyrsa")
    assert "remove-relation" in sentence
    (unit,) = cluster.units()
    assert "inactive" in cluster.shell(unit, "systemctl is-active etcd || true")


def test_given_the_authority_mended_when_it_answers_then_the_cluster_founds(cluster: Cluster):
    cluster.juju.config("easyrsa", reset="fault")
    cluster.wait_healthy(1)


def archive(path: pathlib.Path, members: dict[str, bytes], mode: int = 0o755) -> pathlib.Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("other", {"README": b"not etcd"}),
        (
            "dead",
            {"etcd-v9.9.9/etcd": b"#!/bin/false\n", "etcd-v9.9.9/etcdctl": b"#!/bin/false\n"},
        ),
        ("escape", {"../../../../etc/escaped": b"x"}),
    ],
)
def test_given_a_resource_that_is_no_etcd_when_attached_then_blocked_and_etcd_stays(
    cluster: Cluster, tmp_path: pathlib.Path, name: str, members: dict[str, bytes]
):
    (unit,) = cluster.units()
    before = cluster.shell(unit, "etcd --version; systemctl show etcd -p MainPID")
    resource = archive(tmp_path / f"{name}.tar.gz", members)
    cluster.juju.cli("attach-resource", "etcd", f"etcd={resource}")
    sentence = until_blocked(cluster, "resource")
    assert "\n" not in sentence
    assert cluster.shell(unit, "etcd --version; systemctl show etcd -p MainPID") == before
    assert cluster.shell(unit, "ls /etc/escaped 2>&1 || true", ok=False).strip() != "/etc/escaped"
    assert "true" in cluster.etcdctl(unit, "endpoint health 2>&1 | grep -c healthy && echo true")


def test_given_a_release_when_attached_then_etcd_runs_from_it(
    cluster: Cluster, tmp_path: pathlib.Path
):
    (unit,) = cluster.units()
    cluster.put("before", "the release")
    binaries = {}
    for tool in ("etcd", "etcdctl", "etcdutl"):
        cluster.shell(
            unit,
            f"install -m 755 $(readlink -f /usr/bin/{tool}) /home/ubuntu/{tool}",
        )
        cluster.juju.scp(f"{unit}:/home/ubuntu/{tool}", str(tmp_path / tool))
        binaries[f"etcd-v3.5.16-linux-amd64/{tool}"] = (tmp_path / tool).read_bytes()
    release = archive(tmp_path / "etcd-v3.5.16-linux-amd64.tar.gz", binaries)
    cluster.juju.cli("attach-resource", "etcd", f"etcd={release}")
    cluster.juju.wait(
        lambda _: (
            "/usr/local/lib/etcd"
            in cluster.shell(
                unit,
                "readlink /proc/$(systemctl show etcd -p MainPID --value)/exe || true",
                ok=False,
            )
        ),
        timeout=240,
    )
    cluster.wait_healthy(1)
    assert cluster.get("before") == "the release"
