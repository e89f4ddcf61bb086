"""Where a unit is reached, and where it listens, as Juju's bindings tell."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

from relations import databag

if TYPE_CHECKING:
    import ops


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Where this unit is reached, by the network spaces of the endpoints `cluster` and `db`.

    Attributes:
        peer: the address for other members, IPv6 without brackets.
        client: the address for clients.
        peer_bind: the address of this machine to listen on for `peer`: another one where
            addresses are translated on the way, or where `peer` is a host name.
        client_bind: the same for `client`.
        peer_sans: every address of the `cluster` binding, and loopback.
        client_sans: every address of the `db` binding, loopback and `localhost`.
    """

    peer: str
    client: str
    peer_bind: str
    client_bind: str
    peer_sans: tuple[str, ...]
    client_sans: tuple[str, ...]


def url(host: str, port: int, scheme: str = "https") -> str:
    """`https://198.18.0.10:2379`, with IPv6 addresses in brackets."""
    bracket = _is_address(host) and ":" in host
    return f"{scheme}://[{host}]:{port}" if bracket else f"{scheme}://{host}:{port}"


def _is_address(host: str) -> bool:
    """Whether that is an IP address and no name: nothing else can be listened on."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def of(model: ops.Model, endpoint: str) -> Addresses:
    """The addresses of this unit; members reach it by `endpoint`.

    Raises:
        PeerError: Juju has no address for this unit yet.
    """
    peer, peer_bind, peer_sans = _binding(model, endpoint)
    client, client_bind, client_sans = _binding(model, "db")
    loopback = ("127.0.0.1", "::1", "localhost")
    return Addresses(
        peer=peer,
        client=client,
        peer_bind=peer_bind,
        client_bind=client_bind,
        peer_sans=tuple(sorted({*peer_sans, *loopback})),
        client_sans=tuple(sorted({*client_sans, *loopback})),
    )


def _binding(model: ops.Model, endpoint: str) -> tuple[str, str, set[str]]:
    """An endpoint's ingress address, where to listen for it, and every address of both."""
    binding = model.get_binding(endpoint)
    found = binding.network if binding else None
    ingress = [str(address) for address in found.ingress_addresses] if found else []
    bound = [str(each.address) for each in found.interfaces if each.address] if found else []
    if not ingress and not bound:
        raise databag.PeerError(f"Juju has no address for this unit on endpoint {endpoint} yet")
    reached = (ingress or bound)[0]
    own = [each for each in bound or ingress if _is_address(each)]
    if not own:
        raise databag.PeerError(
            f"Juju names {reached} for endpoint {endpoint}, and no address of this unit that "
            "etcd could listen on: nothing was changed; see `juju show-machine`"
        )
    return reached, reached if reached in own else own[0], {*ingress, *bound}
