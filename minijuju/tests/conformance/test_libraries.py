"""Charms on public libraries as they come from the package index: what they ask of Juju."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import pytest

from conformance import prober as probers
from minijuju.machines import image
from minijuju.testing import packing

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIREMENTS = pathlib.Path(__file__).parents[3] / "requirements"
PYTHON = "3.12"
"""Python of the base that these charms ask for first; minijuju's machines have their own."""
PATIENCE = 120.0
"""Seconds until a charm has said what it should; each of its events takes a second or two."""
LIBRARIES = {"reactive": "charm-reactive", "data": "charm-data", "tls": "charm-tls"}
"""Charm to the group of packages that it carries."""
PAIRS = {
    "reactive": ("speaker:source", "hearer:sink"),
    "data": ("server:server", "client:client"),
    "tls": ("authority:authority", "web:certificates"),
}
"""Charm to its two applications, on the endpoints that relate them."""


@pytest.fixture(scope="module", autouse=True)
def related(
    prober: probers.Prober,
    pack_charm: Callable[..., pathlib.Path],
    charms: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All pairs, on two machines: their first sides on one, their second sides on the other."""
    python = PYTHON
    if prober.on_minijuju:
        python = (image.ensure() / "usr/bin/python3").readlink().name.removeprefix("python")
    for number, (name, group) in enumerate(LIBRARIES.items()):
        files = packing.libraries(
            REQUIREMENTS / f"{group}.txt", tmp_path_factory.mktemp(group), python
        )
        charm = pack_charm(charms / name, files=files)
        for side, endpoint in enumerate(PAIRS[name]):
            application = endpoint.partition(":")[0]
            prober.juju.deploy(charm, application, **({"to": str(side)} if number else {}))
    for first, second in PAIRS.values():
        prober.juju.integrate(first, second)


def _says(prober: probers.Prober, application: str, *words: str, other_than: str = "") -> str:
    """Wait until an application's unit is active with words in its status; gives that."""

    def check() -> str:
        for unit in prober.units(application).values():
            said = unit.workload_status
            assert said.current != "error", said
            told = said.current == "active" and all(word in said.message for word in words)
            if told and said.message != other_than:
                return said.message
        return ""

    return prober.until(check, f"{application} says {words}", PATIENCE)


def test_given_reactive_charms_when_related_then_they_tell_words_address_and_juju(
    prober: probers.Prober,
) -> None:
    version = prober.juju.status().model.version
    prober.juju.config("speaker", {"word": "hello"})
    prober.juju.config("hearer", {"word": "you too"})
    for unit, other, word in (("speaker", "hearer", "you too"), ("hearer", "speaker", "hello")):
        address = prober.units(other)[f"{other}/0"].public_address
        _says(prober, unit, f"{word} from {address}, Juju {version}-")
    prober.juju.config("speaker", {"word": "good bye"})
    _says(prober, "hearer", "good bye from")
    prober.juju.remove_relation(*PAIRS["reactive"])
    for unit in ("speaker", "hearer"):
        prober.until(
            lambda unit=unit: (
                prober.units(unit)[f"{unit}/0"].workload_status.message == "for a word"
            ),
            f"{unit} waits",
        )


def test_given_data_interfaces_when_a_password_is_rotated_then_the_client_has_it(
    prober: probers.Prober,
) -> None:
    _says(prober, "client", "words: reader, first")
    prober.juju.run("server/0", "rotate")
    _says(prober, "client", "words: reader, second")
    prober.settle()
    prober.juju.remove_relation(*PAIRS["data"])
    _says(prober, "client", "no server")


def test_given_tls_certificates_when_the_key_is_rotated_then_another_is_signed(
    prober: probers.Prober,
) -> None:
    first = _says(prober, "web", "web-0: ")
    prober.juju.run("web/0", "rotate")
    _says(prober, "web", "web-0: ", other_than=first)
    prober.settle()
    prober.juju.remove_relation(*PAIRS["tls"])
    _says(prober, "web", "no authority")


def test_given_them_all_when_removed_then_no_hook_fails(prober: probers.Prober) -> None:
    applications = [endpoint.partition(":")[0] for pair in PAIRS.values() for endpoint in pair]
    prober.juju.remove_application(*applications)

    def gone() -> bool:
        units = prober.units()
        assert not [
            name for name, unit in units.items() if unit.workload_status.current == "error"
        ]
        return not units

    prober.until(gone, "all are gone", PATIENCE)
