"""What certificates and authorities a unit has, and what each is for."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

    from tls import store

NAMES = ("server", "peer", "client", "founder", "gateway")
"""Every certificate of a unit by its name in the store; those that it has not are left out."""
_NEEDED_BY = {
    "server": "clients, who verify the members by it",
    "peer": "the members among each other",
    "client": "the charm, the keeper and etcd-admin",
    "founder": "the charm, while a restored cluster is closed to clients",
    "gateway": "etcd's own HTTP gateway",
}


@dataclasses.dataclass(frozen=True)
class Details:
    """What one certificate or authority says of itself.

    Attributes:
        subject: CN, "" without one.
        issuer: CN of the issuer, "" without one.
        serial: hexadecimal.
        sans: subject alternative names, the URIs last.
        usages: `server`, `client`, `sign` for an authority, other extended usages by their number;
            none where any is allowed.
        not_before: Unix seconds.
        not_after: Unix seconds.
        fingerprint: SHA-256, hexadecimal.
    """

    subject: str
    issuer: str
    serial: str
    sans: tuple[str, ...]
    usages: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: str


def details(pem: bytes) -> list[Details]:
    """Each certificate of a PEM bundle, in order.

    Raises:
        CertificateError: one cannot be read, or there is none.
    """
    from cryptography.hazmat.primitives import hashes

    found: list[Details] = []
    for each in certificate.loaded(pem, "the certificate"):
        with certificate.reading("the certificate"):
            sans, uris = certificate.alternative_names(each)
            found.append(
                Details(
                    subject=certificate.common_name_of(each.subject),
                    issuer=certificate.common_name_of(each.issuer),
                    serial=f"{each.serial_number:x}",
                    sans=(*sans, *uris),
                    usages=_usages(each),
                    not_before=each.not_valid_before_utc.timestamp(),
                    not_after=each.not_valid_after_utc.timestamp(),
                    fingerprint=each.fingerprint(hashes.SHA256()).hex(),
                )
            )
    return found


def _usages(cert: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509
    from cryptography.x509 import oid

    named = {
        oid.ExtendedKeyUsageOID.SERVER_AUTH: "server",
        oid.ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    }
    usages: list[str] = []
    for extension in cert.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            usages.insert(0, "sign")
        if isinstance(extension.value, x509.ExtendedKeyUsage):
            usages += [named.get(each) or each.dotted_string for each in extension.value]
    return tuple(usages)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One certificate, or one authority that certificates are verified by.

    Attributes:
        name: of the certificate in the store; `authority` for one.
        details: what it says of itself.
        needed_by: in words: who shows a certificate, or which are verified by an authority.
        renewed: when the charm renews it, Unix seconds; None where it does not.
    """

    name: str
    details: Details
    needed_by: str
    renewed: float | None = None

    def days(self, now: float) -> int:
        """Whole days until it ends, negative afterwards; `now` in Unix seconds."""
        return int((self.details.not_after - now) // certificate.DAY)


def read(held: store.Store) -> list[Entry]:
    """All of a unit's certificates, then all authorities that it knows, each once.

    Raises:
        CertificateError: one cannot be read.
    """
    found: list[Entry] = []
    verifies: dict[str, list[str]] = {}
    known: dict[str, Details] = {}
    for name in NAMES:
        published, facts = held.read(name), held.load(name)
        if published is None or facts is None:
            continue
        own, *chain = details(published[0])
        found.append(Entry(name, own, _NEEDED_BY[name], certificate.due_at(facts)))
        for authority in (*chain, *details(published[2])):
            known[authority.fingerprint] = authority
            names = verifies.setdefault(authority.fingerprint, [])
            names += [name] if name not in names else []
    return found + [
        Entry("authority", each, f"whoever reads the bundle of {', '.join(verifies[mark])}")
        for mark, each in known.items()
    ]


def records(entries: Iterable[Entry], now: float) -> list[dict[str, Any]]:
    """The same for programs: texts, lists and numbers; `now` in Unix seconds."""
    return [
        {
            "name": each.name,
            "subject": each.details.subject,
            "issuer": each.details.issuer,
            "serial": each.details.serial,
            "sans": list(each.details.sans),
            "usages": list(each.details.usages),
            "begins": date(each.details.not_before),
            "ends": date(each.details.not_after),
            "days": each.days(now),
            "renewed": date(each.renewed) if each.renewed is not None else "",
            "needed-by": each.needed_by,
            "sha256": each.details.fingerprint,
        }
        for each in entries
    ]


COLUMNS = ("NAME", "SUBJECT", "ISSUER", "USAGES", "ENDS", "DAYS", "RENEWED", "NEEDED BY", "SANS")


def rows(entries: Iterable[Entry], now: float) -> list[list[str]]:
    """The same for people, in the order of `COLUMNS`."""
    return [
        [
            each["name"],
            each["subject"] or "-",
            each["issuer"] or "-",
            " ".join(each["usages"]) or "any",
            each["ends"],
            str(each["days"]),
            each["renewed"] or "-",
            each["needed-by"],
            " ".join(each["sans"]) or "-",
        ]
        for each in records(entries, now)
    ]


def date(at: float) -> str:
    """A moment as people read it, UTC; Unix seconds."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
