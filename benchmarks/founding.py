"""a: `deploy -n 3` to healthy, against a static bootstrap by hand."""

from __future__ import annotations

import datetime
import pathlib
import re
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import Cluster, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3


def measure() -> Iterator[Figure]:
    """Seconds from the deployment to health, less boot and packages."""
    with bench.model() as juju:
        began = time.time()
        juju.deploy(bench.charm(), "etcd", num_units=UNITS)
        yield _deployment(Cluster(juju), began)


def _deployment(cluster: Cluster, began: float) -> Figure:
    """`deploy -n 3` to healthy, less boot and packages, against a static bootstrap by hand."""
    cluster.wait_healthy(UNITS)
    healthy = time.time()
    log = cluster.juju.debug_log(limit=0)
    installed = [_clock(line, began) for line in log.splitlines() if "etcd is installed" in line]
    ours = healthy - max(installed)
    bench.say(f"deployed in {healthy - began:.1f} s, {ours:.1f} s of them after the packages")
    return Figure("deploy -n 3 to healthy", ours, _by_hand(cluster), 2)


def _clock(line: str, near: float) -> float:
    """The time of a line of the log, which carries no date."""
    match = re.search(r"(\d\d):(\d\d):(\d\d)", line)
    assert match
    day = datetime.datetime.fromtimestamp(near, datetime.timezone.utc)
    at = day.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3]))
    return at.timestamp()


def _by_hand(cluster: Cluster) -> float:
    """Seconds to found three members by hand: authority, certificates, start, health."""
    units = list(cluster.units())
    where = {unit: cluster.address(unit) for unit in units}
    initial = ",".join(f"{u.replace('/', '-')}=https://{a}:12380" for u, a in where.items())
    with tempfile.TemporaryDirectory() as folder, bench.stopwatch() as seconds:
        bench.authority(pathlib.Path(folder), where)

        def start(unit: str) -> None:
            name, address = unit.replace("/", "-"), where[unit]
            for part in ("ca.crt", f"{name}.crt", f"{name}.key"):
                cluster.juju.scp(f"{folder}/{part}", f"{unit}:/tmp/{part}")
            tls = " ".join(
                f"--{kind}cert-file=/tmp/{name}.crt --{kind}key-file=/tmp/{name}.key "
                f"--{kind}trusted-ca-file=/tmp/ca.crt --{kind}client-cert-auth"
                for kind in ("", "peer-")
            )
            cluster.shell(
                unit,
                "systemd-run --quiet --unit=byhand --service-type=notify --no-block etcd "
                f"--name={name} --data-dir=/var/lib/byhand {tls} --initial-cluster={initial} "
                f"--listen-client-urls=https://{address}:12379 "
                f"--advertise-client-urls=https://{address}:12379 "
                f"--listen-peer-urls=https://{address}:12380 "
                f"--initial-advertise-peer-urls=https://{address}:12380",
            )

        bench.together(start, units)
        ask = (
            "for i in $(seq 100); do ETCDCTL_API=3 etcdctl --command-timeout=2s "
            f"--cacert=/tmp/ca.crt --cert=/tmp/{units[0].replace('/', '-')}.crt "
            f"--key=/tmp/{units[0].replace('/', '-')}.key "
            f"--endpoints={','.join(f'https://{a}:12379' for a in where.values())} "
            "endpoint health && exit; sleep 0.1; done; exit 1"
        )
        cluster.shell(units[0], ask)
        taken = seconds()
    bench.together(
        lambda unit: cluster.shell(unit, "systemctl stop byhand; rm -rf /var/lib/byhand"), units
    )
    return taken
