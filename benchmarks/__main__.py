"""`python -m benchmarks [LETTER...] [--charm FILE]`: each promise beside the same done by hand.

Without letters everything is measured. Each benchmark deploys what it needs.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

from benchmarks import (
    backing_up,
    bench,
    dispatching,
    founding,
    gaps,
    hooks,
    joining,
    minijuju_speed,
    restoring,
    returning,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BENCHES: dict[str, Callable[[], Iterator[bench.Figure]]] = {
    "a": founding.measure,
    "b": dispatching.measure,
    "c": restoring.measure,
    "d": restoring.measure,
    "e": joining.measure,
    "f": gaps.measure,
    "g": hooks.measure,
    "h": backing_up.measure,
    "i": returning.measure,
    "j": returning.measure,
    "k": minijuju_speed.measure,
    "l": minijuju_speed.measure,
}


def main(words: list[str]) -> int:
    """Measure, print each figure as it comes and all of them at the end."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("letters", nargs="*", metavar="LETTER")
    parser.add_argument("--charm", type=pathlib.Path, help="another one than the packed charm")
    options = parser.parse_args(words)
    if options.charm and not options.charm.is_file():
        parser.error(f"there is no charm {options.charm}")
    if options.charm:
        bench.use(options.charm)
    letters: list[str] = options.letters
    unknown = [letter for letter in letters if letter not in BENCHES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}: there are {', '.join(BENCHES)}")
        return 2
    figures: list[bench.Figure] = []
    for measure in dict.fromkeys(BENCHES[letter] for letter in letters or BENCHES):
        for figure in measure():
            bench.say(figure.line())
            figures.append(figure)
    print("\n" + "\n".join(figure.line() for figure in figures))
    promised = [figure for figure in figures if figure.goal is not None]
    print(f"\n{sum(figure.met for figure in promised)} of {len(promised)} goals met")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
