"""Relations: who is told what, when, and what may be read."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import jubilant
import pytest

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib

NEAR, FAR = "near", "far"
OWN_BAG = "relation-get -r $JUJU_RELATION_ID --format=json - $JUJU_UNIT_NAME"


@pytest.fixture(scope="module", autouse=True)
def related(prober: probers.Prober, probe: pathlib.Path) -> list[probers.Event]:
    """Two applications of two units, related; the events that relating them brought."""
    prober.juju.deploy(probe, NEAR, num_units=2)
    prober.juju.deploy(
        probe, FAR, num_units=2, config={"plan": json.dumps({"sink-relation-created": [OWN_BAG]})}
    )
    for application in (NEAR, FAR):
        for unit in prober.units(application):
            prober.expect(unit, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()
    mark = prober.mark()
    prober.juju.integrate(f"{NEAR}:source", f"{FAR}:sink")
    for unit in prober.units(FAR):
        _joined_all(prober, unit, mark)
    prober.settle()
    return prober.events(after=mark)


def _joined_all(prober: probers.Prober, unit: str, mark: set[str]) -> None:
    prober.until(
        lambda: (
            prober.names(unit, after=mark).count("sink-relation-joined") == len(prober.units(NEAR))
        ),
        f"{unit} has joined all of {NEAR}",
    )


def _of(events: list[probers.Event], unit: str, endpoint: str) -> list[probers.Event]:
    return [
        event
        for event in events
        if event.unit == unit and event.name.startswith(f"{endpoint}-relation-")
    ]


def _relation(prober: probers.Prober, unit: str, endpoint: str) -> str:
    (found,) = prober.ask(unit, "relation-ids", endpoint, "--format=json")
    return found


def _greet(prober: probers.Prober) -> None:
    """Have something in the near application's databag."""
    leader = prober.leader(NEAR)
    relation = _relation(prober, leader, "source")
    prober.do(leader, ["relation-set", "--app", "-r", relation, "greeting=hello"])


def test_trap_38_given_a_unit_when_it_enters_scope_then_its_bag_holds_what_it_never_wrote(
    related: list[probers.Event],
) -> None:
    created = [event for event in related if event.name == "sink-relation-created"]
    assert len(created) == 2
    for event in created:
        bag = json.loads(event.calls[0]["out"])
        assert set(bag) - {"private-address"} == {"ingress-address", "egress-subnets"}
        assert bag["egress-subnets"] == f"{bag['ingress-address']}/32"


def test_trap_05_given_a_unit_when_joined_then_its_changed_follows_at_once(
    related: list[probers.Event], prober: probers.Prober
) -> None:
    for unit in prober.units(FAR):
        events = _of(related, unit, "sink")
        for index, event in enumerate(events):
            if event.name == "sink-relation-joined":
                follower = events[index + 1]
                assert follower.name == "sink-relation-changed"
                assert follower.env["JUJU_REMOTE_UNIT"] == event.env["JUJU_REMOTE_UNIT"]


def test_trap_06_given_two_units_in_scope_when_one_is_joined_then_only_it_is_listed(
    related: list[probers.Event], prober: probers.Prober
) -> None:
    for unit in prober.units(FAR):
        events = _of(related, unit, "sink")
        assert events[0].name == "sink-relation-created"
        assert events[0].told("relation-list") == []
        joined = [event for event in events if event.name == "sink-relation-joined"]
        first, second = (event.env["JUJU_REMOTE_UNIT"] for event in joined)
        assert joined[0].told("relation-list") == [first]
        assert joined[1].told("relation-list") == sorted([first, second])


def test_trap_04_given_an_unwritten_app_bag_when_related_then_no_app_changed(
    related: list[probers.Event],
) -> None:
    about_apps = [
        event
        for event in related
        if event.name.endswith("-relation-changed") and not event.env["JUJU_REMOTE_UNIT"]
    ]
    assert about_apps == []


