"""Which remotes are refused before anything is sent, and how rclone is told of the others."""

from __future__ import annotations

import pytest

from backup import rclone_errors, rclone_process, remote_choice, remote_settings
from machine import processes


def s3(**changes) -> remote_settings.S3:
    return remote_settings.S3(**{"bucket": "b", "access_key": "a", "secret_key": "s", **changes})


def test_given_s3_data_when_made_into_settings_then_rclone_has_it_all():
    made = remote_settings.from_s3(
        s3(endpoint="https://s3.example/", region="eu", path="/x/y/", uri_style="host"), "5M"
    )
    assert made.path == "s3:b/x/y"
    for line in ("region = eu", "endpoint = https://s3.example", "force_path_style = false"):
        assert line in made.config.splitlines()
    assert "secret_access_key" not in repr(made)


def test_given_no_keys_when_made_into_settings_then_a_role_from_the_environment():
    assert "env_auth = true" in remote_settings.from_s3(s3(access_key="", secret_key="")).config


@pytest.mark.parametrize(
    "changes",
    [{"bucket": ""}, {"uri_style": "dns"}, {"secret_key": "a\nb = c"}, {"region": "\x00"}],
)
def test_given_bad_s3_data_when_made_into_settings_then_one_sentence(changes):
    with pytest.raises(rclone_errors.RemoteError) as caught:
        remote_settings.from_s3(s3(**changes))
    assert caught.value.kind is rclone_errors.Kind.CONFIG


@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("", ""),
        ("name", "[name]\ntype = local\n"),
        ("other:x", "[name]\ntype = local\n"),
        (":s3,secret=x:b", ""),
        ("name,secret=x:b", "[name]\ntype = s3\n"),
        ("name:x", "nonsense"),
        ("name:x", ""),
        ("name:a\nb", "[name]\ntype = local\n"),
        ("name:x", "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc"),
    ],
)
def test_given_bad_configuration_when_made_into_settings_then_one_sentence(path, config):
    with pytest.raises(rclone_errors.RemoteError) as caught:
        remote_settings.from_config(path, config)
    assert caught.value.kind is rclone_errors.Kind.CONFIG


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("s3:", "names no bucket: write s3:BUCKET"),
        ("s3:/", "names no bucket"),
        ("s3:backups//deep", "folder without a name"),
        ("s3:backups//deep//", "folder without a name"),
        ("s3://backups", "folder without a name"),
    ],
)
def test_given_a_path_that_no_bucket_has_when_configured_then_the_sentence_says_what_to_write(
    path, words
):
    with pytest.raises(rclone_errors.RemoteError, match=words):
        remote_settings.from_config(path, "[s3]\ntype = s3\n")
    assert remote_settings.from_config("s3:backups/deep/", "[s3]\ntype = s3\n").path


def test_given_an_encryption_when_made_into_settings_then_rclone_asks_for_it():
    asked = remote_settings.from_s3(s3(encryption="aws:kms", kms_key="arn:aws:kms:eu:1:key/a"))
    assert "server_side_encryption = aws:kms" in asked.config.splitlines()
    assert "sse_kms_key_id = arn:aws:kms:eu:1:key/a" in asked.config.splitlines()
    instead = remote_settings.encrypted(asked, "AES256")
    assert "server_side_encryption = AES256" in instead.config.splitlines()
    assert "kms" not in instead.config
    assert "server_side_encryption" not in remote_settings.from_s3(s3()).config


@pytest.mark.parametrize(
    ("encryption", "key"), [("rot13", ""), ("", "a"), ("AES256", "a"), ("aws:kms", "a\nb = c")]
)
def test_given_an_encryption_that_no_store_has_when_asked_for_then_one_sentence(encryption, key):
    assert remote_settings.encryption_problem(encryption, key)
    with pytest.raises(rclone_errors.RemoteError):
        remote_settings.from_s3(s3(encryption=encryption, kms_key=key))


