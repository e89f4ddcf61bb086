"""What is shown: JSON that jubilant reads, tables that people read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jubilant
import pytest
from jubilant import modeltypes, secrettypes, unittypes

from minijuju.cli.verbs import showing
from minijuju.controller import views
from minijuju.model import errors, formats, records, store

if TYPE_CHECKING:
    import pathlib


@pytest.fixture
def state(tmp_path: pathlib.Path) -> store.ModelState:
    """A model with two applications, a subordinate, a relation, storage and secrets."""
    for name, text in {
        "metadata.yaml": "name: etcd\nprovides: {db: {interface: etcd}}\n"
        "peers: {cluster: {interface: c}}\n",
        "config.yaml": "options: {port: {type: int, default: 2379, description: The port},"
        " note: {type: string}}\n",
        "actions.yaml": "health: {description: Is it well}\n",
    }.items():
        (tmp_path / name).write_text(text)
    memory = store.Store()
    with memory.transaction():
        made = memory.new_model(records.Model(name="m", uuid="u-1"))
        made.charms.add("local:etcd-4", records.Charm("local:etcd-4", "etcd", 4, str(tmp_path)))
        etcd = made.applications.add("etcd", records.Application("etcd", "local:etcd-4"))
        etcd.lease.holder = "etcd/1"
        made.applications.add("web", records.Application("web", "local:etcd-4"))
        made.applications.add(
            "agent", records.Application("agent", "local:etcd-4", subordinate=True)
        )
        made.machines.add("0", _machine("0"))
        made.machines.add("1", _machine("1"))
        for number in (0, 1):
            unit = _unit("etcd", number, str(number))
            unit.workload = records.Status("active", "Healthy with 2 known peers")
            unit.ports = [{"endpoint": "", "protocol": "tcp", "from": 2379, "to": 2379}]
            made.units.add(unit.name, unit)
        sub = _unit("agent", 0, "0")
        sub.principal = "etcd/0"
        made.units.add("agent/0", sub)
        made.relations.add(
            7,
            records.Relation(
                7,
                [
                    records.Endpoint("etcd", "db", "etcd", "provider"),
                    records.Endpoint("web", "db", "etcd", "requirer"),
                ],
                units={"etcd/0": records.Bag({"a": "1"}, 1, in_scope=True)},
                apps={"etcd": records.Bag({"b": "2"}, 1)},
            ),
        )
    return made


def _machine(name: str) -> records.MachineRecord:
    return records.MachineRecord(
        name,
        f"juju-abcdef-{name}",
        f"juju-abcdef-{name}",
        address=f"198.18.0.{int(name) + 2}",
        agent=records.Status("started"),
        status=records.Status("running", "Running"),
    )


def _unit(application: str, number: int, machine: str) -> records.Unit:
    unit = records.Unit(f"{application}/{number}", application, number, machine)
    unit.agent = records.Status("idle")
    unit.state.installed = True
    return unit


def _status(state: store.ModelState) -> jubilant.Status:
    return jubilant.Status._from_dict(json.loads(json.dumps(views.status(state))))


def test_given_a_model_when_shown_then_jubilant_reads_it(state: store.ModelState) -> None:
    status = _status(state)
    etcd = status.apps["etcd"]
    assert (etcd.charm, etcd.charm_rev, etcd.charm_origin) == ("local:etcd-4", 4, "local")
    assert etcd.app_status.current == "active"
    assert etcd.units["etcd/1"].leader
    assert not etcd.units["etcd/0"].leader
    assert etcd.units["etcd/0"].open_ports == ["2379/tcp"]
    assert list(etcd.units["etcd/0"].subordinates) == ["agent/0"]
    assert etcd.relations["db"][0].related_app == "web"
    assert etcd.endpoint_bindings == {"": "alpha", "cluster": "alpha", "db": "alpha"}
    assert status.apps["web"].app_status.current == "unknown"
    assert status.machines["0"].ip_addresses == ["198.18.0.2"]
    assert status.storage.storage == {}


def test_given_an_error_when_shown_then_workload_is_error_and_agent_idle(
    state: store.ModelState,
) -> None:
    with state.store.transaction():
        unit = state.units["etcd/0"]
        unit.agent = records.Status("error", 'hook failed: "db-relation-changed"')
        unit.state.hook = records.Hook("db-relation-changed", relation=7)
    status = _status(state)
    shown = status.apps["etcd"].units["etcd/0"]
    assert shown.workload_status.current == "error"
    assert shown.workload_status.message == 'hook failed: "db-relation-changed" for web:db'
    assert shown.juju_status.current == "idle"
    assert status.apps["etcd"].app_status.current == "error"


def test_given_a_dead_machine_when_shown_then_its_unit_is_lost(state: store.ModelState) -> None:
    with state.store.transaction():
        state.machines["1"].agent = records.Status("down")
    shown = _status(state).apps["etcd"].units["etcd/1"]
    assert shown.juju_status.current == "lost"
    assert shown.workload_status.current == "unknown"
    assert shown.workload_status.message == "agent lost, see 'juju show-status-log etcd/1'"
    assert shown.leader


def test_given_an_application_status_when_units_differ_then_it_stays(
    state: store.ModelState,
) -> None:
    with state.store.transaction():
        state.applications["etcd"].status = records.Status("waiting", "for all")
        state.units["etcd/0"].workload = records.Status("blocked")
    assert _status(state).apps["etcd"].app_status.message == "for all"


@pytest.mark.parametrize(
    ("first", "second", "worst"),
    [
        ("active", "blocked", "blocked"),
        ("maintenance", "waiting", "maintenance"),
        ("active", "unknown", "active"),
        ("terminated", "active", "active"),
    ],
)
def test_given_units_when_application_is_shown_then_the_worst_counts(
    state: store.ModelState, first: str, second: str, worst: str
) -> None:
    with state.store.transaction():
        state.units["etcd/0"].workload = records.Status(first, first)
        state.units["etcd/1"].workload = records.Status(second, second)
    shown = _status(state).apps["etcd"].app_status
    assert (shown.current, shown.message) == (worst, worst)


def test_given_storage_when_shown_then_jubilant_reads_it(state: store.ModelState) -> None:
    with state.store.transaction():
        state.storage.add(
            "data/0",
            records.StorageInstance(
                *("data/0", "data", "rootfs", 1024),
                owner="etcd/0",
                machine="0",
                location="/srv",
                attachment="attached",
            ),
        )
        state.storage.add(
            "data/1",
            records.StorageInstance("data/1", "data", "lxd", 64, number=1, directory="/x"),
        )
    storage = _status(state).storage
    attached = storage.storage["data/0"]
    assert attached.attachments is not None
    assert attached.attachments.units["etcd/0"].location == "/srv"
    assert not attached.persistent
    assert storage.storage["data/1"].persistent
    assert storage.storage["data/1"].status.current == "detached"
    assert storage.filesystems["0/0"].pool == "rootfs"
    assert "data/0" in formats.storage_table(views.storage(state))


def test_given_a_unit_when_shown_then_jubilant_reads_its_relations(
    state: store.ModelState,
) -> None:
    shown = views.show_unit(state, units=["etcd/0"])["etcd/0"]
    unit = unittypes.UnitInfo._from_dict(shown)
    (relation,) = unit.relation_info
    assert relation.local_unit is not None
    assert relation.local_unit.data == {"a": "1"}
    assert relation.app_data == {}
    assert (relation.relation_id, relation.endpoint) == (7, "db")
    with pytest.raises(errors.JujuError, match='unit "etcd/9" not found'):
        views.show_unit(state, units=["etcd/9"])


def test_given_config_when_shown_then_source_and_values(state: store.ModelState) -> None:
    shown = views.config(state, application="etcd")
    assert shown["settings"]["port"]["value"] == 2379
    assert shown["settings"]["port"]["source"] == "default"
    assert "value" not in shown["settings"]["note"]
    assert shown["application-config"]["trust"]["value"] is False


def test_given_secrets_when_shown_then_jubilant_reads_them(state: store.ModelState) -> None:
    with state.store.transaction():
        state.secrets.add(
            "9m4e2mr0ui3e8a215n4g",
            records.Secret(
                *("9m4e2mr0ui3e8a215n4g", "etcd", "label"),
                latest=2,
                revisions={
                    1: records.Revision(1, {"k": "old"}, "c1"),
                    2: records.Revision(2, {"k": "new"}, "c2"),
                },
                grants=[records.Grant("web", 7)],
            ),
        )
    ((key, shown),) = views.show_secret(
        state, secret="secret:9m4e2mr0ui3e8a215n4g", reveal=True, revisions=True
    ).items()
    assert secrettypes.RevealedSecret._from_dict({"uri": key, **shown}).content == {"k": "new"}
    secret = secrettypes.Secret._from_dict({"uri": key, **shown})
    assert secret.owner == "etcd"
    assert [one.revision for one in secret.revisions or []] == [1, 2]
    assert secret.access is not None
    assert secret.access[0].target == "application-web"
    assert list(views.secrets(state, owner="etcd")) == [key]
    assert views.secrets(state, owner="web") == {}


def test_given_a_model_when_asked_about_then_jubilant_reads_it(state: store.ModelState) -> None:
    (shown,) = views.show_model(state).values()
    info = modeltypes.ModelInfo._from_dict(shown)
    assert (info.short_name, info.life, info.model_uuid) == ("m", "alive", "u-1")
    assert info.machines["0"].cores >= 1


def test_given_a_task_when_shown_then_times_and_log_have_juju_form() -> None:
    record: dict[str, Any] = vars(
        records.Task("2", "1", "etcd/0", "health", status="completed", log=[(0.0, "hi")])
    )
    record = {**record, "enqueued": 0.0, "results": {"return-code": 0}}
    shown = views.task_shown(record)
    assert shown["timing"]["enqueued"] == "1970-01-01 00:00:00 +0000 UTC"
    assert shown["log"] == ["1970-01-01 00:00:00 +0000 UTC hi"]
    assert shown["unit"] == "etcd/0"


def test_given_a_status_when_tabled_then_columns_and_leader_mark(state: store.ModelState) -> None:
    table = formats.status(views.status(state), relations=True).splitlines()
    assert table[0].split() == [
        *("Model", "Controller", "Cloud/Region", "Version", "SLA", "Timestamp")
    ]
    leader = next(line for line in table if line.startswith("etcd/1"))
    assert leader.split()[:6] == ["etcd/1*", "active", "idle", "1", "198.18.0.3", "2379/tcp"]
    nested = next(line for line in table if "agent/0" in line)
    assert nested.startswith("  agent/0")
    assert any(line.startswith("etcd:db") for line in table)


def test_given_an_empty_model_when_tabled_then_it_says_so() -> None:
    memory = store.Store()
    with memory.transaction():
        empty = memory.new_model(records.Model(name="void", uuid="u-2"))
    data = views.status(empty)
    assert (data["machines"], data["applications"]) == ({}, {})
    assert 'Model "void" is empty.' in formats.status(data)


def test_given_names_when_status_is_filtered_then_only_those(state: store.ModelState) -> None:
    data = showing.only(views.status(state), ["etcd/1"])
    assert list(data["applications"]) == ["etcd"]
    assert list(data["applications"]["etcd"]["units"]) == ["etcd/1"]
    assert list(data["machines"]) == ["1"]


def test_given_cells_when_tabled_then_aligned() -> None:
    assert formats.table(["A", "Long"], [["xx", "1"], ["y"]], right=(1,)) == (
        "A   Long\nxx     1\ny"
    )


def test_given_an_unknown_format_when_dumped_then_refused() -> None:
    with pytest.raises(formats.FormatError):
        formats.dump({}, "xml")
