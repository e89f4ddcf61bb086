"""Effects of steps, where they keep count of something."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

import errors
from cluster import steps
from cluster import view as views
from etcd import responses, service
from hook import execute, notes
from support import fake_unit

URL = "https://198.18.0.1:2380"


class FakeEtcd:
    """A cluster that answers `member add` with this error, or not at all."""

    def __init__(self, error: errors.EtcdError | None = None, refusals: int = 0) -> None:
        self.error = error
        self.refusals = refusals
        self.promoted: list[int] = []

    def members(self) -> responses.Membership:
        learner = views.Member(7, "", (URL,), learner=True)
        return responses.Membership((learner,), 1, 2)

    def promote(self, member_id: int) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise errors.NotInSyncError("the learner is not yet in sync with the leader")
        self.promoted.append(member_id)

    def add_learner(self, _: list[str]) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def _counted_here(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(notes, "JOINS", tmp_path / "joins.json")


def unit(etcd: FakeEtcd) -> fake_unit.Unit:
    return fake_unit.made(pathlib.Path("/nowhere"), online=etcd)


def add(error: errors.EtcdError | None = None) -> int:
    """Try to become a learner; answers how many attempts are counted."""
    joining = unit(FakeEtcd(error))
    with contextlib.suppress(errors.EtcdError):
        execute.Actor(joining).do(steps.AddLearner(URL))
    return joining.notes.joins()


def test_given_a_learner_of_another_when_etcd_refuses_this_one_then_it_counts_as_no_attempt():
    assert add() == 1
    assert add(errors.TooManyLearnersError("the cluster has a learner already")) == 1


def test_given_no_answer_when_a_unit_was_perhaps_added_then_it_counts_as_an_attempt():
    assert add(errors.UnreachableError("nobody answers", sent=True)) == 1


def test_given_a_learner_behind_when_it_catches_up_then_it_is_promoted_once_etcd_agrees(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(service, "state", lambda: views.Service.RUNNING)
    monkeypatch.setattr(service, "await_active", lambda _: None)
    etcd = FakeEtcd(refusals=3)
    execute.Actor(unit(etcd)).do(steps.CatchUp(URL))
    assert etcd.promoted == [7]


def test_given_an_etcd_that_gave_up_when_it_should_catch_up_then_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(service, "state", lambda: views.Service.FAILED)
    monkeypatch.setattr(service, "await_active", lambda _: None)
    etcd = FakeEtcd()
    execute.Actor(unit(etcd)).do(steps.CatchUp(URL))
    assert etcd.promoted == []
