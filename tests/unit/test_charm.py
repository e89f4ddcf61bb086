"""The charm with no etcd behind it: what it says when what it reads cannot be used."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import pathlib

import charm_context
import pytest
from ops import testing

import errors
from backup import create, keeper_files
from cluster import generation as generations
from cluster import reasons
from cluster import view as views
from commands import actions, etcd_admin, recover
from etcd import data, install, service, upkeep
from etcd import stamp as stamps
from hook import certificates as unit_certificates
from hook import idle, launcher
from hook import restore as restores
from hook import unit as units
from machine import juju_exec
from relations import juju_units, peer_bag, peers


@pytest.fixture(autouse=True)
def juju(monkeypatch: pytest.MonkeyPatch):
    """Juju's goal state: three units, none of them leaving."""
    goals = {f"etcd/{number}": "active" for number in range(3)}
    monkeypatch.setattr(juju_units, "goal_state", lambda: goals)
    monkeypatch.setattr(juju_units, "told_ahead", lambda *_: {})
    monkeypatch.setattr(juju_exec, "wake", lambda *_: None)
    monkeypatch.setattr(launcher, "ensure", lambda *_: False)
    monkeypatch.setattr(
        unit_certificates.Keyring,
        "ensure",
        lambda _: unit_certificates.Trust(ready=False, message="no certificates"),
    )
    return goals


@pytest.fixture
def context() -> testing.Context:
    """The charm."""
    return charm_context.context()


def state(**changes) -> testing.State:
    """A unit with its peers."""
    relation = testing.PeerRelation(
        "cluster", peers_data={1: {}, 2: {}}, **changes.pop("bags", {})
    )
    return testing.State(relations={relation}, **changes)


def run(context: testing.Context, before: testing.State) -> testing.State:
    return context.run(context.on.update_status(), before)


@pytest.mark.parametrize("record", ["{", "[]", '{"number": 1}', json.dumps({"number": "x"})])
def test_given_a_corrupt_record_when_any_event_comes_then_blocked_and_the_record_stays(
    context: testing.Context, record: str
):
    after = run(context, state(bags={"local_app_data": {"generation": record}}))
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "generation record" in after.unit_status.message
    assert "\n" not in after.unit_status.message
    assert after.get_relations("cluster")[0].local_app_data == {"generation": record}


def test_given_a_corrupt_databag_of_our_own_when_any_event_comes_then_blocked_naming_the_unit(
    context: testing.Context,
):
    relation = testing.PeerRelation("cluster", local_unit_data={"unit": "{"})
    after = run(context, testing.State(relations={relation}))
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "etcd/0" in after.unit_status.message
    assert keeper_files.reason() == "relation"


def test_given_a_providers_text_when_it_reaches_a_status_then_it_steers_no_terminal(
    context: testing.Context, monkeypatch: pytest.MonkeyPatch
):
    evil = unit_certificates.Trust(ready=False, message="the issuer is \x1b[2J\u202e\r\nHealthy")
    monkeypatch.setattr(unit_certificates.Keyring, "ensure", lambda _: evil)
    after = run(context, state())
    assert after.unit_status.message.startswith("the issuer is ")
    assert after.unit_status.message.isprintable()


def test_given_results_and_refusals_when_an_action_answers_then_they_steer_no_terminal():
    told = actions._printable({"a\x1b": {"b": "x\x1b[31m\ny"}, "n": 5})
    assert told == {"a\ufffd": {"b": "x\ufffd[31m\ny"}, "n": 5}


def test_given_a_corrupt_databag_of_a_peer_when_any_event_comes_then_it_is_not_our_problem(
    context: testing.Context,
):
    relation = testing.PeerRelation("cluster", peers_data={1: {"unit": "{"}, 2: {}})
    after = run(context, testing.State(relations={relation}))
    assert isinstance(after.unit_status, testing.WaitingStatus)


