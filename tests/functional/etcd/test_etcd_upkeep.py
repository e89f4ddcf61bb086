"""Compaction and defragmentation of real members."""

from __future__ import annotations

import contextlib

import pytest

from etcd import membership, upkeep


def fill(online, mebibytes: int) -> None:
    for number in range(mebibytes * 2):
        online.put(f"filler/{number % 2}", b"x" * (1 << 19))


def test_given_old_versions_when_compacted_and_defragmented_then_the_space_is_back_leader_last(
    cluster,
):
    cluster.found(3)
    online = cluster.client()
    online.put("kept", "1")
    fill(online, 8)
    newest = online.revision()
    assert upkeep.compact(online) == newest
    said: list[str] = []
    done = upkeep.defragment(online, say=said.append)
    assert len(done) == len(said) == 3
    assert done[-1].member.id == online.leader()
    assert all(each.reclaimed > 4 << 20 for each in done), done
    assert all(each.after < each.before for each in done)
    assert online.get("kept").value == b"1"


def test_given_one_member_named_when_defragmented_then_no_other_is(cluster):
    cluster.found(3)
    (done,) = upkeep.defragment(cluster.client(), "etcd-1")
    assert done.member.name == "etcd-1"


def test_given_a_revision_when_compacted_then_it_stays_and_what_was_before_is_refused(cluster):
    cluster.found(1)
    online = cluster.client()
    for number in range(5):
        online.put("a", str(number))
    assert upkeep.compact(online, 4) == 4
    with pytest.raises(membership.OperatorError, match="revision 3 was compacted before"):
        upkeep.compact(online, 3)
    with pytest.raises(membership.OperatorError, match="the newest revision is 6"):
        upkeep.compact(online, 7)
    assert online.get("a").value == b"4"


def test_given_a_dead_member_when_defragmented_then_refused_and_nothing_is_touched(cluster):
    cluster.found(3)
    cluster.nodes[2].stop()
    online = cluster.client(*cluster.nodes[:2])
    with pytest.raises(membership.OperatorError, match="nothing was defragmented: etcd-2"):
        upkeep.defragment(online)


def test_given_a_learner_when_defragmented_then_refused(cluster):
    cluster.found(1)
    online = cluster.client()
    online.add_learner([cluster.node().peer_url])
    with pytest.raises(membership.OperatorError, match="is a learner"):
        upkeep.defragment(online)


def test_given_a_snapshot_under_way_when_defragmented_then_refused_until_its_end(
    cluster, tmp_path
):
    cluster.found(1)
    online, other = cluster.client(), cluster.client()
    fill(online, 8)
    refusals: list[str] = []

    def meanwhile(_: int) -> None:
        if not refusals:
            with pytest.raises(membership.OperatorError) as caught:
                upkeep.defragment(other)
            refusals.append(str(caught.value))

    online.snapshot(tmp_path / "snapshot.db", progress=meanwhile)
    assert "a snapshot of etcd-0 is being taken" in refusals[0]
    assert upkeep.defragment(other)


def test_given_a_backup_that_holds_the_member_when_defragmented_then_refused(cluster):
    cluster.found(1)

    def held(_):
        return contextlib.nullcontext(False)

    with pytest.raises(membership.OperatorError, match="a snapshot of etcd-0 is being taken"):
        upkeep.defragment(cluster.client(), alone=held)


def test_given_a_member_that_falls_ill_when_others_are_done_then_it_stops_and_names_them(cluster):
    cluster.found(3)
    online = cluster.client()
    order = sorted(online.members().members, key=lambda m: (m.id == online.leader(), m.name))
    last = next(node for node in cluster.nodes if node.name == order[-1].name)

    def kill(_: str) -> None:
        if last.process:
            last.stop()

    with pytest.raises(membership.OperatorError, match=f"only {order[0].name} was defragmented"):
        upkeep.defragment(online, say=kill)
