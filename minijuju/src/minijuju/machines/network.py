"""A model's network: one bridge that the host and the model's machines share, and cuts in it.

Addresses are a /22 out of 198.18.0.0/15 (RFC 2544, never routed), and a /64 of unique local IPv6
addresses. The host has the first address of both. There is no way out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import ipaddress
import json
import pathlib
from typing import TYPE_CHECKING, Any, Protocol

from minijuju.machines import system

if TYPE_CHECKING:
    from collections.abc import Iterable

RANGE = ipaddress.IPv4Network("198.18.0.0/15")
PREFIX = 22
"""Prefix length of one model's network: room for 1,021 machines."""
INTERFACE = "eth0"
"""A machine's own end of the cable, as LXD names it; systemd-nspawn says `host0`."""

_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
_HOST_LOCK = pathlib.Path("/run/lock/minijuju-network.lock")


class Port(Protocol):
    """Whatever is plugged into the bridge, by the host's name of its interface."""

    @property
    def interface(self) -> str:
        """The host's end of the cable."""
        ...


@dataclasses.dataclass
class _State:
    index: int
    ipv6: bool
    isolated: list[str] = dataclasses.field(default_factory=lambda: [])
    pairs: list[list[str]] = dataclasses.field(default_factory=lambda: [])
    ways: list[list[str]] = dataclasses.field(default_factory=lambda: [])


