"""The socket on which a machine's hook tools speak to the controller.

A frame is a one-letter kind, a four-byte big-endian length, and that many bytes. The client sends
`A` (argv0, arguments, context id and working directory, separated by NUL). The server may ask with
`R` for a file (the client answers `F` with its bytes or `N` with an error), and ends with `O`
(stdout), `E` (stderr) and `X` (the exit code as text). The machine's service sends `J` and stays.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import socket
import struct
import threading
import time
import traceback
from typing import TYPE_CHECKING

from minijuju import daemon, errors, hooktools

if TYPE_CHECKING:
    from minijuju import host

SOCKET = "agent.socket"
LIMIT_BYTES = 64 * 2**20
EXECUTORS = ("juju-exec", "juju-run")
EXEC_SECONDS = 3600.0


def names() -> list[str]:
    """All tools for which a unit gets a link."""
    return [*hooktools.names(), *EXECUTORS]


class ToolServer:
    """Answers the hook tools of one machine, one thread for each call."""

    def __init__(
        self,
        directory: pathlib.Path,
        owner: host.Host,
    ) -> None:
        self._host = owner
        self._anchors: set[socket.socket] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (directory / SOCKET).unlink(missing_ok=True)
        with daemon.address(directory, SOCKET) as path:
            self._socket.bind(path)
        (directory / SOCKET).chmod(0o600)
        self._socket.listen(64)

    def start(self) -> None:
        """Begin to answer."""
        threading.Thread(target=self._serve, name="tools", daemon=True).start()

    def stop(self) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for anchor in list(self._anchors):
            with contextlib.suppress(OSError):
                anchor.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError, ValueError):
            wire = Wire(connection)
            kind, body = wire.receive()
            if kind == "J":
                self._hold(connection)
            if kind != "A":
                return
            *argv, context, cwd = body.decode(errors="surrogateescape").split("\0")
            try:
                code, out, err = self._call(wire, argv, context, cwd)
            except Exception as error:
                traceback.print_exc()
                code, out, err = 1, "", f"ERROR {error}\n"
            wire.send(
                ("O", out.encode(errors="surrogateescape")),
                ("E", err.encode(errors="surrogateescape")),
                ("X", str(code).encode()),
            )

    def _hold(self, connection: socket.socket) -> None:
        """The machine's own service: the agents live as long as this connection."""
        self._anchors.add(connection)
        self._host.anchored(1)
        try:
            connection.recv(1)
        finally:
            self._anchors.discard(connection)
            self._host.anchored(-1)

    def _call(self, wire: Wire, argv: list[str], context: str, cwd: str) -> tuple[int, str, str]:
        argv[0] = argv[0].rsplit("/", 1)[-1]
        if argv[0] in EXECUTORS:
            return self._execute(argv)
        found = self._host.context_of(context)
        if found is None:
            return 1, "", f'ERROR cannot find context "{context}"\n'

        def read(name: str) -> bytes:
            wire.send(("R", (name if name == "-" else os.path.join(cwd, name)).encode()))
            kind, body = wire.receive()
            if kind != "F":
                raise errors.JujuError(body.decode(errors="replace"))
            return body

        one, services = found
        return hooktools.call(one, argv, read, services)

    def _execute(self, argv: list[str]) -> tuple[int, str, str]:
        """`juju-exec [--unit] UNIT COMMAND...`: a script in a unit's context, in its queue."""
        words = argv[1:]
        unit = ""
        while words:
            word = words[0]
            name, given, value = word.partition("=")
            if name in ("-u", "--unit", "-r", "--relation", "--remote-unit", "--remote-app"):
                words.pop(0)
                value = value if given else words.pop(0) if words else ""
                unit = value if name in ("-u", "--unit") else unit
            elif word in ("--no-context", "--force-remote-unit", "--"):
                words.pop(0)
            else:
                break
        if not unit and words:
            unit = words.pop(0)
            if words[:1] == ["--"]:
                words.pop(0)
        unit = unit.removeprefix("unit-") if unit.startswith("unit-") else unit
        if "/" not in unit and "-" in unit:
            unit = "/".join(unit.rsplit("-", 1))
        owner = self._host.agent_for(unit)
        if owner is None:
            return 1, "", f'ERROR unit "{unit}" not found on this machine\n'
        if not words:
            return 2, "", "ERROR missing commands\n"
        script = words[0] if len(words) == 1 else shlex.join(words)
        command = owner.submit(script)
        deadline = time.monotonic() + EXEC_SECONDS
        if not command.done.wait(max(0.0, deadline - time.monotonic())):
            return 1, "", "ERROR timed out\n"
        return command.code, command.stdout, command.stderr


class Wire:
    """Frames over a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, *frames: tuple[str, bytes]) -> None:
        """Send frames, at once."""
        packed = [kind.encode() + struct.pack(">I", len(body)) + body for kind, body in frames]
        self._connection.sendall(b"".join(packed))

    def receive(self) -> tuple[str, bytes]:
        """Receive one frame; raises OSError when the other side is gone."""
        head = self._exactly(5)
        (length,) = struct.unpack(">I", head[1:])
        if length > LIMIT_BYTES:
            raise OSError("frame too long")
        return head[:1].decode(), self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = self._connection.recv(min(count, 1 << 20))
            if not part:
                raise OSError("connection closed")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
