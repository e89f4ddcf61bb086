"""Fixtures: servers that live as long as the module that asks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import backup_parts as parts
import pytest

from backup import rclone, remote_settings
from functional import signing
from machine import processes

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from etcd import scratch


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user of the machine reads what stores send, as on a unit."""
    monkeypatch.setattr(processes, "WORKER", "nobody")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> signing.Authority:
    return signing.Authority(tmp_path_factory.mktemp("authority"), "test")


@pytest.fixture(scope="session")
def s3_server(
    tmp_path_factory: pytest.TempPathFactory, authority: signing.Authority
) -> Iterator[parts.S3Server]:
    server = parts.s3_server(tmp_path_factory.mktemp("s3"), authority)
    yield server
    parts.end(server.process)


@pytest.fixture
def bucket_name(request: pytest.FixtureRequest) -> str:
    return "b" + str(abs(hash(request.node.nodeid)))


@pytest.fixture
def bucket(s3_server: parts.S3Server, bucket_name: str) -> str:
    (s3_server.folder / bucket_name).mkdir()
    return bucket_name


@pytest.fixture
def proxy(s3_server: parts.S3Server) -> Iterator[parts.FaultProxy]:
    proxy = parts.FaultProxy(s3_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def s3(s3_server: parts.S3Server, bucket: str) -> rclone.Remote:
    return rclone.Remote(parts.s3_settings(bucket, s3_server.port, s3_server.ca))


@pytest.fixture(scope="session")
def swift_server(
    tmp_path_factory: pytest.TempPathFactory, authority: signing.Authority
) -> Iterator[parts.Swift]:
    server = parts.swift(tmp_path_factory.mktemp("swift"), authority)
    yield server
    server.end()


@pytest.fixture
def swift(swift_server: parts.Swift, bucket_name: str) -> rclone.Remote:
    made = rclone.Remote(
        parts.s3_settings(
            bucket_name,
            swift_server.port,
            swift_server.ca,
            access_key=parts.SWIFT_KEY,
            secret_key=parts.SWIFT_SECRET,
        )
    )
    made.check()
    return made


@pytest.fixture
def local(tmp_path: pathlib.Path) -> rclone.Remote:
    folder = tmp_path / "disk"
    folder.mkdir()
    config = f"[disk]\ntype = alias\nremote = {folder}\n"
    return rclone.Remote(remote_settings.from_config("disk:backups", config))


@pytest.fixture
def full_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A disk of 1 MiB."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)]
    if subprocess.run(command, capture_output=True, timeout=10, check=False).returncode:
        pytest.skip("cannot mount here")
    yield small
    subprocess.run(["umount", str(small)], check=True, timeout=10)


@pytest.fixture
def crypt(tmp_path: pathlib.Path) -> rclone.Remote:
    folder = tmp_path / "crypted"
    folder.mkdir()
    obscured = subprocess.run(
        [shutil.which("rclone") or "rclone", "obscure", "-"],
        input="a long pass phrase",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout.strip()
    config = f"[secret]\ntype = crypt\nremote = {folder}\npassword = {obscured}\n"
    return rclone.Remote(remote_settings.from_config("secret:", config))


@pytest.fixture(params=["s3", "swift", "crypt", "local"])
def any_remote(request: pytest.FixtureRequest) -> rclone.Remote:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def etcd(
    tmp_path_factory: pytest.TempPathFactory, authority: signing.Authority
) -> Iterator[scratch.Member]:
    (started,) = parts.cluster(tmp_path_factory.mktemp("etcd"), authority)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def three(
    tmp_path_factory: pytest.TempPathFactory, authority: signing.Authority
) -> Iterator[list[scratch.Member]]:
    started = parts.cluster(tmp_path_factory.mktemp("three"), authority, members=3)
    yield started
    for each in started:
        each.stop()
