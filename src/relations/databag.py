"""What a unit tells of itself in the databag of the peer relation, read within bounds."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any, cast

from cluster import generation as generations
from cluster import view as views
from machine import outside

if TYPE_CHECKING:
    from collections.abc import Mapping

GOALS = 4 << 20  # bytes: of some ten thousand units


class PeerError(Exception):
    """What another unit or the leader wrote cannot be read; the text is one sentence."""


def refuse_record(record: generations.Generation) -> None:
    """Refuse a record with what is no name, no URL or no text: it becomes paths and options."""
    _matching(_TOKEN, record.token)
    for founder in record.founders:
        _matching(_UNIT, founder.unit)
        _matching(_URL, founder.peer_url)
    for text in (record.keep, *(text for pair in record.detail for text in pair)):
        if not text.isprintable():
            raise ValueError(f"unexpected {outside.printable(repr(text), 60)}")


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


def to_json(unit: views.Unit) -> str:
    """What a unit says of itself, without what it has nothing to say about."""
    raw = dataclasses.asdict(unit)
    del raw["name"], raw["alive"]
    if unit.member_id is not None:
        raw["member_id"] = f"{unit.member_id:x}"
    nothing = dataclasses.asdict(views.Unit(unit.name))
    said = {key: value for key, value in raw.items() if value != nothing[key]}
    return json.dumps(said, sort_keys=True)


def read_unit(name: str, bag: Mapping[str, str]) -> views.Unit:
    """What a unit says of itself; only its name where that cannot be believed."""
    text = bag.get("unit", "")
    if not text:
        return views.Unit(name)
    try:
        raw = outside.json_object(text, _LARGEST, depth=4)
        return views.Unit(
            name=name,
            peer_url=_matching(_URL, raw.get("peer_url")),
            client_url=_matching(_URL, raw.get("client_url")),
            token=_matching(_TOKEN, raw.get("token")),
            member_id=_member_id(raw.get("member_id")),
            started=_flag(raw.get("started", False)),
            prepared=_matching(_TOKEN, raw.get("prepared")),
            failure=_failure(raw.get("failure")),
            facts=_facts(raw.get("facts")),
            stale=_flag(raw.get("stale", False)),
            begun=_count(raw.get("begun", 0)),
            voters=tuple(_matching(_UNIT, each) or "" for each in _few(raw.get("voters", []))),
            voters_of=_matching(_TOKEN, raw.get("voters_of") or None) or "",
            joins=_count(raw.get("joins", 0)),
            member=_matching(_MEMBER, raw.get("member") or None) or "",
            turn_done=_count(raw.get("turn_done", 0)),
            listed=_matching(_URL, raw.get("listed") or None) or "",
            heard=_matching(_TOKEN, raw.get("heard") or None) or "",
            broken=_flag(raw.get("broken", False)),
            unanswered=_flag(raw.get("unanswered", False)),
            options=_matching(_TOKEN, raw.get("options") or None) or "",
            refused=_failure(raw.get("refused")),
            cut_off=_flag(raw.get("cut_off", False)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError(
            f"the databag of {name} in the peer relation cannot be read ({error}), nothing was"
            " changed"
        ) from error


_LARGEST = 64 * 1024  # characters of what a unit says of itself
_MOST = 100  # entries of a list in it: etcd has seven voters
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNIT = re.compile(r"[a-z0-9-]{1,100}/[0-9]{1,9}")
_MEMBER = re.compile(r"[A-Za-z0-9._-]{1,110}")


def _matching(form: re.Pattern[str], value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"unexpected {outside.printable(repr(value), 60)}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ValueError(f"expected a number, not {outside.printable(repr(value), 60)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {outside.printable(repr(value), 60)}")
    return value


def _few(value: Any) -> list[Any]:
    entries = cast("list[Any]", value) if isinstance(value, list) else None
    if entries is None or len(entries) > _MOST:
        raise ValueError("expected a short list")
    return entries


def _member_id(value: Any) -> int | None:
    found = _matching(re.compile(r"[0-9a-f]{1,16}"), value)
    return None if found is None else int(found, 16)


def _failure(value: Any) -> tuple[str, str] | None:
    if value is None:
        return None
    token, sentence = _few(value)
    return _matching(_TOKEN, token) or "", outside.printable(str(sentence))


def _facts(value: Any) -> views.DiskFacts | None:
    if value is None:
        return None
    return views.DiskFacts(*(_count(value[key]) for key in ("term", "index", "revision")))
