"""Secrets: who reads which revision, and who is told of what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jubilant
import pytest

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib

OWNER, USER = "own", "use"
READER = "use/0"


@pytest.fixture(scope="module", autouse=True)
def related(prober: probers.Prober, probe: pathlib.Path) -> None:
    """Two units that own secrets and one that uses them."""
    prober.juju.deploy(probe, OWNER, num_units=2)
    prober.juju.deploy(probe, USER)
    prober.juju.integrate(f"{OWNER}:source", f"{USER}:sink")
    prober.expect(READER, "start", timeout=probers.BOOT_PATIENCE)
    for unit in prober.units(OWNER):
        prober.expect(unit, "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()


def _out(calls: list[dict[str, object]]) -> str:
    for call in calls:
        assert call["code"] == 0, call
    return str(calls[-1]["out"])


def _make(prober: probers.Prober, content: str, *words: str, grant: bool = True) -> str:
    """Let the owner's leader make a secret and grant it; gives its URI."""
    leader = prober.leader(OWNER)
    script = f"set -e; id=$(secret-add --owner application {' '.join(words)} {content}); "
    if grant:
        script += "secret-grant --relation $(relation-ids source) $id; "
    return _out(prober.do(leader, script + "echo -n $id"))


def _get(prober: probers.Prober, unit: str, *words: str) -> dict[str, str]:
    return json.loads(_out(prober.do(unit, ["secret-get", *words, "--format=json"])))


def _bare(uri: str) -> str:
    return uri.rpartition("/")[2].rpartition(":")[2]


def test_given_a_secret_when_made_then_readable_in_the_same_hook(prober: probers.Prober) -> None:
    leader = prober.leader(OWNER)
    calls = prober.do(
        leader, "set -e; id=$(secret-add --owner unit key=new); secret-get $id --format=json"
    )
    assert json.loads(_out(calls)) == {"key": "new"}


