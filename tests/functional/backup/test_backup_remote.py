"""`Remote` against real servers: an S3 server over TLS, a crypt remote, a local folder."""

from __future__ import annotations

import dataclasses
import http.server
import os
import pathlib
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import backup_parts as parts
import pytest

from backup import peer_transfer, rclone, rclone_errors, rclone_process, remote_settings
from functional import signing
from machine import processes


def blob(path: pathlib.Path, size: int) -> bytes:
    data = os.urandom(size)
    path.write_bytes(data)
    return data


def test_given_any_remote_when_checked_then_it_passes_and_nothing_stays(any_remote):
    any_remote.check()
    assert any_remote.list() == ()


def test_given_any_remote_when_a_file_goes_up_and_down_then_it_is_the_same(any_remote, tmp_path):
    data = blob(tmp_path / "up", 12_000_000)
    told: list[tuple[int, int]] = []
    any_remote.put(tmp_path / "up", "a/b/file.db", progress=lambda *t: told.append(t))
    assert told[-1] == (len(data), len(data))
    (entry,) = any_remote.list()
    assert (entry.name, entry.size) == ("a/b/file.db", len(data))
    assert abs(entry.modified - time.time()) < 3600
    any_remote.get("a/b/file.db", tmp_path / "down", size=len(data))
    assert (tmp_path / "down").read_bytes() == data
    assert not (tmp_path / "down.part").exists()


def test_given_an_object_when_put_again_then_the_new_content_stands(any_remote):
    any_remote.put_bytes("m.json", b"one")
    any_remote.put_bytes("m.json", b"two")
    assert any_remote.get_bytes("m.json") == b"two"


def test_given_nothing_when_asked_for_then_not_found_and_no_harm(any_remote, tmp_path):
    with pytest.raises(rclone_errors.RemoteError) as caught:
        any_remote.get_bytes("none")
    assert caught.value.kind is rclone_errors.Kind.NOT_FOUND
    with pytest.raises(rclone_errors.RemoteError) as caught:
        any_remote.get("none", tmp_path / "none")
    assert caught.value.kind is rclone_errors.Kind.NOT_FOUND
    assert any_remote.delete("none") is False
    assert any_remote.list("nowhere") == ()


def test_given_objects_when_deleted_then_they_are_gone(any_remote):
    any_remote.put_bytes("x/one", b"1")
    any_remote.put_bytes("y/two", b"2")
    assert any_remote.delete("x/one") is True
    assert [e.name for e in any_remote.list()] == ["y/two"]
    assert [e.name for e in any_remote.child("y").list()] == ["two"]


def test_given_an_earlier_part_when_got_then_it_goes_on_from_there(any_remote, tmp_path):
    data = blob(tmp_path / "up", 3_000_000)
    any_remote.put(tmp_path / "up", "file")
    (tmp_path / "down.part").write_bytes(data[:2_000_000])
    any_remote.get("file", tmp_path / "down", size=len(data))
    assert (tmp_path / "down").read_bytes() == data


def test_given_a_longer_object_than_said_when_got_then_it_is_refused(any_remote, tmp_path):
    any_remote.put_bytes("file", b"x" * 1000)
    with pytest.raises(rclone_errors.RemoteError) as caught:
        any_remote.get("file", tmp_path / "down", size=999)
    assert caught.value.kind is rclone_errors.Kind.CORRUPT
    assert not (tmp_path / "down").exists()


def test_given_no_bucket_when_checked_then_it_is_made(s3_server):
    missing = rclone.Remote(parts.s3_settings("made-by-check", s3_server.port, s3_server.ca))
    missing.check()
    missing.put_bytes("a", b"b")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"secret_key": "x" * 40}, rclone_errors.Kind.CREDENTIALS),
        ({"access_key": "AKIDNOBODY0000"}, rclone_errors.Kind.CREDENTIALS),
        ({"endpoint": "https://127.0.0.1:9"}, rclone_errors.Kind.UNREACHABLE),
        ({"endpoint": "https://nowhere.invalid"}, rclone_errors.Kind.UNREACHABLE),
    ],
)
def test_given_wrong_settings_when_checked_then_one_sentence(s3_server, bucket, changes, kind):
    wrong = rclone.Remote(parts.s3_settings(bucket, s3_server.port, s3_server.ca, **changes))
    started = time.monotonic()
    with pytest.raises(rclone_errors.RemoteError) as caught:
        wrong.check()
    assert time.monotonic() - started < 60
    assert caught.value.kind is kind, str(caught.value)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    assert parts.SECRET not in sentence and "x" * 40 not in sentence