def test_given_timings_that_exclude_each_other_when_any_event_comes_then_blocked(
    context: testing.Context,
):
    after = run(context, state(config={"election-timeout": 100}))
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "five heartbeats" in after.unit_status.message
    assert keeper_files.reason() == "configuration"
    assert keeper_files.reason() in reasons.REASONS


def test_given_no_certificates_when_any_event_comes_then_waiting_for_them(
    context: testing.Context,
):
    after = run(context, state())
    assert after.unit_status == testing.WaitingStatus("no certificates")
    assert keeper_files.reason() == "certificates"


def test_given_a_hook_in_which_another_may_have_led_when_it_ends_then_it_fails(
    context: testing.Context, monkeypatch: pytest.MonkeyPatch
):
    def lost(_: peers.Peers) -> None:
        raise peer_bag.LeadLostError("another unit may have led")

    monkeypatch.setattr(peers.Peers, "check_lead", lost)
    with pytest.raises(testing.errors.UncaughtCharmError, match="another unit may have led"):
        context.run(context.on.config_changed(), state(leader=True))


def test_given_a_full_disk_when_the_configuration_changes_then_the_hook_goes_on(
    context: testing.Context, monkeypatch: pytest.MonkeyPatch
):
    def full(_: units.Node) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(units.Node, "configure", full)
    monkeypatch.setattr(install, "await_install", lambda: None)
    monkeypatch.setattr(data.Root, "stamp", lambda _: stamps.Stamp("one", 1, None, "etcd-0"))
    after = context.run(context.on.config_changed(), state())
    assert after.unit_status == testing.WaitingStatus("no certificates")


@pytest.mark.parametrize("action", ["restore", "recover"])
def test_given_a_follower_when_asked_for_what_the_leader_does_then_it_names_the_command(
    context: testing.Context, action: str
):
    with pytest.raises(testing.ActionFailed) as caught:
        context.run(context.on.action(action), state(leader=False))
    assert f"juju run etcd/leader {action}" in caught.value.message


def test_given_nothing_to_restore_when_asked_then_it_says_what_to_give(
    context: testing.Context, tmp_path: pathlib.Path
):
    with pytest.raises(testing.ActionFailed) as caught:
        empty = tmp_path / "snapshot.db"
        empty.touch()
        resource = testing.Resource(name="snapshot", path=empty)
        context.run(context.on.action("restore"), state(leader=True, resources={resource}))
    assert "snapshot resource" in caught.value.message


def test_given_a_restore_when_it_answers_then_the_status_is_not_active_any_more(
    context: testing.Context, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
):
    """A script that waits for active after it must not go on too early, whatever comes next."""
    monkeypatch.setattr(service, "DATA_ROOT", tmp_path)
    monkeypatch.setattr(idle, "FILE", tmp_path / "idle.json")
    idle.FILE.write_text("what was seen while all was well")
    detail = generations.Detail(high=9, revision=5)
    founders = (generations.Founder("etcd/0", "https://198.18.0.10:2380"),)
    proposal = generations.Generation(2, "two", generations.Source.BACKUP, founders, detail)
    monkeypatch.setattr(actions.Actions, "_source", lambda *_: detail)
    monkeypatch.setattr(restores, "propose", lambda *_, **__: proposal)
    monkeypatch.setattr(restores, "serve", lambda *_: None)
    before = state(leader=True, unit_status=testing.ActiveStatus("Healthy with 1 known peers"))
    params = {"backup-id": "b", "target": "", "skip-backup": False}
    after = context.run(context.on.action("restore", params=params), before)
    assert context.action_results is not None
    assert after.unit_status == testing.MaintenanceStatus(
        "preparing the restore: 0 of 1 units ready"
    )
    assert not idle.FILE.exists()


def test_given_units_that_did_not_tell_when_a_recovery_is_weighed_then_they_are_named():
    disks = {"etcd/0": views.DiskFacts(2, 90, 40), "etcd/1": views.DiskFacts(2, 95, 45)}
    assert recover.loss("etcd/0", disks, []) == (
        "etcd/0 holds up to revision 40, 5 behind the newest disk here; what only the missing "
        "members acknowledged would be lost"
    )
    told = recover.loss("etcd/1", disks, ["etcd/2", "etcd/3"])
    assert "etcd/2, etcd/3 did not tell, and may still serve clients" in told


