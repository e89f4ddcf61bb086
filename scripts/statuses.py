"""Write docs/statuses.md, the table of all that `juju status` can say, from the code."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "statuses.md"
sys.path.insert(0, str(ROOT / "src"))


def page() -> str:
    """The page's text."""
    from cluster import reasons

    rows = "\n".join(
        f"| {'<br>'.join(each.says)} | {each.status} | `{key}` | {each.cause} | {each.charm} "
        f"| {each.operator or 'Nothing.'} |"
        for key, each in reasons.REASONS.items()
    )
    return (
        "# What `juju status` says\n\n"
        "Find the sentence in the first column; `…` stands for particulars, `UNIT` for a unit\n"
        "such as `etcd/0`, and `etcd` for the application. The reason is a key of the action\n"
        "`health`, and the label of the metric `etcd_charm_status`. `scripts/statuses.py` writes\n"
        "this page from `src/cluster/reasons.py`.\n\n"
        "| `juju status` says | status | reason | what has happened | what the charm does "
        "| what you do |\n"
        f"|---|---|---|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
