"""Which members an etcd has dialled, by its own count: being dialled alone shows nothing of that.

A member that a proxy or a firewall keeps from dialling still looks well: the others dial it. etcd
counts a peer as active only while its own stream to that peer is open (`rafthttp`, `peerStatus`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from etcd import gateway

if TYPE_CHECKING:
    from tls import pem_files

_ACTIVE = re.compile(
    r'^etcd_network_active_peers\{[^}]*Remote="([0-9a-f]{1,16})"[^}]*\} 1$', re.MULTILINE
)


def dialled(endpoint: str, tls: pem_files.TLSFiles, timeout: float = 2.0) -> frozenset[int]:
    """IDs of the members that the etcd at an endpoint is connected to by its own doing.

    Args:
        endpoint: its client URL.
        tls: files of a client that it believes.
        timeout: seconds for its answer.

    Raises:
        OSError: it does not answer, or the files cannot be used.
    """
    try:
        context = gateway.context(tls.ca, tls.cert, tls.key)
    except gateway.UnusableError as error:
        raise OSError(str(error)) from error
    page = gateway.page(endpoint, "/metrics", context, timeout)
    return frozenset(int(member, 16) for member in _ACTIVE.findall(page))
