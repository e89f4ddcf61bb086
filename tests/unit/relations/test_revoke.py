"""Whose certificates are believed no more: the leader decides, each unit has etcd refuse them."""

from __future__ import annotations

import functools
import pathlib
import time
import types

import pytest
from cryptography import x509
from ops import testing

from cluster import view as views
from hook import certificates as unit_certificates
from relations import certificates, peers
from tls import authority, revocation, store

LATER = int(time.time()) + 90 * 86400


def text(*serials: str, until: int = LATER) -> str:
    return revocation.to_text(dict.fromkeys(serials, until))


class Application:
    """What the leader sees: Juju's units, their databags, etcd's members."""

    def __init__(self) -> None:
        self.units = {"etcd/0": True, "etcd/1": True, "etcd/2": True}
        self.told = {"etcd/0": text("a0"), "etcd/1": text("b0"), "etcd/2": text("c0")}
        self.members: list[str] | None = ["etcd-0", "etcd-1", "etcd-2"]
        self._issued: dict[str, str] = {}
        self._revoked = ""
        self.woken = 0

    def look(self) -> set[str]:
        """The leader's hook; answers what is revoked after it."""
        seen = None
        if self.members is not None:
            seen = tuple(views.Member(n, name, (), ()) for n, name in enumerate(self.members))
        node = types.SimpleNamespace(
            seen=(types.SimpleNamespace(members=seen), None), peers=self, wake_in=self.wake_in
        )
        self.waits = unit_certificates.revoke(node)  # type: ignore[arg-type]
        return set(revocation.of_all(self._revoked))

    def wake_in(self, _: float) -> None:
        self.woken += 1

    def goals(self) -> dict[str, bool]:
        return self.units

    def certificates(self) -> dict[str, str]:
        return {unit: self.told.get(unit, "") for unit in self.units}

    def issued(self) -> dict[str, str]:
        return self._issued

    def set_issued(self, issued: dict[str, str]) -> None:
        self._issued = issued

    def revoked(self) -> str:
        return self._revoked

    def set_revoked(self, text: str) -> None:
        self._revoked = text


@pytest.fixture
def application() -> Application:
    made = Application()
    assert made.look() == set()
    return made


def test_given_a_unit_that_left_when_the_leader_looks_then_all_that_it_had_is_revoked(
    application: Application,
):
    application.told["etcd/2"] = text("c1", "c2")
    assert application.look() == set()
    del application.units["etcd/2"]
    application.members = ["etcd-0", "etcd-1"]
    assert application.look() == {"c0", "c1", "c2"}
    assert not application.waits
    assert application.look() == {"c0", "c1", "c2"}


def test_given_a_unit_that_leaves_when_the_leader_looks_then_it_is_believed_and_looked_for_again(
    application: Application,
):
    application.units["etcd/2"] = False
    application.members = ["etcd-0", "etcd-1"]
    assert application.look() == set(), "it still asks the others whether it may go"
    assert application.waits
    assert application.woken == 1


@pytest.mark.parametrize(
    "members", [None, ["etcd-0", "etcd-1", "etcd-2"], ["etcd-0", "etcd-1", ""]], ids=str
)
def test_given_a_member_that_may_be_its_when_a_unit_is_gone_then_it_is_believed_until_then(
    application: Application, members
):
    del application.units["etcd/2"]
    application.members = members
    assert application.look() == set()
    application.members = ["etcd-0", "etcd-1"]
    assert application.look() == {"c0"}


def test_given_a_unit_that_claims_anothers_certificates_when_it_is_gone_then_those_are_believed(
    application: Application,
):
    application.told["etcd/2"] = text("c0", "a0", "b0")
    application.look()
    del application.units["etcd/2"]
    application.members = ["etcd-0", "etcd-1"]
    assert application.look() == {"c0"}


