"""The process that holds the controller, and how the command line reaches it.

One daemon serves one home (`$MINIJUJU_HOME`, by default `~/.local/share/minijuju`). It listens on
`<home>/socket`: a request is one line of JSON, `{"verb", "params"}`, with the caller's standard
streams attached where the verb runs a command; the answer is one line, `{"result"}` or
`{"error", "code"}`. `call` starts the daemon when nobody answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from minijuju.model import errors, paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minijuju.controller import controller

START_SECONDS = 20.0
"""How long a caller waits for a daemon it has started."""


def call(
    verb: str,
    params: dict[str, Any],
    fds: Sequence[int] = (),
    directory: pathlib.Path | None = None,
    *,
    start: bool = True,
) -> Any:
    """Ask the daemon for a verb and return its result; raises `errors.JujuError`.

    `fds`: stdin, stdout and stderr for verbs that run a command. The daemon ends such a command
    when this process goes away. With `start` False a daemon that is not there is an error.
    """
    directory = directory or paths.home()
    with contextlib.closing(_connect(directory, start)) as connection:
        request = json.dumps({"verb": verb, "params": params}).encode() + b"\n"
        if fds:
            socket.send_fds(connection, [request[:1]], list(fds))
            connection.sendall(request[1:])
        else:
            connection.sendall(request)
        answer = connection.makefile("rb").readline()
    if not answer:
        raise errors.JujuError(f"the controller ended; see {directory / 'daemon.log'}")
    reply = json.loads(answer)
    if "error" in reply:
        raise errors.JujuError(reply["error"], reply["code"])
    return reply["result"]


def _connect(directory: pathlib.Path, start: bool) -> socket.socket:
    with contextlib.suppress(OSError):
        return _dial(directory)
    if not start:
        raise errors.JujuError("no controller is running")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "minijuju.controller.daemon", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        )
    threading.Thread(target=process.wait, daemon=True).start()  # reaped, should we outlive it
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return _dial(directory)
        if process.returncode not in (None, 0):
            break
        time.sleep(0.02)
    raise errors.JujuError(f"the controller does not start; see {directory / 'daemon.log'}")


def _dial(directory: pathlib.Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with paths.address(directory, "socket") as path:
            connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


class Server:
    """Answers requests on the home's socket, one thread each."""

    def __init__(self, directory: pathlib.Path, verbs: controller.Controller) -> None:
        self._verbs = verbs
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (directory / "socket").unlink(missing_ok=True)
        with paths.address(directory, "socket") as path:
            self._socket.bind(path)
        self._socket.listen(128)

    def serve(self) -> None:
        """Accept until `close`."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.closing(connection):
            first, fds, _, _ = socket.recv_fds(connection, 1, 3)
            try:
                request = json.loads(first + connection.makefile("rb").readline())
                reply = self._reply(request, fds, connection)
            except ValueError as error:
                reply = {"error": f"bad request: {error}", "code": 2}
            finally:
                for handle in fds:
                    os.close(handle)
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def _reply(
        self, request: dict[str, Any], fds: list[int], connection: socket.socket
    ) -> dict[str, Any]:
        try:
            extra = {"fds": fds, "caller": connection.fileno()} if fds else {}
            result = self._verbs.call(request["verb"], {**request["params"], **extra})
        except errors.JujuError as error:
            return {"error": error.text, "code": error.code}
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}", "code": 1}
        return {"result": result}


def main() -> int:
    """Hold the controller of one home until told to stop (SIGTERM)."""
    from minijuju.controller import controller

    directory = pathlib.Path(sys.argv[1])
    lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    os.umask(0o022)
    directory.chmod(0o700)
    verbs = controller.Controller(directory)
    server = Server(directory, verbs)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.close())
    (directory / "pid").write_text(f"{os.getpid()}\n")
    verbs.start()
    server.serve()
    verbs.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
