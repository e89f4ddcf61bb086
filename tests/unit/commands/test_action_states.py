"""Every action in every state of docs/statuses.md: keys that Juju takes, or one sentence."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import pathlib
import re
from typing import Any

import charm_context
import pytest
from ops import testing

import errors
from cluster import generation as generations
from cluster import status
from cluster import view as views
from commands import actions, etcd_admin
from etcd import client as clients
from etcd import data, membership, responses, service
from hook import fencing, launcher
from hook import unit as units
from keeper import fence
from machine import juju_exec
from relations import databag, juju_units

KEY = re.compile(r"[a-z0-9](([a-z0-9-.]+)?[a-z0-9])?")  # juju/core/actions
URLS = tuple(f"https://198.18.0.1{number}:2379" for number in range(4))
MEMBERS = tuple(
    views.Member(
        10 + number, f"etcd-{number}", (URLS[number].replace("2379", "2380"),), (URLS[number],),
        healthy=True, raft_index=9, version="3.5.16",
    )
    for number in range(3)
)  # fmt: skip
WRONG = (
    views.Member(20, "https://by.hand:2380", ("https://by.hand:2380",), (URLS[3],), healthy=True),
    views.Member(21, "By_Hand", ("https://b:2380",), ("https://198.18.0.1:1",)),
    views.Member(22, "", ("https://c:2380",), learner=True),
)
"""Members that somebody named otherwise than Juju names keys, or nobody has named yet."""
RECORD = generations.Generation(
    2, "two", generations.Source.BACKUP,
    tuple(generations.Founder(f"etcd/{n}", MEMBERS[n].peer_urls[0]) for n in range(3)),
    generations.Detail(high=9, reason="no room"), confirmed=True,
)  # fmt: skip
FACTS = views.DiskFacts(2, 90, 40)


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a unit in a state finds.

    Attributes:
        members: as etcd lists them.
        answers: a quorum answers; None where nobody answers at all, not the member here either.
        alarms: armed ones.
        record: the committed one.
        proposal: the next one.
        facts: what the disk here holds.
    """

    members: tuple[views.Member, ...] = MEMBERS
    answers: bool | None = True
    alarms: tuple[views.Alarm, ...] = ()
    record: generations.Generation | None = RECORD
    proposal: generations.Generation | None = None
    facts: views.DiskFacts | None = FACTS


NOBODY = Situation((), None)
NEXT = dataclasses.replace(RECORD, number=3, token="three", confirmed=False)
S = status.State
SITUATIONS: dict[status.State, tuple[Situation, ...]] = {
    S.INSTALLING: (Situation((), None, record=None, facts=None), NOBODY),
    S.FOUNDING: (Situation((), None, record=None, facts=None),),
    S.HELD: (Situation((), None, record=None, facts=None),),
    S.JOINING: (Situation((*MEMBERS[:2], WRONG[2])), Situation((*MEMBERS[:2], WRONG[2]), False)),
    S.HEALTHY: (Situation(),),
    S.DEGRADED: (
        Situation((*MEMBERS, *WRONG)),
        Situation((*MEMBERS[:2], dataclasses.replace(MEMBERS[2], healthy=False))),
        Situation(WRONG, alarms=(views.Alarm(99, "NOSPACE"),)),
    ),
    S.RESTORING: (Situation(proposal=NEXT), Situation((), None, record=NEXT)),
    S.ROLLED_BACK: (
        Situation((), None, record=dataclasses.replace(NEXT, source=generations.Source.PREVIOUS)),
    ),
    S.QUORUM_LOST: (Situation(answers=False), Situation((*MEMBERS, *WRONG), False), NOBODY),
    S.RECOVERING: (
        Situation(
            answers=False, proposal=dataclasses.replace(NEXT, source=generations.Source.SURVIVOR)
        ),
    ),
    S.NOT_RECOVERED: (NOBODY,),
    S.LEAVING: (Situation(), Situation(answers=False)),
    S.CORRUPT: (Situation(alarms=(views.Alarm(11, "CORRUPT"),)), Situation((), None, facts=None)),
    S.DIFFERENT: (Situation(answers=False, alarms=(views.UNNAMED,)),),
    S.CLOCK: (NOBODY,),
    S.DOWN: (Situation(MEMBERS[1:]), NOBODY),
    S.FENCED: (NOBODY,),
    S.STUCK: (Situation(MEMBERS[1:]),),
    S.CONFLICT: (Situation((), None, record=None),),
    S.DATA_LOST: (Situation((), None, facts=None),),
}


