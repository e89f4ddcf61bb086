from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import tarfile

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tls import authority, certificate, client_archive

SIGNER = authority.Authority.create("ca")
PAIR = SIGNER.sign("reader", usage=authority.Usage.CLIENT)
URLS = ["https://198.18.0.10:2379", "https://[2001:db8::1]:2379"]


def write(path: pathlib.Path) -> pathlib.Path:
    return client_archive.write(PAIR, SIGNER.ca, URLS, path, owner=None)


def test_given_a_pair_when_written_then_the_tar_holds_all_that_a_client_needs(tmp_path):
    path = write(tmp_path / "c.tar.gz")
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    out = tmp_path / "out"
    assert {each.name for each in out.iterdir()} == {
        "ca.crt",
        "client.crt",
        "client.key",
        "env",
        "README",
    }
    assert (out / "client.key").stat().st_mode & 0o777 == 0o600
    cert, ca = (out / "client.crt").read_bytes(), (out / "ca.crt").read_bytes()
    assert certificate.parse(cert, ca).common_name == "reader"
    shown = subprocess.run(
        ["sh", "-c", '. ./env; echo "$ETCDCTL_ENDPOINTS $ETCDCTL_KEY"'],
        cwd=out,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert shown.stdout.split() == [",".join(URLS), f"{out}/client.key"]


@pytest.mark.parametrize(
    "evil", ["https://a:1;touch owned", "$(touch owned)", "`touch owned`", "a'; touch owned; '"]
)
def test_given_a_url_with_a_command_when_env_is_sourced_then_nothing_runs(tmp_path, evil):
    client_archive.write(PAIR, SIGNER.ca, [evil], tmp_path / "c.tar.gz", owner=None)
    with tarfile.open(tmp_path / "c.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    shown = subprocess.run(
        ["sh", "-c", '. ./env; printf %s "$ETCDCTL_ENDPOINTS"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert shown.stdout == evil
    assert not (tmp_path / "owned").exists()


def test_given_a_path_with_spaces_when_to_be_copied_then_the_command_takes_it_as_one(tmp_path):
    command = client_archive.copy_command("etcd/0", tmp_path / "a b; touch owned")
    assert shlex.split(command) == ["juju", "scp", f"etcd/0:{tmp_path}/a b; touch owned", "."]


def test_given_an_older_tar_when_written_then_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "c.tar.gz"
    path.write_text("old")
    write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["c.tar.gz"]
    assert tarfile.is_tarfile(path)


def test_given_a_planted_link_when_written_then_it_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "c.tar.gz"
    path.symlink_to(victim)
    write(path)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_given_no_directory_when_written_then_one_sentence(tmp_path):
    with pytest.raises(client_archive.BundleError, match="cannot write"):
        write(tmp_path / "missing" / "c.tar.gz")


def test_given_no_such_user_when_written_then_one_sentence_and_no_file(tmp_path):
    with pytest.raises(client_archive.BundleError, match="there is no user"):
        client_archive.write(PAIR, SIGNER.ca, URLS, tmp_path / "c", owner="no-such-user")
    assert not list(tmp_path.iterdir())


def test_given_a_directory_in_its_place_when_written_then_one_sentence_and_no_rest(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(client_archive.BundleError, match="cannot write"):
        write(tmp_path / "c")
    assert [each.name for each in tmp_path.iterdir()] == ["c"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_given_an_owner_when_written_then_the_file_is_its(tmp_path):
    assert (
        client_archive.write(PAIR, SIGNER.ca, URLS, tmp_path / "c", owner="nobody").owner()
        == "nobody"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "must not be empty"),
        ("   ", "must not be empty"),
        ("a/b", "must not contain a slash"),
        ("x" * 65, "at most 64 characters in UTF-8, not 65"),
        ("\U0001d400" * 17, "at most 64 characters in UTF-8, not 68"),
        ("a\nb", "printable characters only"),
        ("a\x00", "printable characters only"),
        ("\ud800", "printable characters only"),
        (" a", "begin or end with a space"),
        (None, "must be a text"),
        (5, "must be a text"),
    ],
)
def test_given_a_name_that_cannot_be_when_checked_then_one_sentence(name, sentence):
    with pytest.raises(client_archive.BundleError, match=sentence):
        client_archive.check_common_name(name)


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=70))
def test_given_any_text_when_it_passes_then_it_can_be_signed_and_read_back(name):
    try:
        checked = client_archive.check_common_name(name)
    except client_archive.BundleError:
        return
    facts = certificate.parse(SIGNER.sign(checked).cert, SIGNER.ca)
    assert facts.common_name == name


@pytest.mark.parametrize("days", [0, -1, 3651, 1.5, "7", None, True])
def test_given_days_out_of_range_when_checked_then_one_sentence(days):
    with pytest.raises(client_archive.BundleError, match="whole number from 1 to 3650"):
        client_archive.check_days(days)


@pytest.mark.parametrize("days", [1, 365, 3650])
def test_given_days_in_range_when_checked_then_they_pass(days):
    assert client_archive.check_days(days) == days


def test_given_a_unit_when_asked_how_to_copy_then_the_command_can_be_pasted():
    assert (
        client_archive.copy_command("etcd/0") == "juju scp etcd/0:etcd_client_credentials.tar.gz ."
    )
    elsewhere = pathlib.Path("/srv/a.db")
    assert client_archive.copy_command("etcd/0", elsewhere) == "juju scp etcd/0:/srv/a.db ."


@pytest.mark.parametrize("unit", ["etcd/0", "etcd-production/12", "kubernetes-etcd/123"])
@pytest.mark.parametrize(
    "path",
    [client_archive.PATH, pathlib.Path("/home/ubuntu/etcd-snapshots/etcd-20261126-080824-12.db")],
)
def test_given_names_of_ordinary_length_when_juju_prints_the_command_then_it_is_one_line(
    unit, path
):
    command = client_archive.copy_command(unit, path)
    results = {"copy": {"cmd": command}, "snapshot": {"path": str(path)}}
    printed = yaml.safe_dump(results, width=80)
    assert f"  cmd: {command}\n" in printed
    assert max(map(len, printed.splitlines())) < 80


def test_given_a_proxy_around_a_person_when_env_is_sourced_then_the_members_are_reached_directly(
    tmp_path,
):
    urls = ["https://198.18.0.1:2379", "https://[fd00::1]:2379", "https://etcd-2.example:2379"]
    client_archive.write(PAIR, SIGNER.ca, urls, tmp_path / "c.tar.gz", owner=None)
    subprocess.run(["tar", "xzf", "c.tar.gz"], cwd=tmp_path, check=True)
    hosts = "198.18.0.1,fd00::1,etcd-2.example"
    for before, after in (
        ({}, hosts),
        ({"NO_PROXY": "a.example"}, f"{hosts},a.example"),
        ({"no_proxy": "b.example"}, f"{hosts},b.example"),
    ):
        told = subprocess.run(
            ["sh", "-c", ". ./env; env"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "http://poison:1", **before},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        assert {f"NO_PROXY={after}", f"no_proxy={after}"} <= set(told)
