"""Certificate authorities of our own: one for peers, one for clients, in one Juju secret."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import hashlib
import ipaddress
import secrets
from typing import TYPE_CHECKING

from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

CA_DAYS = 3650
LEAF_DAYS = 365
_SKEW = datetime.timedelta(hours=24)
"""Certificates are valid from this long before they are made: machines' clocks disagree."""


class KeyType(enum.Enum):
    """What kind of private key a certificate is made for."""

    EC = "ec"  # P-256
    RSA = "rsa"  # 3072 bits, for clients that know nothing else


class Usage(enum.Enum):
    """What a certificate may be used for."""

    SERVER = "server"
    CLIENT = "client"
    BOTH = "both"  # etcd's peers are both; its gateway dials its own server as a client


@dataclasses.dataclass(frozen=True)
class Pair:
    """A PEM certificate and its unencrypted PEM private key."""

    cert: bytes
    key: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign.

    Attributes:
        cert: PEM certificate of the authority that signs.
        key: its PEM private key (EC P-256).
        trust: PEM of further authorities to believe, while one replaces another.
    """

    cert: bytes
    key: bytes = dataclasses.field(repr=False)
    trust: bytes = b""

    @property
    def ca(self) -> bytes:
        """PEM bundle of all authorities to believe."""
        return certificate.bundle(self.cert, self.trust)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the signing certificate, hexadecimal: `Facts.signer` of what it signs."""
        return certificate.fingerprint(self.cert)

    @classmethod
    def create(cls, common_name: str, days: int = CA_DAYS) -> Authority:
        """Make a new self-signed authority, valid for `days`."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = subject(common_name)
        now = _now()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(made), key_pem(key))

    def sign(
        self,
        common_name: str,
        sans: Iterable[str] = (),
        usage: Usage = Usage.BOTH,
        days: float = LEAF_DAYS,
        uris: Iterable[str] = (),
        key_type: KeyType = KeyType.EC,
    ) -> Pair:
        """Make a key and sign a certificate for it.

        Args:
            common_name: CN, at most 64 characters (RFC 5280, ub-common-name).
            sans: addresses (IPv4 or IPv6) and host names.
            usage: extended key usage.
            days: lifetime, cut to what the authority itself has left.
            uris: names that no address is checked against.
            key_type: of the key that is made.

        Raises:
            ValueError: a name that cannot stand in a certificate.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        ours = x509.load_pem_x509_certificate(self.cert)
        signer = serialization.load_pem_private_key(self.key, password=None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an elliptic curve key")
        key = _new_key(key_type)
        now = _now()
        until = min(now + datetime.timedelta(days=days), ours.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(common_name))
            .issuer_name(ours.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - _SKEW, ours.not_valid_before_utc))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(_extended(usage), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
        )
        names = [general_name(san) for san in certificate.normal_sans(sans)]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(_pem(builder.sign(signer, hashes.SHA256())), key_pem(key))


@dataclasses.dataclass(frozen=True)
class Authorities:
    """The application's two trust domains."""

    peer: Authority
    client: Authority

    @classmethod
    def create(cls, application: str) -> Authorities:
        """Make both; their names carry a random part, so that a successor is another subject."""
        mark = secrets.token_hex(4)
        short = application[:40]
        return cls(
            Authority.create(f"{short} peer CA {mark}"),
            Authority.create(f"{short} client CA {mark}"),
        )

    @property
    def mark(self) -> str:
        """A short public fingerprint of everything to believe and of who signs."""
        parts = "\n".join(
            (
                self.peer.fingerprint,
                certificate.bundle_fingerprint(self.peer.ca),
                self.client.fingerprint,
                certificate.bundle_fingerprint(self.client.ca),
            )
        )
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def to_secret(self) -> dict[str, str]:
        """The content of the Juju secret."""
        content = {
            "peer-ca-cert": self.peer.cert.decode(),
            "peer-ca-key": self.peer.key.decode(),
            "client-ca-cert": self.client.cert.decode(),
            "client-ca-key": self.client.key.decode(),
        }
        if self.peer.trust:
            content["peer-ca-trust"] = self.peer.trust.decode()
        if self.client.trust:
            content["client-ca-trust"] = self.client.trust.decode()
        return content

    @classmethod
    def from_secret(cls, content: Mapping[str, str]) -> Authorities:
        """Read the content of the Juju secret.

        Raises:
            ValueError: a part is missing or is not PEM.
        """
        try:
            return cls(_load(content, "peer"), _load(content, "client"))
        except KeyError as error:
            raise ValueError(f"the authorities secret has no {error}") from error


def _load(content: Mapping[str, str], domain: str) -> Authority:
    cert = content[f"{domain}-ca-cert"].encode()
    key = content[f"{domain}-ca-key"].encode()
    if not certificate.split(cert) or b"PRIVATE KEY-----" not in key:
        raise ValueError(f"the authorities secret's {domain} authority is not PEM")
    return Authority(cert, key, content.get(f"{domain}-ca-trust", "").encode())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def subject(common_name: str) -> x509.Name:
    """A name that is only a CN, or nothing."""
    from cryptography import x509
    from cryptography.x509 import oid

    names = [x509.NameAttribute(oid.NameOID.COMMON_NAME, common_name)] if common_name else []
    return x509.Name(names)


def general_name(san: str) -> x509.GeneralName:
    """An address or a host name as certificates have it."""
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _extended(usage: Usage) -> x509.ExtendedKeyUsage:
    from cryptography import x509
    from cryptography.x509 import oid

    server = oid.ExtendedKeyUsageOID.SERVER_AUTH
    client = oid.ExtendedKeyUsageOID.CLIENT_AUTH
    if usage is Usage.SERVER:
        return x509.ExtendedKeyUsage([server])
    if usage is Usage.CLIENT:
        return x509.ExtendedKeyUsage([client])
    return x509.ExtendedKeyUsage([server, client])


def _pem(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return cert.public_bytes(serialization.Encoding.PEM)


def _new_key(key_type: KeyType) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if key_type is KeyType.RSA:
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """The key as unencrypted PEM (PKCS #8)."""
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
