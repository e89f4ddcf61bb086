"""Fixtures of the conformance suite: probes, packed, and a model full of them."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import pytest

from conformance import prober as probers
from minijuju.testing.fixtures import *  # noqa: F403
from minijuju.testing.fixtures import _agent_version, _skip_elsewhere  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable

    import jubilant

LATE_ENDPOINT = {"interface": "probe", "optional": True}
"""An endpoint that only the probe's second version has."""


@pytest.fixture(scope="session")
def charms() -> pathlib.Path:
    """The directory of the small charms that these tests deploy."""
    return pathlib.Path(__file__).parents[2] / "charms"


@pytest.fixture(scope="session")
def probe(pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path) -> pathlib.Path:
    """The probe charm."""
    return pack_charm(
        charms / "probe", files={"version-of-probe": "1\n", "only-in-the-first": "x\n"}
    )


@pytest.fixture(scope="session")
def next_probe(pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path) -> pathlib.Path:
    """A later version of the probe: a file less, and no endpoint more."""
    return pack_charm(charms / "probe", files={"version-of-probe": "2\n"})


@pytest.fixture(scope="session")
def second_probe(pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path) -> pathlib.Path:
    """A later version of the probe: a file less, an endpoint more."""
    return pack_charm(
        charms / "probe",
        files={"version-of-probe": "2\n"},
        metadata={
            "requires": {
                "sink": {"interface": "probe", "optional": True},
                "solo": {"interface": "probe-single", "optional": True},
                "late": LATE_ENDPOINT,
            }
        },
    )


@pytest.fixture(scope="session")
def subordinate_probe(
    pack_charm: Callable[..., pathlib.Path], charms: pathlib.Path
) -> pathlib.Path:
    """A probe that lives beside another charm's units."""
    return pack_charm(
        charms / "probe",
        name="probe-aside",
        metadata={
            "subordinate": True,
            "provides": {},
            "requires": {"host": {"interface": "juju-info", "scope": "container"}},
            "storage": None,
            "resources": None,
        },
    )


@pytest.fixture(scope="module")
def prober(juju: jubilant.Juju, on_minijuju: bool) -> probers.Prober:
    """The module's model, with eyes in it."""
    return probers.Prober(juju, on_minijuju)
