"""The controller's process: killed at any moment, it finds its models again."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from minijuju import daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METADATA = "name: probe\nsummary: s\ndescription: d\npeers: {mates: {interface: probe-peer}}\n"
CONFIG = "options: {text: {type: string, default: a}}\n"
DISPATCH = """\
#!/bin/bash
if [ "$JUJU_DISPATCH_PATH" = actions/slow ]; then sleep 3018; fi
if [ -e /root/slow ] && [ "$JUJU_DISPATCH_PATH" = hooks/config-changed ]; then sleep 3017; fi
if [ "$JUJU_DISPATCH_PATH" = hooks/start ]; then status-set active; fi
echo "$JUJU_DISPATCH_PATH" >> /root/hooks
"""


class Home:
    """A controller of its own with one model."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def __call__(self, verb: str, **params: Any) -> Any:
        return daemon.call(verb, {"model": "m", **params}, directory=self.directory)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon and wait until it is gone."""
        pid = int((self.directory / "pid").read_text())
        os.kill(pid, number)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon has ended")

    def unit(self, name: str = "probe/0") -> dict[str, Any]:
        return self("view", name="status")["applications"]["probe"]["units"][name]

    def shell(self, script: str) -> dict[str, Any]:
        """Run a script in machine 0; gives its results."""
        (task,) = self("execute", command=script, machines=["0"])["tasks"]
        done = self("wait_tasks", tasks=[task["id"]], timeout=30)
        return done[task["id"]]["results"]


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that happens soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.1)


def runs(seconds: str) -> bool:
    """Whether a `sleep` of so many seconds runs on this host, in whichever machine."""
    wanted = b"sleep\0" + seconds.encode() + b"\0"
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == wanted:
                return True
    return False


def status(home: Home) -> tuple[str, str]:
    unit = home.unit()
    return unit["workload-status"]["current"], unit["juju-status"]["current"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("charm")
    (folder / "metadata.yaml").write_text(METADATA)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "actions.yaml").write_text("slow: {}\n")
    (folder / "dispatch").write_text(DISPATCH)
    (folder / "dispatch").chmod(0o755)
    made = Home(tmp_path_factory.mktemp("home"))
    daemon.call("add_model", {"name": "m"}, directory=made.directory)
    made("deploy", charm=str(folder))
    until(lambda: status(made) == ("active", "idle"), "the unit is up")
    yield made
    made("destroy_model", force=True, destroy_storage=True)
    made.kill(signal.SIGTERM)


def test_given_an_idle_model_when_the_controller_is_killed_then_nothing_is_lost_or_run_again(
    home: Home,
) -> None:
    before = home.shell("cat /root/hooks")["stdout"]
    boot = home.shell("cat /proc/sys/kernel/random/boot_id")["stdout"]
    home.kill()
    until(lambda: status(home) == ("active", "idle"), "the unit is back")
    time.sleep(1)
    assert home.shell("cat /root/hooks")["stdout"] == before
    assert home.shell("cat /proc/sys/kernel/random/boot_id")["stdout"] == boot


def test_given_a_running_hook_when_the_controller_is_killed_then_it_has_failed_and_is_retried(
    home: Home,
) -> None:
    home.shell("touch /root/slow")
    home("config", application="probe", values={"text": "b"})
    until(lambda: runs("3017"), "the hook runs")
    home.kill()
    assert runs("3017"), "the machine does not depend on the controller"
    until(lambda: status(home)[0] == "error", "the hook counts as failed")
    assert not runs("3017")
    home.shell("rm -f /root/slow")
    until(lambda: status(home) == ("active", "idle"), "the hook was tried again")
    assert home.shell("tail -n 1 /root/hooks")["stdout"] == "hooks/config-changed\n"


def test_given_a_running_action_when_the_controller_is_killed_then_it_is_terminated(
    home: Home,
) -> None:
    (task,) = home("run", receivers=["probe/0"], action="slow")["tasks"]
    until(lambda: runs("3018"), "the action runs")
    home.kill()
    done = home("wait_tasks", tasks=[task["id"]], timeout=30)[task["id"]]
    assert (done["status"], done["message"]) == ("failed", "action terminated")
    assert not runs("3018")
