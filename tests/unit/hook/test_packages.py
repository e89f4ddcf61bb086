"""When a unit installs its packages, and what it says meanwhile."""

from __future__ import annotations

import pathlib
import types

import charm_context
import pytest
from ops import testing

import charm
from etcd import install, service
from hook import idle, packages, removal
from keeper import systemd_unit
from machine import juju_exec
from relations import peers


class Machine:
    """What `etcd.install` does: packages that go in, are there, or could not be installed."""

    def __init__(self) -> None:
        self.busy = False
        self.problem = ""
        self.installed = 0

    def begin_install(self, *_: object) -> None:
        self.busy = True

    def install(self, *_: object) -> bool:
        self.installed += 1
        self.problem = ""
        return True


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(install, "begin_install", made.begin_install)
    monkeypatch.setattr(install, "await_install", lambda: None)
    monkeypatch.setattr(install, "installing", lambda: made.busy)
    monkeypatch.setattr(systemd_unit, "install", lambda _: None)
    monkeypatch.setattr(removal, "ensure_services", lambda *_: None)
    monkeypatch.setattr(idle, "FILE", tmp_path / "idle.json")
    monkeypatch.setattr(install, "install_problem", lambda: made.problem)
    monkeypatch.setattr(install, "install", made.install)
    monkeypatch.setattr(juju_exec, "ensure_wakes", lambda *_: True)
    monkeypatch.setattr(service, "version", lambda: (3, 5, 16))
    return made


@pytest.fixture
def before(tmp_path: pathlib.Path) -> testing.State:
    """No release attached."""
    (tmp_path / "none").touch()
    return testing.State(resources={testing.Resource(name="etcd", path=tmp_path / "none")})


@pytest.fixture
def context() -> testing.Context:
    return charm_context.context()


def test_given_a_new_machine_when_installed_then_the_hook_does_not_wait_for_packages(
    context: testing.Context, machine: Machine, before: testing.State
):
    after = context.run(context.on.install(), before)
    assert machine.busy
    assert not machine.installed
    assert after.unit_status == testing.MaintenanceStatus("Installing etcd")


def test_given_packages_that_are_there_when_started_then_the_version_is_told(
    context: testing.Context, machine: Machine, before: testing.State
):
    after = context.run(context.on.start(), before)
    assert not machine.installed
    assert after.workload_version == "3.5.16"


def test_given_an_installation_cut_off_by_a_reboot_when_started_then_it_is_done_again(
    context: testing.Context, machine: Machine, before: testing.State
):
    machine.problem = "the installation of etcd was interrupted: it is tried again"
    after = context.run(context.on.start(), before)
    assert machine.installed == 1
    assert after.workload_version == "3.5.16"


def test_given_packages_that_could_not_be_installed_when_another_hook_runs_then_it_says_so(
    context: testing.Context, machine: Machine, before: testing.State
):
    machine.problem = "apt cannot install etcd-server"
    after = context.run(context.on.config_changed(), before)
    assert not machine.installed
    assert after.unit_status == testing.BlockedStatus("apt cannot install etcd-server")


def test_given_etcd_as_it_was_when_a_release_is_refused_then_a_tick_goes_on_saying_so(
    context: testing.Context, machine: Machine, before: testing.State, monkeypatch
):
    refused = "the etcd resource is not a release"
    monkeypatch.setattr(install, "install", lambda _: setattr(machine, "problem", refused))
    monkeypatch.setattr(peers.Peers, "related", True)
    monkeypatch.setattr(charm.EtcdCharm, "_reconcile", lambda *_: idle.FILE.write_text("{}"))
    after = context.run(context.on.upgrade_charm(), before)
    assert after.unit_status == testing.BlockedStatus(refused)
    assert not idle.FILE.exists()


def test_given_a_new_release_when_refreshed_then_it_is_installed(
    context: testing.Context, machine: Machine, before: testing.State
):
    context.run(context.on.upgrade_charm(), before)
    assert machine.installed == 1


def test_given_other_units_on_the_machine_when_installed_then_within_the_hook(
    context: testing.Context, machine: Machine, before: testing.State, monkeypatch
):
    monkeypatch.setattr(packages, "_alone", lambda _: False)
    context.run(context.on.install(), before)
    assert machine.installed == 1 and not machine.busy


@pytest.mark.parametrize(("others", "alone"), [((), True), (("unit-nrpe-0",), False)])
def test_given_agents_on_a_machine_when_counted_then_ours_alone_is_alone(
    tmp_path: pathlib.Path, others: tuple[str, ...], alone: bool
):
    for name in ("unit-etcd-0", *others, "machine-0"):
        (tmp_path / name / "charm").mkdir(parents=True)
    unit = types.SimpleNamespace(charm_dir=tmp_path / "unit-etcd-0" / "charm")
    assert packages._alone(unit) is alone
