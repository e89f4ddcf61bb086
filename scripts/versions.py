"""Write docs/minijuju.md from its data: which Jujus minijuju can be, and what of Juju it lacks."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "minijuju.md"
sys.path.insert(0, str(ROOT / "tests"))

INTRODUCTION = """\
# minijuju: Juju on one machine

`tests/minijuju` answers as `juju` does, and runs unmodified charms on real machines. What it is
worth is what it agrees with: its conformance suite (`tests/integration/conformance`) runs on a
real controller as well (`JUJU_BINARY=juju make integration`), and public libraries, as they come
from the package index, run in charms on it (`test_libraries.py`). `scripts/versions.py` writes
this page from its data.

## Juju 3.6 and Juju 4

A new controller is Juju 3.6. `minijuju bootstrap --agent-version 4.0` makes its new models Juju 4,
and `minijuju add-model NAME --config agent-version=4.0` makes one of them so. Nobody can enter the
machines of a new model of Juju 4 before `juju add-ssh-key "$(cat ~/.ssh/id_ed25519.pub)"`.
`make juju-four` runs the conformance suite and the charm's tests of clusters and membership there;
the charm depends on neither.
"""

LACKS = """\
## What Juju does that minijuju does not

As far as it is known. Where no test expects the difference, the last column says why.
"""


def page() -> str:
    """The page's text."""
    from minijuju import behaviour

    differing = [
        (row.what, *row.shown, row.source, _test(row.test))
        for row in behaviour.differences().values()
    ]
    lacking = [(lack.what, lack.here, _test(lack.check)) for lack in behaviour.LACKS]
    first = _table(("what", "3.6", "4.0", "known from", "test"), differing)
    second = _table(("Juju", "minijuju", "test"), lacking)
    return f"{INTRODUCTION}\n{first}\n{LACKS}\n{second}"


def _test(name: str) -> str:
    return f"`{name}`" if name.startswith("test_") else name


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
