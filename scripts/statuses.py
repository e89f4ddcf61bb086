"""Write docs/statuses.md, the table of every state that `juju status` can show, from the code."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "statuses.md"
sys.path.insert(0, str(ROOT / "src"))


def page() -> str:
    """The page's text."""
    from cluster import status

    rows = "\n".join(
        f"| {state.value} | {state.status} | {status.MEANING[state]} |" for state in status.State
    )
    return (
        "# What `juju status` says\n\n"
        "Each unit is in one of these states; the message beside it gives the particulars, and a\n"
        "blocked one names the command that ends it. `scripts/statuses.py` writes this page.\n\n"
        f"| state | status | what it means |\n|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
