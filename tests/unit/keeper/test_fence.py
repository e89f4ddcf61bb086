"""Which generation a peer serves, and when the keeper stops its own etcd for a later one."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

import errors
from cluster import generation as generations
from cluster import view as views
from etcd import data
from etcd import stamp as stamps
from hook import fencing
from keeper import fence, systemd_unit
from support import keeper_config
from tls import authority, served, store

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = authority.Authority.create("peer CA")
TOKEN, LATER = "0123456789abcdef", "fedcba9876543210"


def certificate(folder: pathlib.Path, *uris: str, signer: authority.Authority = OURS):
    """A peer's certificate as the charm publishes it; answers its directory."""
    pair = signer.sign("etcd-0", ["127.0.0.1"], uris=uris)
    disk = store.Store(folder, owner=None)
    disk.publish("peer", pair.cert, pair.key, signer.ca)
    return disk.path("peer")


class Peer:
    """The peer port of another member: a TLS server that wants a peer's certificate."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.context.load_verify_locations(folder / "ca.pem")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked = 0
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self.listener.accept()
                with raw, contextlib.suppress(OSError):
                    raw.settimeout(5)
                    with self.context.wrap_socket(raw, server_side=True) as peer:
                        self.asked += 1
                        peer.recv(4096)
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@pytest.fixture
def peers(tmp_path: pathlib.Path) -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.close()


def serving(peers: list[Peer], tmp_path: pathlib.Path, number: int, token: str, **signer) -> Peer:
    """One more peer, which serves this generation; 0 for a certificate that names none."""
    uris = [served.Served.of(number, token).uri] if number else []
    peers.append(Peer(certificate(tmp_path / f"peer-{len(peers)}", *uris, **signer)))
    return peers[-1]


# What a certificate says


@pytest.mark.parametrize(
    ("uris", "found"),
    [
        ([], served.Served()),
        (["https://example.org/1"], served.Served()),
        (["urn:etcd-charm:generation:x:01"], served.Served()),
        (["xurn:etcd-charm:generation:7:01"], served.Served()),
        (["urn:other", "urn:etcd-charm:generation:7:01234567"], served.Served(7, "01234567")),
    ],
)
def test_given_the_uris_of_a_certificate_when_read_then_the_generation_or_none(uris, found):
    assert served.Served.read(uris) == found


def test_given_two_generations_when_compared_then_only_later_other_data_replaces():
    first, later = served.Served.of(7, TOKEN), served.Served.of(8, LATER)
    assert served.Served.read([first.uri]) == first
    assert later.replaces(first)
    assert not first.replaces(later)
    assert not first.replaces(first)
    assert not served.Served.of(9, TOKEN).replaces(first)  # rolled back: the same data
    assert not served.Served().replaces(first)


def test_given_peers_when_asked_then_only_those_of_this_authority_answer(peers, tmp_path):
    own = certificate(tmp_path / "own")
    later, silent = serving(peers, tmp_path, 8, LATER), serving(peers, tmp_path, 0, "")
    foreign = serving(
        peers, tmp_path, 9, LATER, signer=authority.Authority.create("another cluster's")
    )
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # a paused machine: it only accepts
        paused = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        began = time.monotonic()
        found = served.ask_all(
            [later.url, silent.url, foreign.url, paused, "https://127.0.0.1:1", "https://[::"],
            own,
            timeout=0.5,
        )
        assert time.monotonic() - began < 5
    assert found == {later.url: served.Served.of(8, LATER), silent.url: served.Served()}


# The keeper


class Unit:
    """A machine with data of generation 7, its etcd, and the keeper's guard."""

    def __init__(self, at: pathlib.Path) -> None:
        self.home = at / "unit-etcd-0"
        self.home.mkdir()
        self.root = data.Root(at / "data", owner=None)
        self.root.new_current(stamps.Stamp(TOKEN, 7, None, "etcd-0"))
        self.runs, self.woken = True, 0
        self.known, self.config = at / "fence.json", at / "keeper.json"
        self.tell()
        self.config.write_text(
            keeper_config.told(local="https://127.0.0.1:1", generation=7, token=TOKEN).to_json()
        )
        self.guard = fence.Guard(
            self.wake, self.known, self.config, certificate(at / "own"), lambda: self.runs,
            self.stop,
        )  # fmt: skip

    def tell(self, *urls: str, former: tuple[str, ...] = ()) -> None:
        members, old = dict.fromkeys(urls, "etcd/1"), dict.fromkeys(former, "etcd/2")
        told = fence.Known(str(self.home), str(self.root.path), members, old)
        self.known.write_text(told.to_json())

    def wake(self) -> None:
        self.woken += 1

    def stop(self) -> None:
        assert self.root.fenced(), "systemd would start it again"
        self.runs = False


