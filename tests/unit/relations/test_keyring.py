"""This unit's certificates through the life of the `certificates` relation."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import pathlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ops import testing

from cluster import generation as generations
from hook import certificates as unit_certificates
from relations import certificates, databag, peers
from tls import authority, certificate, store

UUID = "1a2b3c4d-0000-4000-8000-000000000000"
NAME = "etcd-0-1a2b3c4d"
ADDRESS = "198.18.0.10"
MOVED = "198.18.0.11"


@functools.cache
def cluster() -> authority.Authorities:
    return authority.Authorities.create("etcd")


@functools.cache
def easyrsa() -> authority.Authority:
    return authority.Authority.create("easyrsa")


@functools.cache
def issued(name: str, sans: tuple[str, ...]) -> authority.Pair:
    return easyrsa().sign(name, sans)


def sans(address: str) -> tuple[str, ...]:
    return certificate.normal_sans((address, *unit_certificates.LOOPBACK, "etcd-0"))


def network(name: str, address: str) -> testing.Network:
    bound = testing.BindAddress([testing.Address(address)])
    return testing.Network(name, ingress_addresses=[address], bind_addresses=[bound])


def signed(csr: str, days: float = 365) -> dict[str, str]:
    """What an authority that signs requests says in its application databag."""
    asked = x509.load_pem_x509_csr(csr.encode())
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    ca = x509.load_pem_x509_certificate(easyrsa().cert)
    now = datetime.datetime.now(datetime.timezone.utc)
    key = serialization.load_pem_private_key(easyrsa().key, None)
    cert = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(ca.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=days))
        .not_valid_after(now + datetime.timedelta(days=days if days > 100 else days / 4))
        .add_extension(names.value, critical=False)
        .sign(key, hashes.SHA256())
    )
    entry = {
        "certificate_signing_request": csr,
        "certificate": cert.public_bytes(serialization.Encoding.PEM).decode(),
        "ca": easyrsa().cert.decode(),
        "chain": [],
    }
    return {"certificates": json.dumps([entry])}


def answered(kind: str, address: str = ADDRESS) -> dict[str, str]:
    """What the authority's unit says: nothing, its CA, an answer, or a wrong one."""
    if kind == "nothing":
        return {}
    bag = {"ca": easyrsa().cert.decode()}
    if kind == "ca":
        return bag
    pair = issued("mallory" if kind == "wrong-name" else NAME, sans(address))
    key = issued("mallory", sans(address)).key if kind == "wrong-key" else pair.key
    cert = b"garbage" if kind == "garbage" else pair.cert
    return {
        **bag,
        "etcd_0.server.cert": "Certificate:\n  Data:\n" + cert.decode(),
        "etcd_0.server.key": key.decode(),
    }


class Unit:
    """One unit with its disk; the relation and the address are as each call says."""

    def __init__(self, juju, at: pathlib.Path):
        self._juju = juju
        self.disk = store.Store(at / "tls", owner=None)

    def ensure(
        self,
        kind: str | None = None,
        address: str = ADDRESS,
        authorities: authority.Authorities | None = None,
        made: bool = True,
        says: dict[str, str] | None = None,
        record: generations.Generation | None = None,
        token: str | None = None,
        announce: bool = False,
        trust_clients: bool = False,
        others: dict[int, bytes] | None = None,
        extra: tuple[str, ...] = (),
    ) -> unit_certificates.Trust:
        """Run one hook.

        Args:
            kind: see `answered`; None without a relation.
            address: of this unit.
            authorities: in the secret.
            made: whether there is the secret.
            says: the authority's application databag.
            record: the committed record.
            token: of the data that the unit has.
            announce: start that record's data, before anything is looked at.
            trust_clients: the option.
            others: number of another unit to the authorities that it serves with.
            extra: names of the server certificate that Juju does not know.
        """
        bag = {"generation": databag.record_text(record)} if record else {}
        told = {
            number: {"extras": json.dumps({"serves-with": pem.decode()})}
            for number, pem in (others or {}).items()
        }
        self._juju.goals = {f"etcd/{number}": "active" for number in (0, *told)}
        relations: list[testing.RelationBase] = [
            testing.PeerRelation("cluster", local_app_data=bag, peers_data=told)
        ]
        if kind is not None:
            relations.append(
                testing.Relation(
                    "certificates",
                    remote_app_name="easyrsa",
                    remote_app_data=says or {},
                    remote_units_data={0: answered(kind, address)},
                )
            )
        content = (authorities or cluster()).to_secret()
        secret = testing.Secret(content, owner="app", label="authorities")
        state = testing.State(
            relations=relations,
            secrets=[secret] if made else [],
            networks=[network("cluster", address), network("db", address)],
        )
        with self._juju.hook(state) as charm:
            keyring = unit_certificates.Keyring(
                self.disk,
                peers.Peers(charm),
                certificates.Certificates(charm),
                "etcd/0",
                "etcd",
                UUID,
                lambda: token,
                trust_clients,
                extra,
            )
            if announce:
                keyring.announce()
            self.known = keyring.is_fresh()
            found = keyring.ensure()
            self.fresh = keyring.is_fresh()
        said = json.loads(self._juju.bag(relations[0]).get("extras", "{}"))
        self.chain = said.get("serves-with", "").encode()
        for relation in relations[1:]:
            asked = self._juju.bag(relation)
            assert asked["common_name"] == NAME
            (entry,) = json.loads(asked["certificate_signing_requests"])
            self.csr = entry["certificate_signing_request"]
            wanted = certificate.normal_sans((*sans(address), *extra))
            assert tuple(json.loads(asked["sans"])) == wanted
        return found

    def facts(self, name: str) -> certificate.Facts:
        found = self.disk.load(name)
        assert found is not None
        return found

    def believed(self, name: str) -> list[bytes]:
        present = self.disk.read(name)
        assert present is not None
        return certificate.split(present[2])


