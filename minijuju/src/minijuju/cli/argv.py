"""Command lines the way Juju reads them.

Flags and positionals mix freely, ``--x y`` equals ``--x=y``, ``--`` ends the flags. A verb's flags
are declared in one short string so that a call of the command line imports and builds almost
nothing: ``"format= num-units,n= config=* force"`` declares ``--format VALUE``, ``--num-units`` or
``-n VALUE``, a ``--config VALUE`` that may be repeated, and the boolean ``--force``.
"""

from __future__ import annotations

COMMON = "debug show-log logging-config= verbose quiet,q help,h"

_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class UsageError(Exception):
    """The command line cannot be understood; Juju exits with 2."""


class Flags:
    """The flags of one command line.

    Attributes:
        positionals: what remains when flags are taken away, in order.
    """

    def __init__(self) -> None:
        self._values: dict[str, str | bool | list[str]] = {}
        self.positionals: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """Value of a flag that takes one, or *default* when it was not given."""
        value = self._values.get(name, default)
        return value if isinstance(value, str) else default

    def given(self, name: str) -> bool:
        """Whether the flag occurred at all."""
        return name in self._values

    def on(self, name: str) -> bool:
        """Whether a boolean flag is set."""
        return self._values.get(name) is True

    def all(self, name: str) -> list[str]:
        """Values of a flag that may be repeated, in order."""
        value = self._values.get(name, [])
        return list(value) if isinstance(value, list) else []

    def csv(self, name: str) -> list[str]:
        """Value of a flag that holds a comma-separated list."""
        return [item.strip() for item in self.text(name).split(",") if item.strip()]

    def integer(self, name: str, default: int) -> int:
        """Value of a flag that takes a whole number.

        Raises:
            UsageError: if it is not one.
        """
        text = self.text(name)
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise UsageError(f'invalid value "{text}" for option --{name}: parse error') from None

    def seconds(self, name: str, default: float) -> float:
        """Value of a flag that takes a Go duration, in seconds."""
        text = self.text(name)
        return duration(text) if text else default

    def _store(self, name: str, kind: str, value: str | bool) -> None:
        if kind == "=*":
            bucket = self._values.setdefault(name, [])
            if isinstance(bucket, list):
                bucket.append(str(value))
        else:
            self._values[name] = value


def duration(text: str) -> float:
    """Seconds of a Go duration such as ``90s``, ``1m30s``, ``500ms`` or ``60.0s``.

    Raises:
        UsageError: if *text* is not one.
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    total, rest = 0.0, text
    if text == "0":
        return 0.0
    while rest:
        number = _leading(rest, "0123456789.")
        rest = rest[len(number) :]
        unit = _leading(rest, "hmsun")
        if unit not in units and unit[:1] in units:
            unit = unit[:1]
        rest = rest[len(unit) :]
        if not number or unit not in units or number.count(".") > 1 or number == ".":
            raise UsageError(f'time: invalid duration "{text}"')
        total += float(number) * units[unit]
    if not text:
        raise UsageError('time: invalid duration ""')
    return total


def boolean(text: str) -> bool:
    """The value of a Go boolean.

    Raises:
        UsageError: if *text* is not one.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UsageError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def pairs(items: list[str]) -> dict[str, str]:
    """Turn ``key=value`` words into a mapping; a later word wins.

    Raises:
        UsageError: if a word has no ``=`` or an empty key.
    """
    result: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f'expected "key=value", got "{item}"')
        result[key] = value
    return result


def parse(spec: str, words: list[str], *, mixed: bool = True) -> Flags:
    """Read *words* by *spec*.

    Args:
        spec: the flags of the verb, as the module describes them.
        words: everything after the verb.
        mixed: whether flags may follow positionals; ``ssh`` and ``scp`` stop at the first one.

    Raises:
        UsageError: for an unknown flag, a flag without its value, or a boolean with a bad one.
    """
    known = _declared(f"{spec} {COMMON}")
    flags = Flags()
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            flags.positionals.extend(words[index:])
            break
        if not word.startswith("-") or word == "-":
            flags.positionals.append(word)
            if not mixed:
                flags.positionals.extend(words[index:])
                break
            continue
        name, equals, value = _split(word, known)
        if name not in known:
            raise UsageError(f"option provided but not defined: {word.partition('=')[0]}")
        canonical, kind = known[name]
        if not kind:
            flags._store(canonical, kind, _switch(word, value) if equals else True)
            continue
        if not equals:
            if index >= len(words):
                raise UsageError(f"option needs an argument: {word}")
            value = words[index]
            index += 1
        flags._store(canonical, kind, value)
    return flags


def _leading(text: str, allowed: str) -> str:
    end = 0
    while end < len(text) and text[end] in allowed:
        end += 1
    return text[:end]


def _declared(spec: str) -> dict[str, tuple[str, str]]:
    """Map each spelling to its canonical name and its kind: '', '=' or '=*'."""
    known: dict[str, tuple[str, str]] = {}
    for word in spec.split():
        names, equals, star = word.partition("=")
        aliases = names.split(",")
        for alias in aliases:
            known[alias] = (aliases[0], equals + star)
    return known


def _split(word: str, known: dict[str, tuple[str, str]]) -> tuple[str, str, str]:
    name, equals, value = word.lstrip("-").partition("=")
    if not word.startswith("--") and name not in known and known.get(name[:1], ("", ""))[1]:
        return name[:1], "=", word[2:]  # -n3
    return name, equals, value


def _switch(word: str, value: str) -> bool:
    try:
        return boolean(value)
    except UsageError:
        name = word.partition("=")[0]
        raise UsageError(f'invalid boolean value "{value}" for {name}: invalid syntax') from None
