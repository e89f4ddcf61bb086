"""One codec for the records of databags, files and manifests: frozen dataclasses as JSON objects.

A field's type says what is read for it: a text, a number, a flag, an enumeration, another record,
`X | None`, `tuple[X, ...]`, `tuple[X, Y]` or a mapping of texts to X. What is missing takes the
field's default; what a later revision has added is passed over. Whoever reads gives the forms
that go beyond the type, by the field's name, wherever in the record that field is.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import json
import re
import types
import typing
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from machine import outside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import DataclassInstance

    Way = Callable[[Any], Any]
    Ways = tuple[Way, Way]

_Record = TypeVar("_Record", bound="DataclassInstance")
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}")
_DECIMAL = re.compile(r"[0-9]{1,20}")


@dataclasses.dataclass(frozen=True)
class Form:
    """What is asked of a value beyond its type.

    Attributes:
        pattern: all of a text matches it; None for any that is printable.
        empty: "" passes, too.
        free: a text may hold anything, line ends too.
        told: a text for people: what steers a terminal is replaced, not refused.
        longest: characters of a text.
        least: of a number.
        most: of a number.
        count: entries of a list or a mapping.
        hexadecimal: a number is written as text.
        listed: a record is written as a list of its values, in order.
        sparse: of a record, what has its default is not written.
        texts: a record's numbers are written as texts.
    """

    pattern: re.Pattern[str] | None = None
    empty: bool = False
    free: bool = False
    told: bool = False
    longest: int = 4096
    least: float = 0
    most: float = (1 << 64) - 1
    count: int = 1000
    hexadecimal: bool = False
    listed: bool = False
    sparse: bool = False
    texts: bool = False


_ANY = Form()


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field of a record: its name, its key in JSON, its default, and both ways."""

    name: str
    key: str
    default: Any
    read: Way
    write: Way


class Codec(Generic[_Record]):
    """Reads and writes records of one kind.

    Args:
        kind: the record's class; its annotations can be evaluated where it is defined.
        forms: by name of a field.
        otherwise: the form of fields that `forms` does not name.
        names: of a field in JSON, where that is not its own.
        sparse: what has its default is not written.
        without: fields that are not written, and that whoever reads gives.
    """

    def __init__(
        self,
        kind: type[_Record],
        forms: Mapping[str, Form] | None = None,
        *,
        otherwise: Form = _ANY,
        names: Mapping[str, str] | None = None,
        sparse: bool = False,
        without: tuple[str, ...] = (),
    ):
        self._kind = kind
        self._forms = dict(forms or {})
        self._otherwise = otherwise
        self._names = dict(names or {})
        self._sparse = sparse
        self._texts = False
        self._without = without

    def to_object(self, record: _Record) -> dict[str, Any]:
        """The record as JSON has it."""
        told: dict[str, Any] = {}
        for field in self._fields:
            value = getattr(record, field.name)
            if not (self._sparse and value == field.default):
                told[field.key] = field.write(value)
        return told

    def to_json(self, record: _Record, indent: int | None = None) -> str:
        """The record as a text, which ends with a line end where it is indented."""
        end = "" if indent is None else "\n"
        return json.dumps(self.to_object(record), indent=indent, sort_keys=True) + end

    def read(self, raw: Mapping[str, Any], **given: Any) -> _Record:
        """Read a record.

        Args:
            raw: as JSON has it.
            given: values of fields that are not in it.

        Raises:
            OutsideError: a value is missing, or is not what its field takes; names the field.
        """
        values = dict(given)
        for field in self._fields:
            if field.key in raw:
                values[field.name] = _checked(field, raw[field.key])
            elif field.default is dataclasses.MISSING:
                raise outside.OutsideError(f"it lacks {field.key}")
        return self._kind(**values)

    def read_json(
        self,
        text: str | bytes,
        limit: int = outside.LARGEST,
        depth: int = outside.DEEPEST,
        **given: Any,
    ) -> _Record:
        """Read a record's text, see `read` and `outside.json_object`."""
        return self.read(outside.json_object(text, limit, depth), **given)

    @functools.cached_property
    def _fields(self) -> tuple[_Field, ...]:
        hints = typing.get_type_hints(self._kind)
        return tuple(
            _Field(
                field.name,
                self._names.get(field.name, field.name),
                _default(field),
                *self._ways(field.name, hints[field.name]),
            )
            for field in dataclasses.fields(self._kind)
            if field.name not in self._without
        )

    def _ways(self, name: str, hint: Any) -> Ways:
        """How a value of this type is read and written."""
        form = self._forms.get(name, self._otherwise)
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            return _optional(*self._ways(name, next(x for x in inner if x is not type(None))))
        if origin is tuple and inner[-1] is Ellipsis:
            return _many(form, *self._ways(name, inner[0]))
        if origin is tuple:
            return _few([self._ways(name, each) for each in inner])
        if origin in (dict, collections.abc.Mapping):
            return _mapping(form, *self._ways(name, inner[1]))
        if dataclasses.is_dataclass(hint):
            nested = Codec(
                cast("type[DataclassInstance]", hint),
                self._forms,
                otherwise=self._otherwise,
                names=self._names,
                sparse=form.sparse,
            )
            nested._texts = form.texts
            return _listed(nested) if form.listed else (nested._read_any, nested.to_object)
        if hint is type(None):
            return _nothing, _same
        if issubclass(hint, enum.Enum):
            return hint, _value
        if hint is int and (form.hexadecimal or self._texts):
            return functools.partial(_written, form), _hexadecimal if form.hexadecimal else str
        return functools.partial(_READERS[hint], form), _same

    def _read_any(self, value: Any) -> _Record:
        return self.read(_object(value))


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _checked(field: _Field, value: Any) -> Any:
    try:
        return field.read(value)
    except outside.OutsideError:
        raise
    except (ValueError, TypeError) as error:
        raise outside.OutsideError(f"it garbles {field.key}") from error


