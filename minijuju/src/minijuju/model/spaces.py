"""Network spaces: sets of a model's subnets, to which an application binds its endpoints.

A model has two subnets, one of IPv4 and one of IPv6, and each machine an address in both. They are
in the space `alpha` until `add-space` moves one to a space of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from minijuju.model import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minijuju.model import records

ALPHA = "alpha"

Address = tuple[str, str]
"""An address, and the subnet that it is in."""


class Addressed(Protocol):
    """A machine with addresses, IPv4 first."""

    @property
    def address(self) -> Any:
        """The IPv4 address."""
        ...

    @property
    def address6(self) -> Any:
        """The IPv6 address, None where the network has none."""
        ...

    @property
    def network(self) -> Any:
        """The model's network, with its `ipv4` and `ipv6` subnets."""
        ...


def subnets(network: Any) -> list[str]:
    """The subnets of a model's network."""
    return [str(each) for each in (network.ipv4, network.ipv6) if each is not None]


def names(model: records.Model) -> list[str]:
    """All spaces."""
    return [ALPHA, *sorted(set(model.spaces.values()) - {ALPHA})]


def holder(model: records.Model, subnet: str) -> str:
    """The space that a subnet is in."""
    return model.spaces.get(subnet, ALPHA)


def add(model: records.Model, known: Iterable[str], name: str, chosen: list[str]) -> None:
    """Make a space of these subnets.

    Raises:
        errors.JujuError: there is such a space, or no such subnet, or none was given.
    """
    if name in names(model):
        raise errors.JujuError(f'adding space "{name}": space "{name}" already exists')
    if not chosen:
        raise errors.JujuError("minijuju has no spaces without subnets: give a CIDR")
    for subnet in chosen:
        if subnet not in known:
            raise errors.JujuError(f'adding space "{name}": subnet "{subnet}" not found')
    model.spaces.update(dict.fromkeys(chosen, name))


def bound(application: records.Application, endpoint: str) -> str:
    """The space that an endpoint uses."""
    return application.bindings.get(endpoint) or application.bindings.get("") or ALPHA


def addresses(model: records.Model, machine: Addressed, space: str) -> list[Address]:
    """A machine's addresses in a space."""
    network = machine.network
    found = [(str(machine.address), str(network.ipv4))]
    if machine.address6 is not None:
        found.append((str(machine.address6), str(network.ipv6)))
    return [(address, subnet) for address, subnet in found if holder(model, subnet) == space]


def egress(address: str) -> str:
    """The subnet of one address."""
    return f"{address}/{128 if ':' in address else 32}"
