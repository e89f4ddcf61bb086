"""What `make integration PYTEST="..."` and its siblings collect."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


INTEGRATION = ["tests/integration", "minijuju/tests/conformance"]


@pytest.mark.parametrize(
    ("arguments", "collected"),
    [
        ([], INTEGRATION),
        (["-k", "membership", "-x"], INTEGRATION),
        (["-k", "scripts"], INTEGRATION),
        (["tests/integration/charm/test_cluster.py", "-x"], []),
        (["tests/unit/test_suite.py::test_given_arguments"], []),
        (["minijuju/tests/conformance/test_wheel.py"], []),
        (["tests/no/such_file.py"], INTEGRATION),
    ],
)
def test_given_arguments_when_they_name_files_then_nothing_else_is_collected(
    arguments: list[str], collected: list[str]
):
    spec = importlib.util.spec_from_file_location("suite", ROOT / "scripts" / "suite.py")
    assert spec
    assert spec.loader
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    assert suite.modules("integration", arguments) == collected
