"""Tables, words and keys."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from cluster import view as views
from etcd import report, responses

URLS = [f"https://198.18.0.1{i}:2379" for i in range(3)]
MEMBERS = tuple(
    views.Member(10 + i, f"etcd-{i}", (f"https://198.18.0.1{i}:2380",), (URLS[i],), healthy=True)
    for i in range(3)
)
STATUSES = tuple(
    responses.EndpointStatus(url, 10 + i, 7, "3.5.16", 20480, 16384, 10, False, 2, 9, 9, (), 0.002)
    for i, url in enumerate(URLS)
)
HEALTHY = report.Health(
    members=MEMBERS,
    cluster_id=7,
    leader=10,
    endpoints=tuple(report.EndpointHealth(url, True, 0.0031) for url in URLS),
    statuses=STATUSES,
    alarms=(),
    quota=8 * 1024**3,
    certificate_days={"server": 300},
)


def test_given_a_healthy_cluster_when_told_then_words_and_keys_agree():
    assert HEALTHY.healthy
    words, keys = HEALTHY.words(), HEALTHY.keys()
    assert words.splitlines()[0] == "cluster is healthy"
    assert "3 voters, leader etcd-0, raft term 2, raft index 9" in words
    assert "the server certificate ends in 300 days" in words
    assert keys["healthy"] == "true" and keys["members"] == "3" and keys["alarms"] == "none"
    assert keys["leader"] == "etcd-0" and keys["cluster-id"] == "7"
    assert keys["endpoint.etcd-1.health"] == "healthy"
    assert keys["endpoint.etcd-1.latency-ms"] == "3.1"
    assert keys["certificate-days.server"] == "300"
    assert all(isinstance(value, str) for value in keys.values())


def test_given_trouble_when_told_then_each_is_named():
    endpoints = (*HEALTHY.endpoints[:2], report.EndpointHealth(URLS[2], False, 0.0, "no answer"))
    alarm = views.Alarm(11, "NOSPACE")
    sick = dataclasses.replace(HEALTHY, endpoints=endpoints, alarms=(alarm,), problem="no leader")
    assert not sick.healthy
    assert "cluster is unhealthy: no leader" in sick.words()
    assert f"{URLS[2]} is unhealthy: no answer" in sick.words()
    assert "alarm NOSPACE on etcd-1" in sick.words()
    assert sick.keys()["alarms"] == "NOSPACE:etcd-1"
    assert sick.keys()["problem"] == "no leader"


@pytest.mark.parametrize("names", [(), ("", "", ""), ("By_Hand", "a.b", "https://x"), ("a", "a")])
def test_given_any_names_or_no_member_when_told_then_every_key_is_one_that_juju_takes(names):
    members = tuple(
        dataclasses.replace(member, name=name)
        for member, name in zip(MEMBERS, names, strict=False)
    )
    keys = dataclasses.replace(HEALTHY, members=members).keys()
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", key) for key in keys), keys
    assert sum(key.endswith(".url") for key in keys) == len(HEALTHY.endpoints)


def test_given_a_learner_or_nobody_when_judged_then_it_is_not_healthy():
    learner = dataclasses.replace(MEMBERS[2], learner=True)
    assert not dataclasses.replace(HEALTHY, members=(*MEMBERS[:2], learner)).healthy
    assert not dataclasses.replace(HEALTHY, members=(), endpoints=()).healthy


def test_given_probes_when_drawn_then_it_is_the_table_that_etcdctl_draws():
    probes = [
        *(responses.Probe(s.endpoint, s) for s in STATUSES[:1]),
        responses.Probe("x", None, "dead"),
    ]
    lines = report.Endpoints(tuple(probes)).table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split("|")[1].strip() == "ENDPOINT"
    assert "| 20 kB" in lines[3] and "| true " in lines[3]
    assert "dead" in lines[4]
    assert report.member_table(MEMBERS).count("started") == 3
    assert report.member_table(()).count("\n") == 3


def test_given_records_when_made_json_then_programs_can_read_them():
    probes = tuple(responses.Probe(s.endpoint, s) for s in STATUSES)
    told = json.loads(report.to_json(report.Endpoints(probes, "3.5.0").records()))
    assert told[0]["is_leader"] and told[1]["member_id"] == "b"
    assert told[0]["cluster_version"] == "3.5.0" and told[0]["storage_version"] == ""
    told = json.loads(report.to_json(report.member_records(MEMBERS)))
    assert told[0]["id"] == "a" and told[0]["peer_urls"] == ["https://198.18.0.10:2380"]


def test_given_an_upgrade_that_is_not_over_when_told_then_each_version_and_who_runs_it():
    new = dataclasses.replace(STATUSES[2], version="3.6.8", storage_version="3.6.0")
    mixed = dataclasses.replace(HEALTHY, statuses=(*STATUSES[:2], new), cluster_version="3.5.0")
    lines, keys = mixed.words().splitlines(), mixed.keys()
    assert (
        "members run several versions: etcd 3.5.16 on etcd-0, etcd-1; etcd 3.6.8 on etcd-2"
        in lines
    )
    assert "cluster version 3.5.0, storage version 3.6.0" in lines
    assert keys["cluster-version"] == "3.5.0" and keys["version"] == "3.5.16"
    assert keys["endpoint.etcd-2.version"] == "3.6.8"
    assert keys["endpoint.etcd-2.storage-version"] == "3.6.0"
    assert "endpoint.etcd-1.storage-version" not in keys
    table = report.Endpoints((responses.Probe(new.endpoint, new),), "3.5.0").table()
    assert "| 3.6.8   | 3.6.0 " in table and table.endswith("\ncluster version 3.5.0")


def test_given_one_version_when_told_then_no_word_is_lost_on_it():
    words = dataclasses.replace(HEALTHY, cluster_version="3.5.0").words()
    assert "several versions" not in words and "cluster version 3.5.0\n" in words


def test_given_sizes_when_said_then_people_can_read_them():
    assert [report.size(n) for n in (0, 999, 20480, 1_500_000, 2_300_000_000)] == [
        "0 B", "999 B", "20 kB", "1.5 MB", "2.3 GB",
    ]  # fmt: skip
