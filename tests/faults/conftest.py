"""The integration tests' fixtures, for tests that kill hooks and take long."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import jubilant
    from cluster_under_test import Cluster

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration" / "charm"))

from integration.charm.conftest import easyrsa_charm, etcd_charm, juju_model  # noqa: F401
from integration.conftest import *  # noqa: F403
from integration.conftest import _agent_version, _skip_elsewhere  # noqa: F401


@pytest.fixture(scope="module")
def cluster(juju: jubilant.Juju, etcd_charm: pathlib.Path) -> Cluster:  # noqa: F811
    """Three units, for all tests of a module."""
    from cluster_under_test import Cluster

    juju.deploy(etcd_charm, "etcd", num_units=3)
    deployed = Cluster(juju)
    deployed.wait_healthy(3)
    return deployed
