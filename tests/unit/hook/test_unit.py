"""How a unit reaches the members: with what they believe now."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from cluster import generation as generations
from etcd import service
from etcd import stamp as stamps
from hook import launcher
from hook import unit as units
from support import fake_unit

RESTORED = generations.Generation(
    2, "two", generations.Source.BACKUP, (generations.Founder("etcd/0", "https://a:2380"),)
)


def unit(at: pathlib.Path, record: generations.Generation | None) -> units.Node:
    return fake_unit.made(at, fake_unit.Peers(record=record))


def put(made: units.Node, token: str, *, closed: bool) -> None:
    made.root.new_current(stamps.Stamp(token, 2, None, "etcd-0"), closed=closed)


@pytest.mark.parametrize(
    ("token", "closed", "confirmed", "believed"),
    [
        ("two", True, False, "founder"),
        ("two", True, True, "client"),  # the others may be open already; this one opens next
        ("two", False, True, "client"),
        ("two", False, False, "client"),  # opened by hand
        ("one", False, False, "founder"),  # this unit has yet to take part
        ("", False, False, "founder"),
    ],
)
def test_given_a_restore_when_members_are_reached_then_with_what_they_believe(
    tmp_path, token, closed, confirmed, believed
):
    made = unit(tmp_path, dataclasses.replace(RESTORED, confirmed=confirmed))
    if token:
        put(made, token, closed=closed)
    assert made.tls_now().cert.parent.name == believed
    assert made.tls().cert.parent.name == "client", "what clients, the keeper and others show"


def test_given_no_record_when_members_are_reached_then_as_a_client(tmp_path):
    assert unit(tmp_path, None).tls_now() == unit(tmp_path, None).tls()


@pytest.mark.parametrize("closed", [True, False])
def test_given_a_person_on_the_unit_when_etcd_is_reached_then_by_what_lies_in_its_data(
    tmp_path, monkeypatch, closed
):
    monkeypatch.setattr(service, "UNIT_FILE", tmp_path / "etcd.service")
    made = unit(tmp_path, None)
    put(made, "two", closed=closed)
    (tmp_path / "etcd.service").write_text(f"[Service]\nReadWritePaths={made.root.path}\n")
    found = launcher.admin_tls()
    assert found.cert.parent.name == ("founder" if closed else "client")
