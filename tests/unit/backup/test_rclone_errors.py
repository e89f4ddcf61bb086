"""How rclone's words become ours."""

from __future__ import annotations

import pytest

from backup import rclone_errors


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (1, "x509: certificate signed by unknown authority", rclone_errors.Kind.CA),
        (1, "write /mnt/x: no space left on device", rclone_errors.Kind.FULL),
        (1, "InsufficientStorage: 507", rclone_errors.Kind.FULL),
        (1, "SignatureDoesNotMatch: no\n\tstatus code: 403", rclone_errors.Kind.CREDENTIALS),
        (1, "InvalidAccessKeyId: no\n\tstatus code: 403", rclone_errors.Kind.CREDENTIALS),
        (1, "AccessDenied: Access Denied\n\tstatus code: 403", rclone_errors.Kind.READ_ONLY),
        (1, "open /x: read-only file system", rclone_errors.Kind.READ_ONLY),
        (1, "RequestTimeTooSkewed: too large\n\tstatus code: 403", rclone_errors.Kind.CLOCK),
        (1, "AccessDenied: because object protected by object lock", rclone_errors.Kind.LOCKED),
        (1, "ObjectLocked: Object, 'x' is WORM protected", rclone_errors.Kind.LOCKED),
        (1, "403: Object is subject to bucket's retention policy", rclone_errors.Kind.LOCKED),
        (1, "409 BlobImmutableDueToPolicy", rclone_errors.Kind.LOCKED),
        (1, "dial tcp 127.0.0.1:9: connect: connection refused", rclone_errors.Kind.UNREACHABLE),
        (1, "lookup nowhere.invalid: no such host", rclone_errors.Kind.UNREACHABLE),
        (1, "read: connection reset by peer", rclone_errors.Kind.LOST),
        (1, "unexpected EOF", rclone_errors.Kind.LOST),
        (1, "InternalError: Internal Error\n\tstatus code: 500", rclone_errors.Kind.SERVER),
        (1, "503 Service Unavailable", rclone_errors.Kind.SERVER),
        (3, "directory not found", rclone_errors.Kind.NOT_FOUND),
        (4, "object not found", rclone_errors.Kind.NOT_FOUND),
        (1, "NoSuchBucket: The specified bucket does not exist", rclone_errors.Kind.NOT_FOUND),
        (1, "didn't find section in config file", rclone_errors.Kind.CONFIG),
        (1, "corrupted on transfer: sizes differ 1 vs 2", rclone_errors.Kind.CORRUPT),
        (1, "", rclone_errors.Kind.OTHER),
        (1, "something new", rclone_errors.Kind.OTHER),
    ],
)
def test_given_rclones_words_when_classified_then_the_kind(code, said, kind):
    found, reason = rclone_errors.classify(code, said)
    assert found is kind
    assert reason and "\n" not in reason


def test_given_the_numbers_of_a_request_when_classified_then_the_cause_above_them_is_the_reason():
    said = "Failed to rcat: InternalError: no room\n\tstatus code: 500, request id: , host id: "
    assert rclone_errors.classify(1, said) == (rclone_errors.Kind.SERVER, "InternalError: no room")


def test_given_long_words_when_classified_then_cut():
    _, reason = rclone_errors.classify(
        1, "2026/01/01 00:00:00 ERROR : x: Failed to copy: " + "y" * 5000
    )
    assert len(reason) <= 240


def test_given_words_with_a_secret_of_the_configuration_when_refused_then_it_is_not_shown():
    config = "[vault]\ntype = s3\nsecret_access_key = hunter22\nregion = eu-west\n"
    said = "Failed to rcat: InvalidToken: hunter22 of eu-west"
    error = rclone_errors.refusal("vault:b", 1, said, config)
    assert str(error) == "vault:b refuses the credentials: InvalidToken: *** of eu-west"
    assert error.kind is rclone_errors.Kind.CREDENTIALS
    assert not error.passing
