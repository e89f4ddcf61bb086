"""The proof suite's table and plot."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import xml.etree.ElementTree as ElementTree

from proof import page
from proof.judge import Figures

FINE = page.Row(
    page.Label("restore", "one-way cut", "after Adopt"), (), Figures(900, 3, 4.0, 5.5, 61.0), 80.0
)
BAD = page.Row(
    page.Label("split-brain", "", ""),
    ("split: two clusters", "deaf: a <watcher>", "split: again"),
    Figures(10, 9, 1.0, 66.0, math.inf),
    100.0,
)


def test_given_rows_when_shown_then_each_verdict_stands_there_once():
    lines = page.table([FINE, BAD]).splitlines()
    assert lines[1].split("  ")[0] == "restore"
    assert "clear" in lines[1]
    assert "61 s" in lines[1]
    assert "3 of 900" in lines[1]
    assert "5.5 s" in lines[1]
    assert "split, deaf" in lines[2]
    assert "never" in lines[2]
    assert "healthy after never, 9 of 10 requests failed" in BAD.words
    founded = dataclasses.replace(
        BAD, figures=dataclasses.replace(BAD.figures, healthy_after=None)
    )
    assert "never" not in founded.cells
    assert founded.words.startswith("9 of 10 requests failed")


def test_given_rows_when_written_then_the_page_has_a_line_for_each_and_its_plot(
    tmp_path: pathlib.Path,
):
    page.write(tmp_path, [FINE, BAD])
    text = (tmp_path / "proof.md").read_text()
    assert "2 runs in 3 minutes, 1 of them clear." in text
    assert "proof.svg" in text
    assert "| restore | one-way cut | after Adopt | clear | 61 s | 3 of 900 | 5.5 s |" in text


def test_given_gaps_when_plotted_then_the_longest_is_farthest_and_every_run_has_a_dot():
    root = ElementTree.fromstring(page.plot([FINE, BAD]))
    dots = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(dots) == 2
    places = [float(dot.get("cx", "0")) for dot in dots]
    assert places[1] > places[0]


def test_given_no_rows_when_plotted_then_it_is_a_picture_all_the_same():
    ElementTree.fromstring(page.plot([]))


def test_given_a_label_when_it_names_a_file_then_it_is_plain():
    assert FINE.label.slug == "restore-one-way-cut-after-adopt"
    assert BAD.label.slug == "split-brain"
