"""The documentation that is made from the code is what the code says."""

from __future__ import annotations

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def test_given_the_states_when_the_page_is_written_again_then_it_is_the_same():
    spec = importlib.util.spec_from_file_location("statuses", ROOT / "scripts" / "statuses.py")
    assert spec
    assert spec.loader
    statuses = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(statuses)
    assert statuses.PAGE.read_text() == statuses.page()
