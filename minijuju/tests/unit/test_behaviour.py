"""The table of differences is whole, and each of its rows has a test that exists."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING, Any

import pytest

from minijuju.agent import actions
from minijuju.controller import deployment
from minijuju.model import behaviour, errors
from unit import world as worlds

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFORMANCE = pathlib.Path(__file__).parents[1] / "conformance"


def _tests() -> set[str]:
    return {
        name
        for file in CONFORMANCE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }


def test_given_the_differences_when_read_then_each_differs_and_has_its_test() -> None:
    there = _tests()
    for name, row in behaviour.differences().items():
        assert row.values[0] != row.values[1], name
        assert row.shown[0] != row.shown[1], name
        assert row.test in there, name
        assert row.source, name


def test_given_what_is_lacking_when_read_then_each_has_a_test_or_a_reason() -> None:
    there = _tests()
    for lack in behaviour.LACKS:
        assert lack.check in there or re.match(r"none: \w", lack.check), lack.what


@pytest.mark.parametrize(
    ("version", "name"), [("", "3.6"), ("3.6.14", "3.6"), ("4.0", "4.0"), ("4.0.15", "4.0")]
)
def test_given_a_version_when_looked_up_then_its_behaviour_is_found(
    version: str, name: str
) -> None:
    assert behaviour.of(version).name == name
    with pytest.raises(KeyError):
        behaviour.of("2.9")


@pytest.fixture
def four(tmp_path: pathlib.Path) -> Iterator[worlds.World]:
    """A model of Juju 4."""
    made = worlds.World(tmp_path)
    with made.store.transaction():
        made.state.model.agent_version = "4.0"
    yield made


def test_given_juju_4_when_a_peer_goes_then_it_is_listed_until_the_agent_restarts(
    four: worlds.World,
) -> None:
    four.deploy("probe", 3)
    four.run()
    four.remove_unit("probe/2")
    four.run("probe/2")
    four.ran.clear()
    four.run()
    assert four.hooks("probe/0") == []
    members = four.state.units["probe/0"].state.relations[0].members
    assert set(members) == {"probe/1", "probe/2"}
    four.restart("probe/0")
    four.run()
    members = four.state.units["probe/0"].state.relations[0].members
    assert set(members) == {"probe/1"}
    assert four.hooks("probe/0") == []


def test_given_juju_4_when_a_unit_comes_up_then_its_hooks_and_bags_are_its_own(
    four: worlds.World,
) -> None:
    four.deploy("probe", 2)
    four.run()
    assert "leader-settings-changed" not in {name for _, name, _ in four.ran}
    environment = vars(four.environment("probe/0", "install"))
    assert environment["JUJU_VERSION"] == "4.0.15"
    assert "JUJU_SLA" not in environment
    assert "JUJU_CHARM_TRACE_CONFIG_CA_CERT" in environment
    assert "private-address" not in four.state.relations[0].units["probe/0"].data


def test_given_juju_4_when_parameters_do_not_fit_then_the_task_fails_in_the_unit(
    four: worlds.World,
) -> None:
    schema = {"params": {"map": {"type": "object"}, "word": {"type": "string"}}}
    four.deploy("probe", actions={"act": schema})
    four.run()
    wrong: list[dict[str, Any]] = [{"map": {"a": 1}}, {"word": 7}, {"other": "x"}]
    with four.store.transaction():
        for params in wrong:
            assert actions.enqueue(four.state, ["probe/0"], "act", params)["tasks"]
        actions.enqueue(four.state, ["probe/0"], "act", {"word": "x"})
    four.run()
    tasks = list(four.state.tasks)
    assert [task.status for task in tasks] == ["failed"] * 3 + ["completed"]
    assert 'must be of type object, given "map' in tasks[0].message
    assert four.hooks("probe/0").count("act") == 1


def test_given_juju_4_when_a_charm_has_an_endpoint_more_then_its_refresh_is_refused(
    four: worlds.World,
) -> None:
    four.deploy("probe")
    more = four.charm("probe", provides={"db": {"interface": "probe"}, "more": {"interface": "x"}})
    uploaded = deployment.upload_charm(four.state, four.home, str(more))
    with pytest.raises(errors.JujuError) as caught, four.store.transaction():
        record = four.state.applications["probe"]
        deployment.refresh(four.state, four.home, record, uploaded, {})
    assert '"backend, db, juju-info, mates, more" do not exist' in caught.value.text
