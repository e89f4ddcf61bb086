"""The newer protocol of the `certificates` endpoint: the authority signs, the key stays."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import testing

from relations import certificates
from tls import certificate, csr, store

NAME = "etcd-0-1a2b3c4d"
SANS = ["198.18.0.10", "2001:db8::10", "etcd-0"]
State = certificates.State


class Authority:
    """Signs requests as the providers of the newer protocol do: root, intermediate, leaf."""

    def __init__(self) -> None:
        self.root_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = self._sign("root", "root", self.root_key.public_key(), self.root_key, True)
        self.ca = self._sign("middle", "root", self.key.public_key(), self.root_key, True)

    def _sign(self, subject, issuer, public, key, ca, sans=None) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(f"CN={subject}"))
            .issuer_name(x509.Name.from_rfc4514_string(f"CN={issuer}"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if sans is not None:
            builder = builder.add_extension(sans, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def answer(self, csr: bytes, **more: object) -> dict[str, object]:
        asked = x509.load_pem_x509_csr(csr)
        assert asked.is_signature_valid
        sans = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        name = asked.subject.rfc4514_string().removeprefix("CN=")
        leaf = self._sign(name, "middle", asked.public_key(), self.key, False, sans).decode()
        return {
            "certificate_signing_request": csr.decode().strip(),
            "certificate": leaf.strip(),
            "ca": self.ca.decode().strip(),
            "chain": [leaf.strip(), self.ca.decode().strip(), self.root.decode().strip()],
            **more,
        }


AUTHORITY = Authority()
ASKED = csr.make(NAME, SANS)


def relation(*entries: object, raw: str | None = None, **arguments) -> testing.Relation:
    text = json.dumps(entries) if raw is None else raw
    return testing.Relation(
        "certificates",
        remote_app_name="vault",
        local_unit_data={
            "common_name": NAME,
            "sans": json.dumps(certificate.normal_sans(SANS)),
        },
        remote_app_data={"certificates": text} if text else {},
        **arguments,
    )


def ask(juju, wanted: testing.Relation) -> certificates.Answer:
    with juju.hook(testing.State(relations=[wanted])) as charm:
        return certificates.Certificates(charm).answer(NAME, SANS, ASKED)


def test_given_a_relation_when_requested_then_both_protocols_are_spoken(juju):
    wanted = relation(raw="")
    with juju.hook(testing.State(relations=[wanted])) as charm:
        ours = certificates.Certificates(charm)
        assert ours.request(NAME, SANS, ASKED)
        assert not ours.request(NAME, SANS, ASKED)
        assert ours.request(NAME, SANS, csr.make(NAME, SANS))
        ours.request(NAME, SANS, ASKED)
    bag = juju.bag(wanted)
    assert json.loads(bag["certificate_signing_requests"]) == [
        {"certificate_signing_request": ASKED.csr.decode().strip(), "ca": False}
    ]
    assert bag["common_name"] == NAME
    assert "PRIVATE" not in str(bag)


def test_given_an_answer_when_asked_then_ready_and_our_store_accepts_it(juju, tmp_path):
    other = AUTHORITY.answer(csr.make("etcd-1", SANS).csr)
    found = ask(juju, relation(other, AUTHORITY.answer(ASKED.csr)))
    assert found.state is State.READY
    assert found.key == ASKED.key
    disk = store.Store(tmp_path, owner=None)
    assert disk.accept("server", found.cert, found.key, found.ca, NAME, SANS)
    assert not disk.accept("server", found.cert, found.key, found.ca, NAME, SANS)


def test_given_only_answers_to_others_when_asked_then_waiting_but_the_ca_is_known(juju):
    other = AUTHORITY.answer(csr.make("etcd-1", SANS).csr)
    wanted = relation(other)
    assert ask(juju, wanted).state is State.WAITING
    with juju.hook(testing.State(relations=[wanted])) as charm:
        believed = certificates.Certificates(charm).client_ca()
    assert AUTHORITY.ca in believed


def test_given_a_revoked_answer_when_asked_then_another_is_waited_for(juju):
    revoked = AUTHORITY.answer(ASKED.csr, revoked=True)
    found = ask(juju, relation(revoked))
    assert found == certificates.Answer(
        State.WAITING,
        "Waiting for another certificate from vault, which revoked the one of before",
    )
    assert ask(juju, relation(revoked, AUTHORITY.answer(ASKED.csr))).state is State.READY


def error(csr: bytes, code: int, **more: str) -> dict[str, object]:
    """As the interface's library writes it for a provider."""
    said = {"code": code, "name": "DOMAIN_NOT_ALLOWED", "message": "etcd-0 is no name of ours"}
    return {"csr": csr.decode(), "error": {**said, **more}}


