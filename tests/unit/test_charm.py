"""The charm with no etcd behind it: what it says when what it reads cannot be used."""

from __future__ import annotations

import json
import pathlib

import pytest
from ops import testing

import actions
import admin
import charm
import host
import trust
from cluster import view
from relations import peers


@pytest.fixture(autouse=True)
def juju(monkeypatch: pytest.MonkeyPatch):
    """Juju's goal state: three units, none of them leaving."""
    goals = {f"etcd/{number}": "active" for number in range(3)}
    monkeypatch.setattr(peers, "goal_state", lambda: goals)
    monkeypatch.setattr(host, "wake", lambda *_: None)
    monkeypatch.setattr(admin, "ensure", lambda *_: False)
    monkeypatch.setattr(
        trust.Keyring, "ensure", lambda _: trust.Trust(ready=False, message="no certificates")
    )
    return goals


@pytest.fixture
def context() -> testing.Context:
    """The charm."""
    return testing.Context(charm.EtcdCharm)


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


def test_given_a_corrupt_peer_databag_when_any_event_comes_then_blocked_naming_the_unit(
    context: testing.Context,
):
    relation = testing.PeerRelation("cluster", peers_data={1: {"unit": "{"}, 2: {}})
    after = run(context, testing.State(relations={relation}))
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "etcd/1" in after.unit_status.message


def test_given_timings_that_exclude_each_other_when_any_event_comes_then_blocked(
    context: testing.Context,
):
    after = run(context, state(config={"election-timeout": 100}))
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "five heartbeats" in after.unit_status.message


def test_given_no_certificates_when_any_event_comes_then_waiting_for_them(
    context: testing.Context,
):
    after = run(context, state())
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


def test_given_units_that_did_not_tell_when_a_recovery_is_weighed_then_they_are_named():
    disks = {"etcd/0": view.DiskFacts(2, 90, 40), "etcd/1": view.DiskFacts(2, 95, 45)}
    assert actions.loss("etcd/0", disks, []) == (
        "etcd/0 holds up to revision 40, 5 behind the newest disk here; what only the missing "
        "members acknowledged would be lost"
    )
    told = actions.loss("etcd/1", disks, ["etcd/2", "etcd/3"])
    assert "etcd/2, etcd/3 did not tell, and may still serve clients" in told
