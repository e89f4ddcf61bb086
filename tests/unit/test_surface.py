"""What the YAML files promise, the sources do, and the documents name nothing else."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


ACTIONS = read("actions.yaml")
OPTIONS = read("config.yaml")["options"]
METADATA = read("metadata.yaml")
ENDPOINTS = [name for role in ("peers", "requires", "provides") for name in METADATA[role]]


def texts() -> set[str]:
    """All string constants of the sources."""
    return {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


TEXTS = texts()


@pytest.mark.parametrize("name", [*ACTIONS, *OPTIONS, *ENDPOINTS, *METADATA["storage"]])
def test_given_a_promise_in_yaml_when_the_sources_are_read_then_they_know_it(name):
    assert name in TEXTS


@pytest.mark.parametrize("name", ACTIONS)
def test_given_an_action_when_declared_then_it_is_closed_and_described(name):
    action = ACTIONS[name]
    assert action["additionalProperties"] is False
    assert action["description"].strip().endswith(".")
    for parameter, schema in action.get("params", {}).items():
        assert parameter in TEXTS
        assert schema["description"].strip().endswith(".")


@pytest.mark.parametrize("name", OPTIONS)
def test_given_an_option_when_declared_then_it_is_typed_and_described(name):
    option = OPTIONS[name]
    assert option["type"] in ("boolean", "int", "secret", "string")
    assert option["description"].strip().endswith(".")
    assert "default" in option or option["type"] == "secret"


def test_given_the_documents_when_they_run_an_action_then_it_exists():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for document in documents:
        found = re.findall(r"juju run \S+ ([a-z-]+)", document.read_text())
        assert set(found) <= set(ACTIONS), document


def test_given_the_documents_when_they_name_a_make_target_then_it_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        found = re.findall(r"`make ([a-z-]+)", document.read_text())
        assert set(found) <= targets, document


def test_given_the_documents_when_they_link_to_a_file_then_it_exists():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document}: {link}"
