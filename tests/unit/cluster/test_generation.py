"""What a record names."""

from __future__ import annotations

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
    keep="/srv/old",
    skip_backup=True,
    confirmed=True,
)


def test_given_a_record_when_founding_then_names_members_and_urls() -> None:
    assert RECORD.initial_cluster == (
        "etcd-0=https://198.18.0.1:2380,etcd-2=https://[fd00::2]:2380"
    )


@pytest.mark.parametrize("unit", ["etcd/0", "my-etcd/12"])
def test_given_a_unit_when_named_as_member_then_the_name_leads_back(unit: str) -> None:
    assert generations.unit_name(generations.member_name(unit)) == unit
