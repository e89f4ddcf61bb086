"""What a restore begins with, by what this unit can learn."""

from __future__ import annotations

import contextlib
import dataclasses
import types
from typing import TYPE_CHECKING

import pytest

import snapshots
from cluster import generation as generations
from cluster import revisions, view
from etcd import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "https://198.18.0.1:2380"
OLD = generations.Generation(
    3,
    "three",
    generations.Source.BACKUP,
    (),
    (("bump", "500"), ("revision", "100")),
    confirmed=True,
)


class FakeNode:
    """A unit whose cluster is at `live`, None where it does not answer."""

    def __init__(self, live: int | None, disk: int, told: int, record: generations.Generation):
        self.live = live
        self.root = types.SimpleNamespace(
            disk=lambda *, facts: view.Disk(facts=view.DiskFacts(1, 1, disk) if facts else None)
        )
        unit = view.Unit("etcd/1", peer_url=URL, facts=view.DiskFacts(1, 1, told))
        self.peers = types.SimpleNamespace(
            units=lambda: (view.Unit("etcd/0", peer_url=URL), unit),
            generation=lambda: record,
            proposal=lambda: None,
        )

    @contextlib.contextmanager
    def client(self) -> Iterator[types.SimpleNamespace]:
        if self.live is None:
            raise errors.UnreachableError("nobody answers")
        yield types.SimpleNamespace(revision=lambda: self.live)


def high_of(made: generations.Generation) -> int:
    return int(dict(made.detail)["high"])


@pytest.mark.parametrize("newest", ["live", "told", "record", "backups", "snapshot"])
def test_given_a_cluster_that_answers_when_restored_then_it_begins_above_all_that_is_known(newest):
    known = {"live": 1, "told": 2, "record": 3, "backups": 4, "snapshot": 5, newest: 7000}
    record = dataclasses.replace(OLD, detail=(("high", str(known["record"])),))
    node = FakeNode(known["live"], 10**6, known["told"], record)
    detail = {"revision": str(known["snapshot"]), "high": str(known["backups"])}
    made = snapshots.propose(node, detail)
    assert high_of(made) == 7000 + revisions.MARGIN
    assert made.founders == (
        generations.Founder("etcd/0", URL),
        generations.Founder("etcd/1", URL),
    )


def test_given_a_silent_cluster_when_restored_then_this_disk_and_the_backups_are_asked():
    detail = {"revision": "5"}
    made = snapshots.propose(FakeNode(None, 8000, 2, OLD), detail, known=lambda: 7000)
    assert high_of(made) == 8000 + revisions.MARGIN
    made = snapshots.propose(FakeNode(None, 10, 2, OLD), detail, known=lambda: 7000)
    assert high_of(made) == 7000 + revisions.MARGIN
    made = snapshots.propose(FakeNode(None, 10, 2, OLD), detail)
    assert high_of(made) == 600 + revisions.MARGIN, "a record of an earlier charm"


def test_given_a_cluster_that_answers_when_restored_from_a_file_then_the_remote_is_let_be():
    def asked() -> int:
        raise AssertionError("a restore from a file waits for no remote")

    assert high_of(snapshots.propose(FakeNode(9, 0, 0, OLD), {"revision": "5"}, known=asked)) > 9
