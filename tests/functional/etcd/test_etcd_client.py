"""The client against real members."""

from __future__ import annotations

import time

import etcd_cluster
import pytest

import errors
from etcd import client as clients
from etcd import election, report, service
from etcd import salvage as salvages
from etcd import snapshot as snapshots
from functional import signing
from tls import pem_files


def test_given_one_member_when_asked_then_status_and_members_tell_the_same(cluster):
    cluster.found(1)
    online = cluster.client()
    membership = online.observe()
    status = online.status()
    assert [m.name for m in membership.members] == ["etcd-0"]
    member = membership.members[0]
    assert member.healthy and not member.learner and member.raft_index > 0
    assert status.member_id == member.id == status.leader
    assert status.cluster_id == membership.cluster_id != 0
    assert status.db_size > 0 and status.db_in_use > 0
    assert status.version.startswith("3.")
    assert online.alarms() == ()


def test_given_keys_when_written_conditionally_then_only_the_first_wins(cluster):
    cluster.found(1)
    online = cluster.client()
    assert online.create("a", "1")
    assert not online.create("a", "2")
    found = online.get("a")
    assert found is not None and found.value == b"1"
    assert online.replace("a", "3", found.mod_revision)
    assert not online.replace("a", "4", found.mod_revision)
    revision = online.put("b", "x")
    assert revision == online.revision()
    assert [kv.key for kv in online.get_prefix("")] == [b"a", b"b"]
    assert online.delete("a") and not online.delete("a")
    url, newest = cluster.nodes[0].client_url, online.revision()
    online.compact(newest, physical=True)
    online.defragment(url)
    assert online.hash_kv(url, newest).revision == newest
    online.put("c", "x")
    with pytest.raises(errors.CompactedError):
        online.hash_kv(url, newest - 1)


def test_given_two_candidates_when_the_holder_falls_silent_then_the_other_takes_over(cluster):
    cluster.found(1)
    online = cluster.client()
    first = election.Election(online, "holder", "etcd/0", ttl=1)
    second = election.Election(online, "holder", "etcd/1", ttl=5)
    for each in (first, second):
        each.among(["etcd/0", "etcd/1"])
    assert first.campaign() and first.campaign()
    assert not second.campaign()
    assert second.holder() == "etcd/0"
    until = time.monotonic() + 10
    while not second.campaign():
        assert time.monotonic() < until
        time.sleep(0.2)
    assert second.holder() == "etcd/1"
    assert not first.campaign()
    second.resign()
    assert second.holder() == ""
    assert first.usurper == second.usurper == ""


def test_given_a_clients_hand_on_the_key_when_campaigning_then_it_is_taken_over_and_told(cluster):
    """Any client that may write there can write the key, and renew a lease for it."""
    cluster.found(1)
    online = cluster.client()
    first, second = (election.Election(online, "holder", name) for name in ("etcd-0", "etcd-1"))
    for each in (first, second):
        each.among(["etcd-0", "etcd-1"])
    forged = [("ghost", 0), ("ghost", online.grant(600)), ("etcd-0", 0), ("\x1b[31m", 0)]
    for name, lease in forged:
        online.put("holder", name, lease)
        assert second.holder() == ""
        assert second.campaign() and second.holder() == "etcd-1"
        assert second.usurper == repr(name)
        assert not first.campaign()
        second.resign()
    online.put("holder", "etcd-0", online.grant(600))  # in the name of one that is up
    assert second.holder() == "etcd-0" and not second.campaign()
    first.disown()
    assert first.holder() == "" and second.campaign()


def test_given_a_member_when_another_joins_then_it_is_a_learner_first_and_a_voter_after(cluster):
    cluster.found(1)
    online = cluster.client()
    node = cluster.node()
    added = online.add_learner([node.peer_url])
    again = online.add_learner([node.peer_url])
    assert again.member.id == added.member.id and added.member.learner
    with pytest.raises((errors.NotInSyncError, errors.UnhealthyError)):
        online.promote(added.member.id)
    with pytest.raises(errors.TooManyLearnersError):
        online.add_learner(["https://127.0.0.1:9"], deadline=0)
    node.start(initial_cluster=added.initial_cluster(node.name))
    until = time.monotonic() + 15
    while not (by_id := online.observe().by_id(added.member.id)) or not by_id.healthy:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert by_id.learner
    assert online.status(node.client_url).learner
    etcd_cluster.promote(online, added.member.id)
    assert not online.promote(added.member.id)
    assert [m.learner for m in online.members().members] == [False, False]
    assert online.remove(added.member.id)
    assert not online.remove(added.member.id)


def test_given_three_members_when_leadership_moves_then_it_answers_after_it_has(cluster):
    cluster.found(3)
    online = cluster.client()
    leader = online.leader()
    target = next(m.id for m in online.members().members if m.id != leader)
    assert online.move_leader(target)
    assert online.leader() == target
    assert not online.move_leader(target)


def test_given_three_members_when_the_first_endpoint_dies_then_the_next_answers(cluster):
    cluster.found(3)
    online = cluster.client()
    online.put("a", "1")
    cluster.nodes[0].stop(9)
    cluster.await_healthy(nodes=cluster.nodes[1:])  # an election, when it was the leader
    online.put("a", "2")
    membership = online.observe()
    assert sorted((m.name, m.healthy) for m in membership.members) == [
        ("etcd-0", False), ("etcd-1", True), ("etcd-2", True),
    ]  # fmt: skip


