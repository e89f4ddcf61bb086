"""Requests by gRPC: `etcd3`, and the messages and fields that it lacks.

`etcd3` 0.12.0 gives the TLS channel, the stubs and the messages. It does not import with a current
protobuf unless the pure Python implementation is chosen first, and its import costs more than a
hook, and more memory than the keeper: it happens at the first call.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Any

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
    # A fixed window for what etcd streams ahead of its reader: gRPC's own measuring lets it grow
    # with the size of a snapshot, and so the memory of whoever takes one.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
    # A snapshot is read by the thread that waits for it: a quarter less of its CPU time.
    ("SingleThreadedUnaryStream", 1),
)
# etcd answers at once instead of waiting when it sees no leader.
HAS_LEADER = (("hasleader", "true"),)
_importing = threading.Lock()


def loaded() -> bool:
    """The import is paid for already."""
    return "etcd3" in sys.modules


def etcd3() -> Any:
    """The package, imported at the first call."""
    with _importing:
        os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import etcd3  # type: ignore[import-untyped]
    return etcd3


def messages() -> Any:
    """The generated messages of etcd's API."""
    return etcd3().etcdrpc


def same(data: bytes) -> bytes:
    """A message as it came, for a reader of its own."""
    return data


def undeclared(connection: Any, method: str) -> Any:
    """Calls that etcd3's definitions lack, in the shape of messages that they have."""
    rpc = messages()
    if method == "MemberPromote":
        return connection.channel.unary_unary(
            "/etcdserverpb.Cluster/MemberPromote",
            request_serializer=rpc.MemberRemoveRequest.SerializeToString,
            response_deserializer=rpc.MemberRemoveResponse.FromString,
        )
    return connection.channel.unary_unary(
        f"/etcdserverpb.Auth/{method}",
        request_serializer=rpc.StatusRequest.SerializeToString,
        response_deserializer=same,
    )


def probe_range(rpc: Any) -> Any:
    """The request of a read that a quorum has to agree to."""
    return rpc.RangeRequest(key=b"health", keys_only=True, limit=1)


def txn_request(rpc: Any, fields: dict[str, Any]) -> Any:
    """The message of `Client._txn`'s request."""
    kinds = {
        "request_put": rpc.PutRequest,
        "request_delete_range": rpc.DeleteRangeRequest,
    }
    compare = [
        rpc.Compare(result=rpc.Compare.EQUAL, **{**each, "target": rpc.Compare.MOD})
        for each in fields["compare"]
    ]
    success = [
        rpc.RequestOp(**{kind: kinds[kind](**given) for kind, given in each.items()})
        for each in fields["success"]
    ]
    return rpc.TxnRequest(compare=compare, success=success)
