"""A signing request whose key never leaves the unit, kept until another one is wanted."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from tls import authority, certificate, store

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

PATH = store.ROOT / "request.json"


@dataclasses.dataclass(frozen=True)
class Request:
    """A PEM signing request and its PEM private key (EC P-256)."""

    csr: bytes
    key: bytes = dataclasses.field(repr=False)


class Requests:
    """The unit's one request, in a file that only root reads.

    Args:
        path: the file.
    """

    def __init__(self, path: pathlib.Path = PATH):
        self._path = path

    def ensure(self, common_name: str, sans: Iterable[str], spent: bytes = b"") -> Request:
        """The request for these names; a new key and request when the names are others.

        Args:
            common_name: CN, at most 64 characters.
            sans: addresses and host names.
            spent: PEM of the key of a certificate that is due for renewal: a request of this key
                was answered and is made anew. (An authority answers each request once.)
        """
        wanted = [common_name, list(certificate.normal_sans(sans))]
        present = self._read()
        if present is not None and present[0] == wanted and present[1].key != spent:
            return present[1]
        made = make(common_name, sans)
        text = json.dumps({"for": wanted, "csr": made.csr.decode(), "key": made.key.decode()})
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self._path)
        return made

    def _read(self) -> tuple[Any, Request] | None:
        try:
            raw: dict[str, Any] = json.loads(self._path.read_text())
            return raw["for"], Request(raw["csr"].encode(), raw["key"].encode())
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None


def make(common_name: str, sans: Iterable[str]) -> Request:
    """A new key and a request for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(authority.subject(common_name))
    names = [authority.general_name(san) for san in certificate.normal_sans(sans)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return Request(csr, authority.key_pem(key))
