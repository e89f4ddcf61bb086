"""What the command line refuses, and what it stores, in a model without machines."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import jubilant
import pytest

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("deployed")

UNITLESS = {
    "subordinate": True,
    "requires": {
        "host": {"interface": "juju-info", "scope": "container"},
        "sink": {"interface": "probe", "optional": True},
        "solo": {"interface": "probe-single", "optional": True},
    },
}


@pytest.fixture(scope="module")
def unitless(pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path) -> pathlib.Path:
    """The probe as a subordinate: deployed, it has no units and needs no machine."""
    return pack_charm(charms / "probe", metadata=UNITLESS)


@pytest.fixture(scope="module")
def deployed(prober: probers.Prober, unitless: pathlib.Path) -> None:
    """Applications without units."""
    for name in ("one", "two", "three"):
        prober.juju.deploy(unitless, name)


def test_given_an_application_when_deployed_again_then_refused(
    prober: probers.Prober, unitless: pathlib.Path
) -> None:
    with probers.refused() as text:
        prober.juju.deploy(unitless, "one")
    assert "already exists" in text[0]


def test_given_no_units_when_asked_for_then_refused(
    prober: probers.Prober, probe: pathlib.Path
) -> None:
    with probers.refused() as text:
        prober.juju.deploy(probe, "none", num_units=0)
    assert text[0].strip() == "ERROR --num-units must be a positive integer"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"no-such": "x"}, "no-such"),
        ({"number": "seven"}, "number"),
        ({"number": "1.5"}, "number"),
        ({"switch": "perhaps"}, "switch"),
        ({"ratio": "half"}, "ratio"),
        ({"credential": "no-uri"}, ""),
    ],
)
def test_given_a_bad_option_when_set_then_refused_and_nothing_changes(
    prober: probers.Prober, values: dict[str, str], word: str
) -> None:
    before = prober.juju.config("one")
    with probers.refused() as text:
        prober.juju.config("one", {"text": "not kept", **values})
    assert word in text[0]
    assert prober.juju.config("one") == before


def test_given_options_when_set_and_reset_then_types_are_kept(prober: probers.Prober) -> None:
    prober.juju.config("one", {"number": 8, "switch": True, "ratio": 2.5, "text": "a=b, c"})
    config = prober.juju.config("one")
    assert (config["number"], config["switch"], config["ratio"]) == (8, True, 2.5)
    assert config["text"] == "a=b, c"
    assert "unset" not in config
    prober.juju.config("one", reset=["number", "switch", "ratio", "text"])
    config = prober.juju.config("one")
    assert (config["number"], config["switch"], config["text"]) == (7, False, "")


def test_given_trust_when_given_and_taken_then_it_shows(prober: probers.Prober) -> None:
    assert prober.juju.config("one", app_config=True)["trust"] is False
    prober.juju.trust("one")
    assert prober.juju.config("one", app_config=True)["trust"] is True
    prober.juju.trust("one", remove=True)
    assert prober.juju.config("one", app_config=True)["trust"] is False


def test_given_an_endpoint_with_a_limit_when_exceeded_then_refused(
    prober: probers.Prober,
) -> None:
    prober.juju.integrate("one:single", "two:solo")
    with probers.refused() as text:
        prober.juju.integrate("one:single", "three:solo")
    assert "maximum relation limit of 1" in text[0]
    relations = prober.juju.status().apps["one"].relations
    assert [one.related_app for one in relations["single"]] == ["two"]
    assert relations["mates"][0].related_app == "one"


def test_given_unknown_names_when_used_then_refused(prober: probers.Prober) -> None:
    with probers.refused() as text:
        prober.juju.integrate("one:source", "nobody:sink")
    assert prober.behaviour.no_application.format("nobody", "nobody:sink") in text[0]
    with probers.refused():
        prober.juju.integrate("one:nothing", "two:sink")
    with probers.refused() as text:
        prober.juju.integrate("one:source", "two:solo")
    assert prober.behaviour.no_match in text[0]
    with probers.refused():
        prober.juju.remove_relation("one:source", "two:sink")
    with probers.refused() as text:
        prober.juju.config("nobody", {"text": "x"})
    assert "not found" in text[0]
    with probers.refused() as text:
        prober.juju.remove_application("nobody")
    assert "not found" in text[0]
    with probers.refused():
        prober.juju.show_unit("one/99")
    with probers.refused():
        prober.juju.show_secret("no-such-secret")
    with probers.refused() as text:
        jubilant.Juju(model="no-such-model").status()
    assert "not found" in text[0]


def test_given_another_charm_when_refreshed_then_refused(
    prober: probers.Prober, subordinate_probe: pathlib.Path
) -> None:
    with probers.refused():
        prober.juju.refresh("one", path=subordinate_probe)
    assert prober.juju.status().apps["one"].charm_name == "probe"


def test_given_a_charm_that_drops_an_endpoint_in_use_when_refreshed_then_refused(
    prober: probers.Prober, pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path
) -> None:
    provides = {"source": {"interface": "probe"}}
    less = pack_charm(charms / "probe", metadata={**UNITLESS, "provides": provides})
    with probers.refused():
        prober.juju.refresh("one", path=less)
    prober.juju.refresh("three", path=less)


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "Bad_Name"},
        {"name": "ends-in-1"},
        {"summary": None},
        {"provides": {"juju-thing": {"interface": "x"}}},
        {"provides": {"sink": {"interface": "x"}}},
        {"peers": {"mates": {"limit": 1}}},
        {"storage": {"data": {"description": "no type"}}},
        {"resources": {"blob": {"type": "file"}}},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_given_a_broken_charm_when_deployed_then_refused(
    prober: probers.Prober,
    pack_charm: Callable[..., pathlib.Path],
    charms: pathlib.Path,
    metadata: dict[str, object],
) -> None:
    with probers.refused():
        prober.juju.deploy(pack_charm(charms / "probe", metadata=metadata), "broken")
    assert "broken" not in prober.juju.status().apps


@pytest.mark.parametrize(
    "files",
    [
        {"config.yaml": "options: {a: {type: int, default: text}}"},
        {"config.yaml": "nothing: here"},
        {"config.yaml": "options: {a: {type: no-type}}"},
        {"actions.yaml": "juju-thing: {}"},
        {"actions.yaml": "Bad_Name: {}"},
        {"actions.yaml": "a: {params: {b: {$ref: '#/x'}}}"},
        {"metadata.yaml": "name: [broken"},
    ],
    ids=lambda files: str(files)[:50],
)
def test_given_a_charm_with_a_broken_file_when_deployed_then_refused(
    prober: probers.Prober,
    pack_charm: Callable[..., pathlib.Path],
    charms: pathlib.Path,
    tmp_path: pathlib.Path,
    files: dict[str, str],
) -> None:
    whole = pack_charm(charms / "probe")
    broken = tmp_path / "broken.charm"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(broken, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, files.get(entry.filename, source.read(entry)))
    with probers.refused():
        prober.juju.deploy(broken, "broken")
    assert "broken" not in prober.juju.status().apps


def test_given_no_charm_at_all_when_deployed_then_refused(
    prober: probers.Prober, tmp_path: pathlib.Path
) -> None:
    with probers.refused():
        prober.juju.deploy(tmp_path / "missing.charm", "broken")
    text_file = tmp_path / "text.charm"
    text_file.write_text("this is no zip")
    with probers.refused():
        prober.juju.deploy(text_file, "broken")


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": "ubuntu@18.04"},
        {"storage": {"data": "rootfs,5"}},
        {"storage": {"no-such": "1"}},
        {"config": {"no-such": "1"}},
        {"resources": {"no-such": "/etc/hostname"}},
        {"resources": {"blob": "/no/such/file"}},
        {"to": "99"},
        {"attach_storage": "data/99"},
    ],
    ids=str,
)
def test_given_a_wrong_argument_when_deployed_then_refused(
    prober: probers.Prober, probe: pathlib.Path, wrong: dict[str, object]
) -> None:
    with probers.refused():
        prober.juju.deploy(probe, "broken", **wrong)  # type: ignore[arg-type]
    assert "broken" not in prober.juju.status().apps
    assert prober.juju.status().machines == {}


def test_given_a_subordinate_when_deployed_with_units_then_refused(
    prober: probers.Prober, subordinate_probe: pathlib.Path
) -> None:
    with probers.refused():
        prober.juju.deploy(subordinate_probe, "aside", num_units=2)
    prober.juju.deploy(subordinate_probe, "aside")
    assert prober.juju.status().apps["aside"].units == {}
    with probers.refused():
        prober.juju.add_unit("aside")


@pytest.mark.minijuju  # elsewhere these work
@pytest.mark.parametrize(
    "line",
    [
        "deploy postgresql",
        "deploy ./bundle.yaml --overlay more.yaml",
        "offer one:source",
        "consume admin/other.one",
        "add-cloud mist",
        "add-credential mist",
        "suspend-relation 1",
        "retry-provisioning 0",
        "set-constraints one mem=1G",
        "add-machine lxd:0",
        "add-unit one --to zone=here",
    ],
)
def test_given_what_minijuju_lacks_when_asked_for_then_one_sentence_refuses(
    prober: probers.Prober, line: str
) -> None:
    with_model = not line.startswith(("offer", "add-cloud", "add-credential"))
    with probers.refused() as text:
        prober.juju.cli(*line.split(), include_model=with_model)
    assert text[0].startswith("ERROR ")
    assert text[0].count("\n") == 1


def test_given_model_settings_when_changed_then_they_show(prober: probers.Prober) -> None:
    assert prober.juju.model_config()["automatically-retry-hooks"] is True
    prober.juju.model_config({"automatically-retry-hooks": False})
    assert prober.juju.model_config()["automatically-retry-hooks"] is False
    prober.juju.model_config(reset="automatically-retry-hooks")
    assert prober.juju.model_config()["automatically-retry-hooks"] is True
    prober.juju.model_constraints({"mem": "1G"})
    assert "mem" in prober.juju.model_constraints()


def test_given_user_secrets_when_changed_then_name_and_revisions_follow(
    prober: probers.Prober,
) -> None:
    uri = prober.juju.add_secret("door", {"key": "one"}, info="for the door")
    with probers.refused() as text:
        prober.juju.add_secret("door", {"key": "x"})
    assert "already exists" in text[0]
    with probers.refused():
        prober.juju.add_secret("window", {"K": "x"})
    prober.juju.update_secret("door", {"key": "two"}, name="gate")
    shown = prober.juju.show_secret("gate", revisions=True)
    assert shown.uri.unique_identifier == uri.unique_identifier
    assert shown.owner == "<model>"
    assert shown.description == "for the door"
    assert [one.revision for one in shown.revisions or []] == [1, 2]
    assert prober.juju.show_secret(uri, reveal=True).content == {"key": "two"}
    assert prober.juju.show_secret(uri, reveal=True, revision=1).content == {"key": "one"}
    prober.juju.remove_secret("gate", revision=1)
    prober.juju.remove_secret(uri)
    with probers.refused():
        prober.juju.show_secret(uri)


def test_given_an_application_when_removed_then_its_name_may_be_used_again(
    prober: probers.Prober, unitless: pathlib.Path
) -> None:
    prober.juju.remove_application("two", "three")
    prober.until(lambda: set(prober.juju.status().apps) == {"one", "aside"}, "two are gone")
    assert "single" not in prober.juju.status().apps["one"].relations
    prober.juju.deploy(unitless, "two")
    assert prober.juju.status().apps["two"].charm_rev > 0
