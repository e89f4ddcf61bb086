"""b: one `update-status` dispatch, against that of a charm that does nothing."""

from __future__ import annotations

import pathlib
import tempfile
import zipfile
from typing import TYPE_CHECKING

from benchmarks import bench
from benchmarks.bench import Cluster, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = 3


def measure() -> Iterator[Figure]:
    """Median seconds of a dispatch on Juju's leader."""
    with bench.deployed(UNITS) as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.juju.deploy(_emptied(pathlib.Path(folder)), "empty")
        cluster.juju.wait(
            lambda status: status.apps["empty"].units["empty/0"].juju_status.current == "idle"
        )
        yield _update_status(cluster, "empty/0")


def _update_status(cluster: Cluster, empty: str) -> Figure:
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


def _emptied(target: pathlib.Path) -> pathlib.Path:
    """The same charm with the same packages, and a `charm.py` that observes nothing."""
    place = target / "empty.charm"
    code = "import ops\n\n\nclass Empty(ops.CharmBase):\n    pass\n\n\nops.main(Empty)\n"
    metadata = "name: empty\nsummary: nothing\ndescription: nothing\n"
    with zipfile.ZipFile(bench.charm()) as old, zipfile.ZipFile(place, "w") as new:
        for item in old.infolist():
            if item.filename.startswith("src/") or item.filename in (
                "metadata.yaml",
                "actions.yaml",
                "config.yaml",
            ):
                continue
            new.writestr(item, old.read(item.filename))
        new.writestr("metadata.yaml", metadata)
        new.writestr("src/charm.py", code)
    return place
