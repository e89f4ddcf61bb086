"""Leadership, machines that die, numbers that never come back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib

APP = "lead"
LEASE_SECONDS = 6
"""The lease's term on minijuju; 60 s elsewhere."""
ELECTION_SECONDS = 180
RELEASE_SECONDS = 55
"""A lease that is given up is taken within this, a lease that runs out is not (60 s)."""


@pytest.fixture(scope="module", autouse=True)
def deployed(prober: probers.Prober, probe: pathlib.Path) -> None:
    """Three units; leases are short where that can be chosen."""
    if prober.on_minijuju:
        prober.juju.model_config({"minijuju-lease-seconds": str(LEASE_SECONDS)})
    prober.juju.deploy(probe, APP, num_units=3)
    for unit in prober.units(APP):
        prober.expect(unit, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()


def _mates(prober: probers.Prober, unit: str) -> str:
    return prober.ask(unit, "relation-ids", "mates", "--format=json")[0]


def _add(prober: probers.Prober) -> str:
    before = set(prober.units(APP))
    prober.juju.add_unit(APP)
    (new,) = set(prober.units(APP)) - before
    prober.expect(new, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()
    return new


def test_given_three_units_when_deployed_then_one_leads(prober: probers.Prober) -> None:
    elected = [event for event in prober.events(APP) if event.name == "leader-elected"]
    assert [event.unit for event in elected] == [prober.leader(APP)]
    leads = {
        unit: prober.tool(unit, "is-leader", "--format=json")[1].strip()
        for unit in prober.units(APP)
    }
    assert sorted(leads.values()) == ["false", "false", "true"]
    assert leads[prober.leader(APP)] == "true"


def test_trap_12_given_a_leader_when_removed_then_it_leads_to_its_end_and_then_another(
    prober: probers.Prober,
) -> None:
    old = prober.leader(APP)
    relation = _mates(prober, old)
    prober.do(old, ["relation-set", "--app", "-r", relation, "legacy=kept"])
    prober.settle()
    mark = prober.mark()
    prober.juju.remove_unit(old)
    prober.gone(old)
    elected = prober.expect(APP, "leader-elected", mark)
    teardown = prober.events(old, after=mark)
    assert [event.name for event in teardown][-2:] == ["stop", "remove"]
    assert all(event.leader for event in teardown)
    assert elected.unit != old
    assert elected.begin > (teardown[-1].end or 0)
    assert elected.begin - (teardown[-1].end or 0) < RELEASE_SECONDS
    prober.settle()
    assert prober.leader(APP) == elected.unit


def test_trap_33_given_removed_things_when_new_ones_come_then_no_number_is_used_again(
    prober: probers.Prober,
) -> None:
    machines = {int(name) for name in prober.juju.status().machines}
    numbers = {int(event.unit.partition("/")[2]) for event in prober.events(APP)}
    tasks = [int(prober.start_action(unit)) for unit in prober.units(APP)]
    new = _add(prober)
    assert int(new.partition("/")[2]) == max(numbers) + 1
    assert int(prober.machine(new)) > max(machines)
    assert int(prober.machine(new)) >= len(numbers)
    again = int(prober.start_action(new))
    assert again > max(tasks) > min(tasks)
    prober.settle()


def test_trap_13_given_leadership_lost_within_a_hook_when_it_ends_then_its_app_write_fails(
    prober: probers.Prober,
) -> None:
    old = prober.leader(APP)
    relation = _mates(prober, old)
    steps = [
        ["relation-set", "--app", "-r", relation, "stolen=yes"],
        prober.gate("thirteen"),
        ["is-leader", "--format=json"],
    ]
    prober.plan_in(old, config_changed=steps)
    mark = prober.mark()
    prober.juju.config(APP, {"text": "thirteen"})
    prober.until(lambda: prober.names(old, after=mark) == ["config-changed"], "the hook began")
    machine = prober.machine(old)
    prober.chaos("pause", machine)
    try:
        elected = prober.expect(APP, "leader-elected", mark, timeout=ELECTION_SECONDS)
        assert elected.unit != old
    finally:
        prober.chaos("resume", machine)
    prober.open(old, "thirteen")
    first = prober.expect(old, "config-changed", mark)
    assert first.leader
    assert first.calls[0]["code"] == 0
    assert first.code == 0
    prober.until(lambda: prober.names(old, after=mark).count("config-changed") > 1, "a retry")
    bag = prober.ask(
        elected.unit, *f"relation-get --format=json --app -r {relation} - {APP}".split()
    )
    assert "stolen" not in bag
    retried = prober.expect(old, "config-changed", mark, where=lambda event: event.id != first.id)
    assert not retried.leader
    assert retried.calls[0]["err"].strip() == "ERROR cannot write relation settings"
    assert "leader-deposed" not in prober.names(old, after=mark)
    prober.plan_in(old)
    prober.settle()


def test_trap_34_given_a_dead_machine_when_nobody_acts_then_no_hook_and_its_rows_stay(
    prober: probers.Prober,
) -> None:
    old = prober.leader(APP)
    machine = prober.machine(old)
    relation = _mates(prober, old)
    prober.do(old, ["relation-set", "-r", relation, "last=word"])
    prober.settle()
    mark = prober.mark()
    prober.chaos("kill", machine)
    elected = prober.expect(APP, "leader-elected", mark, timeout=ELECTION_SECONDS)
    assert elected.unit != old
    lost = prober.until(
        lambda: (
            prober.units().get(old) if prober.units()[old].juju_status.current == "lost" else None
        ),
        f"{old} is lost",
        ELECTION_SECONDS,
    )
    assert lost.workload_status.current == "unknown"
    assert "agent lost" in lost.workload_status.message
    assert prober.juju.status().machines[machine].juju_status.current == "down"
    names = [event.name for event in prober.events(APP, after=mark)]
    assert "mates-relation-departed" not in names
    bag = prober.ask(elected.unit, *f"relation-get --format=json -r {relation} - {old}".split())
    assert bag["last"] == "word"


def test_trap_35_given_a_dead_machine_when_its_unit_is_removed_then_only_force_ends_it(
    prober: probers.Prober,
) -> None:
    (dead,) = [name for name, unit in prober.units().items() if unit.juju_status.current == "lost"]
    machine = prober.machine(dead)
    mark = prober.mark()
    prober.juju.remove_unit(dead)
    with pytest.raises(pytest.fail.Exception):
        prober.gone(dead, timeout=4)
    assert prober.events(APP, after=mark) == []
    prober.juju.cli("remove-unit", "--no-prompt", "--force", "--no-wait", dead)
    prober.gone(dead, timeout=ELECTION_SECONDS)
    for unit in prober.units(APP) if prober.behaviour.peer_departed else ():
        departed = prober.expect(unit, "mates-relation-departed", mark)
        assert departed.env["JUJU_REMOTE_UNIT"] == departed.env["JUJU_DEPARTING_UNIT"] == dead
    assert prober.events(dead, after=mark) == []
    prober.until(lambda: machine not in prober.juju.status().machines, "the machine is gone")


def test_trap_36_given_no_units_when_one_is_added_then_it_leads_and_sees_the_old_app_bag(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    prober.juju.remove_unit(*prober.units(APP))
    prober.until(lambda: not prober.units(APP), "all units are gone")
    status = prober.juju.status()
    assert APP in status.apps
    assert status.apps[APP].app_status.current == "unknown"
    new = _add(prober)
    assert "leader-elected" in prober.names(new, after=mark)
    relation = _mates(prober, new)
    bag = prober.ask(new, *f"relation-get --format=json --app -r {relation} - {APP}".split())
    assert bag["legacy"] == "kept"


def test_given_an_unknown_unit_when_removed_then_the_command_line_says_so(
    prober: probers.Prober,
) -> None:
    with probers.refused() as text:
        prober.juju.remove_unit(f"{APP}/999")
    assert f'unit "{APP}/999" not found' in text[0]
    assert json.loads(prober.juju.cli("status", "--format", "json"))["applications"]
