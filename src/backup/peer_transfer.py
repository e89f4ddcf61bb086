"""The short way between units: one file, served over mutual TLS for as long as a restore needs it.

Whoever holds a certificate of the cluster's own peer authority may read the file, and nothing
else. The server is this module, run by systemd: it costs a fifth of the processor time that
`rclone serve` takes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.server
import ipaddress
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
from typing import Any

from backup import rclone, rclone_errors, remote_settings
from etcd import config as etcd_config
from machine import processes, sandbox

SHARE_UNIT = "etcd-share.service"
_NAME = "snapshot.db"
_INPUT = 0  # the file that is served
_CHUNK = 1 << 20
_SYSTEMD = 30.0  # seconds that systemd may take
_IDLE = 120.0  # seconds without a byte, after which a connection is closed


@dataclasses.dataclass(frozen=True)
class Share:
    """One file for the other units.

    Attributes:
        file: what to serve.
        host: where peers reach this unit, an address or a name.
        bind: where to listen, an address of this machine: another one than `host` where addresses
            are translated on the way, or where that is a name.
        port: TCP port.
        cert: this unit's peer certificate.
        key: its key.
        ca: the peer authority: whoever holds a certificate of it may read the file.
    """

    file: pathlib.Path
    host: str
    bind: str
    port: int
    cert: pathlib.Path
    key: pathlib.Path
    ca: pathlib.Path

    @property
    def url(self) -> str:
        """What peers fetch."""
        return f"{etcd_config.url(self.host, self.port)}/{_NAME}"

    def argv(self) -> list[str]:
        """The server's command; it serves what it has as its standard input."""
        return [
            *processes.python("backup.peer_transfer"),
            *("--bind", self.bind, "--port", str(self.port)),
            *("--cert", str(self.cert), "--key", str(self.key), "--ca", str(self.ca)),
        ]

    def start(self, seconds: float = 3600.0, readers: str = "etcd") -> None:
        """Serve for at most `seconds` as a transient systemd service of a user made for it.

        systemd opens the file. Starting again replaces what was served before.

        Args:
            seconds: after this the service ends by itself.
            readers: the group that may read the certificate and its key.

        Raises:
            rclone_errors.RemoteError: of kind TOOL.
        """
        self.stop()
        command = ["systemd-run", "--quiet", "--collect", f"--unit={SHARE_UNIT}"]
        limits = {
            **sandbox.STRICT,
            "DynamicUser": "yes",
            "SupplementaryGroups": readers,
            "StandardInput": f"file:{self.file.absolute()}",
            "RuntimeMaxSec": f"{seconds:.0f}",
            "MemoryMax": "128M",
            "TasksMax": "64",
        }
        command += [f"--property={name}={value}" for name, value in limits.items()]
        try:
            done = processes.run(command + processes.alone(self.argv()), _SYSTEMD)
            reason = "" if not done.returncode else done.stderr.strip() or "systemd refuses"
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
        if reason:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.TOOL,
                f"{self.file} cannot be served to the other units: {reason}",
            )

    @staticmethod
    def stop() -> None:
        """Stop serving; nothing to stop is fine."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            processes.run(["systemctl", "stop", "--quiet", SHARE_UNIT], _SYSTEMD)

    def serve(self) -> None:
        """Serve until the process is ended."""
        with _Server(self) as server:
            server.serve_forever()


def fetch(
    url: str,
    local: pathlib.Path,
    size: int,
    cert: pathlib.Path,
    key: pathlib.Path,
    ca: pathlib.Path,
    progress: rclone.Progress | None = None,
) -> None:
    """Download what a peer's `Share` serves, to be checked by the caller.

    Args:
        url: what the peer's `Share.url` said.
        local: what to write; it appears complete, or not at all.
        size: bytes expected.
        cert: this unit's peer certificate.
        key: its key.
        ca: the peer authority.
        progress: told how far it is.

    Raises:
        rclone_errors.RemoteError: what is wrong, in one sentence.
    """
    base, _, name = url.rpartition("/")
    if not re.fullmatch(r"https://[A-Za-z0-9_.:\[\]-]{1,300}", base) or name != _NAME:
        raise rclone_errors.RemoteError(rclone_errors.Kind.CONFIG, f"{url} is not a peer's share")
    try:
        trusted = ca.read_text()
    except OSError as error:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CONFIG, f"{ca} cannot be read: {error.strerror}"
        ) from error
    settings = remote_settings.Settings(
        config=f"[peer]\ntype = http\nurl = {base}/\n", path="peer:", ca=trusted
    )
    peer = rclone.Remote(settings, client=(cert, key))
    peer.get(name, local, size=size, progress=progress)


class _Server(http.server.ThreadingHTTPServer):
    """TLS is spoken in the thread of each connection, so that none holds up another."""

    daemon_threads = True

    def __init__(self, share: Share) -> None:
        if ipaddress.ip_address(share.bind).version == 6:
            self.address_family = socket.AF_INET6
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(share.ca))
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_ciphers(etcd_config.OPENSSL_CIPHERS)
        self._tls.load_cert_chain(share.cert, share.key)
        super().__init__((share.bind, share.port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(_IDLE)
        try:
            with self._tls.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError as error:  # of TLS, too: a stranger, or a peer that went away
            print(f"{client_address[0]}: {error}", file=sys.stderr)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one path, also from an offset on, as a download that was cut asks for."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the one who fetches says how it went."""

    def _answer(self, *, body: bool) -> None:
        if self.path == "/":
            self._list(body=body)
            return
        if self.path != f"/{_NAME}":
            self.send_error(404)
            return
        size = os.fstat(_INPUT).st_size
        wanted = re.fullmatch(
            r"bytes=(\d{1,18})-(\d{0,18})", self.headers.get("Range", "bytes=0-")
        )
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else size, size - 1)
        if first > last:
            self.send_error(416)
            return
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            self._send(first, last - first + 1)

    def _list(self, *, body: bool) -> None:
        """The folder, for rclone, which looks a file up there."""
        page = f'<a href="{_NAME}">{_NAME}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if body:
            self.wfile.write(page)

    def _send(self, at: int, left: int) -> None:
        """Other threads read the same open file: each says where."""
        buffer = memoryview(bytearray(_CHUNK))
        while left > 0 and (got := os.preadv(_INPUT, [buffer[: min(_CHUNK, left)]], at)):
            self.connection.sendall(buffer[:got])
            at, left = at + got, left - got


def main() -> None:
    """Serve what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--port", required=True, type=int)
    for name in ("cert", "key", "ca"):
        parser.add_argument(f"--{name}", required=True, type=pathlib.Path)
    Share(pathlib.Path("/dev/stdin"), host="", **vars(parser.parse_args())).serve()


if __name__ == "__main__":
    main()
