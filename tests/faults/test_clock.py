"""The clock of one machine is far off, for the hooks and the keeper of its unit.

Machines share the kernel's clock, so a preloaded library moves the time that programs are told.
Etcd is written in Go and asks the kernel itself: its clock stays right here, and what is shown is
what the charm makes of certificates.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.minijuju

LIBRARY = "/usr/local/lib/clock.so"
DAY = 86400
KEEPER = "/run/systemd/system/etcd-keeper.service.d"
CHARM = "/var/lib/juju/agents/unit-{}/charm"
WAKE = "JUJU_DISPATCH_PATH=hooks/update-status ./dispatch"


@pytest.fixture
def hurt(cluster: Cluster, tmp_path: pathlib.Path) -> Iterator[str]:
    """A unit whose clock can be set, and is right again at the end."""
    unit = next(unit for unit in cluster.units() if unit != cluster.leader())
    if not prepare(cluster, unit, tmp_path):
        pytest.skip("needs a C compiler")
    yield unit
    mend(cluster, unit)


def prepare(cluster: Cluster, unit: str, folder: pathlib.Path) -> bool:
    """Put the library on the unit's machine; False where there is no compiler to make it."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    source, library = pathlib.Path(__file__).with_name("clock.c"), folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    cluster.juju.scp(str(library), f"{unit}:/tmp/clock.so")
    cluster.shell(unit, f"install -m 755 /tmp/clock.so {LIBRARY}")
    return True


def shift(cluster: Cluster, unit: str, days: int) -> None:
    """Move the clock of the unit's hooks and keeper."""
    fake = f"LD_PRELOAD={LIBRARY} CLOCK_OFFSET={days * DAY}"
    lines = "".join(f"Environment={setting}\\n" for setting in fake.split())
    dispatch = CHARM.format(unit.replace("/", "-")) + "/dispatch"
    cluster.shell(
        unit,
        f"sed -i '2i export {fake}' {dispatch}; mkdir -p {KEEPER}; "
        f"printf '[Service]\\n{lines}' > {KEEPER}/clock.conf; "
        "systemctl daemon-reload; systemctl restart etcd-keeper",
    )


def mend(cluster: Cluster, unit: str) -> None:
    """Set the clock right."""
    dispatch = CHARM.format(unit.replace("/", "-")) + "/dispatch"
    cluster.shell(
        unit,
        f"sed -i '/^export LD_PRELOAD/d' {dispatch}; rm -rf {KEEPER}; "
        "systemctl daemon-reload; systemctl restart etcd-keeper",
    )


def look(cluster: Cluster, *units: str) -> None:
    """Run a hook on these units."""
    for unit in units:
        cluster.juju.cli("exec", "--unit", unit, "--", WAKE)


@pytest.mark.parametrize("days", [400, -30], ids=["ahead", "behind"])
def test_given_a_clock_that_is_far_off_when_it_is_right_again_then_all_is_as_it_was(
    cluster: Cluster, hurt: str, tmp_path: pathlib.Path, days: int
):
    before = {member["ID"] for member in cluster.members(cluster.leader())["members"]}
    others = [unit for unit in cluster.units() if unit != hurt]
    with cluster.writing(tmp_path) as load:
        shift(cluster, hurt, days)
        look(cluster, hurt)
        words = cluster.says(hurt, "the clock of this machine, which says")
        print(words)
        written = len(load.writes)
        eventually(lambda: len(load.writes) > written + 100)
        assert all(cluster.serves(unit) for unit in others)
        mend(cluster, hurt)
        look(cluster, hurt)
        cluster.wait_healthy(3, timeout=300)
    cluster.check(3, load)
    assert {member["ID"] for member in cluster.members(cluster.leader())["members"]} == before
    assert joins(cluster, hurt) == "[]"


def joins(cluster: Cluster, unit: str) -> str:
    """When the unit was made anew."""
    return cluster.shell(unit, "cat /run/etcd-charm/joins.json 2>/dev/null || echo []").strip()
