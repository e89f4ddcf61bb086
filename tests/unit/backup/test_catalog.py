"""Manifests and names: what is read is what was written, and nothing else gets through."""

from __future__ import annotations

import dataclasses
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from backup import catalog as catalogs
from backup import listing as listings
from backup import manifest as manifests
from backup import owner as owners
from backup import rclone, schedule, seal

NOW = 1_795_000_000.0
SHA = "ab" * 32


def manifest(at: float = NOW, revision: int = 7, **changes) -> manifests.Manifest:
    name = manifests.new_id(at, 2, revision)
    made = manifests.Manifest(
        id=name,
        file=f"{name}.db",
        cluster_id=0xCDF818194E3A8C32,
        generation=2,
        token="t",
        revision=revision,
        raft_index=9,
        etcd_version="3.5.16",
        storage_version="",
        size=10,
        sha256=SHA,
        stored_size=10,
        stored_sha256=SHA,
        compression="",
        keys=3,
        members=("etcd-0", "etcd-1"),
        taken_by="etcd/0",
        taken_at=at,
        duration=1.5,
    )
    return dataclasses.replace(made, **changes)


def entries(*manifests: manifests.Manifest) -> list[rclone.Entry]:
    found = []
    for each in manifests:
        found.append(rclone.Entry(each.file, each.stored_size, NOW))
        found.append(rclone.Entry(f"{each.id}.json", 500, NOW))
    return found


def texts(*manifests: manifests.Manifest) -> dict[str, str]:
    return {f"{each.id}.json": each.to_json() for each in manifests}


def test_given_a_manifest_when_written_and_read_then_the_same():
    for each in (manifest(), manifest(proven_at=NOW), manifest(hash=1, hash_compacted=-1)):
        assert manifests.Manifest.from_json(each.to_json()) == each


def test_given_a_manifest_of_an_earlier_charm_when_read_then_its_revision_is_what_it_knows():
    raw = json.loads(manifest(revision=40).to_json())
    del raw["high"]
    old = manifests.Manifest.from_json(json.dumps(raw))
    assert old.high == 0 and listings.Listing((old,)).high == 40
    assert listings.Listing((old, manifest(revision=30, high=9000))).high == 9000
    assert listings.Listing(()).high == 0
    ours = manifest(revision=50, high=60)
    both = (manifest(revision=30, high=9000), ours)
    assert listings.Listing(both, authentic=frozenset({ours.id})).high == 60


def test_given_a_manifest_when_a_person_looks_then_times_and_ids_are_readable():
    raw = json.loads(manifest().to_json())
    assert raw["cluster_id"] == "cdf818194e3a8c32"
    assert raw["taken"] == "2026-11-18T11:06:40Z"
    assert raw["format"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": "other.db"},
        {"id": "x"},
        {"sha256": "short"},
        {"stored_sha256": ""},
        {"size": -1},
        {"high": -1},
        {"high": 2**53},
        {"revision": 2**63},
        {"size": "ten"},
        {"size": True},
        {"compression": "rar"},
        {"members": 5},
        {"cluster_id": "xyz"},
        {"taken_at": None},
        {"format": 2},
        {"proven_at": "never"},
        {"proven_at": 1e18},
        {"proven_at": "1795000000"},
        {"taken_at": 1e18},
        {"taken_at": -1e9},
        {"duration": float("nan")},
        {"duration": float("inf")},
        {"revision": 2**70},
        {"members": "etcd-0"},
        {"members": [["etcd-0"]]},
        {"members": ["\x1b[31metcd-0"]},
        {"taken_by": "\n"},
        {"token": "t" * 10_000},
        {"cluster_id": "f" * 17},
        {"cluster_id": "-1"},
        {"cluster_id": 5},
    ],
)
def test_given_a_wrong_manifest_when_read_then_one_sentence(change):
    text = json.dumps({**json.loads(manifest().to_json()), **change})
    with pytest.raises(ValueError, match=r"^\S.*$") as caught:
        manifests.Manifest.from_json(text)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@hypothesis.given(
    st.sampled_from([f.name for f in dataclasses.fields(manifests.Manifest)]), json_values
)
def test_given_any_value_in_any_field_when_read_then_a_manifest_or_a_value_error(name, value):
    text = json.dumps({**json.loads(manifest().to_json()), name: value})
    try:
        assert isinstance(manifests.Manifest.from_json(text), manifests.Manifest)
    except ValueError as error:
        assert str(error)


@hypothesis.given(st.text(max_size=200))
def test_given_any_text_when_read_then_a_value_error(text):
    with pytest.raises(ValueError, match=r"it|number"):
        manifests.Manifest.from_json(text)


