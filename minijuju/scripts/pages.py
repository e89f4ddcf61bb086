"""Write docs/differences.md and docs/traps.md from their data.

Which Jujus minijuju can be and what of Juju it lacks is `minijuju.model.behaviour`; the traps are
the tests of the conformance suite that have a number.
"""

from __future__ import annotations

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

DIFFERENCES = """\
# Juju 3.6, Juju 4 and minijuju

`scripts/pages.py` writes this page from `minijuju.model.behaviour`.

## Juju 3.6 and Juju 4

A new controller is Juju 3.6. `minijuju bootstrap --agent-version 4.0` makes its new models Juju 4,
and `minijuju add-model NAME --config agent-version=4.0` makes one of them so. Nobody can enter the
machines of a new model of Juju 4 before `juju add-ssh-key "$(cat ~/.ssh/id_ed25519.pub)"`.
"""

LACKS = """\
## What Juju does that minijuju does not

As far as it is known. Where no test expects the difference, the last column says why.
"""

TRAPS = """\
# What surprises authors of charms

Each line is a test of `tests/conformance`, which runs on a real controller as well: what it says
is so on both. `scripts/pages.py` writes this page from their names.
"""
_TRAP = re.compile(r"def test_trap_(\d+)_given_(\w+?)_when_(\w+?)_then_(\w+)")


def differences() -> str:
    """The page of differences."""
    from minijuju.model import behaviour

    differing = [
        (row.what, *row.shown, row.source, _test(row.test))
        for row in behaviour.differences().values()
    ]
    lacking = [(lack.what, lack.here, _test(lack.check)) for lack in behaviour.LACKS]
    first = _table(("what", "3.6", "4.0", "known from", "test"), differing)
    second = _table(("Juju", "minijuju", "test"), lacking)
    return f"{DIFFERENCES}\n{first}\n{LACKS}\n{second}"


def traps() -> str:
    """The page of traps, by number."""
    found: dict[int, list[tuple[str, ...]]] = collections.defaultdict(list)
    for path in sorted((ROOT / "tests" / "conformance").glob("test_*.py")):
        for number, *words in _TRAP.findall(path.read_text()):
            found[int(number)].append((*(text.replace("_", " ") for text in words), path.name))
    rows = [(str(number), *row) for number in sorted(found) for row in found[number]]
    return f"{TRAPS}\n{_table(('trap', 'given', 'when', 'then', 'test'), rows)}"


PAGES = {"differences.md": differences, "traps.md": traps}


def _test(name: str) -> str:
    return f"`{name}`" if name.startswith("test_") else name


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    for name, made in PAGES.items():
        (ROOT / "docs" / name).write_text(made())
