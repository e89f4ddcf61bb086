"""Every reader of bytes from outside for minutes, each in a process with bounds; no machine."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from fuzzing import targets

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))  # for each target
SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_given_hostile_inputs_when_read_then_only_our_errors_within_bounds(name: str):
    done = subprocess.run(
        [sys.executable, "-m", "fuzzing.run", name, str(SEED), str(SECONDS), "1000000000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS * 3 + 120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src:tests:lib"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > 100, "too few inputs to say anything"
