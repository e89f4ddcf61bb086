"""An observability agent beside each unit, and the upkeep that its alerts ask for."""

from __future__ import annotations

import base64
import json
import lzma
import pathlib
import re

import pytest
from cluster_under_test import Cluster, eventually

UNITS = 3
OBSERVER = pathlib.Path(__file__).parents[2] / "charms" / "observer"


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, pack_charm) -> Cluster:
    """Three units of etcd, each with an agent beside it."""
    juju.deploy(etcd_charm, "etcd", num_units=UNITS)
    juju.deploy(pack_charm(OBSERVER), "observer")
    juju.integrate("etcd:cos-agent", "observer")
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def told(cluster: Cluster, unit: str) -> dict:
    return json.loads(cluster.shell(unit, "cat /var/lib/observer.json"))


def scrape(cluster: Cluster, unit: str) -> dict[str, float]:
    text = cluster.shell(unit, "observer-scrape")
    lines = (line.rpartition(" ") for line in text.splitlines() if line[:1] not in ("#", ""))
    return {name: float(value) for name, _, value in lines}


def test_given_an_agent_when_related_then_it_scrapes_the_cluster_as_it_is(cluster: Cluster):
    for unit in cluster.units():

        def counted(unit: str = unit) -> bool:
            found = scrape(cluster, unit)
            return found["etcd_charm_units"] == found.get("etcd_charm_members") == UNITS

        eventually(counted)
        found = scrape(cluster, unit)
        assert found["etcd_charm_member_up"] == found["etcd_server_has_leader"] == 1
        assert found['etcd_charm_certificate_days{certificate="server"}'] > 14
        assert found["etcd_backup_interval_seconds"] == 0


def test_given_the_rules_when_read_then_the_metrics_that_they_name_are_scraped(cluster: Cluster):
    unit = cluster.leader()
    there = {name.partition("{")[0] for name in scrape(cluster, unit)}
    config = told(cluster, unit)
    groups = config["metrics_alert_rules"]["groups"]
    named = {
        name
        for group in groups
        for rule in group["rules"]
        for name in re.findall(r"\betcd_\w+", rule["expr"].replace('"etcd"', ""))
    }
    assert {name for name in named if not name.startswith("etcd_backup_")} <= there
    dashboard = json.loads(lzma.decompress(base64.b64decode(config["dashboards"][0])))
    assert dashboard["panels"]


def test_given_the_metrics_when_asked_from_elsewhere_or_in_plaintext_then_refused(
    cluster: Cluster,
):
    unit = cluster.leader()
    for url in (f"https://{cluster.address(unit)}:2381", "http://127.0.0.1:2381"):
        ask = (
            f'python3 -c \'import ssl, urllib.request as u; u.urlopen("{url}/metrics", timeout=5, '
            "context=ssl._create_unverified_context())' && echo answered || echo refused"
        )
        assert cluster.shell(unit, ask).split()[-1] == "refused", url


def test_given_old_versions_when_compacted_and_defragmented_then_the_space_is_back(
    cluster: Cluster,
):
    unit = cluster.leader()
    cluster.shell(unit, "head -c 500000 /dev/urandom | base64 -w0 > /root/filler")
    for _ in range(12):
        cluster.etcdctl(unit, "put filler < /root/filler")
    before = scrape(cluster, unit)["etcd_mvcc_db_total_size_in_bytes"]
    newest = cluster.statuses()[0]["Status"]["header"]["revision"]
    assert "newest revision" in cluster.refusal("compact", revision=newest + 100)
    assert int(cluster.run("compact").results["compacted"]) >= newest
    task = cluster.run("defrag", format="json")
    done = json.loads(task.results["members"])
    assert {each["member"] for each in done} == {
        name.replace("/", "-") for name in cluster.units()
    }
    assert all(each["reclaimed"] > 0 for each in done), done
    assert scrape(cluster, unit)["etcd_mvcc_db_total_size_in_bytes"] < before
    assert "compacted before" in cluster.refusal("compact", revision=2)
    cluster.agree(UNITS)


def test_given_a_unit_when_logged_in_then_etcd_admin_keeps_up_the_cluster_as_actions_do(
    cluster: Cluster,
):
    unit = cluster.leader()
    cluster.put("a", "1")
    answer = json.loads(cluster.shell(unit, "etcd-admin compact -o json"))
    assert answer["compacted"] > 1
    table = cluster.shell(unit, "etcd-admin defrag etcd-1 2>/dev/null")
    assert "RECLAIMED" in table
    assert "etcd-1" in table
    refused = cluster.shell(unit, "etcd-admin compact 2 2>&1 || true")
    assert "compacted before" in refused
    assert json.loads(cluster.shell(unit, "etcd-admin alarm list -o json")) == []


def test_given_a_member_that_does_not_run_when_defragmented_then_refused_in_one_sentence(
    cluster: Cluster,
):
    units = sorted(cluster.units())
    cluster.shell(units[2], "systemctl stop etcd")
    try:
        sentence = cluster.refusal("defrag", units[0])
        assert "nothing was defragmented" in sentence
        assert "\n" not in sentence
        assert scrape(cluster, units[2])["etcd_charm_member_up"] == 0
    finally:
        cluster.shell(units[2], "systemctl start etcd")
    cluster.wait_healthy(UNITS)


def test_given_another_port_when_configured_then_the_agent_is_told_and_scrapes_there(
    cluster: Cluster,
):
    unit = cluster.leader()
    cluster.juju.config("etcd", {"metrics-port": 9381})
    eventually(lambda: "127.0.0.1:9381" in json.dumps(told(cluster, unit)["metrics_scrape_jobs"]))
    eventually(
        lambda: "answers" in cluster.shell(unit, "observer-scrape && echo answers", ok=False)
    )
