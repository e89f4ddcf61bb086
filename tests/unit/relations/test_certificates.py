from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import testing

from relations import certificates
from tls import authority, certificate

NAME = "etcd-0-1a2b3c4d"
SANS = ["198.18.0.10", "etcd-0"]
State = certificates.State


@functools.cache
def signer() -> authority.Authority:
    return authority.Authority.create("easyrsa")


@functools.cache
def pair() -> authority.Pair:
    return signer().sign(NAME, SANS)


def answer(unit: str = "etcd_0") -> dict[str, str]:
    return {
        "ca": signer().cert.decode(),
        "client.cert": "x",
        "client.key": "x",
        f"{unit}.server.cert": "Certificate:\n    Data:\n" + pair().cert.decode(),
        f"{unit}.server.key": pair().key.decode(),
    }


def relation(asked: bool = True, **bags: dict[str, str]) -> testing.Relation:
    ours = {"common_name": NAME, "sans": json.dumps(SANS)} if asked else {}
    remote = {int(name.removeprefix("u")): bag for name, bag in bags.items()}
    return testing.Relation(
        "certificates",
        remote_app_name="easyrsa",
        local_unit_data=ours,
        remote_units_data=remote,
    )


def ask(juju, *relations: testing.Relation) -> certificates.Answer:
    with juju.hook(testing.State(relations=relations)) as charm:
        return certificates.Certificates(charm).answer(NAME, SANS)


def test_given_no_relation_when_asked_then_not_related(juju):
    with juju.hook(testing.State()) as charm:
        ours = certificates.Certificates(charm)
        assert not ours.related
        assert not ours.request(NAME, SANS)
        assert ours.answer(NAME, SANS).state is State.NOT_RELATED
        assert ours.client_ca() == b""


def test_given_a_relation_when_requested_then_the_older_protocol_is_spoken(juju):
    wanted = relation(asked=False)
    with juju.hook(testing.State(relations=[wanted])) as charm:
        ours = certificates.Certificates(charm)
        assert ours.answer(NAME, SANS).state is State.WAITING
        assert ours.request(NAME, ["etcd-0", "198.18.0.10", "etcd-0"])
        assert not ours.request(NAME, SANS)
    assert juju.bag(wanted) == {
        "unit_name": "etcd_0",
        "common_name": NAME,
        "certificate_name": NAME,
        "sans": '["198.18.0.10", "etcd-0"]',
    }


def test_given_a_request_when_the_addresses_change_then_it_is_changed_and_waited_for(juju):
    wanted = relation(u0=answer())
    with juju.hook(testing.State(relations=[wanted])) as charm:
        ours = certificates.Certificates(charm)
        assert ours.answer(NAME, ["198.18.0.11"]).state is State.WAITING
        assert ours.request(NAME, ["198.18.0.11"])


@pytest.mark.parametrize(
    "bag",
    [
        {},
        {"ca": "x"},
        {"ca": "x", "client.cert": "x", "client.key": "x"},
        answer("etcd_1"),
        {key: value for key, value in answer().items() if key != "etcd_0.server.key"},
        {key: value for key, value in answer().items() if key != "ca"},
    ],
)
def test_given_an_answer_that_is_not_whole_when_asked_then_waiting(juju, bag):
    found = ask(juju, relation(u0=bag))
    assert found == certificates.Answer(State.WAITING, "Waiting for a certificate from easyrsa")


def test_given_an_authority_without_units_yet_when_asked_then_waiting(juju):
    assert ask(juju, relation()).state is State.WAITING


@pytest.mark.parametrize("bags", [{"u0": answer()}, {"u0": {}, "u1": answer(), "u2": {}}])
def test_given_an_answer_in_any_unit_when_asked_then_ready_and_cut(juju, bags):
    found = ask(juju, relation(**bags))
    assert found.state is State.READY
    assert (found.cert, found.key, found.ca) == (pair().cert, pair().key, signer().cert)
    assert certificate.check_pair(found.cert, found.key, found.ca, NAME, SANS)
    assert "PRIVATE" not in repr(found)


def test_given_a_chain_when_asked_then_it_is_believed_too(juju):
    root = authority.Authority.create("root")
    found = ask(juju, relation(u0={**answer(), "chain": root.cert.decode()}))
    assert found.ca == signer().cert + root.cert


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("etcd_0.server.cert", "the certificate is not PEM"),
        ("etcd_0.server.key", "the private key is not PEM"),
        ("ca", "the certificate authority is not PEM"),
    ],
)
@pytest.mark.parametrize("garbage", ["nonsense", "-----BEGIN"])
def test_given_garbage_when_asked_then_wrong_and_the_command_that_ends_it(
    juju, key, what, garbage
):
    found = ask(juju, relation(u0={**answer(), key: garbage}))
    assert found.state is State.WRONG
    assert what in found.message
    assert (found.mend, found.leave) == ("mend easyrsa", "`juju remove-relation etcd easyrsa`")


def test_given_a_garbled_authority_when_asked_then_wrong_and_not_believed(juju):
    garbled = "-----BEGIN CERTIFICATE-----\nMIIBB=AAA\n-----END CERTIFICATE-----"
    with juju.hook(testing.State(relations=[relation(u0={**answer(), "ca": garbled})])) as charm:
        ours = certificates.Certificates(charm)
        assert ours.answer(NAME, SANS).state is State.WRONG
        assert ours.client_ca() == b""


def test_given_an_authority_that_has_not_answered_us_when_asked_then_its_ca_is_known(juju):
    with juju.hook(
        testing.State(relations=[relation(u0={}, u1={"ca": signer().cert.decode()})])
    ) as charm:
        assert certificates.Certificates(charm).client_ca() == signer().cert


def test_given_a_relation_that_is_broken_when_asked_then_not_related(juju):
    wanted = relation(u0=answer())
    context = juju.context
    with context(context.on.relation_broken(wanted), testing.State(relations=[wanted])) as manager:
        ours = certificates.Certificates(manager.charm)
        assert not ours.related
        assert not ours.request(NAME, SANS)
        assert ours.answer(NAME, SANS).state is State.NOT_RELATED


@settings(max_examples=1000, deadline=None)
@given(
    application=st.text("abz019-", min_size=1, max_size=90).map("a".__add__),
    number=st.integers(0, 10**6),
    uuid=st.uuids().map(str),
)
def test_given_any_unit_when_named_then_it_fits_and_is_a_file_name(application, number, uuid):
    name = certificates.common_name(application, f"{application}/{number}", uuid)
    assert len(name) <= 64
    assert name.endswith(f"-{number}-{uuid[:8]}")
    assert not set(name) & set("/ \n'\"")
    assert name == f"{application[: len(name) - len(f'-{number}-{uuid[:8]}')]}-{number}-{uuid[:8]}"
