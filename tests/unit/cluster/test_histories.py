"""Properties of the planner over random histories, and that they would catch a wrong planner."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import coverage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model import bugs, check, document, simulator

PLAY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", autouse=True)
def _untraced() -> Iterator[None]:
    """Thousands of histories take no time for coverage: what they run, `test_plan` runs too."""
    tracer = coverage.Coverage.current()
    if tracer:
        tracer.stop()
    yield
    if tracer:
        tracer.start()


FOUNDING = ("add", "remove", "kill", "revive", "cut", "heal", "wipe", "leader", "wait")


@settings(PLAY, max_examples=800)
@given(
    seed=st.integers(0, 2**32),
    script=st.lists(st.sampled_from(check.VERBS), min_size=1, max_size=14),
)
def test_given_any_history_when_faults_stop_then_one_healthy_cluster(
    seed: int, script: list[str]
) -> None:
    check.History(seed, script=script).run()


@settings(PLAY, max_examples=400)
@given(
    seed=st.integers(0, 2**32),
    script=st.lists(st.sampled_from(FOUNDING), min_size=1, max_size=8),
)
def test_given_founding_when_hooks_crash_and_units_are_cut_then_never_two_clusters(
    seed: int, script: list[str]
) -> None:
    check.History(seed, script=script).run()


@pytest.mark.parametrize("seed", range(0, 1000, 100))
def test_given_seeded_histories_when_played_then_no_promise_is_broken(seed: int) -> None:
    broken = {n: why for n in range(seed, seed + 100) if (why := check.play(n))}
    assert not broken


@pytest.mark.parametrize("name", sorted(bugs.BUGS.keys() - bugs.WRITTEN))
def test_given_a_seeded_bug_when_histories_are_played_then_one_exposes_it(name: str) -> None:
    seed, why = bugs.caught(name, limit=3000)
    assert seed >= 0, "no history exposes it"
    assert why


def test_given_a_bug_that_random_histories_miss_when_looked_for_then_a_written_one_exposes_it():
    exposed = {document.Document.read(path).exposes for path in document.FOLDER.iterdir()}
    assert exposed >= bugs.WRITTEN


@pytest.mark.parametrize("path", sorted(document.FOLDER.iterdir()), ids=lambda path: path.name)
def test_given_a_history_that_is_written_down_when_played_then_it_holds_and_exposes_its_bug(
    path: pathlib.Path,
) -> None:
    history = document.Document.read(path)
    assert history.play()
    context, decide = bugs.BUGS[history.exposes]
    with context(), pytest.raises(simulator.Violation):
        history.play(decide)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("fly etcd/0", "nothing is called fly"),
        ("kill etcd/9", "line 3, kill etcd/9"),
        ("step etcd/0 Compare", "does not come to Compare"),
        ("expect a riddle", "it is: "),
    ],
)
def test_given_a_history_that_is_wrong_when_played_then_the_line_is_named(
    line: str, why: str
) -> None:
    history = document.Document(f"# exposes: never promotes\nhooks 6\n{line}\n")
    with pytest.raises(document.DocumentError, match=why):
        history.play()
