"""An authority on tls-certificates, as the public library speaks it, that renews its root,
takes certificates back and denies requests, while clients write.
"""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import pytest
from cluster_under_test import Cluster, eventually

from minijuju.machines import image
from minijuju.testing import packing

pytestmark = pytest.mark.minijuju
ROOT = pathlib.Path(__file__).parents[3]
PYTHON = "3.12"


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, pack_charm, charms, on_minijuju, tmp_path_factory) -> Cluster:
    """Two units, an authority of the public library, and an application that uses etcd."""
    python = PYTHON
    if on_minijuju:
        python = (image.ensure() / "usr/bin/python3").readlink().name.removeprefix("python")
    files = packing.libraries(
        ROOT / "requirements/charm-tls.txt", tmp_path_factory.mktemp("charm-tls"), python
    )
    juju.deploy(pack_charm(charms / "tls", files=files), "authority")
    juju.deploy(etcd_charm, "etcd", num_units=2)
    requires = {"requires": {"db": {"interface": "etcd"}}}
    juju.deploy(pack_charm(charms / "probe", metadata=requires), "user")
    juju.integrate("user:db", "etcd:db")
    juju.integrate("etcd:certificates", "authority:authority")
    deployed = Cluster(juju)
    deployed.wait_healthy(2)
    return deployed


def published(cluster: Cluster) -> dict[str, str]:
    """Unit to the authorities that it tells the users of the cluster, PEM."""
    shown = json.loads(cluster.juju.cli("show-unit", "user/0", "--format", "json"))
    relation = next(r for r in shown["user/0"]["relation-info"] if r["endpoint"] == "db")
    related = relation["related-units"]
    return {name: unit["data"].get("client_ca", "") for name, unit in related.items()}


def root(cluster: Cluster) -> str:
    """The root that the authority signs with now, PEM."""
    return cluster.shell("authority/0", "cat /var/lib/tls-authority/ca.pem").strip()


def agree(cluster: Cluster, count: int) -> str:
    """Wait until all units publish the same authorities; gives them."""

    def agreed() -> str:
        told = published(cluster)
        same = len(told) == len(cluster.units()) and len(set(told.values())) == 1
        (first, *_) = told.values()
        return first if same and first.count("BEGIN CERT") == count else ""

    return eventually(agreed, timeout=180, every=2)


def verifies(cluster: Cluster, authorities: str) -> None:
    """Every unit's etcd answers a client that believes in these authorities only."""
    unit = cluster.leader()
    text = base64.b64encode(authorities.encode()).decode()
    cluster.shell(unit, f"echo {text} | base64 -d > /run/authorities.pem")
    endpoints = ",".join(cluster.endpoints())
    answer = cluster.etcdctl(
        unit, "--cacert=/run/authorities.pem endpoint health 2>&1", endpoints=endpoints
    )
    assert answer.count("is healthy") == len(cluster.units()), answer


def issuers(cluster: Cluster) -> dict[str, str]:
    """Unit to the fingerprint of what signed the certificate that its etcd serves with."""
    look = (
        "openssl s_client -connect {}:2379 -showcerts </dev/null 2>/dev/null"
        " | openssl x509 -noout -ext authorityKeyIdentifier | tail -1"
    )
    units = cluster.units()
    return {
        name: cluster.shell(name, look.format(unit.public_address)).strip()
        for name, unit in units.items()
    }


def waits(cluster: Cluster, status: str, *words: str) -> dict[str, str]:
    """Wait until every unit has this status with these words; gives all messages."""

    def check() -> dict[str, str]:
        told = {name: unit.workload_status for name, unit in cluster.units().items()}
        fits = [s.current == status and all(w in s.message for w in words) for s in told.values()]
        return {name: s.message for name, s in told.items()} if all(fits) else {}

    return eventually(check, timeout=180)


def test_given_a_renewed_root_when_a_unit_is_added_then_all_believe_both_and_publish_the_same(
    cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    old = root(cluster)
    verifies(cluster, agree(cluster, 2))
    cluster.juju.run("authority/0", "renew-root")
    with cluster.writing(tmp_path) as load:
        cluster.juju.add_unit("etcd")
        cluster.wait_healthy(3)
        both = agree(cluster, 3)
    cluster.check(3, load)
    assert old in both
    assert root(cluster) in both
    assert len(set(issuers(cluster).values())) == 2
    verifies(cluster, both)
    (tmp_path / "later").mkdir()
    folder = cluster.credentials(tmp_path / "later", "later")
    handed_out = next(folder.rglob("ca.crt")).read_text()
    assert handed_out.split("-----BEGIN")[1:] == both.split("-----BEGIN")[1:]


def test_given_certificates_taken_back_when_no_other_comes_then_they_serve_and_it_is_told(
    cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    cluster.juju.config("authority", {"answers": "nothing"})
    with cluster.writing(tmp_path) as load:
        cluster.juju.run("authority/0", "revoke")
        said = waits(cluster, "active", "Healthy with 3", "another certificate from authority")
        assert all("etcd serves with the one that it has, until 20" in s for s in said.values())
        assert not any("remove-relation" in s for s in said.values())
        before = len(load.writes)
        eventually(lambda: len(load.writes) > before + 100)
        cluster.juju.config("authority", reset="answers")
        cluster.wait_healthy(3)
        new = agree(cluster, 2)
    cluster.check(3, load)
    assert root(cluster) in new
    assert len(set(issuers(cluster).values())) == 1
    verifies(cluster, new)


def test_given_a_denied_request_when_a_unit_is_added_then_only_that_unit_says_so(
    cluster: Cluster,
) -> None:
    before = set(cluster.units())
    cluster.juju.config("authority", {"answers": "DOMAIN_NOT_ALLOWED"})
    cluster.juju.add_unit("etcd")
    cluster.juju.wait(lambda status: len(status.apps["etcd"].units) == 4)
    (new,) = set(cluster.units()) - before

    def denied() -> Any:
        status = cluster.units()[new].workload_status
        return status.message if status.current == "blocked" else ""

    message = eventually(denied, timeout=240)
    assert "authority denied this unit's request for a certificate" in message
    _, _, names = message.partition(": configure authority to sign for ")
    assert cluster.address(new) in names
    assert "remove-relation" not in message  # the others serve with what it signed
    told = {name: unit.workload_status for name, unit in cluster.units().items()}
    assert not any(told[name].current == "blocked" for name in before)
    cluster.put("served", "by three")
    cluster.juju.config("authority", reset="answers")
    cluster.wait_healthy(4)
