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
import re
import socket
import struct
import threading
import traceback
from typing import TYPE_CHECKING

from minijuju.agent import hooktools, toolkit
from minijuju.model import errors, paths

if TYPE_CHECKING:
    from minijuju.agent import ports

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
        owner: ports.Units,
    ) -> None:
        self._host = owner
        self._anchors: set[socket.socket] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (directory / SOCKET).unlink(missing_ok=True)
        with paths.address(directory, SOCKET) as path:
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
            return self._execute(argv, context)
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

    def _execute(self, argv: list[str], context: str) -> tuple[int, str, str]:
        """`juju-exec [--unit] UNIT COMMAND...`: a script in a unit's context, in its queue."""
        try:
            unit, script = self._executed(argv, context)
        except toolkit.Usage as error:
            return error.code, "", f"ERROR {error.text}\n"
        if not unit:
            with self._host.lock:
                answer = self._host.machine.run(["/bin/bash", "-c", script], check=False)
            return answer.returncode, answer.stdout, answer.stderr
        owner = self._host.agent_for(unit)
        if owner is None:
            return 1, "", f'ERROR unit "{unit}" not found on this machine\n'
        command = owner.submit(script)
        if not command.done.wait(EXEC_SECONDS):
            return 1, "", "ERROR timed out\n"
        return command.code, command.stdout, command.stderr

    def _executed(self, argv: list[str], context: str) -> tuple[str, str]:
        """The unit ("" for none) and the script of a `juju-exec`; flags may be anywhere."""
        flags, words = toolkit.parse(_EXECUTOR, argv[1:])
        if context:
            raise toolkit.Usage(
                f'{argv[0]} cannot be called from within a hook, have context "{context}"'
            )
        unit = str(flags.get("u") or flags.get("unit") or "")
        if flags.get("no-context"):
            if unit:
                raise toolkit.Usage(
                    f'-no-context cannot be passed with an explicit unit-name (-u "{unit}")'
                )
        elif not unit:
            unit = self._meant(words)
        if not words:
            raise toolkit.Usage("missing commands")
        return _unit_name(unit) if unit else "", " ".join(words)

    def _meant(self, words: list[str]) -> str:
        """The unit that the first word names, or the only one of the machine."""
        if not words:
            raise toolkit.Usage("missing unit-name")
        if _unit_name(words[0]):
            return words.pop(0)
        here = list(self._host.agents)
        if len(here) != 1:
            raise toolkit.Usage(f'"{words[0]}" is not a valid tag')
        return here[0]


_EXECUTOR = toolkit.Spec(
    lambda _: None,
    frozenset({"u", "unit", "r", "relation", "remote-unit", "remote-app"}),
    frozenset({"no-context", "force-remote-unit", "operator"}),
    "",
    needs_task=False,
    free=True,
)
"""The flags of `juju-exec`; any other is refused, those of the command too (quote it)."""


def _unit_name(text: str) -> str:
    """`db/0` for `db/0` or `unit-db-0`; "" for anything else."""
    match = re.fullmatch(r"([a-z][a-z0-9-]*)/([0-9]+)|unit-([a-z][a-z0-9-]*)-([0-9]+)", text)
    return f"{match[1] or match[3]}/{match[2] or match[4]}" if match else ""


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
