"""The integration tests' fixtures, for tests that kill hooks and take long."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration" / "charm"))

from integration.charm.conftest import easyrsa_charm, etcd_charm, juju_model  # noqa: F401
from integration.conftest import *  # noqa: F403
from integration.conftest import _skip_elsewhere  # noqa: F401