def _optional(read: Way, write: Way) -> Ways:
    return (
        lambda value: None if value is None else read(value),
        lambda value: None if value is None else write(value),
    )


def _many(form: Form, read: Way, write: Way) -> Ways:
    return (
        lambda value: tuple(read(each) for each in _entries(value, form.count)),
        lambda value: [write(each) for each in value],
    )


def _few(ways: list[Ways]) -> Ways:
    return (
        lambda value: tuple(
            read(each) for (read, _), each in zip(ways, _entries(value, len(ways)), strict=True)
        ),
        lambda value: [write(each) for (_, write), each in zip(ways, value, strict=True)],
    )


def _mapping(form: Form, read: Way, write: Way) -> Ways:
    return (
        lambda value: {
            _text(_ANY, key): read(each) for key, each in _object(value, form.count).items()
        },
        lambda value: {key: write(each) for key, each in value.items()},
    )


def _listed(nested: Codec[Any]) -> Ways:
    names = [field.name for field in nested._fields]  # pyright: ignore[reportPrivateUsage]
    return (
        lambda value: nested.read(dict(zip(names, _entries(value, len(names)), strict=True))),
        lambda value: list(nested.to_object(value).values()),
    )


def _entries(value: Any, count: int) -> list[Any]:
    entries = cast("list[Any]", value) if isinstance(value, list) else None
    if entries is None or len(entries) > count:
        raise ValueError("no list, or too long a list")
    return entries


def _object(value: Any, count: int = 1 << 20) -> dict[str, Any]:
    found = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if found is None or len(found) > count:
        raise ValueError("no object, or too large an object")
    return found


def _text(form: Form, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if form.told:
        return outside.printable(value, form.longest)
    if form.empty and not value:
        return value
    fits = form.pattern.fullmatch(value) if form.pattern else form.free or value.isprintable()
    if len(value) > form.longest or not fits:
        raise ValueError
    return value


def _whole(form: Form, value: Any) -> int:
    if type(value) is not int or not form.least <= value <= form.most:
        raise ValueError
    return value


def _written(form: Form, value: Any) -> int:
    """A number that was written as text."""
    digits, base = (_HEXADECIMAL, 16) if form.hexadecimal else (_DECIMAL, 10)
    if not isinstance(value, str) or not digits.fullmatch(value):
        raise ValueError
    return _whole(form, int(value, base))


def _fraction(form: Form, value: Any) -> float:
    if type(value) not in (int, float) or not form.least <= value <= form.most:
        raise ValueError
    return float(value)


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError


def _flag(_: Form, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_READERS: dict[type, Callable[[Form, Any], Any]] = {
    str: _text,
    int: _whole,
    float: _fraction,
    bool: _flag,
}


def _hexadecimal(value: int) -> str:
    return f"{value:x}"


def _same(value: Any) -> Any:
    return value


def _value(value: enum.Enum) -> Any:
    return value.value
