"""What a look hands to policy, and what it tells the other units."""

from __future__ import annotations

import pathlib
import time

import pytest

from cluster import generation as generations
from cluster import queries
from cluster import view as views
from etcd import data
from hook import notes, observe
from support import fake_unit

FOUNDERS = (generations.Founder("etcd/0", "https://a:2380"),)
RECORD = generations.Generation(1, "one", generations.Source.NEW, FOUNDERS, confirmed=True)
MEMBERS = (views.Member(1, "etcd-0", ("https://a:2380",), ("https://a:2379",), healthy=True),)


@pytest.fixture
def unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> fake_unit.Unit:
    monkeypatch.setattr(notes, "LOCAL", tmp_path / "notes")
    monkeypatch.setattr(notes, "SINCE", tmp_path / "since.json")
    monkeypatch.setattr(notes, "JOINS", tmp_path / "joins.json")
    told = views.Unit("etcd/0", heard="one", unanswered=True)
    return fake_unit.made(tmp_path, fake_unit.Peers(record=RECORD, told=told))


def answered(monkeypatch: pytest.MonkeyPatch, members: tuple[views.Member, ...] | None) -> None:
    seen = views.Etcd(views.Service.STOPPED, members)
    monkeypatch.setattr(observe, "look", lambda _: seen)


def test_given_a_unit_that_told_of_no_quorum_when_one_answers_then_its_word_holds_for_the_hook(
    unit, monkeypatch
):
    answered(monkeypatch, MEMBERS)
    seen = [observe.observe(unit, leader=False) for _ in range(2)]
    assert [each.said_unanswered for each in seen] == [True, True]
    assert not unit.peers.told.unanswered, "what the others read when the hook has ended"


def test_given_silence_for_a_minute_when_looked_then_the_unit_tells_that_it_asks_in_vain(
    unit, monkeypatch
):
    answered(monkeypatch, None)
    unit.notes.remember((queries.silent_key(RECORD),), time.time() - 59)
    observe.observe(unit, leader=False)
    assert not unit.peers.told.unanswered
    unit.notes.remember((queries.silent_key(RECORD),), time.time() - 61)
    observe.observe(unit, leader=False)
    assert unit.peers.told.unanswered


@pytest.mark.parametrize("source", [generations.Source.PREVIOUS, generations.Source.NEW])
def test_given_data_that_a_restore_put_aside_when_it_is_taken_back_then_told_as_ready(
    unit, monkeypatch, source
):
    answered(monkeypatch, None)
    record = generations.Generation(3, "one", source, FOUNDERS)
    unit.peers.record = record
    monkeypatch.setattr(data.Root, "disk", lambda *_, **__: views.Disk(kept=("one",)))
    observe.observe(unit, leader=False)
    back = source is generations.Source.PREVIOUS
    assert unit.peers.told.prepared == ("one" if back else None)


@pytest.mark.parametrize(
    ("holder", "restarts", "looks"),
    [("etcd/1", 7, False), ("etcd/0", None, False), ("etcd/0", 6, False), ("etcd/0", 7, True)],
)
def test_given_a_turn_when_etcd_ran_on_in_it_then_nobody_looks_whom_it_dials(
    unit, holder, restarts, looks
):
    unit.peers.granted = views.Turn(holder, 7)
    if restarts:
        unit.restarts_in(restarts)
    unit.use_turn(7)
    assert observe._restarted(unit) is looks