@pytest.mark.parametrize("bandwidth", ["fast", "1 M", "10M --config x", "-1"])
def test_given_a_bad_bandwidth_when_made_into_settings_then_one_sentence(bandwidth):
    with pytest.raises(rclone_errors.RemoteError, match="bandwidth"):
        remote_settings.from_config("/backups", "", bandwidth=bandwidth)


def test_given_settings_when_written_and_read_then_the_same_and_the_fingerprint_tells_changes():
    made = remote_settings.from_config("/backups", "[x]\ntype = local\n", "1M", "AWS_A=b")
    assert remote_settings.Settings.from_json(made.to_json()) == made
    other = remote_settings.from_config("/backups", "[x]\ntype = local\n", "2M", "AWS_A=b")
    assert made.fingerprint != other.fingerprint
    with pytest.raises(rclone_errors.RemoteError):
        remote_settings.Settings.from_json("{}")


def test_given_variables_of_a_role_when_configured_then_rclone_gets_them():
    config = "[s3]\ntype = s3\nenv_auth = true\n"
    made = remote_settings.from_config(
        "s3:b", config, environment="AWS_ROLE_ARN=arn:x\n\nAWS_WEB_IDENTITY_TOKEN_FILE = /run/t\n"
    )
    assert made.environment == (
        ("AWS_ROLE_ARN", "arn:x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/t"),
    )
    assert remote_settings.Settings.from_json(made.to_json()) == made


@pytest.mark.parametrize("line", ["LD_PRELOAD=/x", "AWS_ROLE_ARN", "RCLONE_CONFIG=/x", "aws_x=1"])
def test_given_another_variable_when_configured_then_refused(line):
    with pytest.raises(rclone_errors.RemoteError, match="field environment"):
        remote_settings.from_config("s3:b", "[s3]\ntype = s3\n", environment=line)


LOCAL = remote_choice.Choice(
    remote_choice.State.READY, remote_settings.Settings("[a]\ntype = local\n", "a:/x")
)
PROXIES = (("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "10.0.0.0/8"))


def rclones(settings: remote_settings.Settings) -> dict[str, str]:
    """The variables of a proxy that rclone would get."""
    found = rclone_process._environment(settings)
    return {name: value for name, value in found.items() if "PROXY" in name.upper()}


def test_given_a_models_proxy_when_a_remote_is_chosen_then_what_reaches_it_goes_there_anywhere():
    for chosen in (
        remote_choice.choose(LOCAL, "", None, proxies=PROXIES),
        remote_choice.choose(remote_choice.OFF, "a:/x", "[a]\ntype = local\n", proxies=PROXIES),
    ):
        assert chosen.settings is not None
        told = remote_settings.Settings.from_json(chosen.settings.to_json())  # as the keeper is
        assert rclones(told) == dict(PROXIES)
        assert "3128" not in repr(told)
    assert remote_choice.choose(remote_choice.OFF, "", None, proxies=PROXIES) == remote_choice.OFF


def test_given_a_proxy_around_a_process_when_rclone_starts_then_only_the_settings_count(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in processes.PROXIES:
        for each in (name, name.lower(), f"JUJU_CHARM_{name}", f"RCLONE_{name}"):
            monkeypatch.setenv(each, "http://poison:1")
    assert LOCAL.settings is not None
    assert rclones(LOCAL.settings) == {}


def test_given_a_hook_when_asked_for_the_models_proxies_then_jujus_own_come_first(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in processes.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"JUJU_CHARM_{name}", raising=False)
    assert processes.proxies() == ()
    monkeypatch.setenv("HTTP_PROXY", "http://legacy:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://legacy:1")
    monkeypatch.setenv("JUJU_CHARM_HTTPS_PROXY", "http://juju:1")
    monkeypatch.setenv("JUJU_CHARM_NO_PROXY", "a\nb")
    assert processes.proxies() == (
        ("HTTP_PROXY", "http://legacy:1"),
        ("HTTPS_PROXY", "http://juju:1"),
    )
