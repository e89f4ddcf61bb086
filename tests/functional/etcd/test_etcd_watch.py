"""The watch on a real member: which of its words wake the charm."""

from __future__ import annotations

import json
import pathlib
import time

from backup import orders
from cluster import view
from watch import Watch


def watch(node, folder: pathlib.Path) -> tuple[Watch, list[str]]:
    """A watch of this member, and the units that it woke."""
    values = {"unit": "etcd/0", "member": node.name, "endpoints": [], "local": node.client_url}
    values |= {"generation": 1, "token": "t", "folder": "", "interval": 0, "retention": ""}
    values |= {name: str(getattr(node.tls, name)) for name in ("ca", "cert", "key")}
    path = folder / "keeper.json"
    path.write_text(json.dumps(values))
    woken: list[str] = []

    def wake(config: orders.Config) -> None:
        woken.append(config.unit)

    return Watch(wake, path), woken


def test_given_an_alarm_when_looked_at_twice_then_woken_once_and_once_when_it_is_over(
    cluster, tmp_path
):
    cluster.found(1)
    online = cluster.client()
    watched, woken = watch(cluster.nodes[0], tmp_path)
    watched.look()
    watched.look()
    assert woken == []
    online.arm(view.UNNAMED)
    watched.look()
    assert woken == []  # it may pass
    watched.look()
    watched.look()
    assert woken == ["etcd/0"]
    online.disarm(view.UNNAMED)
    watched.look()
    watched.look()
    assert woken == ["etcd/0"] * 2


def test_given_a_quorum_that_is_lost_when_looked_at_then_woken(cluster, tmp_path):
    cluster.found(2)
    watched, woken = watch(cluster.nodes[0], tmp_path)
    cluster.nodes[1].stop()
    until = time.monotonic() + 20
    while not woken and time.monotonic() < until:
        watched.look()
        time.sleep(0.1)
    assert woken == ["etcd/0"]


def test_given_no_member_when_looked_at_then_nobody_is_woken(cluster, tmp_path):
    cluster.found(1)
    watched, woken = watch(cluster.nodes[0], tmp_path)
    cluster.nodes[0].stop()
    watched.look()
    watched.look()
    assert woken == []