def test_given_another_authority_when_checked_then_it_says_so(s3_server, bucket, tmp_path):
    foreign = signing.Authority(tmp_path, "foreign").pem.read_text()
    with pytest.raises(rclone_errors.RemoteError) as caught:
        rclone.Remote(parts.s3_settings(bucket, s3_server.port, foreign)).check()
    assert caught.value.kind is rclone_errors.Kind.CA


def test_given_a_read_only_disk_when_checked_then_it_says_so(tmp_path):
    config = "[proc]\ntype = alias\nremote = /proc/sys\n"
    with pytest.raises(rclone_errors.RemoteError) as caught:
        rclone.Remote(remote_settings.from_config("proc:", config)).check()
    assert caught.value.kind in (rclone_errors.Kind.READ_ONLY, rclone_errors.Kind.NOT_FOUND), (
        caught.value
    )


def test_given_a_full_disk_when_put_then_it_says_so(full_disk, tmp_path):
    blob(tmp_path / "up", 3_000_000)
    with pytest.raises(rclone_errors.RemoteError) as caught:
        rclone.Remote(remote_settings.from_config(str(full_disk), "")).put(tmp_path / "up", "file")
    assert caught.value.kind is rclone_errors.Kind.FULL


def through(proxy: parts.FaultProxy, server: parts.S3Server, bucket: str) -> rclone.Remote:
    return rclone.Remote(parts.s3_settings(bucket, proxy.port, server.ca))


def test_given_a_connection_cut_once_when_got_then_it_is_resumed(
    proxy, s3_server, bucket, tmp_path
):
    far = through(proxy, s3_server, bucket)
    data = blob(tmp_path / "up", 6_000_000)
    far.put(tmp_path / "up", "file")
    proxy.fault, proxy.after, proxy.times = "cut-down", 2_000_000, 2
    far.get("file", tmp_path / "down", size=len(data))
    assert proxy.hurt == 2
    assert (tmp_path / "down").read_bytes() == data


def test_given_a_connection_always_cut_when_put_then_lost_and_nothing_listed(
    proxy, s3_server, bucket, tmp_path
):
    far = through(proxy, s3_server, bucket)
    blob(tmp_path / "up", 6_000_000)
    proxy.fault, proxy.after = "cut-up", 1_000_000
    with pytest.raises(rclone_errors.RemoteError) as caught:
        far.put(tmp_path / "up", "file")
    assert caught.value.kind in (rclone_errors.Kind.LOST, rclone_errors.Kind.UNREACHABLE), (
        caught.value
    )
    proxy.fault = ""
    assert far.list() == ()


def test_given_a_server_that_closes_at_once_when_checked_then_lost(proxy, s3_server, bucket):
    proxy.fault = "refuse"
    with pytest.raises(rclone_errors.RemoteError) as caught:
        through(proxy, s3_server, bucket).check()
    assert caught.value.kind in (rclone_errors.Kind.LOST, rclone_errors.Kind.UNREACHABLE), (
        caught.value
    )


def test_given_a_slow_remote_when_used_then_it_works(proxy, s3_server, bucket, tmp_path):
    far = through(proxy, s3_server, bucket)
    data = blob(tmp_path / "up", 500_000)
    proxy.fault = "slow"
    far.put(tmp_path / "up", "file")
    far.get("file", tmp_path / "down", size=len(data))
    assert (tmp_path / "down").read_bytes() == data


