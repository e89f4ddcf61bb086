"""One promise of the planner each, on views small enough to read."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster import generation as generations
from cluster import losses, queries, restarting, steps
from cluster import plan as plans
from cluster import view as views

RUNNING, STOPPED = views.Service.RUNNING, views.Service.STOPPED


def url(number: int) -> str:
    return f"https://198.18.0.{number}:2380"


def founders(*numbers: int) -> tuple[generations.Founder, ...]:
    return tuple(generations.Founder(f"etcd/{n}", url(n)) for n in numbers)


def record(*numbers: int, **values: Any) -> generations.Generation:
    base = generations.Generation(
        1, "one", generations.Source.NEW, founders(*numbers), confirmed=True
    )
    return dataclasses.replace(base, **values)


def unit(number: int, **values: Any) -> views.Unit:
    base = views.Unit(
        f"etcd/{number}",
        peer_url=url(number),
        client_url=url(number),
        token="one",
        started=True,
        last_started=1,
    )
    return dataclasses.replace(base, **values)


def member(number: int, **values: Any) -> views.Member:
    base = views.Member(
        100 + number, f"etcd-{number}", (url(number),), (url(number),), False, True, 50
    )
    return dataclasses.replace(base, **values)


def emptied(number: int, **values: Any) -> views.Unit:
    """A unit that lost its data and looks for a quorum in vain."""
    base = unit(number, token=None, started=False, heard="one", unanswered=True)
    return dataclasses.replace(base, **values)


def blank(number: int) -> views.Member:
    """A learner that was added and never started."""
    return views.Member(100 + number, "", (url(number),), (), True)


def view(me: int = 0, **values: Any) -> views.View:
    """A healthy cluster of three, seen by one of its units."""
    base = views.View(
        me=f"etcd/{me}",
        leader=me == 0,
        now=10_000.0,
        ready=True,
        dying=False,
        planned=3,
        units=tuple(unit(n) for n in range(3)),
        generation=record(0, 1, 2),
        proposal=None,
        disk=views.Disk(token="one"),
        etcd=etcd(me, 0, 1, 2),
        fresh_token="fresh",
    )
    return dataclasses.replace(base, **values)


def etcd(me: int, *members: int | views.Member, **values: Any) -> views.Etcd:
    """What etcd says: members by number are healthy voters."""
    listed = tuple(member(m) if isinstance(m, int) else m for m in members)
    base = views.Etcd(RUNNING, listed, 7, listed[0].id if listed else None, 100 + me)
    return dataclasses.replace(base, **values)


def silent(service: views.Service = RUNNING, **values: Any) -> views.Etcd:
    """No quorum answers."""
    return views.Etcd(service, **values)


def do(v: views.View) -> list[str]:
    """Names of the planned steps, waits left out."""
    return [type(x).__name__ for x in plans.plan(v).steps if not isinstance(x, steps.Wake)]


def changed(v: views.View, number: int, **values: Any) -> views.View:
    units = tuple(
        dataclasses.replace(u, **values) if u.name == f"etcd/{number}" else u for u in v.units
    )
    return dataclasses.replace(v, units=units)


def fresh(me: int = 0, **values: Any) -> views.View:
    """Three new units, no record, no data."""
    units = tuple(unit(n, token=None, started=False, last_started=0) for n in range(3))
    base = view(me, units=units, generation=None, disk=views.Disk(), etcd=views.Etcd(STOPPED))
    return dataclasses.replace(base, **values)


def test_given_a_healthy_cluster_when_planned_then_nothing_is_done() -> None:
    plan = plans.plan(view())
    assert plan.steps == ()
    assert plan.message == "Healthy with 3 known peers"
    assert plan.status == "active"


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ((0, 1), "etcd/2 is not a member yet"),
        ((0,), "etcd/1 and etcd/2 are not members yet"),
        (
            (0, "etcd-1 is dead", 2),
            "etcd-1 does not answer: start the machine of etcd/1, or mend the network to it",
        ),
        ((0, 1, 2, "gone"), "etcd-3 has no unit any more: Juju's leader removes it"),
        ((0, "etcd-1 is dead", "spared"), "etcd-3 has no unit any more, and the others cannot"),
        (
            (0, 1, 2, "by-hand"),
            "by-hand is the member of no unit: `juju run etcd/leader member-remove member=6d` "
            "removes it",
        ),
        ((0, 1, 2, "learner"), "catches up as a learner"),
    ],
)
def test_given_something_is_missing_when_planned_then_the_status_says_who_and_what_to_do(
    members: tuple[Any, ...], sentence: str
) -> None:
    kinds = {
        "etcd-1 is dead": member(1, healthy=False),
        "gone": member(3, healthy=False),
        "spared": member(3),
        "by-hand": member(9, name="by-hand"),
        "learner": member(3, learner=True, healthy=False),
    }
    listed = etcd(0, *(kinds.get(each, each) for each in members))
    plan = plans.plan(view(etcd=listed))
    assert plan.state is plans.State.DEGRADED
    assert sentence in plan.message
    assert "etcd-3 does not answer" not in plan.message, "of one without a unit that is no news"


def test_given_members_of_other_versions_when_planned_then_the_status_says_so() -> None:
    old, new = {"version": "3.5.16"}, {"version": "3.6.8"}
    listed = etcd(0, member(0, **old), member(1, **old), member(2, **new), installed="3.6.8")
    plan = plans.plan(view(etcd=listed))
    assert plan.state is plans.State.HEALTHY
    assert plan.message == (
        "Healthy with 3 known peers; etcd-0 and etcd-1 run etcd 3.5.16, and etcd/0 has 3.6.8 "
        "installed"
    )


@pytest.mark.parametrize("installed", ["3.6.8", ""])
def test_given_what_is_installed_runs_everywhere_when_planned_then_nothing_is_said(
    installed: str,
) -> None:
    listed = [member(n, version="3.6.8") for n in range(2)]
    plan = plans.plan(view(etcd=etcd(0, *listed, member(2), installed=installed)))
    assert plan.message == "Healthy with 3 known peers"


class TestFounding:
    def test_given_all_units_published_when_leader_then_commits_them_as_founders(self) -> None:
        (commit,) = plans.plan(fresh()).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation == record(0, 1, 2, token="fresh", confirmed=False)

    def test_given_all_units_published_when_not_leader_then_waits(self) -> None:
        assert do(fresh(1)) == []

    def test_given_a_missing_unit_when_within_the_bound_then_leader_waits(self) -> None:
        v = changed(fresh(), 2, peer_url=None)
        assert do(v) == []
        assert plans.plan(v).waiting_on == "founding"
        assert plans.plan(v).message == "waiting for units to found the cluster: 2 of 3 ready"

    def test_given_a_missing_unit_when_the_bound_passed_then_founds_without_it(self) -> None:
        v = changed(fresh(since=(("founding", 10_000.0 - 91),)), 2, peer_url=None)
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.founders == founders(0, 1)

    def test_given_a_record_naming_the_unit_when_empty_then_founds(self) -> None:
        v = fresh(1, generation=record(0, 1, 2, confirmed=False))
        assert do(v) == ["Found"]

    def test_given_a_record_not_naming_the_unit_when_empty_then_never_founds(self) -> None:
        assert do(fresh(2, generation=record(0, 1, confirmed=False))) == []

    def test_given_a_founder_that_began_when_its_disk_is_empty_then_never_founds(self) -> None:
        v = changed(fresh(1, generation=record(0, 1, 2)), 1, last_started=1)
        assert do(v) == []
        listed = etcd(1, 0, member(1, healthy=False), 2, service=STOPPED)
        assert do(dataclasses.replace(v, etcd=listed)) == ["RemoveMember"]

    def test_given_founders_gone_before_start_when_one_is_to_tell_then_leader_waits(self) -> None:
        v = fresh(generation=record(0, 1, 2, confirmed=False))
        v = dataclasses.replace(v, units=(v.units[0], views.Unit("etcd/3")))
        assert "Commit" not in do(v)
        assert "Commit" in do(changed(v, 3, heard="one"))

    def test_given_founders_gone_before_start_when_no_data_then_leader_founds_anew(self) -> None:
        v = fresh(generation=record(0, 1, 2, confirmed=False))
        v = dataclasses.replace(v, units=v.units[:1], planned=1)
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert (commit.generation.number, commit.generation.token) == (2, "fresh")
        assert commit.generation.founders == founders(0)

    def test_given_total_loss_allowed_when_a_backup_is_known_then_founds_from_it(self) -> None:
        policy = views.Policy(recover_total_loss=True)
        (propose,) = plans.plan(
            fresh(policy=policy, newest_backup=generations.Detail(path="b"))
        ).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.source is generations.Source.BACKUP

    def test_given_backups_to_decide_on_when_all_are_there_then_nobody_founds(self) -> None:
        plan = plans.plan(fresh(held="the remote has backups: run restore"))
        assert do(fresh(held="the remote has backups: run restore")) == []
        assert plan.status == "blocked"
        assert plan.message == "not founded: the remote has backups: run restore"

    def test_given_attached_disks_of_one_cluster_when_read_then_the_best_founds(self) -> None:
        low, high = views.DiskFacts(1, 5, 5), views.DiskFacts(1, 9, 9)
        v = fresh(disk=views.Disk(token="old", facts=low))
        v = changed(v, 1, token="old", facts=high)
        (propose,) = plans.plan(v).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.founders == founders(1)

    def test_given_attached_disks_of_two_clusters_when_planned_then_blocked(self) -> None:
        v = fresh(disk=views.Disk(token="old", facts=views.DiskFacts(1, 5, 5)))
        v = changed(v, 1, token="other", facts=views.DiskFacts(1, 9, 9))
        assert do(v) == []
        plan = plans.plan(v)
        assert plan.status == "blocked"
        assert "juju run etcd/leader recover" in plan.message


class TestJoining:
    def joiner(self, *members: int | views.Member, **values: Any) -> views.View:
        units = (*(unit(n) for n in range(3)), unit(3, token=None, started=False, last_started=0))
        base = view(
            3,
            leader=False,
            units=units,
            disk=views.Disk(),
            etcd=etcd(3, *(members or (0, 1, 2)), service=STOPPED, local_id=None),
        )
        return dataclasses.replace(base, **values)

    def test_given_no_member_of_mine_when_listed_then_adds_starts_and_promotes_it(self) -> None:
        add, join, catch_up = plans.plan(self.joiner()).steps
        assert (add, catch_up) == (steps.AddLearner(url(3)), steps.CatchUp(url(3)))
        assert isinstance(join, steps.Join)
        assert join.initial_cluster == ",".join(f"etcd-{n}={url(n)}" for n in range(4))

    def test_given_another_restarting_when_joining_then_nobody_is_promoted_meanwhile(self) -> None:
        v = self.joiner(turn=views.Turn("etcd/1", 1))
        assert do(v) == ["AddLearner", "Join"]

    def test_given_a_restore_that_gets_ready_when_joining_then_the_voters_stay_who_they_are(
        self,
    ) -> None:
        proposal = record(0, 1, 2, number=2, token="two", source=generations.Source.BACKUP)
        assert do(self.joiner(proposal=proposal)) == []
        learner = dataclasses.replace(member(3), learner=True, raft_index=50)
        v = self.joiner(disk=views.Disk(token="one"), etcd=etcd(3, 0, 1, 2, learner))
        v = changed(v, 3, token="one", started=True)
        assert do(v) == ["Promote"]
        assert do(dataclasses.replace(v, proposal=proposal)) == []

    def test_given_no_quorum_when_joining_then_waits(self) -> None:
        assert do(self.joiner(etcd=silent(STOPPED))) == []

    def test_given_my_blank_member_when_crashed_before_then_joins_with_exact_list(self) -> None:
        join, catch_up = plans.plan(self.joiner(0, 1, 2, blank(3))).steps
        assert catch_up == steps.CatchUp(url(3))
        assert isinstance(join, steps.Join)
        assert join.initial_cluster == ",".join(f"etcd-{n}={url(n)}" for n in range(4))

    def test_given_another_learner_when_joining_then_waits(self) -> None:
        assert do(self.joiner(0, 1, 2, blank(4))) == []

    def test_given_two_joiners_when_planned_then_the_lower_number_goes_first(self) -> None:
        v = self.joiner()
        v = dataclasses.replace(
            v, me="etcd/4", units=(*v.units, unit(4, token=None, last_started=0))
        )
        assert do(v) == []
        patient = dataclasses.replace(v, since=(("queue:etcd/3", 10_000.0 - 31),))
        assert do(patient)[0] == "AddLearner"

    def test_given_too_many_joins_when_planned_then_stuck_and_named(self) -> None:
        v = changed(self.joiner(), 3, joins=3)
        assert do(v) == []
        assert plans.plan(v).state is plans.State.STUCK
        assert "juju remove-unit etcd/3" in plans.plan(v).message

    def test_given_an_unconfirmed_restore_when_joining_then_it_is_a_founder_or_waits(self) -> None:
        v = self.joiner(0, 1, 2, member(3, client_urls=()))
        v = dataclasses.replace(v, generation=record(0, 1, 2, 3))
        assert do(v) == ["Found"]

    def test_given_a_unit_without_data_when_the_others_read_of_no_quorum_then_ends_its_hook(
        self,
    ) -> None:
        said = self.joiner(said_unanswered=True)
        assert do(said) == []
        assert plans.plan(said).steps == (steps.Wake(2.0),)
        assert "AddLearner" in do(dataclasses.replace(said, said_unanswered=False))

    def test_given_its_own_member_when_another_unit_has_its_storage_then_it_is_left(self) -> None:
        v = self.joiner(0, 1, 2, member(3))
        assert do(v) == ["RemoveMember"]
        moved = dataclasses.replace(v, units=(*v.units, unit(4, member="etcd-3", started=False)))
        assert do(moved) == []

    def test_given_a_late_founder_when_the_list_moved_on_then_joins_as_learner(self) -> None:
        v = self.joiner(0, 1, 4, member(3, client_urls=(), healthy=False))
        v = dataclasses.replace(v, generation=record(0, 1, 2, 3))
        assert do(v) == ["RemoveMember"]

    @pytest.mark.parametrize(("index", "steps"), [(50, ["Promote"]), (45, ["Promote"]), (44, [])])
    def test_given_a_learner_when_in_sync_then_promotes_itself(
        self, index: int, steps: list[str]
    ) -> None:
        mine = member(3, learner=True, raft_index=index)
        v = self.joiner(disk=views.Disk(token="one"), etcd=etcd(3, 0, 1, 2, mine))
        assert do(v) == steps

    def test_given_a_learner_without_progress_when_overdue_then_leader_removes_it(self) -> None:
        listed = etcd(0, 0, 1, 2, blank(3))
        v = view(etcd=listed)
        assert do(v) == []
        assert "learner:103:0" in plans.plan(v).clocks
        v = dataclasses.replace(v, since=(("learner:103:0", 10_000.0 - 901),))
        assert do(v) == ["RemoveMember"]


class TestStarting:
    def test_given_data_of_the_record_when_stopped_then_starts(self) -> None:
        assert do(view(etcd=silent(STOPPED))) == ["Start"]

    def test_given_data_of_another_generation_when_planned_then_it_is_put_aside(self) -> None:
        v = view(1, disk=views.Disk(token="zero"), etcd=silent())
        assert do(v) == ["Stop", "SetAside"]

    def test_given_not_ready_when_stopped_then_waits(self) -> None:
        assert do(view(etcd=silent(STOPPED), ready=False)) == []

    def test_given_no_data_when_etcd_runs_then_it_is_stopped(self) -> None:
        assert do(view(1, disk=views.Disk())) == ["Stop"]

    def test_given_data_that_a_later_generation_fenced_when_stopped_then_it_stays_so(self) -> None:
        fenced = views.Disk(token="one", fenced=views.Fenced(2, "https://198.18.0.9:2380"))
        v = view(disk=fenced, etcd=silent(STOPPED))
        assert do(v) == []
        found = plans.plan(v)
        assert found.state is plans.State.FENCED
        assert "generation 2 is served at https://198.18.0.9:2380" in found.message

    def test_given_fenced_data_when_the_record_is_later_still_then_it_starts(self) -> None:
        fenced = views.Disk(token="one", fenced=views.Fenced(2, ""))
        record_ = record(0, 1, 2, number=3, source=generations.Source.PREVIOUS)
        assert do(view(generation=record_, disk=fenced, etcd=silent(STOPPED))) == ["Start"]

    def test_given_fenced_data_when_the_record_comes_then_it_is_put_aside(self) -> None:
        fenced = views.Disk(token="zero", fenced=views.Fenced(1, ""))
        assert do(view(1, disk=fenced, etcd=silent(STOPPED))) == ["Stop", "SetAside"]


class TestFoundedAnew:
    def test_given_no_first_founder_left_when_a_new_unit_is_silent_then_it_is_named(self) -> None:
        """`recover` has no disk to recover from, and is not named."""
        left = unit(3, token=None, started=False, last_started=0)
        v = view(
            3,
            leader=True,
            units=(left, views.Unit("etcd/7")),
            generation=record(0, 1, 2, confirmed=False),
            disk=views.Disk(),
            etcd=silent(STOPPED),
            since=(("confirm:1", 10_000.0 - 301),),
        )
        found = plans.plan(v)
        assert do(v) == []
        assert found.state is plans.State.FOUNDING
        assert "`juju remove-unit --force etcd/7`" in found.message
        assert "recover" not in found.message
        told = dataclasses.replace(v, units=(left,))
        assert do(told) == ["Commit"]
        assert "recover" not in plans.plan(told).message


class TestReplacing:
    def proposed(self, me: int = 0, **values: Any) -> views.View:
        proposal = record(
            0, 1, 2, number=2, token="two", source=generations.Source.BACKUP, confirmed=False
        )
        return view(me, proposal=proposal, **values)

    def committed(self, me: int = 0, **values: Any) -> views.View:
        generation = record(
            0,
            1,
            2,
            number=2,
            token="two",
            source=generations.Source.BACKUP,
            confirmed=False,
            detail=generations.Detail(previous_token="one", previous_number=1),
        )
        base = view(me, generation=generation, etcd=silent())
        return dataclasses.replace(base, **values)

    @pytest.mark.parametrize("confirmed", [False, True])
    def test_given_a_restore_that_nobody_saw_when_replaced_then_the_way_back_is_to_what_served(
        self, confirmed: bool
    ) -> None:
        """Its data may never have started, and clients may still be served by what it replaced."""
        unseen = dataclasses.replace(
            record(0, 1, 2, number=2, token="two", source=generations.Source.BACKUP),
            confirmed=confirmed,
            detail=generations.Detail(previous_token="one", previous_number=1),
        )
        third = dataclasses.replace(
            unseen, number=3, token="three", detail=generations.Detail(), confirmed=False
        )
        disk = views.Disk(token="one", prepared=("two", "three"))
        v = view(generation=unseen, proposal=third, etcd=silent(STOPPED), disk=disk)
        v = dataclasses.replace(v, units=tuple(unit(n, prepared="three") for n in range(3)))
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.detail == generations.Detail(
            previous_token="two" if confirmed else "one", previous_number=2 if confirmed else 1
        )

    def test_given_a_silent_new_unit_when_a_restore_is_late_then_the_way_back_says_what_to_do(
        self,
    ) -> None:
        v = self.committed(since=(("confirm:2", 10_000.0 - 301),))
        v = dataclasses.replace(v, units=(*v.units, views.Unit("etcd/7")))
        (commit,) = (x for x in plans.plan(v).steps if isinstance(x, steps.Commit))
        assert commit.generation.source is generations.Source.PREVIOUS
        reason = commit.generation.detail.reason
        assert "etcd/7" in reason
        assert "`juju remove-unit --force etcd/7`" in reason

    def test_given_a_first_restore_that_nobody_saw_when_replaced_then_there_is_no_way_back(
        self,
    ) -> None:
        """It served nobody, and what a founder lost of it no other one has."""
        unseen = record(0, 1, 2, number=1, token="one", source=generations.Source.BACKUP)
        unseen = dataclasses.replace(unseen, confirmed=False)
        second = dataclasses.replace(unseen, number=2, token="two")
        disk = views.Disk(token="one", prepared=("two",))
        v = view(generation=unseen, proposal=second, etcd=silent(STOPPED), disk=disk)
        v = dataclasses.replace(v, units=tuple(unit(n, prepared="two") for n in range(3)))
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.detail == generations.Detail()

    def test_given_a_proposal_when_running_then_prepares_beside_the_cluster(self) -> None:
        assert do(self.proposed(1)) == ["Prepare"]

    def test_given_all_prepared_when_leader_then_commits_with_the_way_back(self) -> None:
        v = self.proposed(disk=views.Disk(token="one", prepared=("two",)))
        assert do(v) == []
        for number in (1, 2):
            v = changed(v, number, prepared="two")
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.detail.previous_token == "one"

    def test_given_a_failed_prepare_when_leader_then_withdraws_with_the_reason(self) -> None:
        v = changed(self.proposed(), 1, failure=views.Failure("two", "no space left"))
        assert plans.plan(v).steps == (steps.Propose(None, "etcd/1: no space left"),)

    def test_given_a_late_prepare_when_overdue_then_withdraws(self) -> None:
        v = self.proposed(since=(("proposal:two", 10_000.0 - 3601),))
        assert do(v) == ["Propose"]

    def lagging(self, **values: Any) -> views.View:
        """One founder is ready since 301 s, which took it 10 s; etcd/2 is not."""
        since = (("proposal:two", 10_000.0 - 311), ("ready:two", 10_000.0 - 301))
        return changed(self.proposed(since=since, **values), 1, prepared="two")

    def test_given_a_restore_that_gets_ready_when_units_come_then_no_voter_comes_with_them(
        self,
    ) -> None:
        """Who knows its voters decides whether the old cluster may serve beside the new one."""
        restore, learner = self.proposed().proposal, member(3, learner=True)
        units = (*(unit(n, prepared="two") for n in range(2)), unit(2), unit(3))
        listed = etcd(3, 0, 1, 2, learner)
        coming = view(3, leader=False, units=units, etcd=listed)
        assert do(coming) == ["Promote"]
        assert do(dataclasses.replace(coming, proposal=restore)) == []
        new = dataclasses.replace(
            changed(coming, 3, token=None, started=False, last_started=0),
            disk=views.Disk(),
            etcd=etcd(3, 0, 1, 2, service=STOPPED, local_id=None),
        )
        assert do(new) == ["AddLearner", "Join", "CatchUp"]
        assert do(dataclasses.replace(new, proposal=restore)) == []

    def test_given_a_founder_that_lags_when_its_member_is_healthy_then_waits(self) -> None:
        assert do(self.lagging()) != ["Propose"]

    def test_given_a_founder_that_lags_when_its_member_is_silent_then_withdraws(self) -> None:
        listed = etcd(0, 0, 1, member(2, healthy=False))
        disk = views.Disk(token="one", prepared=("two",))
        (propose,) = plans.plan(self.lagging(etcd=listed, disk=disk)).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is None
        assert propose.reason.startswith("etcd/2 did not get ready")

    def test_given_founders_that_lag_when_no_data_is_left_then_goes_on_without_them(self) -> None:
        v = self.lagging(etcd=silent(), disk=views.Disk(prepared=("two",)))
        v = dataclasses.replace(
            v, units=tuple(dataclasses.replace(u, token=None) for u in v.units)
        )
        (propose,) = plans.plan(v).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.founders == founders(0, 1)
        assert propose.proposal.token == "fresh"

    def test_given_a_founder_that_may_have_begun_when_the_rest_is_left_then_not_beside_it(
        self,
    ) -> None:
        v = changed(view(2, etcd=silent()), 0, token=None, last_started=0)
        assert losses.may_serve_beside(v, "one", founders(2))
        v = changed(v, 0, last_started=1)  # it lost its data, and may have joined again since
        assert losses.may_serve_beside(v, "one", founders(2))
        assert not losses.may_serve_beside(changed(v, 0, unanswered=True), "one", founders(2))
        all_three = ("etcd/0", "etcd/1", "etcd/2")
        v = changed(v, 1, voters=all_three, voters_of="one")
        later = dataclasses.replace(v, generation=record(2, number=2, token="two"))
        assert losses.may_serve_beside(later, "one", founders(2))
        assert not losses.may_serve_beside(changed(later, 0, heard="two"), "one", founders(2))

    def test_given_a_learner_when_it_may_be_promoted_by_now_then_not_beside_it(self) -> None:
        v = changed(view(2, etcd=silent()), 0, voters=("etcd/1", "etcd/2"), voters_of="one")
        for number in (1, 2):
            v = changed(v, number, voters=("etcd/1", "etcd/2"), voters_of="one")
        assert losses.may_serve_beside(v, "one", founders(2))
        assert not losses.may_serve_beside(changed(v, 0, token="two"), "one", founders(2))

    def test_given_founders_that_lag_when_the_first_took_longer_then_waits(self) -> None:
        since = (("proposal:two", 10_000.0 - 700), ("ready:two", 10_000.0 - 310))
        v = dataclasses.replace(self.lagging(etcd=silent()), since=since)
        assert do(v) != ["Propose"]

    def test_given_a_founder_gone_when_the_old_cluster_runs_then_withdraws(self) -> None:
        v = self.proposed()
        v = dataclasses.replace(v, units=v.units[:2])
        assert plans.plan(v).steps == (steps.Propose(None, "a founder was removed or moved"),)

    def test_given_a_founder_gone_when_nothing_answers_then_goes_on_without_it(self) -> None:
        v = self.proposed(etcd=silent())
        (propose,) = plans.plan(dataclasses.replace(v, units=v.units[:2])).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.token == "fresh"
        assert propose.proposal.founders == founders(0, 1)

    def test_given_it_is_committed_when_prepared_then_swaps_and_starts(self) -> None:
        v = self.committed(1, disk=views.Disk(token="one", prepared=("two",)))
        assert do(v) == ["Stop", "SetAside"]
        disk = views.Disk(prepared=("two",), kept=("one",))
        v = dataclasses.replace(v, disk=disk, etcd=silent(STOPPED))
        assert do(v) == ["Adopt", "Start"]

    def test_given_it_is_committed_when_preparation_was_lost_then_prepares_first(self) -> None:
        assert do(self.committed(1)) == ["Prepare"]

    def test_given_a_founder_failed_when_unconfirmed_then_leader_returns_to_the_old(self) -> None:
        v = changed(self.committed(), 2, failure=views.Failure("two", "bad disk"))
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        back = commit.generation
        assert (back.number, back.token) == (3, "one")
        assert back.source is generations.Source.PREVIOUS
        assert back.detail.reason == "etcd/2: bad disk"

    def test_given_not_healthy_when_overdue_then_leader_returns_to_the_old(self) -> None:
        assert do(self.committed(since=(("confirm:2", 10_000.0 - 301),))) == ["Commit"]

    def test_given_a_leader_cut_off_when_another_saw_a_quorum_then_its_word_decides(
        self,
    ) -> None:
        early = self.committed(since=(("confirm:2", 10_000.0 - 299),))
        early = changed(early, 1, token="two", voters=("etcd/1", "etcd/2"), voters_of="two")
        assert "Commit" not in do(early)
        v = dataclasses.replace(early, since=(("confirm:2", 10_000.0 - 301),))
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.confirmed
        (back,) = plans.plan(changed(v, 1, started=False)).steps
        assert isinstance(back, steps.Commit)
        assert back.generation.source is generations.Source.PREVIOUS

    def test_given_a_return_when_the_old_data_is_kept_then_puts_it_back(self) -> None:
        generation = record(0, 1, 2, number=3, source=generations.Source.PREVIOUS, confirmed=False)
        v = view(1, generation=generation, etcd=silent(STOPPED))
        v = dataclasses.replace(v, disk=views.Disk(kept=("one", "two")))
        assert do(changed(v, 1, last_started=2)) == ["PutBack", "Start"]
        assert do(changed(v, 1, last_started=3)) == []

    def test_given_all_founders_healthy_when_leader_then_confirms_then_finishes(self) -> None:
        v = self.committed(disk=views.Disk(token="two"), etcd=etcd(0, 0, 1, 2))
        (commit,) = plans.plan(v).steps
        assert isinstance(commit, steps.Commit)
        assert commit.generation.confirmed
        v = dataclasses.replace(v, generation=commit.generation)
        assert do(v) == ["Finish"]

    def test_given_an_old_member_that_serves_when_all_is_healthy_then_nobody_is_let_in(
        self,
    ) -> None:
        v = self.committed(disk=views.Disk(token="two"), etcd=etcd(0, 0, 1, 2))
        v = dataclasses.replace(v, beside=("etcd/7 at 198.18.0.7:2380",))
        assert do(v) == []
        assert "waiting for etcd/7 at 198.18.0.7:2380 to stop" in plans.plan(v).message
        late = dataclasses.replace(v, since=(("confirm:2", 10_000.0 - 301),))
        assert do(late) == ["Commit"]

    def test_given_a_survivor_out_of_reach_when_it_answers_itself_then_leader_confirms(
        self,
    ) -> None:
        generation = record(
            1, number=2, token="two", source=generations.Source.SURVIVOR, confirmed=False
        )
        v = view(generation=generation, disk=views.Disk(), etcd=silent(STOPPED))
        assert do(v) == []
        (commit,) = plans.plan(
            changed(v, 1, token="two", voters=("etcd/1",), voters_of="two")
        ).steps
        assert commit == steps.Commit(dataclasses.replace(generation, confirmed=True))

    def test_given_closed_data_when_the_restore_is_confirmed_then_its_unit_opens_it(self) -> None:
        closed = views.Disk(token="two", closed=True)
        v = self.committed(1, disk=closed, etcd=etcd(1, 0, 1, member(2, healthy=False)))
        assert do(v) == []
        assert v.generation is not None
        confirmed = dataclasses.replace(v.generation, confirmed=True)
        v = dataclasses.replace(v, generation=confirmed)
        assert do(v) == ["Open"]
        assert plans.plan(v).state is plans.State.RESTORING
        # Nobody lets this unit see the cluster before it is open itself.
        for service in (views.Service.RUNNING, STOPPED, views.Service.FAILED):
            assert do(dataclasses.replace(v, etcd=silent(service))) == ["Open"]
        finished = dataclasses.replace(closed, finished=2)
        assert do(dataclasses.replace(v, disk=finished)) == ["Open"], "whatever was noted"
        assert "Open" not in do(dataclasses.replace(v, disk=views.Disk(token="two")))

    def test_given_closed_data_of_another_generation_when_planned_then_it_stays_closed(
        self,
    ) -> None:
        v = view(1, disk=views.Disk(token="two", closed=True), etcd=silent(STOPPED))
        assert do(v) == ["Stop", "SetAside"]

    @pytest.mark.parametrize("confirmed", [False, True])
    @pytest.mark.parametrize("source", list(generations.Source))
    def test_given_a_source_when_it_can_be_rolled_back_then_it_is_closed_until_confirmed(
        self, source: generations.Source, confirmed: bool
    ) -> None:
        replacing = (generations.Source.BACKUP, generations.Source.SURVIVOR)
        made = record(2, number=2, token="two", source=source, confirmed=confirmed)
        assert made.closed == (source in replacing and not confirmed)
        v = view(1, generation=made, disk=views.Disk(token="two", closed=True), etcd=silent())
        assert ("Open" in do(v)) != made.closed

    def test_given_restored_data_when_it_starts_first_then_only_then_without_comparing(
        self,
    ) -> None:
        v = self.committed(1, disk=views.Disk(prepared=("two",)), etcd=silent(STOPPED))
        assert steps.Start(compare=False) in plans.plan(v).steps
        v = dataclasses.replace(v, disk=views.Disk(token="two"))
        assert steps.Start(compare=True) in plans.plan(v).steps

    def test_given_a_founder_missing_when_not_overdue_then_not_confirmed(self) -> None:
        listed = etcd(0, 0, 1, member(2, healthy=False))
        v = self.committed(disk=views.Disk(token="two"), etcd=listed)
        assert do(v) == []
        late = dataclasses.replace(v, since=(("confirm:2", 10_000.0 - 301),))
        assert do(late) == ["Commit"]

    def test_given_a_withdrawn_proposal_when_planned_then_its_data_is_discarded(self) -> None:
        v = view(disk=views.Disk(token="one", prepared=("two",)))
        assert plans.plan(v).steps == (steps.Discard("two"),)


class TestLeaving:
    def leaving(self, **values: Any) -> views.View:
        v = changed(view(0, dying=True), 0, alive=False)
        return dataclasses.replace(v, **values)

    def test_given_the_raft_leader_when_dying_then_hands_over_and_removes_itself(self) -> None:
        planned = plans.plan(self.leaving()).steps
        assert [type(x) for x in planned] == [steps.MoveLeader, steps.RemoveMember]
        assert planned[-1] == steps.RemoveMember(100)

    def test_given_its_member_is_gone_when_dying_then_stops(self) -> None:
        assert do(self.leaving(etcd=etcd(0, 1, 2))) == ["Stop"]

    def test_given_no_quorum_when_dying_then_stays_with_data_that_may_be_needed(self) -> None:
        for service in (RUNNING, STOPPED):
            plan = plans.plan(self.leaving(etcd=silent(service)))
            assert plan.steps == (steps.Wake(1.0),)
            assert "start the machines of" in plan.message
        for disk in (views.Disk(), views.Disk(token="old"), views.Disk("one", broken="bad WAL")):
            v = self.leaving(etcd=silent(), disk=disk)
            assert plans.plan(v).steps == (steps.Stop(),)

    def test_given_nobody_stays_when_dying_then_stops_and_keeps_all_there_is(self) -> None:
        for listed in (silent(), etcd(0, 0), etcd(0, 0, 1, member(2, healthy=False))):
            v = self.leaving(etcd=listed)
            v = changed(changed(v, 1, alive=False), 2, alive=False)
            assert plans.plan(v).steps == (steps.Stop(),)
        v = dataclasses.replace(v, etcd=silent(STOPPED))
        assert plans.plan(v).steps == ()

    def test_given_the_last_member_when_dying_then_waits_for_one_that_stays(self) -> None:
        plan = plans.plan(self.leaving(etcd=etcd(0, 0)))
        assert plan.steps == (steps.Wake(1.0),)
        assert "`juju add-unit etcd` adds one" in plan.message

    def test_given_two_members_when_one_dies_then_it_is_removed(self) -> None:
        assert do(self.leaving(etcd=etcd(0, 0, 1))) == ["MoveLeader", "RemoveMember"]

    def test_given_it_would_cost_quorum_when_dying_then_stays_and_says_what_it_waits_for(
        self,
    ) -> None:
        listed = etcd(0, 0, 1, member(2, healthy=False))
        plan = plans.plan(self.leaving(etcd=listed))
        assert plan.steps == (steps.Wake(1.0),)
        assert "1 of etcd-2 must be healthy again" in plan.message
        joined = etcd(0, 0, 1, member(2, healthy=False), member(3))
        assert do(self.leaving(etcd=joined)) == ["MoveLeader", "RemoveMember"]

    def test_given_a_member_without_unit_when_leader_then_removes_it(self) -> None:
        v = view(etcd=etcd(0, 0, 1, member(2, healthy=False)))
        v = dataclasses.replace(v, units=v.units[:2])
        assert plans.plan(v).steps == (steps.RemoveMember(102),)
        assert do(dataclasses.replace(v, leader=False)) == []

    def test_given_a_member_without_unit_when_a_new_unit_may_have_its_disk_then_stays(
        self,
    ) -> None:
        v = view(etcd=etcd(0, 0, 1, member(2, healthy=False)))
        v = dataclasses.replace(v, units=(*v.units[:2], views.Unit("etcd/3")))
        assert do(v) == []
        assert plans.plan(v).message.startswith(
            "etcd-2 has no unit any more, and stays until etcd/3 has told what its disk holds; "
            "`juju show-status-log etcd/3` says how far etcd/3 is; "
        )
        both = plans.plan(dataclasses.replace(v, units=(*v.units, views.Unit("etcd/4"))))
        assert both.message.startswith(
            "etcd-2 has no unit any more, and stays until etcd/3 and etcd/4 have told what they "
            "hold; `juju show-status-log etcd/3` says how far etcd/3 is; "
        )
        told = changed(v, 3, heard="one")
        assert plans.plan(told).steps == (steps.RemoveMember(102),)
        heir = changed(v, 3, token="one", member="etcd-2")
        assert do(heir) == []
        assert "no unit any more" not in plans.plan(heir).message

    def test_given_an_etcd_that_adds_nobody_beside_a_dead_voter_when_replaced_then_no_deadlock(
        self,
    ) -> None:
        """The new unit tells first, then the dead voter is removed, then the new one is added."""
        listed = etcd(0, 0, 1, member(2, healthy=False))
        new = unit(3, token=None, started=False, last_started=0, heard="one")
        v = view(units=(*(unit(n) for n in range(2)), views.Unit("etcd/3")), etcd=listed)
        nowhere = {"service": STOPPED, "local_id": None}
        own = dataclasses.replace(
            v,
            me="etcd/3",
            leader=False,
            disk=views.Disk(),
            units=(*v.units[:2], new),
            etcd=dataclasses.replace(listed, **nowhere),
        )
        assert do(v) == []
        # This etcd refuses the first of these, which ends the hook, and that tells of the unit.
        assert do(own) == ["AddLearner", "Join", "CatchUp"]
        told = dataclasses.replace(v, units=own.units)
        assert plans.plan(told).steps == (steps.RemoveMember(102),)
        removed = dataclasses.replace(own, etcd=etcd(0, 0, 1, **nowhere))
        assert do(removed) == ["AddLearner", "Join", "CatchUp"]
        # Where the new unit is Juju's leader, the removal goes before its own joining.
        leads = dataclasses.replace(own, leader=True)
        assert plans.plan(leads).steps == (steps.RemoveMember(102),)

    def test_given_a_member_without_unit_when_it_would_cost_quorum_then_stays(self) -> None:
        listed = etcd(0, 0, member(1, healthy=False), 2, member(3, healthy=False))
        v = view(etcd=listed)
        v = dataclasses.replace(v, units=v.units[:2])
        assert steps.RemoveMember(102) not in plans.plan(v).steps

    def test_given_a_member_that_is_no_unit_when_leader_then_only_names_it(self) -> None:
        v = view(etcd=etcd(0, 0, 1, 2, member(9, name="by-hand")))
        assert do(v) == []
        assert "member-remove" in plans.plan(v).message


class TestMending:
    def test_given_broken_data_when_the_rest_has_quorum_then_rejoins(self) -> None:
        v = view(
            1,
            disk=views.Disk(token="one", broken="bad WAL"),
            etcd=etcd(1, 0, member(1, healthy=False), 2, service=views.Service.FAILED),
        )
        assert do(v) == ["RemoveMember", "Stop", "SetAside"]

    def test_given_an_etcd_that_gave_up_when_its_data_is_good_then_tried_again_and_named(
        self,
    ) -> None:
        gave_up = etcd(1, 0, member(1, healthy=False), 2, service=views.Service.FAILED)
        v = view(1, etcd=dataclasses.replace(gave_up, failure="the disk is full"))
        assert do(v) == ["Start"]
        assert plans.plan(v).state is plans.State.DOWN
        assert "the disk is full" in plans.plan(v).message

    def test_given_broken_data_when_it_is_the_last_copy_then_kept_and_named(self) -> None:
        v = view(disk=views.Disk(token="one", broken="bad WAL"), etcd=silent(views.Service.FAILED))
        assert do(v) == []
        assert plans.plan(v).state is plans.State.CORRUPT
        assert "start the machines of" in plans.plan(v).message
        v = dataclasses.replace(v, since=(("silent:1", 10_000.0 - 61),))
        for number in (1, 2):
            assert "recover" not in plans.plan(v).message, "another may serve where it is not seen"
            v = changed(v, number, unanswered=True)
        assert "juju run etcd/leader recover" in plans.plan(v).message

    def test_given_a_corrupt_alarm_when_a_majority_is_clean_then_rejoins(self) -> None:
        v = view(1, etcd=etcd(1, 0, member(1, corrupt=True), 2))
        assert do(v) == ["RemoveMember", "Stop", "SetAside"]

    def test_given_a_corrupt_alarm_when_it_is_one_against_one_then_nothing_stops(self) -> None:
        v = view(1, etcd=etcd(1, 0, member(1, corrupt=True)))
        assert do(v) == []
        assert plans.plan(v).status == "blocked"

    def test_given_different_keys_when_etcd_names_nobody_then_the_leader_compares(self) -> None:
        v = view(etcd=etcd(0, 0, 1, 2, alarms=(views.UNNAMED,)))
        assert plans.plan(v).steps == (steps.Compare(),)
        assert plans.plan(v).state is plans.State.DIFFERENT
        assert do(dataclasses.replace(v, me="etcd/1", leader=False)) == []

    def test_given_different_keys_when_a_restored_cluster_is_open_then_it_is_no_opening(
        self,
    ) -> None:
        v = view(generation=record(0, 1, 2), etcd=etcd(0, 0, 1, 2, alarms=(views.UNNAMED,)))
        assert "Open" not in do(v)

    def test_given_a_start_that_differs_from_most_when_planned_then_made_anew(self) -> None:
        gave_up = etcd(2, 0, 1, member(2, healthy=False), service=views.Service.FAILED)
        v = view(2, disk=views.Disk(token="one", differs=2), etcd=gave_up)
        assert do(v) == ["RemoveMember", "Stop", "SetAside"]

    def test_given_a_start_that_differs_from_one_when_planned_then_all_are_compared(self) -> None:
        gave_up = etcd(2, 0, 1, member(2, healthy=False), service=views.Service.FAILED)
        v = view(2, disk=views.Disk(token="one", differs=1), etcd=gave_up)
        assert do(v) == ["Arm", "Start"]
        assert steps.Start(compare=False) in plans.plan(v).steps
        alone = dataclasses.replace(v, etcd=silent(views.Service.FAILED))
        assert do(alone) == ["Start", "Arm"]

    def test_given_an_alarm_of_a_removed_member_when_planned_then_disarmed(self) -> None:
        gone, there = views.Alarm(99, "CORRUPT"), views.Alarm(101, "NOSPACE")
        v = view(1, etcd=etcd(1, 0, 1, 2, alarms=(there, gone)), leader=False)
        assert plans.plan(v).steps == (steps.Disarm(gone),)

    def test_given_data_closed_by_an_alarm_when_it_can_be_rolled_back_then_it_stays(self) -> None:
        alarm = views.Alarm(int.from_bytes(b"closed", "big"), "CORRUPT")  # as charms once did
        restored = record(
            3, number=2, token="two", source=generations.Source.BACKUP, confirmed=False
        )
        v = view(1, leader=False, etcd=etcd(1, 0, 1, 2, alarms=(alarm,)))
        v = dataclasses.replace(v, disk=views.Disk(token="two", finished=2))
        assert do(dataclasses.replace(v, generation=restored)) == []
        confirmed = dataclasses.replace(restored, confirmed=True)
        done = plans.plan(dataclasses.replace(v, generation=confirmed)).steps
        assert done == (steps.Disarm(alarm),)

    def test_given_data_of_a_removed_member_when_it_returns_then_put_aside(self) -> None:
        assert do(view(1, etcd=etcd(1, 0, 2))) == ["Stop", "SetAside"]


class TestQuorumLost:
    def lost(self, **values: Any) -> views.View:
        """Two of three units were removed."""
        v = view(etcd=silent(), policy=views.Policy(recover_quorum_loss=True))
        v = changed(v, 0, voters=("etcd/0", "etcd/1", "etcd/2"), voters_of="one")
        v = dataclasses.replace(v, since=(("silent:1", 10_000.0 - 61),))
        return dataclasses.replace(v, units=v.units[:1], **values)

    def test_given_units_removed_when_allowed_then_stops_to_compare_then_proposes(self) -> None:
        assert do(self.lost()) == ["Stop", "ReadFacts"]
        read = views.Disk(token="one", facts=views.DiskFacts(2, 9, 8))
        (propose,) = plans.plan(self.lost(disk=read, etcd=silent(STOPPED))).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.source is generations.Source.SURVIVOR
        assert propose.proposal.founders == founders(0)

    def test_given_units_removed_when_just_silent_then_waits_for_an_answer(self) -> None:
        assert do(self.lost(since=(("silent:1", 10_000.0 - 59),))) == []

    def test_given_units_removed_when_not_allowed_then_names_the_command(self) -> None:
        v = self.lost(policy=views.Policy())
        assert do(v) == []
        assert plans.plan(v).state is plans.State.QUORUM_LOST
        assert "juju run etcd/leader recover" in plans.plan(v).message

    def test_given_a_newcomer_when_nobody_answers_it_then_it_is_no_lost_quorum(self) -> None:
        v = view(2, etcd=silent(STOPPED), since=(("silent:1", 1.0),), disk=views.Disk())
        assert plans.plan(changed(v, 2, last_started=0)).state is plans.State.JOINING
        assert plans.plan(changed(v, 2, last_started=1)).state is plans.State.QUORUM_LOST

    def test_given_units_only_silent_when_allowed_then_never_recovers(self) -> None:
        v = dataclasses.replace(self.lost(), units=tuple(unit(n) for n in range(3)))
        assert do(v) == []
        assert not losses.lost_by_juju(v)

    def test_given_new_addresses_of_all_when_nobody_answers_then_they_are_named(self) -> None:
        v = view(1, leader=False, etcd=silent(), since=(("silent:1", 1.0),))
        units = tuple(
            unit(n, registered_peer_url=url(n), started=False, peer_url=url(90 + n))
            for n in range(3)
        )
        v = dataclasses.replace(v, units=units)
        assert plans.plan(v).state is plans.State.QUORUM_LOST
        assert plans.plan(v).message == (
            "no quorum of members answers, since etcd knows etcd/0, etcd/1, etcd/2 by other "
            f"addresses: give the machines {url(0)}, {url(1)}, {url(2)} back, "
            "or run `juju run etcd/leader recover`"
        )
        one_stays = changed(v, 2, peer_url=url(2))
        assert "start the machines of etcd/0, etcd/2" in plans.plan(one_stays).message

    def test_given_all_disks_on_new_units_when_nobody_answers_then_recover_is_named(self) -> None:
        v = view(3, etcd=silent(), since=(("silent:1", 1.0),))
        v = dataclasses.replace(v, disk=views.Disk(token="one", member="etcd-0"))
        units = tuple(unit(n + 3, member=f"etcd-{n}") for n in range(3))
        assert plans.plan(dataclasses.replace(v, units=units)).message == (
            "no quorum of members answers, since etcd knows etcd/3, etcd/4, etcd/5 by other "
            "addresses: run `juju run etcd/leader recover`"
        )

    def test_given_one_account_with_a_quorum_when_allowed_then_never_recovers(self) -> None:
        v = self.lost()
        other = unit(1, voters=("etcd/0", "etcd/1"), voters_of="one")
        assert not losses.lost_by_juju(dataclasses.replace(v, units=(*v.units, other)))

    def test_given_accounts_from_before_it_grew_when_the_rest_is_gone_then_the_last_voter_counts(
        self,
    ) -> None:
        old = ("etcd/0", "etcd/1", "etcd/2")
        left = [unit(1, voters=old, voters_of="one")]
        left += [unit(n, voters=tuple(f"etcd/{v}" for v in range(n + 1))) for n in (3, 4)]
        left = [dataclasses.replace(u, voters_of="one") for u in left]
        v = view(1, units=tuple(left), etcd=silent())
        assert not losses.lost_by_juju(v)

    def two(self, **other: Any) -> views.View:
        """Two of five units are left and stopped; the other one holds a little more."""
        voters = tuple(f"etcd/{n}" for n in range(5))
        v = self.lost(disk=views.Disk(token="one", facts=views.DiskFacts(2, 9, 8)))
        v = dataclasses.replace(v, etcd=silent(STOPPED), units=(v.units[0], unit(1)))
        other = {"started": False, "facts": views.DiskFacts(2, 10, 8), **other}
        return changed(changed(v, 0, voters=voters), 1, **other)

    def test_given_two_survivors_when_both_have_told_then_the_better_one_founds(self) -> None:
        (propose,) = plans.plan(self.two()).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.founders == founders(1)

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ({"started": True, "facts": None}, "waiting for etcd/1 to tell what it holds"),
            ({"peer_url": None, "token": None}, "waiting for etcd/1 to be installed"),
            ({"alive": False}, "waiting for etcd/1 to leave"),
        ],
    )
    def test_given_a_unit_to_wait_for_when_allowed_then_it_is_named_with_a_way_out(
        self, other: dict[str, Any], words: str
    ) -> None:
        v = self.two(**other)
        assert do(v) == []
        assert plans.plan(v).state is plans.State.RECOVERING
        assert plans.plan(v).message == (
            f"a majority of members was removed, {words}: "
            "`juju run etcd/leader recover` goes on without what is awaited"
        )

    def test_given_the_best_disk_failed_when_allowed_then_no_lesser_one_takes_its_place(
        self,
    ) -> None:
        v = self.two(failure=views.Failure("old", "no space left"))
        assert do(v) == []
        plan = plans.plan(v)
        assert "retry" in plan.clocks
        assert plan.state is plans.State.NOT_RECOVERED
        assert plan.message == (
            "etcd/1, whose disk holds most, could not found the cluster: no space left; its data "
            "is as it was, and it is tried again each minute: mend that, or run "
            "`juju run etcd/leader recover unit=UNIT` with a unit that holds less"
        )
        (again,) = plans.plan(
            dataclasses.replace(v, since=(*v.since, ("retry", 10_000.0 - 61)))
        ).steps
        assert isinstance(again, steps.Propose)
        assert again.proposal is not None
        assert again.proposal.founders == founders(1)
        (ordered,) = plans.plan(dataclasses.replace(v, recover="etcd/0")).steps
        assert isinstance(ordered, steps.Propose)
        assert ordered.proposal is not None
        assert ordered.proposal.founders == founders(0)

    def survivor(self, **values: Any) -> generations.Generation:
        return record(
            0, number=2, token="two", source=generations.Source.SURVIVOR, confirmed=False, **values
        )

    def test_given_a_disk_that_comes_late_when_a_survivor_is_proposed_then_it_stands_still(
        self,
    ) -> None:
        v = view(3, etcd=silent(STOPPED), units=(unit(0), unit(3, started=False)))
        assert do(v) == ["Start"]
        assert "Start" not in do(dataclasses.replace(v, proposal=self.survivor()))

    def test_given_a_late_disk_that_runs_when_its_voters_are_unknown_then_the_survivor_waits(
        self,
    ) -> None:
        generation = self.survivor(detail=generations.Detail(previous_token="one"))
        v = view(generation=generation, etcd=silent(STOPPED), disk=views.Disk(prepared=("two",)))
        v = dataclasses.replace(v, units=(unit(0, token=None, started=False), unit(3)))
        assert do(v) == []
        assert do(changed(v, 3, token=None)) == ["Adopt", "Start"]

    def test_given_a_recovery_under_way_when_a_quorum_answers_again_then_nobody_stops_for_it(
        self,
    ) -> None:
        (withdraw,) = plans.plan(view(proposal=self.survivor())).steps
        assert withdraw == steps.Propose(
            None, "a quorum of members answers again, so that nothing is to be recovered"
        )
        prepared = view(proposal=self.survivor(), disk=views.Disk(token="one", prepared=("two",)))
        assert plans.plan(prepared).steps == (withdraw,)
        cut_off = view(0, leader=False, proposal=self.survivor())
        (fail,) = plans.plan(cut_off).steps
        assert fail == steps.Fail("two", "a quorum of members answers it")
        assert do(dataclasses.replace(cut_off, etcd=silent())) == ["Stop", "Prepare"]

    def test_given_an_order_when_nothing_answers_then_proposes_that_unit(self) -> None:
        v = view(etcd=silent(), recover="etcd/2")
        (propose,) = plans.plan(v).steps
        assert isinstance(propose, steps.Propose)
        assert propose.proposal is not None
        assert propose.proposal.founders == founders(2)

    def test_given_an_order_when_a_quorum_answers_then_ignored(self) -> None:
        assert do(view(recover="etcd/2")) == []

    def test_given_no_data_anywhere_when_not_allowed_then_names_the_restore(self) -> None:
        v = view(etcd=silent(STOPPED), disk=views.Disk())
        v = dataclasses.replace(v, units=tuple(emptied(n) for n in range(3)))
        v = dataclasses.replace(v, since=(("silent:1", 10_000.0 - 61),))
        assert do(v) == []
        assert plans.plan(v).state is plans.State.DATA_LOST
        assert "juju run etcd/leader restore" in plans.plan(v).message
        unheard = changed(v, 1, heard="older")
        assert plans.plan(unheard).state is not plans.State.DATA_LOST
        ready = changed(v, 1, prepared="one", last_started=0)
        assert plans.plan(ready).state is not plans.State.DATA_LOST

    def test_given_no_data_by_every_word_when_one_may_be_joining_then_nothing_is_lost(
        self,
    ) -> None:
        v = view(etcd=silent(STOPPED), disk=views.Disk())
        v = dataclasses.replace(v, units=tuple(emptied(n) for n in range(3)))
        asked = (("silent:1", 10_000.0 - 61),)
        lost = dataclasses.replace(v, since=asked)
        for told in (changed(lost, 2, unanswered=False), v):
            assert plans.plan(told).state is not plans.State.DATA_LOST
            assert "recover" not in plans.plan(told).message
            assert "restore" not in plans.plan(told).message
        assert plans.plan(lost).state is plans.State.DATA_LOST

    def test_given_a_restore_taken_back_when_its_data_is_still_kept_then_nothing_is_lost(
        self,
    ) -> None:
        back = record(0, 1, 2, number=3, source=generations.Source.PREVIOUS)
        v = view(etcd=silent(STOPPED), disk=views.Disk(), generation=back)
        v = dataclasses.replace(v, units=tuple(emptied(n, last_started=2) for n in range(3)))
        v = dataclasses.replace(v, since=(("silent:3", 10_000.0 - 61),))
        assert plans.plan(v).state is plans.State.DATA_LOST
        assert plans.plan(changed(v, 1, prepared="one")).state is not plans.State.DATA_LOST
        own = dataclasses.replace(v, disk=views.Disk(kept=("one",)))
        assert plans.plan(own).state is not plans.State.DATA_LOST

    def test_given_founders_that_may_yet_start_when_overdue_then_nothing_is_lost(self) -> None:
        late = record(0, 1, 2, confirmed=False)
        v = view(1, etcd=silent(STOPPED), disk=views.Disk(), generation=late)
        v = dataclasses.replace(v, units=tuple(emptied(n) for n in range(3)))
        since = (("silent:1", 10_000.0 - 301), ("confirm:1", 10_000.0 - 301))
        v = dataclasses.replace(v, since=since)
        assert plans.plan(v).state is plans.State.DATA_LOST
        assert plans.plan(changed(v, 2, last_started=0)).state is not plans.State.DATA_LOST
        backup = dataclasses.replace(late, source=generations.Source.BACKUP)
        again = changed(dataclasses.replace(v, generation=backup), 2, last_started=0)
        assert plans.plan(again).state is not plans.State.DATA_LOST
        failed = changed(again, 2, failure=views.Failure("one", "no space left"))
        assert plans.plan(failed).state is plans.State.DATA_LOST

    def test_given_a_majority_removed_when_a_unit_may_have_its_disk_then_it_is_waited_for(
        self,
    ) -> None:
        v = view(etcd=silent(STOPPED), units=(unit(0, started=False),))
        assert "juju run etcd/leader recover" in plans.plan(v).message
        coming = dataclasses.replace(v, units=(*v.units, views.Unit("etcd/3")))
        assert "juju run etcd/leader recover" not in plans.plan(coming).message
        assert "`juju remove-unit --force etcd/3`" in plans.plan(coming).message

    def test_given_all_data_lost_when_a_unit_never_comes_up_then_it_is_named_with_a_way_out(
        self,
    ) -> None:
        v = view(etcd=silent(STOPPED), disk=views.Disk())
        units = (*(emptied(n) for n in range(3)), views.Unit("etcd/3"))
        v = dataclasses.replace(v, units=units, since=(("silent:1", 10_000.0 - 61),))
        message = plans.plan(v).message
        assert "start the machines of etcd/1, etcd/2, or mend" in message
        assert message.endswith(
            "etcd/3 has yet to tell what is on disk: wait for it, or run "
            "`juju remove-unit --force etcd/3` to go on without it"
        )
        assert plans.plan(dataclasses.replace(v, units=units[:3])).state is plans.State.DATA_LOST


class TestUpkeep:
    def test_given_stale_units_when_leader_then_grants_one_turn(self) -> None:
        v = changed(changed(view(), 1, stale=True), 2, stale=True)
        assert plans.plan(v).steps == (steps.Grant("etcd/1", 1),)
        v = dataclasses.replace(v, turn=views.Turn("etcd/1", 1))
        assert do(v) == []
        v = changed(v, 1, stale=False, turn_done=1)
        assert plans.plan(v).steps == (steps.Grant("etcd/2", 2),)

    def test_given_its_turn_when_stale_then_hands_over_and_restarts(self) -> None:
        v = changed(view(etcd=etcd(0, 0, 1, 2, stale=True)), 0, stale=True)
        v = dataclasses.replace(v, turn=views.Turn("etcd/0", 4))
        assert do(v) == ["MoveLeader"]
        assert do(changed(v, 0, turn_done=4)) == ["Grant"]
        handed = dataclasses.replace(v.etcd, leader=member(1).id)
        assert do(dataclasses.replace(v, etcd=handed)) == ["Restart"]
        broken = dataclasses.replace(
            handed, members=(member(0), member(1), member(2, healthy=False))
        )
        assert "Restart" not in do(dataclasses.replace(v, etcd=broken))

    def test_given_a_turn_when_nothing_is_to_restart_then_it_ends_at_once(self) -> None:
        v = view(1, turn=views.Turn("etcd/1", 5))
        assert plans.plan(v).steps == (steps.EndTurn(),)
        assert do(changed(v, 1, turn_done=5)) == []
        assert do(changed(v, 1, peer_url="https://198.18.9.9:2380")) == ["UpdateMember", "Restart"]

    def test_given_a_unit_that_wants_a_turn_when_another_has_it_then_the_leader_looks_again(
        self,
    ) -> None:
        v = changed(view(turn=views.Turn("etcd/1", 5)), 0, stale=True)
        assert [type(x) for x in plans.plan(v).steps] == [steps.Wake]
        late = dataclasses.replace(v, since=((restarting.turn_key(v), v.now - 61),))
        assert plans.plan(late).steps == (steps.Grant("etcd/0", 6),)
        other = dataclasses.replace(v, me="etcd/2", leader=False)
        assert plans.plan(other).steps == (), "it is told by an event"

    def test_given_an_unhealthy_voter_when_stale_then_no_turn_is_given(self) -> None:
        v = view(etcd=etcd(0, 0, 1, member(2, healthy=False)))
        assert do(changed(v, 1, stale=True)) == []

    def test_given_a_member_of_one_when_stale_then_restarts_at_once(self) -> None:
        v = view(etcd=etcd(0, 0, stale=True))
        v = dataclasses.replace(v, units=v.units[:1], generation=record(0))
        assert do(v) == ["Restart"]

    def test_given_a_new_address_when_it_has_its_turn_then_updates_before_restart(self) -> None:
        v = changed(view(1, turn=views.Turn("etcd/1", 1)), 1, peer_url="https://198.18.9.9:2380")
        planned = plans.plan(v).steps
        assert planned == (steps.UpdateMember(101, "https://198.18.9.9:2380"), steps.Restart())

    def test_given_a_pair_when_one_has_a_new_address_then_it_gets_a_turn(self) -> None:
        v = view(etcd=etcd(0, 0, member(1, healthy=False)), generation=record(0, 1))
        v = dataclasses.replace(v, units=v.units[:2])
        v = changed(v, 1, peer_url="https://198.18.9.9:2380")
        assert plans.plan(v).steps == (steps.Grant("etcd/1", 1),)
        mine = dataclasses.replace(v, me="etcd/1", leader=False, turn=views.Turn("etcd/1", 1))
        mine = dataclasses.replace(mine, etcd=etcd(1, 0, member(1, healthy=False)))
        assert do(mine) == ["UpdateMember", "Restart"]

    def test_given_two_that_moved_when_one_hears_nothing_of_the_other_then_it_is_put_right(
        self,
    ) -> None:
        """The raft leader dials the address on record, and is where the other does not look."""
        left, led = member(2, healthy=False), member(3, peer_urls=(url(1),))
        heir = unit(4, member="etcd-2", started=False)
        units = (unit(0), unit(3, member="etcd-1", member_id=103), heir)
        v = view(units=units, etcd=dataclasses.replace(etcd(0, 0, left, led), leader=103))
        assert do(v) == [], "one more restart would cost the quorum"
        disk = views.Disk(token="one", member="etcd-2")
        alone = dataclasses.replace(v.etcd, local_id=None)
        moved = dataclasses.replace(v, me="etcd/4", leader=False, disk=disk, etcd=alone)
        assert plans.plan(moved).steps[:1] == (steps.UpdateMember(102, url(4)),)
        for other in (
            {"local_id": 102},  # it takes part
            {"service": STOPPED},
            {"stale": True},  # it runs at the old address
            {"members": tuple(dataclasses.replace(m, healthy=True) for m in v.etcd.members or ())},
        ):
            now = dataclasses.replace(moved, etcd=dataclasses.replace(moved.etcd, **other))
            assert "UpdateMember" not in do(now), other

    def test_given_a_learner_with_a_new_address_when_planned_then_never_updated(self) -> None:
        mine = member(1, learner=True, raft_index=0)
        v = changed(view(1, etcd=etcd(1, 0, mine, 2)), 1, peer_url="https://198.18.9.9:2380")
        assert "UpdateMember" not in do(v)


class TestAccount:
    """What a unit tells of the voters: no more often than somebody needs it."""

    told = views.KnownVoters(("etcd/0", "etcd/1"), "one")

    def now(self, *voters: int, token: str = "one", me: int = 0, answered: bool = True) -> bool:
        """Whether it tells what it sees now, and not what it told before."""
        seen = views.KnownVoters(tuple(f"etcd/{n}" for n in voters), token)
        account = queries.known_voters(self.told, seen, f"etcd/{me}", answered=answered)
        assert account in (self.told, seen)
        return account == seen

    def test_given_a_voter_that_came_when_a_quorum_answers_then_nothing_new_is_told(self) -> None:
        assert not self.now(0, 1, 2)

    def test_given_a_voter_that_came_when_no_quorum_answers_then_it_is_told(self) -> None:
        assert self.now(0, 1, 2, answered=False)

    def test_given_a_voter_that_left_when_seen_then_it_is_told(self) -> None:
        assert self.now(0, 2)

    def test_given_this_unit_became_a_voter_when_seen_then_it_is_told(self) -> None:
        assert self.now(0, 1, 2, me=2)

    def test_given_this_unit_waits_to_join_when_others_come_then_nothing_new_is_told(self) -> None:
        assert not self.now(0, 1, 2, me=3)

    def test_given_another_generation_when_seen_then_it_is_told(self) -> None:
        assert self.now(0, 1, 2, token="two")

    def test_given_nothing_seen_when_asked_then_what_was_told_stays(self) -> None:
        unseen = views.KnownVoters()
        assert queries.known_voters(self.told, unseen, "etcd/0", answered=False) == self.told


class TestStates:
    def test_given_a_unit_to_come_when_all_else_is_well_then_only_the_leader_looks_again(
        self,
    ) -> None:
        v = view(units=(*view().units, unit(3, token=None, started=False, last_started=0)))
        assert plans.plan(v).state is plans.State.DEGRADED
        assert plans.plan(v).steps == (steps.Wake(plans.SLOW),)
        assert (
            plans.plan(
                dataclasses.replace(v, me="etcd/1", leader=False, etcd=etcd(1, 0, 1, 2))
            ).steps
            == ()
        )

    def test_given_a_sick_voter_when_not_leader_then_looks_again(self) -> None:
        sick = member(2, healthy=False)
        assert plans.plan(view(1, etcd=etcd(1, 0, 1, sick))).steps == (steps.Wake(plans.SLOW),)

    @pytest.mark.parametrize(
        "broken",
        [
            view(etcd=etcd(0, 0, 1)),
            view(etcd=etcd(0, 0, 1, member(2, healthy=False))),
            view(etcd=etcd(0, 0, 1, member(2, learner=True))),
            view(etcd=etcd(0, 0, 1, 2, alarms=(views.Alarm(101, "NOSPACE"),))),
            view(etcd=etcd(0, 0, 1, 2, alarms=(views.UNNAMED,))),
            view(etcd=etcd(0, 0, 1, 2, leader=None)),
            changed(view(), 2, token="zero"),
        ],
    )
    def test_given_a_disagreement_when_asked_then_never_active(self, broken: views.View) -> None:
        assert plans.plan(broken).status != "active"


def test_given_certificates_refused_for_dates_when_it_lasts_then_the_clock_is_named() -> None:
    lost = view(etcd=silent(clock_skewed=True), since=(("silent:1", 10_000.0 - 61),))
    assert plans.plan(lost).state is plans.State.CLOCK
    assert "1970-01-01 02:46 UTC" in plans.plan(lost).message
    brief = dataclasses.replace(lost, since=())
    assert plans.plan(brief).state is plans.State.DEGRADED


def test_given_unusable_restored_data_when_planned_then_the_founder_says_so_once() -> None:
    restored = dataclasses.replace(
        record(0, 1, 2),
        number=2,
        source=generations.Source.BACKUP,
        confirmed=False,
        detail=generations.Detail(previous_token="old", previous_number=1),
    )
    disk = views.Disk(token=restored.token, broken="its database is corrupt")
    broken = view(1, generation=restored, disk=disk, etcd=silent(views.Service.FAILED))
    assert plans.plan(broken).steps == (steps.Fail(restored.token, "its database is corrupt"),)
    said = changed(broken, 1, failure=views.Failure(restored.token, "its database is corrupt"))
    assert not any(isinstance(step, steps.Fail) for step in plans.plan(said).steps)
    leader = dataclasses.replace(
        said, me="etcd/0", leader=True, disk=views.Disk(restored.token), etcd=silent()
    )
    (commit,) = plans.plan(leader).steps
    assert isinstance(commit, steps.Commit)
    assert commit.generation.source is generations.Source.PREVIOUS
    assert commit.generation.token == "old"


class TestCutOff:
    """A member that cannot dial the others looks well, for as long as they dial it."""

    def test_given_a_member_that_cannot_dial_when_others_wait_to_restart_then_none_may(self):
        v = changed(changed(view(), 2, stale=True), 1, cut_off=True)
        assert do(v) == []
        assert plans.plan(changed(v, 1, cut_off=False)).steps == (steps.Grant("etcd/2", 1),)

    def test_given_a_member_that_cannot_dial_when_it_wants_to_restart_itself_then_it_may(self):
        v = changed(changed(view(), 2, stale=True), 1, cut_off=True, stale=True)
        assert plans.plan(v).steps == (steps.Grant("etcd/1", 1),)

    def test_given_a_member_that_cannot_dial_when_described_then_it_is_not_healthy_and_looks_again(
        self,
    ):
        v = changed(view(1), 1, cut_off=True)
        plan = plans.plan(v)
        assert plan.state is plans.State.DEGRADED
        assert "etcd on etcd/1 cannot dial other members" in plan.message
        assert any(isinstance(step, steps.Wake) for step in plan.steps)


def test_given_a_founder_that_tells_of_a_proposals_data_when_weighed_then_it_may_have_both() -> (
    None
):
    survivor = dataclasses.replace(
        record(1), source=generations.Source.SURVIVOR, number=2, token="two", confirmed=False
    )
    v = dataclasses.replace(view(0, etcd=etcd(0)), generation=survivor)
    told = {"token": None, "last_started": 1, "heard": "two"}
    for prepared, may in ((None, False), ("two", True), ("three", True)):
        unit = changed(v, 1, prepared=prepared, **told).unit("etcd/1")
        assert unit is not None
        assert queries.may_start(v, unit) is may
