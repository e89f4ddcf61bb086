"""Every pair and every case can be played to its end: nothing is asked of a unit that is gone."""

from __future__ import annotations

import ast
import pathlib

import pytest

from proof import cases, matrix

PAIRS = [
    matrix.Pair(*parts, seed=seed)
    for seed, parts in enumerate(matrix.everything())
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_given_a_pair_when_played_then_its_units_settle_and_every_fault_ends(lab, pair):
    matrix.deploy(lab, [pair])
    matrix.play(lab, pair)
    assert lab.complaints == []
    assert lab.settled
    assert lab.began
    assert lab.undo == []
    matrix.ready_again(lab, pair)
    if lab.healthy(matrix.UNITS, 1):
        assert len(lab.units()) == matrix.UNITS


@pytest.mark.parametrize("name", cases.CASES)
def test_given_a_case_when_all_goes_well_then_it_ends_without_a_complaint(lab, name: str):
    cases.CASES[name].run(lab)
    assert lab.complaints == []
    assert lab.settled


def test_given_the_paper_laboratory_when_compared_then_the_real_one_can_all_that_it_can(lab):
    source = pathlib.Path(matrix.__file__).with_name("lab.py").read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    real = next(node for node in classes if node.name == "Lab")
    names = {node.name for node in real.body if isinstance(node, ast.FunctionDef)}
    paper = {name for name in vars(type(lab)) if not name.startswith("_")}
    assert paper <= names
