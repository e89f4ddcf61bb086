"""Looking at etcd through its JSON gateway, without gRPC.

Importing `etcd3` with its protobuf costs more than a whole hook of a small charm, and more memory
than the rest of the keeper. A hook on a healthy cluster only looks, and the keeper does little but
hold a key. So `client.Client` asks this way first for looks, single keys, leases and the
way of a learner into the cluster. It turns to gRPC for everything else, and whenever the gateway
cannot answer as gRPC would (it is switched off, it cannot dial itself, authentication is on: it
does not know a certificate's name).
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any

from machine import outside

if TYPE_CHECKING:
    import pathlib

# gRPC's numbers and names of the statuses that etcd uses.
_CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
    8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 11: "OUT_OF_RANGE", 13: "INTERNAL",
    14: "UNAVAILABLE", 15: "DATA_LOSS",
}  # fmt: skip
_IDENTITY = ("user name is empty", "permission denied", "auth token", "authentication")


class UnusableError(Exception):
    """The gateway cannot answer this; gRPC may."""


class StatusError(Exception):
    """Etcd answered with an error: gRPC's name of the status, and etcd's words."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


_LARGEST = 64 << 20  # bytes of an answer: etcd's page of metrics has 200 KiB


def _body(response: http.client.HTTPResponse) -> str:
    """All of an answer.

    Raises:
        http.client.HTTPException: it does not end.
    """
    raw = response.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise http.client.HTTPException("the answer does not end")
    return raw.decode(errors="replace")


def context(ca: pathlib.Path, cert: pathlib.Path, key: pathlib.Path) -> ssl.SSLContext:
    """A TLS context for a client; UnusableError when the files cannot be used."""
    try:
        made = ssl.create_default_context(cafile=str(ca))
        # From 3.13 Python insists on extensions that not every authority writes; etcd does not.
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        made.load_cert_chain(str(cert), str(key))
    except (OSError, ssl.SSLError) as error:
        raise UnusableError(str(error)) from error
    return made


def page(endpoint: str, path: str, tls: ssl.SSLContext, timeout: float) -> str:
    """GET a page of text from an endpoint.

    Raises:
        OSError: nobody answers, or with another status than 200.
    """
    parts = urllib.parse.urlsplit(endpoint)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 2379, timeout=timeout, context=tls
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = _body(response)
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if response.status != 200:
        raise ConnectionError(f"HTTP status {response.status}")
    return text


class Gateway:
    """A connection to one endpoint's gateway, kept between requests."""

    def __init__(self, endpoint: str, tls: ssl.SSLContext) -> None:
        parts = urllib.parse.urlsplit(endpoint)
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 2379, context=tls
        )
        self._served = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(
        self,
        path: str,
        body: dict[str, Any],
        timeout: float,
        need_leader: bool,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """POST a request, answer etcd's JSON; 64-bit numbers are strings in it.

        Args:
            path: `/v3/...`.
            body: the request.
            timeout: seconds.
            need_leader: refuse at once where no leader is known.
            repeatable: it may be sent twice.

        Raises:
            StatusError: etcd refused.
            UnusableError: ask through gRPC instead.
            OSError: nobody answers; TimeoutError when it took too long.
        """
        headers = {"Content-Type": "application/json"}
        if need_leader:
            headers["Grpc-Metadata-hasleader"] = "true"
        try:
            if not repeatable:  # a kept connection may have ended: nobody could tell what was done
                self._connect(timeout)
        except ssl.SSLError as error:
            raise UnusableError(str(error)) from error
        except OSError as error:
            raise ConnectionError(f"failed to connect: {error}") from error
        try:
            status, text = self._exchange(path, json.dumps(body), headers, timeout)
        except ConnectionError:
            raise
        except (ssl.SSLError, http.client.HTTPException) as error:
            if not repeatable:
                raise ConnectionResetError(str(error)) from error
            raise UnusableError(str(error)) from error
        try:
            answer = outside.json_object(text, _LARGEST)
        except outside.OutsideError as error:
            raise UnusableError(f"HTTP status {status}") from error
        if status == 200:
            return answer.get("result", answer)  # of a stream's only message
        details = str(answer.get("message") or answer.get("error") or "")
        code = _CODES.get(int(answer.get("code", 0) or 0))
        if code is None or "etcdserver:" not in details or any(w in details for w in _IDENTITY):
            raise UnusableError(f"HTTP status {status}")
        raise StatusError(code, details)

    def _exchange(
        self, path: str, body: str, headers: dict[str, str], timeout: float
    ) -> tuple[int, str]:
        kept = self._connection.sock is not None and self._served
        try:
            return self._exchange_once(path, body, headers, timeout)
        except TimeoutError:
            raise
        except (ConnectionError, ssl.SSLError, http.client.HTTPException):
            if not kept:  # a kept connection may have ended long ago
                raise
        return self._exchange_once(path, body, headers, timeout)

    def _connect(self, timeout: float) -> None:
        """A connection that carried nothing yet."""
        self._connection.close()
        self._served = False
        self._connection.timeout = timeout
        self._connection.connect()

    def _exchange_once(
        self, path: str, body: str, headers: dict[str, str], timeout: float
    ) -> tuple[int, str]:
        connection = self._connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            text = _body(response)
            self._served = True
            return response.status, text
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
