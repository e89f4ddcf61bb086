"""What comes from outside, read within bounds: text of a store, a relation, a peer or a tool.

Sizes are in bytes, or in characters of a text that was decoded already. Nothing here imports
anything of ours.
"""

from __future__ import annotations

import json
import logging
import math
import re
from typing import Any, cast

LARGEST = 1 << 20  # bytes of a document, where nobody says less
DEEPEST = 16  # brackets within brackets: none of our formats has more than six
# Brackets, and whole strings so that those in them do not count; no way to match is tried twice.
_BRACKETS = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
_LONGEST_LINE = 20_000  # characters of a log's line
_DIGITS = 19  # of a number: those of 64 bits


class OutsideError(ValueError):
    """What was read is not what it should be; the text ends a sentence."""


def json_value(text: str | bytes, limit: int = LARGEST, depth: int = DEEPEST) -> Any:
    """Parse JSON that somebody else wrote.

    Args:
        text: the document.
        limit: how long it may be.
        depth: how many brackets may stand within each other.

    Raises:
        OutsideError: it is too long, too deep, no JSON, or has a number that is none.
    """
    if len(text) > limit:
        raise OutsideError(f"it has more than {limit} bytes")
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    _refuse_deep(text, depth)
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, parse_int=_int, parse_float=_float
        )
    except OutsideError:
        raise
    except (ValueError, RecursionError) as error:
        raise OutsideError("it is not JSON") from error


def json_object(text: str | bytes, limit: int = LARGEST, depth: int = DEEPEST) -> dict[str, Any]:
    """Parse JSON that must be an object, see `json_value`.

    Raises:
        OutsideError: it is none.
    """
    found = json_value(text, limit, depth)
    if not isinstance(found, dict):
        raise OutsideError("it is not a JSON object")
    return cast("dict[str, Any]", found)


def json_list(
    text: str | bytes, count: int, limit: int = LARGEST, depth: int = DEEPEST
) -> list[Any]:
    """Parse JSON that must be a list of at most `count` entries, see `json_value`.

    Raises:
        OutsideError: it is none, or has more.
    """
    found = json_value(text, limit, depth)
    if not isinstance(found, list):
        raise OutsideError("it is not a JSON list")
    entries = cast("list[Any]", found)
    if len(entries) > count:
        raise OutsideError(f"it has more than {count} entries")
    return entries


def printable(text: str, limit: int = 2000, lines: bool = False) -> str:
    """`text` without characters that steer a terminal, cut to `limit` characters.

    Args:
        text: what somebody else may have chosen.
        limit: characters at most.
        lines: keep line ends and tabs.
    """
    kept = "\n\t" if lines else ""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() or c in kept else "\N{REPLACEMENT CHARACTER}" for c in cut)


class _Printable(logging.Filter):
    """Lets every record pass, without what steers a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage(), _LONGEST_LINE, lines=True), ()
        return True


_PRINTABLE = _Printable()


def guard_logs() -> None:
    """Let nothing that somebody else chose steer the terminal of who reads the log."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_PRINTABLE)  # once: the same filter is not added again


def _refuse_deep(text: str, depth: int) -> None:
    """The parser recurses: count before it does."""
    level = 0
    for match in _BRACKETS.finditer(text):
        character = text[match.start()]
        if character in "[{":
            level += 1
            if level > depth:
                raise OutsideError(f"it has more than {depth} brackets within each other")
        elif character in "]}":
            level -= 1


def _refuse_constant(name: str) -> float:
    raise OutsideError(f"{name} is no number")


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > _DIGITS + 1:
        raise OutsideError("it has a number that is too large")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise OutsideError("it has a number that is too large")
    return number
