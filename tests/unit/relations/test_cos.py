"""The cos-agent relation, and that its rules name metrics and actions that there are."""

from __future__ import annotations

import base64
import json
import lzma
import pathlib
import re

import pytest
import yaml
from ops import testing

from backup import keeper_files
from keeper import alarms, metrics
from relations import cos
from support import keeper_config

ROOT = pathlib.Path(__file__).parents[3]
TOPOLOGY = {"juju_model": "m", "juju_model_uuid": "12345678-9", "juju_application": "etcd"}


@pytest.fixture
def agent() -> testing.Relation:
    return testing.Relation("cos-agent")


def published(juju, relation) -> dict:
    return json.loads(juju.bag(relation)["config"])


def test_given_an_agent_when_published_then_it_gets_a_job_rules_and_a_dashboard(juju, agent):
    with juju.hook(testing.State(relations={agent})) as charm:
        assert cos.Cos(charm).publish(2381, b"CA")
    found = published(juju, agent)
    assert set(found) == {
        "metrics_alert_rules",
        "log_alert_rules",
        "dashboards",
        "metrics_scrape_jobs",
        "log_slots",
    }
    (job,) = found["metrics_scrape_jobs"]
    assert job["scheme"] == "https"
    assert job["metrics_path"] == "/metrics"
    assert job["tls_config"] == {"ca": "CA"}
    assert job["static_configs"] == [{"targets": ["127.0.0.1:2381"]}]
    raw = lzma.decompress(base64.b64decode(found["dashboards"][0]))
    assert json.loads(raw)["title"] == "etcd"


def test_given_the_same_again_when_published_then_nothing_changes(juju, agent):
    with juju.hook(testing.State(relations={agent})) as charm:
        cos.Cos(charm).publish(2381, b"CA")
        assert not cos.Cos(charm).publish(2381, b"CA")


def test_given_no_port_when_published_then_there_is_no_job(juju, agent):
    with juju.hook(testing.State(relations={agent})) as charm:
        cos.Cos(charm).publish(0, b"")
    found = published(juju, agent)
    assert found["metrics_scrape_jobs"] == []
    assert found["metrics_alert_rules"] == {}, "one for missing metrics would fire for ever"


def test_given_no_agent_when_published_then_nothing_happens(juju):
    with juju.hook(testing.State()) as charm:
        assert not cos.Cos(charm).publish(2381, b"CA")


def rules() -> list[dict]:
    groups = cos.alert_rules(TOPOLOGY, "etcd")["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    return [rule for group in groups for rule in group["rules"]]


def test_given_the_rules_when_made_then_each_is_of_this_application_alone():
    matchers = 'juju_model="m",juju_model_uuid="12345678-9",juju_application="etcd"'
    for rule in rules():
        selectors = re.findall(r"\w+\{([^}]*)\}", rule["expr"])
        assert selectors
        assert all(matchers in selector for selector in selectors)
        assert rule["labels"].items() >= {**TOPOLOGY, "juju_charm": "etcd"}.items()
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_given_the_rules_and_the_dashboard_when_they_name_our_metrics_then_there_are_such():
    config = keeper_config.told(interval=60.0, certificates={"peer": 1.0})
    status = keeper_files.Status(error="x", proof_error="y")
    seen = metrics.Seen("", 1, 0, {"NOSPACE": 0})
    sight = alarms.Sight({"etcd-0": True}, (), 1, 1)
    page = metrics.render(config, status, seen, 2.0, sight=sight)
    known = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    texts = [rule["expr"] for rule in rules()]
    texts.append(lzma.decompress(base64.b64decode(cos.dashboard())).decode())
    named = {name for text in texts for name in re.findall(r"etcd_(?:charm|backup)_\w+", text)}
    assert named
    assert named <= known


def test_given_the_rules_when_they_advise_an_action_then_it_exists():
    actions = set(yaml.safe_load((ROOT / "actions.yaml").read_text()))
    advised = {
        name
        for rule in rules()
        for text in rule["annotations"].values()
        for name in re.findall(r"actions? ([a-z-]+)(?: and ([a-z-]+))?", text)
        for name in name
        if name
    }
    assert advised <= actions