@pytest.fixture
def unit(tmp_path: pathlib.Path) -> Unit:
    return Unit(tmp_path)


def test_given_a_later_generation_when_a_member_is_missing_then_etcd_stops_and_the_charm_wakes(
    unit, peers, tmp_path
):
    later = serving(peers, tmp_path, 8, LATER)
    unit.tell("https://127.0.0.1:1", former=(later.url,))
    assert unit.guard.look() == fence.ALERT
    assert not unit.runs
    assert unit.woken == 1
    found = unit.root.fenced()
    assert found is not None
    assert (found.number, found.where) == (8, later.url)
    assert unit.root.disk().fenced == views.Fenced(0, "")  # etcd never began with this data
    asked = later.asked
    unit.guard.look()
    assert later.asked == asked, "an etcd that stands still asks nobody"


@pytest.mark.parametrize(
    ("number", "token"), [(7, TOKEN), (9, TOKEN), (6, LATER), (0, "")], ids=str
)
def test_given_no_later_generation_when_a_member_is_missing_then_etcd_goes_on(
    unit, peers, tmp_path, number, token
):
    unit.tell(serving(peers, tmp_path, number, token).url)
    assert unit.guard.look() == fence.ALERT
    assert unit.runs
    assert unit.root.fenced() is None


def test_given_data_that_was_returned_to_when_the_undone_generation_is_met_then_etcd_goes_on(
    unit, peers, tmp_path
):
    rolled_back = served.Served.of(9, TOKEN)
    certificate(tmp_path / "own", rolled_back.uri)
    unit.tell(serving(peers, tmp_path, 8, LATER).url)
    unit.guard.look()
    assert unit.runs
    unit.tell(serving(peers, tmp_path, 10, LATER).url)
    unit.guard.look()
    assert not unit.runs


def test_given_all_members_take_part_when_looked_then_nobody_is_asked(
    unit, peers, tmp_path, monkeypatch
):
    later = serving(peers, tmp_path, 8, LATER)
    unit.tell(later.url)
    line = 'etcd_network_active_peers{Local="a",Remote="b"}'
    monkeypatch.setattr(fence.connected.gateway, "context", lambda *_: None)
    monkeypatch.setattr(fence.connected.gateway, "page", lambda *_: f"# TYPE x gauge\n{line} 1\n")
    assert unit.guard.look() == fence.CALM
    assert later.asked == 0
    monkeypatch.setattr(fence.connected.gateway, "page", lambda *_: f"# TYPE x gauge\n{line} 0\n")
    unit.guard.look()
    assert not unit.runs


def test_given_other_data_was_put_in_place_meanwhile_when_a_later_one_was_met_then_it_runs_on(
    unit, peers, tmp_path, monkeypatch
):
    unit.tell(serving(peers, tmp_path, 8, LATER).url)
    ask = served.ask_all

    def swap(*arguments):
        unit.root.set_aside("replaced")
        unit.root.new_current(stamps.Stamp(LATER, 8, None, "etcd-0"))
        return ask(*arguments)

    monkeypatch.setattr(served, "ask_all", swap)
    unit.guard.look()
    assert unit.runs
    assert unit.root.fenced() is None


def test_given_the_unit_is_gone_when_seen_twice_then_etcd_stops_and_the_keeper_ends(
    unit, monkeypatch
):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    unit.home.rmdir()
    assert unit.guard.look() == fence.GONE
    assert unit.runs
    now += fence.GONE
    assert unit.guard.look() == 0.0
    assert not unit.runs
    found = unit.root.fenced()
    assert found is not None
    assert found.number == 0


