from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import ssl
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from tls import authority, certificate


@functools.cache
def ours() -> authority.Authorities:
    return authority.Authorities.create("etcd")


def test_given_authorities_when_stored_in_a_secret_then_they_come_back_equal():
    content = ours().to_secret()
    assert authority.Authorities.from_secret(content) == ours()
    assert all(re.fullmatch(r"[a-z](?:-?[a-z0-9]){2,}", key) for key in content)


def test_given_a_rotation_when_stored_in_a_secret_then_both_authorities_are_believed():
    new = authority.Authority.create("new")
    rotated = dataclasses.replace(ours(), peer=dataclasses.replace(new, trust=ours().peer.cert))
    back = authority.Authorities.from_secret(rotated.to_secret())
    old_leaf = ours().peer.sign("etcd-0")
    new_leaf = back.peer.sign("etcd-0")
    assert certificate.parse(old_leaf.cert, back.peer.ca).signer == ours().peer.fingerprint
    assert certificate.parse(new_leaf.cert, back.peer.ca).signer == new.fingerprint
    assert back.mark != ours().mark


@pytest.mark.parametrize("missing", ["peer-ca-cert", "client-ca-key"])
def test_given_a_secret_without_a_part_when_read_then_one_sentence(missing):
    content = ours().to_secret()
    del content[missing]
    with pytest.raises(ValueError, match=missing):
        authority.Authorities.from_secret(content)
    content[missing] = "garbage"
    with pytest.raises(ValueError, match="is not PEM"):
        authority.Authorities.from_secret(content)


def test_given_an_application_with_a_long_name_when_made_then_the_names_fit():
    made = authority.Authorities.create("a" * 200)
    assert made.peer.sign("x" * 64).cert


def test_given_an_authority_when_printed_then_its_key_is_not_shown():
    assert "PRIVATE" not in repr(ours())
    assert "PRIVATE" not in repr(ours().peer.sign("x"))


def test_given_the_two_domains_when_tried_on_each_other_then_neither_believes_the_other():
    with pytest.raises(certificate.CertificateError):
        certificate.parse(ours().peer.sign("etcd-0").cert, ours().client.ca)


def test_given_a_short_authority_when_it_signs_then_the_certificate_ends_with_it():
    short = authority.Authority.create("short", days=10)
    facts = certificate.parse(short.sign("x", days=365).cert, short.ca)
    root = certificate.parse(short.cert, short.ca)
    assert facts.not_after == root.not_after


def test_given_a_peer_certificate_when_shaken_hands_with_then_both_directions_work(tmp_path):
    signer = ours().peer
    pair = signer.sign("etcd-0", ["127.0.0.1", "::1"])
    (tmp_path / "cert").write_bytes(pair.cert)
    (tmp_path / "key").write_bytes(pair.key)
    (tmp_path / "ca").write_bytes(signer.ca)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tmp_path / "ca"))
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    one, two, three, four = (ssl.MemoryBIO() for _ in range(4))
    at_server = server.wrap_bio(one, two, server_side=True)
    at_client = client.wrap_bio(three, four, server_hostname="127.0.0.1")
    for _ in range(6):
        for side in (at_client, at_server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            one.write(four.read())
            three.write(two.read())
    assert at_server.version() == "TLSv1.3"
    peer = at_server.getpeercert()
    assert peer is not None
    assert peer["subject"][0][0] == ("commonName", "etcd-0")


def test_given_the_tls_floor_when_imported_then_cryptography_is_not_loaded():
    code = (
        "import sys; import tls.authority, tls.client_archive, tls.certificate, tls.store;"
        "sys.exit(any(name.startswith(('cryptography', 'ops')) for name in sys.modules))"
    )
    path = f"{authority.__file__.rpartition('/tls/')[0]}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False, timeout=60
    )
    assert done.returncode == 0


@pytest.mark.parametrize(("kind", "bits"), [("ec", 256), ("rsa", 3072)])
def test_given_a_key_type_when_a_client_is_signed_for_then_its_key_is_of_it(kind: str, bits: int):
    signer = authority.Authority.create("CA")
    made = signer.sign("alice", (), authority.Usage.CLIENT, key_type=authority.KeyType(kind))
    key = serialization.load_pem_private_key(made.key, password=None)
    assert key.key_size == bits
    assert certificate.parse(made.cert, signer.ca).common_name == "alice"
