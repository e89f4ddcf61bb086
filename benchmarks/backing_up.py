"""h: a backup against the same by hand, what it does to writes, and the memory it takes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import bucket

from benchmarks import bench
from benchmarks.bench import MIB, Cluster, Figure, say
from etcd import client as clients
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3
SMALL, LARGE = 64 * MIB, 1024 * MIB
ROUNDS = {SMALL: 3, LARGE: 2}
GOALS = {SMALL: None, LARGE: 1.1}
"""What is promised of `create-backup`: at the small size a hook's own time counts for much."""
MEMORY = 100  # MiB that a backup's processes may take
# What the keeper does when a backup is due, and as resident; its proof follows when there is time.
_OURS = """\
import dataclasses, pathlib
from keeper import service as keeper
from backup import keeper_files, worker
config = dataclasses.replace(keeper_files.Config.read(), workdir="/var/lib/etcd/due")
with worker.reach(config).client() as online:
    while True:
        every = float(pathlib.Path("/tmp/due").read_text())
        config = dataclasses.replace(config, interval=every)
        manifest = keeper.back_up(config, online, config.root())
        pathlib.Path("/tmp/done").write_text(manifest.id)
"""
# What the keeper's service sets.
_LIMITS = (
    "-p Nice=10 -p IOSchedulingClass=best-effort -p IOSchedulingPriority=7 "
    "-p CPUWeight=20 -p IOWeight=20"
)
_BY_HAND = (
    "etcdctl --cacert=$TLS/ca.pem --cert=$TLS/cert.pem --key=$TLS/key.pem "
    "--endpoints=https://127.0.0.1:2379 snapshot save /var/lib/etcd/byhand.db >/dev/null 2>&1 && "
    "rclone --config /root/byhand.conf copyto /var/lib/etcd/byhand.db vault:backups/byhand.db; "
    "code=$?; rm -f /var/lib/etcd/byhand.db; exit $code"
)


def measure() -> Iterator[Figure]:
    """Seconds, memory and write latency of a backup at two sizes."""
    with bench.model() as juju, tempfile.TemporaryDirectory() as folder:
        _, address = bucket.serve(juju)
        say(f"deploying {UNITS} units")
        # The keepers rest while the same is measured.
        juju.deploy(bench.charm(), "etcd", num_units=UNITS, config={"backup-interval": "0"})
        bucket.use(juju, address)
        cluster = Cluster(juju)
        cluster.wait_healthy(UNITS, timeout=600)
        unit = _follower(cluster)
        _prepare(cluster, unit, address)
        writes = _Writes(cluster, pathlib.Path(folder))
        memory: dict[int, float] = {}
        filled = 0
        for size in (SMALL, LARGE):
            say(f"filling to {size // MIB} MiB")
            bench.fill(cluster, size - filled, packs=False)
            filled = size
            figures, memory[size] = _compare(cluster, unit, writes, size)
            yield from figures
        yield Figure(
            "memory of a backup's processes, 1 GiB",
            memory[LARGE],
            MEMORY,
            1,
            "MiB",
        )
        yield Figure("the same, 1 GiB against 64 MiB", memory[LARGE], memory[SMALL], 1.1, "MiB")
        yield Figure("memory of the idle keeper", _memory(b"keeper.service") / MIB, unit="MiB")


def _follower(cluster: Cluster) -> str:
    """A unit that does not lead: the keeper takes its backups from one."""
    leader = cluster.statuses()[0]["Status"]["leader"]
    return next(
        unit for unit in cluster.units() if cluster.members(unit)["header"]["member_id"] != leader
    )


def _prepare(cluster: Cluster, unit: str, address: str) -> None:
    config = bucket.CONFIG.format(address=address, port=bucket.PORT)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("ours.py", _OURS), ("byhand.conf", config)):
            path = pathlib.Path(folder, name)
            path.write_text(text)
            cluster.juju.scp(str(path), f"{unit}:/tmp/{name}")
    cluster.shell(unit, "cp /tmp/byhand.conf /root/byhand.conf; mkfifo /tmp/due /tmp/done")
    charm = json.loads(cluster.shell(unit, "cat /etc/etcd/keeper.json"))["charm_dir"]
    paths = f"--setenv=PYTHONPATH={charm}/lib:{charm}/src"
    cluster.shell(
        unit, f"systemd-run --quiet {_LIMITS} {paths} {charm}/venv/bin/python /tmp/ours.py"
    )
    _scheduled(cluster, unit)  # what it imports at its first is there from now on