@pytest.fixture
def unit(juju, tmp_path: pathlib.Path) -> Unit:
    return Unit(juju, tmp_path)


def test_given_no_authorities_yet_when_settled_then_not_ready_and_nothing_is_written(unit):
    found = unit.ensure(made=False)
    assert (found.ready, found.wrong) == (False, False)
    assert unit.disk.load("peer") is None


def test_given_no_relation_when_settled_then_our_own_authorities_sign_all(unit):
    assert unit.ensure() == unit_certificates.Trust(True)
    assert unit.facts("peer").signer == cluster().peer.fingerprint
    assert unit.facts("server").signer == cluster().client.fingerprint
    assert unit.facts("client").signer == cluster().client.fingerprint
    assert unit.facts("client").common_name == "root"
    assert set(unit.facts("server").sans) == set(sans(ADDRESS))
    assert unit.believed("peer") == [cluster().peer.cert]


def test_given_names_that_juju_does_not_know_when_settled_then_the_server_has_them_alone(unit):
    extra = ("etcd.example.com", "203.0.113.7", "*.etcd.example.com")
    unit.ensure(extra=extra)
    assert set(unit.facts("server").sans) == {*sans(ADDRESS), *extra}
    assert not set(extra) & {*unit.facts("peer").sans, *unit.facts("client").sans}
    before = unit.disk.path("server").readlink()
    unit.ensure(extra=extra)
    assert unit.disk.path("server").readlink() == before
    unit.ensure()
    assert set(unit.facts("server").sans) == set(sans(ADDRESS)), "no more than is configured"


def test_given_an_authority_when_names_are_added_then_it_is_asked_and_what_serves_stays(unit):
    unit.ensure("answer")
    served = unit.facts("server")
    assert unit.ensure("answer", extra=("etcd.example.com",)).ready
    assert unit.facts("server") == served


def test_given_a_closed_etcd_when_units_reach_it_then_the_peers_authority_signed_both_sides(unit):
    unit.ensure("answer")
    founder, peer = unit.facts("founder"), unit.facts("peer")
    assert (founder.common_name, founder.sans) == ("root", ())
    assert founder.signer == peer.signer == cluster().peer.fingerprint
    assert unit.believed("founder") == [cluster().peer.cert]
    assert set(peer.sans) >= {ADDRESS, "127.0.0.1"}, "clients verify what they dial"
    shown = x509.load_pem_x509_certificate(unit.disk.read("founder")[0])
    usage = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    for name in ("client", "server"):
        assert cluster().peer.cert not in unit.believed(name)


def test_given_nothing_changes_when_settled_again_then_nothing_is_written(unit):
    for kind in (None, "answer"):
        unit.ensure(kind)
        unit.ensure(kind)
        before = [unit.disk.path(name).readlink() for name in ("peer", "server", "client")]
        unit.ensure(kind)
        assert before == [unit.disk.path(name).readlink() for name in ("peer", "server", "client")]


GARBAGE = "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n"
SPACES = "-----BEGIN CERTIFICATE-----" + " " * 128 * 1024
BEGINS = "-----BEGIN CERTIFICATE-----\n" * 5000


