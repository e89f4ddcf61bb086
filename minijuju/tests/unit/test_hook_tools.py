"""Hook tools over a model in memory: flags, formats, exit codes, and what is buffered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from minijuju.agent import toolkit
from minijuju.model import records, relations, secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit import world as worlds


@pytest.fixture
def within(world: worlds.World) -> Callable[[Callable[[worlds.Tools], Any], str], None]:
    """Run a function as the update-status hook of a unit of `probe`, and let all settle."""
    world.deploy(
        "probe",
        2,
        config={
            "text": {"type": "string", "default": "a"},
            "number": {"type": "int"},
            "flag": {"type": "boolean", "default": False},
        },
        storage={"data": {"type": "filesystem", "multiple": {"range": "1-2"}}},
    )
    world.run()

    def run(act: Callable[[worlds.Tools], Any], unit: str = "") -> None:
        unit = unit or world.state.applications["probe"].lease.holder
        world.scripts = {f"{unit}:update-status": lambda tools: act(tools) and None}
        world.agent(unit)._update_at = 0
        world.run()
        world.scripts = {}

    return run


def follower(world: worlds.World) -> str:
    leader = world.state.applications["probe"].lease.holder
    return next(unit.name for unit in world.state.units_of("probe") if unit.name != leader)


def test_given_options_when_read_then_types_stay_and_unset_ones_are_left_out(within: Any) -> None:
    def act(tools: worlds.Tools) -> None:
        assert json.loads(tools("config-get", "--format=json")) == {"flag": False, "text": "a"}
        assert tools("config-get", "--all", "--format", "json").count("null") == 1
        assert tools("config-get", "number", "--format=json") == "null\n"
        assert tools("config-get", "number") == ""
        assert tools("config-get", "flag") == "False\n"

    within(act)


def test_given_wrong_calls_when_made_then_codes_and_texts_are_jujus(within: Any) -> None:
    def act(tools: worlds.Tools) -> None:
        assert "relation not found" in tools("relation-get", "-r", "db:9", "-", "x/0", fails=2)
        assert "no relation id specified" in tools("relation-get", fails=2)
        assert "not running an action" in tools("action-get", fails=1)
        assert "option provided but not defined: --no" in tools("is-leader", "--no", fails=2)
        tools("status-set", "error", "x", fails=2)
        tools("status-set", "unknown", fails=2)
        assert "permission denied" in tools("credential-get", "--format=json", fails=1)

    within(act)


def test_given_a_follower_when_it_writes_for_the_application_then_it_is_refused(
    world: worlds.World, within: Any
) -> None:
    def act(tools: worlds.Tools) -> None:
        error = tools("relation-set", "-r", "mates:0", "--app", "k=v", fails=1)
        assert error == "ERROR cannot write relation settings\n"
        error = tools("status-set", "--application=True", "active", fails=1)
        assert error == "ERROR this unit is not the leader\n"
        assert "not the leader" in tools("secret-add", "key=value", fails=1)
        assert tools("is-leader", "--format=json") == "false\n"

    within(act, follower(world))


def test_given_relation_data_when_set_then_own_reads_see_it_and_empty_deletes(
    world: worlds.World, within: Any
) -> None:
    def act(tools: worlds.Tools) -> None:
        me = tools.context.unit_name
        before = world.state.relations[0].units[me].version
        tools("relation-set", "-r", "mates:0", "--file", "-", stdin='{"a": "1", "b": "2"}')
        tools("relation-set", "-r", "0", "a=")
        shown = json.loads(tools("relation-get", "-r", "0", "--format=json", "-", me))
        assert shown["b"] == "2"
        assert "a" not in shown
        assert world.state.relations[0].units[me].version == before

    within(act)
    leader = world.state.applications["probe"].lease.holder
    assert world.state.relations[0].units[leader].data["b"] == "2"


def test_given_ports_when_opened_then_they_are_listed_at_once_and_kept_at_the_end(
    world: worlds.World, within: Any
) -> None:
    def act(tools: worlds.Tools) -> None:
        tools("open-port", "8080")
        tools("open-port", "9000-9010/udp")
        tools("open-port", "icmp")
        shown = json.loads(tools("opened-ports", "--format=json"))
        assert shown == ["8080/tcp", "9000-9010/udp", "icmp"]
        tools("close-port", "8080/tcp")

    within(act)
    leader = world.state.units[world.state.applications["probe"].lease.holder]
    assert [port["from"] for port in leader.ports] == [9000, -1]


def test_given_storage_when_added_in_a_hook_then_it_is_attached_later(
    world: worlds.World, within: Any
) -> None:
    within(lambda tools: tools("storage-add", "data=1"))
    leader = world.state.applications["probe"].lease.holder
    assert world.hooks(leader)[-1] == "data-storage-attached"
    assert len(world.state.storage_of(leader)) == 2


def test_given_a_secret_when_others_track_it_then_each_is_told_once_for_each_revision(
    world: worlds.World, within: Any
) -> None:
    made: list[str] = []

    def create(tools: worlds.Tools) -> None:
        made.append(tools("secret-add", "--label", "mine", "key=one").strip())
        assert json.loads(tools("secret-get", made[0], "--format=json")) == {"key": "one"}

    within(create)
    other = follower(world)
    within(lambda tools: tools("secret-get", made[0], "--label", "theirs"), other)
    within(lambda tools: tools("secret-set", made[0], "key=one"))
    assert "secret-changed" not in world.hooks(other)
    within(lambda tools: tools("secret-set", made[0], "key=two"))
    assert world.hooks(other).count("secret-changed") == 1
    assert world.environment(other, "secret-changed").JUJU_SECRET_LABEL == "theirs"
    seen: list[str] = []
    within(lambda tools: seen.append(tools("secret-get", "--label", "theirs", "key")), other)
    within(lambda tools: seen.append(tools("secret-get", made[0], "key", "--peek")), other)
    within(lambda tools: seen.append(tools("secret-get", made[0], "key", "--refresh")), other)
    assert seen == ["one\n", "two\n", "two\n"]
    leader = world.state.applications["probe"].lease.holder
    assert world.environment(leader, "secret-remove").JUJU_SECRET_REVISION == "1"


def test_given_a_label_in_use_when_taken_again_then_the_hook_fails_at_its_end(
    world: worlds.World, within: Any
) -> None:
    within(lambda tools: tools("secret-add", "--label", "one", "key=value"))
    within(lambda tools: tools("secret-add", "--label", "one", "key=other"))
    leader = world.state.applications["probe"].lease.holder
    assert world.state.units[leader].agent.message == 'hook failed: "update-status"'
    assert len(world.state.secrets) == 1


def test_given_a_grant_when_the_relation_goes_then_the_secret_cannot_be_read(
    world: worlds.World, within: Any
) -> None:
    world.deploy("client")
    relation = world.integrate("client:backend", "probe:db")
    world.run()
    made: list[str] = []

    def share(tools: worlds.Tools) -> None:
        made.append(tools("secret-add", "key=value").strip())
        tools("secret-grant", made[0], "-r", f"db:{relation.id}")

    within(share)

    def read(tools: worlds.Tools, fails: int) -> None:
        tools("secret-get", made[0], fails=fails)

    within(lambda tools: read(tools, 0), "client/0")
    with world.store.transaction():
        relations.destroy(world.state, world.state.relations[relation.id])
    world.run()
    within(lambda tools: read(tools, 1), "client/0")


def test_given_an_expiry_when_it_passes_then_the_owner_is_told(
    world: worlds.World, within: Any
) -> None:
    within(lambda tools: tools("secret-add", "--owner", "unit", "--expire", "0s", "key=value"))
    leader = world.state.applications["probe"].lease.holder
    world.run()
    assert world.hooks(leader).count("secret-expired") == 1
    (secret,) = world.state.secrets
    hooks, later = secrets.due(world.state, world.state.units[leader])
    assert hooks == []
    assert later == pytest.approx(secret.revisions[1].expired_told + 300)


def test_given_any_tool_when_asked_for_help_then_exit_0_and_its_flags(within: Any) -> None:
    def act(tools: worlds.Tools) -> None:
        for name in toolkit.TOOLS:
            assert tools(name, "--help").startswith(f"Usage: {name} "), name
        assert "--file " in tools("relation-set", "--help")
        assert "--app (= false)" in tools("relation-set", "--help")
        tools("juju-log", "--", "--help")

    within(act)


def test_given_a_secret_when_others_ask_for_its_metadata_then_not_found(
    world: worlds.World, within: Any
) -> None:
    world.deploy("client")
    relation = world.integrate("client:backend", "probe:db")
    world.run()
    made: list[str] = []

    def share(tools: worlds.Tools) -> None:
        made.append(tools("secret-add", "key=value").strip())
        tools("secret-grant", made[0], "-r", f"db:{relation.id}")

    within(share)
    within(lambda tools: tools("secret-info-get", made[0]))
    said: list[str] = []

    def ask(tools: worlds.Tools) -> None:
        tools("secret-get", made[0], "--label", "theirs")
        said.append(tools("secret-info-get", made[0], fails=1))
        said.append(tools("secret-info-get", "--label", "theirs", fails=1))

    within(ask, "client/0")
    within(ask, follower(world))
    bare = made[0].removeprefix("secret:")
    assert said == [f'ERROR secret "{bare}" not found\n'] * 4


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        ("", "smart", ""),
        (["a", "b"], "smart", "a\nb\n"),
        (True, "json", "true\n"),
        (None, "json", "null\n"),
        ({"a": "b"}, "json", '{"a":"b"}\n'),
        ({"a": ["b"]}, "yaml", "a:\n- b\n"),
        ("text", "yaml", "text\n"),
        ({"b": "1", "a": "true"}, "yaml", 'a: "true"\nb: "1"\n'),
        ({"k": "one\n two"}, "yaml", "k: |-\n  one\n   two\n"),
    ],
)
def test_given_a_value_when_rendered_then_it_looks_as_jujus(
    value: Any, form: str, text: str
) -> None:
    assert toolkit.render(form, value) == text


def test_given_a_bag_when_written_alike_then_its_version_stays() -> None:
    bag = records.Bag({"a": "1"}, 3)
    assert not relations.write(bag, {"a": "1", "b": ""})
    assert bag.version == 3
    assert relations.write(bag, {"a": ""})
    assert (bag.data, bag.version) == ({}, 4)
