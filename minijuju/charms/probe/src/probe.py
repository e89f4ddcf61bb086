"""Write down what Juju does to a unit, and do what a test asks.

Every dispatch leaves two lines, one when it begins and one when it ends, in
``/var/lib/probe/<unit>/events.jsonl`` and, after the word ``PROBE``, in the unit's Juju log. The
log survives the unit and is one ordered record for the whole model.

What to do is a JSON object from an event's name, or ``*`` for every event, to a list of steps. It
comes from the option ``plan``, overlaid by ``/var/lib/probe/<unit>/plan.json``. The actions ``do``
and ``apart`` bring their own list. A step is one of:

- a list: a command with its arguments, whose answer is recorded;
- a string: a bash script, recorded likewise;
- ``{"run": LIST OR STRING, "stdin": TEXT}``: the same with an input;
- ``{"sleep": SECONDS}``;
- ``{"exit": CODE}``: end the dispatch now;
- any such object with ``"times": N`` and ``"tag": NAME``: only the first N times in this unit;
- ``{"kill": SIGNAL NUMBER}``: send a signal to this very process.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

UNIT = os.environ["JUJU_UNIT_NAME"]
ROOT = pathlib.Path("/var/lib/probe") / UNIT.replace("/", "-")
EVENT = os.environ["JUJU_DISPATCH_PATH"].partition("/")[2]


def ask(command, stdin=None):
    """Run a command and return its record."""
    argv = command if isinstance(command, list) else ["/bin/bash", "-c", command]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        return {"run": command, "code": 127, "out": "", "err": "not found"}
    return {"run": command, "code": done.returncode, "out": done.stdout, "err": done.stderr}


def note(record):
    """Append one line to the unit's file and to the Juju log."""
    line = json.dumps(record, sort_keys=True)
    with (ROOT / "events.jsonl").open("a") as stream:
        stream.write(line + "\n")
    subprocess.run(["juju-log", "--log-level", "INFO", "--", "PROBE " + line], capture_output=True)


def observe():
    """Ask what a charm would look at in this event."""
    commands = [["is-leader", "--format=json"]]
    relation = os.environ.get("JUJU_RELATION_ID")
    if relation:
        unit = os.environ.get("JUJU_REMOTE_UNIT")
        app = os.environ.get("JUJU_REMOTE_APP")
        commands.append(["relation-list", "--format=json", "-r", relation])
        commands.append(["relation-ids", os.environ["JUJU_RELATION"], "--format=json"])
        if unit:
            commands.append(["relation-get", "--format=json", "-r", relation, "-", unit])
        if app:
            commands.append(["relation-get", "--format=json", "-r", relation, "--app", "-", app])
    if os.environ.get("JUJU_STORAGE_ID"):
        commands.append(["storage-get", "--format=json"])
    return [ask(command) for command in commands]


def plan():
    """Return the steps for this event."""
    if os.environ.get("JUJU_ACTION_NAME") in ("do", "apart"):
        return json.loads(json.loads(ask(["action-get", "--format=json"])["out"])["steps"])
    steps = json.loads(json.loads(ask(["config-get", "--format=json"])["out"]).get("plan") or "{}")
    file = ROOT / "plan.json"
    if file.exists():
        steps.update(json.loads(file.read_text()))
    return steps.get(EVENT, []) + steps.get("*", [])


def spent(step):
    """Whether a step that works only so many times has done so."""
    if "times" not in step:
        return False
    file = ROOT / f"count-{step['tag']}"
    count = int(file.read_text()) if file.exists() else 0
    file.write_text(str(count + 1))
    return count >= step["times"]


def act(calls):
    """Do the steps, recording answers in *calls*, and return the exit code."""
    for step in plan():
        if not isinstance(step, dict):
            calls.append(ask(step))
        elif spent(step):
            continue
        elif "run" in step:
            calls.append(ask(step["run"], step.get("stdin")))
        elif "sleep" in step:
            time.sleep(step["sleep"])
        elif "kill" in step:
            os.kill(os.getpid(), step["kill"])
        elif "exit" in step:
            return step["exit"]
    return 0


def main():
    """Record the beginning, act, record the end."""
    ROOT.mkdir(parents=True, exist_ok=True)
    seen = observe()
    head = {
        "phase": "begin",
        "id": f"{time.time():.6f}-{os.getpid()}",
        "at": time.time(),
        "unit": UNIT,
        "event": EVENT,
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "uid": os.getuid(),
        "charm": (pathlib.Path.cwd() / "version-of-probe").read_text().strip()
        if pathlib.Path("version-of-probe").exists()
        else "",
        "seen": seen,
    }
    note(head)
    calls = []
    code = act(calls)
    if os.environ.get("JUJU_ACTION_NAME"):
        ask(["action-set", "calls=" + json.dumps(calls)])
    tail = {key: head[key] for key in ("id", "unit", "event")}
    note({**tail, "phase": "end", "at": time.time(), "calls": calls, "code": code})
    return code


if __name__ == "__main__":
    sys.exit(main())