@hypothesis.given(
    st.lists(st.text(max_size=40), max_size=8), st.dictionaries(st.text(max_size=9), st.text())
)
def test_given_any_listing_when_judged_then_problems_and_no_exception(names, found):
    listing = listings.judge([rclone.Entry(n, 1, NOW) for n in names], found, NOW)
    assert listing.manifests == () and listing.leftovers == ()


def test_given_complete_backups_when_judged_then_newest_first():
    old, new = manifest(NOW - 60), manifest(NOW)
    listing = listings.judge(entries(old, new), texts(old, new), NOW)
    assert listing.manifests == (new, old)
    assert listing.problems == ()
    assert listing.newest == new and listing.proven is None


def test_given_a_stale_listing_when_judged_then_what_is_not_whole_is_not_listed():
    one = manifest()
    listing = listings.judge(entries(one)[1:], texts(one), NOW)
    assert listing.manifests == () and "is not" in listing.problems[0]


def test_given_a_manifest_under_another_name_when_judged_then_refused():
    one, two = manifest(revision=1), manifest(revision=2)
    listing = listings.judge(
        entries(one, two), {f"{n.id}.json": one.to_json() for n in (one, two)}, NOW
    )
    assert listing.manifests == (one,)
    assert "another backup's" in listing.problems[0]


def test_given_a_newer_format_when_judged_then_said_and_file_left():
    one = manifest()
    text = json.dumps({**json.loads(one.to_json()), "format": 2})
    listing = listings.judge(entries(one), {f"{one.id}.json": text}, NOW + 1e6)
    assert listing.leftovers == () and "format 2" in listing.problems[0]


def test_given_words_when_selecting_then_the_backup_meant():
    old = manifest(NOW - 60, proven_at=NOW)
    new = manifest(NOW)
    both = listings.Listing((new, old))
    assert listings.select(both, "latest") == new
    assert listings.select(both, "proven") == old
    assert listings.select(both, old.id) == old
    assert listings.select(both, old.id[:16]) == old
    assert listings.select(both, new.id[-6:]) == new


@pytest.mark.parametrize("wanted", ["nothing", "2026", "proven"])
def test_given_no_or_several_when_selecting_then_one_sentence(wanted):
    with pytest.raises(LookupError):
        listings.select(listings.Listing((manifest(NOW), manifest(NOW - 60))), wanted)
    with pytest.raises(LookupError, match="no backup on the remote"):
        listings.select(listings.Listing(()), wanted)


def test_given_model_and_application_when_named_then_a_folder_of_its_own():
    assert catalogs.folder("prod", "0123456789abcdef", "etcd") == "prod-01234567/etcd"
    assert catalogs.folder("prod", "0123456789abcdef", "etcd", "old/one") == "old/one"
    for bad in ("../x", "/x", "a//b", "a b", "a/../b", ".hidden", "x\n"):
        with pytest.raises(ValueError, match="cluster-name"):
            catalogs.folder(cluster_name=bad)


def test_given_a_broken_upload_under_its_partial_name_when_judged_then_swept_after_a_day():
    one = manifest()
    partials = [rclone.Entry(f"{name}.1a2b3c4d.partial", 1, NOW) for name in (one.file, "x")]
    young = listings.judge([*entries(one), *partials], texts(one), NOW)
    assert young.manifests == (one,) and young.leftovers == () and len(young.problems) == 2
    old = listings.judge([*entries(one), *partials], texts(one), NOW + 2 * 86400)
    assert old.leftovers == (f"snapshots/{one.file}.1a2b3c4d.partial",)


KEYS = seal.Keys().renewed(NOW)


def sealed(*manifests: manifests.Manifest, keys: seal.Keys = KEYS) -> dict[str, str]:
    return {f"{each.id}.json": each.to_json(keys, NOW) for each in manifests}


def test_given_manifests_of_several_hands_when_judged_then_only_ours_are_believed():
    ours, forged, others, old = (manifest(NOW - n, revision=9 - n) for n in range(4))
    found = sealed(ours, forged)
    found[f"{forged.id}.json"] = found[f"{forged.id}.json"].replace(
        '"proven_at": null', f'"proven_at": {NOW}'
    )
    found |= sealed(others, keys=seal.Keys().renewed(NOW)) | texts(old)
    listing = listings.judge(entries(ours, forged, others, old), found, NOW, KEYS)
    assert [m.id for m in listing.manifests] == [ours.id, forged.id, others.id, old.id]
    assert listing.authentic == {ours.id}
    assert listing.manifests[1].proven_at and listing.proven is None
    assert listings.judge(entries(ours), sealed(ours), NOW).authentic == frozenset()
    with pytest.raises(LookupError, match="no backup was proven"):
        listings.select(listing.without({forged.id}), "proven")
    assert listings.select(listing, "proven").id == forged.id, "by hand, an operator may"


