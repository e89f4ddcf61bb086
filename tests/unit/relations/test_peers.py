from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import typing

import ops
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import testing

from backup import seal
from cluster import generation as generations
from cluster import lead
from cluster import view as views
from relations import databag, juju_units, network, peer_bag, peers
from tls import authority

RECORD = generations.Generation(
    1,
    "token",
    generations.Source.NEW,
    (generations.Founder("etcd/0", "https://198.18.0.10:2380"),),
)
URLS = st.sampled_from(
    ["https://198.18.0.10:2379", "https://[fd00::1]:2380", "https://etcd-0.example.com:1"]
)
TOKENS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)
NAMES = st.from_regex(r"[a-z]{1,8}/[0-9]{1,3}", fullmatch=True)
NUMBERS = st.integers(0, 2**64 - 1)
PRINTABLE = st.text(max_size=12).filter(str.isprintable)
KINDS = {
    int: NUMBERS,
    int | None: st.none() | NUMBERS,
    bool: st.booleans(),
    tuple[str, ...]: st.lists(NAMES, max_size=3).map(tuple),
    views.Failure | None: st.none() | st.builds(views.Failure, TOKENS, PRINTABLE),
    views.DiskFacts | None: st.none() | st.builds(views.DiskFacts, NUMBERS, NUMBERS, NUMBERS),
}
TEXTS = {
    "peer_url": st.none() | URLS,
    "client_url": st.none() | URLS,
    "registered_peer_url": st.just("") | URLS,
    "token": st.none() | TOKENS,
    "prepared": st.none() | TOKENS,
    "voters_of": st.just("") | TOKENS,
    "heard": st.just("") | TOKENS,
    "member": st.just("") | TOKENS,
    "options": st.just("") | TOKENS,
    "name": st.just("etcd/0"),
}
# Of whatever fields a unit has: a new one that is not written or read fails here.
UNITS = st.fixed_dictionaries(
    {
        name: TEXTS[name] if name in TEXTS else KINDS[kind]
        for name, kind in typing.get_type_hints(views.Unit).items()
    }
).map(lambda fields: views.Unit(**{**fields, "name": "etcd/0", "alive": True}))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["peer_url", "token", "member_id", "failure", "facts", "x"]), inner
        )
    ),
    max_leaves=6,
)


def peer(**arguments) -> testing.PeerRelation:
    return testing.PeerRelation("cluster", **arguments)


def state(relation: testing.PeerRelation | None = None, **arguments) -> testing.State:
    return testing.State(relations=[relation] if relation else [], **arguments)


def test_given_no_relation_yet_when_read_then_only_what_juju_says_is_known(juju):
    juju.goals = {"etcd/0": "waiting", "etcd/1": "waiting"}
    with juju.hook(state()) as charm:
        ours = peers.Peers(charm)
        assert not ours.related
        assert ours.generation() is None
        assert [unit.name for unit in ours.units()] == ["etcd/0", "etcd/1"]
        assert ours.planned() == 2
        assert not ours.publish(views.Unit("etcd/0", token="t"))
        assert not ours.set_generation(RECORD)
        assert ours.ensure_authorities() is None
        assert ours.extras("etcd/0") == {}


@settings(max_examples=1000, deadline=None)
@given(unit=UNITS)
def test_given_any_unit_when_written_and_read_then_it_is_the_same(unit):
    text = databag.unit_text(unit)
    assert databag.read_unit("etcd/0", {"unit": text}) == unit


@settings(max_examples=1000, deadline=None)
@given(value=JSON | st.text(max_size=20), raw=st.booleans())
def test_given_any_databag_when_read_then_a_unit_or_one_sentence(value, raw):
    text = str(value) if raw else json.dumps(value)
    try:
        unit = databag.read_unit("etcd/1", {"unit": text})
    except databag.PeerError as error:
        assert "etcd/1" in str(error)
        assert "\n" not in str(error)
        return
    assert unit.name == "etcd/1"


def test_given_a_unit_when_published_twice_then_only_the_first_changes_anything(juju):
    relation = peer()
    unit = views.Unit("etcd/0", peer_url="https://a:2380", member_id=2**64 - 1, started=True)
    with juju.hook(state(relation)) as charm:
        ours = peers.Peers(charm)
        assert ours.publish(unit)
        assert not ours.publish(unit)
        assert ours.me() == unit
        assert ours.units() == (unit,)
    assert json.loads(juju.bag(relation)["unit"])["member_id"] == "f" * 16


