"""Fixtures for all integration tests: minijuju's own for Juju, and where small charms lie."""

from __future__ import annotations

import pathlib

import pytest

from minijuju.testing.fixtures import *  # noqa: F403
from minijuju.testing.fixtures import _agent_version, _skip_elsewhere  # noqa: F401


@pytest.fixture(scope="session")
def charms() -> pathlib.Path:
    """The directory of minijuju's small charms."""
    return pathlib.Path(__file__).parents[2] / "minijuju" / "charms"