@pytest.mark.parametrize("ca", [GARBAGE, SPACES, BEGINS, GARBAGE * 10_000])
@pytest.mark.parametrize("field", ["ca", "chain"])
def test_given_a_provider_with_garbage_for_an_authority_when_settled_then_what_serves_stays(
    unit, monkeypatch, ca, field
):
    unit.ensure("answer")
    served, believed = unit.facts("server"), unit.believed("client")
    bag = {**answered("answer"), field: easyrsa().cert.decode() + ca if field == "chain" else ca}
    monkeypatch.setitem(globals(), "answered", lambda kind, address=ADDRESS: bag)
    began = time.monotonic()
    found = unit.ensure("answer")
    assert time.monotonic() - began < 5
    assert found.ready
    if "END" in ca or field == "ca":
        assert found.wrong and "easyrsa answered with a certificate that cannot" in found.message
    assert unit.facts("server") == served
    assert set(unit.believed("client")) >= set(believed) - {easyrsa().cert}


@pytest.mark.parametrize(
    "change",
    [{"ca": GARBAGE}, {"chain": [GARBAGE]}, {"chain": {"a": 1}}, {"chain": 5}, {"ca": 7}],
)
def test_given_an_authority_that_signs_with_garbage_beside_it_when_settled_then_no_hook_fails(
    unit, change
):
    unit.ensure("nothing")
    (entry,) = json.loads(signed(unit.csr)["certificates"])
    says = {"certificates": json.dumps([{**entry, **change}])}
    found = unit.ensure("nothing", says=says)
    assert found.wrong or found.ready
    assert "\n" not in found.message


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"a":' * 5000, "[" + "1" * 5000 + "]", "[NaN]"])
def test_given_an_authority_with_nested_or_huge_answers_when_settled_then_they_are_none(
    unit, text
):
    assert not unit.ensure("nothing", says={"certificates": text}).ready


def test_given_all_in_order_when_asked_again_then_fresh_until_something_is_missing(unit):
    unit.ensure(made=False)
    assert not unit.fresh
    unit.ensure()
    assert unit.fresh
    unit.ensure("garbage")
    assert not unit.fresh
    unit.ensure("answer")
    assert unit.fresh


def test_given_all_in_order_hours_ago_when_asked_again_then_not_fresh(unit, monkeypatch):
    unit.ensure()
    later = unit_certificates.time.time() + unit_certificates.FRESH + 1
    monkeypatch.setattr(unit_certificates.time, "time", lambda: later)
    unit.ensure()
    assert unit.fresh  # looked at again, and noted


@pytest.mark.parametrize(("later", "known"), [(1500, True), (3000, False)])
def test_given_a_certificate_of_two_hours_when_a_third_is_left_then_looked_at_before_six(
    unit, monkeypatch, later, known
):
    unit.ensure()
    now, load = time.time(), unit.disk.load
    short = dataclasses.replace(unit.facts("server"), not_before=now - 2700, not_after=now + 4500)
    monkeypatch.setattr(unit.disk, "load", lambda name: short if name == "server" else load(name))
    monkeypatch.setattr(unit_certificates.time, "time", lambda: now + later)
    unit.ensure()
    assert unit.known is known


def committed(number: int, token: str) -> generations.Generation:
    return generations.Generation(number, token, generations.Source.NEW, ())


def test_given_no_record_when_settled_then_the_peer_certificate_names_no_generation(unit):
    unit.ensure()
    assert unit.facts("peer").uris == ()


def test_given_a_record_when_settled_then_the_peer_certificate_names_what_the_unit_runs(unit):
    unit.ensure(record=committed(1, "first-token"), token="first-token")
    assert unit.facts("peer").uris == ("urn:etcd-charm:generation:1:first-to",)
    assert unit.facts("server").uris == unit.facts("client").uris == ()
    link = unit.disk.path("peer").readlink()
    # Another was committed, and this unit has the old data still.
    unit.ensure(record=committed(2, "other-token"), token="first-token")
    assert unit.known
    assert unit.disk.path("peer").readlink() == link
    unit.ensure(record=committed(2, "other-token"), token="other-token")
    assert not unit.known
    assert unit.facts("peer").uris == ("urn:etcd-charm:generation:2:other-to",)
    unit.ensure(record=committed(2, "other-token"), token="other-token")
    assert unit.known


def test_given_the_generation_changes_in_a_hook_when_its_data_starts_then_the_certificate_follows(
    unit,
):
    unit.ensure(record=committed(1, "first-token"), token="first-token")
    unit.ensure(record=committed(2, "other-token"), token=None, announce=True)
    assert unit.facts("peer").uris == ("urn:etcd-charm:generation:2:other-to",)
    assert unit.facts("peer").signer == cluster().peer.fingerprint


