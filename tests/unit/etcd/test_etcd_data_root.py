"""The data root: one rename at a time, nothing lost."""

from __future__ import annotations

import os
import shutil

import pytest

import errors
from etcd import data
from etcd import snapshot as snapshots
from etcd import stamp as stamps
from machine import files

ONE = stamps.Stamp("a" * 32, 1, 77, "etcd-0")
TWO = stamps.Stamp("b" * 32, 2, None, "etcd-0")


@pytest.fixture
def root(tmp_path):
    made = data.Root(tmp_path / "etcd", owner=None)
    assert made.ensure()
    assert not made.ensure()
    return made


def prepare(root, stamp, content="x"):
    folder = root.preparing(stamp)
    assert root.prepared() == ()
    (folder / "etcd").mkdir()
    (folder / "etcd" / "file").write_text(content)
    root.prepare_done(stamp.token)


def test_given_an_empty_root_when_data_is_begun_then_it_is_stamped_once(root):
    assert root.stamp() is None
    assert root.new_current(ONE) == root.etcd_dir
    assert root.etcd_dir.is_dir() and root.stamp() == ONE
    assert root.disk().token is None  # a crash before etcd began leaves nothing to start from
    assert root.new_current(ONE) == root.etcd_dir
    (root.etcd_dir / "file").write_text("written by etcd")
    assert root.disk().token == ONE.token
    with pytest.raises(errors.DataError, match="already"):
        root.new_current(TWO)


def test_given_prepared_data_when_adopted_then_the_old_can_be_put_back(root):
    (root.new_current(ONE) / "file").write_text("of one")
    prepare(root, TWO)
    assert root.prepared() == (TWO.token,)
    with pytest.raises(errors.DataError, match="already"):
        root.adopt(TWO.token)
    kept = root.set_aside("restore")
    assert kept is not None and kept.name.endswith("-g1-aaaaaaaa")
    assert root.adopt(TWO.token)
    assert not root.adopt(TWO.token)
    assert (root.etcd_dir / "file").read_text() == "x"
    root.set_aside("it did not work")
    assert root.put_back(ONE.token)
    assert not root.put_back(ONE.token)
    assert root.stamp() == ONE
    assert [k.reason for k in root.kept()] == ["it did not work"]
    disk = root.disk()
    assert (disk.token, disk.prepared, disk.kept) == (ONE.token, (), (TWO.token,))


def test_given_data_that_is_closed_when_it_moves_then_it_stays_so_until_it_is_opened(root):
    (root.new_current(ONE, closed=True) / "file").write_text("joined a restore")
    assert root.is_closed() and root.disk().closed
    root.set_aside("restore")
    assert not root.is_closed(), "nothing is there"
    prepare(root, TWO)
    assert root.adopt(TWO.token)
    assert root.disk().closed, "closed from before its first start"
    assert root.open() and not root.open()
    assert not root.disk().closed
    root.set_aside("it failed")
    assert root.put_back(ONE.token)
    assert not root.is_closed(), "there is no way back from it"


def test_given_closed_data_when_it_moves_to_storage_then_it_is_closed_there(root, tmp_path):
    (root.new_current(ONE, closed=True) / "file").write_text("x")
    other = data.Root(tmp_path / "storage", owner=None)
    root.copy_to(other)
    assert other.is_closed()


def test_given_nothing_kept_when_put_back_then_it_says_so(root):
    with pytest.raises(errors.DataError, match="no data of generation"):
        root.put_back(ONE.token)
    assert root.set_aside("nothing there") is None
    assert not root.discard("none")


def test_given_a_crash_while_preparing_when_prepared_again_then_it_starts_clean(root):
    folder = root.preparing(ONE)
    (folder / "half").write_text("x")
    assert root.prepared() == ()
    again = root.preparing(TWO)
    assert not folder.exists(), "what a crash left takes room for nothing"
    assert root.discard(TWO.token)
    assert not again.exists()


def test_given_an_unreadable_stamp_when_asked_then_it_is_broken_but_kept(root):
    root.new_current(ONE)
    (root.current / "stamp.json").write_text("{")
    with pytest.raises(errors.DataError, match="no readable stamp"):
        root.stamp()
    disk = root.disk()
    assert disk.token == "" and "stamp" in disk.broken
    kept = root.set_aside("broken")
    assert kept is not None and kept.name.endswith("-g0-unknown")
    assert root.kept()[0].stamp is None


def test_given_kept_data_when_moved_then_the_copy_is_whole_and_the_original_gone(root, tmp_path):
    root.new_current(ONE)
    (root.etcd_dir / "file").write_text("content")
    root.set_aside("restore")
    target = root.move(root.kept()[0], tmp_path / "elsewhere")
    assert (target / "etcd" / "file").read_text() == "content"
    assert root.kept() == ()
    root.new_current(TWO)
    root.set_aside("again")
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DataError, match="it stays in"):
        root.move(root.kept()[0], tmp_path / "file")
    kept = root.kept()[0]
    root.drop(kept)
    assert not kept.path.exists()
    with pytest.raises(errors.DataError):
        root.drop(data.Kept(tmp_path, None, "", ""))


def test_given_a_file_when_written_again_then_only_a_change_counts(tmp_path):
    path = tmp_path / "file"
    assert files.write(path, "a", 0o600)
    assert not files.write(path, "a", 0o600)
    assert files.write(path, "a", 0o644)
    assert files.write(path, b"b", 0o644)
    assert path.read_text() == "b" and path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_given_a_full_disk_when_writing_then_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    shutil.rmtree(tmp_path)


def test_given_no_room_when_restoring_then_it_says_how_much_is_missing(tmp_path, monkeypatch):
    file = tmp_path / "snapshot.db"
    file.write_bytes(b"x" * 4096)
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(snapshots.os, "statvfs", lambda _: full)
    with pytest.raises(errors.TargetError, match="0 MiB free, but 1 MiB are needed"):
        snapshots.restore(file, tmp_path / "data", "etcd-0", "", "t", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["snapshot.db"]


def test_given_a_tool_that_fails_when_restoring_then_nothing_is_left(tmp_path, monkeypatch):
    file = tmp_path / "snapshot.db"
    file.write_bytes(b"x" * 4096)
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nmkdir -p $4\necho 'Error: no luck' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr(snapshots, "_tool", lambda: [str(tool)])
    with pytest.raises(errors.ToolError, match=r"cannot be restored: Error: no luck"):
        snapshots.restore(file, tmp_path / "data", "etcd-0", "", "t", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["snapshot.db", "tool"]


def test_given_storage_when_placed_then_data_on_the_machine_has_yet_to_move(tmp_path):
    machine, storage = tmp_path / "machine", tmp_path / "storage"
    assert data.place(machine, None) == (machine, None)
    assert data.place(machine, storage) == (storage, None)
    (machine / "current").mkdir(parents=True)
    assert data.place(machine, storage) == (machine, storage)
