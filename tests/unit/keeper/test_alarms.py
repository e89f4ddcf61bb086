"""The watch: what wakes the charm between hooks, how soon and how often."""

from __future__ import annotations

import pytest

import errors
from backup import keeper_files
from keeper import alarms
from support import keeper_config


class World:
    """A cluster, a clock and a watch that looks as often as it says."""

    def __init__(self, folder, monkeypatch, *, leads: bool = False) -> None:
        self.path = folder / "keeper.json"
        self.lead(leads)
        self.now = 1000.0
        self.silent: tuple[str, ...] = ()
        self.reported: tuple[str, ...] = ()
        self.answers = True
        self.refused = False
        self.woken: list[float] = []
        monkeypatch.setattr(alarms, "see", self.see)
        self.watch = alarms.Watch(self.wake, self.path, lambda: self.now)

    def lead(self, leads: bool) -> None:
        self.path.write_text(keeper_config.told(leads=leads).to_json())

    def see(self, _: keeper_files.Config) -> alarms.Sight:
        if not self.answers:
            raise errors.UnreachableError("nobody answers")
        names = {f"etcd-{number}": f"etcd-{number}" not in self.silent for number in range(3)}
        return alarms.Sight(names, self.silent, 3, sum(names.values()), self.reported)

    def wake(self) -> None:
        if self.refused:
            raise errors.ToolError("no room")
        self.woken.append(self.now)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += self.watch.look()


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    return World(tmp_path, monkeypatch)


def test_given_all_is_well_when_looked_at_for_a_day_then_nobody_is_woken(world):
    world.run(86400)
    assert world.woken == []


def test_given_a_machine_dies_when_looked_at_then_the_charm_is_woken_within_ten_seconds(world):
    world.run(60)
    died = world.now
    world.silent = ("etcd-1",)
    world.run(20)
    assert len(world.woken) == 1
    assert world.woken[0] - died <= 10


def test_given_it_comes_back_when_looked_at_then_the_charm_is_woken_once_more(world):
    world.silent = ("etcd-1",)
    world.run(60)
    world.silent = ()
    back = world.now
    world.run(60)
    assert len(world.woken) == 2
    assert world.woken[1] - back <= 10


def test_given_a_member_that_restarts_when_looked_at_then_nobody_is_woken(world):
    world.run(60)
    world.silent = ("etcd-1",)
    world.watch.look()
    world.silent = ()
    world.run(60)
    assert world.woken == []


def test_given_a_member_comes_and_goes_when_looked_at_then_wakes_are_ever_rarer(world):
    for _ in range(180):
        world.silent = () if world.silent else ("etcd-1",)
        world.run(20)
    gaps = [after - before for before, after in zip(world.woken, world.woken[1:], strict=False)]
    assert all(gap >= 15 for gap in gaps)
    assert len(world.woken) < 40  # of 180 changes within an hour


def test_given_a_wake_that_is_refused_when_looked_at_again_then_it_is_tried_again(world):
    world.silent, world.refused = ("etcd-1",), True
    world.run(30)
    world.refused = False
    world.run(10)
    assert len(world.woken) == 1


def test_given_a_silent_member_when_this_unit_is_the_leader_then_it_looks_again_within_a_minute(
    tmp_path, monkeypatch
):
    world = World(tmp_path, monkeypatch, leads=True)
    world.silent = ("etcd-1",)
    world.run(600)
    gaps = [after - before for before, after in zip(world.woken, world.woken[1:], strict=False)]
    assert len(gaps) >= 10
    assert all(30 < gap < 50 for gap in gaps)


def test_given_a_silent_member_when_it_stays_so_then_the_leader_looks_for_an_hour_and_no_longer(
    tmp_path, monkeypatch
):
    world = World(tmp_path, monkeypatch, leads=True)
    world.silent = ("etcd-1",)
    world.run(86400)
    assert world.woken[-1] - world.woken[0] <= 3600
    assert len(world.woken) <= 91
    known = len(world.woken)
    world.silent = ("etcd-1", "etcd-2")
    world.run(600)
    assert len(world.woken) > known + 10


def test_given_the_lead_moves_here_when_a_member_is_silent_then_this_unit_goes_on_looking(world):
    world.silent = ("etcd-1",)
    world.run(60)
    assert len(world.woken) == 1
    world.lead(True)
    world.run(60)
    assert len(world.woken) >= 2


def test_given_the_leader_looks_again_when_the_member_is_back_then_it_is_told_at_once(
    tmp_path, monkeypatch
):
    world = World(tmp_path, monkeypatch, leads=True)
    world.silent = ("etcd-1",)
    world.run(600)
    world.silent = ()
    back, known = world.now, len(world.woken)
    world.run(300)
    assert len(world.woken) == known + 1
    assert world.woken[-1] - back <= 10


def test_given_an_etcd_that_does_not_answer_when_asked_then_what_was_seen_is_soon_no_news(world):
    world.run(10)
    assert world.watch.sight is not None
    world.answers = False
    world.run(60)
    assert world.watch.sight is None
    assert world.woken == []


@pytest.mark.parametrize(
    ("voters", "answering", "margin"),
    [(1, 1, 0), (2, 2, 0), (2, 1, -1), (3, 3, 1), (3, 2, 0), (3, 1, -1), (5, 5, 2), (5, 3, 0)],
)
def test_given_voters_when_some_answer_then_the_margin_is_what_may_be_lost_more(
    voters, answering, margin
):
    assert alarms.Sight({}, (), voters, answering).margin == margin
