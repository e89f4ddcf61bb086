"""Every reader of bytes from outside, with a few inputs; `make faults` feeds them for minutes."""

from __future__ import annotations

import gzip
import pathlib
import random

import pytest

from fuzzing import mutations, run, targets

KEPT = targets.SEEDS / "found"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_given_real_and_mutated_inputs_when_read_then_only_our_errors_come_out(name):
    target = targets.TARGETS[name]
    seeds = target.seeds()
    chance = random.Random(name)
    with targets.scratch() as at:
        for raw in seeds:
            target.read(raw, pathlib.Path(at))
        for raw in (*seeds, *(mutations.mutated(seeds, chance) for _ in range(60))):
            run.feed(target, raw, pathlib.Path(at))


@pytest.mark.parametrize("path", sorted(KEPT.iterdir()), ids=lambda path: path.name)
def test_given_an_input_that_once_broke_a_reader_when_read_again_then_one_of_our_errors(path):
    named = {name.replace(" ", "-"): target for name, target in targets.TARGETS.items()}
    with targets.scratch() as at:
        raw = gzip.decompress(path.read_bytes())
        run.feed(named[path.name.partition("--")[0]], raw, pathlib.Path(at))
