"""What a restore begins with, by what this unit can learn."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import types
from typing import TYPE_CHECKING

import pytest

import errors
from backup import fetch, rclone_errors
from cluster import generation as generations
from cluster import revisions
from cluster import view as views
from etcd import data, service
from etcd import snapshot as snapshots
from hook import restore as restores
from machine import files
from support import fake_unit

if TYPE_CHECKING:
    pass

URL = "https://198.18.0.1:2380"
OLD = generations.Generation(
    3,
    "three",
    generations.Source.BACKUP,
    (),
    generations.Detail(bump=500, revision=100),
    confirmed=True,
)


def unit(
    folder: pathlib.Path, live: int | None, disk: int, told: int, record: generations.Generation
) -> fake_unit.Unit:
    """A unit whose cluster is at `live`, None where it does not answer."""
    facts = views.DiskFacts(1, 1, told)
    peers = fake_unit.Peers(
        record=record,
        told=views.Unit("etcd/0", peer_url=URL),
        others=(views.Unit("etcd/1", peer_url=URL, facts=facts),),
    )
    online = None if live is None else types.SimpleNamespace(revision=lambda: live)
    root = types.SimpleNamespace(
        disk=lambda *, facts: views.Disk(facts=views.DiskFacts(1, 1, disk) if facts else None)
    )
    return fake_unit.made(folder, peers, online=online, root=root)


def high_of(made: generations.Generation) -> int:
    return made.detail.high


@pytest.mark.parametrize("newest", ["live", "told", "record", "backups", "snapshot"])
def test_given_a_cluster_that_answers_when_restored_then_it_begins_above_all_that_is_known(
    tmp_path, newest
):
    known = {"live": 1, "told": 2, "record": 3, "backups": 4, "snapshot": 5, newest: 7000}
    record = dataclasses.replace(OLD, detail=generations.Detail(high=known["record"]))
    node = unit(tmp_path, known["live"], 10**6, known["told"], record)
    detail = generations.Detail(revision=known["snapshot"], high=known["backups"])
    made = restores.propose(node, detail)
    assert high_of(made) == 7000 + revisions.MARGIN
    assert made.founders == (
        generations.Founder("etcd/0", URL),
        generations.Founder("etcd/1", URL),
    )


def test_given_a_silent_cluster_when_restored_then_this_disk_and_the_backups_are_asked(tmp_path):
    detail = generations.Detail(revision=5)
    made = restores.propose(unit(tmp_path, None, 8000, 2, OLD), detail, known=lambda: 7000)
    assert high_of(made) == 8000 + revisions.MARGIN
    made = restores.propose(unit(tmp_path, None, 10, 2, OLD), detail, known=lambda: 7000)
    assert high_of(made) == 7000 + revisions.MARGIN
    made = restores.propose(unit(tmp_path, None, 10, 2, OLD), detail)
    assert high_of(made) == 600 + revisions.MARGIN, "a record of an earlier charm"


def test_given_a_cluster_that_answers_when_restored_from_a_file_then_the_remote_is_let_be(
    tmp_path,
):
    def asked() -> int:
        raise AssertionError("a restore from a file waits for no remote")

    detail = generations.Detail(revision=5)
    assert high_of(restores.propose(unit(tmp_path, 9, 0, 0, OLD), detail, known=asked)) > 9


GOOD, EVIL = b"good" * 1000, b"evil" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def given(tmp_path: pathlib.Path) -> pathlib.Path:
    """A snapshot in a person's directory."""
    path = tmp_path / "home" / "snap.db"
    path.parent.mkdir()
    path.write_bytes(GOOD)
    return path


def swap(path: pathlib.Path) -> None:
    """Put another file in its place, as whoever owns the directory can."""
    path.with_name("evil").write_bytes(EVIL)
    path.with_name("evil").rename(path)


