"""Members whose keys differ: a real database is changed under a real etcd that runs on it."""

from __future__ import annotations

import time

import pytest

import errors
from cluster import view as views
from etcd import corruption
from etcd import failure as failures

VALUE = b"a value that no other key has"


def rot(node) -> None:
    """Change a value in the member's database, as a failing disk does; etcd goes on with it."""
    path = node.data_dir / "member" / "snap" / "db"
    content, before = path.read_bytes(), b""
    until = time.monotonic() + 10
    while VALUE not in content or content != before:  # etcd commits ten times a second
        assert time.monotonic() < until
        time.sleep(0.3)  # a commit that is still to come would write the page anew
        content, before = path.read_bytes(), content
    with path.open("r+b") as file:
        at = content.find(VALUE)
        while at >= 0:
            file.seek(at)
            file.write(b"x")
            at = content.find(VALUE, at + 1)


def alarmed(cluster, count: int, *rotten: int):
    """A cluster in which some members hold another value, and etcd says so of nobody."""
    cluster.found(count)
    online = cluster.client()
    online.put("kept", VALUE)
    for number in rotten:
        rot(cluster.nodes[number])
    online.arm(views.UNNAMED)
    return online


@pytest.mark.parametrize("rotten", [0, 1, 2])
def test_given_one_member_with_other_keys_when_compared_then_it_is_named(cluster, rotten):
    online = alarmed(cluster, 3, rotten)
    with pytest.raises(errors.CorruptError):
        online.put("more", "keys")
    (wrong,) = corruption.compare(online)
    assert wrong.name == cluster.nodes[rotten].name
    assert online.alarms() == (views.Alarm(wrong.id, "CORRUPT"),)
    assert [m.name for m in online.observe().members if m.corrupt] == [wrong.name]


def test_given_members_that_agree_when_compared_then_clients_write_again(cluster):
    online = alarmed(cluster, 3)
    assert corruption.compare(online) == ()
    assert online.alarms() == ()
    online.put("more", "keys")


def test_given_one_against_one_when_compared_then_nobody_is_named(cluster):
    online = alarmed(cluster, 2, 1)
    with pytest.raises(corruption.UndecidedError, match="no majority of them agrees"):
        corruption.compare(online)
    assert online.alarms() == (views.UNNAMED,)


def test_given_a_member_that_is_silent_when_compared_then_it_is_not_trusted(cluster):
    online = alarmed(cluster, 3)
    cluster.nodes[2].stop()
    with pytest.raises(corruption.UndecidedError, match="etcd-2 did not tell"):
        corruption.compare(online)
    assert online.alarms() == (views.UNNAMED,)


@pytest.mark.parametrize(("rotten", "started", "differs"), [(0, 1, 1), (1, 1, 2)])
def test_given_other_keys_when_a_member_starts_then_it_tells_from_how_many_it_differs(
    cluster, rotten, started, differs
):
    cluster.found(3, snapshot_count=10)  # etcd knows its peers at its start from a raft snapshot
    online = cluster.client()
    for _ in range(40):
        online.put("kept", VALUE)
    rot(cluster.nodes[rotten])
    node = cluster.nodes[started]
    node.stop()
    failure = failures.reason(node.start().wait_end())
    assert failure.differs == differs
    assert not failure.data_broken
    node.start(compare=False)
    cluster.await_healthy(nodes=[node])
