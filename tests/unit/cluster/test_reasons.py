"""Every sentence of the planner's is in the table that the documentation is made from."""

from __future__ import annotations

import re

import pytest

import errors
from cluster import plan as plans
from cluster import reasons, status
from cluster import view as views
from hook import shown
from model import check

ADDED = "; "


def pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, sentence.split("…"))), re.DOTALL)


def is_told(state: status.State, sentence: str) -> bool:
    """Whether the table has the sentence under this state; some are several in one."""
    told = [pattern(each) for each in reasons.REASONS[state.value].says]
    return any(each.fullmatch(sentence) for each in told) or all(
        any(each.fullmatch(part) for each in told) for part in sentence.split(ADDED)
    )


def test_given_what_ends_a_hook_when_looked_up_then_each_is_a_reason():
    assert set(shown.FAULTS.values()) <= reasons.REASONS.keys()
    assert list(shown.FAULTS)[-1] is errors.EtcdError, "the kinds of it come before it"


def test_given_the_planners_states_when_looked_up_then_each_is_a_reason():
    assert {state.value for state in status.State} <= reasons.REASONS.keys()
    juju = {"active", "waiting", "maintenance", "blocked"}
    assert {each.status for each in reasons.REASONS.values()} <= juju
    blocked = [key for key, each in reasons.REASONS.items() if each.status == "blocked"]
    assert all(reasons.REASONS[key].operator for key in blocked), (
        "a blocked unit asks for something"
    )


@pytest.mark.parametrize("seed", range(0, 600, 100))
def test_given_histories_when_played_then_each_sentence_is_in_the_table(seed: int):
    unknown: set[tuple[str, str]] = set()

    def decide(view: views.View) -> plans.Plan:
        plan = plans.plan(view)
        if not is_told(plan.state, plan.message):
            unknown.add((plan.state.value, plan.message))
        return plan

    for number in range(seed, seed + 100):
        check.play(number, decide)
    assert not unknown


@pytest.mark.parametrize(
    ("state", "sentence", "told"),
    [
        (status.State.HEALTHY, "Healthy with 3 known peers", True),
        (status.State.HEALTHY, "All is well", False),
        (status.State.DEGRADED, "no member leads; etcd/3 is not a member yet", True),
        (status.State.DEGRADED, "something else; no member leads", False),
    ],
)
def test_given_a_sentence_when_looked_up_then_only_the_tables_own_are_found(
    state: status.State, sentence: str, told: bool
):
    assert is_told(state, sentence) is told
