"""The record, as the databag holds it."""

from __future__ import annotations

import json

import pytest

from cluster import generation as generations

RECORD = generations.Generation(
    number=3,
    token="f00d",
    source=generations.Source.BACKUP,
    founders=(
        generations.Founder("etcd/0", "https://198.18.0.1:2380"),
        generations.Founder("etcd/2", "https://[fd00::2]:2380"),
    ),
    detail=(("path", "a/b"), ("sha256", "cafe")),
    keep="/srv/old",
    skip_backup=True,
    confirmed=True,
)


def test_given_a_record_when_written_and_read_then_it_is_the_same() -> None:
    assert generations.Generation.from_json(RECORD.to_json()) == RECORD


def test_given_a_record_when_founding_then_names_members_and_urls() -> None:
    assert RECORD.initial_cluster == (
        "etcd-0=https://198.18.0.1:2380,etcd-2=https://[fd00::2]:2380"
    )


@pytest.mark.parametrize("unit", ["etcd/0", "my-etcd/12"])
def test_given_a_unit_when_named_as_member_then_the_name_leads_back(unit: str) -> None:
    assert generations.unit_name(generations.member_name(unit)) == unit


@pytest.mark.parametrize(
    "change",
    [
        {"number": "one"},
        {"number": float("inf")},
        {"token": ""},
        {"token": None},
        {"source": "thin air"},
        {"founders": [{"unit": "etcd/0"}]},
        {"founders": 7},
        {"detail": "x"},
    ],
)
def test_given_a_damaged_record_when_read_then_says_so(change: dict[str, object]) -> None:
    damaged = json.dumps({**json.loads(RECORD.to_json()), **change})
    with pytest.raises(ValueError, match="the generation record cannot be read"):
        generations.Generation.from_json(damaged)


def test_given_no_json_when_read_then_says_so() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        generations.Generation.from_json("{")