def info(path: pathlib.Path) -> snapshots.SnapshotInfo:
    """What is said of a snapshot whose content is what is at `path` now."""
    content = path.read_bytes()
    return snapshots.SnapshotInfo(
        path, len(content), sha256(content), 5, 1, "0", "3.5", "", True, False, False
    )


def test_given_a_file_that_is_swapped_while_it_is_verified_when_proposed_then_what_was_verified_is(
    tmp_path, monkeypatch
):
    path = given(tmp_path)

    def verify(looked_at: pathlib.Path, **_) -> snapshots.SnapshotInfo:
        swap(path)
        path.write_bytes(EVIL)  # or in the same file
        return info(looked_at)

    monkeypatch.setattr(snapshots, "verify", verify)
    monkeypatch.setattr(service, "version", lambda: (3, 5, 16))
    node = fake_unit.made(tmp_path)
    detail = restores.propose_file(node, str(path))
    assert (detail.sha256, detail.size) == (sha256(GOOD), len(GOOD))
    assert detail.path == str(path)
    assert not node.fetched.exists()


def test_given_a_file_that_is_no_snapshot_when_proposed_then_it_is_called_as_the_operator_did(
    tmp_path, monkeypatch
):
    path = given(tmp_path)
    monkeypatch.setattr(service, "version", lambda: (3, 5, 16))
    node = fake_unit.made(tmp_path)
    with pytest.raises(errors.SnapshotError) as caught:
        restores.propose_file(node, str(path))
    assert str(path) in str(caught.value) and "fetched" not in str(caught.value)
    with pytest.raises(errors.MissingError, match=r"there is no file .*; nothing was changed"):
        restores.propose_file(node, str(path.parent / "not"))
    assert not node.fetched.exists()


def test_given_a_file_that_is_swapped_after_the_check_when_restored_then_what_was_checked_is(
    tmp_path,
):
    path = given(tmp_path)
    fetched = fetch.fetch(fetch.File(str(path), sha256(GOOD), len(GOOD)), tmp_path / "fetched")
    swap(path)
    assert fetched.path.read_bytes() == GOOD
    assert fetched.path.stat().st_mode & 0o077 == 0
    with pytest.raises(rclone_errors.RemoteError, match="is damaged"):
        fetch.fetch(fetch.File(str(path), sha256(GOOD), len(GOOD)), tmp_path / "fetched")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "endless"])
def test_given_something_else_in_the_place_of_the_file_when_restored_then_refused_at_once(
    tmp_path, kind
):
    path = given(tmp_path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(GOOD * 2)  # it has grown since it was verified
    with pytest.raises(rclone_errors.RemoteError, match="cannot be read"):
        fetch.fetch(fetch.File(str(path), sha256(GOOD), len(GOOD)), tmp_path / "fetched")


def test_given_a_snapshot_of_the_same_second_when_another_is_named_then_neither_is_lost(tmp_path):
    (tmp_path / "etcd-20261126-080824.db").touch()
    (tmp_path / "etcd-20261126-080824-1.db").touch()
    with files.folder(str(tmp_path)) as there:
        assert restores._free_name("etcd-20261126-080824", there) == "etcd-20261126-080824-2.db"
        assert restores._free_name("etcd-20261126-080825", there) == "etcd-20261126-080825.db"


@pytest.mark.parametrize("inside", ["current", "current/etcd/member/snap", "prepared/x", "link/x"])
def test_given_a_target_inside_etcds_data_when_asked_for_then_refused_and_nothing_made(
    tmp_path, inside
):
    root = data.Root(tmp_path / "root")
    (tmp_path / "root" / "current").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "current")
    node = fake_unit.made(tmp_path, root=root)
    before = sorted(tmp_path.rglob("*"))
    for ask in (restores.take, restores.check_keep):
        with pytest.raises(errors.TargetError, match="inside etcd's own data"):
            ask(node, str(root.path / inside))
    assert sorted(tmp_path.rglob("*")) == before
