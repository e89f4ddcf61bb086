"""What is proven and what is only possible: small histories made by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from proof import judge, records
from proof.judge import Verdict

Kind = records.Kind
A, B, C = 0xA, 0xB, 0xC
KEY = "/p/a"
CUT = 3


def kv(value: str, mod: int, version: int = 1, created: int = 0, key: str = KEY) -> records.KV:
    return records.KV(key, value, created or mod, mod, version)


def op(kind: Kind, at: float, revision: int = 0, cluster: int = A, **rest) -> records.Operation:
    """An operation from `at` on that takes 0.1 s; without a revision, one without an answer."""
    over = {"key": KEY, "client": f"c{at}"}
    if revision:
        header = records.Header(cluster, 1, revision)
        over |= {"answered": at + 0.1, "outcome": records.Outcome.OK, "header": header}
    return records.Operation(kind=kind, invoked=at, **(over | rest))


def put(at: float, revision: int, value: str, prev=None, cluster: int = A, **rest):
    return op(Kind.PUT, at, revision, cluster, value=value, prev=prev, **rest)


def read(at: float, revision: int, *kvs: records.KV, cluster: int = A, **rest):
    return op(Kind.LIST, at, revision, cluster, kvs=kvs, **{"key": "/p/", **rest})


def watch(at: float, asked: int = 0, revision: int = 1, cluster: int = A, **rest):
    header = None if rest.get("broken") else records.Header(cluster, 1, revision)
    over = {"connection": 1, "pinned": "etcd/0", "header": header, **rest}
    return records.WatchResponse("w", "/p/", asked=asked, at=at, **over)


def told(at: float, *events: records.Event, **rest) -> records.WatchResponse:
    return watch(at, revision=events[-1].kv.mod_revision, events=events, **rest)


def said(at: float, revision: int = CUT, action: str = "restore", **rest) -> records.Announcement:
    return records.Announcement(at, action, revision=revision, **{"lost": revision, **rest})


def probe(at: float, revision: int, cluster: int = A, unit: str = "etcd/0") -> records.Probe:
    return records.Probe(at, unit, True, cluster, 1, revision, 2, 1)


def verdicts(*its: records.Record, ended: float = 100.0) -> set[Verdict]:
    history = records.History.of("/p/", 0.0, ended, its)
    return {finding.verdict for finding in judge.judge(history).findings}


UNSEEN = op(Kind.DELETE, 1.0, value="d1", marker="/p/m")


def test_given_a_deletion_without_an_answer_when_its_key_is_gone_then_that_may_be_why() -> None:
    one = put(0.0, 2, "1")
    assert verdicts(one, UNSEEN, read(2.0, 3)) == set()
    assert verdicts(one, UNSEEN, read(2.0, 2)) == {Verdict.LOST}  # no revision is left for it
    assert verdicts(one, read(0.5, 3), UNSEEN) == {Verdict.LOST}  # it was sent later
    assert verdicts(one, read(2.0, 3)) == {Verdict.LOST}


def test_given_a_watcher_that_was_told_all_when_a_key_is_gone_then_no_deletion_is_why() -> None:
    one = put(0.0, 2, "1")
    stream = (
        watch(0.0, created=True),
        told(0.2, records.Event(kv("1", 2))),
        watch(3.0, revision=3, progress=True),
    )
    assert verdicts(one, UNSEEN, read(2.0, 3), *stream) == {Verdict.LOST}
    assert verdicts(one, UNSEEN, read(2.0, 3), *stream[:2]) == set()


def test_given_one_deletion_without_an_answer_when_a_key_goes_twice_then_once_is_lost() -> None:
    its = (put(0.0, 2, "1"), UNSEEN, read(2.0, 4), put(3.0, 5, "2"))
    assert verdicts(*its, read(4.0, 7)) == {Verdict.LOST}
    again = dataclasses.replace(UNSEEN, value="d2", client="x")
    assert verdicts(*its, again, read(4.0, 7)) == set()


def test_given_a_put_without_an_answer_when_a_version_is_left_out_then_that_may_be_why() -> None:
    one = put(0.0, 2, "1")
    found = put(1.5, 0, "3"), read(2.0, 5, kv("3", 4, version=3, created=2))
    assert verdicts(one, put(1.0, 0, "2"), *found) == set()
    assert verdicts(one, *found) == {Verdict.CONTENT}


def test_given_a_key_that_was_made_anew_when_no_revision_is_left_for_its_deletion_then_found() -> (
    None
):
    one, again = put(0.0, 2, "1"), put(1.5, 0, "3")
    assert verdicts(one, UNSEEN, again, read(2.0, 5, kv("3", 4))) == set()
    assert verdicts(one, UNSEEN, again, read(2.0, 5, kv("3", 3))) == {Verdict.CONTENT}


def test_given_a_key_without_a_lease_when_an_event_says_that_it_went_then_found() -> None:
    one = put(0.0, 2, "1")
    gone = told(3.0, records.Event(kv("", 3), deleted=True, prev=kv("1", 2)))
    assert verdicts(one, watch(1.0, created=True, revision=2), gone) == {Verdict.INVENTED}
    leased = dataclasses.replace(one, lease=7)
    was = dataclasses.replace(kv("1", 2), lease=7)
    gone = told(3.0, records.Event(kv("", 3), deleted=True, prev=was))
    assert verdicts(leased, watch(1.0, created=True, revision=2), gone) == set()


def test_given_a_cas_when_its_prev_kv_does_not_fit_its_compare_then_found() -> None:
    one = put(0.0, 2, "1")
    cas = op(Kind.CAS, 1.0, 3, value="2", expected=2, prev=kv("1", 2))
    assert verdicts(one, cas) == set()
    assert verdicts(one, dataclasses.replace(cas, prev=None)) == {
        Verdict.COMPARE,
        Verdict.PREVIOUS,
    }


def test_given_operations_at_one_time_when_revisions_are_not_in_their_order_then_fine() -> None:
    assert verdicts(put(0.0, 3, "1", kv("2", 2)), put(0.05, 2, "2")) == set()
    assert Verdict.STALE in verdicts(put(0.0, 3, "1", kv("2", 2)), put(0.15, 2, "2"))


def test_given_a_write_at_a_revision_that_was_seen_before_when_judged_then_stale() -> None:
    seen = op(Kind.GET, 0.0, 2, key="/p/b")
    assert verdicts(seen, put(1.0, 2, "1")) == {Verdict.STALE}
    assert verdicts(seen, put(1.0, 3, "1")) == set()


def test_given_a_serializable_read_when_it_is_old_then_only_its_own_revision_counts() -> None:
    its = put(0.0, 2, "1"), put(1.0, 3, "2", kv("1", 2))
    old = op(Kind.GET, 2.0, 2, kvs=(kv("1", 2),))
    assert verdicts(*its, old) == {Verdict.STALE}
    assert verdicts(*its, dataclasses.replace(old, linearizable=False)) == set()
    wrong = dataclasses.replace(old, linearizable=False, kvs=())
    assert verdicts(*its, wrong) == {Verdict.LOST}


BEFORE = (
    put(0.0, 2, "1"),
    put(1.0, 3, "2", kv("1", 2)),
    put(2.0, 4, "3", kv("2", 3, version=2, created=2)),
)
SECOND = kv("2", 3, version=2, created=2)
THIRD = kv("3", 4, version=3, created=2)


def test_given_a_restore_when_it_begins_as_announced_then_fine_and_else_not() -> None:
    good = read(20.0, 1000, SECOND, cluster=B)
    assert verdicts(*BEFORE, said(10.0), good) == set()
    assert verdicts(*BEFORE, said(10.0, action="total loss"), good) == set()
    assert verdicts(*BEFORE, said(10.0, lost=None), good) == {Verdict.LOST}
    assert verdicts(*BEFORE, said(10.0, lost=4), good) == {Verdict.LOST}
    assert verdicts(*BEFORE, good) == {Verdict.BASIS, Verdict.LOST}
    assert verdicts(*BEFORE, said(10.0, failed=True), good) == {Verdict.BASIS, Verdict.LOST}
    more = read(20.0, 1000, THIRD, cluster=B)
    assert verdicts(*BEFORE, said(10.0), more) == {Verdict.BASIS}


def test_given_an_unseen_deletion_when_a_restore_lacks_its_key_then_that_may_be_why() -> None:
    its = put(0.0, 2, "1"), put(3.0, 4, "2", None, key="/p/b"), said(10.0, 4)
    shown = read(20.0, 1000, kv("2", 4, key="/p/b"), cluster=B)
    assert verdicts(*its, UNSEEN, shown) == set()
    assert verdicts(*its, shown) == {Verdict.BASIS}
    third = kv("3", 3, key="/p/c")
    taken = put(2.0, 3, "3", None, key="/p/c")
    both = read(20.0, 1000, kv("2", 4, key="/p/b"), third, cluster=B)
    assert verdicts(*its, UNSEEN, taken, both) == {Verdict.BASIS}  # no revision is left for it


def test_given_a_recovery_when_the_survivor_holds_more_than_it_said_then_fine() -> None:
    more = read(20.0, 1000, THIRD, cluster=B)
    assert verdicts(*BEFORE, said(10.0, action="recover"), more) == set()
    less = read(20.0, 1000, kv("1", 2), cluster=B)
    assert Verdict.BASIS in verdicts(*BEFORE, said(10.0, action="recover"), less)


def test_given_a_write_that_only_the_new_cluster_shows_when_the_old_was_read_then_found() -> None:
    its = put(0.0, 2, "1"), put(0.5, 0, "2"), put(0.6, 4, "3", None, key="/p/b"), said(10.0)
    shown = read(20.0, 1000, kv("2", 3, version=2, created=2), cluster=B)
    assert verdicts(*its, shown) == set()
    read_before = op(Kind.GET, 1.0, 4, kvs=(kv("1", 2),))
    assert verdicts(*its, read_before, shown) == {Verdict.CONTENT}


def test_given_writes_of_the_new_cluster_when_it_is_read_then_its_basis_shows_through() -> None:
    after = put(20.0, 1001, "4", SECOND, cluster=B)
    shown = read(21.0, 1001, kv("4", 1001, version=3, created=2), cluster=B)
    assert verdicts(*BEFORE, said(10.0), after, shown) == set()
    wrong = dataclasses.replace(after, prev=kv("1", 2))
    assert Verdict.BASIS in verdicts(*BEFORE, said(10.0), wrong)


def test_given_two_restores_of_which_one_came_to_be_when_judged_then_fine() -> None:
    good = read(20.0, 1000, SECOND, cluster=B)
    assert verdicts(*BEFORE, said(5.0), said(10.0), good) == set()
    assert verdicts(*BEFORE, said(5.0, 2), said(10.0), good) == set()


def test_given_a_restore_that_was_rolled_back_when_nobody_saw_it_then_fine() -> None:
    go_on = put(30.0, 5, "4", THIRD)
    assert verdicts(*BEFORE, said(10.0), go_on) == set()
    seen = probe(20.0, 1000, B)
    assert verdicts(*BEFORE, said(10.0), seen, go_on) == {Verdict.UNCONFIRMED}


def test_given_an_old_cluster_that_goes_on_when_judged_then_it_is_split() -> None:
    new = put(20.0, 1001, "4", SECOND, cluster=B), put(40.0, 1002, "5", None, cluster=B)
    new = (
        new[0],
        dataclasses.replace(new[1], prev=kv("4", 1001, version=3, created=2)),
    )
    write = put(30.0, 5, "9", THIRD)
    assert verdicts(*BEFORE, said(10.0), *new) == set()
    assert verdicts(*BEFORE, said(10.0), *new, write) == {Verdict.SPLIT}
    late = op(Kind.GET, 30.0, 4, kvs=(THIRD,))
    assert verdicts(*BEFORE, said(10.0), *new, late) == {Verdict.SPLIT}
    local = dataclasses.replace(late, linearizable=False)
    assert verdicts(*BEFORE, said(10.0), *new, local) == set()
    for seconds, grants in ((29.0, True), (30.05, True), (14.0, False), (30.2, False)):
        back = records.Announcement(seconds, records.BACK)
        for its in (write, late):
            found = verdicts(*BEFORE, said(10.0), *new, its, back)
            assert (found == set()) == grants, (seconds, its)


def test_given_a_rolled_back_cluster_that_acknowledged_when_judged_then_that_is_no_split() -> None:
    write = put(20.0, 1001, "4", SECOND, cluster=B)
    go_on = put(30.0, 5, "9", THIRD)
    assert verdicts(*BEFORE, said(10.0), write, go_on) == {Verdict.UNCONFIRMED}
    again = dataclasses.replace(write, invoked=40.0, answered=40.1, value="5", client="x")
    again = dataclasses.replace(
        again,
        header=records.Header(B, 1, 1002),
        prev=kv("4", 1001, version=3, created=2),
    )
    serves = records.Machine("etcd/0", etcd_running=True, cluster_id=B)
    its = (*BEFORE, said(10.0), write, go_on, again)
    assert verdicts(*its) == {Verdict.SPLIT}
    late = dataclasses.replace(go_on, invoked=50.0, answered=50.1)
    its = (*BEFORE, said(10.0), write, again, late)
    assert verdicts(*its, serves) == {Verdict.SPLIT}


def test_given_a_restore_after_a_rollback_when_all_is_there_then_nothing_is_lost() -> None:
    gone = put(20.0, 1001, "4", SECOND, cluster=B)
    go_on = put(30.0, 5, "9", THIRD)
    ninth = kv("9", 5, version=4, created=2)
    again = said(40.0, 5, lost=None), read(50.0, 2000, ninth, cluster=C)
    assert verdicts(*BEFORE, said(10.0), gone, go_on, *again) == {Verdict.UNCONFIRMED}
    older = said(40.0, 4), read(50.0, 2000, THIRD, cluster=C)
    assert verdicts(*BEFORE, said(10.0), gone, go_on, *older) == {Verdict.UNCONFIRMED}
    older = said(40.0, 4, lost=None), older[1]
    assert verdicts(*BEFORE, said(10.0), gone, go_on, *older) == {
        Verdict.UNCONFIRMED,
        Verdict.LOST,
    }


def test_given_an_old_backup_when_it_is_restored_again_then_what_came_since_is_lost_too() -> None:
    second = put(20.0, 1001, "4", SECOND, cluster=B)
    third = read(50.0, 2000, SECOND, cluster=C)
    assert verdicts(*BEFORE, said(10.0), second, said(40.0), third) == set()
    assert verdicts(*BEFORE, said(10.0), second, said(40.0, lost=None), third) == {Verdict.LOST}


def test_given_two_new_clusters_when_one_was_announced_then_the_other_is_found() -> None:
    its = (*BEFORE, said(10.0), read(20.0, 1000, SECOND, cluster=B))
    third = read(30.0, 2000, SECOND, cluster=C)
    assert verdicts(*its, third) == {Verdict.BASIS}
    assert verdicts(*its, said(25.0), third) == set()


def test_given_revisions_below_what_clients_know_when_a_cluster_begins_then_found() -> None:
    assert Verdict.REVISIONS in verdicts(*BEFORE, said(10.0), read(20.0, 4, SECOND, cluster=B))
    fresh = probe(21.0, 1, B, "etcd/3")  # a new member before it has the data
    canceled = watch(21.0, 4, 0, B, canceled=True, compact_revision=1000)
    good = read(20.0, 1000, SECOND, cluster=B)
    assert verdicts(*BEFORE, said(10.0), good, fresh, canceled) == set()


def test_given_users_from_before_a_restore_when_listed_then_those_before_its_revision() -> None:
    old = op(Kind.USER_ADD, 0.5, 2, key="old")
    edge = op(Kind.USER_ADD, 1.5, 3, key="edge")
    young = op(Kind.USER_ADD, 2.5, 4, key="young")
    its = (*BEFORE, old, edge, young, said(10.0), read(20.0, 1000, SECOND, cluster=B))
    listed = op(Kind.USER_LIST, 21.0, 1000, B, key="", names=("root", "old", "edge"))
    assert verdicts(*its, listed) == set()
    assert verdicts(*its, dataclasses.replace(listed, names=("old",))) == set()
    assert verdicts(*its, dataclasses.replace(listed, names=("edge",))) == {Verdict.ACCOUNT}
    removed = op(Kind.USER_DELETE, 20.5, 1000, B, key="old")
    assert verdicts(*its, removed, listed) == {Verdict.ACCOUNT}
    assert verdicts(*its, removed, dataclasses.replace(listed, names=())) == set()


def test_given_leases_when_a_member_is_behind_or_time_is_over_then_fine() -> None:
    grant = op(Kind.LEASE_GRANT, 0.5, 2, key="7", ttl=10.0)
    old = op(Kind.LEASE_LIST, 2.0, 2, key="")
    missing = op(Kind.LEASE_LIST, 3.0, 3, key="")
    shown = op(Kind.LEASE_LIST, 4.0, 4, key="", names=("7",))
    over = op(Kind.LEASE_LIST, 11.0, 9, key="")
    its = (*BEFORE, grant)
    assert verdicts(*its, old, shown, over) == set()
    assert verdicts(*its, missing) == {Verdict.LEASE}
    assert verdicts(*its, missing, shown) == set()  # the list was only old
    revoke = op(Kind.LEASE_REVOKE, 2.5, 4, key="7")
    assert verdicts(*its, revoke, shown) == set()  # at the same revision: either may be first
    later = op(Kind.LEASE_LIST, 5.0, 5, key="", names=("7",))
    assert verdicts(*its, revoke, later) == {Verdict.LEASE}


def test_given_a_silent_watcher_when_nothing_shows_that_its_member_lives_then_not_deaf() -> None:
    its = watch(0.0, created=True), *BEFORE
    assert verdicts(*its) == set()
    assert verdicts(*its, probe(5.0, 3)) == set()  # behind
    assert verdicts(*its, probe(5.0, 4)) == {Verdict.DEAF}
    assert verdicts(*its, probe(5.0, 4), watch(14.0, broken=True)) == set()
    events = (
        records.Event(kv("1", 2)),
        records.Event(SECOND, prev=kv("1", 2)),
        records.Event(THIRD, prev=SECOND),
    )
    assert verdicts(*its, probe(5.0, 4), told(40.0, *events)) == set()  # slow


def test_given_a_resume_at_another_cluster_when_it_ends_at_once_then_not_fooled() -> None:
    its = watch(0.0, created=True), *BEFORE, watch(11.0, broken=True)
    new = said(10.0), read(20.0, 1000, SECOND, cluster=B)
    accepted = watch(21.0, 2, 1000, B, connection=2, created=True)
    ends = watch(21.1, 2, connection=2, broken=True)
    canceled = watch(21.1, 2, 0, B, connection=2, canceled=True, compact_revision=1000)
    assert verdicts(*its, *new, accepted, ends) == set()
    assert verdicts(*its, *new, accepted, canceled) == set()
    assert verdicts(*its, *new, accepted) == {Verdict.FOOLED}
    again = watch(22.0, 2, 1000, B, connection=3, created=True)
    assert verdicts(*its, *new, accepted, ends, again) == {Verdict.FOOLED}
    beyond = watch(21.0, 5000, 1000, B, connection=2, created=True)
    assert verdicts(*its, *new, beyond) == {Verdict.FOOLED}


def test_given_a_watcher_that_goes_on_from_a_list_when_another_cluster_accepts_then_fooled() -> (
    None
):
    its = watch(0.0, created=True), *BEFORE, watch(11.0, broken=True)
    new = said(10.0), read(20.0, 1000, SECOND, cluster=B)
    canceled = watch(21.0, 2, 0, B, connection=2, canceled=True, compact_revision=1000)
    listed = read(22.0, 1000, SECOND, cluster=B, client="w")
    back = watch(23.0, 1001, 4, A, connection=3, created=True)
    assert verdicts(*its, *new, canceled, listed, back) == {Verdict.FOOLED}
    good = watch(23.0, 1001, 1000, B, connection=3, created=True)
    assert verdicts(*its, *new, canceled, listed, good) == set()
    unlisted = watch(23.0, 2, 1000, B, connection=3, created=True)
    assert verdicts(*its, *new, canceled, unlisted) == set()  # it was told


def test_given_a_watcher_that_waits_for_revisions_of_another_cluster_then_it_is_deaf_as_well() -> (
    None
):
    its = watch(0.0, created=True), *BEFORE, watch(11.0, broken=True)
    seen = probe(20.0, 1000, B), read(20.0, 1000, SECOND, cluster=B)
    over = watch(20.5, 2, 0, B, connection=2, canceled=True, compact_revision=1000)
    listed = read(21.0, 1000, SECOND, cluster=B, client="w")
    back = watch(25.0, 1001, 4, A, connection=3, created=True)
    go_on = put(30.0, 5, "4", THIRD), probe(31.0, 5)
    told_of = watch(40.0, 1001, 5, A, connection=3, progress=True)
    its = (*its, said(10.0), *seen, over, listed, back, *go_on, told_of)
    assert verdicts(*its) == {Verdict.UNCONFIRMED, Verdict.FOOLED, Verdict.DEAF}


def test_given_a_watcher_that_was_fooled_when_it_resumes_there_then_that_is_told_once() -> None:
    its = watch(0.0, created=True), *BEFORE, watch(11.0, broken=True)
    new = said(10.0), put(20.0, 1001, "4", SECOND, cluster=B)
    fooled = (
        watch(21.0, 2, 1000, B, connection=2, created=True),
        watch(22.0, 2, 1001, B, connection=2, progress=True),
        watch(23.0, 2, connection=2, broken=True),
        watch(24.0, 1002, 1001, B, connection=3, created=True),
    )
    history = records.History.of("/p/", 0.0, 100.0, [*its, *new, *fooled])
    found = [f.verdict for f in judge.judge(history).findings]
    assert found.count(Verdict.FOOLED) == 1


def test_given_an_event_from_before_the_revision_asked_for_when_judged_then_found() -> None:
    its = *BEFORE, watch(3.0, 4, 4, created=True)
    assert verdicts(*its, told(4.0, records.Event(THIRD, prev=SECOND))) == set()
    events = (records.Event(SECOND, prev=kv("1", 2)), records.Event(THIRD, prev=SECOND))
    assert verdicts(*its, told(4.0, *events)) == {Verdict.WATCH_ORDER}


def test_given_a_compaction_when_prev_kv_is_not_told_then_fine() -> None:
    its = watch(0.0, created=True), *BEFORE[:2]
    events = told(5.0, records.Event(kv("1", 2)), records.Event(SECOND))
    assert verdicts(*its, events) == {Verdict.WATCH_PREVIOUS}
    assert verdicts(*its, events, records.Fault(3.0, "compact")) == set()


ADVICE = "no quorum of members answers: run `juju run etcd/leader recover`"


@pytest.mark.parametrize(
    ("silence", "at", "until", "bad"),
    [
        ((40.0, 70.0), 60.0, 90.0, False),  # true when it was said
        ((40.0, 70.0), 72.0, 90.0, False),  # seen before, said a little later
        ((40.0, 70.0), 60.0, 200.0, True),  # stands for minutes
        ((40.0, 70.0), 100.0, 101.0, True),  # false
    ],
)
def test_given_destructive_advice_when_judged_then_only_what_is_false(
    silence: tuple[float, float], at: float, until: float, bad: bool
) -> None:
    times = [float(second) for second in range(220)]
    its: list[records.Record] = []
    prev = None
    for revision, second in enumerate(
        (t for t in times if not silence[0] < t < silence[1]), start=2
    ):
        its.append(put(second, revision, f"v{revision}", prev))
        prev = kv(f"v{revision}", revision, version=revision - 1, created=2)
    its += [
        records.Status(at, "etcd/0", "blocked", ADVICE),
        records.Status(until, "etcd/0", "active", "Healthy with 3 known peers"),
    ]
    assert verdicts(*its, ended=220.0) == ({Verdict.ADVICE} if bad else set())


def test_given_a_history_when_judged_then_its_figures_are_those_of_clients_with_all_endpoints(
) -> None:  # fmt: skip
    its = [
        *BEFORE,
        put(2.5, 0, "lost"),
        put(2.6, 0, "pinned", pinned="etcd/0"),
        read(30.0, 4, THIRD),
        records.Fault(5.0, "kill", "etcd/1"),
        records.Status(0.0, "etcd/0", "active", ""),
        records.Status(0.0, "etcd/1", "active", ""),
        records.Status(6.0, "etcd/1", "waiting", ""),
        records.Status(25.0, "etcd/1", "active", ""),
    ]
    figures = judge.judge(records.History.of("/p/", 0.0, 40.0, its)).figures
    assert (figures.requests, figures.failed, figures.healthy_after) == (5, 1, 20.0)
    assert figures.longest_gap == pytest.approx(28.0)
    assert figures.longest_write_gap == pytest.approx(37.9)
    its.append(records.Status(39.0, "etcd/0", "waiting", ""))
    figures = judge.judge(records.History.of("/p/", 0.0, 40.0, its)).figures
    assert figures.healthy_after == math.inf
