"""What every unit tells the consumers of the `db` relation."""

from __future__ import annotations

import functools
import json
import pathlib
import types

import pytest
import yaml
from ops import testing

from etcd import service
from hook import client_access
from minijuju.agent import actions
from relations import db, peers
from tls import authority, certificate, client_archive, revocation

ROOT = pathlib.Path(__file__).resolve().parents[3]
ACTIONS = yaml.safe_load((ROOT / "actions.yaml").read_text())


@functools.cache
def cluster() -> authority.Authorities:
    return authority.Authorities.create("etcd")


@pytest.fixture
def unit(juju, tmp_path, monkeypatch):
    """One hook of a unit: answers its `db` databag and the state afterwards."""
    monkeypatch.setattr(service, "version", lambda: (3, 5, 16))
    (tmp_path / "ca.pem").write_bytes(cluster().client.ca)
    authorities = testing.Secret(cluster().to_secret(), owner="app", label="authorities")
    started = {"client_url": "https://198.18.0.11:2379", "started": True}
    first = testing.State(
        leader=True,
        relations=[
            testing.Relation("db", remote_app_name="calico"),
            testing.PeerRelation(
                "cluster",
                local_unit_data={"unit": json.dumps({**started, "client_url": "https://a:2379"})},
                peers_data={1: {"unit": json.dumps(started)}, 2: {"unit": "{}"}},
            ),
        ],
        secrets=[authorities],
    )
    juju.goals = {"etcd/0": "active", "etcd/1": "active", "etcd/2": "active"}

    def hook(state=first, *, leader=True, started=True):
        with juju.hook(state) as charm:
            ours = peers.Peers(charm)
            node = types.SimpleNamespace(
                peers=ours,
                me=types.SimpleNamespace(started=started),
                tls=lambda: types.SimpleNamespace(ca=tmp_path / "ca.pem"),
            )
            client_access.publish(node, db.Db(charm), leader=leader)
        (relation,) = juju.out.get_relations("db")
        return juju.bag(relation), juju.out

    return hook


@pytest.fixture
def people(juju, monkeypatch, tmp_path):
    """Runs something with a unit's node in one hook; answers what it gave."""
    monkeypatch.setattr(client_archive, "write", lambda *_: tmp_path / "x.tar.gz")
    juju.goals = {"etcd/0": "active", "etcd/1": "active"}
    authorities = testing.Secret(cluster().to_secret(), owner="app", label="authorities")
    kept = {
        "state": testing.State(
            leader=True,
            relations=[testing.PeerRelation("cluster", peers_data={1: {}})],
            secrets=[authorities],
        )
    }

    def hook(act, unit="etcd/0"):
        with juju.hook(kept["state"]) as charm:
            node = types.SimpleNamespace(
                unit=unit,
                peers=peers.Peers(charm),
                tls=lambda: types.SimpleNamespace(ca=tmp_path / "no.pem"),
            )
            found = act(node)
        kept["state"] = juju.out
        return found

    return hook


def test_given_certificates_that_were_handed_out_when_asked_then_known_and_taken_back(
    people,
):
    for name in ("operator", "backup-job", "operator"):
        people(lambda node, name=name: client_access.hand_out(node, name, 30))
    there = people(client_access.handed)
    assert sorted(one.name for one in there) == ["backup-job", "operator", "operator"]
    assert {one.unit for one in there} == {"etcd/0"}
    assert all(29 * 86400 < one.until - one.made <= 31 * 86400 for one in there)
    job = next(one for one in there if one.name == "backup-job")
    spelled = f"0{job.serial}".upper()
    assert people(lambda node: client_access.take_back(node, spelled, "")) == (job,)
    assert job.serial in people(client_access.refused)
    gone = people(lambda node: client_access.take_back(node, "", "operator"))
    assert {one.name for one in gone} == {"operator"}
    assert len(gone) == 2
    told = people(lambda node: node.peers.revoked())
    assert set(revocation.of_all(told)) == {one.serial for one in there}


@pytest.mark.parametrize(
    ("serial", "name", "words"),
    [
        ("", "", "give serial or common-name; nothing was revoked"),
        ("ab", "operator", "give serial or common-name"),
        ("ab", "", "no client certificate with the serial 'ab' is believed"),
        ("", "nobody", "the common name 'nobody' is believed; nothing was revoked"),
    ],
)
def test_given_none_to_take_back_when_asked_then_one_sentence(people, serial, name, words):
    people(lambda node: client_access.hand_out(node, "operator", 30))
    with pytest.raises(client_archive.BundleError, match=words):
        people(lambda node: client_access.take_back(node, serial, name))
    assert people(lambda node: node.peers.revoked()) == ""


def test_given_a_unit_that_handed_out_when_the_leader_remembers_then_it_is_known_without_it(
    people, juju
):
    people(lambda node: client_access.hand_out(node, "operator", 30))
    people(client_access.remember)
    assert people(lambda node: node.peers.tell_handed_out(""))
    assert [one.name for one in people(client_access.handed)] == ["operator"]


def test_given_a_started_member_when_settled_then_the_consumer_has_all_it_needs(unit):
    bag, _ = unit()
    assert bag["connection_string"] == "https://198.18.0.11:2379,https://a:2379"
    assert bag["version"] == "3.5.16"
    facts = certificate.parse(bag["client_cert"].encode(), bag["client_ca"].encode())
    assert facts.common_name == "client"


def test_given_it_was_told_when_settled_again_then_it_is_the_same_for_everybody(unit):
    bag, state = unit()
    again, state = unit(state)
    follower, _ = unit(state, leader=False)
    assert bag == again == follower


def test_given_its_authority_is_replaced_when_settled_then_a_new_certificate_is_handed_out(unit):
    bag, state = unit()
    other = authority.Authorities.create("etcd")
    for secret in state.secrets:
        if secret.label == "authorities":
            object.__setattr__(secret, "latest_content", other.to_secret())
            object.__setattr__(secret, "tracked_content", other.to_secret())
    again, _ = unit(state)
    assert again["client_cert"] != bag["client_cert"]
    assert certificate.parse(again["client_cert"].encode(), other.client.ca)


def test_given_a_member_that_is_not_started_when_settled_then_nothing_is_told(unit):
    assert unit(started=False)[0] == {}


def test_given_no_credentials_yet_when_a_follower_is_settled_then_nothing_is_told(unit):
    assert unit(leader=False)[0] == {}


@pytest.mark.parametrize(("name", "told"), [(123, "123"), (1e3, "1000.0"), (True, "true")])
def test_given_a_name_that_juju_read_as_none_when_asked_for_then_how_to_give_it_is_told(
    tmp_path, name, told
):
    schema = ACTIONS["generate-client-certificates"]["params"]["common-name"]
    assert not actions.problems(schema, name)  # Juju hands it on
    node = types.SimpleNamespace(unit="etcd/3")
    with pytest.raises(client_archive.BundleError) as refused:
        client_access.hand_out(node, name, 7)
    assert str(refused.value) == (
        f"Juju read common-name as {told}, not as a text; nothing was made: run `juju run etcd/3 "
        "generate-client-certificates --string-args common-name=NAME`"
    )


def test_given_no_name_when_a_person_asks_then_it_is_not_the_one_of_the_consumers(unit):
    consumers = certificate.parse(unit()[0]["client_cert"].encode(), cluster().client.ca)
    schema = ACTIONS["generate-client-certificates"]["params"]["common-name"]
    assert client_archive.check_common_name(schema["default"]) != consumers.common_name
