"""What is told of a unit's certificates and of the authorities above them."""

from __future__ import annotations

import pathlib
import time

import pytest

from tls import authority, certificate, inventory, store

DAY = 86400.0


@pytest.fixture
def held(tmp_path: pathlib.Path) -> store.Store:
    """A unit's certificates as the charm makes them: two domains, one bundle that has both."""
    made, root = authority.Authorities.create("etcd"), store.Store(tmp_path, owner=None)
    both = certificate.bundle(made.client.ca, made.peer.ca)
    sans = ("10.0.0.1", "etcd-0", "127.0.0.1")
    for name, signer, usage, ca in (
        ("peer", made.peer, authority.Usage.BOTH, made.peer.ca),
        ("server", made.client, authority.Usage.BOTH, made.client.ca),
        ("client", made.client, authority.Usage.CLIENT, both),
    ):
        pair = signer.sign("etcd-0", sans if name != "client" else (), usage)
        root.publish(name, pair.cert, pair.key, ca)
    return root


def test_given_a_units_certificates_when_listed_then_each_and_each_authority_once(held):
    found = inventory.read(held)
    assert [each.name for each in found] == ["server", "peer", "client", "authority", "authority"]
    names = [each.details.subject for each in found]
    assert names[:3] == ["etcd-0"] * 3
    assert "client CA" in names[3] and "peer CA" in names[4]
    assert found[3].needed_by == "whoever reads the bundle of server, client"
    assert found[4].needed_by == "whoever reads the bundle of peer, client"


def test_given_a_certificate_when_listed_then_its_usages_names_and_renewal_are_told(held):
    now = time.time()
    server, _, client, ours, _ = inventory.records(inventory.read(held), now)
    assert server["usages"] == ["server", "client"] and client["usages"] == ["client"]
    assert ours["usages"] == ["sign"] and ours["renewed"] == ""
    assert set(server["sans"]) == {"10.0.0.1", "etcd-0", "127.0.0.1"}
    assert server["issuer"] == ours["subject"] == ours["issuer"]
    assert server["days"] in (363, 364, 365) and ours["days"] > 3600
    facts = held.load("server")
    assert server["renewed"] == inventory.date(certificate.due_at(facts))


def test_given_rows_for_people_when_made_then_they_fit_the_columns_and_say_what_is_missing(held):
    rows = inventory.rows(inventory.read(held), time.time())
    assert {len(row) for row in rows} == {len(inventory.COLUMNS)}
    assert all(cell for row in rows for cell in row)


def test_given_a_certificate_when_it_has_ended_then_its_days_are_negative(held):
    server = inventory.read(held)[0]
    assert server.days(server.details.not_after + DAY / 2) == -1
    assert server.days(server.details.not_after - DAY / 2) == 0


def test_given_no_certificates_when_listed_then_none(tmp_path):
    assert inventory.read(store.Store(tmp_path, owner=None)) == []


def test_given_a_chain_when_published_then_its_first_authority_to_end_is_noted(held):
    facts, now = held.load("server"), time.time()
    assert facts.chain_begins < now
    assert facts.chain_ends == pytest.approx(now + authority.CA_DAYS * DAY, abs=2 * DAY)
