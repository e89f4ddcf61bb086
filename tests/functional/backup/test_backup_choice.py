"""What the keeper is told of the remote, and what `juju status` says, as the choice changes."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from backup import keeper_files, rclone, remote_choice, remote_settings, seal
from cluster import view as views
from hook import backups as unit_backups
from keeper import fence, systemd_unit
from support import fake_unit


class Told:
    """A unit whose keeper is told of endpoints and of a remote; both are kept."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.endpoints = ("https://198.18.0.1:2379",)
        self.config: keeper_files.Config | None = None
        self.remote: remote_settings.Settings | None = None
        self.chosen: remote_settings.Settings | None = None
        peers = fake_unit.Peers(told=views.Unit("etcd/0", peer_url="https://198.18.0.1:2380"))
        self.node = fake_unit.made(folder, peers)
        self.node.endpoints = lambda: self.endpoints  # type: ignore[method-assign]

    def ensure(
        self,
        _: pathlib.Path,
        config: keeper_files.Config,
        told: remote_settings.Settings | None,
        chosen: remote_settings.Settings | None,
        _keys: seal.Keys,
    ) -> bool:
        self.config, self.remote, self.chosen = config, told, chosen
        return True

    def settle(self, chosen: remote_choice.Choice) -> unit_backups.Problem | None:
        return unit_backups.Backups(self.node, chosen, "here").ensure()


@pytest.fixture
def unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told(tmp_path)
    monkeypatch.setattr(fence, "FILE", tmp_path / "fence.json")
    monkeypatch.setattr(unit_backups, "CHECKED", tmp_path / "checked")
    monkeypatch.setattr(systemd_unit, "ensure", made.ensure)
    monkeypatch.setattr(systemd_unit, "remote", lambda: made.remote)
    monkeypatch.setattr(keeper_files, "STATUS", tmp_path / "status.json")
    return made


@pytest.fixture
def works(local: rclone.Remote) -> remote_choice.Choice:
    return remote_choice.Choice(remote_choice.State.READY, local.settings)


@pytest.fixture
def fails(tmp_path: pathlib.Path) -> remote_choice.Choice:
    (tmp_path / "file").touch()
    return remote_choice.Choice(
        remote_choice.State.READY, remote_settings.from_config(str(tmp_path / "file"), "")
    )


WAITING = remote_choice.Choice(
    remote_choice.State.WAITING, sentence="Waiting for s3 to give S3 credentials"
)


def test_given_a_remote_that_works_when_chosen_then_the_keeper_is_told_of_it(unit, works):
    assert unit.settle(works) is None
    assert unit.remote == works.settings


def test_given_a_changed_remote_that_fails_when_members_change_then_the_keeper_learns_of_them(
    unit, works, fails
):
    unit.settle(works)
    unit.endpoints = (*unit.endpoints, "https://198.18.0.2:2379")
    problem = unit.settle(fails)
    assert problem is not None and not problem.waiting
    assert problem.sentence.startswith("Backups still go where they went before: ")
    assert unit.remote == works.settings and unit.chosen == fails.settings
    assert unit.config.endpoints == unit.endpoints


def test_given_a_first_remote_that_fails_when_chosen_then_it_is_said_and_not_used(unit, fails):
    problem = unit.settle(fails)
    assert problem is not None and problem.sentence.startswith("Backups are not taken: ")
    assert unit.remote is None and unit.config.endpoints == unit.endpoints


def test_given_a_remote_in_use_that_fails_after_a_reboot_when_checked_then_it_stays_in_use(
    unit, fails
):
    unit.remote = fails.settings
    problem = unit.settle(fails)
    assert problem is not None and problem.sentence.startswith("Backups are not taken: ")
    assert unit.remote == fails.settings


def test_given_credentials_that_have_not_come_when_related_then_waiting_and_told_of_members(unit):
    problem = unit.settle(WAITING)
    assert problem == unit_backups.Problem(WAITING.sentence, waiting=True)
    assert unit.remote is None and unit.config.endpoints == unit.endpoints


def test_given_two_places_when_looked_at_then_neither_is_used(unit, works):
    unit.settle(works)
    wrong = remote_choice.Choice(remote_choice.State.WRONG, sentence="Two places for backups")
    assert unit.settle(wrong) == unit_backups.Problem("Two places for backups")
    assert unit.remote is None


def test_given_another_limit_when_changed_then_the_keeper_is_told(unit, works):
    unit.settle(works)
    limited = dataclasses.replace(works.settings, bandwidth="512K")
    assert unit.settle(remote_choice.Choice(remote_choice.State.READY, limited)) is None
    assert unit.remote == limited