class Network:
    """One bridge with its addresses; everything about it can be found again by its directory.

    Args:
        directory: where its state is kept; its path decides the names on the host.
        index: which /22 of RANGE, 0 to 127; by default a free one, chosen by up().
        ipv6: whether there are IPv6 addresses too, if the host has any.
    """

    def __init__(self, directory: pathlib.Path, index: int | None = None, *, ipv6: bool = True):
        self.directory = directory.resolve()
        self._asked = index
        self._ipv6 = ipv6
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()
        self.bridge = f"mj{digest[:8]}"
        self._table = f"minijuju_{digest[:8]}"
        self._mac = f"02:{digest[:2]}:{digest[2:4]}:{digest[4:6]}:{digest[6:8]}:01"
        self._ula = ipaddress.IPv6Network(f"fd{digest[:2]}:{digest[2:6]}:{digest[6:10]}::/64")

    @property
    def _file(self) -> pathlib.Path:
        return self.directory / "network.json"

    def _load(self) -> _State | None:
        try:
            return _State(**json.loads(self._file.read_text()))
        except FileNotFoundError:
            return None

    def _save(self, state: _State) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(state)))
        part.rename(self._file)

    def _known(self) -> _State:
        state = self._load()
        if state is None:
            raise system.Error(f"The network in {self.directory} is not up.")
        return state

    @property
    def ipv4(self) -> ipaddress.IPv4Network:
        """The IPv4 network; known from up() on."""
        return _subnet(self._known().index)

    @property
    def ipv6(self) -> ipaddress.IPv6Network | None:
        """The IPv6 network, or None for a network without one."""
        state = self._load()
        return self._ula if (state.ipv6 if state else self._ipv6) else None

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The host's own address in this network."""
        return self.ipv4[1]

    def address(self, number: int) -> ipaddress.IPv4Address:
        """The IPv4 address of machine ``number``, counted from 0; the tenth address is the first.

        Raises:
            system.Error: there are no so many addresses.
        """
        if not 0 <= number < self.ipv4.num_addresses - 11:
            raise system.Error(f"A model's network has no address for machine {number}.")
        return self.ipv4[number + 10]

    def address6(self, address: ipaddress.IPv4Address | str) -> ipaddress.IPv6Address | None:
        """The IPv6 address that goes with an IPv4 address of this network."""
        network = self.ipv6
        offset = int(ipaddress.IPv4Address(address)) - int(self.ipv4[0])
        return network[offset] if network else None

    def up(self) -> None:
        """Make the bridge, or check that it is there; choose the addresses on the first call.

        Raises:
            system.Error: the addresses are in use by something else on this host.
        """
        with system.locked(_HOST_LOCK):
            state = self._load()
            used = self._used()
            if state is None:
                index = self._free(used) if self._asked is None else self._asked
                state = _State(index, self._ipv6 and _has_ipv6())
            if any(_subnet(state.index).overlaps(other) for other in used):
                raise system.Error(
                    f"Addresses {_subnet(state.index)} are in use by another network on this host."
                )
            self._save(state)
            if not pathlib.Path("/sys/class/net", self.bridge).exists():
                self._make_bridge(state)
            self._apply(state)

    def _make_bridge(self, state: _State) -> None:
        network = _subnet(state.index)
        lines = [
            # With an address of its own: else it takes one of its ports', and they come and go.
            f"link add {self.bridge} address {self._mac} type bridge stp_state 0"
            " forward_delay 0 mcast_snooping 0",
            f"address add {network[1]}/{network.prefixlen} dev {self.bridge}",
        ]
        if state.ipv6:
            lines.append(f"address add {self._ula[1]}/64 dev {self.bridge} nodad")
        lines.append(f"link set {self.bridge} up")
        system.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        self._pass_firewall()

    def _pass_firewall(self, *, remove: bool = False) -> None:
        """Where bridged packets pass the host's own packet filter, let these through."""
        switch = pathlib.Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        if not switch.exists() or switch.read_text().strip() == "0":
            return
        rule = ("FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT")
        for tool in ("iptables", "ip6tables"):
            with contextlib.suppress(system.CommandError):
                system.run(tool, "-D", *rule)
            if not remove:
                with contextlib.suppress(system.CommandError):
                    system.run(tool, "-I", *rule)

    def _used(self) -> list[ipaddress.IPv4Network]:
        """The IPv4 networks on this host's other interfaces."""
        found: list[ipaddress.IPv4Network] = []
        links: list[dict[str, Any]] = json.loads(system.run("ip", "-json", "-4", "address"))
        for link in links:
            if link.get("ifname") == self.bridge:
                continue
            for info in link.get("addr_info", []):
                text = f"{info['local']}/{info['prefixlen']}"
                found.append(ipaddress.IPv4Network(text, strict=False))
        return found

    def _free(self, used: list[ipaddress.IPv4Network]) -> int:
        count = 2 ** (PREFIX - RANGE.prefixlen)
        first = int(self.bridge[2:], 16) % count
        for index in ((first + step) % count for step in range(count)):
            if not any(_subnet(index).overlaps(other) for other in used):
                return index
        raise system.Error(f"All networks of {RANGE} are in use on this host.")

    def down(self) -> None:
        """Remove the bridge, the cuts and the record of both; fine when there is nothing."""
        with system.locked(_HOST_LOCK):
            if pathlib.Path("/sys/class/net", self.bridge).exists():
                self._pass_firewall(remove=True)
                system.run("ip", "link", "delete", self.bridge)
            self._rules([])
            self._file.unlink(missing_ok=True)

    def cut(self, machine: Port, others: Iterable[Port] | None = None) -> None:
        """Drop all traffic between a machine and others, also of established connections.

        The host still reaches every machine. A cut outlives reboots of the machines.

        Args:
            machine: the machine to cut off.
            others: from whom; by default from all, also those that come later.
        """
        with system.locked(_HOST_LOCK):
            state = self._known()
            if others is None:
                state.isolated = sorted({*state.isolated, machine.interface})
            else:
                pairs = {tuple(pair) for pair in state.pairs}
                pairs |= {_pair(machine, other) for other in others}
                state.pairs = [list(pair) for pair in sorted(pairs)]
            self._save(state)
            self._apply(state)

    def mute(self, machine: Port, others: Iterable[Port]) -> None:
        """Drop what a machine sends to others; what they send still reaches it.

        Addresses are still resolved, so that a packet can go the open way at all.
        """
        with system.locked(_HOST_LOCK):
            state = self._known()
            ways = {(one, other) for one, other in state.ways}
            ways |= {(machine.interface, other.interface) for other in others}
            state.ways = [list(way) for way in sorted(ways)]
            self._save(state)
            self._apply(state)

    def heal(self, machine: Port, others: Iterable[Port] | None = None) -> None:
        """Undo cuts of a machine.

        Args:
            machine: the machine to reconnect.
            others: only the cuts that were made between it and these by name; by default all of
                its cuts. Another machine that is cut off from all stays so.
        """
        with system.locked(_HOST_LOCK):
            state = self._load()
            if state is None:
                return
            name = machine.interface
            if others is None:
                state.isolated = [one for one in state.isolated if one != name]
                state.pairs = [pair for pair in state.pairs if name not in pair]
                state.ways = [way for way in state.ways if name not in way]
            else:
                healed = {_pair(machine, other) for other in others}
                state.pairs = [pair for pair in state.pairs if tuple(pair) not in healed]
                state.ways = [way for way in state.ways if tuple(sorted(way)) not in healed]
            self._save(state)
            self._apply(state)

    def _apply(self, state: _State) -> None:
        rules = [
            f'{side} "{name}" drop' for name in state.isolated for side in ("iifname", "oifname")
        ]
        for one, other in state.pairs:
            rules.append(f'iifname "{one}" oifname "{other}" drop')
            rules.append(f'iifname "{other}" oifname "{one}" drop')
        for one, other in state.ways:
            way = f'iifname "{one}" oifname "{other}"'
            rules.append(f"{way} {_NEIGHBOURS} accept")
            rules.append(f"{way} meta protocol {{ ip, ip6 }} drop")
        self._rules(rules)

    def _rules(self, rules: list[str]) -> None:
        """Replace the whole table in one transaction; without rules there is none."""
        script = f"add table bridge {self._table}\ndelete table bridge {self._table}\n"
        if rules:
            body = "\n".join(rules)
            script += (
                f"table bridge {self._table} {{\nchain forward {{\n"
                f"type filter hook forward priority -200;\n{body}\n}}\n}}\n"
            )
        system.run("nft", "-f", "-", stdin=script)


def _has_ipv6() -> bool:
    switch = pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    return switch.exists() and switch.read_text().strip() == "0"


def _subnet(index: int) -> ipaddress.IPv4Network:
    step = 2 ** (32 - PREFIX)
    return ipaddress.IPv4Network((int(RANGE[0]) + index * step, PREFIX))


def _pair(one: Port, other: Port) -> tuple[str, str]:
    first, second = sorted((one.interface, other.interface))
    return first, second