class Etcd(clients.Client):
    """A cluster in a situation; what it is asked for on the wire ends here."""

    def __init__(self, found: Situation) -> None:
        self._found = found
        self.endpoints = tuple(m.client_urls[0] for m in found.members if m.client_urls) or URLS
        self.timeout = 1.0
        self._preferred = self.endpoints[0]

    def _look(self, endpoint: str, what: str, timeout: float) -> dict[str, Any]:
        found = self._found
        self._reach(what in ("read", "members", "alarms"))
        here = next((m for m in found.members if endpoint in m.client_urls), None)
        header = {"cluster_id": 7, "member_id": here.id if here else 0, "revision": 9}
        if what == "alarms":
            alarms = [{"memberID": a.member_id, "alarm": a.kind} for a in found.alarms]
            return {"header": header, "alarms": alarms}
        if what == "status":
            if here is None or not here.healthy:
                raise errors.UnreachableError(f"{endpoint}: connection refused\x1b")
            leader = found.members[0].id if found.answers else 0
            return {"header": header, "version": "3.5.16", "leader": leader, "dbSize": 20480}
        members = [
            {"ID": m.id, "name": m.name, "peerURLs": m.peer_urls, "clientURLs": m.client_urls,
             "isLearner": m.learner}
            for m in found.members
        ]  # fmt: skip
        return {"header": header, "members": members}

    def _reach(self, by_quorum: bool) -> None:
        if self._found.answers is None:
            raise errors.UnreachableError("no etcd endpoint answered")
        if by_quorum and not self._found.answers:
            raise errors.NoQuorumError("the cluster has no leader")

    def _request(self, method: str, fields: dict[str, Any], repeatable: bool = True) -> Any:
        self._reach(True)
        return {"header": {"revision": 9}, "kvs": []}

    def _page(self, endpoint: str, path: str, timeout: float) -> str:
        self._reach(False)
        return '{"etcdserver": "3.5.16", "etcdcluster": "3.5.0"}'

    def _send(self, endpoint: str, *_: Any, **__: Any) -> Any:
        raise errors.UnreachableError(f"{endpoint}: connection refused")

    def _failover(self, ask: Any, timeout: float | None = None, repeatable: bool = True) -> Any:
        return ask(self.endpoints[0], 1.0)

    def _patiently(self, attempt: Any, deadline: float) -> Any:
        return attempt()

    def revision(self) -> int:
        self._reach(True)
        return 9

    def snapshot(self, path: pathlib.Path, *_: Any, **__: Any) -> responses.Download:
        raise errors.UnreachableError("the stream ended")


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """Put the unit into a situation."""

    # It knows no parameter of several types, as common-name is.
    monkeypatch.setenv("SCENARIO_SKIP_CONSISTENCY_CHECKS", "1")

    def put(found: Situation) -> None:
        goals = {f"etcd/{number}": "active" for number in range(3)}
        monkeypatch.setattr(juju_units, "goal_state", lambda: goals)
        monkeypatch.setattr(juju_units, "told_ahead", lambda *_: {})
        monkeypatch.setattr(juju_exec, "wake", lambda *_: None)
        monkeypatch.setattr(service, "DATA_ROOT", tmp_path / "data")
        monkeypatch.setattr(launcher, "ensure", lambda *_: False)
        monkeypatch.setattr(
            data.Root, "disk", lambda *_, **__: views.Disk("two", facts=found.facts)
        )
        named = {url: m.name or "a new member" for m in found.members for url in m.peer_urls}
        known = fence.Known("/", "/", named, {})
        monkeypatch.setattr(fence.Known, "read", lambda *_: known)
        monkeypatch.setattr(fencing, "ask", lambda *_: dict.fromkeys(list(named)[:1]))
        if found.record is None:
            return  # the unit itself knows that there is nobody to ask
        monkeypatch.setattr(
            units.Node, "client", lambda *_, **__: contextlib.nullcontext(Etcd(found))
        )

    return put


