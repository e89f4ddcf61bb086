"""A file of a restore is served after all that could refuse, and no longer than it is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import types

import pytest

import errors
from backup import peer_transfer
from cluster import generation as generations
from cluster import loop
from commands import actions
from hook import notes, reconcile
from hook import restore as restores
from support import fake_unit

DETAIL = generations.Detail(
    source="share",
    unit="etcd/0",
    path="/root/file.db",
    url="https://[fd00::1]:7379/snapshot.db",
)
RECORD = generations.Generation(
    number=2,
    token="b" * 32,
    source=generations.Source.BACKUP,
    founders=(),
    detail=DETAIL,
    keep="",
    skip_backup=False,
)


@pytest.fixture
def served(monkeypatch):
    """What is served: one file at a time."""
    held = types.SimpleNamespace(share=None)
    monkeypatch.setattr(
        peer_transfer.Share, "start", lambda self, _seconds: setattr(held, "share", self)
    )
    monkeypatch.setattr(peer_transfer.Share, "stop", lambda: setattr(held, "share", None))
    return held


def node(tmp_path, monkeypatch, proposal=None, committed=None, unit="etcd/0", began=0.0):
    """A unit with these records, as the leader has them."""
    clocks = {restores.queries.confirm_key(committed): began} if committed and began else {}
    monkeypatch.setattr(notes.Notes, "since", lambda _: clocks)
    peers = fake_unit.Peers(unit, committed, proposal, address="fd00::1", bind="fd00::2")
    return fake_unit.made(tmp_path, peers)


def test_given_a_proposal_of_a_file_when_served_then_at_the_url_that_it_names(
    served, tmp_path, monkeypatch
):
    restores.serve(node(tmp_path, monkeypatch), RECORD)
    assert served.share.url == DETAIL.url
    assert served.share.bind == "fd00::2"
    assert str(served.share.file) == "/root/file.db"


def test_given_a_proposal_of_a_backup_when_served_then_nothing_is(served, tmp_path, monkeypatch):
    backup = dataclasses.replace(RECORD, detail=generations.Detail(source="remote"))
    restores.serve(node(tmp_path, monkeypatch), backup)
    assert served.share is None


LONG_AGO = 1.0
ROLLED_BACK = dataclasses.replace(RECORD, detail=generations.Detail())
CONFIRMED = dataclasses.replace(RECORD, confirmed=True)


@pytest.mark.parametrize(
    ("records", "kept"),
    [
        ({"proposal": RECORD}, True),
        ({"committed": RECORD}, True),
        ({}, False),  # withdrawn
        ({"committed": CONFIRMED}, False),
        ({"committed": RECORD, "began": LONG_AGO}, False),  # it is given up
        (
            {"committed": dataclasses.replace(RECORD, detail=generations.Detail())},
            False,
        ),  # rolled back
        ({"proposal": RECORD, "unit": "etcd/1"}, False),  # another unit serves that
        ({"proposal": RECORD, "committed": CONFIRMED}, True),  # the next one
    ],
)
def test_given_a_served_file_when_its_restore_moves_on_then_it_is_served_as_long_as_needed(
    served, tmp_path, monkeypatch, records, kept
):
    served.share = "some file"
    restores.end_share(node(tmp_path, monkeypatch, **records))
    assert (served.share is not None) is kept


def test_given_a_second_restore_when_refused_then_the_file_of_the_first_is_still_served(
    served, monkeypatch
):
    served.share = "of the first"

    def refuse(*_, **__):
        raise errors.DataError("a restore is under way already")

    monkeypatch.setattr(restores, "propose_file", lambda *_, **__: DETAIL)
    monkeypatch.setattr(restores, "propose", refuse)
    made = object.__new__(actions.Actions)
    made._charm = types.SimpleNamespace(
        node=lambda: None,
        peers=types.SimpleNamespace(leads=lambda: True, leading=contextlib.nullcontext),
    )
    params = {"path": "/x", "target": "", "skip-backup": False, "allow-missing-hash": False}
    with pytest.raises(errors.DataError, match="under way"):
        made._restore(params)
    assert served.share == "of the first"


@pytest.mark.parametrize("runs", [True, False])
def test_given_a_hook_when_something_is_served_then_it_asks_whether_that_is_needed(
    monkeypatch, runs
):
    asked = []
    monkeypatch.setattr(reconcile.systemd, "service_runs", lambda name: runs and "share" in name)
    monkeypatch.setattr(restores, "end_share", asked.append)
    plan = types.SimpleNamespace(steps=(), message="", state=None)
    monkeypatch.setattr(reconcile, "_drive", lambda *_, **__: loop.Ended(plan))
    unit = types.SimpleNamespace(
        me=None,
        recall=lambda: None,
        torn_down=False,
        leads=False,
        peers=types.SimpleNamespace(publish=lambda _: None),
    )
    reconcile.reconcile(unit, leader=True)
    assert asked == ([unit] if runs else [])
