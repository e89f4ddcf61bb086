"""The keeper's loop on real clusters, one look at a time."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest

from backup import catalog as catalogs
from backup import keeper_files, proof, rclone_errors, schedule, seal, worker
from backup import listing as listings
from backup import owner as owners
from keeper import holder, scheduled
from support import keeper_config

if TYPE_CHECKING:
    import pathlib

    from etcd import scratch


class Unit:
    """A keeper with its files, as on one unit."""

    def __init__(
        self, etcd: scratch.Member, folder: pathlib.Path, number: int = 0, **changes
    ) -> None:
        self.folder = folder / f"unit-{number}"
        self.folder.mkdir()
        self.woken, self.closed = 0, False
        given = {"interval": 1.0, "workdir": str(self.folder / "work"), **changes}
        tls = etcd.config.server_tls
        self.config = keeper_config.told(
            f"etcd/{number}", etcd.endpoint, tls=tls, folder=folder, **given
        )
        self.write(self.config)
        self.keeper = scheduled.Keeper(
            self.folder / "keeper.json",
            self.folder / "status.json",
            self.folder / "cache",
            self.folder / "lock",
            wake=self.wake,
            closed=lambda: self.closed,
        )

    def wake(self) -> None:
        self.woken += 1

    def write(self, config: keeper_files.Config) -> None:
        (self.folder / "keeper.json").write_text(config.to_json())

    def step(self) -> keeper_files.Status:
        self.keeper.step()
        return keeper_files.Status.read(self.folder / "status.json")

    def until(self, what, seconds: float = 20.0) -> keeper_files.Status:
        deadline = time.monotonic() + seconds
        while not what(status := self.step()):
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
        return status


@pytest.fixture
def remote(local, tmp_path):
    (tmp_path / "remote.json").write_text(local.settings.to_json())
    return local


@pytest.fixture
def unit(etcd, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduled, "_LIST", (0.0, 1.0))
    made = Unit(etcd, tmp_path)
    yield made
    made.keeper.close()


def write(etcd: scratch.Member, text: str = "x") -> int:
    with etcd.client() as client:
        return client.put("/key", text * 100)


def test_given_a_schedule_when_time_passes_then_backups_are_taken_and_proven(
    unit, etcd, remote, monkeypatch
):
    status = unit.until(lambda s: s.newest)
    assert status.role == "holder" and status.error == "" and status.count == 1
    monkeypatch.setattr(schedule, "_RETRY", (0.1, 0.1))
    unit.write(dataclasses.replace(unit.config, interval=30.0))
    proven = unit.until(lambda s: s.proven)
    assert proven.proven == status.newest and proven.proof_error == ""
    (manifest,) = catalogs.Catalog(remote, "here").read().manifests
    assert manifest.proven_at and manifest.hash and manifest.keys
    assert manifest.taken_by == "etcd/0"
    assert "newest proven" in proven.words(time.time())
    assert not list((unit.folder / "work").rglob("keeper/*"))


def test_given_a_ghost_in_the_keepers_key_when_looking_then_backups_go_on_and_it_is_told(
    unit, etcd
):
    with etcd.client() as client:
        client.put(holder.KEY, "ghost")
    status = unit.until(lambda s: s.newest)
    assert status.role == "holder"
    assert "a client wrote 'ghost' to the keeper's key" in status.words(time.time())


def test_given_nothing_written_when_due_then_skipped_and_said(unit, etcd):
    first = unit.until(lambda s: s.newest)
    skipped = unit.until(lambda s: s.unchanged_at)
    assert skipped.newest == first.newest
    assert skipped.trouble(time.time()) == ""
    write(etcd, "new")
    assert unit.until(lambda s: s.newest != first.newest).count == 2


def test_given_new_connections_when_nothing_is_written_then_no_revision_is_spent(
    unit, etcd, monkeypatch
):
    monkeypatch.setattr(holder, "_RECONNECT", 0.0)
    before = unit.until(lambda s: s.newest)
    assert before.role == "holder"
    for _ in range(5):
        assert unit.step().role == "holder"
    unit.write(dataclasses.replace(unit.config, retention="last=9"))
    after = unit.step()
    assert after.role == "holder" and after.revision == before.revision


def test_given_retention_when_backups_are_taken_then_old_ones_go(unit, etcd, remote):
    unit.write(dataclasses.replace(unit.config, retention="last=2", interval=0.2, prove_every=0))
    seen: set[str] = set()
    for number in range(4):
        write(etcd, str(number))
        seen.add(unit.until(lambda s: s.newest and s.newest not in seen).newest)
    listing = catalogs.Catalog(remote, "here").read()
    assert len(listing.manifests) == 2 and listing.problems == ()
    assert listing.newest.id == max(seen)


def test_given_a_broken_remote_when_due_then_tried_again_and_the_charm_woken(
    unit, etcd, tmp_path, monkeypatch
):
    monkeypatch.setattr(schedule, "_RETRY", (0.2, 0.2))
    first = unit.until(lambda s: s.newest)
    assert first.trouble(time.time()) == "" and unit.woken == 0
    (tmp_path / "disk").rename(tmp_path / "away")
    (tmp_path / "disk").write_text("in the way")
    write(etcd, "while broken")
    failed = unit.until(lambda s: s.failures >= 3)
    assert failed.error and "Backups fail" in failed.trouble(time.time())
    assert unit.woken == 1
    (tmp_path / "disk").unlink()
    (tmp_path / "away").rename(tmp_path / "disk")
    well = unit.until(lambda s: not s.failures and s.newest != first.newest)
    assert well.error == "" and well.proof_error == "" and unit.woken == 2


def test_given_a_proof_that_fails_when_due_then_said_and_not_proven(unit, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise proof.ProofError("it holds something else")

    monkeypatch.setattr(worker, "prove", fail)
    unit.until(lambda s: s.newest)
    unit.write(dataclasses.replace(unit.config, interval=30.0))
    status = unit.until(lambda s: s.proof_error)
    assert "not proven" in status.trouble(time.time()) and status.proven == ""


def test_given_no_room_for_a_proof_when_due_then_the_backup_is_not_blamed(unit, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise proof.HinderedError("the disk is full")

    monkeypatch.setattr(worker, "prove", fail)
    unit.until(lambda s: s.newest)
    unit.write(dataclasses.replace(unit.config, interval=30.0))
    status = unit.until(lambda s: s.hindered)
    assert status.proof_error == "" and status.trouble(time.time()) == ""
    assert "the last proof could not be made: the disk is full" in status.words(time.time())


def test_given_a_backup_from_the_future_when_looking_then_backups_go_on_and_it_is_named(
    unit, etcd, remote
):
    first = unit.until(lambda s: s.newest)
    backups = catalogs.Catalog(remote, "here")
    (manifest,) = backups.read().manifests
    late = time.time() + 30 * 86400
    ahead = dataclasses.replace(manifest, taken_at=late, taken_by="etcd/7")
    backups.describe(ahead)
    unit.keeper._listed = 0.0
    write(etcd, "after the wrong clock")
    status = unit.until(lambda s: s.newest != first.newest)
    assert abs(status.newest_at - time.time()) < 60 and status.trouble(time.time()) == ""
    assert any("the clock of etcd/7 was wrong" in problem for problem in status.problems)
    skipped = unit.until(lambda s: s.unchanged_at)
    assert skipped.newest == status.newest


def test_given_nothing_written_since_one_from_the_future_when_due_then_its_true_age_counts(
    unit, remote
):
    unit.until(lambda s: s.newest)
    backups = catalogs.Catalog(remote, "here")
    (manifest,) = backups.read().manifests
    backups.describe(dataclasses.replace(manifest, taken_at=time.time() + 30 * 86400))
    unit.keeper._listed = 0.0
    begun = time.time()
    status = unit.until(lambda s: s.unchanged_at > begun + 2)
    assert status.count == 1 and abs(status.newest_at - begun) < 60


def test_given_a_clock_that_is_set_back_when_looking_then_nothing_waits_for_the_old_time(
    unit, etcd, monkeypatch
):
    real, ahead = time.time, 5 * 86400.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    first = unit.until(lambda s: s.newest)
    unit.until(lambda s: s.unchanged_at)
    ahead = 0.0
    write(etcd, "after the clock was set")
    second = unit.until(lambda s: s.newest != first.newest)
    assert abs(second.newest_at - real()) < 60


def test_given_a_folder_of_another_application_when_looking_then_it_is_only_read(
    unit, etcd, remote
):
    theirs = owners.Owner("etcd", "stage", "7654", "abc", "theirs")
    backups = catalogs.Catalog(remote, "here")
    backups.claim(theirs)
    mine = {"application": "etcd", "model": "prod", "model_uuid": "0123"}
    told = dataclasses.replace(unit.config, **mine)
    unit.write(told)
    status = unit.until(lambda s: s.foreign)
    write(etcd, "never stored there")
    for _ in range(3):
        assert unit.step().newest == ""
    assert "belongs to application etcd of model stage" in status.trouble(time.time())
    assert "create-backup take-over=true" in status.trouble(time.time())
    assert backups.read() == listings.Listing((), owner=theirs, claimed=True, clock=ANY)
    backups.claim(told.claimant.owner(0))  # as `take-over` does
    unit.keeper._listed = 0.0
    taken = unit.until(lambda s: s.newest)
    assert taken.foreign == ""
    with etcd.client() as online:
        cluster_id = online.members().cluster_id
    assert backups.read().owner == told.claimant.owner(cluster_id)


def test_given_keys_when_a_backup_is_taken_and_proven_then_its_manifest_is_authentic(
    unit, remote, monkeypatch
):
    monkeypatch.setattr(schedule, "_RETRY", (0.1, 0.1))
    keys = seal.Keys().renewed(time.time())
    (unit.folder / "keys.json").write_text(keys.to_json())
    unit.write(
        dataclasses.replace(unit.config, keys=str(unit.folder / "keys.json"), interval=30.0)
    )
    status = unit.until(lambda s: s.proven)
    assert status.unsealed == 0
    before = catalogs.Catalog(remote, "here").read().manifests[0]
    catalogs.Catalog(remote, "here").describe(before)  # as an earlier charm wrote it
    unit.keeper._listed, unit.keeper._proof_tried = 0.0, ""
    unit.keeper._proof_after = math.inf  # a look may prove at once what it has found
    assert unit.until(lambda s: s.unsealed).proven == ""
    unit.keeper._proof_after = 0.0
    assert unit.until(lambda s: s.proven).unsealed == 0, "proven once more, by this application"
    listing = catalogs.Catalog(remote, "here", keys=keys).read()
    assert listing.proven is not None and listing.authentic == {status.proven}
    other = catalogs.Catalog(remote, "here", keys=seal.Keys().renewed(time.time())).read()
    assert other.proven is None and other.manifests == listing.manifests


@pytest.mark.parametrize(
    ("kind", "told"),
    [(rclone_errors.Kind.LOCKED, ""), (rclone_errors.Kind.READ_ONLY, "Old backups stay: no")],
)
def test_given_a_store_that_lets_nothing_be_deleted_when_thinned_then_told_and_backups_go_on(
    unit, etcd, monkeypatch, kind, told
):
    def refuse(*_: object) -> None:
        raise rclone_errors.RemoteError(kind, "no")

    monkeypatch.setattr(catalogs.Catalog, "delete", refuse)
    monkeypatch.setattr(keeper_files, "_OVERDUE", -1.0)
    unit.write(dataclasses.replace(unit.config, retention="last=1", interval=0.2, prove_every=0))
    for number in range(3):
        write(etcd, str(number))
        count = number + 1
        status = unit.until(lambda s, count=count: s.count == count)
    status = unit.until(lambda s: s.overdue)
    assert status.error == "" and status.failures == 0
    assert status.trouble(time.time()) == told
    assert "backups stay that backup-retention does not keep" in status.words(time.time())


def test_given_no_remote_or_no_interval_when_looking_then_off(unit):
    unit.until(lambda s: s.newest)
    unit.write(dataclasses.replace(unit.config, interval=0.0))
    assert unit.step().role == "off"
    assert unit.step().trouble(time.time() + 1e6) == ""
    (unit.folder / "keeper.json").unlink()
    assert unit.step().role == "off"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"endpoints": 5}'])
def test_given_a_garbled_configuration_when_looking_then_one_sentence(unit, text):
    (unit.folder / "keeper.json").write_text(text)
    status = unit.step()
    assert status.role == "blind" and status.error


def test_given_a_closed_etcd_when_looking_then_blind_without_trouble_until_it_is_open(unit):
    unit.closed = True
    told = unit.step()
    assert (told.role, told.failures, unit.woken) == ("blind", 0, 0)
    assert "closed until it is confirmed" in told.error and not told.trouble(time.time())
    unit.closed = False
    told = unit.step()
    assert (told.role, told.error) == ("holder", "")


def test_given_no_etcd_when_looking_then_blind_and_no_exception(unit):
    config = dataclasses.replace(
        unit.config, local="https://127.0.0.1:9", endpoints=("https://127.0.0.1:9",)
    )
    unit.write(config)
    status = unit.step()
    assert status.role == "blind" and status.error


def test_given_three_members_when_looking_then_one_follower_holds_and_a_dead_holder_is_replaced(
    three, remote, tmp_path, monkeypatch
):
    monkeypatch.setattr(holder, "TTL", 2)
    monkeypatch.setattr(scheduled, "_LIST", (0.0, 1.0))
    units = [Unit(each, tmp_path, number, prove_every=0) for number, each in enumerate(three)]
    try:
        with three[0].client() as client:
            status = client.status(three[0].endpoint)
            leader = client.members().by_id(status.leader).name
        first = [unit.step() for unit in units]
        holders = [s.unit for s in first if s.role == "holder"]
        assert len(holders) == 1
        assert holders[0].replace("/", "-") != leader
        blind = next(u for u in units if u.keeper.status.role == "candidate")
        blind.keeper.status = dataclasses.replace(blind.keeper.status, error="x", failures=1)
        deadline = time.monotonic() + 20
        while True:  # a slow machine may lose the lease of two seconds between two steps
            again = [unit.step() for unit in units]
            if len({s.holder for s in again}) == 1 and not any(
                s.error or s.failures for s in again
            ):
                break
            assert time.monotonic() < deadline, again
        holders = [s.unit for s in again if s.role == "holder"]
        dead = next(unit for unit in units if unit.config.unit == holders[0])
        living = [unit for unit in units if unit is not dead]
        write(three[0], "after the holder died")
        deadline = time.monotonic() + 20
        while True:
            statuses = [unit.step() for unit in living]
            taken = [s for s in statuses if s.role == "holder" and s.newest_revision]
            if taken and taken[0].newest_revision >= taken[0].revision - 3 and taken[0].count > 1:
                break
            assert time.monotonic() < deadline, statuses
            time.sleep(0.2)
        assert taken[0].unit != holders[0]
        assert taken[0].unit.replace("/", "-") != leader
    finally:
        for unit in units:
            unit.keeper.close()
