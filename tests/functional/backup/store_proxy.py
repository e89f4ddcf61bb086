"""An HTTP proxy with TLS in front of a real S3 server, which answers as other stores do.

What it lets through keeps its signature: the request goes on as it came.
"""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import email.utils
import hashlib
import http.client
import http.server
import re
import ssl
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functional import signing

_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")
_ERROR = (
    "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message>"
    "<RequestId>1</RequestId></Error>"
)


@dataclasses.dataclass
class Refusal:
    """What the store says instead: to one method, for keys with a pattern."""

    method: str
    status: int
    code: str
    message: str = "no"
    key: str = ""


class StoreProxy:
    """Set `etags`, `refusals` or `behind_clock`, and all answers are so from then on.

    Attributes:
        etags: every ETag is 32 hexadecimal digits that are no MD5 of anything.
        refusals: what is refused.
        ahead: seconds by which the store's own clock is ahead of the server's behind it.
        seen: headers of all uploads, names in lower case.
    """

    def __init__(self, behind: int, authority: signing.Authority) -> None:
        self.behind = behind
        self.etags = False
        self.refusals: list[Refusal] = []
        self.ahead = 0.0
        self.seen: list[dict[str, str]] = []
        self._real: dict[str, str] = {}
        self.ca = authority.pem.read_text()
        self._trust = ssl.create_default_context(cadata=self.ca)
        pair = authority.issue("store-proxy")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self})
        )
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def refusal(self, method: str, key: str) -> Refusal | None:
        fitting = (r for r in self.refusals if r.method == method and re.search(r.key, key))
        return next(fitting, None)

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.behind, timeout=30, context=self._trust
        )
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def altered(self, name: str, value: str) -> str:
        if self.etags and name.lower() == "etag":
            return f'"{self._no_md5(value)}"'
        if self.ahead and name.lower() == "last-modified":
            moved = email.utils.parsedate_to_datetime(value).timestamp() + self.ahead
            return email.utils.formatdate(moved, usegmt=True)
        return value

    def listed(self, body: bytes) -> bytes:
        if self.etags:
            body = re.sub(
                rb"<ETag>(.*?)</ETag>",
                lambda m: b"<ETag>&#34;%s&#34;</ETag>" % self._no_md5(m[1].decode()).encode(),
                body,
            )
        if self.ahead:
            body = re.sub(rb"<LastModified>(.*?)</LastModified>", self._moved, body)
        return body

    def _no_md5(self, value: str) -> str:
        """What the store calls it instead, known again when a client names it."""
        real = value.replace("&#34;", "").replace("&quot;", "").strip('"')
        told = hashlib.sha256(real.encode()).hexdigest()[:32]
        self._real[told] = real
        return told

    def restored(self, body: bytes) -> bytes:
        """A client's list of the parts of an upload, as the server behind knows them."""
        for told, real in list(self._real.items()):
            body = body.replace(told.encode(), real.encode())
        return body

    def _moved(self, match: re.Match[bytes]) -> bytes:
        then = time.strptime(match[1].decode()[:19], "%Y-%m-%dT%H:%M:%S")
        moved = time.gmtime(calendar.timegm(then) + self.ahead)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", moved)
        return b"<LastModified>%s</LastModified>" % stamp.encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    proxy: StoreProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        headers = dict(self.headers.items())
        if self.headers.get("Expect", "").lower() == "100-continue":
            headers.pop("Expect", None)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT":
            self.proxy.seen.append({k.lower(): v for k, v in headers.items()})
        refused = self.proxy.refusal(self.command, self.path)
        if refused:
            text = _ERROR.format(code=refused.code, message=refused.message).encode()
            self._answer(refused.status, [("Content-Type", "application/xml")], text)
            return
        if self.command == "POST":
            body = self.proxy.restored(body)
        status, given, body = self.proxy.ask(self.command, self.path, headers, body)
        told = [(n, self.proxy.altered(n, v)) for n, v in given if n.lower() not in _HOP]
        lengths = [v for n, v in given if n.lower() == "content-length"]
        if self.command == "HEAD":
            self._answer(status, [*told, ("Content-Length", (lengths or ["0"])[0])], None)
            return
        kind = next((v for n, v in given if n.lower() == "content-type"), "")
        self._answer(status, told, self.proxy.listed(body) if "xml" in kind else body)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes | None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


for _method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)
