"""A charm of before is refreshed under load: what runs on the machines goes on, by the new one."""

from __future__ import annotations

import io
import pathlib
import subprocess
import tarfile
import time
import zipfile

import pytest
from cluster_under_test import Cluster, eventually

ROOT = pathlib.Path(__file__).parents[3]
FLAT = "87c04dc7030b8ca879c2d31b301a162fec2d1079"
"""The last revision whose modules lay flat in src/: other files, other ways to start them."""
KEEPER = "systemctl show etcd-keeper --property=ExecStart,ActiveState"
RESTARTS = "systemctl show etcd-keeper --property=NRestarts,MainPID"
PID = "systemctl show etcd --property=MainPID --value"


@pytest.fixture(scope="module")
def flat_charm(etcd_charm: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The packed charm with the sources of `FLAT`; its packages are the same."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", FLAT], check=False, capture_output=True).returncode:
        pytest.skip(f"the history of this clone does not go back to {FLAT[:7]}")
    command = [*git, "archive", FLAT, "src", "actions.yaml", "config.yaml"]
    packed = subprocess.run(command, check=True, capture_output=True)
    target = tmp_path_factory.mktemp("flat") / "etcd.charm"
    with (
        zipfile.ZipFile(etcd_charm) as new,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as old,
        tarfile.open(fileobj=io.BytesIO(packed.stdout)) as sources,
    ):
        for entry in new.infolist():
            if not entry.filename.startswith(("src/", "actions.yaml", "config.yaml")):
                old.writestr(entry, new.read(entry))
        for member in filter(tarfile.TarInfo.isfile, sources):
            entry = zipfile.ZipInfo(member.name, date_time=(2024, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | member.mode) << 16
            content = sources.extractfile(member)
            assert content
            old.writestr(entry, content.read())
    return target


@pytest.fixture(scope="module")
def cluster(juju, flat_charm) -> Cluster:
    juju.deploy(flat_charm, "etcd", num_units=3)
    deployed = Cluster(juju)
    deployed.wait_healthy(3)
    return deployed


def test_given_a_charm_of_another_layout_when_refreshed_under_load_then_all_goes_on(
    cluster: Cluster, etcd_charm: pathlib.Path, tmp_path: pathlib.Path
):
    assert all("launch.py keeper " in text for text in cluster.everywhere(KEEPER).values())
    before = cluster.everywhere(PID)
    with cluster.writing(tmp_path) as load:
        cluster.juju.refresh("etcd", path=etcd_charm)
        eventually(
            lambda: all(
                "launch.py keeper.service " in text and "ActiveState=active" in text
                for text in cluster.everywhere(KEEPER).values()
            ),
            timeout=180,
        )
        cluster.wait_healthy(3)
        # One of before may end while its files go, and be started again in vain until the hook.
        counted = cluster.everywhere(RESTARTS)
        time.sleep(8)  # a keeper that cannot go on would be started again
    assert cluster.everywhere(PID) == before, "etcd runs on"
    log = "journalctl -u etcd-keeper --no-pager -o short-precise | tail -40"
    for unit, text in cluster.everywhere(RESTARTS).items():
        assert text == counted[unit], cluster.shell(unit, log)
    cluster.check(3, load)
    assert load.longest_gap() < 5
    for unit in cluster.units():
        assert "is healthy" in cluster.shell(unit, "etcd-admin health")
    assert cluster.run("health").results["healthy"] == "true"


def test_given_a_refreshed_charm_when_a_unit_joins_and_one_leaves_then_the_others_are_told(
    cluster: Cluster,
):
    cluster.juju.add_unit("etcd")
    cluster.wait_healthy(4)
    cluster.juju.remove_unit("etcd/0")
    cluster.wait_healthy(3)
