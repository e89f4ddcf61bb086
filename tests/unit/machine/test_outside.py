"""Text from outside: bounds of size, depth, count and numbers; what steers a terminal."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import outside

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_given_any_json_of_ours_when_read_then_it_is_the_same(value):
    assert outside.json_value(json.dumps(value)) == value


@given(st.text(alphabet='[]{}"\\,:1a'))
def test_given_any_text_when_read_then_a_value_or_our_error(text):
    try:
        found = outside.json_value(text, depth=5)
    except outside.OutsideError:
        return
    assert found == json.loads(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000, "brackets"),
        ('{"a":' * 17 + "1" + "}" * 17, "brackets"),
        ("1" * 30, "too large"),
        ("1e999", "too large"),
        ("NaN", "no number"),
        ("[1, -Infinity]", "no number"),
        (" " * (1 << 21), "bytes"),
        (b"\xff\xfe", "not JSON"),
        ('"' + "\\" * 200_001, "not JSON"),
        ('"a' * 200_000, "not JSON"),
    ],
)
def test_given_json_out_of_bounds_when_read_then_refused_soon_in_a_sentence(text, sentence):
    began = time.monotonic()
    with pytest.raises(outside.OutsideError, match=sentence):
        outside.json_value(text)
    assert time.monotonic() - began < 2


def test_given_brackets_in_a_string_when_read_then_they_do_not_count():
    assert outside.json_value('["' + "[{" * 50 + '\\"["]') == ["[{" * 50 + '"[']


@pytest.mark.parametrize(
    ("text", "read"), [("{}", outside.json_list), ("[]", outside.json_object)]
)
def test_given_another_kind_of_value_when_read_then_refused(text, read):
    with pytest.raises(outside.OutsideError, match="not a JSON"):
        read(text, 5)


def test_given_a_longer_list_than_allowed_when_read_then_refused():
    assert outside.json_list("[1,2]", 2) == [1, 2]
    with pytest.raises(outside.OutsideError, match="more than 2 entries"):
        outside.json_list("[1,2,3]", 2)


@given(st.text())
def test_given_any_text_when_made_printable_then_nothing_steers_a_terminal(text):
    assert outside.printable(text, 50).isprintable()
    assert len(outside.printable(text, 50)) <= 50
    assert all(c.isprintable() or c in "\n\t" for c in outside.printable(text, lines=True))


def test_given_a_foreign_text_when_logged_then_nothing_in_it_steers_a_terminal():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        outside.guard_logs()
        logging.getLogger("x").warning("the remote says %s", "\x1b]0;owned\x07\u202e")
    finally:
        root.removeHandler(handler)
    assert stream.getvalue().startswith("the remote says ")
    assert stream.getvalue().rstrip("\n").isprintable()
