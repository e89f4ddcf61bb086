"""The proof suite: traffic x action x fault x moment, judged; run by `make proof`.

`PROOF` may hold, in any order: `seed N` (pairs drawn by that seed instead of the fixed set),
`pairs N` (how many), `case NAME` (that case only; may be repeated), `cases` (all cases, no pairs),
`lanes N` (how many runs at the same time), `list`, and `--charm FILE`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys

from proof import cases, matrix, page, runner


@dataclasses.dataclass
class Wish:
    """What is to be run.

    Attributes:
        cases: names of cases.
        pairs: of the matrix.
        whole: it is the fixed set, whose table becomes the page.
        charm: the charm under test.
        lanes: runs at the same time.
    """

    cases: list[str]
    pairs: list[matrix.Pair]
    whole: bool
    charm: pathlib.Path
    lanes: int = runner.LANES


def wish(words: list[str]) -> Wish:
    """Read what stands after `PROOF=`."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--charm", type=pathlib.Path)
    options, rest = parser.parse_known_args(words)
    named: list[str] = []
    numbers: dict[str, int] = {}
    only_cases = False
    while rest:
        word = rest.pop(0)
        if word == "case" and rest:
            named.append(rest.pop(0))
        elif word in ("seed", "pairs", "lanes") and rest and rest[0].isdigit():
            numbers[word] = int(rest.pop(0))
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
    charm = options.charm or next(iter(sorted(runner.ROOT.glob("etcd_*.charm"))), None)
    if charm is None or not charm.exists():
        parser.error("the charm is not packed: run make pack, or name one with --charm FILE")
    charm, lanes = charm.absolute(), numbers.pop("lanes", runner.LANES)
    if named or only_cases:
        return Wish(named or list(cases.CASES), [], False, charm, lanes)
    if numbers:
        seed, count = numbers.get("seed", matrix.FIXED_SEED), numbers.get("pairs", matrix.DRAWN)
        return Wish([], matrix.draw(seed, count), False, charm, lanes)
    return Wish(list(cases.CASES), matrix.fixed(), True, charm, lanes)


def _list() -> None:
    for case in cases.CASES.values():
        print(f"case {case.name}: {case.promise}")
    for pair in matrix.fixed():
        print(f"pair {pair}")


def _place(wanted: Wish, row: page.Row) -> int:
    """Where a row stands: cases first, pairs as they were drawn."""
    shown = [page.Label(name, "", "") for name in wanted.cases]
    shown += [page.Label(pair.action, pair.fault, pair.moment) for pair in wanted.pairs]
    return shown.index(row.label)


def main() -> int:
    """Run from the command line; 1 when anything was found."""
    runner.environment()
    wanted = wish(sys.argv[1:])
    print(f"the charm under test is {wanted.charm}", flush=True)
    for pair in wanted.pairs:
        print(f"drawn: {pair}", flush=True)
    rows: list[page.Row] = []
    try:
        rows.extend(
            runner.run(runner.jobs(wanted.cases, wanted.pairs), wanted.charm, wanted.lanes)
        )
    finally:
        rows.sort(key=lambda row: _place(wanted, row))
        if rows:
            print("\n" + page.table(rows), flush=True)
            runner.OUT.mkdir(parents=True, exist_ok=True)
            (runner.OUT / "table.md").write_text(page.markdown(rows))
        if pathlib.Path(os.environ["MINIJUJU_HOME"]).exists():
            subprocess.run(["minijuju", "down"], check=False, timeout=600, capture_output=True)
    if wanted.whole:
        page.write(runner.ROOT / "docs", rows)
    return 1 if any(row.findings for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
