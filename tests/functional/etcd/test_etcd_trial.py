"""A configuration is tried by etcd itself, where nobody is served, before it is put in place."""

from __future__ import annotations

import dataclasses
import socket

import pytest

import errors
from etcd import config as etcd_config
from etcd import service, trial


@pytest.fixture
def config(cluster) -> etcd_config.Config:
    """What a service would be told whose etcd does not run yet."""
    return cluster.node().config


@pytest.fixture(autouse=True)
def _no_etcd_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(etcd_config, "LISTENING", tmp_path / "listening")


def test_given_a_usable_configuration_when_tried_then_nothing_speaks_against_it(config, tmp_path):
    assert trial.why_not(config, tmp_path / "trial") == ""
    assert not (tmp_path / "trial").exists()
    assert not config.data_dir.exists(), "what it is to run on was left alone"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auto_compaction_retention": "9999999999h"}, "9999999999h"),
        ({"auto_compaction_mode": "daily", "auto_compaction_retention": "1h"}, "daily"),
        ({"max_request_bytes": "many"}, "max-request-bytes"),
        ({"snapshot_count": -1}, "snapshot-count"),
        ({"log_level": "loud"}, "loud"),
    ],
)
def test_given_what_etcd_refuses_when_tried_then_its_own_words_say_why(
    config, tmp_path, change, words
):
    said = trial.why_not(dataclasses.replace(config, **change), tmp_path / "trial")
    assert words in said and "\n" not in said
    assert not (tmp_path / "trial").exists()


def test_given_a_port_of_another_program_when_tried_then_refused_and_etcds_own_is_not(
    config, tmp_path
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = etcd_config.url("127.0.0.1", port)
        changed = dataclasses.replace(config, listen_client_urls=(taken,))
        said = trial.why_not(changed, tmp_path / "trial")
        assert said == f"another program listens on port {port} of 127.0.0.1"
        # As etcd's own unit notes at its start.
        etcd_config.LISTENING.write_text(f'listen-peer-urls: "{taken}"\n')
        assert trial.why_not(changed, tmp_path / "trial") == ""


def test_given_an_address_of_another_machine_when_tried_then_no_option_is_to_blame(
    config, tmp_path
):
    elsewhere = etcd_config.url("203.0.113.7", 2379)
    changed = dataclasses.replace(config, listen_peer_urls=(elsewhere,))
    with pytest.raises(errors.DataError, match=r"203\.0\.113\.7 is no address of this machine"):
        trial.why_not(changed, tmp_path / "trial")


@pytest.mark.parametrize("what", ["room", "binary", "folder"])
def test_given_a_unit_that_can_try_nothing_now_when_tried_then_that_refuses_no_configuration(
    config, tmp_path, monkeypatch, what
):
    if what == "room":
        monkeypatch.setattr(trial, "_ROOM", 1 << 60)
    elif what == "folder":
        (tmp_path / "file").touch()
        tmp_path /= "file"
    else:
        (tmp_path / "etcd").write_text("#!/bin/sh\nexit 3\n")
        (tmp_path / "etcd").chmod(0o755)
        monkeypatch.setattr(service, "INSTALLED", tmp_path)
    with pytest.raises(errors.EtcdError, match="of before stays in use"):
        trial.why_not(config, tmp_path / "trial")
    assert what == "folder" or not (tmp_path / "trial").exists()