def test_given_juju_and_the_relation_when_they_differ_then_juju_says_who_is_there(juju):
    bag = {"unit": json.dumps({"token": "t", "started": True})}
    relation = peer(peers_data={2: bag, 3: bag, 10: {}})
    juju.goals = {
        "etcd/0": "active",
        "etcd/1": "allocating",
        "etcd/2": "active",
        "etcd/10": "dying",
    }
    with juju.hook(state(relation)) as charm:
        ours = peers.Peers(charm)
        units = {unit.name: unit for unit in ours.units()}
        assert list(units) == ["etcd/0", "etcd/1", "etcd/2", "etcd/10"]
        assert {name for name, unit in units.items() if unit.alive} == {
            "etcd/0",
            "etcd/1",
            "etcd/2",
        }
        assert units["etcd/1"] == views.Unit("etcd/1")
        assert units["etcd/2"].token == "t"
        assert ours.planned() == 3
        assert not ours.dying
        juju.goals = {"etcd/0": "active"}
        assert len(ours.units()) == 4, "one hook asks once"
        ours.look_again()
        assert [unit.name for unit in ours.units()] == ["etcd/0"]


def test_given_this_unit_is_removed_when_read_then_it_is_dying(juju):
    juju.goals = {"etcd/0": "dying", "etcd/1": "active"}
    with juju.hook(state(peer())) as charm:
        ours = peers.Peers(charm)
        assert ours.dying
        assert not ours.me().alive


def test_given_a_leader_when_it_commits_and_proposes_then_the_records_are_there(juju):
    relation = peer()
    with juju.hook(state(relation, leader=True)) as charm:
        ours = peers.Peers(charm)
        assert ours.set_proposal(RECORD)
        assert not ours.set_proposal(RECORD)
        assert ours.proposal() == RECORD
        assert ours.generation() is None
        assert ours.set_generation(RECORD)
        assert ours.set_proposal(None)
        assert not ours.set_proposal(None)
        assert (ours.generation(), ours.proposal()) == (RECORD, None)
    assert list(juju.bag(relation, "local_app_data")) == ["generation"]


@pytest.mark.parametrize("key", ["generation", "proposal"])
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        "[]",
        "[" * 99999,
        '{"number": Infinity}',
        '{"number": 1}',
        '{"number": "x"}',
        "\x00",
    ],
)
def test_given_a_corrupt_record_when_read_then_one_sentence_that_names_it(juju, key, text):
    with juju.hook(state(peer(local_app_data={key: text}))) as charm:
        with pytest.raises(databag.PeerError) as raised:
            getattr(peers.Peers(charm), key)()
        assert f"the {key} record" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_given_units_that_have_not_joined_when_read_then_the_living_ones_are_heard_already(juju):
    juju.goals |= {"etcd/1": "active", "etcd/2": "active", "etcd/3": "dying"}
    told = {"unit": json.dumps({"token": "t"})}
    juju.ahead = {"etcd/1": told, "etcd/3": told}
    with juju.hook(state(peer())) as charm:
        tokens = {unit.name: unit.token for unit in peers.Peers(charm).units()}
    assert tokens == {"etcd/0": None, "etcd/1": "t", "etcd/2": None, "etcd/3": None}


EVIL = "https://a:2379'; touch /tmp/owned; '"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        "[" * 99999,
        '{"begun": Infinity}',
        '{"failure": "x"}',
        '{"facts": {"term": 1}}',
        json.dumps({"client_url": EVIL}),
        json.dumps({"client_url": "http://a:2379"}),
        json.dumps({"peer_url": "https://a:2380,etcd-9=https://b:2380"}),
        json.dumps({"token": "../../etc"}),
        json.dumps({"voters": ["\x1b[2J"]}),
        json.dumps({"started": "yes"}),
        json.dumps({"x": "y" * 100_000}),
    ],
)
def test_given_a_corrupt_databag_of_a_peer_when_read_then_it_is_as_if_that_unit_told_nothing(
    juju, text, caplog
):
    juju.goals["etcd/1"] = "active"
    relation = peer(peers_data={1: {"unit": text}})
    with juju.hook(state(relation)) as charm:
        ours = peers.Peers(charm)
        (other,) = [unit for unit in ours.units() if unit.name == "etcd/1"]
        assert other == views.Unit("etcd/1")
    assert "the databag of etcd/1" in caplog.text


