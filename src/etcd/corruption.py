"""Whose keys are wrong, where etcd only says that its members hold different ones."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import errors
from cluster import view as views

if TYPE_CHECKING:
    from etcd import client as clients
    from etcd import responses


class UndecidedError(errors.EtcdError):
    """No member was found wrong, and none was changed; the sentence says why."""


def compare(online: clients.Client) -> tuple[views.Member, ...]:
    """Name the members that no majority agrees with: arm the CORRUPT alarm of each of them.

    To be called while `view.UNNAMED` is armed, which is disarmed then: nobody writes meanwhile,
    so that all members soon hold the same revision.

    Returns:
        The members that were named; none when all agree after all.

    Raises:
        UndecidedError: no majority agrees, or a member does not answer.
        errors.EtcdError: etcd does not answer.
    """
    voters = [m for m in online.members().members if not m.learner]
    hashes: dict[int, responses.HashKV] = {}
    silent: list[str] = []
    for member in voters:
        try:
            hashes[member.id] = online.hash_kv(member.client_urls[0])
        except (errors.EtcdError, IndexError):  # noqa: PERF203 - each for itself
            silent.append(member.name or f"{member.id:x}")
    if len({(each.revision, each.compact_revision) for each in hashes.values()}) > 1:
        raise UndecidedError("the members are not at the same revision yet")
    counted = collections.Counter(each.hash for each in hashes.values())
    right, agree = counted.most_common(1)[0] if counted else (0, 0)
    if agree <= len(voters) // 2:
        raise UndecidedError(
            "the members hold different keys and no majority of them agrees: nothing was changed"
        )
    wrong = tuple(m for m in voters if m.id in hashes and hashes[m.id].hash != right)
    if silent and not wrong:
        raise UndecidedError(f"{', '.join(silent)} did not tell what it holds")
    for member in wrong:
        online.arm(views.Alarm(member.id, views.UNNAMED.kind))
    online.disarm(views.UNNAMED)
    return wrong
