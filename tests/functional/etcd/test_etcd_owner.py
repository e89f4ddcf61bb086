"""The data root as etcd's user meets it: that user becomes nobody else by what it plants there.

`nobody` stands for etcd's user; what it does is done by a process of its own.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import tempfile

import other_user
import pytest

import errors
from etcd import data, disk_facts
from etcd import salvage as salvages
from etcd import stamp as stamps
from machine import files, processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

ONE = stamps.Stamp("a" * 32, 1, 77, "etcd-0")
TWO = stamps.Stamp("b" * 32, 2, None, "etcd-0")


@pytest.fixture
def at():
    """A directory that every user can pass into."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="owner-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def secret(at):
    """A file of root's, that nobody else may read or write."""
    folder = at / "roots"
    folder.mkdir(mode=0o755)
    path = folder / "gshadow"
    path.write_text("root's own")
    path.chmod(0o600)
    yield path
    details = path.stat()
    assert (details.st_uid, details.st_mode & 0o777) == (0, 0o600)
    assert path.read_text() == "root's own"
    assert [each.name for each in folder.iterdir()] == ["gshadow"], "root wrote where it was led"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o755)


@pytest.fixture
def root(at):
    made = data.Root(at / "etcd", owner=other_user.NAME)
    made.ensure()
    return made


def begun(root, stamp=ONE, content="of etcd"):
    """Current data that etcd has written in."""
    directory = root.new_current(stamp)
    assert other_user.run(*other_user.WRITE, directory / "file", content) == ""
    return directory


