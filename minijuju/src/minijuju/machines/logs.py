"""The models' logs: one file of JSON lines for each, and each unit's own log in its machine."""

from __future__ import annotations

import collections
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pathlib

LEVELS = {name: i for i, name in enumerate(("TRACE", "DEBUG", "INFO", "WARNING", "ERROR"))}
LEVELS["CRITICAL"] = LEVELS["ERROR"]


def threshold(config: str, module: str) -> int:
    """The lowest level kept for a module by a config such as `<root>=INFO;unit=DEBUG`."""
    chosen, length = LEVELS["INFO"], -1
    for part in config.replace(",", ";").split(";"):
        name, _, level = part.strip().partition("=")
        prefix = "" if name == "<root>" else name
        fits = not prefix or module == prefix or module.startswith(prefix + ".")
        if fits and len(prefix) > length and level.upper() in LEVELS:
            chosen, length = LEVELS[level.upper()], len(prefix)
    return chosen


class Log:
    """One model's log."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._lock = path, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(
        self, entity: str, level: str, module: str, message: str, config: str = "<root>=INFO"
    ) -> str:
        """Add a record; returns a line for the unit's own log, "" if the level is too low."""
        if LEVELS.get(level, 2) < threshold(config, module):
            return ""
        now = time.time()
        record = {
            "entity": entity,
            "time": now,
            "level": level,
            "module": module,
            "message": message,
        }
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        return f"{stamp} {level} {module} {message}\n"

    def read(
        self, limit: int = 0, include: list[str] | None = None, level: str = ""
    ) -> list[dict[str, Any]]:
        """The newest `limit` records (0: all) of these entities, at least of this level."""
        lowest = LEVELS.get(level.upper(), 0)
        found: collections.deque[dict[str, Any]] = collections.deque(maxlen=limit or None)
        with contextlib.suppress(FileNotFoundError), self._path.open() as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    wanted = not include or record["entity"] in include
                    if wanted and LEVELS.get(record["level"], 2) >= lowest:
                        found.append(record)
        return list(found)
