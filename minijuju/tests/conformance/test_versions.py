"""What differs between Juju 3.6 and Juju 4: every test holds for both, each in its own way.

On minijuju each runs twice, in a model of either; elsewhere once, for what is there. The
differences themselves, with their sources, are data: `minijuju.model.behaviour`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jubilant
import pytest

from conformance import prober as probers
from minijuju.model import behaviour
from minijuju.testing import entering

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

APP, MATE = "vary", "beside"


@pytest.fixture(scope="module", params=sorted(behaviour.BEHAVIOURS))
def prober(request: pytest.FixtureRequest, on_minijuju: bool) -> Iterator[probers.Prober]:
    """A model of each version; two units, and one beside the first that is related to them."""
    config = {"agent-version": request.param} if on_minijuju else {}
    with jubilant.temp_model(config=config) as juju:
        made = probers.Prober(juju, on_minijuju)
        if made.behaviour.name != request.param:
            pytest.skip(f"this Juju is {made.behaviour.name}")
        yield made


@pytest.fixture(scope="module", autouse=True)
def deployed(prober: probers.Prober, probe: pathlib.Path) -> None:
    """All units have started; nothing has been entered yet."""
    prober.juju.deploy(probe, APP, num_units=2, storage={"data": "lxd,1,64M"})
    prober.juju.deploy(probe, MATE, to="0")
    prober.juju.integrate(f"{APP}:source", f"{MATE}:sink")
    for unit in (f"{APP}/0", f"{APP}/1", f"{MATE}/0"):
        prober.expect(unit, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()


def _leader_and_follower(prober: probers.Prober) -> tuple[str, str]:
    leader = prober.leader(APP)
    return leader, next(unit for unit in (f"{APP}/0", f"{APP}/1") if unit != leader)


def _status(prober: probers.Prober) -> dict[str, Any]:
    return json.loads(prober.juju.cli("status", "--format", "json"))


def test_given_a_new_model_when_entered_without_a_key_then_as_this_juju_does(
    prober: probers.Prober,
) -> None:
    if prober.behaviour.key_needed:
        with pytest.raises(jubilant.CLIError) as failed:
            prober.juju.ssh(f"{APP}/0", "true")
        assert "Permission denied" in failed.value.stderr
        with pytest.raises(jubilant.CLIError):
            prober.juju.scp(f"{APP}/0:/etc/hostname", "/tmp")
    entering.admit(prober.juju, prober.on_minijuju)
    assert prober.juju.ssh(f"{APP}/0", "whoami").strip() == "ubuntu"


def test_given_a_model_when_its_version_is_asked_then_all_say_the_same(
    prober: probers.Prober,
) -> None:
    version = prober.juju.status().model.version
    assert behaviour.of(version) == prober.behaviour
    assert prober.expect(f"{APP}/0", "install").env["JUJU_VERSION"] == version
    told = prober.shell(f"{APP}/0", "/var/lib/juju/tools/machine-*/jujud version")
    assert told.startswith(f"{version}-")


def test_given_a_hook_when_it_runs_then_its_variables_are_this_jujus(
    prober: probers.Prober,
) -> None:
    there = set(prober.expect(f"{APP}/0", "install").env)
    for name, other in behaviour.BEHAVIOURS.items():
        variables = {variable for variable, _ in other.variables}
        if name == prober.behaviour.name:
            assert variables <= there
        else:
            assert not variables & there


def test_given_a_follower_when_deployed_then_its_hooks_are_this_jujus(
    prober: probers.Prober,
) -> None:
    _, follower = _leader_and_follower(prober)
    told = "leader-settings-changed" in prober.names(follower)
    assert told == prober.behaviour.leader_settings
    joined = prober.expect(follower, "mates-relation-joined")
    assert ("private-address" in joined.remote) == prober.behaviour.private_address
    assert joined.remote["ingress-address"]


def test_given_nothing_stored_when_asked_for_then_as_this_juju_says_it(
    prober: probers.Prober,
) -> None:
    told = prober.ask(f"{APP}/0", "state-get", "--format=json")
    assert told == json.loads(prober.behaviour.no_state)


def test_given_a_follower_when_it_reads_its_own_app_bag_then_as_this_juju_lets_it(
    prober: probers.Prober,
) -> None:
    _, follower = _leader_and_follower(prober)
    (relation,) = prober.ask(follower, "relation-ids", "source", "--format=json")
    question = f"relation-get --format=json --app -r {relation} - {APP}".split()
    code, out, error = prober.tool(follower, *question)
    if prober.behaviour.own_app_bag:
        assert (code, json.loads(out)) == (0, {})
    else:
        assert (code, "permission denied" in error) == (1, True)


def test_given_bad_parameters_when_run_then_as_this_juju_refuses_them(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    wrong = jubilant.TaskError if not prober.behaviour.checks_parameters else ValueError
    for params in ({"steps": 7}, {"steps": "[]", "more": 1}, {}):
        with pytest.raises(wrong):
            prober.juju.run(f"{APP}/0", "do", params)
    assert prober.names(f"{APP}/0", after=mark) == []


def test_given_an_object_as_parameter_when_run_then_as_this_juju_takes_it(
    prober: probers.Prober,
) -> None:
    params = {"steps": "[]", "nested": {"deep": 1}}
    if prober.behaviour.object_parameters:
        assert prober.juju.run(f"{APP}/0", "do", params).status == "completed"
        return
    with pytest.raises(jubilant.TaskError) as failed:
        prober.juju.run(f"{APP}/0", "do", params)
    assert "must be of type object, given" in failed.value.task.message


def test_given_an_undeclared_parameter_when_run_then_as_this_juju_takes_it(
    prober: probers.Prober,
) -> None:
    if prober.behaviour.additional_properties:
        assert prober.juju.run(f"{APP}/0", "loose", {"more": "x"}).status == "completed"
        return
    with pytest.raises((jubilant.TaskError, ValueError)):
        prober.juju.run(f"{APP}/0", "loose", {"more": "x"})
    assert prober.juju.run(f"{APP}/0", "loose", {"known": "x"}).status == "completed"


def test_given_the_status_when_read_then_its_fields_are_this_jujus(
    prober: probers.Prober,
) -> None:
    shown = _status(prober)
    application, machine = shown["applications"][APP], shown["machines"]["0"]
    unit = application["units"][f"{APP}/0"]
    for one in (application, machine, unit):
        assert ("life" in one) == prober.behaviour.status_life
    for field in ("display-name", "modification-status"):
        assert (field in machine) == (field not in prober.behaviour.status_lacks)
    assert ("sla" in shown["model"]) == ("sla" not in prober.behaviour.status_lacks)
    of_machines = "agent-version-of-machines" not in prober.behaviour.status_lacks
    assert ("version" in machine["juju-status"]) == of_machines
    assert ("juju-info" in application["endpoint-bindings"]) == prober.behaviour.binds_juju_info
    assert machine["constraints"].startswith("arch=")
    bound = prober.ask(f"{APP}/0", "network-get", "--format=json", "source")["bind-addresses"][0]
    interface = machine["network-interfaces"][bound["interface-name"]]
    assert interface["gateway"]
    assert interface["mac-address"] == bound["mac-address"] != ""


def test_given_storage_when_placed_and_detached_then_as_this_juju_does(
    prober: probers.Prober,
) -> None:
    unit = f"{APP}/0"
    name = next(each for each in prober.ask(unit, "storage-list", "--format=json"))
    place = prober.ask(unit, "storage-get", "-s", name, "location", "--format=json")
    by_name = place == f"/var/lib/juju/storage/{name}"
    assert place.startswith("/var/lib/juju/storage/")
    assert by_name != prober.behaviour.storage_by_uuid
    assert prober.juju.status().storage.storage[name].persistent == prober.behaviour.persistent
    mark = prober.mark()
    prober.juju.cli("add-storage", unit, "data=rootfs,1,64M")
    bound = prober.expect(unit, "data-storage-attached", mark).env["JUJU_STORAGE_ID"]
    prober.settle()
    if not prober.behaviour.detaches_rootfs:
        with probers.refused():
            prober.juju.cli("detach-storage", bound)
        return
    prober.juju.cli("detach-storage", bound)
    prober.expect(unit, "data-storage-detaching", mark)


def test_given_a_charm_with_a_new_endpoint_when_refreshed_then_as_this_juju_does(
    prober: probers.Prober, second_probe: pathlib.Path
) -> None:
    prober.settle()
    before = prober.juju.status().apps[MATE].charm_rev
    if prober.behaviour.new_endpoints:
        mark = prober.mark()
        prober.juju.refresh(MATE, path=second_probe)
        prober.expect(f"{MATE}/0", "upgrade-charm", mark)
        return
    with probers.refused() as text:
        prober.juju.refresh(MATE, path=second_probe)
    assert "one or more of the provided endpoints" in text[0]
    assert "late" in text[0]
    assert prober.juju.status().apps[MATE].charm_rev == before


def test_given_a_peer_that_is_gone_when_asked_then_as_this_juju_knows(
    prober: probers.Prober,
) -> None:
    leader, follower = _leader_and_follower(prober)
    (mates,) = prober.ask(leader, "relation-ids", "mates", "--format=json")
    mark = prober.mark()
    prober.juju.remove_unit(follower)
    prober.gone(follower)
    prober.settle()
    assert set(prober.ask(leader, "goal-state", "--format=json")["units"]) == {leader}
    told = "mates-relation-departed" in prober.names(leader, after=mark)
    listed = prober.ask(leader, "relation-list", "-r", mates, "--format=json")
    if prober.behaviour.peer_departed:
        assert (told, listed) == (True, [])
        return
    assert told or listed == [follower]  # not at each removal
    prober.shell(leader, f"systemctl restart jujud-machine-{prober.machine(leader)}")
    prober.until(
        lambda: prober.ask(leader, "relation-list", "-r", mates, "--format=json") == [],
        "the agent forgets who is gone",
    )


def test_given_a_unit_when_forced_out_then_within_this_jujus_time(
    prober: probers.Prober,
) -> None:
    unit = f"{MATE}/0"
    prober.plan_in(unit, stop=[{"exit": 1}])
    mark = prober.mark()
    prober.juju.remove_unit(unit, force=True)
    if prober.behaviour.force_seconds:  # it tears itself down, as far as it can
        prober.expect(unit, "stop", mark)
        assert unit in prober.units()
        prober.juju.cli("remove-unit", "--no-prompt", "--force", "--no-wait", unit)
    prober.gone(unit)
    assert "remove" not in prober.names(unit, after=mark)
