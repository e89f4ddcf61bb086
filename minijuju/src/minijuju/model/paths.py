"""Where a controller's things lie, and how its sockets are reached there."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def home() -> pathlib.Path:
    """The directory with everything that belongs to this controller."""
    default = pathlib.Path.home() / ".local/share/minijuju"
    return pathlib.Path(os.environ.get("MINIJUJU_HOME") or default).absolute()


@contextlib.contextmanager
def address(directory: pathlib.Path, name: str) -> Iterator[str]:
    """A path for a unix socket in `directory` that is short enough however deep that lies."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)
