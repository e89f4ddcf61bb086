"""What the keeper tells the charm, as sentences."""

from __future__ import annotations

import dataclasses

import pytest

from backup import keeper_files, remote_settings
from keeper import systemd_unit
from support import keeper_config

NOW = 1_795_000_000.0
WELL = keeper_config.well(NOW)


def changed(**changes) -> keeper_files.Status:
    return dataclasses.replace(WELL, **changes)


def test_given_all_well_when_asked_then_no_trouble_and_the_numbers_in_words():
    assert WELL.trouble(NOW) == ""
    assert WELL.words(NOW) == (
        "Newest backup 10 min old, 10 revisions behind; newest proven 2 h old; "
        "at most 60 min can be lost"
    )


def test_given_nothing_written_since_when_asked_then_said():
    assert ", nothing was written since;" in changed(newest_revision=100).words(NOW)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"error": "no way", "failures": 3}, "Backups fail: no way"),
        ({"error": "no way", "failures": 1, "newest_at": NOW - 9000}, "Backups fail: no way"),
        ({"proof_error": "it is not"}, "The newest backup is not proven: it is not"),
        ({"newest_at": NOW - 9000}, "The newest backup is 2 h old"),
        ({"proven_at": NOW - 3 * 86400}, "The newest proven backup is 3 days old"),
        ({"proven": "", "proven_at": 0.0}, ""),
        ({"error": "no way", "failures": 1}, ""),
        ({"newest_at": NOW - 9000, "unchanged_at": NOW - 60}, ""),
        ({"role": "off", "error": "no way", "failures": 9}, ""),
        ({"interval": 0.0, "newest_at": NOW - 1e6}, ""),
    ],
)
def test_given_a_state_when_asked_then_the_sentence(changes, sentence):
    assert changed(**changes).trouble(NOW) == sentence


def test_given_a_status_when_written_and_read_then_the_same(tmp_path):
    status = changed(problems=("x is not a backup's",))
    (tmp_path / "status.json").write_text(status.to_json())
    assert keeper_files.Status.read(tmp_path / "status.json") == status


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"problems": 5}'])
def test_given_no_readable_status_when_read_then_an_empty_one(tmp_path, text):
    if text is not None:
        (tmp_path / "status.json").write_text(text)
    assert keeper_files.Status.read(tmp_path / "status.json") == keeper_files.Status()


def test_given_no_backup_when_asked_then_said():
    assert keeper_files.Status().words(NOW) == "Backups are off"
    assert changed(newest="", error="full").words(NOW) == "No backup yet: full"
    assert changed(newest="", role="candidate", holder="etcd-1").words(NOW) == (
        "etcd-1 takes the backups; this unit has seen none on the remote so far"
    )


def test_given_a_configuration_when_written_and_read_then_the_same_and_no_secret_in_it(tmp_path):
    config = keeper_config.told(interval=30.0, retention="last=3")
    (tmp_path / "keeper.json").write_text(config.to_json())
    assert keeper_files.Config.read(tmp_path / "keeper.json") == config
    with pytest.raises(ValueError, match="no backups are configured"):
        keeper_files.Config.read(tmp_path / "none")


def test_given_a_unit_file_when_rendered_then_it_runs_the_keeper_of_the_charm(tmp_path):
    text = systemd_unit.unit_text(tmp_path, 1 << 30, "/var/lib/etcd/backup")
    python = f"{tmp_path}/venv/bin/python"
    assert f" {python} -I {tmp_path}/src/launch.py keeper.service\n" in text
    assert "Restart=always" in text
    assert f"RestartPreventExitStatus={systemd_unit.ORPHANED} 203" in text


@pytest.mark.parametrize(
    ("remote", "config", "lines"),
    [
        (None, "", ["CAP_SETGID CAP_KILL", "ProtectHome=yes", "-/var/lib/etcd"]),
        ("s3:b", "[s3]\ntype = s3\n", ["CAP_SETGID CAP_KILL", "ProtectHome=yes"]),
        (
            "s:b",
            "[s]\ntype = sftp\nkey_file = /root/.ssh/id\n",
            ["CAP_KILL CAP_DAC_READ_SEARCH", "ProtectHome=read-only"],
        ),
        (
            "/mnt/backups/etcd",
            "",
            ["CAP_KILL CAP_DAC_OVERRIDE", "ProtectHome=yes", "-/var/lib/etcd -/mnt"],
        ),
        (
            "c:x",
            "[c]\ntype = crypt\nremote = d:/home/ops\n[d]\ntype = local\n",
            ["CAP_KILL CAP_DAC_OVERRIDE", "ProtectHome=read-only", "etcd -/home"],
        ),
    ],
)
def test_given_a_remote_when_the_unit_is_rendered_then_it_may_do_what_that_needs(
    tmp_path, remote, config, lines
):
    settings = remote_settings.from_config(remote, config) if remote else None
    text = systemd_unit.unit_text(tmp_path, 1 << 30, "/var/lib/etcd/backup", settings)
    found = text.splitlines()
    for line in lines:
        assert any(each == line or each.endswith(line) for each in found), line
    assert "NoNewPrivileges=yes" in found and "ProtectSystem=strict" in found


def test_given_remotes_on_this_machine_when_asked_then_their_folders():
    union = "[u]\ntype = union\nupstreams = /a d:/b:ro s3:c d:e\n"
    config = union + "[d]\ntype = local\n[s3]\ntype = s3\n"
    assert remote_settings.from_config("u:", config).folders == ("/a", "/b", "/e")