def test_given_the_directory_is_back_when_looked_again_then_etcd_goes_on(unit, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    unit.home.rmdir()
    unit.guard.look()
    unit.home.mkdir()
    unit.guard.look()
    unit.home.rmdir()
    now += fence.GONE
    unit.guard.look()
    assert unit.runs
    assert unit.root.fenced() is None


def test_given_a_unit_that_is_gone_when_watched_then_the_keeper_is_told_to_stop(unit, monkeypatch):
    monkeypatch.setattr(fence, "GONE", 0.05)
    monkeypatch.setattr(fence, "ALERT", 0.01)
    unit.home.rmdir()
    stop = threading.Event()
    watching = threading.Thread(target=unit.guard.run, args=(stop,))
    watching.start()
    assert stop.wait(10)
    watching.join(10)
    assert not unit.runs


def test_given_a_disk_that_refuses_the_mark_when_a_later_one_is_met_then_etcd_stops_all_the_same(
    unit, peers, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    stopped = []
    monkeypatch.setattr(data.Root, "fence", refuse)
    unit.guard._stop_etcd = lambda: stopped.append(True)
    unit.tell(serving(peers, tmp_path, 8, LATER).url)
    unit.guard.look()
    assert stopped


@pytest.mark.parametrize("text", ["", "{", "[]", '{"home": 1}'])
def test_given_nothing_told_when_looked_then_etcd_goes_on(unit, text):
    unit.known.write_text(text)
    assert unit.guard.look() == fence.CALM
    unit.known.unlink()
    assert unit.guard.look() == fence.CALM
    assert unit.runs


# The data


def began(root: data.Root) -> None:
    """Let etcd have written."""
    wal = root.etcd_dir / "member" / "wal"
    wal.mkdir(parents=True)
    (wal / "0.wal").write_bytes(b"x")


def test_given_fenced_data_when_seen_then_by_what_and_a_start_lifts_it(unit):
    began(unit.root)
    assert unit.root.disk().fenced == views.Fenced(0, "")
    assert unit.root.fence(TOKEN, stamps.Fence(8, "https://x:2380", "now"))
    assert unit.root.disk().fenced == views.Fenced(8, "https://x:2380")
    unit.root.unfence()
    assert unit.root.disk().fenced == views.Fenced(0, "")


def test_given_a_mark_that_a_full_disk_left_empty_when_seen_then_any_later_one_may_be_meant(unit):
    began(unit.root)
    (unit.root.current / stamps.FENCED).touch()
    assert unit.root.disk().fenced == views.Fenced(8, "")


def test_given_fenced_data_when_set_aside_then_what_comes_in_its_place_may_run(unit):
    unit.root.fence(TOKEN, stamps.Fence(8, "", ""))
    assert unit.root.set_aside("replaced")
    unit.root.new_current(stamps.Stamp(LATER, 8, None, "etcd-0"))
    assert unit.root.fenced() is None


# The charm


class Node:
    """What `fencing.tell` reads of a unit."""

    member, unit, peer_url = "etcd-0", "etcd/0", "https://a:2380"
    seen = None

    def __init__(self, at: pathlib.Path) -> None:
        self.root = data.Root(at)
        self.peers = self
        self.others: tuple[views.Unit, ...] = ()
        self.unheard: set[str] = set()

    def units(self) -> tuple[views.Unit, ...]:
        return (views.Unit("etcd/0", peer_url="https://a:2380"), *self.others)

    def generation(self) -> generations.Generation:
        founders = tuple(
            generations.Founder(f"etcd/{n}", f"https://{u}:2380") for n, u in enumerate("abc")
        )
        return generations.Generation(1, TOKEN, generations.Source.NEW, founders)

    def proposal(self) -> None:
        return None

    def sees(self, *members: tuple[str, str]) -> None:
        found = tuple(views.Member(n, name, (url,)) for n, (name, url) in enumerate(members))
        self.seen = (views.Etcd(members=found), views.Disk())


def test_given_a_smaller_cluster_when_told_then_former_members_are_remembered(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fence, "FILE", tmp_path / "fence.json")
    node = Node(tmp_path)
    node.sees(("etcd-0", "https://a:2380"), ("etcd-1", "https://b:2380"), ("", "https://d:2380"))
    assert fencing.tell(node)
    assert not fencing.tell(node)
    known = fence.Known.read()
    assert known is not None
    assert known.members == {"https://b:2380": "etcd/1", "https://d:2380": "a new member"}
    assert known.former == {"https://c:2380": "etcd/2"}
    node.sees(("etcd-0", "https://a:2380"))
    fencing.tell(node)
    node.seen = None  # no quorum answers: what it said last stays
    assert not fencing.tell(node)
    known = fence.Known.read()
    assert known is not None
    assert not known.members
    assert set(known.peers) == {"https://b:2380", "https://c:2380", "https://d:2380"}


def test_given_many_that_came_and_went_when_told_then_the_newest_are_remembered(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fence, "FILE", tmp_path / "fence.json")
    node = Node(tmp_path)
    node.sees(("etcd-0", "https://a:2380"))
    for number in range(1, 60):
        node.others = (views.Unit(f"etcd/{number}", peer_url=f"https://n{number}:2380"),)
        fencing.tell(node)
    known = fence.Known.read()
    assert known is not None
    assert "https://n59:2380" in known.former
    assert len(known.former) <= 24


def test_given_an_old_member_that_serves_when_looked_for_then_named_until_it_stops(
    tmp_path, peers, monkeypatch
):
    monkeypatch.setattr(fence, "FILE", tmp_path / "fence.json")
    old, new = serving(peers, tmp_path, 7, TOKEN), serving(peers, tmp_path, 8, LATER)
    unknown = serving(peers, tmp_path, 0, "")
    told = fence.Known("/home", "/root", {}, dict.fromkeys([old.url, new.url, unknown.url], "o/1"))
    fence.FILE.write_text(told.to_json())
    node = Node(tmp_path)
    node.certificates = store.Store(tmp_path / "own", owner=None)
    certificate(tmp_path / "own")
    record = generations.Generation(8, LATER, generations.Source.SURVIVOR, ())
    monkeypatch.setattr(node, "generation", lambda: record)
    assert fencing.beside(node) == (f"o/1 at {old.url.removeprefix('https://')}",)
    old.close()
    peers.remove(old)
    assert fencing.beside(node) == ()
    assert node.unheard == {old.url}, "a dead machine is asked once in a hook"


def test_given_no_certificate_when_looked_for_then_nobody_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(fence, "FILE", tmp_path / "fence.json")
    told = fence.Known("/home", "/root", {"https://127.0.0.1:1": "o/1"}, {})
    fence.FILE.write_text(told.to_json())
    node = Node(tmp_path)
    node.certificates = store.Store(tmp_path / "none", owner=None)
    assert fencing.beside(node) == ()


# systemd


@pytest.mark.parametrize("there", [True, False])
def test_given_the_keeper_ends_when_its_unit_is_gone_then_systemd_stops_etcd(
    tmp_path, monkeypatch, there
):
    monkeypatch.setattr(systemd_unit, "_GONE", 0)
    charm = tmp_path / "unit-etcd-0" / "charm"
    if there:
        charm.parent.mkdir()
    told = tmp_path / "told"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    systemctl.chmod(0o755)
    text = systemd_unit.unit_text(charm, 1 << 30, str(tmp_path / "data" / "backup"))
    # The marker is written beside the data.
    assert f"ReadWritePaths=-{tmp_path / 'data'}" in text.splitlines()
    (line,) = [x for x in text.splitlines() if x.startswith("ExecStopPost=-")]
    command = shlex.split(line.removeprefix("ExecStopPost=-"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(command, env=environment, check=True, timeout=20)
    said = told.read_text() if told.exists() else ""
    clean = "stop --no-block etcd.service\nstart --no-block etcd-orphaned.service\n"
    assert said == ("" if there else clean)


@pytest.mark.parametrize("error", [errors.ToolError("systemctl"), KeyError("unexpected")])
def test_given_any_error_when_watching_then_it_does_not_end_that(unit, monkeypatch, error):
    looks = []

    def look() -> float:
        looks.append(1)
        if len(looks) == 1:
            raise error
        return 0.0

    monkeypatch.setattr(fence, "ALERT", 0.01)
    monkeypatch.setattr(unit.guard, "look", look)
    stop = threading.Event()
    unit.guard.run(stop)
    assert len(looks) == 2
