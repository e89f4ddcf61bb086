"""Run one test suite, or count what the suites of this run did.

`suite.py run NAME [PYTEST ARGUMENT...]` runs tests/NAME and its like in minijuju/tests;
`suite.py counts NAME...` prints a line for each suite and one for all of them, and fails when
anything failed or never ran.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"
HOME = ROOT / "build" / "home"
"""The controller of the tests that `make` runs; nothing of it is left afterwards."""
MODULES = {
    "unit": ["tests/unit", "minijuju/tests/unit"],
    "functional": ["tests/functional", "minijuju/tests/functional"],
    "integration": ["tests/integration", "minijuju/tests/conformance"],
    "juju-four": [
        "minijuju/tests/conformance",
        *(f"tests/integration/charm/test_{each}.py" for each in ("cluster", "membership")),
    ],
    "faults": ["tests/faults"],
}
"""Suite to the directories it collects."""
LIMITS = {"unit": 300, "functional": 300, "integration": 1200, "juju-four": 1200, "faults": 3600}
"""Suite to the seconds that one of its tests may take."""
WORKERS = {"unit": 2, "functional": 2, "integration": 3, "juju-four": 3, "faults": 1}
"""Suite to the files that run at the same time; integration mostly waits, and has one more."""


def modules(name: str, arguments: list[str]) -> list[str]:
    """What a suite collects: nothing of its own where the arguments name files of tests."""
    named = [word for word in arguments if (ROOT / word.partition("::")[0]).exists()]
    return [] if any(word.startswith(("tests/", "minijuju/")) for word in named) else MODULES[name]


def run(name: str, arguments: list[str]) -> int:
    """Run a suite with pytest and keep its counts; returns pytest's exit code."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    measured = name == "unit" and not arguments
    tracer = ["-m", "coverage", "run"] if measured else []
    command = [sys.executable, *tracer, "-m", "pytest", *modules(name, arguments)]
    command += [f"--junit-xml={report}"]
    command += [f"--timeout={LIMITS[name]}", "-q", "--durations=5", "--dist=loadfile"]
    # In the order of their names: long files come before short ones.
    command += [f"--numprocesses={WORKERS[name]}", "--no-loadscope-reorder", *arguments]
    env = dict(os.environ)
    venv = pathlib.Path(sys.executable).parent
    env["PATH"] = f"{ROOT / 'build/bin'}:{venv}:{env['PATH']}:{ROOT / 'build/etcd-3.5'}"
    print(f"== {name} tests", flush=True)
    env.setdefault("MINIJUJU_HOME", str(HOME))
    env["COVERAGE_FILE"] = str(REPORTS / "coverage")
    env |= {"JUJU_AGENT_VERSION": "4.0"} if name == "juju-four" else {}
    begun = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    finally:
        if env["MINIJUJU_HOME"] == str(HOME) and HOME.exists():
            down = [str(venv / "minijuju"), "down"]
            subprocess.run(down, env=env, check=False, timeout=600, capture_output=True)
    print(f"== {name} tests: {time.monotonic() - begun:.0f} s", flush=True)
    if measured and not code:
        _show_coverage(env)
    return code


def _show_coverage(env: dict[str, str]) -> None:
    """Print how much of each room of src/ ran, by branches."""
    coverage = [sys.executable, "-m", "coverage"]
    report = REPORTS / "branches.json"
    for words in (["combine", "--quiet"], ["json", "--quiet", "-o", str(report)]):
        subprocess.run([*coverage, *words], cwd=ROOT, env=env, check=False)
    rooms: dict[str, list[int]] = {}
    for file, found in json.loads(report.read_text())["files"].items():
        room = file.removeprefix("src/").partition("/")[0].removesuffix(".py")
        taken = rooms.setdefault(room, [0, 0])
        taken[0] += found["summary"]["covered_branches"]
        taken[1] += found["summary"]["num_branches"]
    taken = [sum(each) for each in zip(*rooms.values(), strict=True)]
    shown = [f"{room} {_share(*rooms[room])}" for room in sorted(rooms) if rooms[room][1]]
    print(f"== branches that ran: {_share(*taken)} of src ({', '.join(shown)})", flush=True)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def counts(name: str) -> tuple[int, int, int]:
    """How many passed, failed and were skipped.

    Raises:
        FileNotFoundError: the suite did not run to its end.
    """
    if name == "lint":
        found = json.loads((REPORTS / "lint.json").read_text())
        return found["passed"], found["failed"], 0
    total = failed = skipped = 0
    for suite in ElementTree.parse(REPORTS / f"{name}.xml").getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


def show(names: list[str]) -> int:
    """Print the counts of some suites and their sum; 1 when anything failed or never ran."""
    total = [0, 0, 0]
    complete = True
    for name in names:
        try:
            found = counts(name)
        except (FileNotFoundError, ElementTree.ParseError):
            print(f"{name}: did not run")
            complete = False
            continue
        total = [a + b for a, b in zip(total, found, strict=True)]
        print(f"{name}: {_words(*found)}")
    print(_words(*total))
    return 0 if complete and not total[1] else 1


def _words(passed: int, failed: int, skipped: int) -> str:
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Run test suites and count them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    runner = verbs.add_parser("run", help="run one suite")
    runner.add_argument("suite", choices=sorted(MODULES))
    counter = verbs.add_parser("counts", help="print the counts of suites that ran")
    counter.add_argument("suite", nargs="+")
    options, rest = parser.parse_known_args()
    if options.verb == "run":
        return run(options.suite, rest)
    return show(options.suite)


if __name__ == "__main__":
    sys.exit(main())
