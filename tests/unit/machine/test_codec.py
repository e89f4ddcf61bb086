"""Records to JSON and back: what comes back is what went, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import enum
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import codec, outside


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    colour: Colour = Colour.RED
    at: float = 0.0
    flag: bool = False
    id: int | None = None
    points: tuple[Point, ...] = ()
    pair: tuple[str, int] = ("", 0)
    last: Point | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    note: str = ""


FORMS = {"id": codec.Form(hexadecimal=True), "last": codec.Form(listed=True)}
CODEC = codec.Codec(Record, FORMS)
SPARSE = codec.Codec(Record, FORMS, sparse=True)
NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(max_size=8).filter(str.isprintable)
POINTS = st.builds(Point, NUMBERS, NUMBERS)
RECORDS = st.builds(
    Record,
    TEXTS,
    st.sampled_from(Colour),
    st.floats(0, 1e15),
    st.booleans(),
    st.none() | NUMBERS,
    st.lists(POINTS, max_size=3).map(tuple),
    st.tuples(TEXTS, NUMBERS),
    st.none() | POINTS,
    st.dictionaries(TEXTS, NUMBERS, max_size=3),
    TEXTS,
)


@given(RECORDS, st.sampled_from([CODEC, SPARSE]))
def test_given_any_record_when_written_and_read_then_it_is_the_same(record, either):
    assert either.read_json(either.to_json(record)) == record


def test_given_a_record_when_written_then_forms_decide_how():
    told = CODEC.to_object(Record("a", id=255, last=Point(1, 2)))
    assert told["id"] == "ff" and told["last"] == [1, 2] and told["colour"] == "red"
    assert SPARSE.to_object(Record("a", points=(Point(1),))) == {
        "name": "a",
        "points": [{"x": 1, "y": 0}],
    }


def test_given_a_record_of_a_later_revision_when_read_then_what_is_new_is_passed_over():
    assert CODEC.read({"name": "a", "invented": [1]}) == Record("a")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "it lacks name"),
        ({"name": None}, "it garbles name"),
        ({"name": 7}, "it garbles name"),
        ({"name": "a\x1b[2J"}, "it garbles name"),
        ({"name": "a" * 5000}, "it garbles name"),
        ({"name": "a", "colour": "green"}, "it garbles colour"),
        ({"name": "a", "colour": []}, "it garbles colour"),
        ({"name": "a", "at": "0"}, "it garbles at"),
        ({"name": "a", "at": True}, "it garbles at"),
        ({"name": "a", "at": -1}, "it garbles at"),
        ({"name": "a", "flag": 1}, "it garbles flag"),
        ({"name": "a", "id": 7}, "it garbles id"),
        ({"name": "a", "id": "0x7"}, "it garbles id"),
        ({"name": "a", "points": {}}, "it garbles points"),
        ({"name": "a", "points": [{"y": 1}]}, "it lacks x"),
        ({"name": "a", "points": [{"x": 1 << 64}]}, "it garbles x"),
        ({"name": "a", "points": [{"x": 1}] * 1001}, "it garbles points"),
        ({"name": "a", "pair": ["b"]}, "it garbles pair"),
        ({"name": "a", "pair": ["b", 1, 2]}, "it garbles pair"),
        ({"name": "a", "last": [1]}, "it garbles last"),
        ({"name": "a", "sizes": {"b": -1}}, "it garbles sizes"),
        ({"name": "a", "sizes": [["b", 1]]}, "it garbles sizes"),
    ],
)
def test_given_a_value_that_is_none_when_read_then_its_field_is_named(raw, words):
    with pytest.raises(outside.OutsideError, match=f"^{words}$"):
        CODEC.read(raw)


def test_given_a_secret_that_is_garbled_when_read_then_the_sentence_does_not_tell_it():
    with pytest.raises(outside.OutsideError) as refused:
        CODEC.read({"name": "hunter2\n"})
    assert "hunter2" not in str(refused.value)


def test_given_forms_when_read_then_texts_and_numbers_are_held_to_them():
    forms = {
        "name": codec.Form(re.compile("[a-z]+"), empty=True),
        "note": codec.Form(told=True, longest=5),
        "at": codec.Form(least=-5, most=5),
    }
    strict = codec.Codec(Record, forms)
    assert (
        strict.read({"name": "", "note": "a\x1bb", "at": -5}).note == "a\N{REPLACEMENT CHARACTER}b"
    )
    assert strict.read({"name": "abc", "note": "abcdefgh"}).note == "abcd…"
    for raw in ({"name": "a1"}, {"name": "a\n"}, {"name": "a", "at": 6}):
        with pytest.raises(outside.OutsideError):
            strict.read(raw)
    free = codec.Codec(Record, otherwise=codec.Form(free=True, longest=8))
    assert free.read({"name": "a\nb"}).name == "a\nb"
    with pytest.raises(outside.OutsideError):
        free.read({"name": "a" * 9})


@dataclasses.dataclass(frozen=True)
class Holder:
    inner: Point
    owner: str


def test_given_numbers_written_as_texts_when_read_then_only_decimal_ones_pass():
    outer = codec.Codec(Holder, {"inner": codec.Form(sparse=True, texts=True)}, without=("owner",))
    assert json.loads(outer.to_json(Holder(Point(7), "me"))) == {"inner": {"x": "7"}}
    assert outer.read({"inner": {"x": "7"}}, owner="me") == Holder(Point(7), "me")
    for wrong in (7, "-7", "7.0", "", "0x7", "\N{ARABIC-INDIC DIGIT SEVEN}"):
        with pytest.raises(outside.OutsideError, match="garbles x"):
            outer.read({"inner": {"x": wrong}}, owner="me")
