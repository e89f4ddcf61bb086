"""What a certificate says, whether it fits, and when it is due: PEM in, facts out.

`cryptography` costs a third of a hook's start-up time, so only the functions that parse import it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import ipaddress
import math
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from cryptography import x509

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_BODY = re.compile(rb"\s[A-Za-z0-9+/=\s]+")
LARGEST = 256 * 1024  # bytes of all certificates of one answer: a hundred of the usual size
_LARGEST_KEY = 16 * 1024  # bytes of a PEM key: twice those of RSA with 8192 bits
_RSA_BITS = (1024, 8192)  # that Go's TLS takes part with
DAY = 86400.0
_LONGEST_CHAIN = 8
RENEW_FRACTION = 1 / 3
"""A certificate is due when less than this part of its lifetime is left."""


class CertificateError(Exception):
    """A certificate, key or authority cannot be used; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a certificate and the authorities published with it say.

    Attributes:
        common_name: CN of the subject, "" without one.
        issuer: CN of the issuer, "" without one.
        sans: subject alternative names, addresses and host names, normalized and sorted.
        not_before: Unix seconds.
        not_after: Unix seconds.
        fingerprint: SHA-256 of the certificate, hexadecimal.
        signer: SHA-256 of the authority's certificate that the chain ends at.
        ca_fingerprint: SHA-256 over the set of authorities.
        uris: subject alternative names that are URIs, in order.
        serial: the serial number, hexadecimal, "" where it was not noted.
        chain_begins: `not_before` of the authority in its chain that ends first.
        chain_ends: `not_after` of that one, 0 where it was not noted.
    """

    common_name: str
    issuer: str
    sans: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: str
    signer: str
    ca_fingerprint: str
    uris: tuple[str, ...] = ()
    serial: str = ""
    chain_begins: float = 0.0
    chain_ends: float = 0.0

    def days_left(self, now: float) -> float:
        """Days until it expires, negative afterwards; `now` in Unix seconds."""
        return (self.not_after - now) / DAY


def cut(text: bytes | str) -> bytes:
    """The PEM part of `text`, from the first BEGIN line on, with one newline at the end.

    EasyRSA sends certificates with `openssl -text` output before the block.
    """
    raw = text.encode() if isinstance(text, str) else text
    start = raw.find(b"-----BEGIN ")
    return raw[start:].strip() + b"\n" if start >= 0 else b""


def split(pem: bytes) -> list[bytes]:
    """The certificates in `pem`, each as a PEM of its own; other blocks are left out."""
    return [_BEGIN + body + _END + b"\n" for body in _bodies(pem)]


def _bodies(pem: bytes) -> list[bytes]:
    """What stands between the lines of each certificate, found in one pass."""
    found: list[bytes] = []
    end = 0
    while (begin := pem.find(_BEGIN, end)) >= 0:
        begin += len(_BEGIN)
        end = pem.find(_END, begin)
        if end < 0:
            break
        begin = max(begin, pem.rfind(_BEGIN, begin, end) + len(_BEGIN))
        if _BODY.fullmatch(pem, begin, end):
            found.append(pem[begin:end])
        end += len(_END)
    return found


def authorities(*pems: bytes) -> bytes:
    """One PEM of authorities' certificates, each read in full: etcd does not start with a bad one.

    Raises:
        CertificateError: one of them cannot be read or used, or there is too much.
    """
    what = "the certificate authority's certificate"
    if sum(map(len, pems)) > LARGEST:
        raise CertificateError(f"{what} has more than {LARGEST >> 10} KiB")
    joined = bundle(*pems)
    for each in loaded(joined, what) if joined else ():
        with reading(what):
            _refuse_unusable(each)
    return joined


def _refuse_unusable(cert: x509.Certificate) -> None:
    """Read what is read lazily, and refuse what Go refuses."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    list(cert.extensions)
    _ = cert.subject, cert.issuer, cert.not_valid_before_utc, cert.not_valid_after_utc
    key = cert.public_key()
    least, most = _RSA_BITS
    usable = isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and least <= key.key_size <= most
    )
    if not usable:
        raise ValueError("its key is of no kind or size in use")
    if cert.serial_number <= 0:
        raise ValueError("its serial number is not positive")


def union(first: bytes, *pems: bytes) -> bytes:
    """`first`, then the distinct other certificates of all `pems`, the same in whatever order.

    What cannot be read or used is left out, and so is what is more than `LARGEST` bytes.
    """
    others: set[bytes] = set()
    for pem in pems:
        with contextlib.suppress(CertificateError):
            others |= set(split(authorities(pem)))
    joined = bundle(first)
    for each in sorted(others - set(split(first))):
        joined += each if len(joined) + len(each) <= LARGEST else b""
    return joined


