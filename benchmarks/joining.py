"""e: one more member, from its packages to a vote, against a learner added by hand."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

from cluster_under_test import ETCDCTL, TLS, eventually

from benchmarks import bench
from benchmarks.bench import MIB, Cluster, Figure, say

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3
SIZES = (64 * MIB, 1024 * MIB)
SETTLE = 6  # seconds after a member came in which etcd refuses to add another
DATA = "/var/lib/byhand"
PEER_TLS = "/etc/etcd/tls/peer"


def measure() -> Iterator[Figure]:
    """Seconds at each size."""
    with bench.deployed(UNITS) as cluster:
        filled = 0
        for size in SIZES:
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled)
            filled = size
            os.sync()  # what is still to be written would slow down who comes first
            unit, ours = _added(cluster)
            os.sync()
            floor = _by_hand(cluster, unit)
            yield Figure(f"one more member with {size // MIB} MiB", ours, floor, 1.3)
            cluster.juju.remove_unit(unit)
            cluster.wait_healthy(UNITS, timeout=300)


def _added(cluster: Cluster) -> tuple[str, float]:
    """The unit that was added, and the seconds from its packages until its member votes."""
    before = set(cluster.units())
    cluster.juju.add_unit(cluster.app)
    unit = eventually(lambda: next(iter(set(cluster.units()) - before), ""))
    bench.await_words(cluster, UNITS + 1)
    cluster.wait_healthy(UNITS + 1)
    time.sleep(SETTLE)
    return unit, _promoted(cluster) - bench.installed(cluster, unit)


def _promoted(cluster: Cluster) -> float:
    """When Juju's leader's member last saw a learner become a voter, wall clock."""
    said = cluster.shell(
        cluster.leader(), "journalctl --unit=etcd --output=short-unix --no-pager --grep=promote"
    )
    return float([x for x in said.splitlines() if '"promote member"' in x][-1].split()[0])


def _by_hand(cluster: Cluster, unit: str) -> float:
    """Seconds for `member add --learner`, a start, and `member promote` until etcd agrees.

    The learner runs beside the unit's own member, with its certificates, on other ports.
    """
    address = cluster.address(unit)
    members = ",".join(
        f"{m['name']}={url}" for m in cluster.members(unit)["members"] for url in m["peerURLs"]
    )
    tls = " ".join(
        f"--{kind}cert-file={where}/cert.pem --{kind}key-file={where}/key.pem "
        f"--{kind}trusted-ca-file={where}/ca.pem --{kind}client-cert-auth"
        for kind, where in (("", "/etc/etcd/tls/server"), ("peer-", PEER_TLS))
    )
    start = (
        f"systemd-run --quiet --unit=byhand etcd --name=byhand --data-dir={DATA} {tls} "
        f"--initial-cluster={members},byhand=https://{address}:12380 "
        "--initial-cluster-state=existing "
        f"--listen-client-urls=https://{address}:12379 "
        f"--advertise-client-urls=https://{address}:12379 "
        f"--listen-peer-urls=https://{address}:12380 "
        f"--initial-advertise-peer-urls=https://{address}:12380"
    )
    ask = f"{ETCDCTL} --endpoints=https://127.0.0.1:2379"
    cluster.shell(unit, f"test -r {TLS}/ca.pem; rm -rf {DATA}; mkdir -m 700 {DATA}")
    began, member = cluster.shell(
        unit,
        f"date +%s.%N; id=$({ask} member add byhand --learner --peer-urls=https://{address}:12380 "
        f"| sed -n 's/^Member *\\([0-9a-f]*\\) added.*/\\1/p'); {start}; "
        f"until {ask} member promote $id >/dev/null 2>&1; do sleep 0.1; done; echo $id",
    ).split()
    taken = _promoted(cluster) - float(began)
    cluster.shell(
        unit, f"{ask} member remove {shlex.quote(member)}; systemctl stop byhand; rm -rf {DATA}"
    )
    cluster.wait_healthy(UNITS + 1, timeout=300)
    return taken
