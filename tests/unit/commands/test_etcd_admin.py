"""Etcd-admin's verbs are the actions' twins."""

from __future__ import annotations

import argparse
import pathlib

import pytest
import yaml

import errors
from backup import operations
from cluster import view as views
from commands import etcd_admin
from hook import launcher

ROOT = pathlib.Path(__file__).parents[3]
# These write what an operator fetches from outside, or need to know all units' disks.
JUJU_ONLY = {
    "generate-client-certificates",
    "list-client-certificates",
    "recover",
    "revoke-client-certificate",
    "snapshot",
}
TWINS = {
    "create-backup": "backup-create",
    "delete-backup": "backup-delete",
    "list-backups": "backup-list",
    "verify-backup": "backup-verify",
}
"""Actions whose verb has its words the other way round, as etcdctl has them."""


def verbs(parser: argparse.ArgumentParser, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                found |= verbs(child, f"{prefix}{name}-") or {f"{prefix}{name}"}
    return found


def test_given_the_actions_when_compared_then_each_that_a_unit_can_answer_has_its_verb():
    actions = set(yaml.safe_load((ROOT / "actions.yaml").read_text()))
    assert actions >= JUJU_ONLY
    expected = {TWINS.get(name, name) for name in actions - JUJU_ONLY}
    assert verbs(etcd_admin.parser()) - {"endpoint-health", "open"} == expected


def test_given_a_place_when_written_then_it_is_read_as_it_was(tmp_path):
    units = (views.Unit("etcd/0", peer_url="https://a:2380", member_id=(1 << 63) + 1),)
    place = launcher.Place(("https://127.0.0.1:2379",), 5, "etcd-0", units)
    (tmp_path / "admin.json").write_text(place.to_json())
    assert launcher.Place.read(tmp_path / "admin.json") == place


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"endpoints": [], "quota": 1, "member": "etcd-0"}', "etcd-0"),
        ('{"endpoints": [], "units": [5]}', None),
        ('{"endpoints": [], "units": {"a": 1}}', None),
        ("{}", None),
    ],
)
def test_given_a_place_of_before_or_a_broken_one_when_read_then_used_or_one_sentence(
    tmp_path, text, told
):
    (tmp_path / "admin.json").write_text(text)
    if told is not None:
        assert launcher.Place.read(tmp_path / "admin.json").member == told
        return
    with pytest.raises(errors.EtcdError, match="cannot be read: wait until"):
        launcher.Place.read(tmp_path / "admin.json")


@pytest.mark.parametrize("printed", ["", "{", "no JSON\n"])
def test_given_a_charm_that_does_not_answer_when_it_is_to_restore_then_one_sentence(printed):
    with pytest.raises(operations.BackupError, match="did not answer"):
        etcd_admin._results(printed)


def test_given_the_charms_answer_when_read_then_its_results_or_its_refusal():
    assert etcd_admin._results('a warning\n{"results": {"generation": "2"}}\n') == {
        "generation": "2"
    }
    with pytest.raises(operations.BackupError, match="the leader does this"):
        etcd_admin._results('{"refused": "the leader does this"}\n')
