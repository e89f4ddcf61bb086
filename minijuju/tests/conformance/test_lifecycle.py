"""How one unit comes to be, lives, fails, is upgraded and restarted."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from typing import TYPE_CHECKING

import jubilant
import pytest

from conformance import prober as probers
from minijuju.model import behaviour
from minijuju.testing import packing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from jubilant.statustypes import UnitStatus

APP = "life"
UNIT = "life/0"
CHARM_DIR = "/var/lib/juju/agents/unit-life-0/charm"
UPDATE_SECONDS = 10
"""Interval of update-status in this model."""

ALWAYS = {
    *("CHARM_DIR", "JUJU_CHARM_DIR", "JUJU_CONTEXT_ID", "JUJU_HOOK_NAME", "JUJU_DISPATCH_PATH"),
    *("JUJU_AGENT_SOCKET_ADDRESS", "JUJU_AGENT_SOCKET_NETWORK", "JUJU_UNIT_NAME"),
    *("JUJU_MODEL_UUID", "JUJU_MODEL_NAME", "JUJU_API_ADDRESSES", "JUJU_MACHINE_ID"),
    *("JUJU_PRINCIPAL_UNIT", "JUJU_AVAILABILITY_ZONE", "JUJU_VERSION", "CLOUD_API_VERSION"),
    *("JUJU_CHARM_HTTP_PROXY", "JUJU_CHARM_HTTPS_PROXY", "JUJU_CHARM_FTP_PROXY"),
    *("JUJU_CHARM_NO_PROXY", "PATH", "DEBIAN_FRONTEND", "APT_LISTCHANGES_FRONTEND"),
    *("LANG", "TERM"),
}
"""Variables of every dispatch."""
SOMETIMES = {"no_proxy", "NO_PROXY"}.union(
    *(dict(juju.variables) for juju in behaviour.BEHAVIOURS.values())
)
"""What some versions or configurations add."""


@pytest.fixture(scope="module", autouse=True)
def deployed(prober: probers.Prober, probe: pathlib.Path) -> list[probers.Event]:
    """One unit with storage; an action waits for it during its install hook."""
    prober.juju.model_config({"update-status-hook-interval": f"{UPDATE_SECONDS}s"})
    prober.juju.deploy(
        probe,
        APP,
        config={"plan": json.dumps({"install": [prober.gate("install")]})},
        storage={"data": "rootfs,1,64M"},
    )
    prober.start_action(UNIT, ["is-leader"])
    prober.open(UNIT, "install")
    prober.expect(UNIT, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()
    return prober.events(UNIT)


def _hooks(events: list[probers.Event]) -> list[str]:
    return [event.name for event in events if event.name != "do"]


def _fail(prober: probers.Prober) -> UnitStatus:
    """Wait until the unit is in error; gives its status then, between two of Juju's tries."""

    def failed() -> UnitStatus | None:
        unit = prober.units()[UNIT]
        return unit if unit.workload_status.current == "error" else None

    return prober.until(failed, f"{UNIT} in error")


def _end_error(prober: probers.Prober) -> None:
    """Take a hook error as done, or let the retry end it that Juju may be at already."""
    prober.plan_in(UNIT)
    with contextlib.suppress(jubilant.CLIError):
        prober.juju.cli("resolved", "--no-retry", UNIT)
    prober.until(
        lambda: prober.units()[UNIT].workload_status.current != "error", f"{UNIT} in no error"
    )
    prober.settle()


def test_trap_01_given_storage_when_deployed_then_attached_runs_before_install(
    deployed: list[probers.Event],
) -> None:
    hooks = _hooks(deployed)
    assert hooks[:2] == ["data-storage-attached", "install"]
    attached = deployed[0]
    location = attached.env["JUJU_STORAGE_LOCATION"]
    assert attached.env["JUJU_STORAGE_ID"].startswith("data/")
    assert attached.told("storage-get") == {"kind": "filesystem", "location": location}


def test_trap_02_given_a_unit_when_deployed_then_relations_and_leadership_precede_config(
    deployed: list[probers.Event],
) -> None:
    assert _hooks(deployed) == [
        "data-storage-attached",
        "install",
        "mates-relation-created",
        "leader-elected",
        "config-changed",
        "start",
    ]


def test_trap_03_given_an_action_when_enqueued_early_then_runs_before_config_changed(
    deployed: list[probers.Event],
) -> None:
    names = [event.name for event in deployed]
    assert names.index("data-storage-attached") < names.index("do") < names.index("config-changed")


