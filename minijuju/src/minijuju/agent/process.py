"""Running a script in a machine: its output line by line, and its end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import selectors
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

GRACE_SECONDS = 0.1
"""How long output is still read after the script's end, when children hold it open (Juju)."""


class Running:
    """A started script. `interrupt` may be called from any thread."""

    def __init__(self, process: subprocess.Popen[bytes], context_id: str) -> None:
        self.process, self.context_id = process, context_id
        self._handle = os.pidfd_open(process.pid)
        self.timed_out = False

    def interrupt(self, number: int = signal.SIGKILL) -> None:
        """End the script and all that carries its context."""
        kill_context(self.context_id, number)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def follow(self, line: Callable[[str, str], None], timeout: float | None = None) -> int:
        """Pass each line of output to `line(stream, text)`; returns the exit code.

        After `timeout` seconds the script is killed and `timed_out` set.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        handle = self._handle
        buffers: dict[str, bytearray] = {}
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, handle)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(handle, selectors.EVENT_READ, "")
            for name in ("stdout", "stderr"):
                stream: Any = getattr(self.process, name)
                stack.callback(stream.close)
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, name)
                buffers[name] = bytearray()
            ended = False
            while not ended or selector.get_map():
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(wait)
                if not ready:
                    if ended:
                        break
                    self.timed_out = True
                    self.interrupt()
                    deadline = None
                for key, _ in ready:
                    if key.data == "":
                        ended = True
                        selector.unregister(handle)
                        deadline = time.monotonic() + GRACE_SECONDS
                    elif not _drain(key.fd, buffers[key.data], key.data, line):
                        selector.unregister(key.fileobj)
        for name, rest in buffers.items():
            if rest:
                line(name, rest.decode(errors="replace"))
        return self.process.wait()


def _drain(handle: int, buffer: bytearray, name: str, line: Callable[[str, str], None]) -> bool:
    with contextlib.suppress(BlockingIOError):
        data = os.read(handle, 65536)
        *lines, rest = (bytes(buffer) + data).split(b"\n")
        buffer[:] = rest
        for text in lines:
            line(name, text.decode(errors="replace"))
        return bool(data)
    return True


def kill_context(context_id: str, number: int = signal.SIGKILL) -> None:
    """Signal every process of the host that carries a context in its environment."""
    if not context_id:
        return
    wanted = f"JUJU_CONTEXT_ID={context_id}".encode()
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), number)
