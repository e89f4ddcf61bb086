"""Documents on a remote, and who may have written them."""

from __future__ import annotations

import json

import hypothesis
import hypothesis.strategies as st
import pytest

from backup import seal

NOW = 1_795_000_000.0
DAY = 86400.0
DOCUMENT = {"id": "a", "proven_at": None, "duration": 0.1, "members": ["etcd-0", "é"]}


def keys(now: float = NOW) -> seal.Keys:
    return seal.Keys().renewed(now)


def test_given_a_sealed_document_when_read_back_in_any_layout_then_its_key_holds():
    ours = keys()
    sealed = ours.sealed("manifest", DOCUMENT, NOW)
    for text in (json.dumps(sealed, indent=2), json.dumps(dict(reversed(sealed.items())))):
        assert ours.holds("manifest", json.loads(text))


@hypothesis.given(st.sampled_from(sorted(DOCUMENT)), st.none() | st.floats(0, 1e9) | st.text())
def test_given_a_sealed_document_when_any_value_changes_then_it_does_not_hold(name, value):
    ours = keys()
    sealed = ours.sealed("manifest", DOCUMENT, NOW)
    hypothesis.assume(sealed[name] != value)
    assert not ours.holds("manifest", {**sealed, name: value})
    assert not ours.holds("manifest", {**sealed, "more": value})


def test_given_another_kind_or_another_application_when_asked_then_it_does_not_hold():
    ours = keys()
    sealed = ours.sealed("manifest", DOCUMENT, NOW)
    assert not ours.holds("owner", sealed)
    assert not keys().holds("manifest", sealed)
    assert not seal.Keys().holds("manifest", sealed)


@pytest.mark.parametrize("code", [None, 5, "", "é", ["x"], {"x": 1}])
def test_given_a_code_that_is_none_when_asked_then_it_does_not_hold(code):
    ours = keys()
    sealed = ours.sealed("manifest", DOCUMENT, NOW)
    assert not ours.holds("manifest", {**sealed, "hmac_sha256": code})
    assert not ours.holds("manifest", {**sealed, "hmac_key": code})


def test_given_no_key_when_sealed_then_the_document_is_as_it_was():
    assert seal.Keys().sealed("manifest", DOCUMENT, NOW) == DOCUMENT


def test_given_a_year_when_renewed_then_the_new_key_signs_only_once_all_units_have_it():
    old = keys()
    assert old.renewed(NOW + 300 * DAY) is old
    both = old.renewed(then := NOW + 366 * DAY)
    assert len(both.keys) == 2 and both.mark != old.mark
    young = both.sealed("manifest", DOCUMENT, then + 60)
    assert old.holds("manifest", young), "a unit that has not heard of the new key believes it"
    late = both.sealed("manifest", DOCUMENT, then + 2 * DAY)
    assert not old.holds("manifest", late) and both.holds("manifest", late)
    assert both.holds("manifest", old.sealed("manifest", DOCUMENT, NOW)), "old backups stay"


def test_given_keys_when_written_and_read_then_the_same_and_shown_nowhere():
    both = keys().renewed(NOW + 366 * DAY)
    assert seal.Keys.from_json(both.to_json()) == both
    assert all(key.value not in repr(both) for key in both.keys)


@pytest.mark.parametrize("text", ["", "{}", "[5]", '[{"name": "a"}]', "nonsense"])
def test_given_no_keys_when_read_then_one_sentence(text):
    with pytest.raises(ValueError, match="cannot be read"):
        seal.Keys.from_json(text)
