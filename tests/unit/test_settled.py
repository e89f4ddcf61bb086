"""A tick ends at once when all looks as it did, and looks at everything when anything does not."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import types

import charm_context
import pytest
from ops import testing

import host
import observe
import settled
from backup import orders
from cluster import view
from etcd import client, data, errors

MEMBERS = tuple(
    view.Member(number, f"etcd-{number}", (f"https://198.18.0.{number}:2380",), healthy=True)
    for number in range(3)
)
ETCD = view.Etcd(view.Service.RUNNING, MEMBERS, cluster_id=7, leader=1, local_id=0)
MESSAGE = "Healthy with 3 known peers"


class Unit:
    """A unit with nothing left to do, whose etcd answers what `etcd` holds."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.etcd: view.Etcd | Exception = ETCD
        root = data.Root(folder / "root", owner=None)
        root.ensure()
        self.node = types.SimpleNamespace(
            root=root,
            local_url="https://127.0.0.1:2379",
            storage=None,
            seen=(ETCD, root.disk()),
            endpoints=lambda: ("https://127.0.0.1:2379", "https://198.18.0.1:2379"),
            tls_now=lambda: client.TLSFiles(*(folder / name for name in ("ca", "cert", "key"))),
        )

    def look(self, place: observe.Reach) -> view.Etcd:
        assert place.ready and place.storage is None
        assert tuple(place.endpoints()) == self.node.endpoints()
        if isinstance(self.etcd, Exception):
            raise self.etcd
        return self.etcd


@pytest.fixture
def unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    made = Unit(tmp_path)
    monkeypatch.setattr(settled, "FILE", tmp_path / "run" / "settled.json")
    monkeypatch.setattr(observe, "look", made.look)
    settled.remember(made.node, MESSAGE)
    return made


def test_given_nothing_changed_when_looked_at_then_it_says_the_same(unit):
    assert settled.still() == MESSAGE


def test_given_writes_only_when_looked_at_then_it_says_the_same(unit):
    moved = tuple(dataclasses.replace(member, raft_index=1000) for member in MEMBERS)
    unit.etcd = dataclasses.replace(ETCD, members=moved)
    assert settled.still() == MESSAGE


@pytest.mark.parametrize(
    "change",
    [
        {"members": MEMBERS[:2]},
        {"members": (*MEMBERS[:2], dataclasses.replace(MEMBERS[2], healthy=False))},
        {"members": (*MEMBERS[:2], dataclasses.replace(MEMBERS[2], corrupt=True))},
        {"members": None},
        {"leader": 2},
        {"leader": None},
        {"cluster_id": 8},
        {"stale": True},
        {"alarms": (view.Alarm(1, "NOSPACE"),)},
        {"service": view.Service.FAILED},
    ],
    ids=str,
)
def test_given_anything_else_changed_when_looked_at_then_it_says_nothing(unit, change):
    unit.etcd = dataclasses.replace(ETCD, **change)
    assert settled.still() == ""


def test_given_etcd_does_not_answer_when_looked_at_then_it_says_nothing(unit):
    unit.etcd = errors.UnreachableError("nobody answers")
    assert settled.still() == ""


def test_given_other_data_when_looked_at_then_it_says_nothing(unit):
    kept = unit.node.root.prepared_dir / "token"
    kept.mkdir()
    (kept / "stamp.json").touch()
    assert settled.still() == ""


@pytest.mark.parametrize("seconds", [settled.VALID + 1, -1])
def test_given_a_look_of_another_time_when_looked_at_then_it_says_nothing(
    unit, monkeypatch, seconds
):
    then = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: then)
    assert settled.still() == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"place": {"root": 1}}', "7"])
def test_given_a_note_that_is_none_when_looked_at_then_it_says_nothing(unit, text):
    settled.FILE.write_text(text)
    assert settled.still() == ""


def test_given_backups_that_fail_when_looked_at_then_it_says_nothing(unit, monkeypatch):
    status = orders.Status(role="worker", interval=30, error="no room", failures=3)
    monkeypatch.setattr(orders.Status, "read", lambda: status)
    assert settled.still() == ""


def test_given_data_that_is_to_move_when_remembered_then_it_is_not(unit):
    settled.forget()
    unit.node.storage = pathlib.Path("/data")
    settled.remember(unit.node, MESSAGE)
    assert not settled.FILE.exists()


def test_given_nothing_changed_when_juju_ticks_then_juju_is_asked_for_nothing(unit, monkeypatch):
    monkeypatch.setattr(host, "install_problem", lambda: "is not asked for")
    context = charm_context.context()
    after = context.run(context.on.update_status(), testing.State())
    assert after.unit_status == testing.ActiveStatus(MESSAGE)
    assert json.loads(settled.FILE.read_text())["message"] == MESSAGE


def test_given_another_event_when_it_comes_then_what_was_seen_is_forgotten(unit, monkeypatch):
    monkeypatch.setattr(host, "install_problem", lambda: "")
    context = charm_context.context()
    context.run(context.on.config_changed(), testing.State())
    assert not settled.FILE.exists()