def test_given_members_left_behind_when_a_recovery_is_weighed_then_what_to_do_about_each():
    assert recover.left_behind("etcd/0", [], []) == ""
    told = recover.left_behind("etcd/0", ["etcd/2 at c:2380"], ["etcd/1 at b:2380"])
    assert "etcd/0 cannot reach etcd/1 at b:2380: make sure that these machines are off" in told
    assert "`systemctl disable --now etcd-keeper etcd`" in told
    assert "etcd/2 at c:2380 can be reached: etcd stops there before clients are let in" in told


class Online:
    """An etcd at revision 9, compacted up to 5, with one armed alarm."""

    def revision(self) -> int:
        return 9

    def compact(self, revision: int, physical: bool) -> None:
        assert physical
        if revision <= 5:
            raise errors.CompactedError("compacted", "compacted")

    def alarms(self) -> tuple[views.Alarm, ...]:
        return (views.Alarm(10, "NOSPACE"),)

    def disarm(self) -> int:
        return 1


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Online:
    """What actions find when they ask etcd."""
    made = Online()
    monkeypatch.setattr(units.Node, "client", lambda _: contextlib.nullcontext(made))
    return made


@pytest.mark.parametrize(("params", "answer"), [({"revision": 0}, "9"), ({"revision": 7}, "7")])
def test_given_a_cluster_when_compacted_then_it_answers_with_the_revision(
    context: testing.Context, online: Online, params: dict, answer: str
):
    context.run(context.on.action("compact", params={"physical": True, **params}), state())
    assert context.action_results == {"compacted": answer}


@pytest.mark.parametrize(("revision", "words"), [(10, "newest revision is 9"), (3, "before")])
def test_given_a_revision_that_cannot_be_compacted_when_asked_then_one_sentence(
    context: testing.Context, online: Online, revision: int, words: str
):
    params = {"revision": revision, "physical": True}
    with pytest.raises(testing.ActionFailed) as caught:
        context.run(context.on.action("compact", params=params), state())
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_given_a_defragmentation_when_asked_then_the_own_member_is_locked_and_a_table_comes(
    context: testing.Context, online: Online, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    member = views.Member(10, "etcd-0", (), ())

    def defragment(_, which, alone, say):
        with alone(member) as had:
            assert had
            with create.member_alone(tmp_path / "lock") as again:
                assert not again
        say("etcd-0: 9 bytes before, 4 after")
        return (upkeep.Defragmented(member, 9, 4, 0.5),)

    alone = create.member_alone
    monkeypatch.setattr(create, "member_alone", lambda *_: alone(tmp_path / "lock"))
    monkeypatch.setattr(upkeep, "defragment", defragment)
    context.run(context.on.action("defrag", params={"member": "", "format": "table"}), state())
    assert context.action_results is not None
    assert context.action_results["reclaimed"] == "5"
    assert "RECLAIMED" in context.action_results["members"]


def test_given_the_keeper_when_told_then_it_knows_the_units_and_where_to_serve_metrics(
    context: testing.Context,
):
    with context(context.on.update_status(), state(config={"metrics-port": 9381})) as manager:
        told = manager.charm.backups(manager.charm.node())._config()
    assert told.units == 3
    assert told.metrics_port == 9381
    assert keeper_files.Config.from_json(told.to_json()) == told


def test_given_actions_and_their_twins_when_asked_of_alarms_then_the_words_are_the_same(
    context: testing.Context, online: Online
):
    context.run(context.on.action("alarm-list"), state())
    twin = etcd_admin.alarm_list(online, argparse.Namespace(), launcher.Place(()))
    assert context.action_results == {"alarms": twin.words}
    assert twin.words == "NOSPACE on a"
