from __future__ import annotations

import functools
import os
import pathlib
import pwd
import subprocess
import sys
import threading

import pytest

from etcd import config as etcd_config
from tls import authority, certificate, store


@functools.cache
def signer() -> authority.Authority:
    return authority.Authority.create("ca")


@functools.cache
def pairs() -> tuple[authority.Pair, ...]:
    return tuple(signer().sign("etcd-0", ["127.0.0.1"]) for _ in range(4))


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> store.Store:
    return store.Store(tmp_path / "tls", owner=None)


def publish(disk: store.Store, number: int = 0, name: str = "peer", ca: bytes = b"") -> bool:
    pair = pairs()[number]
    return disk.publish(name, pair.cert, pair.key, ca or signer().ca)


def names(disk: store.Store) -> set[str]:
    return {path.name for path in disk.path("peer").parent.iterdir()}


def test_given_nothing_when_read_then_there_is_nothing(disk):
    assert disk.read("peer") is None
    assert disk.load("peer") is None
    assert not disk.holds("peer", b"", b"")
    assert not disk.remove("peer")


def test_given_a_pair_when_published_twice_then_only_the_first_changes_anything(disk):
    assert publish(disk)
    before = disk.path("peer").readlink()
    assert not publish(disk)
    assert disk.path("peer").readlink() == before
    assert disk.holds("peer", pairs()[0].cert, pairs()[0].key)


def test_given_another_authority_when_published_then_that_is_a_change(disk):
    publish(disk)
    before = disk.load("peer")
    more = certificate.bundle(signer().ca, authority.Authority.create("new").ca)
    assert publish(disk, ca=more)
    after = disk.load("peer")
    assert before is not None
    assert after is not None
    assert before.ca_fingerprint != after.ca_fingerprint
    assert before.fingerprint == after.fingerprint


def test_given_many_publications_when_listed_then_only_the_present_and_previous_are_kept(disk):
    for number in range(4):
        publish(disk, number)
    assert names(disk) == {"peer", "peer-3", "peer-4"}
    assert disk.path("peer").readlink() == pathlib.Path("peer-4")


def test_given_a_publication_that_died_half_way_when_published_then_it_is_replaced(disk):
    publish(disk)
    half = disk.path("peer").parent / "peer-2"
    half.mkdir()
    (half / "cert.pem").write_text("half")
    (disk.path("peer").parent / ".peer.new").symlink_to("peer-2")
    assert disk.holds("peer", pairs()[0].cert, pairs()[0].key)
    assert publish(disk, 1)
    assert names(disk) == {"peer", "peer-1", "peer-3"}


def test_given_a_key_when_published_then_only_its_owner_may_read_it(disk):
    publish(disk)
    at = disk.path("peer")
    modes = {path.name: path.stat().st_mode & 0o777 for path in at.iterdir()}
    assert set(modes.values()) == {0o600} and len(modes) == 4
    assert at.stat().st_mode & 0o777 == 0o700


def shown(disk: store.Store, name: str) -> set[tuple[int, int, int]]:
    at = disk.path(name)
    found = (path.stat() for path in (at, *at.iterdir()))
    return {(each.st_uid, each.st_gid, each.st_mode & 0o777) for each in found}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_given_an_owner_when_published_then_it_reads_what_it_serves_with_and_changes_nothing(
    tmp_path,
):
    disk, group = store.Store(tmp_path / "tls", owner="nobody"), pwd.getpwnam("nobody").pw_gid
    publish(disk)
    assert shown(disk, "peer") == {(0, group, 0o750), (0, group, 0o640)}
    for name in ("client", etcd_config.CLOSED_TLS):
        publish(disk, name=name)
        assert shown(disk, name) == {(0, 0, 0o700), (0, 0, 0o600)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["peer", "client"])
def test_given_pairs_that_an_earlier_revision_gave_away_when_published_then_taken_back(
    tmp_path, name
):
    disk = store.Store(tmp_path / "tls", owner="nobody")
    publish(disk, name=name)
    person, at = pwd.getpwnam("nobody"), disk.path(name).resolve()
    for path in (at, *at.iterdir()):
        os.chown(path, person.pw_uid, person.pw_gid)
    (tmp_path / "secret").write_text("root's")
    (at / "ca.pem").unlink()
    (at / "ca.pem").symlink_to(tmp_path / "secret")
    assert disk.read(name) is None and disk.load(name) is None
    assert publish(disk, name=name) and not publish(disk, name=name)
    assert {uid for uid, _, _ in shown(disk, name)} == {0}