def test_given_a_server_that_falls_silent_when_put_then_it_is_given_up(
    proxy, s3_server, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(rclone_process, "_STALL", 3.0)
    blob(tmp_path / "up", 500_000)
    proxy.fault = "mute"
    started = time.monotonic()
    with pytest.raises(rclone_errors.RemoteError) as caught:
        through(proxy, s3_server, bucket).put(tmp_path / "up", "file")
    assert caught.value.kind is rclone_errors.Kind.LOST
    assert "moved no byte" in str(caught.value)
    assert time.monotonic() - started < 60


def test_given_credentials_when_rclone_runs_then_no_command_line_shows_them(
    proxy, s3_server, bucket, tmp_path
):
    far = through(proxy, s3_server, bucket)
    blob(tmp_path / "up", 2_000_000)
    proxy.fault = "slow"
    done = threading.Thread(target=lambda: far.put(tmp_path / "up", "file"))
    done.start()
    lines = b""
    while done.is_alive():
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes()
            except OSError:
                continue
            if b"copyto" in line:
                lines += line
        time.sleep(0.05)
    done.join()
    assert b"copyto" in lines
    assert parts.SECRET.encode() not in lines and parts.ACCESS.encode() not in lines
    assert parts.SECRET not in repr(far) + repr(far.settings)


MEASURED = """#!{python}
import resource, subprocess, sys
code = subprocess.call(["{rclone}", *sys.argv[1:]], close_fds=False)
with open("{report}", "a") as report:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=report)
sys.exit(code)
"""


def test_given_sizes_far_apart_when_moved_then_rclones_memory_is_the_same(
    s3, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "WORKER", "")  # the wrapper is in a folder of ours
    report, wrapper = tmp_path / "report", tmp_path / "rclone"
    wrapper.write_text(
        MEASURED.format(python=sys.executable, rclone=rclone_process.binary(), report=report)
    )
    wrapper.chmod(0o755)
    measured = rclone.Remote(s3.settings, binary=wrapper)
    peaks = []
    for size in (40_000_000, 160_000_000):
        blob(tmp_path / "up", size)
        measured.put(tmp_path / "up", "big")
        measured.get("big", tmp_path / "down", size=size)
        peaks.append(max(int(line) for line in report.read_text().split()) / 1024)
        report.unlink()
    assert max(peaks) < 100, "MiB, program text included"
    assert peaks[1] < 1.2 * peaks[0]


def test_given_a_share_when_a_peer_fetches_then_it_gets_the_file(authority, tmp_path):
    data = blob(tmp_path / "snap.db", 5_000_000)
    mine, other = authority.issue("unit-0"), authority.issue("unit-1")
    at = ("127.0.0.1", "127.0.0.1", parts.port())
    served = peer_transfer.Share(tmp_path / "snap.db", *at, mine.cert, mine.key, authority.pem)
    with (tmp_path / "snap.db").open("rb") as file:
        process = subprocess.Popen(served.argv(), stdin=file, stderr=subprocess.DEVNULL)
    try:
        parts.wait_for(served.port, process)
        peer_transfer.fetch(
            served.url, tmp_path / "got", len(data), other.cert, other.key, authority.pem
        )
        assert (tmp_path / "got").read_bytes() == data
        (tmp_path / "rest.part").write_bytes(data[:3_000_001])
        peer_transfer.fetch(
            served.url, tmp_path / "rest", len(data), other.cert, other.key, authority.pem
        )
        assert (tmp_path / "rest").read_bytes() == data
        elsewhere = served.url.replace("snapshot.db", "key.pem")
        believed = ssl.create_default_context(cafile=str(authority.pem))
        believed.load_cert_chain(other.cert, other.key)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(elsewhere, context=believed, timeout=10)
        stranger = signing.Authority(tmp_path, "stranger").issue("unit-9")
        with pytest.raises(rclone_errors.RemoteError) as caught:
            peer_transfer.fetch(
                served.url, tmp_path / "no", len(data), stranger.cert, stranger.key, authority.pem
            )
        assert caught.value.kind is rclone_errors.Kind.CA, caught.value
        assert not (tmp_path / "no").exists()
    finally:
        parts.end(process)


_ROLE = """<AssumeRoleWithWebIdentityResponse
xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


def test_given_the_file_of_an_oidc_token_when_checked_then_its_role_is_taken(
    s3_server, bucket, tmp_path
):
    asked: list[str] = []

    class TokenService(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.end_headers()
            self.wfile.write(_ROLE.format(key=parts.ACCESS, secret=parts.SECRET).encode())

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "token").write_text("a-token-of-the-machine")
    config = (
        "[s3]\ntype = s3\nprovider = Other\nenv_auth = true\nregion = us-east-1\n"
        f"endpoint = https://127.0.0.1:{s3_server.port}\nno_check_bucket = true\n"
    )
    with http.server.HTTPServer(("127.0.0.1", 0), TokenService) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = remote_settings.from_config(
            f"s3:{bucket}",
            config,
            environment=(
                "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/etcd\n"
                f"AWS_WEB_IDENTITY_TOKEN_FILE={tmp_path / 'token'}\n"
                f"AWS_ENDPOINT_URL_STS=http://127.0.0.1:{server.server_port}\n"
            ),
        )
        try:
            rclone.Remote(dataclasses.replace(made, ca=s3_server.ca)).check()
        finally:
            server.shutdown()
    assert asked and "a-token-of-the-machine" in asked[0]