def test_given_an_old_unit_when_its_address_moves_then_its_certificate_names_what_it_did(unit):
    unit.ensure(record=committed(1, "first-token"), token="first-token")
    unit.ensure(record=committed(2, "other-token"), token="first-token", address=MOVED)
    assert unit.facts("peer").uris == ("urn:etcd-charm:generation:1:first-to",)
    assert MOVED in unit.facts("peer").sans


@pytest.mark.parametrize("kind", ["nothing", "ca"])
def test_given_related_before_the_start_when_settled_then_it_waits_for_its_certificate(unit, kind):
    found = unit.ensure(kind)
    assert (found.ready, found.wrong) == (False, False)
    assert "easyrsa" in found.message
    assert unit.disk.load("server") is None
    assert unit.ensure("answer") == unit_certificates.Trust(True)
    assert unit.facts("server").signer == easyrsa().fingerprint


@pytest.mark.parametrize("kind", ["wrong-name", "wrong-key", "garbage"])
def test_given_a_wrong_answer_before_the_start_when_settled_then_blocked_and_no_start(unit, kind):
    found = unit.ensure(kind)
    assert (found.ready, found.wrong) == (False, True)
    assert "`juju remove-relation etcd easyrsa`" in found.message
    assert unit.disk.load("server") is None


@pytest.mark.parametrize("kind", ["wrong-name", "wrong-key", "garbage"])
@pytest.mark.parametrize("before", [None, "answer"])
def test_given_a_certificate_in_use_when_a_wrong_one_comes_then_blocked_and_it_goes_on(
    unit, kind, before
):
    unit.ensure(before)
    served = unit.disk.read("server")
    found = unit.ensure(kind)
    assert (found.ready, found.wrong) == (True, True)
    assert found.message.endswith(": mend easyrsa")  # no word of taking the good one away
    assert ("etcd serves with the one that it has, until 20" in found.message) == bool(before)
    assert served is not None
    assert unit.disk.holds("server", *served[:2])


def test_given_a_certificate_in_use_when_related_then_the_new_authority_is_believed_early(unit):
    unit.ensure()
    unit.ensure("ca")
    assert easyrsa().cert in unit.believed("client")
    assert unit.facts("server").signer == cluster().client.fingerprint


def test_given_other_units_that_serve_with_other_authorities_when_settled_then_all_are_believed(
    unit,
):
    """A provider whose root is renewed answers with it to the units that come after."""
    renewed, older = authority.Authority.create("new root"), authority.Authority.create("old root")
    unit.ensure("answer")
    assert unit.fresh
    unit.ensure("answer", others={1: renewed.cert, 2: older.cert + renewed.cert, 3: b"garbage"})
    assert not unit.known
    expected = {cluster().client.cert, easyrsa().cert, renewed.cert, older.cert}
    assert set(unit.believed("client")) == expected
    assert unit.believed("gateway") == [cluster().client.cert]
    unit.ensure("answer", others={1: renewed.cert})
    assert set(unit.believed("client")) == expected - {older.cert}
    unit.ensure("answer")
    assert set(unit.believed("client")) == {cluster().client.cert, easyrsa().cert}


def test_given_the_same_news_when_two_units_serve_with_different_ones_then_they_say_the_same(
    unit,
):
    renewed = authority.Authority.create("new root").cert
    unit.ensure("answer", others={1: renewed})
    assert unit.chain == easyrsa().cert
    first = unit.disk.read("client")[2]
    assert first == certificate.union(cluster().client.ca, renewed, unit.chain)


def test_given_the_relation_removed_when_all_serve_with_our_own_then_it_is_believed_no_more(unit):
    unit.ensure("answer")
    unit.ensure(None, others={1: easyrsa().cert})
    assert unit.chain == b""
    assert set(unit.believed("client")) == {cluster().client.cert, easyrsa().cert}
    unit.ensure(None, others={1: b""})
    assert unit.believed("client") == [cluster().client.cert]


def test_given_an_outside_authority_when_answered_then_it_signs_servers_and_no_clients(unit):
    unit.ensure()
    unit.ensure("answer")
    assert set(unit.believed("client")) == {cluster().client.cert, easyrsa().cert}
    assert unit.believed("gateway") == [cluster().client.cert]
    assert unit.believed("peer") == [cluster().peer.cert]


def test_given_an_etcd_of_an_earlier_charm_when_it_starts_again_then_our_clients_are_believed(
    unit,
):
    """Its configuration names the file beside the server's certificate."""
    for kind in (None, "nothing", "answer", "garbage", None):
        unit.ensure(kind)
        assert cluster().client.cert in unit.believed("server")


