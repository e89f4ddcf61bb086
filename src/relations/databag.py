"""What a unit tells of itself in the databag of the peer relation, read within bounds."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING

from cluster import generation as generations
from cluster import view as views
from machine import codec, outside

if TYPE_CHECKING:
    from collections.abc import Mapping

GOALS = 4 << 20  # bytes: of some ten thousand units


class PeerError(Exception):
    """What another unit or the leader wrote cannot be read; the text is one sentence."""


def number(unit: str) -> tuple[str, int]:
    """Application and number of a unit, by which units are put in order."""
    application, _, number = unit.partition("/")
    return application, int(number or 0)


def strings(text: str, where: str) -> dict[str, str]:
    """A JSON object of strings.

    Raises:
        PeerError: it is none; the sentence says where.
    """
    try:
        raw = outside.json_object(text)
    except outside.OutsideError as error:
        raise PeerError(f"{where} cannot be read ({error}); nothing was changed") from error
    return {key: str(value) for key, value in raw.items()}


def unit_text(unit: views.Unit) -> str:
    """What a unit says of itself, without what it has nothing to say about."""
    return _UNIT.to_json(unit)


def read_unit(name: str, bag: Mapping[str, str]) -> views.Unit:
    """What a unit says of itself; only its name where it said nothing yet.

    Raises:
        PeerError: it cannot be read.
    """
    text = bag.get("unit", "")
    if not text:
        return views.Unit(name)
    try:
        return _UNIT.read_json(text, _LARGEST, depth=4, name=name)
    except outside.OutsideError as error:
        raise PeerError(
            f"the databag of {name} in the peer relation cannot be read ({error}), nothing was"
            " changed"
        ) from error


def record_text(record: generations.Generation) -> str:
    """A record of the leader as the databag holds it."""
    return _records().to_json(record)


def read_record(text: str) -> generations.Generation:
    """Read a record, whose tokens, names and URLs become paths and options.

    Raises:
        OutsideError: it is none.
    """
    return _records().read_json(text)


def turn_text(turn: views.Turn) -> str:
    """Who may restart, as the databag holds it."""
    return f"{turn.unit} {turn.number}"


def read_turn(text: str) -> views.Turn:
    """Read that; nobody's where there is nothing.

    Raises:
        PeerError: it cannot be read.
    """
    if not text:
        return views.Turn()
    unit, _, number = text.partition(" ")
    if not number.isdecimal():
        shown = outside.printable(repr(text), 60)
        raise PeerError(f"the turn {shown} in the peer relation cannot be read")
    return views.Turn(unit, int(number))


_LARGEST = 64 * 1024  # characters of what a unit says of itself
_URL = codec.Form(
    re.compile(r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
)
_TOKEN = codec.Form(re.compile(r"[A-Za-z0-9_.-]{1,64}"))
_UNIT_NAME = codec.Form(re.compile(r"[a-z0-9-]{1,100}/[0-9]{1,9}"))


def _maybe(form: codec.Form) -> codec.Form:
    return dataclasses.replace(form, empty=True)


_FAILED = codec.Form(listed=True)
_UNIT = codec.Codec(
    views.Unit,
    {
        "peer_url": _URL,
        "client_url": _URL,
        "registered_peer_url": _maybe(_URL),
        "token": _TOKEN,
        "prepared": _TOKEN,
        "of": _maybe(_TOKEN),
        "reason": codec.Form(told=True),
        "voters": _UNIT_NAME,
        "voters_of": _maybe(_TOKEN),
        "heard": _maybe(_TOKEN),
        "options": _maybe(_TOKEN),
        "member": codec.Form(re.compile(r"[A-Za-z0-9._-]{1,110}"), empty=True),
        "member_id": codec.Form(hexadecimal=True),
        "failure": _FAILED,
        "refused": _FAILED,
    },
    names={"registered_peer_url": "listed", "last_started": "begun"},  # earlier revisions read it
    sparse=True,
    without=("name", "alive"),
)


@functools.cache
def _records() -> codec.Codec[generations.Generation]:
    """How records are read, made when one is: ticks that find all as it was read none."""
    forms = {
        "token": _TOKEN,
        "unit": _UNIT_NAME,
        "peer_url": _URL,
        "detail": codec.Form(sparse=True, texts=True),
        "reason": codec.Form(told=True),
    }
    return codec.Codec(generations.Generation, forms)