def test_given_a_corrupt_databag_of_our_own_when_read_then_the_sentence_has_the_command(juju):
    relation = peer(local_unit_data={"unit": "{"})
    with juju.hook(state(relation)) as charm:
        ours = peers.Peers(charm)
        for read in (ours.me, ours.units):
            with pytest.raises(databag.PeerError, match="the databag of etcd/0") as raised:
                read()
            command = f"juju exec --unit etcd/0 -- relation-set -r cluster:{relation.id} unit="
            assert f"`{command}` clears it" in str(raised.value)


def test_given_free_keys_when_set_and_removed_then_they_come_and_go(juju):
    relation = peer(peers_data={1: {"extras": '{"a": "1"}'}})
    with juju.hook(state(relation, leader=True)) as charm:
        ours = peers.Peers(charm)
        assert ours.set_extra("disk", "full")
        assert not ours.set_extra("disk", "full")
        assert ours.extras("etcd/0") == {"disk": "full"}
        assert ours.extras("etcd/1") == {"a": "1"}
        assert ours.extras("etcd/7") == {}
        assert ours.set_extra("disk", "")
        assert not ours.set_extra("never", "")
        assert ours.set_state("k", "v")
        assert ours.state() == {"k": "v"}
        assert ours.set_state("k", "")
    assert juju.bag(relation) == {}
    assert juju.bag(relation, "local_app_data") == {}


def test_given_a_unit_that_does_not_lead_when_it_writes_for_all_then_it_may_not(juju):
    with (
        juju.hook(state(peer(), leader=False)) as charm,
        pytest.raises((ops.ModelError, RuntimeError)),
    ):
        peers.Peers(charm).set_generation(RECORD)


def test_given_a_leader_when_authorities_are_wanted_then_made_once(juju):
    relation = peer()
    with juju.hook(state(relation, leader=True)) as charm:
        ours = peers.Peers(charm)
        made = ours.ensure_authorities()
        assert made is not None
        assert ours.ensure_authorities() == made == ours.authorities()
        assert ours.authorities_mark() == made.mark
    assert juju.out is not None
    (secret,) = juju.out.secrets
    assert (secret.owner, secret.label) == ("app", "authorities")
    with juju.hook(dataclasses.replace(juju.out, leader=False)) as charm:
        assert peers.Peers(charm).ensure_authorities() == made


def test_given_no_leader_here_when_authorities_are_wanted_then_waited_for(juju):
    with juju.hook(state(peer(), leader=False)) as charm:
        ours = peers.Peers(charm)
        assert ours.ensure_authorities() is None
        assert ours.authorities_mark() == ""


def test_given_a_unit_that_comes_to_lead_when_it_has_read_a_record_then_it_leads_in_its_next_hook(
    juju, monkeypatch
):
    said = [False]
    with juju.hook(state(peer(), leader=True)) as charm:
        monkeypatch.setattr(ops.Unit, "is_leader", lambda _: said[0])
        late, early = peers.Peers(charm), peers.Peers(charm)
        assert (late.generation(), early.leads()) == (None, False)
        said[0] = True
        assert not late.leads()
        assert late.ensure_authorities() is None  # another one may have made them since
        assert peers.Peers(charm).leads()
        led = peers.Peers(charm)
        assert (led.generation(), led.leads()) == (None, True)
        said[0] = False
        assert led.leads(), "Juju's word holds for a while"
        later = time.monotonic() + lead.HELD
        monkeypatch.setattr(juju_units, "is_leader", lambda: said[0])
        monkeypatch.setattr(peer_bag.time, "monotonic", lambda: later)
        assert not led.leads()


@pytest.mark.parametrize(("stood", "others"), [(29.0, False), (31.0, False), (29.0, True)])
def test_given_a_hook_that_stood_still_when_it_wrote_a_record_then_it_fails_unless_it_led_on(
    juju, monkeypatch, stood: float, others: bool
):
    now, leads = [100.0], [True]
    with juju.hook(state(peer(), leader=True)) as charm:
        monkeypatch.setattr(ops.Unit, "is_leader", lambda _: True)
        monkeypatch.setattr(juju_units, "is_leader", lambda: leads[0])
        monkeypatch.setattr(peer_bag.time, "monotonic", lambda: now[0])
        ours = peers.Peers(charm)
        ours.check_lead()  # nothing is written
        assert ours.generation() is None
        assert ours.set_turn(views.Turn("etcd/0", 1))
        now[0], leads[0] = now[0] + stood, not others
        if stood < lead.HELD and not others:
            ours.check_lead()
        else:
            with pytest.raises(peer_bag.LeadLostError, match="are not written"):
                ours.check_lead()


