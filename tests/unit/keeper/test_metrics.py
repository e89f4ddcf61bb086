"""The metrics page: what it says of the cluster and of its backups."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re

import pytest
import yaml

from backup import keeper_files
from keeper import alarms, metrics
from support import keeper_config

NOW = 1_795_000_000.0
CONFIG = keeper_config.told(
    interval=3600.0,
    retention="last=1",
    units=3,
    certificates={"peer": NOW + 20 * 86400, "server": NOW - 86400, "client": NOW + 86400},
    certificates_from={"peer": NOW - 60 * 86400, "server": NOW - 9 * 86400},
)
STATUS = keeper_config.well(NOW, count=4, unchanged_at=NOW - 60)
SEEN = metrics.Seen("etcd_server_has_leader 1\n", 3, 1, {"CORRUPT": 0, "NOSPACE": 2})


def page(config=CONFIG, status=STATUS, seen=SEEN) -> dict[str, float]:
    text = metrics.render(config, status, seen, NOW)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_given_a_cluster_with_backups_when_rendered_then_the_numbers_are_those_of_health():
    found = page()
    assert found["etcd_backup_age_seconds"] == 600
    assert found["etcd_backup_exposed_seconds"] == 60
    assert found["etcd_backup_revision_lag"] == 10
    assert found["etcd_backup_proven_age_seconds"] == 7200
    assert found["etcd_backup_worst_case_seconds"] == STATUS.worst_case == 3620
    assert found["etcd_backup_holder"] == 1
    assert found["etcd_charm_units"] == found["etcd_charm_members"] == 3
    assert found["etcd_charm_learners"] == 1
    assert found['etcd_charm_certificate_days{certificate="peer"}'] == 20
    assert found['etcd_charm_certificate_days{certificate="server"}'] == -1
    assert found['etcd_charm_certificate_left_ratio{certificate="peer"}'] == 0.25
    assert found['etcd_charm_certificate_left_ratio{certificate="server"}'] == -0.125
    assert 'etcd_charm_certificate_left_ratio{certificate="client"}' not in found
    assert found['etcd_charm_alarms{alarm="NOSPACE"}'] == 2
    assert found["etcd_server_has_leader"] == 1


def test_given_a_machine_that_died_when_the_others_are_scraped_then_they_say_it_of_that_one():
    answers = {"etcd-0": True, "etcd-1": False, "etcd-2": True}
    sight = alarms.Sight(answers, ("etcd-1",), 3, 2)
    lines = metrics.render(CONFIG, STATUS, SEEN, NOW, sight=sight).splitlines()
    assert 'etcd_charm_member_answers{member="etcd-1"} 0' in lines
    assert 'etcd_charm_member_answers{member="etcd-2"} 1' in lines
    assert "etcd_charm_members_answering 2" in lines
    assert "etcd_charm_quorum_margin 0" in lines


def test_given_nothing_was_seen_when_rendered_then_nothing_is_said_of_other_members():
    assert not [name for name in page() if "answer" in name or "margin" in name]


def test_given_backups_that_never_were_when_rendered_then_their_ages_are_infinite():
    found = page(status=keeper_files.Status(role="holder", interval=3600.0))
    for name in ("age_seconds", "exposed_seconds", "revision_lag", "proven_age_seconds"):
        assert found[f"etcd_backup_{name}"] == math.inf


@pytest.mark.parametrize("changes", [{"interval": 0.0}, {"remote": ""}])
def test_given_backups_off_when_rendered_then_nothing_but_that_is_said_of_them(changes):
    found = page(dataclasses.replace(CONFIG, **changes))
    assert [name for name in found if "backup" in name] == ["etcd_backup_interval_seconds"]
    assert found["etcd_backup_interval_seconds"] == 0


def test_given_an_etcd_that_does_not_answer_when_rendered_then_the_rest_is_there():
    found = page(seen=None)
    assert found["etcd_charm_member_up"] == 0
    assert "etcd_charm_members" not in found
    assert found["etcd_backup_age_seconds"] == 600


def test_given_errors_when_rendered_then_they_are_labels_that_a_scraper_can_read():
    status = dataclasses.replace(STATUS, error='no "space"\nat \\ all', failures=2)
    text = metrics.render(CONFIG, status, None, NOW)
    wanted = r'etcd_backup_last_error{of="backup",error="no \"space\"\nat \\ all"} 1'
    assert wanted in text.splitlines()
    assert 'of="proof"' not in text


def test_given_a_keeper_that_was_told_nothing_when_rendered_then_it_says_that_etcd_is_down():
    assert page(None, keeper_files.Status(), None) == {
        "etcd_charm_member_up": 0,
        "etcd_charm_member_closed": 0,
        "etcd_backup_interval_seconds": 0,
    }


def test_given_an_etcd_that_is_closed_when_rendered_then_it_says_so_and_no_alert_is_for_it():
    text = metrics.render(CONFIG, STATUS, None, NOW, closed=True)
    assert "\netcd_charm_member_up 0\n" in text and "\netcd_charm_member_closed 1\n" in text
    alerts = pathlib.Path(metrics.__file__).parents[1] / "cos" / "alerts.yaml"
    (down,) = (
        rule["expr"]
        for group in yaml.safe_load(alerts.read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == "EtcdMemberDown"
    )
    assert re.search(r"== 0\s+unless etcd_charm_member_closed.* == 1$", down)


def test_given_the_page_when_read_then_every_family_has_its_help_and_type():
    text = metrics.render(CONFIG, STATUS, None, NOW)
    families = set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))
    for family in families:
        assert text.count(f"# HELP {family} ") == text.count(f"# TYPE {family} gauge") == 1


def test_given_a_reason_when_rendered_then_it_is_a_label_and_without_one_nothing_is_told():
    text = metrics.render(None, keeper_files.Status(), None, NOW, reason="quorum-lost")
    assert 'etcd_charm_status{reason="quorum-lost"} 1' in text
    assert "etcd_charm_status" not in metrics.render(None, keeper_files.Status(), None, NOW)