def test_trap_04_given_a_written_app_bag_when_a_unit_arrives_then_app_changed_precedes_joined(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(NEAR)
    relation = _relation(prober, leader, "source")
    mark = prober.mark()
    prober.do(leader, ["relation-set", "--app", "-r", relation, "greeting=hello"])
    for unit in prober.units(FAR):
        event = prober.expect(unit, "sink-relation-changed", mark)
        assert event.env["JUJU_REMOTE_UNIT"] == ""
        assert event.env["JUJU_REMOTE_APP"] == NEAR
        assert event.remote_app == {"greeting": "hello"}
    before = set(prober.units(FAR))
    prober.juju.add_unit(FAR)
    (new,) = set(prober.units(FAR)) - before
    prober.expect(new, "start", timeout=probers.BOOT_PATIENCE)
    _joined_all(prober, new, set())
    prober.settle()
    events = _of(prober.events(new), new, "sink")
    assert [event.name for event in events[:3]] == [
        "sink-relation-created",
        "sink-relation-changed",
        "sink-relation-joined",
    ]
    assert events[1].env["JUJU_REMOTE_UNIT"] == ""
    assert events[1].told("relation-list") == []
    changed = [event for event in events if event.name == "sink-relation-changed"]
    assert [event.env["JUJU_REMOTE_UNIT"] for event in changed].count("") == 1


def test_trap_15_given_relation_data_when_rewritten_alike_then_nothing_and_empty_deletes(
    prober: probers.Prober,
) -> None:
    unit = prober.leader(NEAR)
    relation = _relation(prober, unit, "source")
    mark = prober.mark()
    prober.do(unit, ["relation-set", "-r", relation, "one=1", "two=2"])
    event = prober.expect(FAR, "sink-relation-changed", mark)
    assert (event.remote["one"], event.remote["two"]) == ("1", "2")
    prober.settle()
    mark = prober.mark()
    prober.do(unit, ["relation-set", "-r", relation, "one=1", "two=2"])
    prober.settle()
    assert [event.name for event in prober.events(after=mark)] == ["do"]
    prober.do(
        unit, {"run": ["relation-set", "-r", relation, "--file", "-"], "stdin": '{"one": ""}'}
    )
    event = prober.expect(FAR, "sink-relation-changed", mark)
    assert "one" not in event.remote
    assert event.remote["two"] == "2"
    prober.settle()


def test_trap_07_given_a_bag_seen_before_when_it_changes_then_other_hooks_read_the_old_one(
    prober: probers.Prober,
) -> None:
    writer = prober.leader(NEAR)
    reader = prober.leader(FAR)
    relation = _relation(prober, writer, "source")
    prober.do(writer, ["relation-set", "-r", relation, "seen=old"])
    prober.expect(reader, "sink-relation-changed", where=lambda e: e.remote.get("seen") == "old")
    prober.settle()
    mark = prober.mark()
    task = prober.start_action(
        reader,
        prober.gate("seen"),
        ["relation-get", "-r", relation, "--format=json", "seen", writer],
        ["relation-get", "-r", relation, "--format=json", "--app", "seen", NEAR],
    )
    prober.until(lambda: prober.names(reader, after=mark) == ["do"], "the action has begun")
    prober.do(
        writer,
        ["relation-set", "-r", relation, "seen=new"],
        ["relation-set", "-r", relation, "--app", "seen=new"],
    )
    prober.open(reader, "seen")
    action = prober.expect(reader, "do", mark)
    assert task
    assert [json.loads(call["out"]) for call in action.calls[1:]] == ["old", "new"]
    prober.expect(
        reader, "sink-relation-changed", mark, where=lambda e: e.remote.get("seen") == "new"
    )
    prober.settle()


def test_trap_14_given_a_peer_app_bag_when_the_leader_writes_then_it_too_gets_changed(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(NEAR)
    relation = _relation(prober, leader, "mates")
    mark = prober.mark()
    prober.do(leader, ["relation-set", "--app", "-r", relation, "told=everyone"])
    for unit in prober.units(NEAR):
        event = prober.expect(unit, "mates-relation-changed", mark)
        assert event.env["JUJU_REMOTE_UNIT"] == ""
        assert event.env["JUJU_REMOTE_APP"] == NEAR
        assert event.remote_app["told"] == "everyone"
    prober.settle()


def test_given_a_own_app_bag_when_read_then_only_the_leader_may_except_among_peers(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(NEAR)
    (other,) = prober.others(NEAR, leader)
    source = _relation(prober, leader, "source")
    mates = _relation(prober, leader, "mates")
    _greet(prober)
    prober.do(leader, ["relation-set", "--app", "-r", mates, "told=everyone"])
    words = ("relation-get", "--format=json", "--app")
    assert prober.ask(leader, *words, "-r", source, "-", NEAR)["greeting"] == "hello"
    code, _, error = prober.tool(other, *words, "-r", source, "-", NEAR)
    if not prober.behaviour.own_app_bag:
        assert (code, "permission denied" in error) == (1, True)
    assert prober.ask(other, *words, "-r", mates, "-", NEAR)["told"] == "everyone"
    code, _, error = prober.tool(other, "relation-set", "--app", "-r", mates, "a=b")
    assert (code, error.strip()) == (1, "ERROR cannot write relation settings")


def test_trap_18_given_a_stopped_agent_when_data_changed_often_then_it_learns_the_last_once(
    prober: probers.Prober,
) -> None:
    writer = prober.leader(NEAR)
    reader = prober.leader(FAR)
    relation = _relation(prober, writer, "source")
    service = f"jujud-machine-{prober.machine(reader)}"
    mark = prober.mark()
    prober.shell(reader, f"systemctl stop {service}")
    for number in "123":
        prober.do(writer, ["relation-set", "-r", relation, f"count={number}"])
    prober.shell(reader, f"systemctl start {service}")
    event = prober.expect(reader, "sink-relation-changed", mark)
    prober.settle()
    assert event.remote["count"] == "3"
    assert prober.names(reader, after=mark) == ["sink-relation-changed"]


def test_trap_39_given_a_new_endpoint_when_not_yet_upgraded_then_its_hooks_wait(
    prober: probers.Prober, second_probe: pathlib.Path
) -> None:
    if not prober.behaviour.new_endpoints:
        pytest.skip("this Juju refuses a charm with a new endpoint")
    stuck, *_ = prober.others(FAR, prober.leader(FAR))
    prober.plan_in(stuck, config_changed=[{"exit": 1}])
    prober.juju.config(FAR, {"text": "thirty-nine"})
    prober.until(
        lambda: prober.units()[stuck].workload_status.current == "error", f"{stuck} in error"
    )
    mark = prober.mark()
    prober.juju.refresh(FAR, path=second_probe)
    prober.juju.integrate(f"{NEAR}:source", f"{FAR}:late")
    prober.expect(prober.leader(FAR), "late-relation-changed", mark)
    assert set(prober.names(stuck, after=mark)) <= {"config-changed"}
    prober.plan_in(stuck)
    with contextlib.suppress(jubilant.CLIError):  # Juju may have tried again by itself meanwhile
        prober.juju.cli("resolved", stuck)
    prober.expect(stuck, "late-relation-created", mark)
    prober.settle()
    names = prober.names(stuck, after=mark)
    assert names.index("upgrade-charm") < names.index("late-relation-created")
    mark = prober.mark()
    prober.juju.remove_relation(f"{NEAR}:source", f"{FAR}:late")
    prober.expect(stuck, "late-relation-broken", mark)
    prober.settle()


@pytest.fixture(scope="module")
def leaving(prober: probers.Prober) -> tuple[str, list[probers.Event]]:
    """A unit that is not the leader is removed; its name, and all events of that."""
    prober.plan(FAR, sink_relation_broken=[OWN_BAG])
    _greet(prober)
    prober.settle()
    unit = prober.others(FAR, prober.leader(FAR))[-1]
    mark = prober.mark()
    prober.juju.remove_unit(unit)
    prober.gone(unit)
    prober.settle()
    return unit, prober.events(after=mark)


def test_trap_08_given_a_leaving_unit_when_departed_then_unlisted_but_its_bag_is_readable(
    leaving: tuple[str, list[probers.Event]], prober: probers.Prober
) -> None:
    unit, events = leaving
    for survivor in prober.units(NEAR):
        (departed,) = _of(events, survivor, "source")
        assert departed.name == "source-relation-departed"
        assert departed.env["JUJU_REMOTE_UNIT"] == unit
        assert unit not in departed.told("relation-list")
        assert departed.remote["ingress-address"]


def test_trap_09_given_a_removed_unit_when_departed_then_both_sides_name_it_as_departing(
    leaving: tuple[str, list[probers.Event]],
) -> None:
    unit, events = leaving
    departed = [event for event in events if event.name.endswith("-relation-departed")]
    assert {event.env["JUJU_DEPARTING_UNIT"] for event in departed} == {unit}
    own = [event for event in departed if event.unit == unit and event.name.startswith("sink")]
    assert len(own) == 2


def test_trap_10_given_a_removed_unit_when_it_tears_down_then_peers_learn_last_others_at_broken(
    leaving: tuple[str, list[probers.Event]], prober: probers.Prober
) -> None:
    unit, events = leaving
    own = [event for event in events if event.unit == unit]
    assert [event.name for event in own][-2:] == ["stop", "remove"]
    ends = {event.name: event.end or 0.0 for event in own}
    for event in events:
        if event.name == "source-relation-departed":
            assert event.begin > ends["sink-relation-broken"]
    for survivor in prober.units(FAR):
        told = [
            event for event in _of(events, survivor, "mates") if event.name.endswith("departed")
        ]
        if not told and not prober.behaviour.peer_departed:
            continue
        (departed,) = told
        assert departed.begin > ends["remove"]
        assert departed.remote["ingress-address"]


def test_trap_11_given_a_removed_unit_when_broken_then_own_data_is_readable_and_no_peer_broken(
    leaving: tuple[str, list[probers.Event]],
) -> None:
    unit, events = leaving
    assert "mates-relation-broken" not in {event.name for event in events}
    (broken,) = [event for event in events if event.name == "sink-relation-broken"]
    assert broken.unit == unit
    assert broken.env["JUJU_REMOTE_UNIT"] == ""
    assert broken.env["JUJU_REMOTE_APP"] == NEAR
    assert broken.told("relation-list") == []
    assert "ingress-address" in json.loads(broken.calls[0]["out"])
    assert broken.remote_app["greeting"] == "hello"


@pytest.fixture(scope="module")
def remade(prober: probers.Prober) -> dict[str, Any]:
    """The relation is removed and made again; what was read, and the events of each half."""
    giver, taker = prober.leader(NEAR), prober.leader(FAR)
    old = _relation(prober, giver, "source")
    (secret,) = prober.do(
        giver,
        f"set -e; id=$(secret-add --owner application token=abc); "
        f"secret-grant --relation {old} $id; echo -n $id",
    )
    uri = secret["out"]
    before = prober.tool(taker, "secret-get", uri, "--format=json")
    mark = prober.mark()
    prober.juju.remove_relation(f"{NEAR}:source", f"{FAR}:sink")
    for unit in prober.units(NEAR):
        prober.expect(unit, "source-relation-broken", mark)
    for unit in prober.units(FAR):
        prober.expect(unit, "sink-relation-broken", mark)
    removed = prober.events(after=mark)
    after = prober.tool(taker, "secret-get", uri, "--format=json")
    mark = prober.mark()
    prober.juju.integrate(f"{NEAR}:source", f"{FAR}:sink")
    for unit in prober.units(FAR):
        _joined_all(prober, unit, mark)
    prober.settle()
    return {
        "relations": (old, _relation(prober, giver, "source")),
        "secret": (before, after),
        "removed": removed,
        "made": prober.events(FAR, after=mark),
    }


def test_trap_09_given_a_relation_when_removed_then_each_side_sees_the_other_depart(
    remade: dict[str, Any],
) -> None:
    departed = [event for event in remade["removed"] if event.name.endswith("departed")]
    assert departed
    for event in departed:
        assert event.env["JUJU_DEPARTING_UNIT"] == event.env["JUJU_REMOTE_UNIT"]


def test_trap_11_given_a_removed_relation_when_broken_then_it_is_not_listed(
    remade: dict[str, Any],
) -> None:
    broken = [event for event in remade["removed"] if event.name.endswith("broken")]
    assert {event.name for event in broken} == {"source-relation-broken", "sink-relation-broken"}
    for event in broken:
        assert event.env["JUJU_RELATION_ID"] not in event.told("relation-ids")
        assert event.told("relation-list") == []


def test_trap_37_given_a_relation_when_remade_then_new_id_empty_bags_and_no_old_secret(
    remade: dict[str, Any],
) -> None:
    old, new = (int(name.partition(":")[2]) for name in remade["relations"])
    assert new > old
    before, after = remade["secret"]
    assert json.loads(before[1]) == {"token": "abc"}
    assert (after[0], "permission denied" in after[2]) == (1, True)
    joined = [event for event in remade["made"] if event.name == "sink-relation-joined"]
    assert joined
    for event in joined:
        assert event.remote_app == {}
        assert set(event.remote) <= {"private-address", "ingress-address", "egress-subnets"}


def test_given_relations_when_related_wrongly_then_the_command_line_refuses(
    prober: probers.Prober,
) -> None:
    with probers.refused() as text:
        prober.juju.integrate(f"{NEAR}:source", f"{FAR}:sink")
    assert "already exists" in text[0]
    with probers.refused() as text:
        prober.juju.integrate(f"{NEAR}:single", f"{FAR}:sink")
    assert prober.behaviour.no_match in text[0]
    with probers.refused() as text:
        prober.juju.integrate(NEAR, FAR)
    assert "ambiguous relation" in text[0]


def test_trap_09_given_an_application_when_removed_then_its_own_units_are_the_departing_ones(
    prober: probers.Prober,
) -> None:
    survivors = set(prober.units(NEAR))
    removed = set(prober.units(FAR))
    mark = prober.mark()
    prober.juju.remove_application(FAR)
    prober.until(lambda: FAR not in prober.juju.status().apps, f"{FAR} is gone")
    for unit in survivors:
        prober.expect(unit, "source-relation-broken", mark)
    departed = [
        event
        for event in prober.events(after=mark)
        if event.name in ("source-relation-departed", "sink-relation-departed")
    ]
    for event in departed:
        departing = event.env["JUJU_DEPARTING_UNIT"]
        expected = event.unit if event.unit in removed else event.env["JUJU_REMOTE_UNIT"]
        assert departing == expected
    assert {event.unit for event in departed} == survivors | removed
