"""What the keeper is told of its peers, and which of them serve an earlier generation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cluster import generation as generations
from etcd import service
from keeper import fence
from machine import files
from tls import served

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cluster import view as views
    from hook import unit as units

log = logging.getLogger(__name__)

_MOST = 24  # former members that are remembered


def tell(node: units.Node) -> bool:
    """Tell the keeper which peers there are; True when that changed."""
    before = fence.Known.read()
    units = {u.peer_url: u.name for u in node.peers.units() if u.peer_url}
    members = dict(before.members) if before else {}
    if node.seen is not None and node.seen[0].members is not None:
        members = _others(node.seen[0].members, node.member, units)
    former = {**(before.peers if before else {}), **units}
    for record in (node.peers.generation(), node.peers.proposal()):
        former |= {f.peer_url: f.unit for f in record.founders} if record else {}
    former = {u: name for u, name in former.items() if u != node.peer_url and u not in members}
    former = dict(list(former.items())[-_MOST:])
    known = fence.Known(str(service.HOME), str(node.root.path), members, former)
    return files.write(fence.FILE, known.to_json())


def _others(members: Iterable[views.Member], own: str, units: Mapping[str, str]) -> dict[str, str]:
    """Peer URLs of all members but this unit's, with their units."""
    return {
        url: generations.unit_name(m.name) if m.name else units.get(url, "a new member")
        for m in members
        if m.name != own
        for url in m.peer_urls
    }


def beside(node: units.Node) -> tuple[str, ...]:
    """Members of an earlier generation that serve beside the committed one, as far as seen."""
    known, committed = fence.Known.read(), node.peers.generation()
    if known is None or committed is None:
        return ()
    new = served.Served.of(committed.number, committed.token)
    asked = [url for url in known.peers if url not in node.unheard]
    found = ask(node, asked)
    node.unheard.update(url for url in asked if url not in found)
    return tuple(
        sorted(
            fence.place(known.peers, url)
            for url, old in found.items()
            if old.number and new.replaces(old)
        )
    )


def ask(node: units.Node, urls: Iterable[str]) -> dict[str, served.Served]:
    """What peers serve, as this unit sees it; those that do not answer are left out."""
    try:
        return served.ask_all(urls, node.certificates.path("peer"))
    except OSError as error:
        log.warning("other generations were not looked for: %s", error)
        return {}
