"""The proof suite's pairs: drawn alike by one seed, none twice, all kinds in turn."""

from __future__ import annotations

import collections

import pytest

from proof import matrix


@pytest.mark.parametrize("seed", range(20))
def test_given_a_seed_when_drawn_again_then_the_pairs_are_the_same(seed: int):
    assert matrix.draw(seed) == matrix.draw(seed)


def test_given_two_seeds_when_drawn_then_the_pairs_differ():
    assert matrix.draw(1) != matrix.draw(2)


@pytest.mark.parametrize("seed", range(20))
def test_given_a_seed_when_everything_is_drawn_then_no_pair_comes_twice(seed: int):
    everything = matrix.everything()
    drawn = matrix.draw(seed, count=10 * len(everything))
    found = [(pair.action, pair.fault, pair.moment) for pair in drawn]
    assert len(found) == len(everything)
    assert set(found) == set(everything)


@pytest.mark.parametrize("seed", range(20))
def test_given_a_few_pairs_when_drawn_then_no_action_and_no_fault_is_preferred(seed: int):
    drawn = matrix.draw(seed, count=len(matrix.ACTIONS) * 2)
    for kind, known in (("action", matrix.ACTIONS), ("fault", matrix.FAULTS)):
        counts = collections.Counter(getattr(pair, kind) for pair in drawn)
        assert set(counts) == set(known)
        assert max(counts.values()) <= 3


def test_given_the_fixed_set_when_read_then_every_action_and_every_fault_is_in_it():
    fixed = matrix.fixed()
    assert {pair.action for pair in fixed} == set(matrix.ACTIONS)
    assert {pair.fault for pair in fixed} == set(matrix.FAULTS)


def test_given_a_moment_when_drawn_then_it_is_one_of_its_action():
    for pair in matrix.draw(3, 500):
        steps = {f"after {step}" for _, step in matrix.ACTIONS[pair.action].steps}
        assert pair.moment in {"before", *steps}