def test_given_a_proof_of_ours_when_asked_for_the_proven_one_then_no_newer_word_outdoes_it():
    ours = manifest(NOW - 60, revision=5, proven_at=NOW)
    forged = manifest(NOW, revision=6, proven_at=NOW)
    listing = listings.judge(entries(ours, forged), sealed(ours) | texts(forged), NOW, KEYS)
    assert listing.newest == forged
    assert listing.proven == ours == listings.select(listing, "proven")


def test_given_a_clock_that_was_ahead_when_judged_then_revisions_order_and_the_fault_is_named():
    """On a store with a clock of its own, and on one that takes a unit's word."""
    ahead, later = manifest(NOW + 30 * 86400, revision=8), manifest(NOW - 60, revision=9)
    for modified, word in ((NOW - 3600, "after it was stored"), (0.0, "in the future")):
        there = [rclone.Entry(e.name, e.size, modified) for e in entries(ahead)]
        there += entries(later)
        listing = listings.judge(there, texts(ahead, later), NOW)
        assert listing.newest == later == listings.select(listing, "latest")
        assert [word in problem for problem in listing.problems] == [True]
        assert ahead.taken_by in listing.problems[0]
    there = [rclone.Entry(e.name, e.size, NOW - 3600) for e in entries(ahead)]
    assert listings.judge(there, texts(ahead), NOW).at(ahead) == NOW - 3600


def test_given_two_of_one_revision_when_judged_then_the_one_from_the_future_is_the_older():
    ahead, now = manifest(NOW + 30 * 86400), manifest(NOW)
    there = [rclone.Entry(e.name, e.size, 0.0) for e in entries(ahead, now)]
    assert listings.judge(there, texts(ahead, now), NOW).newest == now


def test_given_a_restored_cluster_with_lower_revisions_when_judged_then_the_last_one_comes_first():
    before = manifest(NOW - 60, revision=900)
    after = manifest(NOW, revision=7, cluster_id=5)
    listing = listings.judge(entries(before, after), texts(before, after), NOW)
    assert listing.manifests == (after, before)


def test_given_a_clock_that_is_ahead_when_thinned_by_age_then_nothing_goes_for_that():
    old, new = manifest(NOW - 3600, revision=8), manifest(NOW - 60, revision=9)
    listing = listings.judge(entries(old, new), texts(old, new), NOW)
    rule = schedule.Retention(age=86400.0)
    assert listing.doomed(rule, NOW + 365 * 86400) == frozenset()
    assert listing.doomed(rule, NOW) == frozenset()
    assert listing.doomed(schedule.Retention(last=1), NOW) == {old.id}


def test_given_one_from_the_future_when_thinned_then_it_pushes_out_none_that_is_newer():
    ahead = manifest(NOW + 30 * 86400, revision=8)
    later = [manifest(NOW - 60 * n, revision=20 - n) for n in range(3)]
    there = [rclone.Entry(e.name, e.size, 0.0) for e in entries(ahead, *later)]
    listing = listings.judge(there, texts(ahead, *later), NOW)
    assert listing.doomed(schedule.Retention(last=3), NOW) == {ahead.id}


def test_given_proofs_of_an_earlier_charm_when_thinned_then_the_newest_stays_until_we_have_one():
    old, new = manifest(NOW - 60, revision=5, proven_at=NOW), manifest(NOW, revision=6)
    rule = schedule.Retention(last=1)
    assert listings.judge(entries(old, new), texts(old, new), NOW, KEYS).doomed(rule, NOW) == set()
    ours = dataclasses.replace(new, proven_at=NOW)
    listing = listings.judge(entries(old, ours), texts(old) | sealed(ours), NOW, KEYS)
    assert listing.doomed(rule, NOW) == {old.id}


def test_given_an_owner_when_judged_then_it_is_told_and_no_problem():
    one = manifest()
    mine = owners.Owner("etcd", "prod", "0123", "cd", "t")
    there = [*entries(one), rclone.Entry(owners.FILE, 9, NOW)]
    found = texts(one) | {owners.FILE: mine.to_json()}
    listing = listings.judge(there, found, NOW)
    assert (listing.owner, listing.problems, listing.claimed) == (mine, (), True)
    garbled = listings.judge(there, {**found, owners.FILE: "{"}, NOW)
    assert garbled.owner is None and garbled.claimed and owners.FILE in garbled.problems[0]
