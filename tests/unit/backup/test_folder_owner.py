"""Whose folder it is, and who may write there."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_catalog import NOW, manifest

from backup import claimant as claimants
from backup import listing as listings
from backup import manifest as manifests
from backup import owner as owners

OURS = claimants.Claimant("etcd", "prod", "01234567-89ab", "token", "")
THEIRS = owners.Owner("etcd", "stage", "76543210-89ab", "abc", "theirs")
NOBODYS = listings.Listing(())


def listed(*manifests: manifests.Manifest, by: owners.Owner | None = None) -> listings.Listing:
    return listings.Listing(manifests, owner=by, claimed=by is not None)


def test_given_a_folder_of_another_application_when_asked_then_refused_with_the_way_out():
    refused = OURS.refused(listed(by=THEIRS), "shared", 0xDEF)
    assert "application etcd of model stage (76543210)" in refused
    assert "juju run etcd/leader create-backup take-over=true" in refused
    assert "nothing is written or deleted" in refused


@pytest.mark.parametrize(
    "changes",
    [
        {"application": "etcd", "model_uuid": "01234567-89ab"},  # ours, of an earlier generation
        {"cluster_id": "def"},
        {"cluster_id": "c0de"},
    ],
)
def test_given_our_folder_or_that_of_the_cluster_that_we_continue_when_asked_then_ours(changes):
    heir = dataclasses.replace(OURS, continues="c0de")
    by = dataclasses.replace(THEIRS, **changes)
    assert heir.refused(listed(by=by), "shared", 0xDEF) == ""


def test_given_nobodys_folder_when_asked_then_the_newest_backup_tells():
    other = manifest(NOW, token="x")
    assert OURS.refused(NOBODYS, "shared", 1) == ""
    assert "another cluster" in OURS.refused(listed(other), "shared", 1)
    assert OURS.refused(listed(other), "prod-01234567/etcd", 1) == "", "named after us"
    assert OURS.refused(listed(other), "shared", other.cluster_id) == ""
    assert OURS.refused(listed(dataclasses.replace(other, token="token")), "shared", 1) == ""
    sealed = dataclasses.replace(listed(other), authentic=frozenset({other.id}))
    assert OURS.refused(sealed, "shared", 1) == ""
    continuing = dataclasses.replace(OURS, continues=f"{other.cluster_id:x}")
    assert continuing.refused(listed(other), "shared", 1) == ""


def test_given_a_document_that_cannot_be_read_when_asked_then_refused():
    unknown = listings.Listing((), claimed=True)
    assert OURS.refused(unknown, "shared", 1)


def test_given_a_keeper_that_was_not_told_who_it_is_when_asked_then_it_goes_on():
    assert claimants.Claimant().refused(listed(by=THEIRS), "shared", 1) == ""


def test_given_an_owner_when_written_and_read_then_the_same():
    mine = OURS.owner(0xABC)
    assert owners.Owner.from_json(mine.to_json()) == mine
    assert mine.cluster_id == "abc"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"application": 5},
        {"model": "\x1b[31m"},
        {"token": "t" * 300},
        {"model": None},
    ],
)
def test_given_a_wrong_owner_when_read_then_one_sentence(change):
    text = json.dumps({**json.loads(THEIRS.to_json()), **change})
    with pytest.raises(ValueError, match=r"^it"):
        owners.Owner.from_json(text)
