"""Schedule and retention: pure, so they are tested by what must hold for all inputs."""

from __future__ import annotations

import datetime

import hypothesis
import hypothesis.strategies as st
import pytest

from backup import schedule

HOUR, DAY = 3600.0, 86400.0
NOW = 1_795_000_000.0

points = st.lists(
    st.builds(
        schedule.Point,
        id=st.text("abcdef0123456789", min_size=4, max_size=8),
        at=st.floats(NOW - 900 * DAY, NOW + DAY),
        proven=st.booleans(),
    ),
    max_size=60,
    unique_by=lambda point: point.id,
).map(lambda found: sorted(found, key=lambda point: (point.at, point.id), reverse=True))
counts = st.integers(0, 8)
retentions = st.builds(
    schedule.Retention,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    age=st.sampled_from([0.0, DAY, 30 * DAY]),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30s", 30),
        ("90", 90),
        ("15m", 900),
        ("6h", 21600),
        ("1d", 86400),
        ("2w", 1209600),
    ],
)
def test_given_an_interval_when_read_then_seconds(text, seconds):
    assert schedule.interval(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "9s", "29s", "366d", "1 d", "1D", "-1s", "1.5h", "soon", "1h30m", "1y"]
)
def test_given_a_bad_interval_when_read_then_one_sentence(text):
    with pytest.raises(schedule.ScheduleError) as caught:
        schedule.interval(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "last",
        "last=-1",
        "last=1 last=2",
        "yearly=1",
        "age=1m",
        "age=x",
        "last=1d",
        "last=1 count=3",
    ],
)
def test_given_a_bad_retention_when_read_then_one_sentence(text):
    with pytest.raises(schedule.ScheduleError):
        schedule.Retention.parse(text)


def test_given_the_default_retention_when_read_then_as_said():
    parsed = schedule.Retention.parse("last=24 hourly=24, daily=7 weekly=4 monthly=12 age=90d")
    assert parsed == schedule.Retention(24, 24, 7, 4, 12, 90 * DAY)
    assert schedule.Retention.parse("age=36h") == schedule.Retention(age=1.5 * DAY)
    earlier = schedule.Retention.parse("count=3 age=90")
    assert earlier == schedule.Retention.parse("last=3 age=90d")
    assert schedule.Retention.parse("") == schedule.Retention()


@hypothesis.given(points, retentions)
def test_given_any_backups_when_thinned_then_the_newest_and_the_newest_proven_stay(found, rule):
    doomed = rule.doomed(found, NOW)
    stay = [p for p in found if p.id not in doomed]
    if found:
        assert max(found, key=lambda p: (p.at, p.id)) in stay
    if proven := [p for p in found if p.proven]:
        assert max(proven, key=lambda p: (p.at, p.id)) in stay


@hypothesis.given(points, retentions)
def test_given_any_backups_when_thinned_twice_then_the_second_removes_nothing(found, rule):
    doomed = rule.doomed(found, NOW)
    stay = [p for p in found if p.id not in doomed]
    assert rule.doomed(stay, NOW) == frozenset()


@hypothesis.given(points, retentions)
def test_given_any_backups_when_thinned_then_no_more_stay_than_the_rules_allow(found, rule):
    limit = rule.last + rule.hourly + rule.daily + rule.weekly + rule.monthly
    stay = len(found) - len(rule.doomed(found, NOW))
    if limit:
        assert stay <= limit + 2


@hypothesis.given(points, retentions)
def test_given_an_age_when_thinned_then_only_the_guarded_are_older(found, rule):
    hypothesis.assume(rule.age)
    doomed = rule.doomed(found, NOW)
    old = [p for p in found if p.id not in doomed and NOW - p.at > rule.age]
    assert len(old) <= 2


def test_given_a_year_of_hourly_backups_when_thinned_then_each_rule_has_its_own():
    found = [schedule.Point(f"{n:05}", NOW - n * HOUR) for n in range(24 * 365)]
    rule = schedule.Retention(last=3, hourly=24, daily=7, weekly=4, monthly=12)
    doomed = rule.doomed(found, NOW)
    stay = [p for p in found if p.id not in doomed]
    days = {datetime.datetime.fromtimestamp(p.at, datetime.timezone.utc).date() for p in stay}
    assert 24 + 6 + 2 + 9 <= len(stay) <= 24 + 7 + 4 + 12
    assert len(days) >= 7 + 2 + 9


@hypothesis.given(st.floats(0, NOW), st.floats(schedule.LEAST, 30 * DAY), st.text(max_size=9))
def test_given_an_interval_when_due_then_early_by_a_tenth_at_most(last, every, seed):
    at = schedule.due(last, every, seed)
    assert at == schedule.due(last, every, seed)
    assert last + 0.9 * every - 1e-3 <= at <= last + every


@pytest.mark.parametrize(
    ("mebibytes", "every", "read", "moved"),
    [(64, 3600, 16, 4), (64, 0, 16, 4), (64, 60, 16, 9), (64, 30, 17, 17), (1024, 30, 273, 273)],
)
def test_given_a_database_when_backed_up_then_slowly_but_in_a_quarter_of_the_interval(
    mebibytes, every, read, moved
):
    pace = schedule.pace(mebibytes << 20, every)
    assert (round(pace.read / 2**20), round(pace.moved / 2**20)) == (read, moved)


def test_given_no_backup_when_due_then_now_and_given_zero_then_never():
    assert schedule.due(None, 30, "x") == 0
    assert schedule.due(None, 0, "x") is None
    assert schedule.due(NOW, 0, "x") is None


@hypothesis.given(st.integers(1, 10_000), st.floats(schedule.LEAST, 30 * DAY))
def test_given_failures_when_tried_again_then_soon_and_never_after_the_interval(failures, every):
    wait = schedule.retry(NOW, failures, every) - NOW
    assert 0 < wait <= min(max(every, schedule.LEAST), 900) + 1e-3


def test_given_an_unchanged_store_when_asked_then_skipped_for_a_day():
    assert schedule.unchanged((1, 5), (1, 5), NOW - HOUR, NOW)
    assert not schedule.unchanged((1, 5), (1, 6), NOW - HOUR, NOW)
    assert not schedule.unchanged((2, 5), (1, 5), NOW - HOUR, NOW)
    assert not schedule.unchanged(None, (1, 5), NOW, NOW)
    assert not schedule.unchanged((1, 5), (1, 5), NOW - DAY, NOW)
    assert not schedule.unchanged((1, 5), (1, 5), NOW + DAY, NOW), "from the future is no last one"


def test_given_times_of_the_future_when_the_last_is_asked_for_then_they_do_not_count():
    assert schedule.last((NOW - HOUR, NOW + HOUR, 0.0), NOW) == NOW - HOUR
    assert schedule.last((NOW + 10, NOW), NOW) == NOW + 10, "two clocks are never one"
    assert schedule.last((NOW + HOUR, 0.0), NOW) is None
    assert schedule.due(schedule.last((NOW + HOUR,), NOW), 30, "x") == 0
