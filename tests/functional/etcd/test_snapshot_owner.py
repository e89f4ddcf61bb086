"""Snapshots where a person works: what that person plants leads root nowhere."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import tempfile
import types

import other_user
import pytest

import errors
from backup import create
from etcd import data
from etcd import snapshot as snapshots
from hook import restore as restores
from support import fake_unit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

ROOT = data.Root(pathlib.Path("/var/lib/etcd"))


@pytest.fixture
def home(monkeypatch):
    """A person's home, and beside it a directory of root's of which nothing may change."""
    at = pathlib.Path(tempfile.mkdtemp(prefix="home-"))
    at.chmod(0o755)
    made, roots = at / "person", at / "roots"
    roots.mkdir()
    made.mkdir()
    os.chown(made, other_user.UID, other_user.GID)
    person = types.SimpleNamespace(pw_dir=str(made))
    ids = {"ubuntu": (other_user.UID, other_user.GID), None: (-1, -1)}
    monkeypatch.setattr(restores.pwd, "getpwnam", lambda _: person)
    monkeypatch.setattr(restores.files, "ids", ids.__getitem__)
    yield made
    assert list(roots.iterdir()) == [] and roots.stat().st_uid == 0
    shutil.rmtree(at)


@pytest.fixture
def node(cluster):
    cluster.found(1)
    online = cluster.client()
    online.put("key", "value")
    return fake_unit.made(pathlib.Path("/nowhere"), online=online, root=ROOT)


def test_given_a_persons_home_when_a_snapshot_is_taken_then_it_is_theirs_and_whole(node, home):
    info = restores.take(node, str(home / "taken"))
    assert info.path.parent == home / "taken" and [info.path] == list(info.path.parent.iterdir())
    details = info.path.stat()
    assert (details.st_uid, stat.S_IMODE(details.st_mode)) == (other_user.UID, 0o600)
    assert snapshots.verify(info.path) == info


def test_given_a_way_through_a_persons_link_when_a_snapshot_is_taken_then_refused(node, home):
    assert other_user.run(*other_user.LINK, home.parent / "roots", home / "link") == ""
    for target in (home / "link", home / "link" / "below"):
        with pytest.raises(errors.TargetError, match="nothing was kept there"):
            restores.take(node, str(target))


@pytest.mark.parametrize("name", ["person2", "person-s", "person/../another"])
def test_given_a_target_that_only_looks_like_the_home_when_taken_then_it_stays_roots(
    node, home, name
):
    info = restores.take(node, str(home.parent / name))
    assert info.path.stat().st_uid == 0


def test_given_a_person_who_swaps_names_when_a_snapshot_is_taken_then_root_follows_none(
    node, home, monkeypatch
):
    place = home / "taken"
    place.mkdir()
    os.chown(place, other_user.UID, other_user.GID)
    verify = snapshots.verify

    def swap(path, **options):
        """In the midst of it, everything that the person can change leads elsewhere."""
        (own,) = place.iterdir()
        assert other_user.run("mv", own, f"{own}.away") == ""
        assert other_user.run(*other_user.LINK, home.parent / "roots", own) == ""
        assert other_user.run("ls", f"{own}.away") is None
        return verify(path, **options)

    monkeypatch.setattr(snapshots, "verify", swap)
    info = restores.take(node, str(place))
    assert not info.path.is_symlink() and info.path.stat().st_uid == other_user.UID
    assert verify(info.path).sha256 == info.sha256


def test_given_a_damaged_stream_when_taken_then_the_sentence_names_the_file_and_nothing_is_left(
    node, home, monkeypatch
):
    def fail(path, **_):
        raise errors.BadHashError(f"{path} does not match its hash: it is damaged")

    monkeypatch.setattr(snapshots, "verify", fail)
    with pytest.raises(
        errors.BadHashError, match=rf"^{home}/taken/etcd-\d+-\d+\.db does not match"
    ):
        restores.take(node, str(home / "taken"))
    assert list((home / "taken").iterdir()) == []


def test_given_a_target_for_replaced_data_when_checked_then_no_link_of_another_is_followed(home):
    assert other_user.run(*other_user.LINK, home.parent / "roots", home / "kept") == ""
    with pytest.raises(errors.TargetError, match="nothing was changed"):
        restores.check_keep(types.SimpleNamespace(root=ROOT), str(home / "kept" / "x"))


def test_given_a_stranger_when_a_member_is_locked_then_they_cannot_hold_or_lead_it(home):
    lock = home.parent / "run" / "member.lock"
    with create.member_alone(lock) as had:
        assert had
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert other_user.run("flock", "--nonblock", lock, "true") is None
    assert other_user.run("ln", "-sf", "/etc/passwd", lock) is None
    assert create.LOCK.parent == pathlib.Path("/run/etcd-charm")


def test_given_a_link_in_the_locks_place_when_locked_then_what_it_points_to_stays(home):
    lock, victim = home / "member.lock", home.parent / "victim"
    victim.write_text("whole")
    assert other_user.run(*other_user.LINK, victim, lock) == ""
    with pytest.raises(OSError, match="symbolic links"), create.member_alone(lock):
        pass
    assert victim.read_text() == "whole"
