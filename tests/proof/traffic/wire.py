"""etcd's own calls over gRPC, one at a time, with the headers of the answers.

The stubs are those of the package etcd3; what they lack is written as bytes. Nothing is tried
again and nothing is hidden: who asks sees which member answered, and what an error proves.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
import warnings
from typing import TYPE_CHECKING, Any

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"  # etcd3's messages need it
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # members that refuse are recorded, not told

import grpc

with warnings.catch_warnings():  # its generated code is older than the protobuf here
    warnings.simplefilter("ignore")
    from etcd3 import etcdrpc as rpc

from proof import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # As Kubernetes' clients do; etcd refuses pings that come more often than every 5 s.
    ("grpc.keepalive_time_ms", 10000),
    ("grpc.keepalive_timeout_ms", 5000),
)
LEADER = (("hasleader", "true"),)
"""Metadata by which etcd answers at once where it sees no leader."""
PROGRESS = b"\x1a\x00"  # WatchRequest.progress_request
NO_PASSWORD = b"\x1a\x02\x08\x01"  # AuthUserAddRequest.options.no_password

# What the server says before it proposes anything, or when it applied nothing.
_NOTHING_DONE = (
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: corrupt cluster",
    "etcdserver: alarm",
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not capable",
    "etcdserver: user name",
    "etcdserver: role name",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: permission denied",
    "etcdserver: mvcc: required revision",
)
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "Failed to pick subchannel",
)


@dataclasses.dataclass(frozen=True)
class Credentials:
    """PEM of the authorities to believe, and of a client's certificate with its key."""

    ca: bytes
    cert: bytes
    key: bytes

    @classmethod
    def read(cls, folder: pathlib.Path) -> Credentials:
        """What `generate-client-certificates` hands out, unpacked in a folder."""
        where = next(folder.rglob("ca.crt")).parent
        return cls(
            *((where / name).read_bytes() for name in ("ca.crt", "client.crt", "client.key"))
        )


@dataclasses.dataclass
class Failed(Exception):
    """A call without an answer, or with an error for one.

    Attributes:
        text: what was said.
        outcome: what it proves.
    """

    text: str
    outcome: records.Outcome

    @property
    def silent(self) -> bool:
        """Whether the member did not answer, or cannot now: another one may."""
        code = self.text.partition(":")[0]
        return code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "CANCELLED")


class Connection:
    """A channel to one member with the calls that the traffic makes; one for each client."""

    def __init__(self, endpoint: str, credentials: Credentials) -> None:
        """Make the channel; it connects at the first call.

        Args:
            endpoint: `198.18.0.10:2379`.
            credentials: of the client.
        """
        self.endpoint = endpoint
        self._channel = grpc.secure_channel(
            endpoint,
            grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.cert),
            options=OPTIONS,
        )
        kv, lease = rpc.KVStub(self._channel), rpc.LeaseStub(self._channel)
        auth = rpc.AuthStub(self._channel)
        self.range = _bounded(kv.Range)
        self.put = _bounded(kv.Put)
        self.txn = _bounded(kv.Txn)
        self.lease_grant = _bounded(lease.LeaseGrant)
        self.lease_revoke = _bounded(lease.LeaseRevoke)
        self.lease_list = _bounded(
            self._channel.unary_unary(
                "/etcdserverpb.Lease/LeaseLeases",
                request_serializer=rpc.LeaseLeasesRequest.SerializeToString,
                response_deserializer=rpc.LeaseLeasesResponse.FromString,
            )
        )
        self.user_add = _bounded(
            self._channel.unary_unary(
                "/etcdserverpb.Auth/UserAdd",
                request_serializer=lambda ask: ask.SerializeToString() + NO_PASSWORD,
                response_deserializer=rpc.AuthUserAddResponse.FromString,
            )
        )
        self.user_delete = _bounded(auth.UserDelete)
        self.user_list = _bounded(auth.UserList)
        self.role_add = _bounded(auth.RoleAdd)
        self.role_delete = _bounded(auth.RoleDelete)
        self.role_list = _bounded(auth.RoleList)
        self.status = _bounded(rpc.MaintenanceStub(self._channel).Status)
        self._watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda raw: raw,
            response_deserializer=rpc.WatchResponse.FromString,
        )

    def close(self) -> None:
        """End all calls."""
        self._channel.close()

    def watch(self, prefix: str, start: int, stop: threading.Event, every: float) -> Any:
        """A watch of a prefix with prev_kv, which asks for progress all the time.

        Args:
            prefix: of the keys.
            start: first revision, 0 for "from now".
            stop: ends the asking.
            every: seconds between two questions for progress.

        Returns:
            gRPC's call: iterate over it for `WatchResponse`s, `cancel()` it.
        """

        def requests() -> Iterator[bytes]:
            create = rpc.WatchCreateRequest(
                key=prefix.encode(),
                range_end=end_of(prefix),
                start_revision=start,
                prev_kv=True,
                progress_notify=True,
            )
            yield rpc.WatchRequest(create_request=create).SerializeToString()
            while not stop.wait(every):
                yield PROGRESS

        return self._watch(requests(), metadata=LEADER)


def _bounded(method: Any) -> Callable[..., Any]:
    """`method(request, seconds)`, which raises `Failed`."""

    def call(request: Any, seconds: float) -> Any:
        try:
            return method(request, timeout=seconds, metadata=LEADER)
        except grpc.RpcError as error:
            raise failed(error) from None
        except ValueError as error:  # the channel was closed
            raise Failed(str(error), records.Outcome.REFUSED) from None

    return call


def failed(error: Any) -> Failed:
    """What an error of gRPC says and proves."""
    code, details = error.code(), error.details() or ""
    nothing = any(words in details for words in (*_NOTHING_DONE, *_NOT_CONNECTED))
    outcome = records.Outcome.REFUSED if nothing else records.Outcome.UNKNOWN
    return Failed(f"{code.name}: {details}"[:200], outcome)


def end_of(prefix: str) -> bytes:
    """The key after all keys with a prefix."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def header(raw: Any) -> records.Header:
    """A header as it is recorded."""
    return records.Header(raw.cluster_id, raw.member_id, raw.revision, raw.raft_term)


def kv(raw: Any) -> records.KV:
    """A version of a key as it is recorded."""
    return records.KV(
        raw.key.decode(),
        raw.value.decode(),
        raw.create_revision,
        raw.mod_revision,
        raw.version,
        raw.lease,
    )


def kvs(raw: Iterable[Any]) -> tuple[records.KV, ...]:
    """Several of them."""
    return tuple(kv(each) for each in raw)


def event(raw: Any) -> records.Event:
    """An event of a watch as it is recorded."""
    prev = kv(raw.prev_kv) if raw.HasField("prev_kv") else None
    return records.Event(kv(raw.kv), raw.type == raw.DELETE, prev)
