"""The controller's process: killed at any moment, it finds its models again."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from minijuju.controller import daemon
from minijuju.model import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METADATA = "name: probe\nsummary: s\ndescription: d\npeers: {mates: {interface: probe-peer}}\n"
CONFIG = "options: {text: {type: string, default: a}}\n"
DISPATCH = """\
#!/bin/bash
if [ "$JUJU_DISPATCH_PATH" = actions/slow ]; then sleep 3018; fi
if [ -e /root/slow ] && [ "$JUJU_DISPATCH_PATH" = hooks/config-changed ]; then sleep 3017; fi
if [ "$JUJU_DISPATCH_PATH" = hooks/leader-elected ] && [ "$(config-get text)" = long ]; then
    sleep 3016
fi
if [ "$JUJU_DISPATCH_PATH" = hooks/start ]; then status-set active; fi
echo "$JUJU_DISPATCH_PATH" >> /root/hooks
"""


class Home:
    """A controller of its own with one model."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def __call__(self, verb: str, **params: Any) -> Any:
        return daemon.call(verb, {"model": "m", **params}, directory=self.directory)

    def plain(self, verb: str, **params: Any) -> Any:
        """Call a verb in no model, or in the one that is named."""
        return daemon.call(verb, params, directory=self.directory)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon and wait until it is gone."""
        pid = int((self.directory / "pid").read_text())
        os.kill(pid, number)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon has ended")

    def unit(self, name: str = "probe/0") -> dict[str, Any]:
        applications = self("view", name="status")["applications"]
        return applications[name.partition("/")[0]]["units"][name]

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


def status(home: Home, name: str = "probe/0") -> tuple[str, str]:
    unit = home.unit(name)
    return unit["workload-status"]["current"], unit["juju-status"]["current"]


def up(home: Home, model: str) -> bool:
    """Whether a model's machine 0 can be entered."""
    machine = home.plain("view", model=model, name="machines")["0"]
    return machine["juju-status"]["current"] == "started"


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A charm's directory."""
    folder = tmp_path_factory.mktemp("charm")
    (folder / "metadata.yaml").write_text(METADATA)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "actions.yaml").write_text("slow: {}\n")
    (folder / "dispatch").write_text(DISPATCH)
    (folder / "dispatch").chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, probe: str) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("home"))
    daemon.call("add_model", {"name": "m"}, directory=made.directory)
    made("deploy", charm=probe)
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


def test_given_a_machine_killed_in_leader_elected_when_another_leads_then_its_unit_goes_on(
    home: Home, probe: str
) -> None:
    home("model_config", values={"minijuju-lease-seconds": "2"})
    home("deploy", charm=probe, application="led", config={"text": "long"})
    until(lambda: runs("3016"), "the hook runs")
    machine = home.unit("led/0")["machine"]
    home("chaos", action="kill", machine=machine)
    home("config", application="led", values={"text": "short"})
    home("add_unit", application="led")
    until(lambda: bool(home.unit("led/1").get("leader")), "another leads")
    home("chaos", action="start", machine=machine)
    until(lambda: status(home, "led/0") == ("active", "idle"), "the unit is in no error")
    assert home.unit("led/1")["leader"]


def test_given_a_controller_when_it_is_juju_4_then_its_new_models_are_and_let_nobody_in(
    home: Home, probe: str
) -> None:
    with pytest.raises(errors.JujuError, match="minijuju is 3"):
        home.plain("bootstrap", version="2.9")
    assert home.plain("bootstrap", version="4.0").startswith("4.0.")
    home.plain("add_model", name="four", switch=False)
    home.plain("bootstrap", version="3.6")
    try:
        home.plain("deploy", model="four", charm=probe)
        shown = home.plain("view", model="four", name="status")
        assert shown["model"]["version"].startswith("4.0.")
        assert home("view", name="status")["model"]["version"].startswith("3.6.")
        machine = {
            "model": "four",
            "source": "0:/etc/hostname",
            "destination": str(home.directory),
        }
        with pytest.raises(errors.JujuError, match="Permission denied"):
            home.plain("copy", **machine)
        home.plain("ssh_keys", model="four", add=["ssh-ed25519 AAAA one"], remove=[])
        until(lambda: up(home, "four"), "the machine is up")
        home.plain("copy", **machine)
        assert (home.directory / "hostname").read_text().startswith("juju-")
    finally:
        home.plain("destroy_model", model="four", force=True, destroy_storage=True)