def test_given_no_quorum_when_asked_then_the_error_says_so_in_bounded_time(cluster):
    cluster.found(2)
    cluster.nodes[1].stop(9)
    online = cluster.client(cluster.nodes[0], timeout=3)
    time.sleep(2.5)  # two elections, until the last one knows that it leads nobody
    began = time.monotonic()
    with pytest.raises(errors.NoQuorumError, match="no working quorum"):
        online.members()
    assert time.monotonic() - began < 4
    assert len(online.members(linearizable=False).members) == 2
    with pytest.raises(errors.NoQuorumError):
        online.leader()


def test_given_nobody_when_asked_then_it_is_unreachable_with_the_reason(cluster):
    node = cluster.node()
    online = cluster.client(timeout=2)
    with pytest.raises(errors.UnreachableError, match="connection refused"):
        online.members()
    assert [p.healthy for p in online.statuses()] == [False]
    assert node.client_url in online.statuses()[0].error


def test_given_another_ca_when_connecting_then_it_is_refused(cluster, tmp_path):
    cluster.found(1)
    foreign = signing.Authority(tmp_path / "foreign").issue("root")
    mixed = pem_files.TLSFiles(cluster.tls.ca, foreign.cert, foreign.key)
    with (
        clients.Client([cluster.nodes[0].client_url], mixed, 2) as intruder,
        pytest.raises(errors.UnreachableError),
    ):
        intruder.members()
    with (
        clients.Client([cluster.nodes[0].client_url], foreign, 2) as intruder,
        pytest.raises(errors.UnreachableError, match="certificate is not trusted"),
    ):
        intruder.members()


def test_given_a_full_database_when_writing_then_the_alarm_shows_and_can_be_disarmed(cluster):
    cluster.found(1, quota_bytes=16 * 1024 * 1024)
    online = cluster.client()
    with pytest.raises(errors.NoSpaceError):
        for _ in range(40):
            online.put("big", b"x" * 1_000_000)
    assert [a.kind for a in online.alarms()] == ["NOSPACE"]
    probe = online.statuses()[0]
    assert not probe.healthy and "NOSPACE" in str(probe.status)
    online.compact(online.revision(), physical=True)
    online.defragment(cluster.nodes[0].client_url)
    assert online.disarm() == 1
    online.put("small", "x")


def test_given_a_moved_member_when_updated_then_its_peer_url_changes_once(cluster):
    cluster.found(3)
    online = cluster.client()
    member = online.members().members[2]
    assert online.update(member.id, ["https://127.0.0.1:9"])
    assert not online.update(member.id, ["https://127.0.0.1:9"])
    assert online.update(member.id, member.peer_urls)


def test_given_ipv6_when_founded_then_it_answers(cluster):
    cluster.found(1, host="::1")
    online = cluster.client()
    assert online.members().members[0].client_urls[0].startswith("https://[::1]:")


def test_given_authentication_when_on_then_root_sees_all_and_others_are_told_why(cluster):
    cluster.found(1)
    online = cluster.client()
    assert online.auth_enabled() in (False, None)
    for command in (
        ["user", "add", "root", "--interactive=false", "--new-user-password=x"]
        if service.version() < (3, 5, 0)
        else ["user", "add", "root", "--no-password"],
        ["user", "grant-role", "root", "root"],
        ["auth", "enable"],
    ):
        cluster.etcdctl(*command)
    assert online.auth_enabled() in (True, None)
    online.put("a", "1")
    assert online.observe().members[0].healthy
    assert snapshots.verify(online.snapshot(cluster.folder / "s.db").path).auth_enabled
    other = clients.Client(online.endpoints, cluster.authority.issue("nobody"), 3)
    with other, pytest.raises(errors.PermissionDeniedError, match="authentication is on"):
        other.put("a", "2")
    with clients.Client(online.endpoints, cluster.authority.issue("nobody"), 3) as other:
        assert other.members().members == online.members().members
    cluster.nodes[0].stop()
    salvaged = salvages.salvage(cluster.nodes[0].data_dir, cluster.folder / "work", timeout=30)
    assert salvaged.auth_enabled


def test_given_a_cluster_when_reported_then_health_follows_what_happens_to_it(cluster):
    cluster.found(3)
    online = cluster.client(timeout=3)
    well = report.health(online, quota=8 * 1024**3, certificate_days={"server": 9})
    assert well.healthy, well.words()
    assert well.keys()["voters"] == "3" and well.leader is not None
    shown = report.endpoints(online)
    assert online.status().endpoint in shown.table()
    major, minor, _ = service.version()
    assert well.keys()["cluster-version"] == shown.cluster_version == f"{major}.{minor}.0"
    stored = f"{major}.{minor}.0" if minor > 5 else ""
    until = time.monotonic() + 20  # etcd 3.6 writes it down some seconds after the start
    while {p.status.storage_version for p in online.statuses() if p.status} != {stored}:
        assert time.monotonic() < until
        time.sleep(0.5)
    assert {each["storage_version"] for each in report.endpoints(online).records()} == {stored}
    cluster.nodes[2].stop(9)
    sick = report.health(online)
    assert not sick.healthy and sick.leader is not None
    assert "etcd-2" in sick.name(sick.members[2].id)
    assert "connection refused" in sick.words()
    cluster.nodes[1].stop(9)
    time.sleep(2.5)
    dead = report.health(online)
    assert not dead.healthy and dead.leader is None
    assert dead.keys()["problem"] and len(dead.members) == 3