def without(pem: bytes, known: bytes) -> bytes:
    """The certificates in `pem` that are not in `known`."""
    given = split(known)
    return b"".join(each for each in split(pem) if each not in given)


def bundle(*pems: bytes) -> bytes:
    """One PEM with the distinct certificates of all `pems`, in order of first appearance."""
    found: dict[str, bytes] = {}
    for pem in pems:
        for block in split(pem):
            found.setdefault(fingerprint(block), block)
    return b"".join(found.values())


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate in `pem`, hexadecimal.

    Raises:
        CertificateError: there is no certificate in it.
    """
    body = next(iter(_bodies(pem)), None)
    if body is None:
        raise CertificateError("there is no PEM certificate in it")
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise CertificateError(f"the PEM certificate is garbled: {error}") from error
    return hashlib.sha256(der).hexdigest()


def bundle_fingerprint(pem: bytes) -> str:
    """SHA-256 over the set of certificates in `pem`: order and repetition do not count."""
    each = sorted({fingerprint(block) for block in split(pem)})
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def normal_sans(sans: Iterable[str]) -> tuple[str, ...]:
    """`sans` without repetition, addresses in canonical form, host names lower-case, sorted."""
    return tuple(sorted({_normal(san) for san in sans if san}))


def _normal(san: str) -> str:
    try:
        return str(ipaddress.ip_address(san.strip("[]")))
    except ValueError:
        return san.lower()


def parse(cert: bytes, ca: bytes) -> Facts:
    """Read `cert` (a certificate, with its intermediates if any) against the authorities `ca`.

    Raises:
        CertificateError: either is not PEM, or the certificate does not chain to `ca`.
    """
    from cryptography.hazmat.primitives import hashes

    chain = loaded(cert, "the certificate")
    roots = loaded(ca, "the certificate authority's certificate")
    leaf, above = chain[0], _authorities_of(chain, roots)
    first = min(above, key=lambda each: each.not_valid_after_utc)
    with reading("the certificate"):
        sans, uris = alternative_names(leaf)
        return Facts(
            common_name=common_name_of(leaf.subject),
            issuer=common_name_of(leaf.issuer),
            sans=normal_sans(sans),
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            fingerprint=fingerprint(cert),
            signer=above[-1].fingerprint(hashes.SHA256()).hex(),
            ca_fingerprint=bundle_fingerprint(ca),
            uris=uris,
            serial=f"{leaf.serial_number:x}",
            chain_begins=first.not_valid_before_utc.timestamp(),
            chain_ends=first.not_valid_after_utc.timestamp(),
        )


def check_pair(
    cert: bytes,
    key: bytes,
    ca: bytes,
    common_name: str,
    sans: Iterable[str],
    now: float | None = None,
) -> Facts:
    """Refuse a certificate that etcd could not serve with, or that was meant for another.

    Args:
        cert: PEM certificate, intermediates after it.
        key: PEM private key, not encrypted.
        ca: PEM of the authorities it must chain to.
        common_name: who it must be for.
        sans: addresses and host names that it must cover; more are accepted.
        now: Unix seconds, by default the clock.

    Raises:
        CertificateError: what is wrong with it, in one sentence.
    """
    if len(cert) > LARGEST or len(key) > _LARGEST_KEY:
        raise CertificateError("the certificate or its private key is too long to be one")
    facts = parse(cert, ca)
    with reading("the certificate"):
        _refuse_unusable(loaded(cert, "the certificate")[0])
    now = time.time() if now is None else now
    if facts.common_name != common_name:
        raise CertificateError(
            f"the certificate is for '{facts.common_name}', not for '{common_name}'"
        )
    missing = [san for san in normal_sans(sans) if san not in facts.sans]
    if missing:
        raise CertificateError(f"the certificate does not cover {', '.join(missing)}")
    if not _matches(cert, key):
        raise CertificateError("the private key does not belong to the certificate")
    if facts.not_after <= now:
        raise CertificateError(f"the certificate expired {-facts.days_left(now):.0f} days ago")
    if facts.not_before > now + DAY:
        raise CertificateError(
            f"the certificate is not valid for another {(facts.not_before - now) / DAY:.0f} days"
            " (compare the clocks)"
        )
    if not _serves(cert):
        raise CertificateError("the certificate may not be used by a server")
    return facts


def is_valid_at(cert: bytes, now: float) -> bool:
    """Whether the dates of a certificate include `now`, Unix seconds.

    Raises:
        CertificateError: it is not a PEM certificate.
    """
    leaf = loaded(cert, "the certificate")[0]
    return leaf.not_valid_before_utc.timestamp() <= now <= leaf.not_valid_after_utc.timestamp()


def needs_renewal(
    facts: Facts | None,
    sans: Iterable[str],
    now: float,
    signer: str | None = None,
    common_name: str | None = None,
    uris: tuple[str, ...] | None = None,
) -> str:
    """Why a certificate of ours is due, "" when it is not.

    Args:
        facts: of the present one, None when there is none.
        sans: what it should cover, no more and no less.
        now: Unix seconds.
        signer: fingerprint of the authority that should have signed it, None for any.
        common_name: who it should be for, None for any.
        uris: the URIs that it should have, None for any.
    """
    if facts is None:
        return "there is none"
    if common_name is not None and facts.common_name != common_name:
        return f"it is for {facts.common_name}"
    if normal_sans(sans) != facts.sans:
        return "the addresses changed"
    if uris is not None and facts.uris != uris:
        return "the generation changed"
    if signer is not None and facts.signer != signer:
        return "the certificate authority changed"
    if facts.not_before > now:
        return "it is not valid yet: the clock was ahead when it was made"
    if ends_soon(facts, now):
        return f"it has {max(0.0, facts.days_left(now)):.0f} days left"
    return ""


def ends_soon(facts: Facts, now: float) -> bool:
    """Whether less than `RENEW_FRACTION` of its lifetime is left; `now` in Unix seconds."""
    return now > due_at(facts)


def due_at(facts: Facts) -> float:
    """When less than `RENEW_FRACTION` of its lifetime is left, in Unix seconds."""
    return facts.not_after - (facts.not_after - facts.not_before) * RENEW_FRACTION


def next_due(many: Iterable[Facts], since: float) -> float:
    """When the first of these is due that was not at `since`; Unix seconds, infinite for none."""
    return min((due for due in map(due_at, many) if due >= since), default=math.inf)


@contextlib.contextmanager
def reading(what: str) -> Generator[None]:
    """Parsing is lazy: a damaged certificate can fail at any of its fields."""
    from cryptography import exceptions, x509

    try:
        yield
    except (
        ValueError,
        TypeError,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
        exceptions.UnsupportedAlgorithm,
    ) as error:
        reason = " ".join(str(error).split())
        raise CertificateError(f"{what} cannot be read: {reason}") from error


def loaded(pem: bytes, what: str) -> list[x509.Certificate]:
    """Each certificate of a PEM text, in order.

    Args:
        pem: one at least.
        what: it is, as a refusal says.

    Raises:
        CertificateError: one cannot be read, or there is none.
    """
    from cryptography import x509

    with reading(what):
        found = [x509.load_pem_x509_certificate(block) for block in split(pem)]
    if not found:
        raise CertificateError(f"{what} is not a PEM certificate")
    return found


def common_name_of(name: x509.Name) -> str:
    """The common name of a subject or an issuer, "" without one."""
    from cryptography.x509 import oid

    values = name.get_attributes_for_oid(oid.NameOID.COMMON_NAME)
    return str(values[0].value) if values else ""


def alternative_names(cert: x509.Certificate) -> tuple[list[str], tuple[str, ...]]:
    """Addresses and host names of a certificate, then its URIs, each in their order."""
    from cryptography import x509

    try:
        names = list(cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return [], ()
    uris = tuple(n.value for n in names if isinstance(n, x509.UniformResourceIdentifier))
    others = [n for n in names if not isinstance(n, x509.UniformResourceIdentifier)]
    return [str(name.value) for name in others], uris


def _authorities_of(
    chain: list[x509.Certificate], roots: list[x509.Certificate]
) -> list[x509.Certificate]:
    """The authorities above a leaf, in order, the root that its `chain` ends at last."""
    at = chain[0]
    found: list[x509.Certificate] = []
    for _ in range(_LONGEST_CHAIN):
        for root in roots:
            if _issued(at, root):
                return [*found, root]
        above = next((c for c in chain[1:] if c is not at and _issued(at, c)), None)
        if above is None:
            break
        found.append(above)
        at = above
    raise CertificateError(
        "the certificate is not signed by the certificate authority that came with it"
    )


def _issued(cert: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography import exceptions

    try:
        cert.verify_directly_issued_by(authority)
    except (
        ValueError,
        TypeError,
        exceptions.InvalidSignature,
        exceptions.UnsupportedAlgorithm,
    ):
        return False
    return True


def _matches(cert: bytes, key: bytes) -> bool:
    from cryptography import exceptions
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, exceptions.UnsupportedAlgorithm) as error:
        raise CertificateError("the private key is not a PEM key without password") from error
    leaf = loaded(cert, "the certificate")[0]
    form = (
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )
    with reading("the certificate"):
        public = leaf.public_key().public_bytes(*form)
    return private.public_key().public_bytes(*form) == public


def _serves(cert: bytes) -> bool:
    from cryptography import x509
    from cryptography.x509 import oid

    leaf = loaded(cert, "the certificate")[0]
    try:
        # `parse` has read the extensions before.
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    serving = (oid.ExtendedKeyUsageOID.SERVER_AUTH, oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    return any(usage in serving for usage in usages)
