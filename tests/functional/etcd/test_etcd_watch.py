"""The watch on a real member: which of its words wake the charm."""

from __future__ import annotations

import itertools
import json
import pathlib
import signal
import time

from backup import keeper_files
from cluster import view as views
from keeper import alarms


def watch(node, folder: pathlib.Path, leads: bool = False) -> tuple[alarms.Watch, list[str]]:
    """A watch of this member, whose looks are a minute apart, and the units that it woke."""
    values = {"unit": "etcd/0", "member": node.name, "endpoints": [], "local": node.client_url}
    values |= {"generation": 1, "token": "t", "folder": "", "interval": 0, "retention": ""}
    values |= {name: str(getattr(node.tls, name)) for name in ("ca", "cert", "key")}
    path = folder / "keeper.json"
    path.write_text(json.dumps({**values, "leads": leads}))
    woken: list[str] = []

    def wake() -> None:
        woken.append("etcd/0")

    return alarms.Watch(wake, path, map(float, itertools.count(60, 60)).__next__), woken


def look_until(watched: alarms.Watch, woken: list[str], seconds: float = 20) -> float:
    """Look until somebody is woken, answers the seconds that this took."""
    began, known = time.monotonic(), len(woken)
    while len(woken) == known and time.monotonic() - began < seconds:
        watched.look()
        time.sleep(0.1)
    assert len(woken) == known + 1
    return time.monotonic() - began


def test_given_an_alarm_when_looked_at_twice_then_woken_once_and_once_when_it_is_over(
    cluster, tmp_path
):
    cluster.found(1)
    online = cluster.client()
    watched, woken = watch(cluster.nodes[0], tmp_path)
    watched.look()
    watched.look()
    assert woken == []
    online.arm(views.UNNAMED)
    watched.look()
    assert woken == []  # it may pass
    watched.look()
    watched.look()
    assert woken == ["etcd/0"]
    online.disarm(views.UNNAMED)
    watched.look()
    watched.look()
    assert woken == ["etcd/0"] * 2


def test_given_a_quorum_that_is_lost_when_looked_at_then_woken(cluster, tmp_path):
    cluster.found(2)
    watched, woken = watch(cluster.nodes[0], tmp_path)
    cluster.nodes[1].stop()
    look_until(watched, woken)


def test_given_a_machine_that_dies_when_looked_at_then_woken_within_seconds_and_when_it_is_back(
    cluster, tmp_path
):
    """A dead machine answers nothing: what stands still is the same to those who ask it."""
    cluster.found(3)
    watched, woken = watch(cluster.nodes[0], tmp_path)
    watched.look()
    watched.look()
    assert woken == []
    seen = alarms.see(config_of(watched))
    assert seen.answers == {node.name: True for node in cluster.nodes}
    assert (seen.voters, seen.answering, seen.margin, seen.silent) == (3, 3, 1, ())
    process = cluster.nodes[1].process
    process.send_signal(signal.SIGSTOP)
    try:
        # What two looks of 3 s cost, and those that an election was under way in.
        assert look_until(watched, woken) < 15
        seen = alarms.see(config_of(watched))
        assert seen.silent == (cluster.nodes[1].name,)
        assert (seen.voters, seen.answering, seen.margin) == (3, 2, 0)
    finally:
        process.send_signal(signal.SIGCONT)
    look_until(watched, woken)


def test_given_a_member_that_never_started_when_looked_at_then_it_is_awaited_by_nobody(
    cluster, tmp_path
):
    cluster.found(1)
    cluster.client().add_learner([cluster.node().peer_url])
    watched, woken = watch(cluster.nodes[0], tmp_path, leads=True)
    for _ in range(4):
        watched.look()
    assert woken == []
    seen = alarms.see(config_of(watched))
    assert sorted(seen.answers.values()) == [False, True]
    assert (seen.voters, seen.margin, seen.silent) == (1, 0, ())


def test_given_a_silent_member_when_this_unit_is_the_leader_then_it_looks_again(cluster, tmp_path):
    cluster.found(3)
    watched, woken = watch(cluster.nodes[0], tmp_path, leads=True)
    cluster.nodes[1].stop()
    look_until(watched, woken)
    look_until(watched, woken)


def config_of(watched: alarms.Watch) -> keeper_files.Config:
    return keeper_files.Config.read(watched._config)


def test_given_no_member_when_looked_at_then_nobody_is_woken(cluster, tmp_path):
    cluster.found(1)
    watched, woken = watch(cluster.nodes[0], tmp_path)
    cluster.nodes[0].stop()
    watched.look()
    watched.look()
    assert woken == []
