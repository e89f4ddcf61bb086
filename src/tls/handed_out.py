"""Client certificates that people were handed: who has one, since when, and until when."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

from machine import outside

if TYPE_CHECKING:
    from collections.abc import Iterable

_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_UNIT = re.compile(r"[a-z][a-z0-9-]{0,62}/[0-9]{1,9}")
_LONGEST_NAME = 64  # of a certificate's common name
_OF_ONE = 100  # that one unit tells of, those that end last
_MOST = 500  # that the application remembers
_LARGEST = 256 * _MOST  # characters of a text


@dataclasses.dataclass(frozen=True)
class Handed:
    """One certificate.

    Attributes:
        serial: its number, hexadecimal, without leading zeros.
        name: common name.
        made: when it was handed out, Unix seconds.
        until: when it ends, Unix seconds.
        unit: who made it, `etcd/0`.
    """

    serial: str
    name: str
    made: int
    until: int
    unit: str


def read(text: str) -> tuple[Handed, ...]:
    """What `to_text` wrote; what cannot be read is left out."""
    if not text:
        return ()
    try:
        told = outside.json_object(text, _LARGEST, depth=3)
    except outside.OutsideError:
        return ()
    found = (_one(serial, each) for serial, each in told.items())
    return latest(each for each in found if each is not None)


def _one(serial: str, told: Any) -> Handed | None:
    try:
        name, made, until, unit = told
    except (TypeError, ValueError):
        return None
    numbers = all(type(each) is int and 0 <= each < 10**12 for each in (made, until))
    texts = isinstance(name, str) and isinstance(unit, str) and _SERIAL.fullmatch(serial)
    if not (numbers and texts and _UNIT.fullmatch(unit)):
        return None
    return Handed(serial, outside.printable(name, _LONGEST_NAME), made, until, unit)


def to_text(handed: Iterable[Handed]) -> str:
    """The same as text, "" for none."""
    told = {each.serial: [each.name, each.made, each.until, each.unit] for each in handed}
    return json.dumps(told, sort_keys=True) if told else ""


def added(known: Iterable[Handed], new: Handed) -> tuple[Handed, ...]:
    """What one unit tells of, with one more."""
    return latest((*known, new), _OF_ONE, float(new.made))


def latest(handed: Iterable[Handed], most: int = _MOST, now: float = 0.0) -> tuple[Handed, ...]:
    """Those that end last, each once, without those that have ended; the newest first."""
    each = {one.serial: one for one in handed if one.until > now}
    kept = sorted(each.values(), key=lambda one: (-one.until, one.serial))[:most]
    return tuple(sorted(kept, key=lambda one: (-one.made, one.serial)))
