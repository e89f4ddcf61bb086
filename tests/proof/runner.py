"""Runs cases and pairs, each in a model of its own or several on one, and judges them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import sys
import time
import traceback
import warnings
from typing import TYPE_CHECKING

import jubilant

from proof import cases, lab, matrix, page
from proof.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "home"
"""The controller that the other suites use, too; nothing of it is left afterwards."""
OUT = ROOT / "build" / "proof"
LANES = 2
"""Runs that are under way at the same time: most of each is waiting."""
GROUP = 5
"""Pairs that may share one cluster."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What one lane runs: a case, or pairs that may share a cluster.

    Attributes:
        case: its name, "" for pairs.
        pairs: of the matrix.
    """

    case: str = ""
    pairs: tuple[matrix.Pair, ...] = ()

    def __str__(self) -> str:
        """As its lines begin."""
        return self.case or "pairs"


def jobs(named: Sequence[str], pairs: Sequence[matrix.Pair]) -> list[Job]:
    """Cases one by one, and pairs in groups; those that found a cluster have one of their own."""
    fresh = [pair for pair in pairs if matrix.ACTIONS[pair.action].fresh]
    shared = [pair for pair in pairs if pair not in fresh]
    groups = [shared[at : at + GROUP] for at in range(0, len(shared), GROUP)]
    groups += [[pair] for pair in fresh]
    return [Job(name) for name in named] + [Job(pairs=tuple(group)) for group in groups]


def run(all_: Sequence[Job], charm: pathlib.Path, lanes: int = LANES) -> Iterator[page.Row]:
    """Run all jobs, so many at a time; their rows, as they end."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(lanes, mp_context=context) as pool:
        begun = [pool.submit(work, job, charm) for job in all_]
        for future in concurrent.futures.as_completed(begun):
            yield from future.result()


def work(job: Job, charm: pathlib.Path) -> list[page.Row]:
    """Run one job in this process."""
    environment()

    def say(text: str) -> None:
        print(f"{job}: {text}", flush=True)

    if job.case:
        return [_case(cases.CASES[job.case], charm, say)]
    return list(_pairs(job.pairs, charm, say))


def environment() -> None:
    """Let `juju` be minijuju, with the home that the other suites have."""
    os.environ.setdefault("MINIJUJU_HOME", str(HOME))
    found = (str(ROOT / "build/bin"), str(pathlib.Path(sys.executable).parent))
    os.environ["PATH"] = ":".join([*found, os.environ["PATH"]])
    warnings.simplefilter("ignore")


def _case(case: cases.Case, charm: pathlib.Path, say: Callable[[str], None]) -> page.Row:
    say(case.promise)
    with _model() as juju:
        one = lab.Lab(juju, charm, say)
        return _judged(one, page.Label(case.name, "", ""), lambda: case.run(one), say)


def _pairs(
    pairs: Sequence[matrix.Pair], charm: pathlib.Path, say: Callable[[str], None]
) -> Iterator[page.Row]:
    """Several on one cluster while all of them are clear."""
    left = list(pairs)
    while left:
        with _model() as juju:
            one = lab.Lab(juju, charm, say)
            try:
                matrix.deploy(one, left)
            except (jubilant.CLIError, jubilant.WaitError, TimeoutError, AssertionError) as error:
                pair = left.pop(0)
                told = f"unsettled: no cluster to begin with: {error}"[:500]
                yield page.Row(_label(pair), (told,), page.NOTHING, 0.0)
                continue
            while left:
                pair = left.pop(0)
                say(f"== {pair}")
                act = _playing(one, pair)
                row = _judged(one, _label(pair), act, say)
                yield row
                if row.findings or not left or not matrix.ready_again(one, pair):
                    break


def _label(pair: matrix.Pair) -> page.Label:
    return page.Label(pair.action, pair.fault, pair.moment)


def _playing(one: lab.Lab, pair: matrix.Pair) -> Callable[[], None]:
    return lambda: matrix.play(one, pair)


def _judged(
    one: lab.Lab, label: page.Label, act: Callable[[], None], say: Callable[[str], None]
) -> page.Row:
    """Do it, end the traffic, judge what was recorded and keep it."""
    begun = time.monotonic()
    try:
        act()
    except Exception as error:  # a finding of its own: the rest is judged all the same
        traceback.print_exc()
        one.complain(f"the run broke off: {type(error).__name__}: {error}"[:500])
    if not one.began:
        found = tuple(f"unsettled: {words}" for words in one.complaints)
        return page.Row(label, found, page.NOTHING, time.monotonic() - begun)
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


@contextlib.contextmanager
def _model() -> Iterator[jubilant.Juju]:
    """A model of its own; destroyed at the end."""
    with jubilant.temp_model() as juju:
        juju.wait_timeout = 300
        yield juju
