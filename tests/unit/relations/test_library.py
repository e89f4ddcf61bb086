"""The library that other charms use, against what this charm publishes."""

from __future__ import annotations

import pathlib

import ops
import pytest
from ops import testing

from charms.etcd.v0 import etcd
from relations import db

PUBLISHED = db.Credentials("cert", "key", "ca", "https://a:2379,https://b:2379", "3.5.16")
META = {"name": "app", "requires": {"etcd": {"interface": "etcd"}}}


class App(ops.CharmBase):
    pass


def ask(work, *bags: dict[str, str], related: bool = True):
    """What `work` answers in a charm that is related to units with these databags."""
    context = testing.Context(App, meta=META)
    relation = testing.Relation("etcd", remote_units_data=dict(enumerate(bags)))
    state = testing.State(relations=[relation] if related else [])
    with context(context.on.update_status(), state) as manager:
        return work(etcd.EtcdRequirer(manager.charm))


def test_given_what_this_charm_publishes_when_read_then_it_is_whole():
    found = ask(lambda cluster: cluster.credentials(), {}, PUBLISHED.to_databag())
    assert found == etcd.Credentials(
        ("https://a:2379", "https://b:2379"), "cert", "key", "ca", "3.5.16"
    )
    assert found.connection_string == PUBLISHED.connection_string
    assert "key=" not in repr(found)


@pytest.mark.parametrize(
    "missing", ["client_cert", "client_key", "client_ca", "connection_string"]
)
def test_given_a_part_is_missing_when_read_then_there_is_nothing_yet(tmp_path, missing):
    bag = {key: value for key, value in PUBLISHED.to_databag().items() if key != missing}
    assert ask(lambda cluster: cluster.credentials(), bag) is None
    assert not ask(lambda cluster: cluster.write(tmp_path / "etcd"), bag)
    assert not list(tmp_path.iterdir())


def test_given_no_relation_when_read_then_there_is_nothing():
    assert not ask(lambda cluster: cluster.related, related=False)
    assert ask(lambda cluster: cluster.credentials(), related=False) is None


def test_given_credentials_when_written_twice_then_only_the_first_changes_anything(
    tmp_path: pathlib.Path,
):
    def write(cluster: etcd.EtcdRequirer) -> list[bool]:
        return [cluster.write(tmp_path / "etcd") for _ in range(2)]

    assert ask(write, PUBLISHED.to_databag()) == [True, False]
    files = {path.name: path for path in (tmp_path / "etcd").iterdir()}
    assert set(files) == set(etcd.FILES)
    assert files["client.key"].read_text() == "key"
    assert files["client.key"].stat().st_mode & 0o777 == 0o600
    assert ask(write, {**PUBLISHED.to_databag(), "client_ca": "new"}) == [True, False]
