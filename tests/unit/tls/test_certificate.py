from __future__ import annotations

import datetime
import functools
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid
from hypothesis import given, settings
from hypothesis import strategies as st

from tls import authority, certificate

DAY = 86400.0
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{1,8})?", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
SANS = st.lists(st.one_of(NAMES, ADDRESSES), max_size=6)


@functools.cache
def ours() -> authority.Authorities:
    return authority.Authorities.create("etcd")


@functools.cache
def others() -> authority.Authorities:
    return authority.Authorities.create("etcd")


@functools.cache
def pair() -> authority.Pair:
    return ours().client.sign("etcd-0", ["198.18.0.10", "etcd-0"], days=90)


def made(key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, **names: object):
    now = datetime.datetime.now(datetime.timezone.utc)
    begin = names.get("begin", now)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common(str(names["subject"])))
        .issuer_name(common(str(names["issuer"])))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(names.get("end", now + datetime.timedelta(days=9)))
        .add_extension(x509.BasicConstraints(bool(names.get("ca")), None), critical=True)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def common(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, text)])


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@settings(max_examples=300, deadline=None)
@given(sans=SANS, usage=st.sampled_from(authority.Usage), days=st.integers(1, 5000))
def test_given_any_names_when_signed_then_the_certificate_says_exactly_them(sans, usage, days):
    signer = ours().peer
    leaf = signer.sign("etcd-0", sans, usage, days, uris=["urn:one", "urn:two"])
    facts = certificate.parse(leaf.cert, signer.ca)
    assert facts.sans == certificate.normal_sans(sans)
    assert facts.common_name == "etcd-0"
    assert facts.uris == ("urn:one", "urn:two")
    assert facts.signer == signer.fingerprint
    assert facts.ca_fingerprint == certificate.bundle_fingerprint(signer.ca)
    root = x509.load_pem_x509_certificate(signer.cert)
    assert facts.not_after <= root.not_valid_after_utc.timestamp()
    now = datetime.datetime.now().timestamp()
    assert certificate.needs_renewal(facts, sans, now, signer.fingerprint, "etcd-0") == ""
    if usage is not authority.Usage.CLIENT:
        assert certificate.check_pair(leaf.cert, leaf.key, signer.ca, "etcd-0", sans) == facts


@settings(max_examples=500, deadline=None)
@given(sans=SANS)
def test_given_names_when_normalized_twice_or_shuffled_then_they_stay_the_same(sans):
    once = certificate.normal_sans(sans)
    assert certificate.normal_sans(once) == once == certificate.normal_sans(sans[::-1])


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300))
def test_given_any_bytes_when_checked_then_one_sentence_and_nothing_else(data):
    for cert, key, ca in (
        (data, pair().key, ours().client.ca),
        (pair().cert, data, ours().client.ca),
        (pair().cert, pair().key, data),
    ):
        with pytest.raises(certificate.CertificateError) as raised:
            certificate.check_pair(cert, key, ca, "etcd-0", ["198.18.0.10"])
        assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=300, deadline=None)
@given(where=st.integers(0, 10_000), value=st.integers(0, 255))
def test_given_a_damaged_certificate_when_checked_then_refused_or_equal(where, value):
    whole = bytearray(pair().cert)
    whole[where % len(whole)] = value
    try:
        facts = certificate.check_pair(
            bytes(whole), pair().key, ours().client.ca, "etcd-0", ["198.18.0.10"]
        )
    except certificate.CertificateError:
        return
    assert facts.fingerprint == certificate.fingerprint(pair().cert)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"common_name": "etcd-1"}, "the certificate is for 'etcd-0', not for 'etcd-1'"),
        ({"sans": ["198.18.0.10", "b.example", "::2"]}, "does not cover ::2, b.example"),
        ({"key": lambda: key_pem(new_key())}, "the private key does not belong"),
        ({"key": lambda: b"x"}, "the private key is not a PEM key without password"),
        ({"ca": lambda: others().client.ca}, "is not signed by the certificate authority"),
        ({"ca": lambda: ours().peer.ca}, "is not signed by the certificate authority"),
        ({"ca": lambda: b""}, "authority's certificate is not a PEM certificate"),
        ({"cert": lambda: b"hello"}, "the certificate is not a PEM certificate"),
        ({"now": 1e12}, "the certificate expired"),
        ({"now": 1e6}, "the certificate is not valid for another"),
    ],
)
def test_given_something_that_does_not_fit_when_checked_then_it_says_what(changed, sentence):
    arguments = {
        "cert": pair().cert,
        "key": pair().key,
        "ca": ours().client.ca,
        "common_name": "etcd-0",
        "sans": ["198.18.0.10"],
    }
    for name, value in changed.items():
        arguments[name] = value() if callable(value) else value
    with pytest.raises(certificate.CertificateError, match=sentence):
        certificate.check_pair(**arguments)


def test_given_a_client_certificate_when_checked_for_a_server_then_refused():
    leaf = ours().client.sign("root", (), authority.Usage.CLIENT)
    with pytest.raises(certificate.CertificateError, match="may not be used by a server"):
        certificate.check_pair(leaf.cert, leaf.key, ours().client.ca, "root", ())


