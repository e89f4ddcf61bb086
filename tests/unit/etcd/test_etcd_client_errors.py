"""gRPC's errors become sentences of a telling kind."""

from __future__ import annotations

import pathlib

import pytest

import errors
from cluster import view as views
from etcd import client as clients
from etcd import error_map, protowire, responses
from tls import pem_files

URL = "https://198.18.0.10:2379"


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "etcdserver: unhealthy cluster", errors.UnhealthyError),
        (
            "FAILED_PRECONDITION",
            "etcdserver: re-configuration failed due to not enough started members",
            errors.UnhealthyError,
        ),
        (
            "FAILED_PRECONDITION",
            "etcdserver: can only promote a learner member which is in sync with leader",
            errors.NotInSyncError,
        ),
        (
            "FAILED_PRECONDITION",
            "etcdserver: too many learner members in cluster",
            errors.TooManyLearnersError,
        ),
        ("NOT_FOUND", "etcdserver: member not found", errors.NoSuchMemberError),
        ("UNAVAILABLE", "etcdserver: rpc not supported for learner", errors.LearnerError),
        ("UNAVAILABLE", "etcdserver: no leader", errors.NoQuorumError),
        ("UNAVAILABLE", "etcdserver: leader changed", errors.NoQuorumError),
        ("UNAVAILABLE", "etcdserver: request timed out", errors.NoQuorumError),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", errors.PermissionDeniedError),
        ("PERMISSION_DENIED", "etcdserver: permission denied", errors.PermissionDeniedError),
        (
            "RESOURCE_EXHAUSTED",
            "etcdserver: mvcc: database space exceeded",
            errors.NoSpaceError,
        ),
        ("DATA_LOSS", "etcdserver: corrupt cluster", errors.CorruptError),
        (
            "OUT_OF_RANGE",
            "etcdserver: mvcc: required revision has been compacted",
            errors.CompactedError,
        ),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.UnreachableError),
        ("UNAVAILABLE", "failed to connect to all addresses", errors.UnreachableError),
    ],
)
def test_given_a_grpc_status_when_translated_then_the_kind_and_one_line_are_right(
    code, details, kind
):
    error = error_map.translate(URL, code, details, 2.0)
    assert type(error) is kind
    assert str(error) and "\n" not in str(error)


def test_given_an_unsent_request_when_translated_then_it_may_be_sent_again():
    refused = error_map.translate(URL, "UNAVAILABLE", "connect: Connection refused (111)", 2.0)
    late = error_map.translate(URL, "DEADLINE_EXCEEDED", "", 2.0)
    assert isinstance(refused, errors.UnreachableError) and not refused.sent
    assert isinstance(late, errors.UnreachableError) and late.sent
    assert "2.0 s" in str(late)


def test_given_a_joiner_when_its_initial_cluster_is_made_then_only_it_gets_its_new_name():
    known = views.Member(1, "etcd-0", ("https://198.18.0.10:2380",))
    new = views.Member(2, "", ("https://198.18.0.11:2380",), learner=True)
    added = responses.Added(new, responses.Membership((known, new), 7, 1))
    assert added.initial_cluster("etcd-1") == (
        "etcd-0=https://198.18.0.10:2380,etcd-1=https://198.18.0.11:2380"
    )


def test_given_no_endpoint_when_a_client_is_made_then_it_says_so(tmp_path):
    tls = pem_files.TLSFiles(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    with pytest.raises(errors.UnreachableError, match="no etcd endpoint"):
        clients.Client([], tls)
    with pytest.raises(errors.UnreachableError, match="no TLS file"):
        clients.Client([URL], tls).members()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_given_a_number_when_written_and_read_then_it_is_the_same(value):
    encoded = protowire.encoded(value)
    assert protowire.varint(encoded, 0) == (value, len(encoded))


@pytest.mark.parametrize("data", [b"\x80", b"\xff" * 11, b"\x0a\x05ab", b"\x0b", b"\x09\x00"])
def test_given_broken_messages_when_walked_then_it_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        list(protowire.walk(data))


def test_given_a_message_when_walked_then_unknown_fields_are_found():
    data = b"\x28\x01" + b"\x42\x03abc" + b"\x42\x01d" + b"\x48\xac\x02"
    assert protowire.number(data, 5) == 1
    assert protowire.number(data, 9) == 300
    assert protowire.number(data, 6, 9) == 9
    assert protowire.chunk(data, 8) == b"d"
    assert protowire.chunks(memoryview(data), 8) == [b"abc", b"d"]


def test_given_a_connection_that_ends_when_translated_then_the_request_may_be_on_its_way():
    made = error_map.translate(URL, "UNAVAILABLE", "ping timeout", 2.0)
    broken = error_map.translate(URL, "UNAVAILABLE", "sendmsg: No route to host (113)", 2.0)
    details = "failed to connect to all addresses; last error: connection attempt timed out"
    never = error_map.translate(URL, "UNAVAILABLE", details, 2.0)
    assert [getattr(error, "sent", None) for error in (made, broken, never)] == [True, True, False]


def test_given_an_earlier_round_that_may_have_applied_it_when_all_fail_then_so_it_says():
    answers = iter(
        [
            errors.NoQuorumError("stopped", sent=True),
            errors.UnreachableError("connection refused"),
        ]
    )

    def ask(_: str, __: float) -> None:
        raise next(answers)

    tls = pem_files.TLSFiles(*map(pathlib.Path, ("ca", "cert", "key")))
    online = clients.Client([URL], tls, timeout=3)
    with pytest.raises(errors.UnreachableError) as caught:
        online._failover(ask)
    assert caught.value.sent
