"""Stores that answer otherwise: ETags that are no MD5, deletes that are refused, other clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import backup_parts as parts
import pytest
import store_proxy

from backup import rclone, rclone_errors, remote_settings

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from functional import signing


@pytest.fixture
def odd(
    s3_server: parts.S3Server, authority: signing.Authority
) -> Iterator[store_proxy.StoreProxy]:
    made = store_proxy.StoreProxy(s3_server.port, authority)
    yield made
    made.close()


def reach(odd: store_proxy.StoreProxy, bucket: str, **changes: str) -> rclone.Remote:
    return rclone.Remote(parts.s3_settings(bucket, odd.port, odd.ca, **changes))


@pytest.mark.parametrize("size", [1000, 40 << 20], ids=["at once", "in parts"])
def test_given_etags_that_are_no_md5_when_stored_then_what_is_stored_comes_back(
    odd, bucket, tmp_path: pathlib.Path, size
):
    odd.etags = True
    far = reach(odd, bucket)
    assert far.check() == ""
    (tmp_path / "file").write_bytes(content := b"0123456789abcdef" * (size // 16))
    far.put(tmp_path / "file", "it")
    far.get("it", tmp_path / "back", size=len(content))
    assert (tmp_path / "back").read_bytes() == content


def test_given_etags_that_are_no_md5_when_mirrored_then_only_what_changed_is_fetched_again(
    odd, bucket, tmp_path: pathlib.Path
):
    odd.etags = True
    far = reach(odd, bucket)
    far.put_bytes("a.json", b"{}")
    far.put_bytes("b.json", b"{}")
    local = tmp_path / "local"
    local.mkdir()
    far.mirror("*.json", local, 1000)
    first = {path.name: path.stat().st_ino for path in local.iterdir()}
    assert first.keys() == {"a.json", "b.json"}
    far.put_bytes("b.json", b"{ }")
    far.mirror("*.json", local, 1000)
    assert (local / "b.json").read_bytes() == b"{ }"
    assert (local / "a.json").stat().st_ino == first["a.json"]


def test_given_an_encryption_when_stored_then_every_upload_asks_for_it(
    odd, bucket, tmp_path: pathlib.Path
):
    wanted = remote_settings.encrypted(
        parts.s3_settings(bucket, odd.port, odd.ca), "aws:kms", "arn:aws:kms:eu:1:key/a"
    )
    far = rclone.Remote(wanted)
    far.put_bytes("small", b"x")
    (tmp_path / "file").write_bytes(b"y" * 1000)
    far.put(tmp_path / "file", "large")
    assert len(odd.seen) >= 2
    for headers in odd.seen:
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        key = headers["x-amz-server-side-encryption-aws-kms-key-id"]
        assert key == "arn:aws:kms:eu:1:key/a"


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("AccessDenied", "Access Denied", rclone_errors.Kind.READ_ONLY),
        ("AccessDenied", "protected by object lock", rclone_errors.Kind.LOCKED),
        ("ObjectLocked", "Object is WORM protected", rclone_errors.Kind.LOCKED),
    ],
)
def test_given_a_store_that_lets_nothing_be_deleted_when_tried_then_it_may_be_used_and_says_why(
    odd, bucket, code, message, kind
):
    odd.refusals = [store_proxy.Refusal("DELETE", 403, code, message)]
    far = reach(odd, bucket)
    assert code in far.check()
    with pytest.raises(rclone_errors.RemoteError) as caught:
        far.delete(next(entry.name for entry in far.list()))
    assert caught.value.kind is kind and caught.value.stays


def test_given_a_store_that_finds_our_clock_wrong_when_tried_then_the_clock_is_named(odd, bucket):
    words = "The difference between the request time and the current time is too large."
    odd.refusals = [store_proxy.Refusal("PUT", 403, "RequestTimeTooSkewed", words)]
    with pytest.raises(rclone_errors.RemoteError, match="clock of this unit is wrong") as caught:
        reach(odd, bucket).check()
    assert caught.value.kind is rclone_errors.Kind.CLOCK
