"""A keeper killed at any moment: the next one finds nothing in its way, and leaves nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from backup import catalog as catalogs
from backup import create, keeper_files, rclone, worker
from backup import listing as listings
from keeper import scheduled
from support import keeper_config

_LOOP = """\
import os, pathlib, sys, time
from keeper import holder, scheduled as keeper
from machine import processes
processes.PATH = os.environ["PATH"]
holder.TTL = 2
folder = pathlib.Path(sys.argv[1])
made = keeper.Keeper(*(folder / name for name in ("keeper.json", "status.json", "cache", "lock")))
while True:
    time.sleep(min(made.step(), 0.2))
"""


def stored(settings: keeper_files.Config) -> catalogs.Catalog:
    return catalogs.Catalog(settings.root(), settings.folder)


def config(etcd, folder: pathlib.Path, **changes) -> keeper_files.Config:
    tls = etcd.config.server_tls
    given = {"interval": 30.0, **changes}
    return keeper_config.told(local=etcd.endpoint, tls=tls, folder=folder, **given)


def tree(root: int) -> dict[int, str]:
    """The process and all below it, with their command lines."""
    found, seen = {}, [root]
    while seen:
        pid = seen.pop()
        with contextlib.suppress(OSError):
            found[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                seen += [int(child) for child in (task / "children").read_text().split()]
    return found


def kill_when(process: subprocess.Popen, words: str) -> None:
    """Kill the keeper and all that it started, as systemd does, when one of them does this."""
    deadline = time.monotonic() + 60
    while not any(words in command for command in tree(process.pid).values()):
        assert process.poll() is None and time.monotonic() < deadline, words
        time.sleep(0.005)
    for pid in tree(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("local", "backup.worker"),
        ("local", "copyto"),
        ("s3", "copyto"),
        ("local", "rcat"),
        ("local", "etcd.conf.yaml"),
        ("s3", "deletefile"),
    ],
)
def test_given_a_keeper_killed_at_work_when_another_works_then_nothing_is_left(
    request, etcd, tmp_path, monkeypatch, kind, moment
):
    store: rclone.Remote = request.getfixturevalue(kind)
    slow = dataclasses.replace(store.settings, bandwidth="2M" if moment == "copyto" else "")
    (tmp_path / "remote.json").write_text(slow.to_json())
    settings = config(etcd, tmp_path, retention="last=1")
    (tmp_path / "keeper.json").write_text(settings.to_json())
    with etcd.client() as client:
        for number in range(8):
            client.put(f"/large/{number}", os.urandom(1 << 20))
        if moment == "deletefile":
            cluster = worker.reach(settings)
            create.create_backup(
                cluster.client(),
                cluster,
                stored(settings),
                tmp_path,
                create.About("etcd/0", 1, "t"),
            )
            client.put("/more", "x")
            settings = dataclasses.replace(settings, interval=1.0)
            (tmp_path / "keeper.json").write_text(settings.to_json())
    process = subprocess.Popen(
        [sys.executable, "-c", _LOOP, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        kill_when(process, moment)
    finally:
        process.kill()
        process.wait()

    (tmp_path / "remote.json").write_text(store.settings.to_json())
    settings = dataclasses.replace(settings, interval=2.0, mark="new")
    (tmp_path / "keeper.json").write_text(settings.to_json())
    monkeypatch.setattr(listings, "LEFTOVER", -5.0)
    monkeypatch.setattr(scheduled, "_SWEEP", 0.0)
    monkeypatch.setattr(scheduled, "_LIST", (0.0, 0.0))
    with etcd.client() as client:
        client.put("/after", os.urandom(64))
    names = ("keeper.json", "status.json", "cache", "lock")
    keeper = scheduled.Keeper(*(tmp_path / name for name in names), wake=lambda: None)
    deadline = time.monotonic() + 60
    try:
        while not keeper.status.proven or keeper.status.problems:
            keeper.step()
            assert time.monotonic() < deadline, keeper.status
            time.sleep(0.1)
    finally:
        keeper.close()
    listing = stored(settings).read()
    assert listing.problems == () and listing.guarded
    left = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert left == []
