"""Inputs that somebody who means harm might send, made from real ones by a seeded generator."""

from __future__ import annotations

import json
import random
import re

_NUMBERS = (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**70, -1)
_TOKENS = (
    b"[" * 5000,
    b'{"a":' * 2000,
    b"NaN",
    b"-Infinity",
    b"1e18",
    b"1e999",
    b"9" * 5000,
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"\x00",
    b"\x1b[2J",
    b"\xff\xfe",
    b"-----BEGIN CERTIFICATE-----",
    b"-----END CERTIFICATE-----",
    b" " * 10_000,
    b"\\",
    b'"',
    b"\n",
    b"../../",
    "\u202e\u0661".encode(),
)
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null')


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """One input: a seed, changed once or a few times."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        chance.choice(_WAYS)(data, chance, seeds)
    return bytes(data[: 1 << 20])


def _at(data: bytearray, chance: random.Random) -> int:
    # Headers matter most.
    size = max(len(data), 1)
    return chance.randrange(min(size, 256)) if chance.random() < 0.3 else chance.randrange(size)


def _flip(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    if data:
        data[_at(data, chance) % len(data)] ^= 1 << chance.randrange(8)


def _number(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    size = chance.choice((1, 2, 4, 8))
    value = chance.choice((*_NUMBERS, chance.getrandbits(64))) & ((1 << 8 * size) - 1)
    at = _at(data, chance)
    at -= at % size if chance.random() < 0.7 else 0
    data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))


def _cut(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    del data[_at(data, chance) :]


def _remove(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = _at(data, chance)
    del data[at : at + chance.choice((1, 4, 16, 4096))]


def _repeat(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = _at(data, chance)
    part = data[at : at + chance.choice((1, 16, 256, 4096))]
    data[at:at] = part * chance.choice((1, 2, 50))


def _splice(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    other = chance.choice(seeds)
    at, begin = _at(data, chance), chance.randrange(max(len(other), 1))
    data[at:] = other[begin:]


def _token(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    at = _at(data, chance)
    data[at:at] = chance.choice(_TOKENS)


def _value(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    """Another value in a document of JSON."""
    places = list(_VALUE.finditer(data[:65536]))
    if places:
        place = chance.choice(places)
        odd = (chance.choice(_NUMBERS), [], {}, None, True, "", "\x1b", [[1]], "x" * 300, 0.5)
        new = chance.choice((*_TOKENS, *(json.dumps(value).encode() for value in odd)))
        data[place.start() : place.end()] = new


_WAYS = (_flip, _number, _cut, _remove, _repeat, _splice, _token, _value, _value)