def deny(juju, *errors: object, answers: tuple[object, ...] = (), raw: str = ""):
    """What is made of an authority's errors, beside its answers."""
    wanted = relation(*answers)
    bag = {**wanted.remote_app_data, "request_errors": raw or json.dumps(errors)}
    return ask(juju, dataclasses.replace(wanted, remote_app_data=bag))


@pytest.mark.parametrize("code", [101, 102, 103, 999, 0])
def test_given_a_denied_request_when_asked_then_who_denied_it_why_and_what_to_do(juju, code):
    found = deny(juju, error(ASKED.csr, code))
    assert found.state is State.WRONG
    assert found.message == (
        "vault denied this unit's request for a certificate: etcd-0 is no name of ours"
    )
    assert found.mend == "configure vault to sign for 198.18.0.10, 2001:db8::10, etcd-0"


def test_given_a_server_that_is_away_when_asked_then_it_waits_and_says_for_what(juju):
    found = deny(juju, error(ASKED.csr, 201, message="", reason="no route to the server"))
    assert found == certificates.Answer(
        State.WAITING, "Waiting for vault, which cannot sign now: no route to the server"
    )


def test_given_an_error_of_another_request_when_asked_then_it_waits_as_before(juju):
    other = csr.make("etcd-1", SANS).csr
    waits = certificates.Answer(State.WAITING, "Waiting for a certificate from vault")
    assert deny(juju, error(other, 102)) == waits


def test_given_a_certificate_beside_an_older_error_when_asked_then_it_is_ready(juju):
    found = deny(juju, error(ASKED.csr, 102), answers=(AUTHORITY.answer(ASKED.csr),))
    assert found.state is State.READY


def test_given_words_that_steer_a_terminal_when_denied_then_they_are_made_printable(juju):
    found = deny(juju, error(ASKED.csr, 999, message="\x1b[2J\n" + "a" * 5000, reason="\0"))
    assert found.message.isprintable() and len(found.message) < 400


@pytest.mark.parametrize(
    "raw",
    ["[", "{}", "7", "[" * 100_000, '[7, null, "x", {}, {"csr": 7}, {"csr": null, "error": 7}]'],
)
def test_given_errors_that_are_none_when_asked_then_it_waits(juju, raw):
    assert deny(juju, raw=raw).state is State.WAITING


@pytest.mark.parametrize("said", [None, 7, [], "x", {}, {"code": []}, {"message": {"a": 1}}])
def test_given_an_error_that_says_nothing_when_asked_then_one_sentence_all_the_same(juju, said):
    found = deny(juju, {"csr": ASKED.csr.decode(), "error": said})
    assert found.message.isprintable()
    assert "None" not in found.message
    assert found.state is (State.WRONG if isinstance(said, dict) else State.WAITING)


@pytest.mark.parametrize("key", ["certificate", "ca"])
def test_given_garbage_when_asked_then_wrong(juju, key):
    assert ask(juju, relation(AUTHORITY.answer(ASKED.csr, **{key: "x"}))).state is State.WRONG


@settings(max_examples=1000, deadline=None)
@given(
    text=st.text(max_size=30)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["certificate", "ca", "chain", "revoked"]), inner)
        ),
    ).map(json.dumps)
)
def test_given_any_databag_when_read_then_it_never_crashes(text):
    for entry in certificates._entries(text):
        cert, ca = certificates._chain(entry)
        assert isinstance(cert, bytes)
        assert isinstance(ca, bytes)


def test_given_an_authority_of_the_older_kind_when_asked_with_a_request_then_it_is_heard(juju):
    found = ask(juju, relation(raw="", remote_units_data={0: {"ca": "x"}}))
    assert found.state is State.WAITING


def test_given_the_same_names_when_ensured_then_the_request_and_its_key_stay(tmp_path):
    ours = csr.Requests(tmp_path / "tls" / "request.json")
    first = ours.ensure(NAME, SANS)
    assert ours.ensure(NAME, SANS[::-1]) == first
    assert ours.ensure(NAME, SANS[:1]) != first
    assert (tmp_path / "tls" / "request.json").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(first)


def test_given_a_certificate_that_is_due_when_ensured_then_made_anew_once(tmp_path):
    ours = csr.Requests(tmp_path / "request.json")
    first = ours.ensure(NAME, SANS)
    second = ours.ensure(NAME, SANS, spent=first.key)
    assert second != first
    assert ours.ensure(NAME, SANS, spent=first.key) == second


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"for": 1}'])
def test_given_a_damaged_file_when_ensured_then_made_anew(tmp_path, text):
    path = pathlib.Path(tmp_path / "request.json")
    path.write_text(text)
    ours = csr.Requests(path)
    assert ours.ensure(NAME, SANS) == ours.ensure(NAME, SANS)