def test_given_a_key_of_nobody_when_published_then_what_was_there_stays(disk):
    publish(disk)
    with pytest.raises(certificate.CertificateError):
        disk.publish("peer", b"garbage", b"", signer().ca)
    with pytest.raises(certificate.CertificateError):
        disk.publish("peer", pairs()[1].cert, pairs()[1].key, authority.Authority.create("x").ca)
    assert disk.holds("peer", pairs()[0].cert, pairs()[0].key)
    assert names(disk) == {"peer", "peer-1"}


def test_given_a_foreign_answer_when_accepted_then_refused_and_what_was_there_stays(disk):
    pair, other = pairs()[0], pairs()[1]
    assert disk.accept("server", pair.cert, pair.key, signer().ca, "etcd-0", ["127.0.0.1"])
    with pytest.raises(certificate.CertificateError, match="does not belong"):
        disk.accept("server", other.cert, pair.key, signer().ca, "etcd-0", ["127.0.0.1"])
    with pytest.raises(certificate.CertificateError, match="not for 'etcd-1'"):
        disk.accept("server", other.cert, other.key, signer().ca, "etcd-1", ["127.0.0.1"])
    assert disk.holds("server", pair.cert, pair.key)


def test_given_more_trust_when_accepted_then_both_authorities_are_published(disk):
    pair, own = pairs()[0], authority.Authority.create("own")
    disk.accept("server", pair.cert, pair.key, signer().ca, "etcd-0", [], trust=own.ca)
    present = disk.read("server")
    assert present is not None
    assert present[2] == own.ca + signer().ca
    assert not disk.accept("server", pair.cert, pair.key, signer().ca, "etcd-0", [], trust=own.ca)


@pytest.mark.parametrize("damage", ["missing", "foreign", "garbage"])
def test_given_facts_that_are_not_of_these_files_when_loaded_then_parsed_anew(disk, damage):
    publish(disk)
    right = disk.load("peer")
    facts = disk.path("peer") / "facts.json"
    if damage == "missing":
        facts.unlink()
    else:
        text = facts.read_text()
        facts.write_text(text.replace('"digest": "', '"digest": "0') if "f" in damage else "{")
    assert disk.load("peer") == right


def test_given_a_damaged_certificate_when_loaded_then_there_is_none(disk):
    publish(disk)
    (disk.path("peer") / "cert.pem").write_text("garbage")
    assert disk.load("peer") is None
    assert publish(disk)
    assert disk.load("peer") is not None


def test_given_a_published_pair_when_loaded_then_cryptography_is_not_loaded(disk):
    publish(disk)
    code = (
        "import pathlib, sys, time; from tls import certificate, store;"
        "facts = store.Store(pathlib.Path(sys.argv[1]), owner=None).load('peer');"
        "assert facts and not certificate.needs_renewal(facts, facts.sans, time.time());"
        "sys.exit('cryptography' in sys.modules)"
    )
    path = f"{store.__file__.rpartition('/tls/')[0]}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(disk.path("peer").parent)],
        env={"PYTHONPATH": path},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["", "Peer", "../x", "a-b", "peer-1"])
def test_given_a_name_that_could_be_a_version_when_used_then_refused(disk, name):
    with pytest.raises(ValueError, match="lower-case"):
        disk.path(name)


def test_given_a_reader_when_pairs_are_swapped_under_it_then_it_never_sees_half(disk):
    publish(disk, 0)
    good = {(pair.cert, pair.key, signer().ca) for pair in pairs()}
    seen: list[bool] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            present = disk.read("peer")
            seen.append(present is None or present in good)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        publish(disk, turn % 4)
    stop.set()
    reader.join(timeout=10)
    assert seen
    assert all(seen)


def test_given_a_name_when_removed_then_nothing_of_it_is_left(disk):
    publish(disk)
    publish(disk, 1)
    assert disk.remove("peer")
    assert names(disk) == set()
