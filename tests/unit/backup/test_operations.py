"""What an operator asks of a folder that may be another application's."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from test_catalog import NOW, manifest, sealed

from backup import catalog as catalogs
from backup import claimant as claimants
from backup import listing as listings
from backup import manifest as manifests
from backup import operations, rclone, seal, worker
from backup import owner as owners

CLAIMANT = claimants.Claimant("etcd", "prod", "01234567-89ab", "t")
THEIRS = owners.Owner("etcd", "stage", "76543210-89ab", "abc", "theirs")


class Folder(catalogs.Catalog):
    """A folder that is what a test says, and notes what is done to it."""

    def __init__(self, listing: listings.Listing) -> None:
        self.listing = listing
        self.deleted: list[str] = []

    def read(self) -> listings.Listing:
        return self.listing

    def delete(self, manifest: manifests.Manifest) -> None:
        self.deleted.append(manifest.id)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch):
    folder = Folder(listings.Listing(()))
    monkeypatch.setattr(operations.Operations, "_catalog", lambda *_: folder)
    monkeypatch.setattr(operations.time, "time", lambda: NOW)
    asked = operations.Operations(
        remote=None,  # type: ignore[arg-type]
        folder="shared",
        about=None,
        workdir=pathlib.Path("/nowhere"),
        cluster=worker.Cluster((), "", None),  # type: ignore[arg-type]
        retention="last=1",
        claimant=CLAIMANT,
    )
    return asked, folder


def test_given_anothers_folder_when_told_to_delete_then_refused_and_nothing_is(ours):
    asked, folder = ours
    folder.listing = listings.Listing((manifest(), manifest(NOW - 60)), owner=THEIRS, claimed=True)
    with pytest.raises(operations.BackupError, match="belongs to application etcd of model stage"):
        asked.delete("latest")
    assert folder.deleted == []
    folder.listing = dataclasses.replace(folder.listing, owner=CLAIMANT.owner(1))
    asked.delete("latest")
    assert folder.deleted == [folder.listing.manifests[0].id]


def test_given_backups_that_should_be_gone_when_listed_then_it_is_told_once_they_had_time(ours):
    asked, folder = ours
    folder.listing = listings.Listing((manifest(NOW - 60), manifest(NOW - 120)))
    assert asked.listing().problems == ()
    folder.listing = listings.Listing((manifest(NOW - 3600), manifest(NOW - 7200)))
    assert "1 backups stay that backup-retention does not keep" in asked.listing().problems[0]
    assert asked.listing("another").problems == ()


def test_given_manifests_of_several_hands_when_shown_then_what_each_is_worth(ours):
    one, other = manifest(NOW, revision=9), manifest(NOW - 60, revision=8)
    keys = seal.Keys().renewed(NOW)
    there = [rclone.Entry(m.file, m.stored_size, NOW) for m in (one, other)]
    there += [rclone.Entry(f"{m.id}.json", 500, NOW) for m in (one, other)]
    found = sealed(one, keys=keys) | sealed(other, keys=seal.Keys().renewed(NOW))
    listing = listings.judge(there, found, NOW, keys)
    shown = operations.table(listing)
    (ours,) = (line for line in shown.splitlines() if one.id in line)
    (others,) = (line for line in shown.splitlines() if other.id in line)
    assert ours.split()[-2] == "yes" and others.split()[-2] == "no"
    assert "this application's key did not seal the manifest" in shown
    assert [record["authentic"] for record in operations.records(listing)] == [True, False]
