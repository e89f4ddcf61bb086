"""One operation of a client: what is sent, and what of the answer is recorded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from proof import records
from proof.traffic import wire
from proof.traffic.wire import rpc

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = records.Kind


def carry_out(
    connection: wire.Connection, asked: records.Operation, seconds: float
) -> dict[str, Any]:
    """Ask etcd; answers with what is to be recorded of it.

    Args:
        connection: to the member that is asked.
        asked: the operation as it stands before the answer.
        seconds: how long to wait.

    Raises:
        wire.Failed: there was no answer, or an error.
    """
    return _DO[asked.kind](connection, asked, seconds)


def _range(prefix: bool) -> Callable[..., dict[str, Any]]:
    def do(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
        request = rpc.RangeRequest(key=asked.key.encode(), serializable=not asked.linearizable)
        if prefix:
            request.range_end = wire.end_of(asked.key)
        answer = to.range(request, seconds)
        return {"header": wire.header(answer.header), "kvs": wire.kvs(answer.kvs)}

    return do


def _put(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    answer = to.put(_putting(asked.key, asked.value, asked.lease), seconds)
    prev = wire.kv(answer.prev_kv) if answer.HasField("prev_kv") else None
    return {"header": wire.header(answer.header), "prev": prev}


def _putting(key: str, value: str, lease: int = 0) -> Any:
    return rpc.PutRequest(key=key.encode(), value=value.encode(), lease=lease, prev_kv=True)


def _cas(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    compare = rpc.Compare(
        result=rpc.Compare.EQUAL,
        target=rpc.Compare.MOD,
        key=asked.key.encode(),
        mod_revision=asked.expected,
    )
    put = rpc.RequestOp(request_put=_putting(asked.key, asked.value))
    answer = to.txn(_txn(compare, [put], asked.key), seconds)
    prev = None
    if answer.succeeded and answer.responses[0].response_put.HasField("prev_kv"):
        prev = wire.kv(answer.responses[0].response_put.prev_kv)
    return {**_branch(answer), "prev": prev}


def _delete(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    key = asked.key.encode()
    compare = rpc.Compare(
        result=rpc.Compare.GREATER, target=rpc.Compare.VERSION, key=key, version=0
    )
    delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, prev_kv=True))
    mark = rpc.RequestOp(request_put=_putting(asked.marker, asked.value))
    answer = to.txn(_txn(compare, [delete, mark], asked.key), seconds)
    prev = None
    if answer.succeeded:
        replaced = answer.responses[0].response_delete_range.prev_kvs
        prev = wire.kv(replaced[0]) if replaced else None
    return {**_branch(answer), "prev": prev}


def _txn(compare: Any, success: list[Any], key: str) -> Any:
    read = rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))
    return rpc.TxnRequest(compare=[compare], success=success, failure=[read])


def _branch(answer: Any) -> dict[str, Any]:
    read = () if answer.succeeded else wire.kvs(answer.responses[0].response_range.kvs)
    found = {"header": wire.header(answer.header), "succeeded": answer.succeeded}
    return {**found, "kvs": read}


def _lease_grant(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    answer = to.lease_grant(rpc.LeaseGrantRequest(TTL=int(asked.ttl), ID=int(asked.key)), seconds)
    return {"header": wire.header(answer.header), "ttl": float(answer.TTL)}


def _lease_revoke(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    answer = to.lease_revoke(rpc.LeaseRevokeRequest(ID=int(asked.key)), seconds)
    return {"header": wire.header(answer.header)}


def _lease_list(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
    answer = to.lease_list(rpc.LeaseLeasesRequest(), seconds)
    names = tuple(sorted(str(each.ID) for each in answer.leases))
    return {"header": wire.header(answer.header), "names": names}


def _named(method: str, request: Any) -> Callable[..., dict[str, Any]]:
    def do(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
        answer = getattr(to, method)(request(asked.key), seconds)
        return {"header": wire.header(answer.header)}

    return do


def _names(method: str, request: Any, field: str) -> Callable[..., dict[str, Any]]:
    def do(to: wire.Connection, asked: records.Operation, seconds: float) -> dict[str, Any]:
        answer = getattr(to, method)(request(), seconds)
        names = tuple(sorted(getattr(answer, field)))
        return {"header": wire.header(answer.header), "names": names}

    return do


_DO: dict[Kind, Callable[..., dict[str, Any]]] = {
    Kind.GET: _range(False),
    Kind.LIST: _range(True),
    Kind.PUT: _put,
    Kind.CAS: _cas,
    Kind.DELETE: _delete,
    Kind.LEASE_GRANT: _lease_grant,
    Kind.LEASE_REVOKE: _lease_revoke,
    Kind.LEASE_LIST: _lease_list,
    Kind.USER_ADD: _named("user_add", lambda name: rpc.AuthUserAddRequest(name=name)),
    Kind.USER_DELETE: _named("user_delete", lambda name: rpc.AuthUserDeleteRequest(name=name)),
    Kind.USER_LIST: _names("user_list", rpc.AuthUserListRequest, "users"),
    Kind.ROLE_ADD: _named("role_add", lambda name: rpc.AuthRoleAddRequest(name=name)),
    Kind.ROLE_DELETE: _named("role_delete", lambda name: rpc.AuthRoleDeleteRequest(role=name)),
    Kind.ROLE_LIST: _names("role_list", rpc.AuthRoleListRequest, "roles"),
}


def done(asked: records.Operation, at: float, found: dict[str, Any]) -> records.Operation:
    """The operation with its answer."""
    return dataclasses.replace(asked, answered=at, outcome=records.Outcome.OK, **found)


def undone(asked: records.Operation, at: float, error: wire.Failed) -> records.Operation:
    """The operation with its error."""
    return dataclasses.replace(asked, answered=at, outcome=error.outcome, error=error.text)
