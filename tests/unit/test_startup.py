"""What a hook puts off until something asks for it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import startup

SRC = pathlib.Path(__file__).resolve().parents[2] / "src"
LOOK = """
import json, sys
import startup
startup.begin()
import charm
def waits(name):
    return object.__getattribute__(sys.modules[name], "__class__").__name__ == "_LazyModule"
before = [name for name in startup.LATER if waits(name)]
from cluster import steps
print(json.dumps([before, steps.Stop.__name__, waits("cluster.steps")]))
"""


def test_given_a_hook_when_it_starts_then_what_it_may_not_need_has_not_run():
    completed = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={"PYTHONPATH": ":".join([str(SRC), str(SRC.parent / "lib")])},
        capture_output=True,
        text=True,
        check=True,
    )

    waiting, step, still = json.loads(completed.stdout)

    assert waiting == list(startup.LATER)
    assert (step, still) == ("Stop", False)