def test_given_a_certificate_that_has_ended_when_the_leader_looks_then_it_is_listed_no_more(
    application: Application, monkeypatch: pytest.MonkeyPatch
):
    del application.units["etcd/2"]
    application.members = ["etcd-0", "etcd-1"]
    assert application.look() == {"c0"}
    monkeypatch.setattr(time, "time", lambda: LATER + 1.0)
    assert application.look() == set()


@pytest.mark.parametrize(
    "bag", ["", "x", "zz:1", "1" * 41 + ":1", "a:-1", "a:1:2", "0:5", "a:" + "9" * 13]
)
def test_given_what_is_no_serial_number_when_read_then_it_is_left_out(bag: str):
    assert revocation.of_unit(f"{bag} ab:7") == {"ab": 7}


def test_given_more_certificates_than_are_remembered_when_read_then_those_that_end_last():
    many = {f"{n:x}": n for n in range(1, 100)}
    assert set(revocation.of_unit(revocation.to_text(many)).values()) < set(range(1, 100))
    kept = revocation.merged(many, {"abc": 1000})
    assert len(kept) == 32
    assert "abc" in kept


# A unit's part


@functools.cache
def own() -> authority.Authorities:
    return authority.Authorities.create("etcd")


def heed(juju, disk: store.Store, revoked: str) -> dict[str, str]:
    """One hook of a unit; answers what its databag says of it."""
    cluster = testing.PeerRelation("cluster", local_app_data={"revoked": revoked})
    secret = testing.Secret(own().to_secret(), owner="app", label="authorities")
    address = [testing.Address("198.18.0.10")]
    networks = {
        testing.Network(name, [testing.BindAddress(address)], ingress_addresses=["198.18.0.10"])
        for name in ("cluster", "db")
    }
    state = testing.State(relations={cluster}, secrets={secret}, networks=networks)
    with juju.hook(state) as charm:
        keyring = unit_certificates.Keyring(
            disk, peers.Peers(charm), certificates.Certificates(charm), "etcd/0", "etcd", "uuid"
        )
        keyring.ensure()
    return dict(juju.bag(cluster))


def listed(disk: store.Store) -> set[str]:
    found = x509.load_der_x509_crl(disk.path("server").with_name("revoked.crl").read_bytes())
    return {f"{entry.serial_number:x}" for entry in found}


def test_given_what_the_leader_revoked_when_a_unit_hears_then_etcd_reads_it_but_for_its_own(
    juju, tmp_path: pathlib.Path
):
    disk = store.Store(tmp_path / "tls", owner=None)
    said = heed(juju, disk, "")
    assert listed(disk) == set()
    has = {
        facts.serial for n in ("peer", "server", "client", "founder") if (facts := disk.load(n))
    }
    assert len(has) == 4
    for serial in has:
        assert serial in said["extras"]
    heed(juju, disk, text("abc", min(has)))
    assert listed(disk) == {"abc"}
    heed(juju, disk, text("abc", "def"))
    assert listed(disk) == {"abc", "def"}


def test_given_a_list_that_is_gone_when_a_hook_runs_then_etcd_has_one_again(
    juju, tmp_path: pathlib.Path
):
    disk = store.Store(tmp_path / "tls", owner=None)
    heed(juju, disk, text("abc"))
    disk.path("server").with_name("revoked.crl").unlink()
    heed(juju, disk, text("abc"))
    assert listed(disk) == {"abc"}


def test_given_certificates_of_an_earlier_revision_when_settled_then_their_numbers_are_told(
    juju, tmp_path: pathlib.Path
):
    disk = store.Store(tmp_path / "tls", owner=None)
    heed(juju, disk, "")
    facts = disk.path("peer") / "facts.json"
    before = disk.load("peer")
    assert before
    facts.write_text(facts.read_text().replace(f'"serial": "{before.serial}", ', ""))
    reread = disk.load("peer")
    assert reread
    assert reread.serial == ""
    said = heed(juju, disk, "")
    assert before.serial in said["extras"]
