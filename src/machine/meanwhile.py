"""What has to go on while something takes long."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextlib.contextmanager
def repeated(act: Callable[[], object], seconds: float) -> Generator[None]:
    """Do `act` every so many seconds, in a thread of its own, until the block has ended.

    It raises nothing: what `act` may raise is its own to deal with.
    """
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
