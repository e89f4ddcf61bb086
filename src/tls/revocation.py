"""Certificates that are believed no more: their serial numbers, and the list that etcd reads.

etcd reads the list again at every handshake that it accepts, on both ports, and compares serial
numbers alone (client/pkg/transport, `checkCRL`); without a readable list it accepts nobody.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tls import authority

_TOLD = re.compile(r"([0-9a-f]{1,40}):([0-9]{1,12})")
_LONGEST = 64  # characters of one with the space behind it
_OF_ONE = 32  # certificates of one unit that are remembered, those that end last
_OF_ALL = 2000  # that are listed: etcd reads them all at every handshake


def of_unit(text: str) -> dict[str, int]:
    """What a unit says of its certificates: serial number, hexadecimal, to its end, Unix seconds.

    Words that cannot be read are left out.
    """
    return _read(text, _OF_ONE)


def of_all(text: str) -> dict[str, int]:
    """The same of all that are believed no more."""
    return _read(text, _OF_ALL)


def _read(text: str, most: int) -> dict[str, int]:
    matches = (_TOLD.fullmatch(word) for word in text[: _LONGEST * most].split())
    return latest({m[1].lstrip("0"): int(m[2]) for m in matches if m}, most)


def to_text(serials: Mapping[str, int]) -> str:
    """The same as text."""
    return " ".join(f"{serial}:{until}" for serial, until in sorted(serials.items()))


def latest(serials: Mapping[str, int], most: int = _OF_ALL, now: float = 0.0) -> dict[str, int]:
    """Those that end last, without those that have ended."""
    kept = sorted(serials.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return {serial: until for serial, until in sorted(kept) if serial and until > now}


def merged(known: Mapping[str, int], said: Mapping[str, int]) -> dict[str, int]:
    """What is remembered of one unit, with what it says now."""
    return latest({**known, **said}, _OF_ONE)


def render(signer: authority.Authority, serials: Mapping[str, int]) -> bytes:
    """The list as etcd reads it (DER), signed by `signer`.

    One list serves both ports: etcd asks for no issuer.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ours = x509.load_pem_x509_certificate(signer.cert)
    key = serialization.load_pem_private_key(signer.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not an elliptic curve key")
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ours.subject)
        .last_update(min(now, ours.not_valid_before_utc))
        .next_update(ours.not_valid_after_utc)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        made = made.add_revoked_certificate(entry.revocation_date(now).build())
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
