"""A history comes back from its file as it was."""

from __future__ import annotations

import pytest

from proof import records


def _history() -> records.History:
    header = records.Header(cluster_id=1 << 63, member_id=2, revision=3, raft_term=4)
    kv = records.KV("/p/a", "1", create_revision=1, mod_revision=3, version=2, lease=7)
    deleted = records.Event(records.KV("/p/a", "", 0, 4, 0), deleted=True, prev=kv)
    return records.History.of(
        "/p/",
        0.5,
        9.5,
        [
            records.Operation("c0", records.Kind.PUT, 1.25, "/p/a", "1", prev=kv, header=header),
            records.Operation("c0", records.Kind.GET, 2.0, "/p/a", answered=2.5, kvs=(kv,)),
            records.Operation("c0", records.Kind.USER_LIST, 2.0, "", names=("root", "u")),
            records.WatchResponse("w", "/p/", 1, 0, 1.0, created=True, header=header),
            records.WatchResponse("w", "/p/", 1, 0, 2.0, events=(records.Event(kv), deleted)),
            records.Probe(1.0, "etcd/0", answered=False),
            records.Announcement(3.0, "restore", generation=2, revision=3, lost=0),
            records.Status(3.0, "etcd/0", "active", "Healthy with 3 known peers"),
            records.Machine("etcd/0", kept=(records.Kept("token", 1),)),
            records.Fault(3.0, "kill", "etcd/1", until=4.0),
        ],
    )


def test_given_records_of_every_type_when_written_and_read_then_they_are_the_same() -> None:
    assert records.History.read(_history().lines()) == _history()


def test_given_a_second_head_when_read_then_it_counts() -> None:
    lines = ['{"prefix":"/p/","began":0,"ended":0}\n', *list(_history().lines())[::-1]]
    assert records.History.read(lines).ended == 9.5


@pytest.mark.parametrize("bad", ["{", '{"type":"operations","no":1}', '{"type":"x"}', "[]", "1"])
def test_given_a_line_of_something_else_when_read_then_its_number_is_said(bad: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not of a history"):
        records.History.read([next(iter(_history().lines())), bad])


def test_given_no_head_when_read_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="not of a history"):
        records.History.read(list(_history().lines())[1:])
