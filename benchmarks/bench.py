"""What the benchmarks share: a deployed cluster, a filling, a stopwatch, one line a figure."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
import statistics
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import jubilant
from cluster_under_test import Cluster

from benchmarks import ROOT
from etcd import client as clients
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024**2


@dataclasses.dataclass
class Figure:
    """One promise and what was measured for it.

    Attributes:
        name: what is compared.
        ours: seconds (or bytes) of the charm's way.
        floor: the same of the way by hand, None where there is nothing to compare with.
        goal: largest ratio promised, None where none is.
        unit: of both.
    """

    name: str
    ours: float
    floor: float | None = None
    goal: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """How many times the floor; 0 without one."""
        if self.floor is None:
            return 0.0
        return self.ours / self.floor if self.floor else float("inf")

    @property
    def met(self) -> bool:
        """Whether the promise was kept; true where there is none."""
        return self.goal is None or self.ratio <= self.goal

    def line(self) -> str:
        """One line for a person."""
        text = f"{self.name}: {self.ours:.2f} {self.unit}"
        if self.floor is not None:
            text += f" against {self.floor:.2f} {self.unit}, {self.ratio:.2f}x"
        if self.goal is not None:
            text += f" (goal at most {self.goal:g}x: {'met' if self.met else 'not met'})"
        return text


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def charm() -> pathlib.Path:
    """The charm under test: the packed one, or what `use` named."""
    return _named[-1] if _named else sorted(ROOT.glob("etcd_*.charm"))[0]


def use(file: pathlib.Path) -> None:
    """Measure another packed charm, so that two revisions can be compared."""
    _named.append(file.resolve())


_named: list[pathlib.Path] = []


@contextlib.contextmanager
def model() -> Iterator[jubilant.Juju]:
    """A model of its own, destroyed at the end."""
    with jubilant.temp_model() as juju:
        juju.wait_timeout = 600
        yield juju


@contextlib.contextmanager
def deployed(units: int) -> Iterator[Cluster]:
    """A healthy cluster of so many units in a model of its own, destroyed at the end."""
    with model() as juju:
        say(f"deploying {units} units")
        juju.deploy(charm(), "etcd", num_units=units)
        cluster = Cluster(juju)
        cluster.wait_healthy(units, timeout=600)
        yield cluster


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Seconds since it was started."""
    began = time.monotonic()
    yield lambda: time.monotonic() - began


def together(work: Callable[[str], object], names: list[str]) -> float:
    """Seconds until the work is done for every name, all at once."""
    with stopwatch() as seconds, concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(work, names))
    return seconds()


def tls(where: pathlib.Path) -> pem_files.TLSFiles:
    """The client certificate that `generate-client-certificates` left in a directory."""
    return pem_files.TLSFiles(where / "ca.crt", where / "client.crt", where / "client.key")


def fill(cluster: Cluster, size: int, *, packs: bool = True) -> None:
    """Put about `size` bytes into the cluster, in values of 512 KiB, over TLS from the host.

    Args:
        cluster: where to.
        size: bytes.
        packs: they can be packed to next to nothing; otherwise not at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = next(cluster.credentials(pathlib.Path(folder)).rglob("ca.crt")).parent
        urls = [f"https://{unit.public_address}:2379" for unit in cluster.units().values()]
        with clients.Client(urls, tls(where), timeout=60) as online:
            for number in range(size // (MIB // 2)):
                value = b"v" * (MIB // 2) if packs else os.urandom(MIB // 2)
                online.put(f"fill/{number}", value)


class Peak(threading.Thread):
    """Largest private memory of a charm process on this machine, sampled at 25 Hz, bytes.

    Attributes:
        bytes: of the process and its children, etcd's own tools excepted.
        tool: of etcd's tool that it ran.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = self.tool = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample until left."""
        while not self._ended.wait(0.04):
            ours, tool = _private_memory()
            self.bytes, self.tool = max(self.bytes, ours), max(self.tool, tool)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _private_memory() -> tuple[int, int]:
    """RssAnon of the largest charm process with its children, and of their largest tool."""
    parents: dict[int, int] = {}
    anonymous: dict[int, int] = {}
    roots: list[int] = []
    tools: set[int] = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        pid = int(entry.name)
        parents[pid] = int(fields["PPid"])
        anonymous[pid] = int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
        if b"src/charm.py" in command and b"python" in command:
            roots.append(pid)
        if fields["Name"].strip() in ("etcdutl", "etcdctl"):
            tools.add(pid)
    totals, tool = dict.fromkeys(roots, 0), 0
    for pid, size in anonymous.items():
        ancestor = pid
        while ancestor in parents and ancestor not in totals:
            ancestor = parents[ancestor]
        if ancestor not in totals:
            continue
        if pid in tools:
            tool = max(tool, size)
        else:
            totals[ancestor] += size
    return max(totals.values(), default=0), tool


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def await_words(cluster: Cluster, units: int) -> None:
    """Wait until every unit says that it is healthy: asked rarely, which costs time as well."""
    words = [f"Healthy with {units} known peers"] * units

    def healthy(status: jubilant.Status) -> bool:
        told = status.apps[cluster.app].units.values()
        return [unit.workload_status.message for unit in told] == words

    cluster.juju.wait(healthy, delay=3, successes=1, timeout=600)


def installed(cluster: Cluster, unit: str) -> float:
    """When the packages were on a unit's machine, wall clock."""
    said = cluster.shell(unit, "journalctl --unit=etcd-install --output=short-unix --no-pager")
    line = next(one for one in said.splitlines() if one.endswith("etcd is installed"))
    return float(line.split()[0])


def told(cluster: Cluster, unit: str, words: str, near: float) -> float:
    """When the hook ended that first gave a unit this status: Juju takes it then, wall clock.

    Nobody asks meanwhile: a status that is asked for ten times a second takes a core from what is
    measured.
    """
    hooks: list[str] = []
    for entry in cluster.juju.cli("show-status-log", "-n", "1000", unit).splitlines():
        if words in entry:
            break
        hooks += re.findall(r"running (\S+) hook", entry)
    ran = [line for line in _log(cluster, unit) if f'ran "{hooks[-1]}" hook' in line]
    return _clock(ran[hooks.count(hooks[-1]) - 1], near)


def rested(cluster: Cluster, unit: str, near: float) -> float:
    """When the last hook of a unit ended, wall clock."""
    return _clock(
        [line for line in _log(cluster, unit) if re.search(r'ran "\S+" hook', line)][-1], near
    )


def _log(cluster: Cluster, unit: str) -> list[str]:
    tag = f"unit-{unit.replace('/', '-')}:"
    lines = cluster.juju.cli("debug-log", "--limit", "0", "--utc", "--ms").splitlines()
    return [line for line in lines if line.startswith(tag)]


def _clock(line: str, near: float) -> float:
    """The time of a line of the log, which carries no date."""
    match = re.search(r"(\d\d):(\d\d):(\d\d)\.(\d{3})", line)
    assert match
    day = datetime.datetime.fromtimestamp(near, datetime.timezone.utc)
    hour, minute, second, ms = map(int, match.groups())
    at = day.replace(hour=hour, minute=minute, second=second, microsecond=ms * 1000)
    return at.timestamp()
