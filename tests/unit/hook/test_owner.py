"""Whose the etcd of a machine is, and what nobody touches who does not own it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shlex
import subprocess

import charm_context
import pytest
from ops import testing

import charm
from backup import keeper_files
from commands import actions
from etcd import config as etcd_config
from etcd import install, service
from hook import idle, owner, packages, removal
from keeper import systemd_unit
from machine import files, processes, systemd
from relations import juju_units

pass

CLAIM, CHECK = owner.claim, owner.check
"""As they are, and not as the other unit tests have them."""
FIRST = owner.Owner("uuid-1", "first", "etcd", "etcd/0")
SECOND = owner.Owner("uuid-1", "first", "other", "other/3")


class Machine:
    """A machine of its own, in a directory."""

    def __init__(self, at: pathlib.Path) -> None:
        self.at = at
        self.agents = at / "agents"
        self.root = at / "var" / "etcd"
        self.record = at / "local" / "owner.json"
        self.etc = at / "etc"
        self.memory = at / "run"
        self.keeper = at / "keeper"
        self.runs = False
        for folder in (self.agents, self.root, self.etc, self.memory):
            folder.mkdir(parents=True)

    def place(self, who: owner.Owner) -> None:
        (self.agents / who.home / "charm").mkdir(parents=True)

    def take_away(self, who: owner.Owner) -> None:
        """As `remove-unit --force` does."""
        (self.agents / who.home / "charm").rmdir()
        (self.agents / who.home).rmdir()

    def keep(self, name: str, folder: str = "current/etcd/member/snap") -> pathlib.Path:
        path = self.root / folder / name
        path.parent.mkdir(parents=True)
        path.write_text("data")
        return path

    def all(self) -> set[tuple[str, str]]:
        """Every file with its content."""
        return {(str(p), p.read_text()) for p in self.at.rglob("*") if p.is_file()}


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(owner, "claim", CLAIM)
    monkeypatch.setattr(owner, "check", CHECK)
    monkeypatch.setattr(owner, "AGENTS", made.agents)
    monkeypatch.setattr(owner, "LOCAL", made.record.parent)
    monkeypatch.setattr(owner, "FILE", made.record)
    monkeypatch.setattr(owner, "ASIDE", tmp_path / "aside")
    monkeypatch.setattr(owner, "_CONFIGS", (made.etc / "etcd.conf.yaml", made.etc / "tls"))
    monkeypatch.setattr(owner, "_KEEPER", made.keeper)
    monkeypatch.setattr(removal, "KEPT", tmp_path / "removed")
    monkeypatch.setattr(service, "DATA_ROOT", made.root)
    monkeypatch.setattr(files, "MEMORY", made.memory)
    monkeypatch.setattr(systemd, "service_active", lambda name: name == service.UNIT and made.runs)
    monkeypatch.setattr(etcd_config, "CONFIG", made.etc / "etcd.conf.yaml")
    monkeypatch.setattr(service, "UNIT_FILE", tmp_path / "etcd.service")
    monkeypatch.setattr(idle, "FILE", made.memory / "idle.json")
    return made


def new() -> bool:
    return False


def refusal(who: owner.Owner, began=new) -> str:
    with pytest.raises(owner.ForeignError) as caught:
        owner.claim(who, began)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Whose it is


def test_given_an_empty_machine_when_claimed_then_the_record_says_so_and_the_second_time_nothing(
    machine: Machine,
):
    machine.place(FIRST)
    assert owner.claim(FIRST, new)
    assert owner.read() == FIRST
    assert not owner.claim(FIRST, new)
    owner.check(FIRST, new)


def test_given_programs_and_empty_directories_when_claimed_then_they_are_no_etcd(machine: Machine):
    (machine.root / "default").mkdir()
    assert owner.claim(FIRST, new)


@pytest.mark.parametrize(
    "second", [SECOND, dataclasses.replace(FIRST, unit="etcd/1")], ids=["other", "same"]
)
def test_given_a_machine_that_is_taken_when_a_second_unit_comes_then_one_sentence_names_the_owner(
    machine: Machine, second: owner.Owner
):
    machine.place(FIRST)
    owner.claim(FIRST, new)
    machine.place(second)
    machine.keep("db")
    before = machine.all()
    said = refusal(second, lambda: True)
    assert "belongs to etcd/0 and was left alone" in said
    assert f"`juju add-unit {second.application}`" in said
    assert f"`juju remove-unit {second.unit}`" in said
    with pytest.raises(owner.ForeignError):
        owner.check(second, lambda: True)
    assert machine.all() == before


def test_given_the_owner_left_the_machine_when_the_second_looks_again_then_it_may_install(
    machine: Machine,
):
    machine.place(FIRST)
    owner.claim(FIRST, new)
    machine.place(SECOND)
    refusal(SECOND)
    machine.record.unlink()  # the last thing that the first does
    assert owner.claim(SECOND, new)


def test_given_a_unit_of_an_earlier_revision_when_refreshed_then_what_is_there_is_its_own(
    machine: Machine,
):
    machine.runs = True
    kept = machine.keep("db")
    assert not owner.claim(FIRST, lambda: True)
    assert owner.read() == FIRST
    assert kept.exists()


def test_given_a_full_disk_when_refreshed_then_the_unit_goes_on_and_the_record_follows(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    machine.runs = True

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(owner.files, "write", full)
        assert not owner.claim(FIRST, lambda: True)
    owner.check(FIRST, lambda: True)
    with pytest.raises(owner.ForeignError):
        owner.check(FIRST, new)
    owner.claim(FIRST, lambda: True)
    owner.check(FIRST, new)


def test_given_a_unit_removed_by_force_when_another_of_its_application_comes_then_it_succeeds_it(
    machine: Machine,
):
    owner.claim(FIRST, new)
    kept = machine.keep("db")
    note = machine.record.with_name("etcd-0.json")
    note.write_text("{}")
    assert owner.claim(dataclasses.replace(FIRST, unit="etcd/4"), new)
    assert kept.exists()
    assert note.exists()


@pytest.mark.parametrize(
    "second", [SECOND, dataclasses.replace(FIRST, model_uuid="uuid-2")], ids=["other", "same name"]
)
def test_given_data_of_an_application_that_is_gone_when_another_comes_then_both_ways_on_are_named(
    machine: Machine, second: owner.Owner
):
    owner.claim(FIRST, new)
    machine.keep("db")
    machine.place(second)  # of the same path, where the units have one name
    before = machine.all()
    said = refusal(second)
    assert "etcd of etcd/0 in model first, which is gone" in said
    assert f"mv {machine.root} {machine.record.parent} {machine.at}/aside/" in said
    moved = f"{machine.at}/aside/etcd/current/etcd/member/snap/db"
    assert f"restore path={moved} allow-missing-hash=true`" in said
    assert machine.all() == before
    command = said.partition("`sudo ")[2].partition("`")[0]
    subprocess.run(shlex.split(command), check=True, timeout=20)
    assert pathlib.Path(moved).read_text() == "data"
    assert owner.claim(second, new)


def test_given_a_packages_etcd_that_runs_when_claimed_then_it_is_left_alone(machine: Machine):
    machine.runs = True
    machine.keep("db", "default/member/snap")
    before = machine.all()
    said = refusal(FIRST)
    assert "systemctl disable --now etcd.service && mkdir -m 700" in said
    assert "aside/etcd/default/member/snap/db" in said
    assert machine.all() == before
    machine.runs = False
    assert "systemctl" not in refusal(FIRST)


@pytest.mark.parametrize("path", ["etc/etcd.conf.yaml", "etcd.service"])
def test_given_somebodys_configuration_when_claimed_then_it_is_left_alone(
    machine: Machine, path: str
):
    (machine.at / path).write_text("theirs")
    assert f"mv {machine.at}/{path.split('/')[0]} " in refusal(FIRST)


def test_given_notes_of_another_application_when_the_machine_is_taken_then_they_count_no_more(
    machine: Machine,
):
    owner.claim(FIRST, new)
    for path in (machine.record.with_name("etcd-0.json"), machine.memory / "since.json"):
        path.write_text("{}")
    (machine.memory / "other-3.db").touch()
    owner.claim(dataclasses.replace(FIRST, model_uuid="uuid-2"), new)
    assert [p.name for p in machine.record.parent.iterdir()] == ["owner.json"]
    assert [p.name for p in machine.memory.iterdir()] == ["other-3.db"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"unit": "etcd/0"}', "\0"])
def test_given_a_record_that_cannot_be_read_when_claimed_then_what_is_there_decides(
    machine: Machine, text: str
):
    machine.keep("db")
    machine.record.parent.mkdir()
    machine.record.write_text(text)
    assert "etcd of its own" in refusal(FIRST)
    assert not owner.claim(FIRST, lambda: True)


# What the charm does then


@pytest.fixture
def second(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> testing.Context:
    """The charm of a unit on a machine that is another's, where anything that acts would fail."""
    context = charm_context.context(app_name="other", unit_id=3)
    machine.place(FIRST)
    owner.claim(FIRST, new)
    machine.place(SECOND)
    (machine.memory / "idle.json").write_text("{}")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the machine is another's")

    for module, names in (
        (install, ("install", "begin_install", "await_packages")),
        (files, ("write", "ensure_dir")),
        (service, ("stop", "start", "end", "ensure_unit")),
        (etcd_config, ("ensure_config",)),
        (removal, ("leave", "ensure_services")),
        (idle, ("still", "forget")),
        (packages, ("ensure", "remove")),
        (juju_units, ("goal_state",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, never)
    return context


EVENTS = ("install", "start", "config_changed", "update_status", "upgrade_charm", "stop", "remove")


@pytest.mark.parametrize("event", EVENTS)
def test_given_a_machine_of_another_application_when_any_hook_runs_then_blocked_and_untouched(
    machine: Machine, second: testing.Context, event: str
):
    before = machine.all()
    state = testing.State(relations={testing.PeerRelation("cluster")}, leader=True)
    after = second.run(getattr(second.on, event)(), state)
    assert isinstance(after.unit_status, testing.BlockedStatus)
    assert "belongs to etcd/0" in after.unit_status.message
    assert machine.all() == before


@pytest.mark.parametrize("action", ["health", "snapshot", "generate-client-certificates"])
def test_given_a_machine_of_another_application_when_an_action_runs_then_it_is_refused(
    machine: Machine, second: testing.Context, action: str
):
    before = machine.all()
    with pytest.raises(testing.ActionFailed) as caught:
        second.run(second.on.action(action), testing.State())
    assert "does not have the etcd of its machine: nothing was done" in caught.value.message
    assert machine.all() == before


def test_given_the_machine_became_free_when_any_hook_runs_then_etcd_is_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(packages, "ensure", lambda *args: asked.append(args[2]))
    monkeypatch.setattr(packages, "problem", lambda: "")
    context = charm_context.context()
    state = testing.State(model=testing.Model(uuid="uuid-1"))
    for _ in range(2):
        context.run(context.on.config_changed(), state)
    assert asked == [True]


def test_given_storage_when_attached_before_the_install_hook_then_nothing_is_installed_yet(
    machine: Machine,
):
    context = charm_context.context()
    storage = testing.Storage("data")
    context.run(context.on.storage_attached(storage), testing.State(storages={storage}))
    assert owner.read() is None


# What a unit leaves


@pytest.fixture
def quiet(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of a removal, which are not run."""
    ran: list[list[str]] = []
    monkeypatch.setattr(removal, "_try", ran.append)
    monkeypatch.setattr(service, "end", lambda: None)
    monkeypatch.setattr(install, "await_install", lambda: None)
    return ran


def test_given_a_unit_with_data_when_removed_then_it_is_kept_for_root_and_named(
    machine: Machine, quiet: list[list[str]]
):
    owner.claim(FIRST, new)
    machine.keep("db")
    context = charm_context.context()
    model = testing.Model(name=FIRST.model, uuid=FIRST.model_uuid)
    after = context.run(context.on.remove(), testing.State(model=model))
    (kept,) = (machine.at / "removed").iterdir()
    assert kept.name.endswith("-etcd-0-first")
    assert str(kept) in after.unit_status.message
    assert any(str(kept) in line.message for line in context.juju_log)
    assert (kept / "current/etcd/member/snap/db").read_text() == "data"
    assert owner.Owner(**json.loads((kept / "owner.json").read_text())) == FIRST
    assert [path.stat().st_mode & 0o777 for path in (kept.parent, kept)] == [0o700, 0o700]
    assert not machine.root.exists()
    assert not machine.record.parent.exists()
    assert quiet == list(removal.commands())
    assert owner.claim(SECOND, new), "the next one finds an empty machine"


def test_given_data_on_a_file_system_of_its_own_when_removed_then_it_stays_there(
    machine: Machine, quiet: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    owner.claim(FIRST, new)
    kept = machine.keep("db")

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(removal.files, "rename", busy)
    assert str(machine.root) in removal.leave(FIRST)
    assert kept.exists()
    assert refusal(SECOND), "the next one does not found itself on it"


def test_given_no_data_on_the_machine_when_removed_then_nothing_is_left(
    machine: Machine, quiet: list[list[str]]
):
    owner.claim(FIRST, new)
    assert removal.leave(FIRST) == "nothing of it is left on the machine"
    assert not machine.root.exists()


def test_given_the_sources_when_read_then_removal_knows_every_path_of_theirs():
    """What is written outside of the data root is taken away, or said here why not."""
    stays = {
        "/etc/systemd/system": "the units in it are named",
        "/usr/local/bin": "etcd-admin in it is named",
        "/home/ubuntu": "a person's",
        "/usr/local/lib": "programs stay",
        "/usr/local/lib/etcd": "programs stay",
        "/var/lib": "etcd's directories in it are named",
        "/var/lib/etcd": "the data",
        "/var/lib/etcd-before": "an operator's",
        "/var/lib/etcd-removed": "the data",
        "/var/lib/etcd-charm": "the record goes last",
        "/var/lib/juju": "Juju's",
        "/var/log/juju": "Juju's",
    }
    gone = [str(path) for path in removal.paths()] + [str(files.MEMORY)]
    known = (*stays, "/etc/etcd", "/home/ubuntu/etcd-snapshots")
    found = set()
    for source in (pathlib.Path(charm.__file__).parent).rglob("*.py"):
        for word in source.read_text().split('"')[1::2]:
            if word.startswith(("/etc/", "/var/", "/run/etcd", "/usr/local/", "/home/")):
                found.add(word.rstrip("/"))
    assert {str(keeper_files.REMOTE), str(etcd_config.TLS)} <= found
    left = {
        word
        for word in found
        if word not in known
        and not any(word == path or word.startswith(f"{path}/") for path in gone)
        and not word.startswith("/var/lib/etcd-charm/")
        and not {" ", ":"} & set(word)
    }
    assert left == set()


def test_given_the_sources_when_read_then_removal_knows_every_unit_of_systemds():
    commands = " ".join(" ".join(words) for words in removal.commands())
    found = {
        word
        for source in (pathlib.Path(charm.__file__).parent).rglob("*.py")
        for word in source.read_text().split('"')[1::2]
        if re.fullmatch(r"etcd[a-z-]*\.(service|path|timer|socket)", word)
    }
    assert {service.UNIT, systemd_unit.ORPHANED_UNIT} <= found
    assert [unit for unit in sorted(found) if unit not in commands] == []


# Where no hook comes any more


def test_given_the_unit_is_back_when_systemd_would_clean_up_then_it_does_not(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(removal, "_GONE", 0)
    monkeypatch.setattr(owner, "FILE", tmp_path / "owner.json")
    text = removal.unit_text(tmp_path / "unit-etcd-0", "etcd/0")
    lines = text.splitlines()
    assert f"ConditionPathExists=!{tmp_path}/unit-etcd-0" in lines
    (condition,) = (x.partition("=")[2] for x in lines if x.startswith("ExecCondition="))
    records = (None, FIRST, dataclasses.replace(FIRST, unit="etcd/01"), SECOND)
    for record, cleans in zip(records, (True, True, False, False), strict=True):
        if record:
            owner.FILE.write_text(record.to_json())
        done = subprocess.run(shlex.split(condition), check=False, timeout=20)
        assert (done.returncode == 0) == cleans, record
    owner.FILE.unlink()
    (tmp_path / "unit-etcd-0").mkdir()
    assert subprocess.run(shlex.split(condition), check=False, timeout=20).returncode
    steps = [shlex.split(x[len("ExecStart=-") :]) for x in lines if x.startswith("ExecStart=-")]
    assert steps == [processes.alone(words) for words in removal.commands()]
    assert not any(str(service.DATA_ROOT) in step for step in steps if step[0] == "rm")


def test_given_actions_when_refused_then_the_error_is_one_of_their_sentences():
    assert issubclass(owner.ForeignError, actions._REFUSALS)