def test_trap_23_given_a_new_revision_when_read_before_then_told_once_and_still_on_the_old(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(OWNER)
    (mate,) = prober.others(OWNER, leader)
    uri = _make(prober, "pass=one", "--label", "twenty-three")
    unread = _make(prober, "pass=never")
    assert _get(prober, READER, uri, "--label", "mine") == {"pass": "one"}
    assert _get(prober, mate, uri) == {"pass": "one"}
    prober.settle()
    mark = prober.mark()
    prober.do(leader, ["secret-set", uri, "pass=two"], ["secret-set", unread, "pass=again"])
    told = prober.expect(READER, "secret-changed", mark)
    assert _bare(told.env["JUJU_SECRET_ID"]) == _bare(uri)
    assert told.env["JUJU_SECRET_ID"].startswith("secret:")
    assert told.env["JUJU_SECRET_LABEL"] == "mine"
    assert "JUJU_SECRET_REVISION" not in told.env
    prober.expect(mate, "secret-changed", mark)
    prober.settle()
    changed = [event for event in prober.events(after=mark) if event.name == "secret-changed"]
    assert sorted(event.unit for event in changed) == sorted([READER, mate])
    assert _get(prober, READER, uri) == {"pass": "one"}
    assert _get(prober, READER, uri, "--peek") == {"pass": "two"}
    assert _get(prober, READER, uri) == {"pass": "one"}
    assert _get(prober, READER, uri, "--refresh") == {"pass": "two"}
    assert _get(prober, READER, uri) == {"pass": "two"}
    assert _get(prober, mate, uri) == {"pass": "one"}


def test_trap_15_given_a_secret_when_set_alike_then_no_new_revision(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(OWNER)
    uri = _make(prober, "pass=same")
    _get(prober, READER, uri)
    mark = prober.mark()
    prober.do(leader, ["secret-set", uri, "pass=same"])
    prober.settle()
    assert [event.name for event in prober.events(after=mark)] == ["do"]
    info = prober.ask(leader, "secret-info-get", uri, "--format=json")
    assert info[_bare(uri)]["revision"] == 1


def test_trap_24_given_an_old_revision_when_nobody_tracks_it_then_owner_is_told_once(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(OWNER)
    uri = _make(prober, "pass=one")
    _get(prober, READER, uri)
    mark = prober.mark()
    prober.do(leader, ["secret-set", uri, "pass=two"])
    prober.expect(READER, "secret-changed", mark)
    prober.settle()
    assert "secret-remove" not in [event.name for event in prober.events(OWNER, after=mark)]
    _get(prober, READER, uri, "--refresh")
    told = prober.expect(leader, "secret-remove", mark)
    assert _bare(told.env["JUJU_SECRET_ID"]) == _bare(uri)
    assert told.env["JUJU_SECRET_REVISION"] == "1"
    assert "JUJU_SECRET_LABEL" in told.env
    prober.settle()
    removes = [
        event
        for event in prober.events(OWNER, after=mark)
        if event.name == "secret-remove" and _bare(event.env["JUJU_SECRET_ID"]) == _bare(uri)
    ]
    assert [event.unit for event in removes] == [leader]
    shown = prober.juju.show_secret(uri, revisions=True)
    assert [one.revision for one in shown.revisions or []] == [1, 2]
    prober.do(leader, ["secret-remove", uri, "--revision", "1"])
    shown = prober.juju.show_secret(uri, revisions=True)
    assert [one.revision for one in shown.revisions or []] == [2]


def test_trap_26_given_labels_when_looked_up_then_each_unit_has_its_own_and_twins_fail(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(OWNER)
    (mate,) = prober.others(OWNER, leader)
    uri = _make(prober, "pass=labelled", "--label", "owned")
    assert _get(prober, READER, uri, "--label", "consumed") == {"pass": "labelled"}
    assert _get(prober, READER, "--label", "consumed") == {"pass": "labelled"}
    assert _get(prober, leader, "--label", "owned") == {"pass": "labelled"}
    code, _, error = prober.tool(READER, "secret-info-get", uri)
    assert (code, error.strip()) == (1, f'ERROR secret "{_bare(uri)}" not found')
    code, _, error = prober.tool(mate, "secret-get", "--label", "consumed", "--format=json")
    assert (code, 'consumer label "consumed" not found' in error) == (1, True)
    twice = ["secret-add", "--owner", "application", "--label", "twin", "key=value"]
    first, second = prober.do(leader, twice, [*twice[:-1], "key=other"])
    assert first["code"] == 0
    assert (second["code"], 'secret with label "twin" already exists' in second["err"]) == (
        1,
        True,
    )
    with pytest.raises(jubilant.TaskError) as failed:
        prober.do(leader, [*twice[:-1], "key=third"])
    assert failed.value.task.status == "failed"


def test_trap_13_given_a_unit_that_does_not_lead_when_it_makes_an_app_secret_then_refused(
    prober: probers.Prober,
) -> None:
    (mate,) = prober.others(OWNER, prober.leader(OWNER))
    code, _, error = prober.tool(mate, "secret-add", "--owner", "application", "key=value")
    assert (code, error.strip()) == (1, "ERROR this unit is not the leader")


def test_trap_25_given_a_user_secret_when_granted_then_no_hook_and_refusals_tell_why(
    prober: probers.Prober,
) -> None:
    uri = prober.juju.add_secret("user-secret", {"pass": "word"})
    mark = prober.mark()
    prober.juju.config(USER, {"credential": str(uri)})
    prober.expect(READER, "config-changed", mark)
    prober.settle()
    code, _, error = prober.tool(READER, "secret-get", str(uri), "--format=json")
    assert (code, "permission denied" in error) == (1, True)
    code, _, error = prober.tool(READER, "secret-get", "secret:9m4e2mr0ui3e8a215n4g")
    assert (code, 'secret "9m4e2mr0ui3e8a215n4g" not found' in error) == (1, True)
    mark = prober.mark()
    prober.juju.grant_secret("user-secret", USER)
    prober.settle()
    assert prober.events(after=mark) == []
    assert _get(prober, READER, str(uri)) == {"pass": "word"}
    assert prober.ask(READER, "config-get", "--format=json", "credential") == str(uri)
    mark = prober.mark()
    prober.juju.update_secret("user-secret", {"pass": "other"})
    told = prober.expect(READER, "secret-changed", mark)
    assert _bare(told.env["JUJU_SECRET_ID"]) == _bare(str(uri))
    assert _get(prober, READER, str(uri), "--refresh") == {"pass": "other"}
    with probers.refused():
        prober.juju.config(USER, {"credential": "no-uri"})


def test_trap_29_given_a_secret_without_label_when_changed_then_the_variable_is_empty(
    prober: probers.Prober,
) -> None:
    uri = _make(prober, "pass=one")
    _get(prober, READER, uri)
    mark = prober.mark()
    prober.do(prober.leader(OWNER), ["secret-set", uri, "pass=two"])
    told = prober.expect(READER, "secret-changed", mark)
    assert told.env["JUJU_SECRET_LABEL"] == ""
    prober.settle()


def test_given_secrets_when_listed_then_owner_and_content_show(prober: probers.Prober) -> None:
    uri = _make(prober, "pass=shown", "--description", "'for the eyes'")
    listed = {secret.uri.unique_identifier: secret for secret in prober.juju.secrets()}
    found = listed[_bare(uri)]
    assert found.owner == OWNER
    assert found.description == "for the eyes"
    revealed = prober.juju.show_secret(uri, reveal=True)
    assert revealed.content == {"pass": "shown"}
    access = prober.juju.show_secret(uri).access or []
    assert [(one.target, one.role) for one in access] == [(f"application-{USER}", "view")]


def test_given_a_secret_that_expires_when_time_comes_then_owner_is_told(
    prober: probers.Prober,
) -> None:
    leader = prober.leader(OWNER)
    mark = prober.mark()
    uri = _make(prober, "pass=short", "--expire", "2s", grant=False)
    told = prober.expect(leader, "secret-expired", mark, timeout=120)
    assert _bare(told.env["JUJU_SECRET_ID"]) == _bare(uri)
    assert told.env["JUJU_SECRET_REVISION"] == "1"
    prober.do(leader, ["secret-remove", uri])
    with probers.refused() as text:
        prober.juju.show_secret(uri)
    assert "not found" in text[0]
