"""Unit agents over a model in memory: what runs, in which order, and what is kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from minijuju.agent import actions, agent
from minijuju.controller import deployment
from minijuju.model import errors, relations

if TYPE_CHECKING:
    import pathlib

    from unit import world as worlds


def test_given_a_new_unit_when_it_comes_up_then_hooks_run_in_jujus_order(
    world: worlds.World,
) -> None:
    world.deploy("probe", storage={"data": {"type": "filesystem", "location": "/srv"}})
    world.run()
    assert world.hooks("probe/0") == [
        "data-storage-attached",
        "install",
        "mates-relation-created",
        "leader-elected",
        "config-changed",
        "start",
    ]
    unit = world.state.units["probe/0"]
    assert (unit.workload.current, unit.agent.current) == ("unknown", "idle")


@pytest.mark.parametrize("storage", [True, False])
def test_given_an_early_action_when_a_storage_hook_came_first_then_it_precedes_install(
    world: worlds.World, storage: bool
) -> None:
    declared = {"storage": {"data": {"type": "filesystem"}}} if storage else {}
    world.deploy("probe", actions={"act": {"additionalProperties": False}}, **declared)
    with world.store.transaction():
        actions.enqueue(world.state, ["probe/0"], "act", {})
    world.run()
    order = [name for name in world.hooks("probe/0") if "relation" not in name]
    assert order[:3] == (
        ["data-storage-attached", "act", "install"]
        if storage
        else ["install", "leader-elected", "act"]
    )


def test_given_a_resource_when_its_extension_is_another_then_refused(
    world: worlds.World, tmp_path: pathlib.Path
) -> None:
    world.deploy("probe", resources={"blob": {"type": "file", "filename": "blob.bin"}})
    for name in ("blob.txt", "blob"):
        (tmp_path / name).touch()
        with pytest.raises(errors.JujuError) as caught, world.store.transaction():
            application = world.state.applications["probe"]
            path = str(tmp_path / name)
            deployment.add_resource(world.state, world.home, application, "blob", path)
        assert caught.value.text == (
            f'incorrect extension on resource upload "{name}", expected ".bin"'
        )
    (tmp_path / "other.bin").touch()
    with world.store.transaction():
        application = world.state.applications["probe"]
        path = str(tmp_path / "other.bin")
        deployment.add_resource(world.state, world.home, application, "blob", path)


def test_given_a_peer_app_bag_when_the_leader_writes_then_all_get_one_app_changed(
    world: worlds.World,
) -> None:
    world.deploy("probe", 2)
    world.run()
    leader = world.state.applications["probe"].lease.holder
    world.scripts[f"{leader}:update-status"] = lambda tools: (
        tools("relation-set", "-r", "mates:0", "--app", "token=1") and None
    )
    world.agent(leader)._update_at = 0
    ran = world.run()
    assert sorted(name for name in ran if "changed" in name) == [
        "probe/0:mates-relation-changed",
        "probe/1:mates-relation-changed",
    ]
    assert world.environment("probe/0", "mates-relation-changed").JUJU_REMOTE_UNIT == ""


def test_given_app_data_when_a_unit_joins_then_app_changed_comes_first(
    world: worlds.World,
) -> None:
    world.deploy("server")
    world.deploy("client")
    world.run()
    relation = world.integrate("client:backend", "server:db")
    world.scripts["db-relation-created"] = lambda tools: (
        tools("relation-set", "--app", "a=b") and None
    )
    world.run("server/0")
    world.run()
    assert world.hooks("client/0")[-4:] == [
        "backend-relation-created",
        "backend-relation-changed",
        "backend-relation-joined",
        "backend-relation-changed",
    ]
    assert relation.apps["client"].version == 0
    assert world.hooks("server/0").count("db-relation-changed") == 1


def test_given_a_failing_hook_when_it_fails_then_nothing_is_flushed_and_it_is_retried(
    world: worlds.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy("probe", config={"x": {"type": "string", "default": "a"}})
    world.run()

    def failing(tools: worlds.Tools) -> int:
        tools("relation-set", "-r", "mates:0", "half=done")
        tools("status-set", "blocked", "stays")
        return 1

    world.scripts["config-changed"] = failing
    with world.store.transaction():
        world.state.applications["probe"].config["x"] = "b"
    world.run()
    unit = world.state.units["probe/0"]
    assert unit.agent.message == 'hook failed: "config-changed"'
    assert "half" not in world.state.relations[0].units["probe/0"].data
    assert unit.workload.current == "blocked"
    assert world.agent("probe/0")._retry_at - time.time() == pytest.approx(5.2, abs=0.4)
    del world.scripts["config-changed"]
    world.agent("probe/0")._retry_at = 0
    assert world.run() == ["probe/0:config-changed"]
    assert world.state.units["probe/0"].agent.current == "idle"
    assert world.state.units["probe/0"].workload.message == "stays"


def test_given_a_failed_hook_when_resolved_without_retry_then_it_counts_as_done(
    world: worlds.World,
) -> None:
    world.scripts["install"] = lambda tools: 1
    world.deploy("probe")
    world.run()
    with world.store.transaction():
        world.state.units["probe/0"].resolved = "no-retry"
    world.run()
    assert world.hooks("probe/0").count("install") == 1
    assert world.hooks("probe/0")[-1] == "start"


def test_given_an_agent_that_died_in_a_hook_when_restarted_then_the_hook_has_failed(
    world: worlds.World,
) -> None:
    def dying(tools: worlds.Tools) -> int:
        world.agents["probe/0"]._ending = True
        return 0

    world.scripts["install"] = dying
    world.deploy("probe")
    with pytest.raises(agent.Gone):
        world.run()
    world.restart("probe/0")
    del world.scripts["install"]
    world.run()
    assert world.state.units["probe/0"].agent.message == 'hook failed: "install"'


def test_given_a_machine_killed_in_leader_elected_when_another_leads_then_the_hook_is_moot(
    world: worlds.World,
) -> None:
    def dying(tools: worlds.Tools) -> int:
        world.agents["probe/0"]._ending = True
        return 0

    world.scripts["probe/0:leader-elected"] = dying
    world.deploy("probe")
    with pytest.raises(agent.Gone):
        world.run()
    world.silent.add("probe/0")
    world.add_unit("probe")
    lease = world.state.applications["probe"].lease
    world.run()
    world.settle_leases(now=lease.expiry)
    world.run()
    assert world.state.applications["probe"].lease.holder == "probe/1"
    del world.scripts["probe/0:leader-elected"]
    world.silent.clear()
    world.restart("probe/0")
    world.agent("probe/0")._retry_at = 0
    world.run()
    assert world.state.units["probe/0"].agent.current == "idle"
    assert not world.state.units["probe/0"].state.leader
    assert world.hooks("probe/0").count("leader-elected") == 1
    assert "start" in world.hooks("probe/0")


def test_given_an_agent_that_died_in_leader_elected_when_it_still_leads_then_retried_in_5_s(
    world: worlds.World,
) -> None:
    def dying(tools: worlds.Tools) -> int:
        world.agents["probe/0"]._ending = True
        return 0

    world.scripts["leader-elected"] = dying
    world.deploy("probe")
    with pytest.raises(agent.Gone):
        world.run()
    del world.scripts["leader-elected"]
    world.restart("probe/0")
    one = world.agent("probe/0")
    assert one._retry_at - time.time() == pytest.approx(5.2, abs=0.4)
    one._retry_at = 0
    assert world.run()[:1] == ["probe/0:leader-elected"]
    assert world.state.units["probe/0"].agent.current == "idle"


def test_given_a_leaving_unit_when_removed_then_others_learn_when_juju_says_so(
    world: worlds.World,
) -> None:
    world.deploy("server", 2)
    world.deploy("client")
    world.integrate("client:backend", "server:db")
    world.run()
    world.ran.clear()
    world.remove_unit("server/1")
    ran = world.run()
    mine = [name.split(":")[1] for name in ran if name.startswith("server/1")]
    assert mine.index("mates-relation-departed") < mine.index("stop")
    assert [name for name in mine if name != "mates-relation-departed"] == [
        "db-relation-departed",
        "db-relation-broken",
        "stop",
        "remove",
    ]
    departing = world.environment("server/1", "db-relation-departed").JUJU_DEPARTING_UNIT
    assert departing == "server/1"
    assert world.environment("client/0", "backend-relation-departed").JUJU_DEPARTING_UNIT == (
        "server/1"
    )
    assert ran.index("server/1:remove") < ran.index("server/0:mates-relation-departed")
    assert "server/1" not in world.state.units


def test_given_a_removed_relation_when_all_have_left_then_it_is_gone(
    world: worlds.World,
) -> None:
    world.deploy("server")
    world.deploy("client")
    relation = world.integrate("client:backend", "server:db")
    world.run()
    with world.store.transaction():
        relations.destroy(world.state, world.state.relations[relation.id])
    ran = world.run()
    assert sorted(ran) == [
        "client/0:backend-relation-broken",
        "client/0:backend-relation-departed",
        "server/0:db-relation-broken",
        "server/0:db-relation-departed",
    ]
    assert relation.id not in world.state.relations


def test_given_an_unrelated_hook_when_a_remote_bag_changed_then_the_cached_one_is_read(
    world: worlds.World,
) -> None:
    world.deploy("server")
    world.deploy("client")
    relation = world.integrate("client:backend", "server:db")
    seen: list[str] = []
    read = ("relation-get", "-r", str(relation.id), "k", "server/0")
    world.scripts["client/0:backend-relation-changed"] = lambda tools: seen.append(tools(*read))
    world.scripts["client/0:update-status"] = lambda tools: seen.append(tools(*read))
    world.run()
    with world.store.transaction():
        relations.write(world.state.relations[relation.id].units["server/0"], {"k": "new"})
    one = world.agent("client/0")
    one._hook(agent.records.Hook("update-status"), one._decide()[1], skip=False)
    assert seen == ["", ""]
    world.run()
    assert seen[-1] == "new\n"


def test_given_a_unit_that_has_not_joined_when_its_bag_changes_then_each_hook_reads_it_afresh(
    world: worlds.World,
) -> None:
    world.deploy("server")
    world.deploy("client")
    relation = world.integrate("client:backend", "server:db")
    seen: list[str] = []

    def look(tools: worlds.Tools) -> None:
        seen.append(tools("relation-get", "-r", str(relation.id), "k", "server/0"))

    world.scripts["client/0:update-status"] = look
    world.run()
    one = world.agent("client/0")
    del one.unit.state.relations[relation.id].members["server/0"]
    for value in ("old", "new"):
        with world.store.transaction():
            relations.write(world.state.relations[relation.id].units["server/0"], {"k": value})
        one._hook(agent.records.Hook("update-status"), one._decide()[1], skip=False)
    assert seen == ["old\n", "new\n"]


def test_given_a_subordinate_when_its_principal_goes_then_it_goes_first(
    world: worlds.World,
) -> None:
    world.deploy("principal", 2)
    world.deploy(
        "helper",
        subordinate=True,
        requires={"host": {"interface": "juju-info", "scope": "container"}},
    )
    world.integrate("helper:host", "principal")
    world.run()
    assert sorted(unit.name for unit in world.state.units_of("helper")) == ["helper/0", "helper/1"]
    helper = world.state.subordinates_of("principal/0")[0].name
    assert world.hooks(helper).count("host-relation-joined") == 1
    world.remove_unit("principal/0")
    ran = world.run()
    assert ran.index(f"{helper}:remove") > ran.index(f"{helper}:host-relation-broken")
    assert helper not in world.state.units
    assert "principal/0" not in world.state.units


def test_given_a_refresh_when_units_see_it_then_upgrade_and_config_but_no_start(
    world: worlds.World,
) -> None:
    world.deploy("probe")
    world.run()
    world.ran.clear()
    newer = world.charm("probe", provides={"more": {"interface": "probe"}})
    uploaded = deployment.upload_charm(world.state, world.home, str(newer))
    kept = world.agent("probe/0").host.charm_dir("probe/0") / "made-at-run-time"
    kept.write_text("x")
    with world.store.transaction():
        record = world.state.applications["probe"]
        deployment.refresh(world.state, world.home, record, uploaded, {})
    world.run()
    assert world.hooks("probe/0") == ["upgrade-charm", "config-changed"]
    assert kept.exists()
    assert world.state.units["probe/0"].charm_url == "local:probe-1"


def test_given_a_lost_leadership_when_a_hook_has_app_writes_then_its_flush_fails(
    world: worlds.World,
) -> None:
    world.deploy("probe")
    world.run()

    def losing(tools: worlds.Tools) -> None:
        tools("relation-set", "-r", "mates:0", "--app", "k=v")
        with world.store.transaction():
            world.state.applications["probe"].lease.holder = "probe/9"

    world.scripts["update-status"] = losing
    world.agent("probe/0")._update_at = 0
    world.step("probe/0")
    assert world.state.units["probe/0"].agent.message == 'hook failed: "update-status"'
    assert world.state.relations[0].apps["probe"].data == {}


def test_given_a_machine_that_falls_silent_when_the_term_is_over_then_another_leads(
    world: worlds.World,
) -> None:
    world.deploy("probe", 2)
    world.run()
    lease = world.state.applications["probe"].lease
    leader = lease.holder
    world.silent.add(leader)
    world.settle_leases()
    lease = world.state.applications["probe"].lease
    assert lease.holder == leader
    assert lease.expiry is not None
    assert 30 <= lease.expiry - time.time() <= 61
    world.settle_leases(now=lease.expiry + 0.1)
    assert world.state.applications["probe"].lease.holder not in ("", leader)


def test_given_a_broken_transaction_when_it_raises_then_all_is_as_before(
    world: worlds.World,
) -> None:
    world.deploy("probe")
    with pytest.raises(errors.JujuError), world.store.transaction():
        world.state.units["probe/0"].workload.message = "half"
        world.state.machines.remove("0")
        raise errors.JujuError("no")
    assert world.state.units["probe/0"].workload.message == "waiting for machine"
    assert "0" in world.state.machines
