"""Which generation a peer serves: a URI in its certificate, read by whoever dials its peer port.

The peer authority signs it and the handshake proves it. etcd compares addresses and host names
only, and reads its certificate again at every handshake: saying something new needs no restart.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import ssl
import urllib.parse
from concurrent import futures
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable

TIMEOUT = 1.5  # seconds for one peer; a dead machine takes all of them
_PREFIX = "urn:etcd-charm:generation"
_TOKEN = 8  # characters of a token that tell it from others, as in the names of kept data
_MOST = 32  # peers asked at the same time
_REQUEST = b"GET /version HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n"


@dataclasses.dataclass(frozen=True)
class Served:
    """A generation, as a certificate names it.

    Attributes:
        number: its number; 0 for a certificate that names none.
        token: the beginning of its token.
    """

    number: int = 0
    token: str = ""

    @classmethod
    def of(cls, number: int, token: str) -> Served:
        """The generation with this number and this whole token."""
        return cls(number, token[:_TOKEN])

    @classmethod
    def read(cls, uris: Iterable[str]) -> Served:
        """What the URIs of a certificate say."""
        for uri in uris:
            prefix, _, rest = uri.rpartition(f"{_PREFIX}:")
            number, _, token = rest.partition(":")
            if not prefix and uri != rest and re.fullmatch("[0-9]{1,19}", number):
                return cls(int(number), token)
        return cls()

    @property
    def uri(self) -> str:
        """What a certificate says."""
        return f"{_PREFIX}:{self.number}:{self.token}"

    def replaces(self, other: Served) -> bool:
        """Whether this is a later generation with other data.

        A rollback is a later number with the same token: the same data.
        """
        return self.number > other.number and self.token != other.token


def ask_all(
    urls: Iterable[str], folder: pathlib.Path, timeout: float = TIMEOUT
) -> dict[str, Served]:
    """Ask peers at the same time; those that do not answer are left out.

    Args:
        urls: peer URLs.
        folder: this unit's peer certificate, as `store.Store` publishes it.
        timeout: seconds for each.

    Raises:
        OSError: the certificate cannot be used.
    """
    wanted = tuple(dict.fromkeys(urls))
    if not wanted:
        return {}
    context = _context(folder)
    with futures.ThreadPoolExecutor(min(len(wanted), _MOST)) as pool:
        asked = {url: pool.submit(_ask, url, context, timeout) for url in wanted}
        found = {url: answer.result() for url, answer in asked.items()}
    return {url: answer for url, answer in found.items() if answer is not None}


def _context(folder: pathlib.Path) -> ssl.SSLContext:
    at = folder.resolve(strict=True)  # the three files of one publication
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # its authority signs for this cluster's units alone
    context.load_verify_locations(str(at / "ca.pem"))
    context.load_cert_chain(str(at / "cert.pem"), str(at / "key.pem"))
    return context


def _ask(url: str, context: ssl.SSLContext, timeout: float) -> Served | None:
    """What the peer at `url` serves, None when none of this cluster answers there."""
    try:
        parts = urllib.parse.urlsplit(url)
        with (
            socket.create_connection((parts.hostname or "", parts.port or 2380), timeout) as raw,
            context.wrap_socket(raw) as peer,
        ):
            names = (peer.getpeercert() or {}).get("subjectAltName", ())
            with contextlib.suppress(OSError):  # etcd logs connections that ask for nothing
                peer.sendall(_REQUEST)
                peer.recv(4096)
    except (OSError, ValueError):
        return None
    return Served.read(str(value) for kind, value in names if kind == "URI")
