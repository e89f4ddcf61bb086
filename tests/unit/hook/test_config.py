"""The configuration: what is taken, and the one sentence for what is not."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from backup import schedule
from hook import config as configs

OPTIONS = yaml.safe_load((pathlib.Path(__file__).parents[3] / "config.yaml").read_text())[
    "options"
]
DEFAULTS = {key: o["default"] for key, o in OPTIONS.items() if "default" in o}


def test_given_the_defaults_of_config_yaml_when_parsed_then_they_are_those_of_the_class():
    assert configs.Settings.parse(DEFAULTS) == configs.Settings()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": 443}, "port is 443: set it to a whole number from 1024 to 65535"),
        ({"peer-port": 70000}, "peer-port is 70000"),
        ({"metrics-port": 1}, "set it to a whole number from 1024 to 65535, or to 0 for none"),
        ({"max-request-bytes": 20 << 20}, "max-request-bytes is 20971520"),
        ({"max-txn-ops": 0}, "max-txn-ops is 0: set it to a whole number from 1 to 65536"),
        ({"snapshot-count": True}, "snapshot-count is True"),
        ({"watch-progress-notify-interval": "0s"}, "a time such as 5s or 10m, from 1s to 3600s"),
        ({"watch-progress-notify-interval": "5"}, "watch-progress-notify-interval is '5'"),
        ({"log-level": "error"}, "log-level is 'error': set it to debug, info or warn"),
        ({"tls-min-version": "1.3"}, "tls-min-version is '1.3': set it to TLS1.2 or TLS1.3"),
        ({"auto-compaction-retention": "9999999999h"}, "or a time such as 30m, up to 87600h"),
        ({"auto-compaction-retention": "87601"}, "auto-compaction-retention is '87601'"),
        ({"auto-compaction-retention": "1h1h87600h"}, "up to 87600h"),
        (
            {"auto-compaction-mode": "revision", "auto-compaction-retention": "9" * 18},
            "a number of revisions up to 1000000000000",
        ),
        ({"port": 2380}, "port and peer-port are both 2380"),
        ({"election-timeout": 499}, "election-timeout is 499 ms, under five heartbeats of 100 ms"),
        ({"heartbeat-interval": 201}, "set it to 1005 or more"),
        ({"quota-backend-bytes": -1}, "quota-backend-bytes is -1"),
        ({"auto-compaction-mode": "daily"}, "set it to periodic or revision"),
        ({"auto-compaction-retention": "soon"}, "auto-compaction-retention is 'soon'"),
        (
            {"auto-compaction-mode": "revision", "auto-compaction-retention": "1h"},
            "auto-compaction-retention is '1h'",
        ),
    ],
)
def test_given_a_value_that_cannot_be_used_when_parsed_then_one_sentence_says_so(change, words):
    with pytest.raises(configs.SettingsError) as caught:
        configs.Settings.parse({**DEFAULTS, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_given_any_timings_when_parsed_then_etcd_could_start_with_what_is_taken(
    heartbeat, election
):
    raw = {**DEFAULTS, "heartbeat-interval": heartbeat, "election-timeout": election}
    try:
        taken = configs.Settings.parse(raw)
    except configs.SettingsError:
        return
    assert 5 * taken.heartbeat_ms <= taken.election_ms <= 50_000


@pytest.mark.parametrize("retention", ["0", "1", "1h", "30m", "10s", "1h30m"])
def test_given_a_duration_when_parsed_then_it_is_taken_as_etcd_takes_it(retention):
    parsed = configs.Settings.parse({**DEFAULTS, "auto-compaction-retention": retention})
    assert parsed.compaction_retention == retention


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        (" , ", ()),
        ("etcd.example.com", ("etcd.example.com",)),
        (
            "{unit}.lb, {hostname}.lan 10.1.2.3\nfd00::1",
            ("etcd-1.lb", "m2.lan", "10.1.2.3", "fd00::1"),
        ),
        ("*.etcd.lan *.etcd.lan", ("*.etcd.lan",)),
    ],
)
def test_given_extra_names_when_parsed_then_they_are_those_of_each_unit(text, names):
    parsed = configs.Settings.parse({**DEFAULTS, "certificate-extra-sans": text})
    assert parsed.sans("etcd/1", "m2") == names
    assert parsed.fingerprint == configs.Settings.parse(DEFAULTS).fingerprint, (
        "etcd restarts for none"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("a_b..c", "https://etcd", "etcd:2379", "10.1.2", "300.1.2.3", "{machine}", "-etcd"),
        *("et cd!", "a" * 64, ".".join(["a" * 60] * 5), "et*cd", "\u00e9tcd"),
        " ".join(f"n{number}" for number in range(33)),
    ],
)
def test_given_extra_names_that_are_none_when_parsed_then_one_sentence_says_so(text):
    with pytest.raises(configs.SettingsError) as caught:
        configs.Settings.parse({**DEFAULTS, "certificate-extra-sans": text})
    assert str(caught.value).startswith("certificate-extra-sans has ")
    assert "set it to at most 32 host names and addresses" in str(caught.value)
    assert str(caught.value).isprintable()


LIMITS = {
    **configs.RANGES,
    "watch-progress-notify-interval": configs.PROGRESS,
    "auto-compaction-retention": (configs.LONGEST_HISTORY // 3600, configs.MOST_REVISIONS),
    "backup-interval": (schedule.LEAST, schedule.MOST / 86400),
}


@pytest.mark.parametrize("name", LIMITS)
def test_given_a_range_when_described_then_the_description_says_the_same(name):
    words = {"watch-progress-notify-interval": ("1s", "1h")}
    described = re.sub(r"\s+", " ", OPTIONS[name]["description"])
    for bound in words.get(name, map(str, map(int, LIMITS[name]))):
        assert re.search(rf"(?<![0-9]){bound}(?![0-9])", described), (bound, described)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_given_an_option_that_counts_when_described_then_its_unit_or_its_choices_are_said(name):
    option = OPTIONS[name]
    chosen = ("log-level", "tls-min-version")
    if option["type"] != "int" and name not in (*LIMITS, *chosen):
        return
    units = r"milliseconds|seconds|bytes|KiB per second|a number|TCP port|hours|one of"
    described = re.sub(r"\s+", " ", option["description"])
    assert re.search(units, described), described


@pytest.mark.parametrize("name", [n for n in configs.RANGES if n not in configs.OFF])
def test_given_a_number_when_at_its_bounds_then_taken_and_beyond_them_refused(name):
    low, high = configs.RANGES[name]
    for value in (low - 1, high + 1):
        with pytest.raises(configs.SettingsError, match=f"^{name} is {value}: "):
            configs.Settings.parse({**DEFAULTS, name: value})
    for value in (low, high):
        other = {"election-timeout": 50_000} if name == "heartbeat-interval" else {}
        other = {"heartbeat-interval": 10} if name == "election-timeout" else other
        configs.Settings.parse({**DEFAULTS, **other, name: value})


@pytest.mark.parametrize(
    "word", re.findall(r"\b([a-z]+)=", OPTIONS["backup-retention"]["description"])
)
def test_given_a_word_of_retention_when_told_then_it_is_taken_and_no_other_is(word):
    fields = {field.name for field in dataclasses.fields(schedule.Retention)}
    told = re.findall(r"\b([a-z]+)=", OPTIONS["backup-retention"]["description"])
    assert set(told) == fields and word in fields
    for unit in ("h", "d", "w") if word == "age" else ("",):
        schedule.Retention.parse(f"{word}=3{unit}")