def test_given_the_option_when_it_changes_then_clients_of_the_authority_are_believed_or_not(unit):
    both = {cluster().client.cert, easyrsa().cert}
    unit.ensure("ca", trust_clients=True)
    assert set(unit.believed("gateway")) == both
    unit.ensure("answer", trust_clients=True)
    assert set(unit.believed("gateway")) == both
    unit.ensure("answer")
    assert unit.believed("gateway") == [cluster().client.cert]
    unit.ensure("answer", trust_clients=True)
    unit.ensure(None, trust_clients=True)
    assert unit.believed("gateway") == [cluster().client.cert]


def test_given_the_gateways_certificate_when_read_then_it_is_a_clients_and_has_nobodys_name(unit):
    unit.ensure("answer")
    facts = unit.facts("gateway")
    assert (facts.common_name, facts.sans, facts.signer) == ("", (), cluster().client.fingerprint)
    shown = x509.load_pem_x509_certificate(unit.disk.read("gateway")[0])
    usage = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    link = unit.disk.path("gateway").readlink()
    unit.ensure("answer")
    assert unit.disk.path("gateway").readlink() == link


def test_given_the_relation_is_removed_when_settled_then_we_sign_and_forget_the_authority(unit):
    unit.ensure("answer")
    assert unit.ensure(None) == unit_certificates.Trust(True)
    assert unit.facts("server").signer == cluster().client.fingerprint
    assert unit.believed("server") == [cluster().client.cert]
    unit.ensure(None)
    assert unit.believed("client") == [cluster().client.cert]


@pytest.mark.parametrize("kind", [None, "answer"])
def test_given_a_new_address_when_settled_then_all_servers_cover_it(unit, kind):
    unit.ensure(kind)
    unit.ensure(kind, MOVED)
    for name in ("peer", "server"):
        assert MOVED in unit.facts(name).sans
        assert ADDRESS not in unit.facts(name).sans


def test_given_a_new_peer_authority_when_settled_then_signed_again_and_both_believed(unit):
    unit.ensure()
    new = dataclasses.replace(authority.Authority.create("new"), trust=cluster().peer.cert)
    unit.ensure(authorities=dataclasses.replace(cluster(), peer=new))
    assert unit.facts("peer").signer == new.fingerprint
    assert set(unit.believed("peer")) == {new.cert, cluster().peer.cert}


def test_given_an_authority_that_signs_requests_when_answered_then_the_key_never_left(unit):
    assert not unit.ensure("nothing").ready
    assert unit.ensure("nothing", says=signed(unit.csr)) == unit_certificates.Trust(True)
    assert unit.facts("server").signer == easyrsa().fingerprint
    before = unit.csr
    assert unit.ensure("nothing", says=signed(unit.csr)) == unit_certificates.Trust(True)
    assert unit.csr == before


def test_given_a_signed_certificate_that_ends_soon_when_settled_then_asked_anew_and_served_on(
    unit,
):
    unit.ensure("nothing")
    first = unit.csr
    says = signed(first, days=40)
    unit.ensure("nothing", says=says)
    found = unit.ensure("nothing", says=says)
    assert found.ready
    assert unit.csr != first
    second = unit.csr
    assert unit.ensure("nothing", says=says).ready
    assert unit.csr == second
    assert unit.ensure("nothing", says=signed(second)) == unit_certificates.Trust(True)
    assert not certificate.ends_soon(unit.facts("server"), time.time())


STEPS = st.lists(
    st.tuples(
        st.sampled_from([None, "nothing", "ca", "answer", "wrong-name", "wrong-key", "garbage"]),
        st.sampled_from([ADDRESS, MOVED]),
    ),
    max_size=6,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=STEPS, last=st.sampled_from([None, "answer"]))
def test_given_any_history_when_it_ends_well_then_the_certificates_are_right(
    juju, tmp_path_factory, history, last
):
    unit = Unit(juju, tmp_path_factory.mktemp("unit"))
    for kind, address in history:
        found = unit.ensure(kind, address)
        assert found.ready == (unit.disk.load("server") is not None)
        assert found.wrong == (kind in ("wrong-name", "wrong-key", "garbage"))
    unit.ensure(last)
    assert unit.ensure(last) == unit_certificates.Trust(True)
    signer = easyrsa() if last else cluster().client
    assert unit.facts("server").signer == signer.fingerprint
    assert unit.facts("peer").signer == cluster().peer.fingerprint
    wanted = {cluster().client.cert, signer.cert}
    assert set(unit.believed("client")) == wanted
    assert unit.believed("gateway") == [cluster().client.cert]
