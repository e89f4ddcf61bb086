"""Three units of etcd on this machine, used as a user would; every step says what it shows."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "build" / "demo"
HOME = DEMO / "home"
LOG = DEMO / "demo.log"
JUJU = DEMO / "bin" / "juju"
CLIENT = DEMO / "client"
MODEL = "demo"
UNITS = 3
HEALTHY = f"Healthy with {UNITS} known peers"
SHIM = """\
#!/bin/sh
# The demo's Juju: minijuju, with the demo's own controller and model.
MINIJUJU_HOME={home} JUJU_MODEL={model} exec {minijuju} "$@"
"""
HEALTHY_SECONDS = 600
RESTORE_SECONDS = 600
QUIET_SECONDS = 10
"""How long the demo says nothing while it waits."""


class DemoError(Exception):
    """A step did not end as it should; the text is the reason."""


class Demo:
    """One run: numbered steps, a log of every command, and the time each took."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.step = "getting ready"
        self._count = 0

    def tell(self, text: str) -> None:
        """Say something, with the seconds since the beginning before it."""
        line = f"[{time.monotonic() - self.begun:4.0f} s] {text}"
        print(line, flush=True)
        self.note(line)

    def note(self, text: str) -> None:
        """Write to the log only."""
        with LOG.open("a") as log:
            log.write(text.rstrip("\n") + "\n")

    @contextlib.contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Name the step that the block is."""
        self._count += 1
        self.step = text
        self.tell(f"{self._count:2}. {text}")
        yield

    def shell(self, *argv: str, timeout: float = 60, cwd: pathlib.Path = ROOT) -> str:
        """Run a command on this machine and return what it printed.

        Raises:
            DemoError: it failed or took too long.
        """
        shown = shlex.join(argv)
        self.note(f"$ {shown}")
        env = {**os.environ, "PATH": f"{JUJU.parent}:{os.environ['PATH']}"}
        try:
            done = subprocess.run(
                argv, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DemoError(f"`{shown}` took over {timeout:g} s") from None
        self.note(done.stdout + done.stderr)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise DemoError(f"`{shown}` failed: {lines[-1] if lines else done.returncode}")
        return done.stdout

    def stream(self, *argv: str, timeout: float = 1800) -> str:
        """Run a command whose standard error is its progress; return its standard output."""
        self.note(f"$ {shlex.join(argv)}")
        process = subprocess.Popen(
            argv, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        last = ""
        deadline = time.monotonic() + timeout
        for line in process.stderr:
            last = line.strip() or last
            self.tell(f"    {line.rstrip()}")
            if time.monotonic() > deadline:
                process.kill()
                raise DemoError(f"`{shlex.join(argv)}` took over {timeout:g} s")
        output = process.stdout.read()
        if process.wait(timeout=60):
            raise DemoError(last.removeprefix("ERROR "))
        return output

    def juju(self, *argv: str, timeout: float = 120) -> str:
        """Run the demo's Juju."""
        return self.shell(str(JUJU), *argv, timeout=timeout)

    def status(self) -> dict[str, Any]:
        """`juju status` as a dictionary."""
        return json.loads(self.juju("status", "--format", "json"))

    def units(self) -> dict[str, Any]:
        """The etcd units of `juju status`."""
        return self.status()["applications"].get("etcd", {}).get("units", {})

    def action(self, unit: str, name: str, *params: str) -> dict[str, Any]:
        """Run an action and return its results.

        Raises:
            DemoError: it did not complete.
        """
        words = ["run", "--format", "json", "--wait", "5m", unit, name, *params]
        answer = json.loads(self.juju(*words, timeout=330) or "{}")
        task = next(iter(answer.values()), {})
        if task.get("status") != "completed":
            raise DemoError(f"action {name} on {unit}: {task.get('message') or 'gave no answer'}")
        return task.get("results", {})

    def etcdctl(self, *argv: str) -> str:
        """Run etcdctl on this machine with nothing but what the tar holds."""
        binary = shutil.which("etcdctl") or str(ROOT / "build/etcd-3.5/etcdctl")
        words = [binary, "--dial-timeout=5s", "--command-timeout=10s", *argv]
        return self.shell("bash", "-c", '. ./env && exec "$0" "$@"', *words, cwd=CLIENT)

    def until(self, wanted: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something, telling each change of a unit's status meanwhile.

        Raises:
            DemoError: it did not come in time.
        """
        deadline = time.monotonic() + seconds
        seen: dict[str, str] = {}
        told = time.monotonic()
        while True:
            busy: list[str] = []
            for name, unit in sorted(self.units().items()):
                workload, agent = unit["workload-status"], unit["juju-status"]
                now = f"{workload['current']}: {workload.get('message', '')}".rstrip(": ")
                if seen.get(name) != now:
                    self.tell(f"    {name} {now}")
                    seen[name] = now
                    told = time.monotonic()
                if workload["current"] == "error":
                    raise DemoError(f"{name}: {workload.get('message')}")
                if agent["current"] == "executing":
                    busy.append(f"{name} {agent.get('message', '')}")
            if time.monotonic() - told > QUIET_SECONDS:
                self.tell(f"    still waiting: {', '.join(busy) or 'no hook runs'}")
                told = time.monotonic()
            if wanted():
                return
            if time.monotonic() > deadline:
                states = "; ".join(f"{name} {state}" for name, state in sorted(seen.items()))
                raise DemoError(f"{what} did not happen within {seconds:g} s ({states})")
            time.sleep(1)

    def healthy(self) -> bool:
        """Whether every unit says that the cluster is whole, and rests."""
        units = self.units().values()
        return len(units) == UNITS and all(
            unit["workload-status"]["current"] == "active"
            and unit["workload-status"].get("message") == HEALTHY
            and unit["juju-status"]["current"] == "idle"
            for unit in units
        )


def up(demo: Demo) -> None:
    """The whole demo."""
    if HOME.exists():
        with demo.doing("Taking away the demo of last time"):
            take_down(demo)
    with demo.doing("Machine image (built once, a minute or two)"):
        demo.stream(sys.executable, "-m", "minijuju.machines.image", "ensure")
    with demo.doing("Charm (packed by charmcraft once for each state of the sources)"):
        charm = demo.stream(sys.executable, "scripts/pack.py").strip()
        folder = DEMO / "charms"
        folder.mkdir(exist_ok=True)
        easyrsa = demo.shell(
            sys.executable, "tests/charms/pack.py", "tests/charms/easyrsa", str(folder)
        ).strip()
    with demo.doing(f"Deploying etcd with {UNITS} units, and the certificate authority easyrsa"):
        _shim()
        demo.juju("add-model", MODEL, timeout=180)
        demo.juju("deploy", charm, "etcd", "--num-units", str(UNITS), timeout=180)
        demo.juju("deploy", easyrsa, "easyrsa", timeout=180)
        demo.juju("integrate", "etcd:certificates", "easyrsa")
    with demo.doing(f"Waiting until every unit says `{HEALTHY}`"):
        demo.until(demo.healthy, HEALTHY_SECONDS, "a healthy cluster")
    credentials(demo)
    put_and_get(demo)
    back_in_time(demo)
    farewell(demo)


def _shim() -> None:
    JUJU.parent.mkdir(parents=True, exist_ok=True)
    minijuju = pathlib.Path(sys.executable).parent / "minijuju"
    words = {"home": HOME, "model": MODEL, "minijuju": minijuju}
    JUJU.write_text(SHIM.format(**{key: shlex.quote(str(word)) for key, word in words.items()}))
    JUJU.chmod(0o755)


def credentials(demo: Demo) -> None:
    """Get a client certificate out of the cluster, the way that its action says."""
    with demo.doing("Asking for client certificates: generate-client-certificates"):
        command = demo.action("etcd/0", "generate-client-certificates")["copy"]["cmd"]
    with demo.doing(f"Copying them to this machine, as copy.cmd says: {command}"):
        shutil.rmtree(CLIENT, ignore_errors=True)
        CLIENT.mkdir()
        CLIENT.chmod(0o700)
        demo.shell("bash", "-c", command, cwd=CLIENT)
        archive = next(CLIENT.glob("*.tar.gz"), None)
        if archive is None:
            raise DemoError(f"`{command}` brought no tar")
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            tar.extractall(CLIENT, filter="data")
        demo.tell(f"    {archive.name}: {' '.join(sorted(names))}")


def put_and_get(demo: Demo) -> None:
    """Write and read over TLS from this machine."""
    with demo.doing("Writing and reading a key over TLS from this machine with that tar alone"):
        demo.etcdctl("put", "greeting", "hello")
        demo.tell(f"    etcdctl put greeting hello; etcdctl get greeting: {read(demo)!r}")
        if read(demo) != "hello":
            raise DemoError(f"the key greeting holds {read(demo)!r} and not 'hello'")


def read(demo: Demo, key: str = "greeting") -> str:
    """A key's value as this machine sees it."""
    return demo.etcdctl("get", "--print-value-only", key).strip()


def back_in_time(demo: Demo) -> None:
    """Snapshot, write more, restore, and look."""
    leader = next(name for name, unit in demo.units().items() if unit.get("leader"))
    with demo.doing(f"Taking a snapshot on {leader}"):
        taken = demo.action(leader, "snapshot")["snapshot"]
        demo.tell(f"    {taken['path']}: {taken['size']} bytes, revision {taken['revision']}")
    with demo.doing("Writing more: greeting changes, and a second key comes"):
        demo.etcdctl("put", "greeting", "goodbye")
        demo.etcdctl("put", "later", "written after the snapshot")
        before = members(demo)
        demo.tell(f"    greeting is {read(demo)!r} now, later is {read(demo, 'later')!r}")
    with demo.doing("Restoring the snapshot on all members, in place"):
        demo.action(leader, "restore", f"path={taken['path']}")
        demo.until(
            lambda: restored(demo, before["cluster"]) and demo.healthy(),
            RESTORE_SECONDS,
            "the restored cluster",
        )
    with demo.doing("Looking: the key is back, and all members are in the cluster"):
        if read(demo) != "hello" or read(demo, "later"):
            raise DemoError(
                f"greeting is {read(demo)!r} and later {read(demo, 'later')!r} after the restore"
            )
        after = members(demo)
        if len(after["names"]) != UNITS:
            raise DemoError(f"the members are {', '.join(after['names'])}")
        demo.tell(f"    greeting is {read(demo)!r} again, and the key later is gone")
        demo.tell(f"    members: {', '.join(after['names'])}")
        table = demo.etcdctl("endpoint", "status", "--cluster", "-w", "table")
        print(table.rstrip(), flush=True)


def restored(demo: Demo, old_cluster: int) -> bool:
    """Whether this machine sees another cluster ID than before: the new generation serves."""
    try:
        return members(demo)["cluster"] != old_cluster
    except DemoError:
        return False


def members(demo: Demo) -> dict[str, Any]:
    """The voting members' names ("" before the first start) and the cluster ID."""
    found = json.loads(demo.etcdctl("member", "list", "-w", "json"))
    voters = [one.get("name", "") for one in found["members"] if not one.get("isLearner")]
    return {"names": sorted(voters), "cluster": found["header"]["cluster_id"]}


def farewell(demo: Demo) -> None:
    """The status table, and what to try."""
    demo.step = "showing the status"
    print(f"\n{demo.juju('status').rstrip()}\n")
    juju = JUJU.relative_to(ROOT)
    print(
        f"All done in {time.monotonic() - demo.begun:.0f} s; the model stays up. Try, as root:\n"
    )
    print(f"  {juju} run etcd/leader health")
    print(f"  {juju} add-unit etcd -n 2 && watch {juju} status")
    print("  make demo-down")


def take_down(demo: Demo) -> None:
    """Destroy the model, its machines, its network and its files."""
    _shim()
    if HOME.exists():
        demo.juju("down", timeout=300)
    for folder in (HOME, CLIENT, DEMO / "charms", JUJU.parent):
        shutil.rmtree(folder, ignore_errors=True)


def failed(demo: Demo, reason: str) -> None:
    """Say which step failed and why, keep the logs, and leave nothing in the way."""
    print(f"\nERROR The demo failed at: {demo.step}\n      {reason}", file=sys.stderr)
    if HOME.exists():
        for name, words in (("status", ["status"]), ("debug-log", ["debug-log", "--limit", "0"])):
            with contextlib.suppress(DemoError, OSError):
                (DEMO / f"{name}.txt").write_text(demo.juju(*words))
        with contextlib.suppress(OSError):
            shutil.copy(HOME / "daemon.log", DEMO)
    logs = f"{LOG}, and debug-log.txt beside it"
    if os.environ.get("DEMO_KEEP"):
        print(f"      The model is still there (DEMO_KEEP). Log: {logs}", file=sys.stderr)
        return
    try:
        take_down(demo)
    except DemoError as error:
        print(f"      It could not all be taken away either: {error}", file=sys.stderr)
    print(f"      Log: {logs}", file=sys.stderr)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Bring the demo up, or take it away.")
    parser.add_argument("verb", choices=["up", "down"])
    verb = parser.parse_args().verb
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (ROOT / "build" / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("ERROR Another demo is being brought up or down here.", file=sys.stderr)
            return 1
        return bring_down() if verb == "down" else bring_up()


def bring_down() -> int:
    """`demo down`; returns the exit code."""
    if not HOME.exists():
        print("The demo is not up.")
        return 0
    try:
        take_down(Demo())
    except DemoError as error:
        print(f"ERROR The demo could not be taken away: {error} (log: {LOG})", file=sys.stderr)
        return 1
    shutil.rmtree(DEMO, ignore_errors=True)
    print("The demo is gone: its machines, network and files.")
    return 0


def bring_up() -> int:
    """`demo up`; returns the exit code."""
    DEMO.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")
    demo = Demo()
    try:
        up(demo)
    except (DemoError, OSError, LookupError, ValueError) as error:
        failed(demo, str(error) if isinstance(error, DemoError) else repr(error))
        return 1
    except KeyboardInterrupt:
        failed(demo, "it was interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
