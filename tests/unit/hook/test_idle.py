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

import errors
from backup import keeper_files
from cluster import view as views
from etcd import data, install
from hook import idle, observe
from tls import certificate, pem_files

MEMBERS = tuple(
    views.Member(number, f"etcd-{number}", (f"https://198.18.0.{number}:2380",), healthy=True)
    for number in range(3)
)
ETCD = views.Etcd(views.Service.RUNNING, MEMBERS, cluster_id=7, leader=1, local_id=0)
MESSAGE = "Healthy with 3 known peers"


class Unit:
    """A unit with nothing left to do, whose etcd answers what `etcd` holds."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.etcd: views.Etcd | Exception = ETCD
        self.certificates: list[certificate.Facts] = []
        root = data.Root(folder / "root", owner=None)
        root.ensure()
        self.node = types.SimpleNamespace(
            root=root,
            local_url="https://127.0.0.1:2379",
            storage=None,
            seen=(ETCD, root.disk()),
            endpoints=lambda: ("https://127.0.0.1:2379", "https://198.18.0.1:2379"),
            certificate_facts=lambda: [("server", each) for each in self.certificates],
            tls_now=lambda: pem_files.TLSFiles(*(folder / name for name in ("ca", "cert", "key"))),
        )

    def look(self, place: observe.Reach) -> views.Etcd:
        assert place.ready and place.storage is None
        assert tuple(place.endpoints()) == self.node.endpoints()
        if isinstance(self.etcd, Exception):
            raise self.etcd
        return self.etcd


@pytest.fixture
def unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    made = Unit(tmp_path)
    monkeypatch.setattr(idle, "FILE", tmp_path / "run" / "idle.json")
    monkeypatch.setattr(observe, "look", made.look)
    idle.remember(made.node, MESSAGE)
    return made


def test_given_nothing_changed_when_looked_at_then_it_says_the_same(unit):
    assert idle.still() == MESSAGE


def test_given_writes_only_when_looked_at_then_it_says_the_same(unit):
    moved = tuple(dataclasses.replace(member, raft_index=1000) for member in MEMBERS)
    unit.etcd = dataclasses.replace(ETCD, members=moved)
    assert idle.still() == MESSAGE


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
        {"alarms": (views.Alarm(1, "NOSPACE"),)},
        {"service": views.Service.FAILED},
    ],
    ids=str,
)
def test_given_anything_else_changed_when_looked_at_then_it_says_nothing(unit, change):
    unit.etcd = dataclasses.replace(ETCD, **change)
    assert idle.still() == ""


def test_given_etcd_does_not_answer_when_looked_at_then_it_says_nothing(unit):
    unit.etcd = errors.UnreachableError("nobody answers")
    assert idle.still() == ""


def test_given_other_data_when_looked_at_then_it_says_nothing(unit):
    kept = unit.node.root.prepared_dir / "token"
    kept.mkdir()
    (kept / "stamp.json").touch()
    assert idle.still() == ""


@pytest.mark.parametrize("seconds", [idle.VALID + 1, -1])
def test_given_a_look_of_another_time_when_looked_at_then_it_says_nothing(
    unit, monkeypatch, seconds
):
    then = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: then)
    assert idle.still() == ""


@pytest.mark.parametrize(
    ("began", "ends", "later", "said"),
    [
        (-1000, 2000, 900, MESSAGE),
        (-1000, 2000, 1100, ""),
        (-8000, 2000, 1100, MESSAGE),  # due before: whoever has to renew it was asked
    ],
)
def test_given_a_short_certificate_when_a_third_of_it_is_left_then_all_is_looked_at(
    unit, monkeypatch, began, ends, later, said
):
    now = time.time()
    unit.certificates = [certificate.Facts("", "", (), now + began, now + ends, "", "", "")]
    idle.remember(unit.node, MESSAGE)
    monkeypatch.setattr(time, "time", lambda: now + later)
    assert idle.still() == said


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"place": {"root": 1}}', "7"])
def test_given_a_note_that_is_none_when_looked_at_then_it_says_nothing(unit, text):
    idle.FILE.write_text(text)
    assert idle.still() == ""


def test_given_backups_that_fail_when_looked_at_then_it_says_nothing(unit, monkeypatch):
    status = keeper_files.Status(role="worker", interval=30, error="no room", failures=3)
    monkeypatch.setattr(keeper_files.Status, "read", lambda: status)
    assert idle.still() == ""


def test_given_data_that_is_to_move_when_remembered_then_it_is_not(unit):
    idle.forget()
    unit.node.storage = pathlib.Path("/data")
    idle.remember(unit.node, MESSAGE)
    assert not idle.FILE.exists()


def test_given_nothing_changed_when_juju_ticks_then_juju_is_asked_for_nothing(unit, monkeypatch):
    monkeypatch.setattr(install, "install_problem", lambda: "is not asked for")
    context = charm_context.context()
    after = context.run(context.on.update_status(), testing.State())
    assert after.unit_status == testing.ActiveStatus(MESSAGE)
    assert json.loads(idle.FILE.read_text())["message"] == MESSAGE


def test_given_another_event_when_it_comes_then_what_was_seen_is_forgotten(unit, monkeypatch):
    monkeypatch.setattr(install, "install_problem", lambda: "")
    context = charm_context.context()
    context.run(context.on.config_changed(), testing.State())
    assert not idle.FILE.exists()
