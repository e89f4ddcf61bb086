"""Looking through the JSON gateway gives what gRPC gives, and never less."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
import time

import pytest

import errors
from etcd import client as clients
from etcd import election, grpc_calls, service

SOURCES = pathlib.Path(clients.__file__).resolve().parent.parent


@pytest.fixture
def light(monkeypatch):
    """Clients that have not loaded gRPC."""
    monkeypatch.setattr(grpc_calls, "loaded", lambda: False)


@pytest.fixture
def no_grpc(light, monkeypatch):
    """Clients that cannot load gRPC."""

    def refuse():
        raise AssertionError("gRPC was needed")

    monkeypatch.setattr(grpc_calls, "etcd3", refuse)


def test_given_a_healthy_cluster_when_looked_at_both_ways_then_the_answers_agree(
    cluster, monkeypatch
):
    cluster.found(3, gateway=True)
    heavy = cluster.client()
    heavy.put("a", "1")
    time.sleep(0.5)  # etcd commits to its file ten times a second; until then sizes change
    before = heavy.observe(), heavy.leader(), heavy.alarms(), heavy.revision()
    status, local = heavy.status(), heavy.members(linearizable=False)
    monkeypatch.setattr(grpc_calls, "loaded", lambda: False)
    monkeypatch.setattr(grpc_calls, "etcd3", lambda: pytest.fail("gRPC was needed"))
    online = cluster.client()
    after = online.observe(), online.leader(), online.alarms(), online.revision()
    assert before[1:] == after[1:]
    assert before[0].cluster_id == after[0].cluster_id
    assert [dataclasses.replace(m, raft_index=0) for m in before[0].members] == [
        dataclasses.replace(m, raft_index=0) for m in after[0].members
    ]
    assert all(m.healthy and m.raft_index for m in after[0].members)
    seen = online.status()
    assert dataclasses.replace(seen, latency=0, raft_index=0, raft_applied=0) == (
        dataclasses.replace(status, latency=0, raft_index=0, raft_applied=0)
    )
    assert online.health() > 0
    assert online.members(linearizable=False).members == local.members


def test_given_candidates_when_they_contend_then_one_holds_the_key_without_grpc(cluster, no_grpc):
    cluster.found(1, gateway=True)
    first, second = (
        election.Election(cluster.client(), "/key", name, ttl=2) for name in ("one", "two")
    )
    for each in (first, second):
        each.among(["one", "two"])
    assert first.campaign() and not second.campaign() and first.campaign()
    assert second.holder() == "one"
    online = cluster.client()
    held = online.get("/key")
    assert held and held.value == b"one" and held.lease and held.version == 1
    assert not online.replace("/key", "stolen", held.mod_revision - 1)
    assert not online.withdraw("/key", held.mod_revision - 1)
    first.resign()
    assert second.campaign() and second.holder() == "two"
    time.sleep(4)
    assert online.keep_alive(held.lease) == 0
    assert second.holder() == "" and second.campaign()


def test_given_a_restart_of_etcd_when_written_then_the_kept_connection_is_not_trusted(
    cluster, no_grpc
):
    cluster.found(1, gateway=True)
    online = cluster.client()
    assert online.create("/a", "1")
    cluster.nodes[0].stop(9)
    with pytest.raises(errors.UnreachableError) as refused:
        online.create("/b", "1")
    assert not refused.value.sent
    cluster.nodes[0].start()
    cluster.await_healthy()
    assert online.create("/b", "1") and not online.create("/b", "1")


def test_given_no_gateway_when_looked_at_then_grpc_answers(cluster, light):
    cluster.found(1, gateway=False)
    assert [m.name for m in cluster.client().observe().members] == ["etcd-0"]


def test_given_dead_members_when_looked_at_then_the_errors_are_those_of_grpc(cluster, no_grpc):
    cluster.found(3, gateway=True)
    cluster.nodes[0].stop(9)
    patient = cluster.client(timeout=20)  # the dead one may have led
    healthy = {m.name: m.healthy for m in patient.observe().members}
    online = cluster.client(timeout=3)
    assert healthy == {"etcd-0": False, "etcd-1": True, "etcd-2": True}
    assert "connection refused" in online.statuses()[0].error
    cluster.nodes[1].stop(9)
    time.sleep(2.5)
    began = time.monotonic()
    with pytest.raises(errors.NoQuorumError, match="no working quorum"):
        online.members()
    assert time.monotonic() - began < 4
    cluster.nodes[2].stop(9)
    with pytest.raises(errors.UnreachableError, match="no etcd endpoint answered"):
        online.members()


def test_given_a_frozen_member_when_looked_at_then_the_timeout_holds(cluster, no_grpc):
    cluster.found(1, gateway=True)
    online = cluster.client(timeout=1)
    online.status()
    node = cluster.nodes[0]
    node.process.send_signal(19)
    threads = pathlib.Path(f"/proc/{node.process.pid}/task")
    while not all("\nState:\tT" in (t / "status").read_text() for t in threads.iterdir()):
        time.sleep(0.01)  # the signal reaches one thread after another
    began = time.monotonic()
    with pytest.raises(errors.UnreachableError, match="did not answer within"):
        online.members()
    assert time.monotonic() - began < 2
    node.process.send_signal(18)
    assert online.members()


def test_given_authentication_when_looked_at_then_grpc_answers_as_root(cluster, light):
    cluster.found(1, gateway=True)
    if service.version() >= (3, 5, 0):
        cluster.etcdctl("user", "add", "root", "--no-password")
    else:
        cluster.etcdctl("user", "add", "root", "--interactive=false", "--new-user-password=x")
    cluster.etcdctl("user", "grant-role", "root", "root")
    cluster.etcdctl("auth", "enable")
    assert cluster.client().observe().members[0].healthy


def test_given_a_hook_that_only_looks_when_it_ends_then_grpc_was_never_imported(cluster):
    cluster.found(1, gateway=True)
    code = (
        "import sys, pathlib\n"
        "from etcd import client, report\n"
        "from tls import pem_files\n"
        "tls = pem_files.TLSFiles(*map(pathlib.Path, sys.argv[2:5]))\n"
        "with client.Client([sys.argv[1]], tls) as online:\n"
        "    assert online.observe().members[0].healthy and report.health(online).healthy\n"
        "assert 'grpc' not in sys.modules and 'google.protobuf' not in sys.modules\n"
    )
    arguments = [cluster.nodes[0].client_url, cluster.tls.ca, cluster.tls.cert, cluster.tls.key]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=SOURCES, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
