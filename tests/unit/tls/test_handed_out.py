"""Who was handed a client certificate, as databags tell it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tls import handed_out

ONE = handed_out.Handed("ab12", "operator", 1000, 2000, "etcd/0")

handed = st.builds(
    handed_out.Handed,
    st.from_regex(re.compile("[1-9a-f][0-9a-f]{0,39}"), fullmatch=True),
    st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=64),
    st.integers(0, 10**11),
    st.integers(1, 10**11),
    st.from_regex(re.compile("[a-z]{1,8}/[0-9]{1,3}"), fullmatch=True),
)


@given(st.lists(handed, max_size=20, unique_by=lambda one: one.serial))
def test_given_certificates_when_written_and_read_then_the_same(each):
    assert set(handed_out.read(handed_out.to_text(each))) == set(each)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "{" * 5000, json.dumps({"ab": 5}), json.dumps({"ab": ["x", 1, 2]}),
        json.dumps({"zz": ["x", 1, 2, "etcd/0"]}), json.dumps({"ab": ["x", "1", 2, "etcd/0"]}),
        json.dumps({"ab": ["x", True, 2, "etcd/0"]}), json.dumps({"ab": ["x", 1, 2, "; rm"]}),
        json.dumps({"ab": ["x", 1, 1e400, "etcd/0"]}), json.dumps({"ab": ["x", -1, 2, "etcd/0"]}),
    ],
)  # fmt: skip
def test_given_what_is_none_when_read_then_it_is_left_out(text):
    assert handed_out.read(text) == ()


@given(st.text(max_size=200))
def test_given_any_text_when_read_then_no_error(text):
    handed_out.read(text)


def test_given_a_name_that_steers_a_terminal_when_read_then_it_is_printable():
    (one,) = handed_out.read(json.dumps({"ab": ["a\x1b[2J", 1, 2, "etcd/0"]}))
    assert one.name.isprintable()


def test_given_many_when_one_is_added_then_those_stay_that_end_last():
    known = [handed_out.Handed(f"{n:x}", "x", n, 5000 + n, "etcd/0") for n in range(1, 200)]
    new = handed_out.Handed("ffff", "new", 4000, 9000, "etcd/0")
    kept = handed_out.added(known, new)
    assert len(kept) == 100
    assert kept[0] == new
    assert min(one.until for one in kept) == 5101
    assert handed_out.latest([ONE, ONE]) == (ONE,)
    assert handed_out.latest([ONE], now=2000.0) == ()
