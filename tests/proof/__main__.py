"""The proof suite: traffic x action x fault x moment, judged; run by `make proof`.

`PROOF` may hold, in any order: `seed N` (pairs drawn by that seed instead of the fixed set),
`pairs N` (how many), `case NAME` (that case only; may be repeated), `cases` (all cases, no pairs),
`list`, and `--charm FILE`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
import traceback
import warnings
from typing import TYPE_CHECKING

import jubilant

from proof import cases, lab, matrix, page
from proof.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "home"
OUT = ROOT / "build" / "proof"


def _environment() -> None:
    """Let `juju` be minijuju, with the home that the other suites have."""
    os.environ.setdefault("MINIJUJU_HOME", str(HOME))
    found = (str(ROOT / "build/bin"), str(pathlib.Path(sys.executable).parent))
    os.environ["PATH"] = ":".join([*found, os.environ["PATH"]])
    warnings.simplefilter("ignore")


@dataclasses.dataclass
class Wish:
    """What is to be run.

    Attributes:
        cases: names of cases.
        pairs: of the matrix.
        whole: it is the fixed set, whose table becomes the page.
        charm: the charm under test.
    """

    cases: list[str]
    pairs: list[matrix.Pair]
    whole: bool
    charm: pathlib.Path


def wish(words: list[str]) -> Wish:
    """Read what stands after `PROOF=`."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--charm", type=pathlib.Path)
    options, rest = parser.parse_known_args(words)
    named: list[str] = []
    seed: int | None = None
    count = matrix.DRAWN
    only_cases = False
    while rest:
        word = rest.pop(0)
        if word == "case" and rest:
            named.append(rest.pop(0))
        elif word == "seed" and rest:
            seed = int(rest.pop(0))
        elif word == "pairs" and rest:
            count = int(rest.pop(0))
        elif word == "cases":
            only_cases = True
        elif word == "list":
            _list()
            raise SystemExit(0)
        else:
            parser.error(f"not understood: {word}")
    unknown = [name for name in named if name not in cases.CASES]
    if unknown:
        parser.error(f"no case {unknown[0]}: choose of {', '.join(cases.CASES)}")
    charm = options.charm or next(iter(sorted(ROOT.glob("etcd_*.charm"))), None)
    if charm is None or not charm.exists():
        parser.error("the charm is not packed: run make pack, or name one with --charm FILE")
    if named:
        return Wish(named, [], False, charm.absolute())
    if seed is not None:
        return Wish([], matrix.draw(seed, count), False, charm.absolute())
    if only_cases:
        return Wish(list(cases.CASES), [], False, charm.absolute())
    return Wish(list(cases.CASES), matrix.fixed(), True, charm.absolute())


def _list() -> None:
    for case in cases.CASES.values():
        say(f"case {case.name}: {case.promise}")
    for pair in matrix.fixed():
        say(f"pair {pair}")


def say(text: str) -> None:
    """Tell the reader."""
    print(text, flush=True)


@contextlib.contextmanager
def model() -> Iterator[jubilant.Juju]:
    """A model of a case's own; destroyed at the end."""
    with jubilant.temp_model() as juju:
        juju.wait_timeout = 300
        yield juju


def run_case(case: cases.Case, charm: pathlib.Path) -> page.Row:
    """Run one case in a model of its own, and judge it."""
    say(f"\n== case {case.name}: {case.promise}")
    with model() as juju:
        one = lab.Lab(juju, charm, say)
        return judged(one, page.Label(case.name, "", ""), lambda: case.run(one))


def run_pairs(pairs: list[matrix.Pair], charm: pathlib.Path) -> Iterator[page.Row]:
    """Run pairs, several on one cluster while all of them are clear."""
    left = sorted(pairs, key=lambda pair: matrix.ACTIONS[pair.action].fresh)
    while left:
        with model() as juju:
            one = lab.Lab(juju, charm, say)
            matrix.deploy(one, left)
            while left:
                pair = left.pop(0)
                say(f"\n== pair {pair}")
                label = page.Label(pair.action, pair.fault, pair.moment)
                row = judged(one, label, lambda: matrix.play(one, pair))  # noqa: B023
                yield row
                if row.findings or not matrix.ready_again(one, pair):
                    break


def judged(one: lab.Lab, label: page.Label, act: Callable[[], None]) -> page.Row:
    """Do it, end the traffic, judge what was recorded and keep it."""
    begun = time.monotonic()
    try:
        act()
    except Exception as error:  # a finding of its own: the rest is judged all the same
        traceback.print_exc()
        one.complain(f"the run broke off: {type(error).__name__}: {error}"[:500])
    if not one.began:
        return page.Row(label, tuple(one.complaints), page.NOTHING, time.monotonic() - begun)
    history = one.end()
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{label.slug}.jsonl"
    with file.open("w") as lines:
        lines.writelines(history.lines())
    judgement = judge(history)
    found = [f"{f.verdict.value}: {f.sentence}" for f in judgement.findings]
    found += [f"unsettled: {words}" for words in one.complaints]
    row = page.Row(label, tuple(found), judgement.figures, time.monotonic() - begun)
    for words in found:
        say(f"FINDING {words}"[:600])
    say(f"{row.verdict}; {row.words} (history: {file.relative_to(ROOT)})")
    return row


def main() -> int:
    """Run from the command line; 1 when anything was found."""
    _environment()
    wanted = wish(sys.argv[1:])
    say(f"the charm under test is {wanted.charm}")
    for pair in wanted.pairs:
        say(f"drawn: {pair}")
    rows: list[page.Row] = []
    try:
        rows += [run_case(cases.CASES[name], wanted.charm) for name in wanted.cases]
        for row in run_pairs(wanted.pairs, wanted.charm):
            rows.append(row)
    finally:
        if HOME.exists():
            subprocess.run(["minijuju", "down"], check=False, timeout=600, capture_output=True)
        if rows:
            say("\n" + page.table(rows))
            OUT.mkdir(parents=True, exist_ok=True)
            (OUT / "table.md").write_text(page.markdown(rows))
    if wanted.whole:
        page.write(ROOT / "docs", rows)
    return 1 if any(row.findings for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
