"""Hook tools, actions, and units that share a machine."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING

import jubilant
import pytest
import yaml

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib

APP, BESIDE, AWAY, ASIDE = "tool", "beside", "away", "aside"
UNIT, MATE, STRANGER, SUB = "tool/0", "beside/0", "away/0", "aside/0"


@pytest.fixture(scope="module", autouse=True)
def deployed(prober: probers.Prober, probe: pathlib.Path, subordinate_probe: pathlib.Path) -> None:
    """Two principals and a subordinate on one machine, and one unit on a machine of its own."""
    prober.juju.deploy(probe, APP)
    prober.juju.deploy(probe, AWAY)
    prober.juju.deploy(subordinate_probe, ASIDE)
    prober.juju.deploy(probe, BESIDE, to=prober.machine(UNIT))
    prober.juju.integrate(f"{APP}:juju-info", f"{ASIDE}:host")
    for unit in (UNIT, MATE, STRANGER, SUB):
        prober.expect(unit, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()


def test_trap_27_given_no_relation_when_asked_then_network_goal_and_address_answer(
    prober: probers.Prober,
) -> None:
    assert prober.ask(UNIT, "relation-ids", "source", "--format=json") == []
    network = prober.ask(UNIT, "network-get", "--format=json", "source")
    address = network["ingress-addresses"][0]
    assert network["bind-addresses"][0]["addresses"][0]["value"] == address
    assert network["egress-subnets"][0] == f"{address}/32"
    for endpoint in ("mates", "extra", "juju-info"):
        same = prober.ask(UNIT, "network-get", "--format=json", endpoint)
        assert same["ingress-addresses"] == network["ingress-addresses"]
    assert prober.tool(UNIT, "unit-get", "private-address")[1].strip() == address
    assert prober.juju.show_unit(UNIT).public_address
    code, _, error = prober.tool(UNIT, "network-get", "--format=json", "nowhere")
    assert (code, prober.behaviour.no_network.format("nowhere") in error) == (1, True)
    goal = prober.ask(UNIT, "goal-state", "--format=json")
    assert set(goal) == {"units", "relations"}
    assert set(goal["units"]) == {UNIT}
    assert "mates" not in goal["relations"]


REFUSALS = [
    (["relation-get", "--format=json", "-"], 2, "ERROR no relation id specified"),
    (["relation-get", "-r", "source:999", "-", "x/0"], 2, "relation not found"),
    (["relation-list", "-r", "999"], 2, "relation not found"),
    (["status-set", "unknown"], 2, ""),
    (["status-set", "error", "of mine"], 2, ""),
    (["status-set", "nonsense"], 2, ""),
    (["config-get", "--nonsense"], 2, "provided but not defined"),
    (["credential-get", "--format=json"], 1, "ERROR cannot access cloud credentials"),
    (["secret-get", "secret:9m4e2mr0ui3e8a215n4g"], 1, "not found"),
    (["secret-get", "--label", "no-such", "--format=json"], 1, 'label "no-such" not found'),
    (["resource-get", "no-such"], 1, ""),
    (["juju-reboot"], 1, "juju-reboot is not supported when running an action."),
]


@pytest.mark.parametrize(("words", "code", "phrase"), REFUSALS, ids=lambda value: str(value)[:40])
def test_trap_30_given_a_wrong_question_when_asked_then_code_and_phrase_are_exact(
    prober: probers.Prober, words: list[str], code: int, phrase: str
) -> None:
    answered, out, error = prober.tool(UNIT, *words)
    assert (answered, out) == (code, ""), error
    assert error.startswith("ERROR ")
    assert phrase in error


def test_trap_30_given_questions_when_right_then_formats_are_exact(prober: probers.Prober) -> None:
    calls = prober.do(
        UNIT,
        ["config-get", "--format=json", "unset"],
        ["config-get", "--format=json", "number"],
        ["config-get", "number"],
        ["config-get", "switch"],
        ["config-get", "text"],
        ["is-leader"],
        ["relation-ids", "no-such-endpoint", "--format=json"],
        ["opened-ports", "--format=json"],
        ["storage-list", "--format=json"],
        ["status-get", "--format=json", "--include-data"],
        ["status-set", "active", "--", "-dashed message"],
    )
    answers = [(call["code"], call["out"]) for call in calls]
    assert answers[:9] == [
        (0, "null\n"),
        (0, "7\n"),
        (0, "7\n"),
        (0, "False\n"),
        (0, ""),
        (0, "True\n"),
        (0, "[]\n"),
        (0, "[]\n"),
        (0, "[]\n"),
    ]
    assert set(json.loads(answers[9][1])) == {"status", "message", "status-data"}
    settings = prober.ask(UNIT, "config-get", "--format=json")
    assert "unset" not in settings
    assert (settings["number"], settings["ratio"], settings["switch"]) == (7, 0.5, False)
    assert prober.units()[UNIT].workload_status.message == "-dashed message"


def test_trap_31_given_action_fail_when_the_script_ends_well_then_run_exits_0(
    prober: probers.Prober,
) -> None:
    steps = json.dumps([["action-set", "kept=yes"], ["action-fail", "--", "no luck"]])
    out = prober.juju.cli("run", "--format", "json", "--string-args", UNIT, "do", f"steps={steps}")
    (task,) = json.loads(out).values()
    assert (task["status"], task["message"]) == ("failed", "no luck")
    assert task["results"]["return-code"] == 0
    assert task["results"]["kept"] == "yes"
    with pytest.raises(jubilant.TaskError) as failed:
        prober.do(UNIT, ["action-fail", "--", "no luck"])
    assert failed.value.task.message == "no luck"


def test_trap_31_given_a_script_that_fails_when_run_then_exit_1_with_the_results(
    prober: probers.Prober,
) -> None:
    steps = json.dumps([{"exit": 3}])
    with pytest.raises(jubilant.CLIError) as failed:
        prober.juju.cli("run", "--format", "json", "--string-args", UNIT, "do", f"steps={steps}")
    assert failed.value.returncode == 1
    (task,) = json.loads(failed.value.stdout).values()
    assert (task["status"], task["results"]["return-code"]) == ("failed", 3)
    assert f'id "{task["id"]}" with return code 3' in failed.value.stderr
    assert "the following task failed" in failed.value.stderr


@pytest.mark.parametrize(
    ("action", "params"),
    [("no-such", None), ("do", None), ("do", {"steps": 7}), ("do", {"steps": "[]", "more": 1})],
)
def test_trap_31_given_bad_parameters_when_run_then_nothing_is_scheduled(
    prober: probers.Prober, action: str, params: dict[str, object] | None
) -> None:
    """Where they are checked in the unit alone, the script is not run either."""
    mark = prober.mark()
    with pytest.raises((ValueError, jubilant.TaskError)):
        prober.juju.run(UNIT, action, params)
    assert prober.names(UNIT, after=mark) == []


def test_trap_32_given_results_when_shown_then_text_nested_by_dots_and_log_has_times(
    prober: probers.Prober,
) -> None:
    nested = {"nested": {"deep": [1, True, "x"]}} if prober.behaviour.object_parameters else {}
    task = prober.juju.run(
        UNIT,
        "do",
        {
            "steps": json.dumps(
                [
                    ["action-set", "outer.inner=1", "outer.other=two", "flag=true"],
                    ["action-set", "flag=false"],
                    ["action-log", "--", "half way"],
                    ["action-set", "Bad_Key=1"],
                    ["action-get", "--format=json"],
                ]
            ),
            **nested,
        },
    )
    assert task.results["outer"] == {"inner": "1", "other": "two"}
    assert task.results["flag"] == "false"
    assert task.return_code == 0
    calls = json.loads(task.results["calls"])
    assert calls[3]["code"] != 0
    params = json.loads(calls[4]["out"])
    assert params["fallback"] == "from-the-schema"
    assert params.items() >= nested.items()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.* half way", task.log[0])


def test_given_exec_when_it_fails_then_code_and_streams_come_back(prober: probers.Prober) -> None:
    task = prober.juju.exec("echo out; echo err >&2; pwd", unit=UNIT)
    assert task.stdout == "out\n/var/lib/juju/agents/unit-tool-0/charm\n"
    assert task.stderr == "err\n"
    with pytest.raises(jubilant.TaskError) as failed:
        prober.juju.exec("exit 4", unit=UNIT)
    assert failed.value.task.return_code == 4
    machine = prober.machine(UNIT)
    assert prober.juju.exec("echo -n $JUJU_UNIT_NAME", machine=machine).stdout == ""
    assert prober.juju.exec("is-leader", "--format=json", unit=f"{APP}/leader").stdout == "true\n"
    with pytest.raises(TimeoutError):
        prober.juju.exec("sleep 5", unit=UNIT, wait=1)
    prober.settle()


def test_given_ssh_when_used_then_a_login_as_ubuntu_passes_all_through(
    prober: probers.Prober, tmp_path: pathlib.Path
) -> None:
    assert prober.juju.ssh(UNIT, "whoami").strip() == "ubuntu"
    assert prober.juju.ssh(UNIT, "sudo -n id -u").strip() == "0"
    assert prober.juju.ssh(f"{APP}/leader", "echo $HOME").strip() == "/home/ubuntu"
    assert prober.juju.cli("ssh", UNIT, "cat", stdin="through") == "through"
    with pytest.raises(jubilant.CLIError) as failed:
        prober.juju.ssh(UNIT, "echo words; echo more >&2; exit 7")
    assert (failed.value.returncode, failed.value.stdout) == (7, "words\n")
    source = tmp_path / "there"
    source.write_text("and back")
    prober.juju.scp(source, f"{UNIT}:/home/ubuntu/there")
    prober.juju.scp(f"{UNIT}:there", tmp_path / "again")
    assert (tmp_path / "again").read_text() == "and back"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("inside")
    prober.juju.scp(folder, f"{UNIT}:/home/ubuntu/", scp_options=["-r"])
    assert prober.juju.ssh(UNIT, "cat folder/file") == "inside"


def test_given_juju_exec_inside_the_machine_when_used_then_it_has_the_units_context(
    prober: probers.Prober,
) -> None:
    assert prober.shell(UNIT, f'juju-exec {UNIT} "is-leader --format=json"') == "true\n"
    prober.shell(UNIT, f"juju-exec -u {UNIT} -- status-set active from-within")
    assert prober.units()[UNIT].workload_status.message == "from-within"
    with pytest.raises(jubilant.CLIError) as failed:  # the flag is juju-exec's own
        prober.shell(UNIT, f"juju-exec {UNIT} is-leader --format=json")
    assert failed.value.returncode == 2


def test_given_several_words_when_executed_then_each_with_blanks_is_quoted(
    prober: probers.Prober,
) -> None:
    words = ["sh", "-c", "echo one; echo two >&2"]
    task = prober.juju.exec(*words, unit=UNIT)
    assert (task.stdout, task.stderr) == ("one\n", "two\n")
    on_machine = prober.juju.exec(*words, machine=prober.machine(UNIT))
    assert (on_machine.stdout, on_machine.stderr) == ("one\n", "two\n")


def test_given_any_tool_when_asked_for_help_then_exit_0_and_its_flags(
    prober: probers.Prober,
) -> None:
    tools = [
        *("action-fail", "action-get", "action-log", "action-set", "application-version-set"),
        *("close-port", "config-get", "credential-get", "goal-state", "is-leader", "juju-log"),
        *("juju-reboot", "network-get", "open-port", "opened-ports", "relation-get"),
        *("relation-ids", "relation-list", "relation-set", "resource-get", "secret-add"),
        *("secret-get", "secret-grant", "secret-ids", "secret-info-get", "secret-remove"),
        *("secret-revoke", "secret-set", "state-delete", "state-get", "state-set"),
        *("status-get", "status-set", "storage-add", "storage-get", "storage-list", "unit-get"),
    ]
    for call in prober.do(UNIT, *[[tool, "--help"] for tool in tools]):
        assert (call["code"], call["err"]) == (0, ""), call
        assert call["run"][0] in call["out"]
    code, out, _ = prober.tool(UNIT, "relation-set", "--help")
    assert code == 0
    assert "--file" in out


def test_given_a_machine_when_asked_for_jujus_version_then_jujud_tells_it(
    prober: probers.Prober,
) -> None:
    told = prober.shell(UNIT, "/var/lib/juju/tools/machine-*/jujud version").strip()
    running = prober.juju.status().model.version
    assert told.startswith(f"{running}-")


def test_given_results_of_several_lines_when_shown_then_tables_stay_whole(
    prober: probers.Prober,
) -> None:
    table = "ID  NAME\n1   etcd-0\n2   etcd-1"
    steps = [["action-set", f"members={table}", "count=2", "truth=true", "word=plain"]]
    out = prober.juju.cli("run", "--string-args", UNIT, "do", f"steps={json.dumps(steps)}")
    assert "members: |-\n  ID  NAME\n  1   etcd-0\n  2   etcd-1\n" in out
    assert 'truth: "true"\nword: plain\n' in out
    assert [line for line in out.splitlines() if line[:1].islower()] == sorted(
        line for line in out.splitlines() if line[:1].islower()
    )
    assert yaml.safe_load(out)["members"] == table


def test_given_charm_state_when_the_script_fails_then_what_it_set_is_not_kept(
    prober: probers.Prober,
) -> None:
    prober.do(UNIT, {"run": ["state-set", "--file", "-"], "stdin": "{kept: one}"})
    with pytest.raises(jubilant.TaskError):
        prober.do(UNIT, ["state-set", "kept=two"], {"exit": 1})
    assert prober.ask(UNIT, "state-get", "--format=json", "kept") == "one"
    calls = prober.do(UNIT, ["state-delete", "kept"], ["state-get", "--format=json"])
    assert json.loads(calls[1]["out"]) == json.loads(prober.behaviour.no_state)


def test_given_a_task_when_cancelled_then_it_ends_and_the_next_runs(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    task = prober.start_action(UNIT, {"sleep": 30})
    waiting = prober.start_action(UNIT, ["is-leader"])
    prober.until(lambda: prober.names(UNIT, after=mark) == ["do"], "the first runs")
    prober.juju.cli("cancel-task", waiting)
    prober.juju.cli("cancel-task", task)
    prober.ask(UNIT, "is-leader", "--format=json")
    shown = [
        json.loads(prober.juju.cli("show-task", one, "--format", "json"))["status"]
        for one in (task, waiting)
    ]
    assert shown[0] in (prober.behaviour.cancelled, "failed", "cancelled")
    assert shown[1] == "cancelled"
    assert len(prober.names(UNIT, after=mark)) == 2


def test_trap_41_given_an_opened_port_when_shown_then_the_machine_itself_is_untouched(
    prober: probers.Prober,
) -> None:
    rules = "nft list ruleset 2>/dev/null; iptables-save 2>/dev/null; true"
    before = prober.shell(UNIT, rules)
    calls = prober.do(
        UNIT,
        ["open-port", "8080"],
        ["open-port", "9000-9010/udp"],
        ["open-port", "icmp"],
        ["opened-ports", "--format=json"],
    )
    assert set(json.loads(calls[-1]["out"])) == {"icmp", "8080/tcp", "9000-9010/udp"}
    prober.until(
        lambda: set(prober.units()[UNIT].open_ports) == {"8080/tcp", "9000-9010/udp", "icmp"},
        "the ports show",
    )
    assert prober.shell(UNIT, rules) == before
    assert ":8080" not in prober.shell(UNIT, "ss -ltnu")


def test_trap_43_given_two_units_on_a_machine_when_used_then_they_share_it(
    prober: probers.Prober,
) -> None:
    assert prober.machine(MATE) == prober.machine(UNIT) != prober.machine(STRANGER)
    prober.shell(UNIT, "echo common > /srv/common")
    assert prober.shell(MATE, "cat /srv/common").strip() == "common"
    prober.do(UNIT, ["open-port", "7000"])
    if prober.behaviour.shared_ports:
        prober.do(MATE, ["open-port", "7000"])
    else:
        with pytest.raises(jubilant.TaskError):
            prober.do(MATE, ["open-port", "7000"])
        assert "7000/tcp" not in prober.units()[MATE].open_ports
    prober.do(STRANGER, ["open-port", "7000"])


def test_trap_42_given_a_machine_when_looked_at_then_it_is_a_whole_one_with_its_own_network(
    prober: probers.Prober,
) -> None:
    here = prober.juju.status().machines[prober.machine(UNIT)]
    there = prober.juju.status().machines[prober.machine(STRANGER)]
    assert prober.shell(UNIT, "cat /proc/1/comm").strip() == "systemd"
    state = prober.shell(UNIT, "systemctl is-system-running || true").strip()
    assert state in ("running", "degraded")
    assert prober.shell(UNIT, "hostname").strip() == here.hostname
    assert re.fullmatch(r"juju-[0-9a-f]{6}-\d+", here.hostname)
    assert here.ip_addresses[0] != there.ip_addresses[0]
    prober.shell(UNIT, f"ping -c 1 -W 5 {there.ip_addresses[0]}")
    if prober.on_minijuju:
        with pytest.raises(jubilant.CLIError):
            prober.shell(UNIT, f"getent ahostsv4 {there.hostname}")


def test_given_a_subordinate_when_deployed_then_it_lives_beside_its_principal(
    prober: probers.Prober,
) -> None:
    status = prober.juju.status()
    assert status.apps[ASIDE].subordinate_to == [APP]
    assert status.apps[ASIDE].units == {}
    assert list(status.apps[APP].units[UNIT].subordinates) == [SUB]
    created = prober.expect(SUB, "host-relation-created")
    assert created.env["JUJU_PRINCIPAL_UNIT"] == UNIT
    assert created.env["JUJU_MACHINE_ID"] == prober.machine(UNIT)
    joined = prober.expect(SUB, "host-relation-joined")
    assert joined.told("relation-list") == [UNIT]
    assert not [event for event in prober.events(UNIT) if "juju-info" in event.name]
    with probers.refused() as text:
        prober.juju.remove_unit(SUB)
    assert "is a subordinate" in text[0]


def test_trap_22_given_a_shared_machine_when_all_have_work_then_one_hook_at_a_time(
    prober: probers.Prober,
) -> None:
    every = {APP: UNIT, BESIDE: MATE, AWAY: STRANGER, ASIDE: SUB}
    for unit in every.values():
        prober.plan_in(unit, config_changed=[{"sleep": 2}], do=[])
    mark = prober.mark()
    for application in every:
        prober.juju.config(application, {"text": "twenty-two"})
    task = prober.start_action(UNIT, {"sleep": 1})
    for unit in every.values():
        prober.expect(unit, "config-changed", mark)
    prober.expect(UNIT, "do", mark)
    prober.settle()
    assert task
    shared = sorted(
        (event.begin, event.end or event.begin)
        for event in prober.events(UNIT, MATE, SUB, after=mark)
    )
    assert len(shared) == 4
    for (_, end), (begin, _) in itertools.pairwise(shared):
        assert begin >= end
    (away,) = prober.events(STRANGER, after=mark)
    assert any(begin < (away.end or 0) and away.begin < end for begin, end in shared)


def test_trap_43_given_a_shared_machine_when_one_unit_goes_then_the_machine_stays(
    prober: probers.Prober,
) -> None:
    machine = prober.machine(UNIT)
    prober.do(MATE, ["open-port", "7100"])
    prober.juju.remove_unit(MATE)
    prober.gone(MATE)
    assert machine in prober.juju.status().machines
    prober.do(UNIT, ["open-port", "7100"])


def test_given_a_principal_when_removed_then_its_subordinate_goes_first(
    prober: probers.Prober,
) -> None:
    mark = prober.mark()
    prober.juju.remove_unit(UNIT)
    prober.gone(UNIT)
    ends = {event.unit: event for event in prober.events(after=mark) if event.name == "remove"}
    assert set(ends) == {UNIT, SUB}
    assert "host-relation-broken" in prober.names(SUB, after=mark)
    assert prober.juju.status().apps[APP].units == {}


def test_given_the_human_formats_when_asked_then_they_show(prober: probers.Prober) -> None:
    table = prober.juju.cli("status")
    assert re.search(r"^Unit +Workload +Agent +Machine", table, re.MULTILINE)
    assert re.search(r"^away/0\* +unknown +idle", table, re.MULTILINE)
    assert yaml.safe_load(prober.juju.cli("status", "--format", "yaml"))["applications"]
    assert f"application: {AWAY}" in prober.juju.cli("config", AWAY)