def test_given_a_chain_with_an_intermediate_when_parsed_then_the_signer_is_the_root():
    root, middle, leaf = new_key(), new_key(), new_key()
    top = made(root, root, subject="root", issuer="root", ca=True)
    between = made(middle, root, subject="middle", issuer="root", ca=True)
    end = made(leaf, middle, subject="etcd-0", issuer="middle")
    facts = certificate.check_pair(end + between, key_pem(leaf), top, "etcd-0", ())
    assert facts.signer == certificate.fingerprint(top)
    assert facts.issuer == "middle"
    with pytest.raises(certificate.CertificateError, match="not signed by"):
        certificate.parse(end, top)


def test_given_two_certificates_that_sign_each_other_when_parsed_then_it_ends():
    one, two = new_key(), new_key()
    a = made(one, two, subject="a", issuer="b", ca=True)
    b = made(two, one, subject="b", issuer="a", ca=True)
    with pytest.raises(certificate.CertificateError, match="not signed by"):
        certificate.parse(a + b, ours().peer.ca)


def test_given_an_authority_of_the_same_name_when_parsed_then_refused():
    root, impostor, leaf = new_key(), new_key(), new_key()
    end = made(leaf, root, subject="etcd-0", issuer="root")
    other = made(impostor, impostor, subject="root", issuer="root", ca=True)
    with pytest.raises(certificate.CertificateError, match="not signed by"):
        certificate.parse(end, other)


@settings(max_examples=1000, deadline=None)
@given(left=st.floats(-2, 1, allow_nan=False), lifetime=st.floats(1, 5000))
def test_given_any_age_when_judged_then_due_in_the_last_third(left, lifetime):
    facts = certificate.Facts("etcd-0", "ca", ("a",), 0.0, lifetime * DAY, "f", "s", "c")
    now = lifetime * DAY * (1 - left)
    due = certificate.needs_renewal(facts, ["a"], now)
    if abs(left - certificate.RENEW_FRACTION) > 1e-9:
        assert bool(due) == (left < certificate.RENEW_FRACTION)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({}, ""),
        ({"sans": ["b", "a"]}, ""),
        ({"sans": ["a"]}, "the addresses changed"),
        ({"uris": ()}, ""),
        ({"uris": ("urn:one",)}, "the generation changed"),
        ({"sans": ["a", "b", "c"]}, "the addresses changed"),
        ({"signer": "other"}, "the certificate authority changed"),
        ({"common_name": "etcd-1"}, "it is for etcd-0"),
        ({"facts": None}, "there is none"),
        ({"now": -1.0}, "it is not valid yet: the clock was ahead when it was made"),
    ],
)
def test_given_a_fresh_certificate_when_judged_then_due_for_one_reason(wanted, reason):
    facts = certificate.Facts("etcd-0", "ca", ("a", "b"), 0.0, 100 * DAY, "f", "s", "c")
    arguments = {
        "facts": facts,
        "sans": ["a", "b"],
        "now": DAY,
        "signer": "s",
        "common_name": "etcd-0",
        **wanted,
    }
    assert certificate.needs_renewal(**arguments) == reason


def test_given_text_before_the_block_when_cut_then_only_the_block_is_left():
    text = b"Certificate:\n    Data:\n" + pair().cert + b"\n\n"
    assert certificate.cut(text) == pair().cert
    assert certificate.cut(text.decode()) == pair().cert
    assert certificate.cut("nothing") == b""


def test_given_bundles_when_joined_then_each_authority_is_there_once_and_in_order():
    a, b = ours().peer.cert, others().peer.cert
    joined = certificate.bundle(a, b + a, b"", ours().peer.key)
    assert joined == a + b
    assert certificate.bundle_fingerprint(b + a) == certificate.bundle_fingerprint(joined)
    assert certificate.bundle_fingerprint(a) != certificate.bundle_fingerprint(joined)


def test_given_windows_line_ends_when_joined_then_it_is_the_same_authority():
    a = ours().peer.cert
    assert certificate.fingerprint(a.replace(b"\n", b"\r\n")) == certificate.fingerprint(a)


def test_given_authorities_in_any_order_when_united_then_first_leads_and_the_rest_are_sorted():
    own, *others = (authority.Authority.create(f"root {n}").cert for n in range(4))
    expected = certificate.union(own, *others)
    assert certificate.split(expected)[0] == own
    assert set(certificate.split(expected)) == {own, *others}
    assert certificate.union(own, b"".join(reversed(others)), own, b"garbage") == expected
    assert certificate.split(certificate.without(expected, own)) == sorted(others)


def test_given_more_than_etcd_should_read_when_united_then_the_first_and_what_fits():
    own = authority.Authority.create("root").cert
    many = [authority.Authority.create(f"root {n}").cert for n in range(3)]
    with mock.patch.object(certificate, "LARGEST", len(own) * 2 + 200):
        assert certificate.split(certificate.union(own, *many)) == [own, min(many)]
