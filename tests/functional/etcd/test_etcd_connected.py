"""Whom a member has dialled, by its own count, where it looks well to everybody."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time

import etcd_cluster
import pytest

import errors
from cluster import view as views
from etcd import config as etcd_config
from etcd import connected, service
from hook import observe

NAME = socket.gethostname()  # Go sends what goes to loopback by address past any proxy


@pytest.fixture
def members(cluster):
    """Three members that reach each other by a name."""
    issue = cluster.authority.issue
    cluster.authority.issue = lambda name: issue(name, NAME)
    for node in [cluster.node(gateway=True) for _ in range(3)]:
        reached = node.peer_url.replace("127.0.0.1", NAME)
        node.config = dataclasses.replace(node.config, advertise_peer_urls=(reached,))
    told = ",".join(f"{n.name}={n.config.advertise_peer_urls[0]}" for n in cluster.nodes)
    for node in cluster.nodes:
        node.start(initial_cluster=told, token="t", initial=etcd_config.Initial.NEW)
    cluster.await_healthy()
    return cluster


class Unit:
    """A unit whose etcd was restarted in the turn that it has."""

    unit = "etcd/2"
    restarted_in = 1

    def __init__(self, node, tls) -> None:
        self.local_url, self.tls_now = node.client_url, lambda: tls
        self.me = views.Unit("etcd/2")
        self.peers = self
        self.others: tuple[views.Unit, ...] = ()

    def units(self) -> tuple[views.Unit, ...]:
        return (self.me, *self.others)

    def turn(self) -> views.Turn:
        return views.Turn(self.unit, self.restarted_in)


def look(members, unit: Unit) -> bool:
    online = members.client(members.nodes[2])
    local = online.status(members.nodes[2].client_url)
    seen = online.observe(local)
    etcd = views.Etcd(members=seen.members, local_id=local.member_id)
    return observe._cut_off(unit, etcd)  # type: ignore[arg-type]


def test_given_a_proxy_around_a_member_when_it_restarts_then_its_turn_is_not_over(
    members, monkeypatch
):
    node, unit = members.nodes[2], Unit(members.nodes[2], members.tls)
    monkeypatch.setattr(observe, "DIAL_WAIT", 5.0)
    assert not look(members, unit)
    node.stop()
    with monkeypatch.context() as poisoned:
        poisoned.setattr(service, "environment", lambda: {"HTTPS_PROXY": "http://127.0.0.1:9"})
        node.start()
    members.await_healthy(nodes=[node])
    assert look(members, unit)
    assert connected.dialled(node.client_url, members.tls) == frozenset()
    listed = members.client(members.nodes[0]).members().members
    there = [m for m in listed if m.name != node.name]
    unit.others = tuple(views.Unit("", member_id=m.id, peer_url=m.peer_urls[0]) for m in there)
    assert look(members, unit)
    elsewhere = "https://198.18.0.9:2380"  # where their own turns are to bring them
    unit.others = tuple(views.Unit("", member_id=m.id, peer_url=elsewhere) for m in there)
    assert not look(members, unit)
    unit.others = ()
    unit.me = views.Unit("etcd/2", cut_off=True)
    node.stop()
    node.start()
    members.await_healthy(nodes=[node])
    until = time.monotonic() + 10
    while look(members, unit) and time.monotonic() < until:
        time.sleep(0.2)
    assert not look(members, unit)


def test_given_a_member_that_is_down_when_the_others_are_looked_at_then_nobody_is_cut_off(
    members, monkeypatch
):
    monkeypatch.setattr(observe, "DIAL_WAIT", 3.0)
    members.nodes[0].stop()
    with contextlib.suppress(errors.EtcdError):
        members.await_healthy(nodes=[members.nodes[2]])
    assert not look(members, Unit(members.nodes[2], members.tls))


def test_given_two_members_that_moved_when_one_leads_then_the_other_joins_once_it_is_registered(
    members,
):
    """Why a unit that hears nothing at a new address puts that right without a turn."""
    first, leader, lost = members.nodes
    for node in (leader, lost):
        node.stop()
        _, port = etcd_cluster.free_ports(2)
        node.peer_url = etcd_config.url("127.0.0.1", port)
        node.config = dataclasses.replace(
            node.config, listen_peer_urls=(node.peer_url,), advertise_peer_urls=(node.peer_url,)
        )
    leader.start()
    online = members.client(first, leader)
    members.await_healthy(nodes=[first, leader])
    ids = {member.name: member.id for member in online.members().members}
    online.move_leader(ids[leader.name])
    lost.start()
    time.sleep(5)
    with pytest.raises(errors.EtcdError):
        members.client(lost, timeout=2.0).revision()
    online.update(ids[lost.name], [lost.peer_url])
    members.await_healthy(nodes=[lost])
