"""Which error it is that etcd, gRPC or a connection gave."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import errors

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

# What etcd says (rpctypes/error.go at 3.4 to 3.7) and which error it is.
_REFUSALS: tuple[tuple[str, type[errors.RefusedError], str], ...] = (
    ("unhealthy cluster", errors.UnhealthyError,
     "etcd refuses to change members now: a member is down, or the last change is under 5 s old"),
    ("not enough started members", errors.UnhealthyError,
     "etcd refuses to change members now: it would leave fewer started members than a quorum"),
    ("in sync with leader", errors.NotInSyncError,
     "the learner is not yet in sync with the leader"),
    ("too many learner", errors.TooManyLearnersError, "the cluster has a learner already"),
    ("member not found", errors.NoSuchMemberError, "the cluster has no such member"),
    ("not supported for learner", errors.LearnerError,
     "a learner does not serve this request"),
    ("permission denied", errors.PermissionDeniedError,
     "authentication is on and this client has no permission"),
    ("user name is empty", errors.PermissionDeniedError,
     "authentication is on and this client has no user name"),
    ("invalid auth token", errors.PermissionDeniedError,
     "authentication is on and this client's token is not valid"),
    ("database space exceeded", errors.NoSpaceError,
     "the database reached its quota: compact, defragment, then disarm the alarm"),
    ("corrupt cluster", errors.CorruptError, "a CORRUPT alarm is armed"),
    ("has been compacted", errors.CompactedError, "the revision was compacted"),
)  # fmt: skip

# etcd is there, but the cluster is not able to agree. The second value: it may apply it yet.
_NO_QUORUM = (
    ("no leader", False),
    ("leader changed", True),
    ("request timed out", True),
    ("server stopped", True),
    ("not leader", False),
    ("leader transfer", True),
    ("timed out", True),
)


@contextlib.contextmanager
def translated(endpoint: str, timeout: float) -> Generator[None]:
    """Turn gRPC's errors into ours."""
    import grpc  # type: ignore[import-untyped]

    try:
        yield
    except grpc.RpcError as error:
        raise translate(endpoint, error.code().name, error.details() or "", timeout) from error  # type: ignore[union-attr]


def translate(endpoint: str, code: str, details: str, timeout: float) -> errors.EtcdError:
    """The error for a gRPC status.

    Args:
        endpoint: who was asked.
        code: gRPC's name of the status.
        details: etcd's or gRPC's words.
        timeout: seconds that were allowed.
    """
    own = "etcdserver:" in details or details.startswith("rpc error")
    for words, kind, sentence in _REFUSALS:
        if words in details:
            return kind(sentence, details)
    if own:
        for words, sent in _NO_QUORUM:
            if words in details:
                return errors.NoQuorumError(
                    f"etcd at {endpoint} answers, but its cluster has no working quorum "
                    f"({_own_words(details)})",
                    sent,
                )
    if code == "DEADLINE_EXCEEDED":
        return errors.UnreachableError(
            f"{endpoint} did not answer within {timeout:.1f} s", sent=True
        )
    if code in ("UNAVAILABLE", "CANCELLED") and not own:
        reason, sent = _connection_reason(details)
        return errors.UnreachableError(f"{endpoint} cannot be reached: {reason}", sent)
    return errors.RefusedError(f"etcd at {endpoint} refused: {_own_words(details)}", details)


def _own_words(details: str) -> str:
    return details.replace("etcdserver: ", "").strip() or "no reason given"


def _connection_reason(details: str) -> tuple[str, bool]:
    # What happens to a connection that was made may happen to a request on its way.
    sent = not re.search(
        "failed to connect|^connect: |DNS resolution failed", details, re.IGNORECASE
    )
    for words, reason in (
        ("Connection refused", "connection refused"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "network is unreachable"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        ("Hostname Verification", "its certificate is for another name"),
        ("BAD_CERTIFICATE", "it does not trust our client certificate"),
        ("CERTIFICATE_REQUIRED", "it wants a client certificate"),
        ("UNKNOWN_CA", "it does not trust our client certificate"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("andshake", "the TLS handshake failed"),
        ("DNS resolution failed", "its name cannot be resolved"),
        ("imeout", "no answer to the connection attempt"),
    ):
        if words in details:
            return reason, sent
    if "failed to connect" in details:
        return "connection failed", False
    return re.sub(r"\s+", " ", details)[:200] or "connection lost", True


def summary(failures: Sequence[errors.EtcdError], sent: bool) -> errors.EtcdError:
    """One error for several endpoints' failures: the most telling kind.

    Args:
        failures: of one round, one for each endpoint.
        sent: some endpoint, in this round or an earlier one, may have applied the request.
    """
    if not failures:
        return errors.UnreachableError("no time was left to ask etcd", sent)
    for failure in failures:
        if isinstance(failure, errors.NoQuorumError):
            failure.sent = sent
            return failure
    for failure in failures:
        if isinstance(failure, errors.LearnerError):
            return failure
    if len(failures) == 1:
        return errors.UnreachableError(str(failures[0]), sent)
    reasons = "; ".join(str(failure) for failure in failures)
    return errors.UnreachableError(f"no etcd endpoint answered: {reasons}", sent)
