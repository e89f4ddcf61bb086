"""What an application without data is founded from: the folder on a real remote decides."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import time

import pytest

from backup import catalog as catalogs
from backup import manifest as manifests
from backup import operations, rclone, remote_choice, remote_settings, seal
from hook import backups as unit_backups
from hook import config as configs
from support import fake_unit

KEYS = seal.Keys().renewed(time.time())
PEERS = fake_unit.Peers(keys=KEYS)


def manifest(*, proven: bool) -> manifests.Manifest:
    now = time.time()
    name = manifests.new_id(now, 1, 7)
    digest = hashlib.sha256(b"snapshot").hexdigest()
    return manifests.Manifest(
        id=name,
        file=f"{name}.db",
        cluster_id=1,
        generation=1,
        token="t",
        revision=7,
        raft_index=7,
        etcd_version="3.5.16",
        storage_version="",
        size=8,
        sha256=digest,
        stored_size=8,
        stored_sha256=digest,
        compression="",
        keys=0,
        members=("etcd-0",),
        taken_by="etcd/0",
        taken_at=now,
        duration=1.0,
        proven_at=now if proven else None,
    )


def origin(chosen: remote_choice.Choice, *, recover: bool, named: str = "old"):
    wanted = configs.Settings(recover_total_loss=recover, cluster_name=named)
    node = fake_unit.made(pathlib.Path("/nowhere"), PEERS, settings=wanted)
    return unit_backups.Backups(node, chosen, named or "model-1234/etcd").origin()


@pytest.fixture
def ready(tmp_path: pathlib.Path) -> remote_choice.Choice:
    (tmp_path / "remote").mkdir()
    return remote_choice.Choice(
        remote_choice.State.READY, remote_settings.from_config(str(tmp_path / "remote"), "")
    )


def publish(
    ready: remote_choice.Choice,
    tmp_path: pathlib.Path,
    *,
    proven: bool,
    folder: str = "old",
    keys: seal.Keys = KEYS,
    **changes,
) -> manifests.Manifest:
    (tmp_path / "snapshot").write_bytes(b"snapshot")
    made = dataclasses.replace(manifest(proven=proven), **changes)
    return catalogs.Catalog(rclone.Remote(ready.settings), folder, keys=keys).publish(
        made, tmp_path / "snapshot"
    )


def test_given_a_proven_backup_when_recovery_is_allowed_then_it_is_the_origin(ready, tmp_path):
    made = publish(ready, tmp_path, proven=True)
    detail, held = origin(ready, recover=True)
    assert detail.id == made.id
    assert held == ""


@pytest.mark.parametrize("keys", [seal.Keys(), seal.Keys().renewed(time.time())])
def test_given_a_proof_that_others_wrote_when_recovery_is_allowed_then_it_asks(
    ready, tmp_path, monkeypatch, keys
):
    """Another application's, an earlier charm's, or that of whoever may write to the store."""
    made = publish(ready, tmp_path, proven=True, keys=keys)
    detail, held = origin(ready, recover=True)
    assert detail is None
    assert "none of them proven by this one" in held and "restore backup-id=latest" in held
    monkeypatch.setattr(unit_backups.service, "version", lambda: (3, 5, 16))
    node = fake_unit.made(tmp_path, PEERS)
    chosen, by_hand = unit_backups.Backups(node, ready, "old").chosen("proven")
    assert (chosen.id, by_hand.authentic) == (made.id, "no")


def test_given_backups_that_know_of_more_when_one_is_restored_then_the_highest_counts(
    ready, tmp_path, monkeypatch
):
    old = publish(ready, tmp_path, proven=True)
    publish(ready, tmp_path, proven=False, high=9000)
    publish(ready, tmp_path, proven=False, folder="own", high=9500)
    detail, _ = origin(ready, recover=True)
    assert (detail.id, detail.revision, detail.high) == (old.id, 7, 9000)
    monkeypatch.setattr(unit_backups.service, "version", lambda: (3, 5, 16))
    node = fake_unit.made(tmp_path, PEERS)
    own = unit_backups.Backups(node, ready, "own")
    _, detail = own.chosen(old.id, "old")
    assert detail.high == 9500, "clients remember what this application told them"
    assert own.high() == 9500
    assert unit_backups.Backups(node, remote_choice.OFF, "own").high() == 0


def test_given_backups_when_recovery_is_not_allowed_then_the_action_is_named(ready, tmp_path):
    publish(ready, tmp_path, proven=True)
    detail, held = origin(ready, recover=False)
    assert detail is None
    assert "juju run etcd/leader restore backup-id=latest" in held


def test_given_no_proven_backup_when_recovery_is_allowed_then_it_asks(ready, tmp_path):
    publish(ready, tmp_path, proven=False)
    detail, held = origin(ready, recover=True)
    assert detail is None
    assert "none of them proven" in held


def test_given_an_empty_folder_when_asked_then_an_empty_cluster_is_founded(ready):
    assert origin(ready, recover=True) == (None, "")
    assert origin(ready, recover=False) == (None, "")


@pytest.mark.parametrize(
    ("chosen", "named", "held"),
    [
        (remote_choice.OFF, "", False),
        (remote_choice.OFF, "old", True),
        (remote_choice.Choice(remote_choice.State.WAITING, sentence="Waiting for s3"), "", True),
        (remote_choice.Choice(remote_choice.State.WRONG, sentence="Two places"), "old", True),
    ],
)
def test_given_no_remote_to_look_at_when_recovery_is_allowed_then_only_a_stranger_founds(
    chosen, named, held
):
    detail, sentence = origin(chosen, recover=True, named=named)
    assert detail is None
    assert bool(sentence) == held


def test_given_a_remote_that_fails_when_recovery_is_allowed_then_nothing_is_founded():
    lost = remote_choice.Choice(
        remote_choice.State.READY, remote_settings.from_config("gone:x", "[gone]\ntype = ftp\n")
    )
    detail, held = origin(lost, recover=True)
    assert detail is None
    assert "cannot be seen" in held


def test_given_a_backup_of_a_newer_etcd_when_chosen_then_it_is_refused(
    ready, tmp_path, monkeypatch
):
    made = publish(ready, tmp_path, proven=True)
    monkeypatch.setattr(unit_backups.service, "version", lambda: (3, 4, 23))
    wanted = configs.Settings(cluster_name="old")
    node = fake_unit.made(tmp_path, PEERS, settings=wanted)
    asked = unit_backups.Backups(node, ready, "old")
    with pytest.raises(
        operations.BackupError, match=r"of etcd 3\.5\.16, and 3\.4\.23 is installed"
    ):
        asked.chosen("latest")
    monkeypatch.setattr(unit_backups.service, "version", lambda: (3, 5, 0))
    assert asked.chosen("latest")[0].id == made.id