def test_trap_28_given_any_hook_when_dispatched_then_environment_is_the_fixed_list(
    deployed: list[probers.Event],
) -> None:
    install = next(event for event in deployed if event.name == "install")
    assert set(install.env) - SOMETIMES == ALWAYS
    assert install.env["LANG"] == "C.UTF-8"
    assert install.env["TERM"] == "tmux-256color"
    assert install.env["DEBIAN_FRONTEND"] == "noninteractive"
    assert install.env["PATH"].startswith("/var/lib/juju/tools/unit-life-0:")
    assert install.env["JUJU_CHARM_DIR"] == install.env["CHARM_DIR"] == install.cwd == CHARM_DIR
    assert install.env["JUJU_DISPATCH_PATH"] == "hooks/install"
    assert install.env["JUJU_AGENT_SOCKET_NETWORK"] == "unix"
    assert re.fullmatch(r"life/0-install-[0-9a-f]+", install.env["JUJU_CONTEXT_ID"])
    assert install.uid == 0


def test_trap_29_given_nothing_to_say_when_dispatched_then_variables_are_present_but_empty(
    deployed: list[probers.Event],
) -> None:
    by_name = {event.name: event for event in deployed}
    created = by_name["mates-relation-created"].env
    assert created["JUJU_REMOTE_UNIT"] == ""
    assert created["JUJU_REMOTE_APP"] == APP
    assert created["JUJU_RELATION"] == "mates"
    assert re.fullmatch(r"mates:\d+", created["JUJU_RELATION_ID"])
    assert "JUJU_DEPARTING_UNIT" not in created
    assert created["JUJU_PRINCIPAL_UNIT"] == ""
    action = by_name["do"].env
    assert action["JUJU_HOOK_NAME"] == ""
    assert action["JUJU_DISPATCH_PATH"] == "actions/do"
    assert action["JUJU_ACTION_NAME"] == "do"
    assert action["JUJU_ACTION_TAG"] == f"action-{action['JUJU_ACTION_UUID']}"


def test_trap_40_given_a_silent_charm_when_started_then_status_is_unknown_and_text_survives(
    prober: probers.Prober,
) -> None:
    assert prober.units()[UNIT].workload_status.current == "unknown"
    prober.plan_in(UNIT, config_changed=[["status-set", "active", "of its own"], {"exit": 1}])
    prober.juju.config(APP, {"text": "forty"})
    shown = _fail(prober)
    assert shown.workload_status.message == 'hook failed: "config-changed"'
    assert shown.juju_status.current == "idle"
    _end_error(prober)
    after = prober.units()[UNIT].workload_status
    assert (after.current, after.message) == ("active", "of its own")


def test_trap_16_given_a_failing_hook_when_it_wrote_then_only_its_status_remains(
    prober: probers.Prober,
) -> None:
    prober.plan_in(
        UNIT,
        config_changed=[
            "relation-set -r $(relation-ids mates) failed=yes",
            ["open-port", "7777"],
            ["status-set", "maintenance", "half way"],
            ["application-version-set", "1.2.3"],
            {"exit": 1},
        ],
    )
    prober.juju.config(APP, {"text": "sixteen"})
    _fail(prober)
    mates = prober.juju.show_unit(UNIT).relation_info[0]
    assert mates.endpoint == "mates"
    assert mates.local_unit is not None
    assert "failed" not in mates.local_unit.data
    _end_error(prober)
    shown = prober.units()[UNIT]
    assert (shown.workload_status.current, shown.workload_status.message) == (
        "maintenance",
        "half way",
    )
    assert shown.open_ports == []
    assert prober.juju.status().apps[APP].version == "1.2.3"


def test_trap_03_given_a_unit_in_error_when_action_is_run_then_it_runs(
    prober: probers.Prober,
) -> None:
    prober.plan_in(UNIT, config_changed=[{"exit": 1}])
    prober.juju.config(APP, {"text": "three"})
    _fail(prober)
    mark = prober.mark()
    assert prober.tool(UNIT, "is-leader", "--format=json") == (0, "true\n", "")
    events = prober.events(UNIT, after=mark)
    assert "do" in [event.name for event in events]
    assert {event.code for event in events if event.name != "do"} <= {1, None}
    _end_error(prober)


