"""The table of a run, for a terminal and as a page with one plot."""

from __future__ import annotations

import collections
import dataclasses
import html
import math
import re
from typing import TYPE_CHECKING

from proof.judge import Figures

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Sequence

NOTHING = Figures(0, 0, 0.0, 0.0, None)
"""Of a run that ended before its traffic began."""
HEAD = ("action", "fault", "moment", "verdict", "healthy after", "failed requests", "longest gap")


@dataclasses.dataclass(frozen=True)
class Label:
    """What was run: a pair of the matrix, or a case, which has neither fault nor moment."""

    action: str
    fault: str
    moment: str

    @property
    def slug(self) -> str:
        """As the name of a file."""
        text = "-".join(part for part in (self.action, self.fault, self.moment) if part)
        return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: what was run.
        findings: sentences, each after its verdict and a colon; none is a pass.
        figures: what the clients with all endpoints felt.
        seconds: that it took.
    """

    label: Label
    findings: tuple[str, ...]
    figures: Figures
    seconds: float

    @property
    def verdict(self) -> str:
        """The verdicts of all findings, or that all is clear."""
        found = dict.fromkeys(finding.partition(":")[0] for finding in self.findings)
        return ", ".join(found) or "clear"

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands under `HEAD`."""
        figures = self.figures
        healthy = figures.healthy_after
        return (
            self.label.action,
            self.label.fault or "as it says",
            self.label.moment,
            self.verdict,
            "" if healthy is None else "never" if healthy == math.inf else f"{healthy:.0f} s",
            f"{figures.failed} of {figures.requests}",
            f"{figures.longest_write_gap:.1f} s",
        )

    @property
    def words(self) -> str:
        """The figures in a sentence."""
        _, _, _, _, healthy, failed, gap = self.cells
        begun = f"healthy after {healthy}, " if healthy else ""
        return f"{begun}{failed} requests failed, longest gap {gap}, took {self.seconds:.0f} s"


def table(rows: Iterable[Row]) -> str:
    """For a terminal."""
    lines = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Iterable[Row]) -> str:
    """The same as a table of Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(docs: pathlib.Path, rows: Sequence[Row]) -> None:
    """Write `proof.md` and its plot `proof.svg`."""
    clear = sum(not row.findings for row in rows)
    minutes = sum(row.seconds for row in rows) / 60
    (docs / "proof.md").write_text(
        "# What was shown\n\n"
        "`make proof` writes this page. Clients of every member write, read and watch while an "
        "action runs and a fault hits it at a moment; a judge holds what they were told against "
        "etcd's own order of revisions. A gap is the longest time between two acknowledged "
        "writes of the clients that have all endpoints; a failed request got no answer, or an "
        "error for one.\n\n"
        f"{len(rows)} runs in {minutes:.0f} minutes, {clear} of them clear.\n\n"
        "![Longest gap of each action, seconds](proof.svg)\n\n"
        f"{markdown(rows)}"
    )
    (docs / "proof.svg").write_text(plot(rows))


def plot(rows: Iterable[Row]) -> str:
    """A dot for the longest gap of each run, a line for each action."""
    gaps: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        gaps[row.label.action].append(row)
    left, right, step, top = 170, 620, 22, 30
    longest = max([row.figures.longest_write_gap for its in gaps.values() for row in its] + [1.0])
    scale = (right - left) / longest
    height = top + step * len(gaps) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="680" height="{height}" fill="white"/>',
        f'<text x="{left}" y="16">longest time without an acknowledged write, seconds</text>',
    ]
    for place in range(5):
        value = longest * place / 4
        x = left + value * scale
        parts.append(f'<path d="M{x:.1f} {top - 6}V{height - 24}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{value:.0f}</text>')
    for place, (action, its) in enumerate(gaps.items()):
        y = top + step * place + 10
        name = html.escape(action)
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{name}</text>')
        for row in its:
            x = left + row.figures.longest_write_gap * scale
            colour = "#c0392b" if row.findings else "#2471a3"
            told = html.escape(f"{row.label.fault} {row.label.moment}: {row.words}".strip())
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}" fill-opacity="0.7">'
                f"<title>{told}</title></circle>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
