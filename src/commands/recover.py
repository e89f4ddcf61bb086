"""What an operator is told before a recovery: what is kept, and what may still serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcd import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster import view as views
    from hook import unit as units


def left_behind_by(node: units.Node) -> tuple[dict[str, str], str]:
    """Which other members of the cluster this unit reaches, and what follows, in words."""
    from hook import fencing
    from keeper import fence

    known = fence.Known.read()
    members: Mapping[str, str] = known.members if known is not None else {}
    answers = fencing.ask(node, members)
    reached = [fence.place(members, url) for url in members if url in answers]
    silent = [fence.place(members, url) for url in members if url not in answers]
    keys = report.labels([name.replace("/", "-").replace(" ", "-") for name in members.values()])
    told = {
        key: f"{url} {'answers' if url in answers else 'cannot be reached'}"
        for key, url in zip(keys, members, strict=True)
    }
    return told, left_behind(node.unit, reached, silent)


def left_behind(unit: str, reached: Sequence[str], silent: Sequence[str]) -> str:
    """What the other members may still do after a recovery, in words.

    Args:
        unit: who has looked.
        reached: members whose etcd answers, each with its address.
        silent: those that do not answer.
    """
    words: list[str] = []
    if silent:
        words.append(
            f"{unit} cannot reach {', '.join(silent)}: make sure that these machines are off, or "
            "run `systemctl disable --now etcd-keeper etcd` on each of them; a majority that runs "
            "on out of reach takes writes, which are lost, until it reaches the new cluster"
        )
    if reached:
        words.append(
            f"{', '.join(reached)} can be reached: etcd stops there before clients are let in "
            "to the new cluster"
        )
    return "; ".join(words)


def loss(unit: str, disks: Mapping[str, views.DiskFacts], silent: Sequence[str]) -> str:
    """What a recovery from `unit` keeps and loses, in words.

    Args:
        unit: whose disk is used.
        disks: what is known of each disk, by unit.
        silent: units that Juju has, with the cluster's data, whose disks nobody knows.
    """
    kept = disks[unit].revision
    behind = max(facts.revision for facts in disks.values()) - kept
    words = f"{unit} holds up to revision {kept}, {behind} behind the newest disk here; "
    if not silent:
        return f"{words}what only the missing members acknowledged would be lost"
    return (
        f"{words}{', '.join(silent)} did not tell, and may still serve clients: what only they or "
        "the missing members acknowledged would be lost; bring their machines back instead, if "
        "you can"
    )