def test_trap_17_given_a_failed_hook_when_time_passes_then_retried_with_the_latest_state(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    prober.plan_in(
        UNIT,
        config_changed=[
            ["config-get", "--format=json", "text"],
            {"exit": 1, "times": 1, "tag": "seventeen"},
        ],
    )
    prober.juju.config(APP, {"text": "first"})
    _fail(prober)
    prober.juju.config(APP, {"text": "second"})
    prober.juju.config(APP, {"text": "third"})
    prober.expect(UNIT, "config-changed", mark, where=lambda event: event.code == 0)
    prober.settle()
    events = prober.events(UNIT, after=mark)
    assert [event.name for event in events] == ["config-changed"] * len(events)
    read = [event.calls[0]["out"] for event in events]
    assert read[0] == '"first"\n'
    assert '"second"\n' not in read
    assert set(read[1:]) == {'"third"\n'}
    assert len(events) <= 3
    assert events[1].begin - events[0].begin > 2
    prober.plan_in(UNIT)


def test_trap_44_given_same_config_when_set_then_no_hook_but_a_resource_upgrades(
    prober: probers.Prober, tmp_path: pathlib.Path
) -> None:
    prober.juju.config(APP, {"text": "same"})
    prober.settle()
    mark = prober.mark()
    prober.juju.config(APP, {"text": "same"})
    code, _, error = prober.tool(UNIT, "resource-get", "blob")
    assert (code, "could not download resource" in error) == (1, True)
    prober.settle()
    assert prober.names(UNIT, after=mark) == ["do"]
    blob = tmp_path / "another.bin"
    (tmp_path / "text.txt").touch()
    with probers.refused() as text:
        prober.juju.cli("attach-resource", APP, f"blob={tmp_path / 'text.txt'}")
    assert 'incorrect extension on resource upload "text.txt", expected ".bin"' in text[0]
    for content in ("one", "two"):
        mark = prober.mark()
        blob.write_text(content)
        prober.juju.cli("attach-resource", APP, f"blob={blob}")
        prober.expect(UNIT, "config-changed", mark)
        prober.settle()
        assert prober.names(UNIT, after=mark) == ["upgrade-charm", "config-changed"]
        code, path, _ = prober.tool(UNIT, "resource-get", "blob")
        assert code == 0
        assert path == "/var/lib/juju/agents/unit-life-0/resources/blob/blob.bin"
        assert prober.shell(UNIT, f"cat {path}") == content


def test_trap_20_given_a_new_revision_when_refreshed_then_files_merge_and_start_is_not_run(
    prober: probers.Prober, next_probe: pathlib.Path
) -> None:
    prober.shell(UNIT, f"echo mine > {CHARM_DIR}/left-by-hand")
    mark = prober.mark()
    before = prober.juju.status().apps[APP].charm_rev
    prober.juju.refresh(APP, path=next_probe)
    prober.expect(UNIT, "config-changed", mark)
    prober.settle()
    events = prober.events(UNIT, after=mark)
    assert _hooks(events) == ["upgrade-charm", "config-changed"]
    assert {event.charm for event in events} == {"2"}
    listed = prober.shell(UNIT, f"ls -A {CHARM_DIR}").split()
    assert "left-by-hand" in listed
    assert "only-in-the-first" not in listed
    assert prober.juju.status().apps[APP].charm_rev == before + 1


def test_trap_19_given_a_reboot_when_the_machine_is_back_then_only_start_runs(
    prober: probers.Prober,
) -> None:
    machine = prober.machine(UNIT)
    booted = prober.shell(UNIT, "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/systemd")
    mark = prober.mark()
    prober.chaos("reboot", machine)
    prober.expect(UNIT, "start", mark, timeout=probers.BOOT_PATIENCE)
    prober.settle()
    assert prober.names(UNIT, after=mark) == ["start"]
    after = prober.shell(UNIT, "cat /proc/sys/kernel/random/boot_id; stat -c %Y /run/systemd")
    assert after != booted


def test_trap_19_given_a_restarted_agent_when_it_is_back_then_no_hook_runs(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    prober.shell(UNIT, f"systemctl restart jujud-machine-{prober.machine(UNIT)}")
    prober.settle()
    assert prober.names(UNIT, after=mark) == []


def test_given_a_hook_when_killed_then_it_is_queued_again_and_is_no_error(
    prober: probers.Prober,
) -> None:
    prober.plan_in(UNIT, config_changed=[{"kill": 9, "times": 1, "tag": "killed"}])
    mark = prober.mark()
    prober.juju.config(APP, {"text": "killed"})
    prober.expect(UNIT, "config-changed", mark, where=lambda event: event.code == 0)
    prober.settle()
    events = prober.events(UNIT, after=mark)
    assert [(event.name, event.code) for event in events] == [
        ("config-changed", None),
        ("config-changed", 0),
    ]
    prober.plan_in(UNIT)


def test_given_juju_reboot_when_the_hook_ends_then_the_machine_reboots_and_starts(
    prober: probers.Prober,
) -> None:
    prober.plan_in(UNIT, config_changed=[["juju-reboot"]])
    mark = prober.mark()
    prober.juju.config(APP, {"text": "reboot"})
    prober.expect(UNIT, "start", mark, timeout=probers.BOOT_PATIENCE)
    prober.settle()
    assert prober.names(UNIT, after=mark) == ["config-changed", "start"]
    prober.plan_in(UNIT)


def test_given_a_unit_in_error_when_refreshed_with_force_then_the_hook_runs_in_the_new_charm(
    prober: probers.Prober, probe: pathlib.Path
) -> None:
    prober.plan_in(UNIT, config_changed=[{"exit": 1}])
    prober.juju.config(APP, {"text": "stuck"})
    _fail(prober)
    mark = prober.mark()
    prober.juju.refresh(APP, path=probe)
    prober.juju.cli("refresh", APP, "--force-units", "--path", str(probe))
    prober.until(
        lambda: any(event.charm == "1" for event in prober.events(UNIT, after=mark)),
        "the new charm runs",
    )
    assert "upgrade-charm" not in prober.names(UNIT, after=mark)
    _end_error(prober)


@pytest.mark.timing
def test_trap_21_given_an_idle_unit_when_time_passes_then_update_status_runs_unseen(
    prober: probers.Prober,
) -> None:
    prober.plan_in(UNIT, update_status=[{"sleep": 2}])
    mark = prober.mark()
    seen: list[tuple[float, str]] = []

    def ended() -> list[probers.Event]:
        seen.append((time.time(), prober.units()[UNIT].juju_status.current))
        found = prober.events(UNIT, after=mark, updates=True)
        return found if len([event for event in found if event.end]) > 1 else []

    first, second = prober.until(ended, "update-status twice")
    assert first.name == second.name == "update-status"
    during = [
        current
        for at, current in seen
        for event in (first, second)
        if event.begin < at < (event.end or 0)
    ]
    assert set(during) == {"idle"}
    updates = [event for event in prober.events(UNIT, updates=True) if event.end]
    gaps = [
        later.begin - earlier.end
        for earlier, later in itertools.pairwise(updates)
        if earlier.name == later.name == "update-status" and earlier.end
    ]
    assert gaps
    assert all(0.8 * UPDATE_SECONDS - 1 < gap < 1.2 * UPDATE_SECONDS + 4 for gap in gaps), gaps


@pytest.mark.timing
def test_trap_45_given_nothing_else_to_do_when_time_passes_then_update_status_is_dispatched(
    prober: probers.Prober,
) -> None:
    updates = [
        event for event in prober.events(UNIT, updates=True) if event.name == "update-status"
    ]
    assert updates
    assert all(event.env["JUJU_DISPATCH_PATH"] == "hooks/update-status" for event in updates)
    first_hook = prober.events(UNIT)[0]
    assert updates[0].begin - first_hook.begin > 0.8 * UPDATE_SECONDS - 1


def test_trap_45_given_an_ops_charm_when_it_defers_then_a_later_dispatch_delivers(
    prober: probers.Prober,
    pack_charm: Callable[..., pathlib.Path],
    charms: pathlib.Path,
) -> None:
    prober.juju.deploy(pack_charm(charms / "deferring", files=packing.vendored()))
    prober.until(
        lambda: prober.units()["deferring/0"].workload_status.message == "deferred",
        "start is deferred",
        probers.BOOT_PATIENCE,
    )
    prober.shell("deferring/0", "touch /run/go")
    message = prober.until(
        lambda: (
            prober.units()["deferring/0"].workload_status.current == "active"
            and prober.units()["deferring/0"].workload_status.message
        ),
        "start is handled",
    )
    assert message == "in hooks/update-status"


def test_given_status_when_read_then_jubilant_finds_all_it_needs(prober: probers.Prober) -> None:
    status = prober.juju.status()
    application = status.apps[APP]
    assert application.charm_origin == "local"
    assert application.charm_name == "probe"
    assert application.charm == f"local:probe-{application.charm_rev}"
    assert application.base is not None
    assert application.base.name == "ubuntu"
    machine = status.machines[application.units[UNIT].machine]
    assert machine.juju_status.current == "started"
    assert machine.ip_addresses
    assert jubilant.all_agents_idle(status, APP)
    assert prober.juju.show_model().model_type == "iaas"
    assert prober.juju.version().tuple >= (3, 6, 0)
