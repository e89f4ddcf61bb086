"""`make bench`: each promise, side by side with the same done by hand, in one run."""

from __future__ import annotations

import datetime
import pathlib
import re
import sys
import tempfile
import time

from benchmarks import bench
from benchmarks.bench import MIB, Cluster, Figure, say

UNITS = 3
SMALL, LARGE = 64 * MIB, 1024 * MIB


def deployment(cluster: Cluster, began: float) -> Figure:
    """`deploy -n 3` to healthy, less boot and packages, against a static bootstrap by hand."""
    cluster.wait_healthy(UNITS)
    healthy = time.time()
    log = cluster.juju.debug_log(limit=0)
    installed = [_clock(line, began) for line in log.splitlines() if "etcd is installed" in line]
    ours = healthy - max(installed)
    say(f"deployed in {healthy - began:.1f} s, {ours:.1f} s of them after the packages")
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
        _authority(pathlib.Path(folder), where)

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


def _authority(folder: pathlib.Path, where: dict[str, str]) -> None:
    """An authority and a certificate for each member, as a person makes them with openssl."""
    import subprocess

    def openssl(*words: str) -> None:
        subprocess.run(
            ["openssl", *words], check=True, capture_output=True, cwd=folder, timeout=60
        )

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *ec, "-subj", "/CN=byhand", "-keyout", "ca.key", "-out", "ca.crt")
    for unit, address in where.items():
        name = unit.replace("/", "-")
        (folder / "ext").write_text(
            f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        openssl(
            "req", *ec, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "ext", "-out", f"{name}.crt",
        )  # fmt: skip


def update_status(cluster: Cluster, empty: str) -> Figure:
    """One update-status dispatch against that of a charm that does nothing."""
    script = (
        "python3 -c 'import os,subprocess,time\n"
        'os.environ.update(JUJU_DISPATCH_PATH="hooks/update-status",JUJU_HOOK_NAME="update-status")\n'
        "began = time.monotonic()\n"
        'subprocess.run(["./dispatch"], check=True)\n'
        "print(time.monotonic() - began)'"
    )
    times: dict[str, list[float]] = {cluster.leader(): [], empty: []}
    for _ in range(7):
        for unit, taken in times.items():
            output = cluster.juju.exec(script, unit=unit).stdout
            taken.append(float(output.strip().splitlines()[-1]))
    ours, floor = (bench.median(taken[1:]) for taken in times.values())
    return Figure("one update-status dispatch", ours, floor, 1.5)


def restoring(cluster: Cluster) -> tuple[Figure, dict[str, float]]:
    """Restore of three members against `etcdutl snapshot restore` by hand on all three at once."""
    leader = cluster.leader()
    peaks: dict[str, float] = {}
    with bench.Peak() as peak:
        taken = cluster.run("snapshot", leader, wait=600).results["snapshot"]
    peaks["snapshot"] = peak.bytes
    before = cluster.members(leader)["header"]["cluster_id"]
    with bench.stopwatch() as seconds, bench.Peak() as peak:
        cluster.run("restore", leader, wait=600, path=taken["path"])
        _until_replaced(cluster, leader, before)
        ours = seconds()
    peaks["restore"] = peak.bytes
    cluster.wait_healthy(UNITS, timeout=600)
    return Figure("restore", ours, _restore_by_hand(cluster, taken["path"]), 1.2), peaks


def _until_replaced(cluster: Cluster, unit: str, before: int) -> None:
    """Until the new cluster takes a write."""
    until = time.monotonic() + 900
    while time.monotonic() < until:
        written = cluster.etcdctl(unit, "put bench/restored yes -w json 2>&1", ok=False)
        if '"cluster_id"' in written and f'"cluster_id":{before},' not in written:
            return
        time.sleep(0.1)
    raise TimeoutError("the restored cluster takes no writes")


def _restore_by_hand(cluster: Cluster, path: str) -> float:
    """Copy the file to the others, restore on all three, start them, write: a careful operator."""
    units = list(cluster.units())
    where = {unit: cluster.address(unit) for unit in units}
    initial = ",".join(f"{u.replace('/', '-')}=https://{a}:2380" for u, a in where.items())
    with tempfile.TemporaryDirectory() as folder:
        cluster.shell(
            cluster.leader(), f"cp {path} /home/ubuntu/byhand.db; chmod 644 /home/ubuntu/byhand.db"
        )
        with bench.stopwatch() as seconds:
            local = f"{folder}/byhand.db"
            cluster.juju.scp(f"{cluster.leader()}:/home/ubuntu/byhand.db", local)

            def restore(unit: str) -> None:
                name = unit.replace("/", "-")
                cluster.juju.scp(local, f"{unit}:/tmp/byhand.db")
                cluster.shell(
                    unit,
                    "tool=$(command -v etcdutl || echo 'env ETCDCTL_API=3 etcdctl'); "
                    f"$tool snapshot restore /tmp/byhand.db --name={name} "
                    f"--initial-cluster={initial} --initial-cluster-token=byhand "
                    f"--initial-advertise-peer-urls=https://{where[unit]}:2380 "
                    "--data-dir=/var/lib/etcd/byhand >/dev/null 2>&1 && "
                    "chown -R etcd: /var/lib/etcd/byhand && systemctl stop etcd && "
                    "mv /var/lib/etcd/current/etcd /var/lib/etcd/saved && "
                    "mv /var/lib/etcd/byhand /var/lib/etcd/current/etcd && "
                    "systemctl start --no-block etcd",
                )

            bench.together(restore, units)
            _until_replaced(cluster, units[0], -1)
            taken = seconds()
    bench.together(
        lambda unit: cluster.shell(
            unit,
            "systemctl stop etcd; rm -rf /var/lib/etcd/current/etcd /tmp/byhand.db; "
            "mv /var/lib/etcd/saved /var/lib/etcd/current/etcd; systemctl start --no-block etcd",
        ),
        units,
    )
    for unit in units:
        _until_replaced(cluster, unit, -1)
    cluster.wait_healthy(UNITS, timeout=600)
    return taken


def main() -> int:
    """Measure everything, print each figure as it comes and all of them at the end."""
    figures: list[Figure] = []
    with bench.model() as juju, tempfile.TemporaryDirectory() as folder:
        say("deploying")
        began = time.time()
        juju.deploy(bench.charm(), "etcd", num_units=UNITS)
        cluster = Cluster(juju)
        figures.append(deployment(cluster, began))
        say(figures[-1].line())
        juju.deploy(bench.emptied(pathlib.Path(folder)), "empty")
        juju.wait(
            lambda status: status.apps["empty"].units["empty/0"].juju_status.current == "idle"
        )
        figures.append(update_status(cluster, "empty/0"))
        say(figures[-1].line())
        juju.remove_application("empty")
        peaks: dict[int, dict[str, float]] = {}
        filled = 0
        for size in (SMALL, LARGE):
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled)
            filled = size
            figure, peaks[size] = restoring(cluster)
            figure.name = f"restore of three members with {size // MIB} MiB"
            figures.append(figure)
            say(figures[-1].line())
        for kind in ("snapshot", "restore"):
            small, large = peaks[SMALL][kind] / MIB, peaks[LARGE][kind] / MIB
            name = f"peak memory of {kind}, 1 GiB against 64 MiB"
            figures.append(Figure(name, large, small, 1.1, "MiB"))
    print("\n" + "\n".join(figure.line() for figure in figures))
    print(f"\n{sum(f.ratio <= f.goal for f in figures)} of {len(figures)} goals met")
    return 0


if __name__ == "__main__":
    sys.exit(main())
