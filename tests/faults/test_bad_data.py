"""What a unit's etcd runs on goes bad under it, while clients write: it is made anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib

CURRENT = "/var/lib/etcd/current"

FLIP = """python3 - <<'END'
import pathlib
path = sorted(pathlib.Path("{current}/etcd/member/wal").glob("*.wal"))[-1]
with path.open("r+b") as file:
    file.seek({at})
    byte = file.read(1)
    file.seek({at})
    file.write(bytes([byte[0] ^ 255]))
END
"""


def joins(cluster: Cluster, unit: str) -> int:
    """How often the unit was made anew: three times an hour is the limit."""
    told = cluster.shell(unit, "cat /run/etcd-charm/joins.json 2>/dev/null || echo []")
    return len(json.loads(told))


def freshest(cluster: Cluster) -> str:
    """The unit that was made anew least often."""
    return min(cluster.units(), key=lambda unit: joins(cluster, unit))


def await_kept(cluster: Cluster, unit: str, reason: str) -> None:
    """Wait until the unit keeps data aside for this reason."""
    kept = "cat /var/lib/etcd/kept/*/kept.json"
    eventually(lambda: reason in cluster.shell(unit, kept, ok=False), timeout=240)


def check_anew(cluster: Cluster, unit: str, before: int, load) -> None:
    """The unit is another member than `before`, nothing is lost, no alarm is left."""
    cluster.wait_healthy(3, timeout=300)
    cluster.check(3, load)
    assert cluster.status(unit)["header"]["member_id"] != before
    assert joins(cluster, unit) == 1


def test_given_a_bad_log_when_etcd_gives_up_then_the_member_is_made_anew(
    cluster: Cluster, tmp_path: pathlib.Path
):
    hurt = freshest(cluster)
    before = cluster.status(hurt)["header"]["member_id"]
    with cluster.writing(tmp_path) as load:
        eventually(lambda: len(load.writes) > 500)  # 100 bytes of the log or more for each
        spoil = FLIP.format(current=CURRENT, at=16384)
        cluster.shell(hurt, f"systemctl kill -s KILL etcd; {spoil}")
        await_kept(cluster, hurt, "its write-ahead log cannot be used")
    check_anew(cluster, hurt, before, load)