def test_given_work_that_takes_long_when_it_asks_meanwhile_then_it_leads_at_its_end(
    juju, monkeypatch
):
    answers: list[bool] = []
    monkeypatch.setattr(lead, "HELD", 0.3)
    monkeypatch.setattr(juju_units, "is_leader", lambda: answers.append(True) or True)
    with juju.hook(state(peer(), leader=True)) as charm:
        ours = peers.Peers(charm)
        assert ours.leads()
        with ours.leading():
            assert ours.set_turn(views.Turn("etcd/0", 1))
            time.sleep(0.7)
        assert len(answers) >= 4
        ours.check_lead()


def test_given_other_authorities_when_set_then_every_unit_reads_the_new_ones(juju):
    first = authority.Authorities.create("etcd")
    second = authority.Authorities.create("etcd")
    secret = testing.Secret(first.to_secret(), owner="app", label="authorities")
    with juju.hook(state(peer(), leader=True, secrets=[secret])) as charm:
        ours = peers.Peers(charm)
        assert ours.set_secret(peers.AUTHORITIES, second.to_secret())
        assert ours.ensure_authorities() == second
        assert ours.authorities_mark() == second.mark
    assert juju.out is not None
    with juju.hook(dataclasses.replace(juju.out, leader=False)) as charm:
        assert peers.Peers(charm).authorities() == second


def test_given_a_secret_of_something_else_when_read_as_authorities_then_one_sentence(juju):
    secret = testing.Secret({"foo": "bar"}, owner="app", label="authorities")
    with (
        juju.hook(state(peer(), secrets=[secret])) as charm,
        pytest.raises(databag.PeerError, match="peer-ca-cert"),
    ):
        peers.Peers(charm).authorities()


def test_given_a_secret_when_set_to_what_it_holds_then_nothing_changes(juju):
    with juju.hook(state(peer(), leader=True)) as charm:
        ours = peers.Peers(charm)
        assert ours.secret("db-client") is None
        assert ours.set_secret("db-client", {"client-cert": "a"})
        assert not ours.set_secret("db-client", {"client-cert": "a"})
    assert juju.out is not None
    with juju.hook(juju.out) as charm:
        ours = peers.Peers(charm)
        assert not ours.set_secret("db-client", {"client-cert": "a"})
        assert ours.set_secret("db-client", {"client-cert": "b"})
        assert ours.secret("db-client") == {"client-cert": "b"}


def test_given_a_leader_when_backup_keys_are_wanted_then_made_once_and_heard_by_all(juju):
    with juju.hook(state(peer(), leader=True)) as charm:
        made = peers.Peers(charm).ensure_backup_keys(seal.Keys())
        assert made and peers.Peers(charm).ensure_backup_keys(made) == made
    assert juju.out is not None
    (secret,) = juju.out.secrets
    assert (secret.owner, secret.label) == ("app", "backup-keys")
    with juju.hook(juju.out) as charm:
        assert peers.Peers(charm).ensure_backup_keys(seal.Keys()) == made
        assert peers.Peers(charm).ensure_backup_keys(seal.Keys().renewed(0.0)) == made


def test_given_no_leader_here_when_backup_keys_are_wanted_then_waited_for(juju):
    with juju.hook(state(peer())) as charm:
        assert not peers.Peers(charm).ensure_backup_keys(seal.Keys())


def test_given_keys_of_a_year_when_wanted_by_the_leader_then_a_new_one_joins_them(juju):
    old = seal.Keys().renewed(1_600_000_000.0)
    secret = testing.Secret({"keys": old.to_json()}, owner="app", label="backup-keys")
    with juju.hook(state(peer(), leader=True, secrets=[secret])) as charm:
        made = peers.Peers(charm).ensure_backup_keys(seal.Keys())
        assert made.keys[1:] == old.keys and len(made.keys) == 2
        assert peers.Peers(charm).secret("backup-keys") == {"keys": made.to_json()}