def told(found: Situation) -> testing.State:
    """The unit's state in Juju; it is the leader, which is refused nothing for what it is."""
    bag = {
        name: databag.record_text(record)
        for name, record in (("generation", found.record), ("proposal", found.proposal))
        if record
    }
    relation = testing.PeerRelation("cluster", peers_data={1: {}, 2: {}}, local_app_data=bag)
    return testing.State(leader=True, relations={relation}, model=testing.Model(name="m"))


def keys(results: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in results.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += keys(value)
        else:
            assert isinstance(value, str), (key, value)
    return found


def params(action: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    """With what it is run: the defaults, as Juju fills them in, and all that leads elsewhere."""
    defaults = {
        name: schema["default"]
        for name, schema in charm_context.ACTIONS[action].get("params", {}).items()
        if "default" in schema
    }
    given: list[dict[str, Any]] = {
        "snapshot": [{"target": str(folder)}],
        "member-remove": [{"member": "etcd-1"}, {"member": "15"}, {"member": "nobody"}],
        "delete-backup": [{"backup-id": "b"}],
        "restore": [{"path": "/missing"}, {"backup-id": "latest"}],
        "recover": [{}, {"unit": "etcd/0"}, {"unit": "etcd/9"}],
        "certificates": [{}, {"format": "json"}],
        "list-client-certificates": [{}, {"format": "json"}],
        "revoke-client-certificate": [{}, {"serial": "ab"}, {"common-name": "operator"}],
        "member-list": [{}, {"format": "json"}],
        "endpoint-status": [{}, {"format": "json"}],
    }.get(action, [{}])
    return [{**defaults, **each} for each in given]


def test_given_the_states_when_counted_then_each_has_a_situation():
    assert set(SITUATIONS) == set(status.State)


@pytest.mark.parametrize("state", list(status.State), ids=lambda each: each.value)
def test_given_a_state_when_any_action_is_run_then_its_keys_are_valid_or_it_says_one_sentence(
    state: status.State, enter: Any, tmp_path: pathlib.Path
):
    answered, context = 0, charm_context.context()  # costly
    for found in SITUATIONS[state]:
        enter(found)
        for action in charm_context.ACTIONS:
            for given in params(action, tmp_path):
                context.action_results = None
                try:
                    context.run(context.on.action(action, params=given), told(found))
                except testing.ActionFailed as refused:
                    assert refused.message and "\n" not in refused.message, (action, found)
                    assert refused.message.isprintable(), (action, refused.message)
                    continue
                results = context.action_results or {}
                answered += 1
                wrong = [key for key in keys(results) if not KEY.fullmatch(key)]
                assert wrong == [], (action, found)
    assert answered or SITUATIONS[state][0].record is None


@pytest.mark.parametrize("found", [*SITUATIONS[S.HEALTHY], *SITUATIONS[S.DEGRADED]], ids=str)
def test_given_an_action_and_its_twin_when_asked_of_the_members_then_they_tell_the_same(
    found: Situation, enter: Any
):
    enter(found)
    context, place = charm_context.context(), launcher.Place(URLS)
    asked = argparse.Namespace()
    (given, *_) = params("endpoint-status", pathlib.Path("/"))
    context.run(context.on.action("endpoint-status", params=given), told(found))
    results = context.action_results or {}
    twin = etcd_admin.endpoint_status(Etcd(found), asked, place)
    words = actions._printable(twin.words)
    assert results == {"endpoints": words, "cluster-version": "3.5.0"}
    assert {each.get("cluster_version", "3.5.0") for each in twin.data} == {"3.5.0"}
    context.run(context.on.action("health"), told(found))
    results, twin = context.action_results or {}, etcd_admin.health(Etcd(found), asked, place)
    assert twin.data["cluster-version"] == results["cluster-version"] == "3.5.0"
    assert twin.data["version"] == results["version"]
    assert set(results) - set(twin.data) <= {"summary", "quota", "endpoint", "certificate-days"}
    if all(member.name != "etcd-0" for member in found.members):
        return
    living = dataclasses.replace(place, units=(views.Unit("etcd/0"),))
    with pytest.raises(membership.OperatorError, match="juju remove-unit etcd/0") as refused:
        etcd_admin.remove(Etcd(found), argparse.Namespace(member="etcd-0"), living)
    with pytest.raises(testing.ActionFailed) as failed:
        context.run(context.on.action("member-remove", params={"member": "etcd-0"}), told(found))
    assert failed.value.message == str(refused.value)
