"""Revisions of restored stores: above every one that anybody was told, whoever knows of it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import generation as generations
from cluster import plan as plans
from cluster import revisions, steps
from cluster import view as views
from unit.cluster import test_plan

REVISIONS = st.integers(0, revisions.LIMIT - 1)


def record(**detail: int | str) -> generations.Generation:
    made = test_plan.record(0, number=4, token="four", source=generations.Source.BACKUP)
    return dataclasses.replace(made, detail=generations.Detail(**detail))


@given(REVISIONS, REVISIONS, st.lists(st.none() | REVISIONS), REVISIONS, REVISIONS)
def test_given_any_inputs_when_a_store_begins_then_it_does_so_above_each_of_them(
    snapshot: int, live: int, disks: list[int | None], high: int, backups: int
) -> None:
    told = [None if each is None else views.DiskFacts(9, 9, each) for each in disks]
    begins = revisions.begin(
        snapshot=snapshot, live=live, disks=told, record=record(high=high), backups=backups
    )
    known = [snapshot, live, high, backups, *(each for each in disks if each is not None)]
    assert begins == max(known) + revisions.MARGIN


def test_given_thousands_of_restores_when_counted_then_programs_still_tell_them_apart() -> None:
    weekly_for_a_century = 52 * 100
    assert weekly_for_a_century * 2 * revisions.MARGIN < revisions.LIMIT
    assert revisions.MARGIN > 24 * 3600 * 10_000, "a day of writes that nobody saw"


@pytest.mark.parametrize(
    ("detail", "high"),
    [
        ({}, 0),
        ({"revision": 50, "bump": 1000}, 1050),  # of an earlier revision of the charm
        ({"revision": 50, "high": 2000}, 2000),
    ],
)
def test_given_a_record_when_read_then_what_it_knows_of_is_known(
    detail: dict[str, int | str], high: int
) -> None:
    assert revisions.high(record(**detail)) == high
    assert revisions.high(None) == 0


def detail_of(view: views.View) -> generations.Detail:
    (step,) = plans.plan(view).steps
    made = step.proposal if isinstance(step, steps.Propose) else None
    made = step.generation if isinstance(step, steps.Commit) else made
    assert made is not None
    return made.detail


def silent(**changes: object) -> views.View:
    return test_plan.changed(
        test_plan.view(etcd=test_plan.silent(test_plan.STOPPED)), 0, **changes
    )


def test_given_two_losses_when_restored_from_one_backup_then_no_revision_is_met_twice() -> None:
    backup = generations.Detail(high=70, revision=50)
    policy = views.Policy(recover_total_loss=True)
    lost = test_plan.view(
        generation=test_plan.record(0, 1, 2),
        disk=views.Disk(),
        etcd=test_plan.silent(test_plan.STOPPED),
        policy=policy,
        newest_backup=backup,
        since=(("silent:1", 0.0), ("silent:4", 0.0)),
    )
    for unit in range(3):
        lost = test_plan.changed(lost, unit, token=None, heard="one", unanswered=True)
    first = detail_of(lost)
    assert first.high == 70 + revisions.MARGIN
    again = dataclasses.replace(record(), detail=first)
    for unit in range(3):
        lost = test_plan.changed(lost, unit, heard=again.token)
    second = detail_of(dataclasses.replace(lost, generation=again))
    assert second.high == first.high + revisions.MARGIN
    assert second.revision == first.revision == 50


def test_given_a_survivor_when_chosen_then_what_other_disks_and_the_record_know_counts() -> None:
    made = dataclasses.replace(test_plan.record(0, 1, 2), detail=generations.Detail(high=9000))
    v = test_plan.view(
        generation=made,
        recover="etcd/0",
        disk=views.Disk(token="one", facts=views.DiskFacts(1, 1, 10)),
        etcd=test_plan.silent(test_plan.STOPPED),
    )
    assert detail_of(v).high == 9000 + revisions.MARGIN
    v = test_plan.changed(v, 2, facts=views.DiskFacts(1, 1, 12_000))
    assert detail_of(v).high == 12_000 + revisions.MARGIN


def test_given_a_restore_that_failed_when_undone_then_the_record_goes_on_knowing() -> None:
    failed = dataclasses.replace(
        record(high=5000, previous_token="three", previous_number=3), confirmed=False
    )
    v = test_plan.view(generation=failed, disk=views.Disk(token="four"))
    v = test_plan.changed(v, 1, failure=views.Failure("four", "its disk is full"))
    told = detail_of(v)
    assert told.high == 5000 and told.failed_token == "four"
