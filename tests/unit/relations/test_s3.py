"""`s3-credentials` as s3-integrator speaks it, in both schema versions."""

from __future__ import annotations

import base64
import json

import ops
import ops.testing
import pytest

from backup import remote_choice
from relations import s3
from tls import authority

# The library asks ops for the version of Juju in a way that ops will drop.
pytestmark = pytest.mark.filterwarnings("ignore:JujuVersion.from_environ:DeprecationWarning")

PEM = authority.Authority.create("s3").cert.decode().strip()
META = {"name": "etcd", "requires": {"s3-credentials": {"interface": "s3"}}}


class Charm(ops.CharmBase):
    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self.s3 = s3.S3(self)
        self.seen = None
        for event in (self.on.update_status, self.on["s3-credentials"].relation_changed):
            framework.observe(event, self._look)

    def _look(self, _: ops.EventBase) -> None:
        self.seen = self.s3.choice()


def see(relation=None, event="update_status", leader=True, secrets=()) -> remote_choice.Choice:
    context = ops.testing.Context(Charm, meta=META, juju_version="3.6.1")
    state = ops.testing.State(
        leader=leader, relations=[relation] if relation else [], secrets=list(secrets)
    )
    what = (
        context.on.relation_changed(relation) if event == "changed" else context.on.update_status()
    )
    with context(what, state) as manager:
        manager.run()
        assert manager.charm.seen is not None
        return manager.charm.seen


def relation(**data) -> ops.testing.Relation:
    return ops.testing.Relation(
        "s3-credentials", remote_app_name="s3-integrator", remote_app_data=data
    )


V0 = {"access-key": "123e4", "secret-key": "s", "bucket": "b", "endpoint": "https://s3.example"}


def test_given_no_relation_when_asked_then_off():
    assert see() == remote_choice.OFF


def test_given_a_silent_provider_when_asked_then_waiting():
    assert see(relation()).state is remote_choice.State.WAITING


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize("event", ["update_status", "changed"])
def test_given_schema_0_when_asked_then_ready_with_values_untouched(leader, event):
    chain = json.dumps([PEM])
    found = see(relation(**V0, **{"tls-ca-chain": chain, "region": "1"}), event, leader)
    assert found.state is remote_choice.State.READY, found.sentence
    assert "access_key_id = 123e4" in found.settings.config
    assert "region = 1" in found.settings.config
    assert found.settings.ca == PEM


@pytest.mark.parametrize("leader", [True, False])
def test_given_schema_1_when_asked_then_the_secret_is_read(leader):
    secret = ops.testing.Secret(
        {"access-key": "AK", "secret-key": "SK"}, owner=None, label="provider"
    )
    data = {"version": "1", "secret-extra": secret.id, "bucket": "b", "s3-uri-style": "host"}
    found = see(relation(**data), leader=leader, secrets=[secret])
    assert found.state is remote_choice.State.READY, found.sentence
    assert "secret_access_key = SK" in found.settings.config
    assert "force_path_style = false" in found.settings.config


def test_given_schema_1_without_grant_when_asked_then_waiting():
    data = {"version": "1", "secret-extra": "secret:nothing", "bucket": "b"}
    assert see(relation(**data)).state is remote_choice.State.WAITING


@pytest.mark.parametrize(
    "change",
    [
        {"bucket": ""},
        {"s3-uri-style": "dns"},
        {"tls-ca-chain": "["},
        {"tls-ca-chain": '["nonsense"]'},
        {"secret-key": "a\nb"},
    ],
)
def test_given_an_unusable_answer_when_asked_then_wrong_in_one_sentence(change):
    found = s3.read({**V0, **change}, "s3-integrator")
    assert found.state is remote_choice.State.WRONG
    assert "s3-integrator" in found.sentence and "\n" not in found.sentence


def test_given_base64_certificates_when_read_then_pem():
    encoded = base64.b64encode(PEM.encode()).decode()
    found = s3.read({**V0, "tls-ca-chain": json.dumps([encoded])}, "s3-integrator")
    assert found.settings.ca == PEM


def test_given_both_places_when_chosen_then_wrong():
    related = s3.read(V0, "s3-integrator")
    assert (
        remote_choice.choose(related, "x:y", "[x]\ntype = local\n").state
        is remote_choice.State.WRONG
    )
    assert remote_choice.choose(related, "", None, 512).settings.bandwidth == "512K"
    assert remote_choice.choose(remote_choice.OFF, "", None) == remote_choice.OFF
    assert remote_choice.choose(remote_choice.OFF, "x:y", "").state is remote_choice.State.WRONG
    assert (
        remote_choice.choose(remote_choice.OFF, "x:y", "[z]\ntype = local\n").state
        is remote_choice.State.WRONG
    )
    ready = remote_choice.choose(remote_choice.OFF, "x:y", "[x]\ntype = local\n")
    assert ready.state is remote_choice.State.READY and ready.settings.path == "x:y"


@pytest.mark.parametrize("separator", [": ", "=", ":"])
def test_given_headers_of_an_encryption_when_read_then_uploads_ask_for_it(separator):
    names = ("X-Amz-Server-Side-Encryption", "x-amz-server-side-encryption-aws-kms-key-id")
    listed = [f"{names[0]}{separator}aws:kms", f"{names[1]}{separator}k-1", "x-other: y"]
    found = s3.read({**V0, "attributes": json.dumps(listed)}, "s3-integrator")
    assert found.settings is not None
    assert "server_side_encryption = aws:kms\n" in found.settings.config
    assert "sse_kms_key_id = k-1\n" in found.settings.config


@pytest.mark.parametrize("text", ["{", "5", '["x-amz-server-side-encryption: rot13"]'])
def test_given_attributes_that_cannot_be_used_when_read_then_wrong_with_one_sentence(text):
    found = s3.read({**V0, "attributes": text}, "s3-integrator")
    assert found.state is remote_choice.State.WRONG and "s3-integrator" in found.sentence