def modes(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    found = {".": path.lstat()} | {p.name: p.lstat() for p in path.iterdir()}
    return {name: (d.st_uid, stat.S_IMODE(d.st_mode)) for name, d in found.items()}


def test_given_a_data_root_when_made_then_etcd_has_what_it_runs_on_and_nothing_else(root):
    begun(root)
    assert modes(root.path) == {
        ".": (0, 0o710),
        "current": (0, 0o710),
        "prepared": (0, 0o700),
        "kept": (0, 0o700),
    }
    assert modes(root.current) == {
        ".": (0, 0o710),
        "etcd": (other_user.UID, 0o700),
        "stamp.json": (0, 0o600),
    }
    assert root.path.stat().st_gid == other_user.GID


@pytest.mark.parametrize(
    "name",
    [
        "fetched",
        "backup",
        "kept/x",
        "prepared/x",
        "current.part",
        "current/x",
        "current/stamp.json",
    ],
)
def test_given_etcds_user_when_it_plants_a_link_then_it_may_not(root, secret, name):
    begun(root)
    assert other_user.run(*other_user.LINK, secret, root.path / name) is None
    for each in (root.current, root.current / "stamp.json", root.etcd_dir):
        assert other_user.run("mv", each, f"{each}.away") is None


def former(at: pathlib.Path) -> data.Root:
    """A data root as earlier revisions left it: etcd's, with all that is in it."""
    path = at / "former"
    for folder in ("current/etcd", "kept/20260101T000000.000000Z-g1-cccccccc/etcd"):
        (path / folder).mkdir(parents=True)
        (path / folder / "file").write_text("data")
        (path / folder).parent.joinpath("stamp.json").write_text(ONE.to_json())
    for mark in (disk_facts.CLOSED, stamps.FENCED):  # a full disk takes no content
        (path / "current" / mark).touch()
    (path / "prepared" / TWO.token / "etcd").mkdir(parents=True)
    (path / "prepared" / TWO.token / "stamp.json").write_text(TWO.to_json())
    for folder, folders, names in os.walk(path):
        for each in (folder, *(os.path.join(folder, name) for name in (*folders, *names))):
            os.chown(each, other_user.UID, other_user.UID)
        os.chmod(folder, 0o700)
    return data.Root(path, owner=other_user.NAME)


def test_given_a_root_of_an_earlier_revision_when_guarded_then_it_is_taken_and_all_is_there(at):
    root = former(at)
    assert root.guard()
    assert not root.guard() and not root.ensure()
    assert modes(root.path)["current"] == (0, 0o710)
    assert modes(root.current) == {
        ".": (0, 0o710),
        "etcd": (other_user.UID, 0o700),
        "stamp.json": (0, 0o600),
        disk_facts.CLOSED: (0, 0o600),
        stamps.FENCED: (0, 0o600),
    }
    assert root.stamp() == ONE and root.prepared() == (TWO.token,)
    assert root.is_closed() and (root.current / stamps.FENCED).read_text() == ""
    (kept,) = root.kept()
    assert kept.stamp == ONE and (kept.path / "etcd" / "file").read_text() == "data"
    assert other_user.run("cat", root.etcd_dir / "file") == "data"
    assert other_user.run(*other_user.LINK, "/x", root.path / "fetched") is None
    assert other_user.run("ls", root.kept_dir) is None


@pytest.mark.parametrize("name", ["fetched", "backup", "kept", "prepared", "current.part"])
def test_given_links_in_an_earlier_revisions_root_when_guarded_then_none_is_followed(
    at, secret, name
):
    root = former(at)
    shutil.rmtree(root.path / name, ignore_errors=True)
    assert other_user.run(*other_user.LINK, secret.parent, root.path / name) == ""
    root.ensure()
    assert not (root.path / name).is_symlink()
    (root.path / "fetched").mkdir(exist_ok=True)
    root.set_aside("and go on")


def test_given_a_stamp_that_is_a_link_or_still_open_when_guarded_then_it_is_not_believed(
    at, secret
):
    root = former(at)
    kept = next(root.kept_dir.iterdir())
    assert other_user.run("ln", "-sf", secret, kept / "stamp.json") == ""
    with (root.current / "stamp.json").open("r+") as open_before:
        root.guard()
        open_before.write("{}")
    assert root.stamp() == ONE
    assert root.kept()[0].stamp is None and not (kept / "stamp.json").exists()


def test_given_current_that_is_a_link_when_guarded_then_one_sentence_and_left_alone(at, secret):
    root = former(at)
    shutil.rmtree(root.current)
    assert other_user.run(*other_user.LINK, secret.parent, root.current) == ""
    with pytest.raises(errors.DataError, match="is a link, or no directory, and was left alone"):
        root.ensure()


PLANTS = ("link", "folder", "pipe", "hard")


def plant(kind: str, secret: pathlib.Path, path: pathlib.Path) -> None:
    if kind == "hard":
        os.link(secret, path)  # older kernels let etcd's user make one, too
    elif kind == "pipe":
        assert other_user.run("mkfifo", path) == ""
    else:
        target = secret if kind == "link" else secret.parent
        assert other_user.run(*other_user.LINK, target, path) == ""


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", PLANTS)
def test_given_a_plant_among_etcds_files_when_moved_to_storage_then_refused(
    at, root, secret, kind
):
    plant(kind, secret, begun(root) / "planted")
    with pytest.raises(errors.DataError, match="planted is a link or a special file"):
        root.copy_to(data.Root(at / "storage", owner=other_user.NAME))
    assert root.stamp() == ONE and not (at / "storage" / "current").exists()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["wal/0000000000000000-0000000000000000.wal", "snap/db"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_given_a_plant_in_the_place_of_data_when_looked_at_then_broken_and_no_hook_waits(
    root, name, kind
):
    path = begun(root) / "member" / name
    assert other_user.run("mkdir", "-p", path.parent) == ""
    plant = ["mkfifo", path] if kind == "pipe" else [*other_user.LINK, "/dev/zero", path]
    assert other_user.run(*plant) == ""
    disk = root.disk(facts=True)
    assert disk.token == ONE.token and "cannot be read" in disk.broken


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", PLANTS)
def test_given_a_plant_among_kept_files_when_moved_elsewhere_then_refused_and_kept(
    at, root, secret, kind
):
    plant(kind, secret, begun(root) / "planted")
    root.set_aside("restore")
    with pytest.raises(errors.DataError, match="planted is a link or a special file"):
        root.move(root.kept()[0], at / "elsewhere")
    assert (root.kept()[0].path / "etcd" / "file").read_text() == "of etcd\n"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", PLANTS)
def test_given_a_plant_on_a_survivors_disk_when_salvaged_then_refused(
    at, root, secret, kind, monkeypatch
):
    plant(kind, secret, begun(root) / "planted")
    monkeypatch.setattr(disk_facts, "has_data", lambda _: True)
    with pytest.raises(errors.DataError, match="planted is a link or a special file"):
        salvages.salvage(root.etcd_dir, at / "work")
    assert list((at / "work").iterdir()) == []


@pytest.mark.parametrize("kind", PLANTS)
def test_given_a_plant_in_what_was_prepared_when_it_is_given_then_refused(root, secret, kind):
    folder = root.preparing(TWO)
    (folder / "etcd").mkdir(mode=0o777)
    os.chmod(folder / "etcd", 0o777)  # as if some tool had made it so
    if kind == "hard":
        os.link(secret, folder / "etcd" / "planted")
    elif kind == "pipe":
        os.mkfifo(folder / "etcd" / "planted")
    else:
        (folder / "etcd" / "planted").symlink_to(secret if kind == "link" else secret.parent)
    with pytest.raises(errors.DataError, match="planted is a link or a special file"):
        root.prepare_done(TWO.token)
    assert root.prepared() == ()


def test_given_kept_data_when_moved_where_another_user_works_then_it_is_complete_and_etcds(
    at, root
):
    begun(root)
    root.set_aside("restore")
    place = at / "home"
    place.mkdir()
    os.chown(place, other_user.UID, other_user.UID)
    target = root.move(root.kept()[0], place)
    assert modes(target)["etcd"] == (other_user.UID, 0o700) and modes(target)["."][0] == 0
    assert (target / "etcd" / "file").read_text() == "of etcd\n" and root.kept() == ()


@pytest.mark.parametrize("planted", ["target", "part", "way"])
def test_given_a_user_who_was_there_before_when_data_is_moved_then_nothing_is_lost(
    at, root, secret, planted
):
    begun(root)
    root.set_aside("restore")
    kept, place = root.kept()[0], at / "home"
    place.mkdir()
    os.chown(place, other_user.UID, other_user.UID)
    if planted == "part":
        assert (
            other_user.run(*other_user.LINK, secret.parent, place / f"{kept.path.name}.part") == ""
        )
        root.move(kept, place)
        assert (place / kept.path.name / "etcd" / "file").read_text() == "of etcd\n"
        return
    if planted == "target":
        assert other_user.run("mkdir", "-p", place / kept.path.name / "full") == ""
    else:
        assert other_user.run(*other_user.LINK, secret.parent, place / "data") == ""
        place /= "data"
    with pytest.raises(errors.DataError, match=f"it stays in {kept.path}"):
        root.move(kept, place)
    assert (root.kept()[0].path / "etcd" / "file").read_text() == "of etcd\n"


def test_given_links_on_the_way_when_reached_then_only_roots_are_followed(at, secret):
    (at / "link").symlink_to(secret.parent)
    with files.reached(at / "link" / "below", create=True) as directory:
        assert files.path_of(directory) == secret.parent / "below"
    (secret.parent / "below").rmdir()
    users = at / "users"
    users.mkdir()
    os.chown(users, other_user.UID, other_user.UID)
    (users / "link").symlink_to(secret.parent)
    with (
        pytest.raises(OSError, match="not root's"),
        files.reached(users / "link" / "x", create=True),
    ):
        pass
    (at / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="not root's"), files.reached(at / "loop"):
        pass


def test_given_a_program_for_bytes_from_outside_when_started_then_as_a_user_without_rights(
    secret, monkeypatch
):
    monkeypatch.setattr(processes, "WORKER", other_user.NAME)
    process = processes.start(
        ["sh", "-c", f"id -u; id -G; grep NoNewPrivs /proc/self/status; cat {secret} 2>&1"],
        stdout=processes.PIPE,
        outside=True,
    )
    out, _ = process.communicate(timeout=10)
    uid, groups, bound, refused = out.decode().splitlines()
    assert (uid, groups) == (str(other_user.UID), str(other_user.GID))
    assert bound.split() == ["NoNewPrivs:", "1"]  # no program that belongs to root makes it root
    assert "ermission denied" in refused
