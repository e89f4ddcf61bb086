"""Fixtures for the tests of the packed charm on real machines."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

import jubilant
import pytest

from minijuju.testing import entering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="session")
def etcd_charm() -> pathlib.Path:
    """The charm that `make pack` made, or the one that $ETCD_CHARM names."""
    named = os.environ.get("ETCD_CHARM")
    found = [pathlib.Path(named)] if named else sorted(ROOT.glob("etcd_*.charm"))
    if not found or not found[0].exists():
        pytest.exit("the charm is not packed: run make pack", returncode=3)
    return found[0].absolute()


@pytest.fixture(scope="session")
def easyrsa_charm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The test charm that speaks for an authority of Debian's easy-rsa."""
    charms = ROOT / "tests" / "charms"
    target = tmp_path_factory.mktemp("easyrsa") / "easyrsa.charm"
    argv = [sys.executable, str(charms / "pack.py"), str(charms / "easyrsa"), str(target)]
    subprocess.run(argv, check=True, timeout=60)
    return target


@pytest.fixture
def juju_model(on_minijuju: bool) -> Callable[[], contextlib.AbstractContextManager]:
    """A model of a test's own: `with juju_model() as juju`; destroyed at the end."""

    @contextlib.contextmanager
    def model() -> Iterator[jubilant.Juju]:
        with jubilant.temp_model() as juju:
            juju.wait_timeout = 300
            entering.admit(juju, on_minijuju)
            yield juju

    return model
