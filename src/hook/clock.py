"""Whether this machine's clock is far off, as the dates of the others' certificates tell."""

from __future__ import annotations

import concurrent.futures
import itertools
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING

from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER = 2.0  # seconds that a member has to show its certificate


def is_off(endpoints: Sequence[str]) -> bool:
    """Whether most of these members show certificates that are not valid now, by this clock.

    Args:
        endpoints: client URLs of other units' members.
    """
    if not endpoints:
        return False
    now = time.time()
    with concurrent.futures.ThreadPoolExecutor(len(endpoints)) as pool:
        undated = pool.map(_is_undated, endpoints, itertools.repeat(now))
        return 2 * sum(undated) > len(endpoints)


def _is_undated(endpoint: str, now: float) -> bool:
    parts = urllib.parse.urlsplit(endpoint)
    address = (parts.hostname or "", parts.port or 0)
    try:
        shown = ssl.get_server_certificate(address, timeout=_ANSWER)
        return not certificate.is_valid_at(shown.encode(), now)
    except (OSError, certificate.CertificateError):
        return False
