"""All machines get new addresses at once: nobody is where the others look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.minijuju


def test_given_new_addresses_for_all_when_recover_is_run_as_told_then_nothing_is_lost(
    cluster: Cluster, tmp_path: pathlib.Path
):
    before = {unit: cluster.address(unit) for unit in cluster.units()}
    with cluster.writing(tmp_path) as load:
        cluster.juju.cli("chaos", "readdress", *(u.machine for u in cluster.units().values()))
        eventually(lambda: all(cluster.address(unit) != old for unit, old in before.items()))
    for unit in before:
        words = cluster.says(unit, "by other addresses")
        assert "juju run etcd/leader recover" in words
        assert all(f"https://{address}:2380" in words for address in before.values())
    cluster.recover()
    cluster.wait_healthy(3, timeout=600)
    cluster.check(3, load)