def test_given_spaces_when_addresses_are_asked_then_each_endpoint_has_its_own(juju):
    networks = [
        testing.Network(
            "cluster",
            ingress_addresses=["198.18.0.10"],
            bind_addresses=[bind("198.18.0.10", "2001:db8::10")],
        ),
        testing.Network(
            "db", ingress_addresses=["198.19.0.1"], bind_addresses=[bind("198.18.9.9")]
        ),
    ]
    with juju.hook(state(peer(), networks=networks)) as charm:
        found = peers.Peers(charm).addresses()
    assert (found.peer, found.client) == ("198.18.0.10", "198.19.0.1")
    assert (found.peer_bind, found.client_bind) == ("198.18.0.10", "198.18.9.9")
    assert found.peer_sans == ("127.0.0.1", "198.18.0.10", "2001:db8::10", "::1", "localhost")
    assert found.client_sans == ("127.0.0.1", "198.18.9.9", "198.19.0.1", "::1", "localhost")


def test_given_no_address_yet_when_asked_then_one_sentence(juju):
    networks = [testing.Network("cluster", ingress_addresses=[], bind_addresses=[])]
    with (
        juju.hook(state(peer(), networks=networks)) as charm,
        pytest.raises(databag.PeerError, match="no address for this unit on endpoint cluster"),
    ):
        peers.Peers(charm).addresses()


@pytest.mark.parametrize(
    ("ingress", "bound", "reached", "listening"),
    [
        ("etcd-0.example", ["198.18.0.1"], "etcd-0.example", "198.18.0.1"),
        ("203.0.113.9", ["198.18.0.1"], "203.0.113.9", "198.18.0.1"),
        ("198.18.0.2", ["198.18.0.1", "198.18.0.2"], "198.18.0.2", "198.18.0.2"),
    ],
)
def test_given_a_name_or_a_translated_address_when_asked_then_what_listens_is_the_machines(
    juju, ingress, bound, reached, listening
):
    network = testing.Network(
        "cluster", ingress_addresses=[ingress], bind_addresses=[bind(*bound)]
    )
    with juju.hook(state(peer(), networks=[network])) as charm:
        found = peers.Peers(charm).addresses()
    assert (found.peer, found.peer_bind) == (reached, listening)
    assert {reached, *bound} <= set(found.peer_sans)


def test_given_nothing_but_a_name_when_asked_where_to_listen_then_one_sentence(juju):
    network = testing.Network("cluster", ingress_addresses=["etcd-0.example"], bind_addresses=[])
    with (
        juju.hook(state(peer(), networks=[network])) as charm,
        pytest.raises(databag.PeerError, match="no address of this unit"),
    ):
        peers.Peers(charm).addresses()


def bind(*addresses: str) -> testing.BindAddress:
    return testing.BindAddress([testing.Address(each) for each in addresses])


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("198.18.0.10", "https://198.18.0.10:2379"),
        ("2001:db8::1", "https://[2001:db8::1]:2379"),
        ("host.example", "https://host.example:2379"),
    ],
)
def test_given_a_host_when_made_an_url_then_ipv6_is_in_brackets(host, text):
    assert network.url(host, 2379) == text


def tool(
    at: pathlib.Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str = "goal-state"
) -> None:
    path = at / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(at), prepend=":")


def test_given_goal_state_when_asked_then_units_and_their_status(tmp_path, monkeypatch):
    answer = {"units": {"etcd/0": {"status": "active", "since": "x"}}, "relations": {}}
    tool(tmp_path, monkeypatch, f"echo '{json.dumps(answer)}'")
    assert juju_units.goal_state() == {"etcd/0": "active"}


@pytest.mark.parametrize(
    ("script", "bag"),
    [('echo "{\\"$4\\": \\"$5\\"}"', {"-": "etcd/1"}), ("echo ERROR >&2; exit 1", {})],
)
def test_given_a_unit_ahead_of_its_joined_hook_when_asked_then_its_bag_or_nothing(
    tmp_path, monkeypatch, script, bag
):
    tool(tmp_path, monkeypatch, script, "relation-get")
    assert juju_units.told_ahead(7, "etcd/1") == bag


@pytest.mark.parametrize(
    "script", ["exit 1", "echo nonsense", "echo 3", 'echo \'{"units": {"a": 1}}\'']
)
def test_given_a_goal_state_that_fails_when_asked_then_one_sentence(tmp_path, monkeypatch, script):
    tool(tmp_path, monkeypatch, script)
    with pytest.raises(databag.PeerError, match="Juju does not say which units there are"):
        juju_units.goal_state()


def test_given_a_hook_tool_that_hangs_when_asked_then_it_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(juju_units, "_GOAL_STATE_TIMEOUT", 0.2)
    tool(tmp_path, monkeypatch, "exec sleep 5")
    with pytest.raises(databag.PeerError):
        juju_units.goal_state()
