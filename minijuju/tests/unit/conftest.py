"""A model without machines."""

from __future__ import annotations

import pathlib

import pytest

from unit import world as worlds


@pytest.fixture
def world(tmp_path: pathlib.Path) -> worlds.World:
    return worlds.World(tmp_path)
