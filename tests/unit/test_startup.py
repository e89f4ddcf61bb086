"""What a hook puts off until something asks for it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import charm_context
import pytest
from ops import testing

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


@pytest.mark.parametrize("path", startup.UNUSED)
def test_given_a_hook_that_brings_nothing_when_run_then_it_ends_before_its_imports(path: str):
    completed = subprocess.run(
        [sys.executable, "-S", str(SRC / "charm.py")],  # without the charm's packages
        env={"JUJU_DISPATCH_PATH": path},
        check=False,
    )
    assert completed.returncode == 0


def test_given_the_charm_when_it_observes_then_no_event_of_an_unused_hook():
    context = charm_context.context()
    with context(context.on.start(), testing.State()) as manager:
        observed = {kind for _, _, _, kind in manager.charm.framework._observers}
        joined = manager.charm.on["cluster"].relation_joined.event_kind
    assert not observed & {joined, "leader_settings_changed"}
    assert "cluster_relation_changed" in observed
