"""The configuration: what is taken, and the one sentence for what is not."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import settings

OPTIONS = yaml.safe_load((pathlib.Path(__file__).parents[2] / "config.yaml").read_text())[
    "options"
]
DEFAULTS = {key: o["default"] for key, o in OPTIONS.items() if "default" in o}


def test_given_the_defaults_of_config_yaml_when_parsed_then_they_are_those_of_the_class():
    assert settings.Settings.parse(DEFAULTS) == settings.Settings()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": 0}, "port is 0: set it to a whole number from 1 to 65535"),
        ({"peer-port": 70000}, "peer-port is 70000"),
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
    with pytest.raises(settings.SettingsError) as caught:
        settings.Settings.parse({**DEFAULTS, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_given_any_timings_when_parsed_then_etcd_could_start_with_what_is_taken(
    heartbeat, election
):
    raw = {**DEFAULTS, "heartbeat-interval": heartbeat, "election-timeout": election}
    try:
        taken = settings.Settings.parse(raw)
    except settings.SettingsError:
        return
    assert 5 * taken.heartbeat_ms <= taken.election_ms <= 50_000


@pytest.mark.parametrize("retention", ["0", "1", "1h", "30m", "10s", "1h30m"])
def test_given_a_duration_when_parsed_then_it_is_taken_as_etcd_takes_it(retention):
    parsed = settings.Settings.parse({**DEFAULTS, "auto-compaction-retention": retention})
    assert parsed.compaction_retention == retention
