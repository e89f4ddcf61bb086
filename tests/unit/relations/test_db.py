from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import testing

from relations import db, network

GOOD = db.Credentials("cert", "key", "ca", "https://198.18.0.10:2379", "3.5.16")
KEYS = {"client_cert", "client_key", "client_ca", "connection_string", "version"}


def relation() -> testing.Relation:
    return testing.Relation("db", remote_app_name="calico")


@settings(max_examples=300, deadline=None)
@given(hosts=st.lists(st.ip_addresses().map(str), max_size=9), order=st.randoms())
def test_given_members_in_any_order_when_joined_then_every_unit_says_the_same(hosts, order):
    urls = [network.url(host, 2379) for host in hosts]
    shuffled = urls[:]
    order.shuffle(shuffled)
    text = db.connection_string(shuffled)
    assert text == db.connection_string(urls)
    assert set(filter(None, text.split(","))) == set(urls)


@pytest.mark.parametrize("field", sorted(KEYS))
def test_given_a_part_is_missing_when_published_then_nothing_is(juju, field):
    wanted = relation()
    part = dataclasses.replace(GOOD, **{field: ""})
    with (
        juju.hook(testing.State(relations=[wanted])) as charm,
        pytest.raises(ValueError, match=field),
    ):
        db.Db(charm).publish(part)
    assert juju.bag(wanted) == {}


def test_given_consumers_when_published_twice_then_each_has_all_and_the_second_is_nothing(juju):
    one, two = relation(), relation()
    with juju.hook(testing.State(relations=[one, two])) as charm:
        ours = db.Db(charm)
        assert ours.related
        assert ours.publish(GOOD)
        assert not ours.publish(GOOD)
        assert ours.publish(dataclasses.replace(GOOD, version="3.5.17"))
    for each in (one, two):
        assert juju.bag(each) == {**GOOD.to_databag(), "version": "3.5.17"}


def test_given_a_unit_that_leaves_when_withdrawn_then_nothing_of_it_is_left(juju):
    wanted = relation()
    with juju.hook(testing.State(relations=[wanted])) as charm:
        ours = db.Db(charm)
        ours.publish(GOOD)
        assert ours.withdraw()
        assert not ours.withdraw()
    assert juju.bag(wanted) == {}


def test_given_no_consumer_when_published_then_nothing_happens(juju):
    with juju.hook(testing.State()) as charm:
        ours = db.Db(charm)
        assert not ours.related
        assert not ours.publish(GOOD)


def test_given_credentials_when_printed_then_the_key_is_not_shown():
    assert "key=" not in repr(GOOD)