def _scheduled(cluster: Cluster, unit: str, every: float = 86400) -> float:
    """Seconds that a backup takes which is due by the schedule."""
    with bench.stopwatch() as seconds:
        cluster.shell(
            unit, f"timeout 900 sh -c 'echo {every} > /tmp/due; cat /tmp/done' | grep -q ."
        )
        return seconds()


def _compare(
    cluster: Cluster, unit: str, writes: _Writes, size: int
) -> tuple[list[Figure], float]:
    """The schedule's, nothing, the action and by hand in turn, while one client writes.

    Answers also with the most memory that the schedule's or the action's processes took, MiB.
    """
    scheduled: list[float] = []
    asked: list[float] = []
    hand: list[float] = []
    latency: dict[str, list[float]] = {"quiet": [], "scheduled": [], "asked": [], "hand": []}
    for _ in range(ROUNDS[size]):
        if size < LARGE or not scheduled:
            os.sync()  # what is still to be written would slow down who comes first
            with writes.timed(latency["scheduled"]):
                scheduled.append(_scheduled(cluster, unit))
            os.sync()
            with writes.timed(latency["quiet"]):
                time.sleep(scheduled[-1])  # as long: what comes seldom has to count alike
        with writes.timed(latency["asked"]):
            asked.append(_asked(cluster, unit))
        with writes.timed(latency["hand"]):
            hand.append(_by_hand(cluster, unit))
    # Apart: to look at every process takes its part of a core.
    with _Peak(b"/tmp/ours.py") as by_schedule:
        _scheduled(cluster, unit, every=60)  # fast: what it takes does not depend on that
    with _Peak(b"src/charm.py") as by_action:
        _asked(cluster, unit)
    words = f"{size // MIB} MiB"
    quiet = _p99(latency["quiet"])
    by_hand = statistics.median(hand)
    return [
        Figure(f"create-backup of {words}", statistics.median(asked), by_hand, GOALS[size]),
        Figure(f"scheduled backup of {words}", statistics.median(scheduled), by_hand),
        *(
            Figure(f"p99 of a write during {what}, {words}", _p99(latency[how]), quiet, goal, "ms")
            for what, how, goal in (
                ("a scheduled backup", "scheduled", 1.2),
                ("create-backup", "asked", None),
                ("the same by hand", "hand", None),
            )
        ),
    ], max(by_schedule.bytes, by_action.bytes) / MIB


def _asked(cluster: Cluster, unit: str) -> float:
    """Seconds that an operator waits for a backup."""
    with bench.stopwatch() as seconds:
        cluster.run("create-backup", unit, wait=600)
        return seconds()


def _by_hand(cluster: Cluster, unit: str) -> float:
    """Seconds of the same by hand."""
    with bench.stopwatch() as seconds:
        cluster.shell(unit, f"export ETCDCTL_API=3 TLS=/etc/etcd/tls/client; {_BY_HAND}")
        return seconds()


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] * 1000


class _Writes:
    """One client that writes a kilobyte at a time, and how long each write took."""

    def __init__(self, cluster: Cluster, folder: pathlib.Path) -> None:
        where = next(cluster.credentials(folder).rglob("ca.crt")).parent
        tls = pem_files.TLSFiles(where / "ca.crt", where / "client.crt", where / "client.key")
        urls = [f"https://{unit.public_address}:2379" for unit in cluster.units().values()]
        self._online = clients.Client(urls, tls, timeout=60)

    @contextlib.contextmanager
    def timed(self, into: list[float]) -> Iterator[None]:
        """Write all the while; seconds of each write."""
        ended = threading.Event()
        value = os.urandom(1024)

        def write() -> None:
            while not ended.wait(0.005):
                began = time.monotonic()
                self._online.put("bench/written", value)
                into.append(time.monotonic() - began)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _Peak(threading.Thread):
    """Most memory of a program's processes on this machine, each page counted once, bytes."""

    def __init__(self, program: bytes) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._program = program
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until left."""
        while not self._ended.wait(0.1):
            self.bytes = max(self.bytes, _memory(self._program))

    def __enter__(self) -> _Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _memory(program: bytes) -> int:
    """Proportional set size of a process that runs `program` and all its children, bytes."""
    parents: dict[int, int] = {}
    roots: set[int] = set()
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
                if b"python" in words[0] and program in words:
                    roots.add(int(entry.name))

    def ours(pid: int) -> bool:
        while pid in parents and pid not in roots:
            pid = parents[pid]
        return pid in roots

    total = 0  # of one of them, the mean: other models may have keepers too
    for pid in filter(ours, list(parents)):
        with contextlib.suppress(OSError):
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(x.split()[1]) for x in rollup.splitlines() if x.startswith("Pss:"))
    return total * 1024 // max(len(roots), 1)
