"""The documentation that is made from the code is what the code says."""

from __future__ import annotations

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def test_given_the_code_when_the_pages_are_written_again_then_they_are_the_same():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "scripts" / "pages.py")
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for name, page in made.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == page()
