"""The leader's record and turn, as the databag holds them."""

from __future__ import annotations

import json

import pytest

from cluster import generation as generations
from cluster import view as views
from machine import outside
from relations import databag

RECORD = generations.Generation(
    number=3,
    token="f00d",
    source=generations.Source.BACKUP,
    founders=(
        generations.Founder("etcd/0", "https://198.18.0.1:2380"),
        generations.Founder("etcd/2", "https://[fd00::2]:2380"),
    ),
    detail=generations.Detail(
        source="remote", folder="a/b", sha256="cafe", size=7, revision=9, reason="no room: wait"
    ),
    keep="/srv/old",
    skip_backup=True,
    confirmed=True,
)


def test_given_a_record_when_written_and_read_then_it_is_the_same() -> None:
    assert databag.read_record(databag.record_text(RECORD)) == RECORD


def test_given_a_record_when_written_then_as_earlier_revisions_of_the_charm_read_it() -> None:
    told = json.loads(databag.record_text(RECORD))
    assert (told["number"], told["source"], told["confirmed"]) == (3, "backup", True)
    assert told["founders"][0] == {"unit": "etcd/0", "peer_url": "https://198.18.0.1:2380"}
    assert told["detail"] == {
        "source": "remote",
        "folder": "a/b",
        "sha256": "cafe",
        "size": "7",
        "revision": "9",
        "reason": "no room: wait",
    }


def test_given_a_record_of_an_earlier_revision_when_read_then_what_it_knows_is_known() -> None:
    told = {
        "number": 1,
        "token": "f00d",
        "source": "backup",
        "founders": [],
        "detail": {"bump": "500", "revision": "100", "something": "else"},
    }
    found = databag.read_record(json.dumps(told))
    assert found.detail == generations.Detail(bump=500, revision=100)
    assert not found.confirmed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"number": "one"}, "number"),
        ({"number": 1e300}, "number"),
        ({"token": ""}, "token"),
        ({"token": None}, "token"),
        ({"token": "../up"}, "token"),
        ({"source": "thin air"}, "source"),
        ({"founders": [{"unit": "etcd/0"}]}, "peer_url"),
        ({"founders": [{"unit": "etcd", "peer_url": "https://198.18.0.1:2380"}]}, "unit"),
        ({"founders": 7}, "founders"),
        ({"detail": "x"}, "detail"),
        ({"detail": {"size": "many"}}, "size"),
        ({"detail": {"path": "/a\x1b[2J"}}, "path"),
        ({"confirmed": "yes"}, "confirmed"),
        ({"keep": "/a\nb"}, "keep"),
    ],
)
def test_given_a_damaged_record_when_read_then_says_where(
    change: dict[str, object], named: str
) -> None:
    damaged = json.dumps({**json.loads(databag.record_text(RECORD)), **change})
    with pytest.raises(outside.OutsideError, match=f"it (lacks|garbles) {named}$"):
        databag.read_record(damaged)


@pytest.mark.parametrize("text", ["{", "[]", "7", ""])
def test_given_no_record_when_read_then_says_so(text: str) -> None:
    with pytest.raises(outside.OutsideError):
        databag.read_record(text)


def test_given_a_turn_when_written_and_read_then_it_is_the_same() -> None:
    turn = views.Turn("etcd/2", 7)
    assert databag.read_turn(databag.turn_text(turn)) == turn
    assert databag.read_turn(databag.turn_text(views.Turn("", 8))) == views.Turn("", 8)
    assert databag.read_turn("") == views.Turn()


@pytest.mark.parametrize("text", ["etcd/0", "etcd/0 x", "etcd/0 -1", "\x1b 7 7"])
def test_given_a_turn_that_is_none_when_read_then_says_so(text: str) -> None:
    with pytest.raises(databag.PeerError, match="cannot be read"):
        databag.read_turn(text)
