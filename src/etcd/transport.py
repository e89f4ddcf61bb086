"""How a request reaches a cluster: endpoint after endpoint, by the light way or the heavy one.

The gateway answers most of what a hook asks, without gRPC's import; where it cannot tell, gRPC
does. Both give answers in the shape of the gateway's.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, cast

import errors
from etcd import error_map, gateway, grpc_calls, responses

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from tls import pem_files


class Transport:
    """Requests to a cluster through several endpoints, tried in order."""

    def __init__(
        self, endpoints: Sequence[str], tls: pem_files.TLSFiles, timeout: float = 5.0
    ) -> None:
        """Remember where to connect; nothing is sent yet.

        Args:
            endpoints: client URLs, `https://198.18.0.10:2379`, tried in this order.
            tls: CA bundle to trust, client certificate and its key.
            timeout: seconds that a call may take in all, over all endpoints.
        """
        if not endpoints:
            raise errors.UnreachableError("no etcd endpoint is known")
        self.endpoints = tuple(dict.fromkeys(normal(e) for e in endpoints))
        self.timeout = timeout
        self._tls = tls
        self._connections: dict[str, Any] = {}
        self._gateways: dict[str, gateway.Gateway | None] = {}
        self._preferred = self.endpoints[0]

    def __enter__(self) -> Self:
        """Use as a context manager, so that channels are closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all channels."""
        self.close()

    def close(self) -> None:
        """Close all channels."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        for light in self._gateways.values():
            if light is not None:
                light.close()
        self._gateways.clear()
        self.__dict__.pop("_context", None)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        """What the gateways' connections share: files are read once."""
        return gateway.context(self._tls.ca, self._tls.cert, self._tls.key)

    def _page(self, endpoint: str, path: str, timeout: float) -> str:
        self._check_files()
        try:
            tls = gateway.context(self._tls.ca, self._tls.cert, self._tls.key)
            return gateway.page(endpoint, path, tls, timeout)
        except (OSError, gateway.UnusableError) as error:
            raise error_map.translate(endpoint, "UNAVAILABLE", str(error), timeout) from error

    def _look(self, endpoint: str, what: str, timeout: float) -> dict[str, Any]:
        """One look at one endpoint, in the shape of the gateway's answers.

        Args:
            endpoint: whom to ask.
            what: a key of `_LOOKS`.
            timeout: seconds.
        """
        began = time.monotonic()
        path, body = _LOOKS[what]
        facts = self._lightly(endpoint, path, body, timeout, what in _NEED_LEADER)
        if facts is not None:
            return facts
        timeout = max(timeout - (time.monotonic() - began), 0.1)
        rpc = grpc_calls.messages()
        if what == "read":
            answer = self._send(
                endpoint,
                "kvstub",
                "Range",
                grpc_calls.probe_range(rpc),
                timeout,
                grpc_calls.HAS_LEADER,
            )
            return {"header": responses.header_facts(answer)}
        if what == "status":
            request = rpc.StatusRequest()
            return responses.status_facts(
                self._send(endpoint, "maintenancestub", "Status", request, timeout)
            )
        if what == "alarms":
            request = rpc.AlarmRequest(action=0)
            answer = self._send(
                endpoint, "maintenancestub", "Alarm", request, timeout, grpc_calls.HAS_LEADER
            )
            return responses.alarm_facts(answer)
        request = rpc.MemberListRequest.FromString(b"\x08\x01" if what == "members" else b"")
        return responses.members_facts(
            self._send(endpoint, "clusterstub", "MemberList", request, timeout)
        )

    def _request(
        self, method: str, fields: dict[str, Any], repeatable: bool = True
    ) -> dict[str, Any]:
        """One request to the cluster, in the shape of the gateway's answers.

        Args:
            method: a key of `_PATHS`.
            fields: the request's, by etcd's names.
            repeatable: it may be sent twice.
        """
        path, body = _PATHS[method], _json(fields)

        def ask(endpoint: str, timeout: float) -> dict[str, Any]:
            began = time.monotonic()
            facts = self._lightly(endpoint, path, body, timeout, True, repeatable)
            if facts is not None:
                return facts
            left = max(timeout - (time.monotonic() - began), 0.1)
            return self._heavily(endpoint, method, fields, left)

        return self._failover(ask, repeatable=repeatable)

    def _heavily(
        self, endpoint: str, method: str, fields: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        """What `_request` asks, through gRPC."""
        rpc = grpc_calls.messages()
        if method == "Range":
            request = rpc.RangeRequest(**fields)
            return responses.range_facts(
                self._send(endpoint, "kvstub", method, request, timeout, grpc_calls.HAS_LEADER)
            )
        if method == "Txn":
            request = grpc_calls.txn_request(rpc, fields)
            answer = self._send(
                endpoint, "kvstub", method, request, timeout, grpc_calls.HAS_LEADER
            )
            return {"header": responses.header_facts(answer), "succeeded": answer.succeeded}
        if method == "MemberAdd":
            plain = rpc.MemberAddRequest(peerURLs=fields["peerURLs"]).SerializeToString()
            request = rpc.MemberAddRequest.FromString(plain + b"\x10\x01")  # isLearner = true
            answer = self._send(
                endpoint, "clusterstub", method, request, timeout, grpc_calls.HAS_LEADER
            )
            return {
                "member": responses.member_facts(answer.member),
                **responses.members_facts(answer),
            }
        if method == "MemberPromote":
            request = rpc.MemberRemoveRequest(**fields)
            self._send(endpoint, "", method, request, timeout, grpc_calls.HAS_LEADER)
            return {}
        if method == "LeaseKeepAlive":
            stub = self._connect(endpoint).leasestub
            with error_map.translated(endpoint, timeout):
                requests = iter([rpc.LeaseKeepAliveRequest(**fields)])
                stream = stub.LeaseKeepAlive(requests, timeout=timeout)
                for response in stream:
                    stream.cancel()
                    return {"TTL": response.TTL}
            return {}
        request = getattr(rpc, f"{method}Request")(**fields)
        answer = self._send(endpoint, "leasestub", method, request, timeout, grpc_calls.HAS_LEADER)
        return {"ID": answer.ID} if method == "LeaseGrant" else {}

    def _lightly(
        self,
        endpoint: str,
        path: str,
        body: dict[str, Any],
        timeout: float,
        need_leader: bool,
        repeatable: bool = True,
    ) -> dict[str, Any] | None:
        """The gateway's answer; None where gRPC has to be asked."""
        light = self._gateway(endpoint)
        if light is None:
            return None
        try:
            return light.ask(path, body, timeout, need_leader, repeatable)
        except gateway.StatusError as error:
            raise error_map.translate(endpoint, error.code, error.details, timeout) from error
        except gateway.UnusableError:
            self._gateways[endpoint] = None
            light.close()
            return None
        except TimeoutError as error:
            raise error_map.translate(endpoint, "DEADLINE_EXCEEDED", "", timeout) from error
        except OSError as error:
            raise error_map.translate(endpoint, "UNAVAILABLE", str(error), timeout) from error

    def _gateway(self, endpoint: str) -> gateway.Gateway | None:
        """The light way to an endpoint; None when gRPC is loaded already, or has to do it."""
        if endpoint in self._gateways:
            return self._gateways[endpoint]
        made = None
        if not grpc_calls.loaded():
            self._check_files()
            with contextlib.suppress(gateway.UnusableError):
                made = gateway.Gateway(endpoint, self._context)
        self._gateways[endpoint] = made
        return made

    def _check_files(self) -> None:
        for path in (self._tls.ca, self._tls.cert, self._tls.key):
            if not path.is_file():
                raise errors.UnreachableError(f"there is no TLS file {path} to connect with")

    def _connect(self, endpoint: str) -> Any:
        if endpoint not in self._connections:
            self._check_files()
            parts = urllib.parse.urlsplit(endpoint)
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            self._connections[endpoint] = grpc_calls.etcd3().client(
                host=host,
                port=parts.port or 2379,
                ca_cert=str(self._tls.ca),
                cert_cert=str(self._tls.cert),
                cert_key=str(self._tls.key),
                timeout=self.timeout,
                grpc_options=grpc_calls.OPTIONS,
            )
        return self._connections[endpoint]

    def _send(
        self,
        endpoint: str,
        stub: str,
        method: str,
        request: Any,
        timeout: float,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """One request to one endpoint; `stub` is "" for calls that etcd3 does not know."""
        connection = self._connect(endpoint)
        call = (
            getattr(getattr(connection, stub), method)
            if stub
            else grpc_calls.undeclared(connection, method)
        )
        with error_map.translated(endpoint, timeout):
            return call(request, timeout=timeout, metadata=metadata)

    def _call(self, stub: str, method: str, request: Any, repeatable: bool = True) -> Any:
        return self._failover(
            lambda endpoint, timeout: self._send(
                endpoint, stub, method, request, timeout, grpc_calls.HAS_LEADER
            ),
            repeatable=repeatable,
        )

    def _failover(
        self,
        ask: Callable[[str, float], Any],
        timeout: float | None = None,
        repeatable: bool = True,
    ) -> Any:
        """Ask endpoint after endpoint within one deadline, the one that answered last first.

        An election that is under way is waited for, up to half of the time.

        Args:
            ask: called with an endpoint and its seconds; raises our errors.
            timeout: seconds in all.
            repeatable: a request that may have been applied can be sent again.
        """
        limit = self.timeout if timeout is None else timeout
        until = time.monotonic() + limit
        sent = False
        while True:
            failures: list[errors.EtcdError] = []
            order = sorted(self.endpoints, key=lambda e: e != self._preferred)
            for position, endpoint in enumerate(order):
                left = until - time.monotonic()
                if left <= 0:
                    break
                share = max(left / (len(order) - position), min(left, 1.0))
                try:
                    answer = ask(endpoint, share)
                except (errors.UnfinishedError, errors.LearnerError) as error:
                    sent = sent or (isinstance(error, errors.UnfinishedError) and error.sent)
                    if sent and not repeatable:
                        raise
                    failures.append(error)
                else:
                    self._preferred = endpoint
                    return answer
            failure = error_map.summary(failures, sent)
            if not isinstance(failure, errors.NoQuorumError):
                raise failure
            if until - time.monotonic() < limit / 2:
                raise failure
            time.sleep(0.2)

    def _patiently(self, attempt: Callable[[], Any], deadline: float) -> Any:
        """Repeat while etcd's health rule or an election stands in the way, within `deadline`."""
        until = time.monotonic() + deadline
        while True:
            try:
                return attempt()
            except (errors.UnhealthyError, errors.NoQuorumError):
                if time.monotonic() >= until:
                    raise
            time.sleep(0.5)


def normal(endpoint: str) -> str:
    """A client URL as we write it: with its scheme, without a slash at its end."""
    url = endpoint if "://" in endpoint else f"https://{endpoint}"
    return url.rstrip("/")


# Requests: the gateway's path.
_PATHS = {
    "Range": "/v3/kv/range",
    "Txn": "/v3/kv/txn",
    "LeaseGrant": "/v3/lease/grant",
    "LeaseKeepAlive": "/v3/lease/keepalive",
    "LeaseRevoke": "/v3/lease/revoke",
    "MemberAdd": "/v3/cluster/member/add",
    "MemberPromote": "/v3/cluster/member/promote",
}


def _json(fields: Any) -> Any:
    """A request as the gateway wants it: bytes in base64, 64-bit numbers as text."""
    if isinstance(fields, dict):
        return {name: _json(value) for name, value in cast("dict[str, Any]", fields).items()}
    if isinstance(fields, list):
        return [_json(value) for value in cast("list[Any]", fields)]
    if isinstance(fields, bytes):
        return base64.b64encode(fields).decode()
    return str(fields) if type(fields) is int else fields


# Looks: the gateway's path and request; gRPC's answers are brought into the same shape.
_LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("/v3/kv/range", {"key": "aGVhbHRo", "limit": 1, "keys_only": True}),
    "status": ("/v3/maintenance/status", {}),
    "alarms": ("/v3/maintenance/alarm", {"action": "GET"}),
    "members": ("/v3/cluster/member/list", {"linearizable": True}),
    "local members": ("/v3/cluster/member/list", {}),
}
_NEED_LEADER = ("read", "alarms")
