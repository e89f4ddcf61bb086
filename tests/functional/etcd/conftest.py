"""Every test here runs once for each etcd that was found."""

from __future__ import annotations

import pathlib

import etcd_cluster
import pytest

from etcd import service

ROOT = pathlib.Path(__file__).resolve().parents[3]


def _found() -> dict[str, pathlib.Path]:
    """One etcd for each version that is at hand: unpacked under build/, or installed."""
    found: dict[str, pathlib.Path] = {}
    for folder in (
        ROOT / "build" / "etcd-3.4",
        ROOT / "build" / "etcd-3.5",
        ROOT / "build" / "etcd-3.6",
        pathlib.Path("/usr/bin"),
    ):
        if (folder / "etcd").exists():
            version = service.version(folder / "etcd")
            found.setdefault(".".join(str(part) for part in version), folder)
    return found


FOUND = _found()


@pytest.fixture(scope="module", params=list(FOUND) or [pytest.param("", marks=pytest.mark.skip)])
def etcd(request):
    """Directory of the etcd under test; the version of it is what the code sees as installed."""
    before = service.INSTALLED
    service.INSTALLED = FOUND[request.param]
    yield FOUND[request.param]
    service.INSTALLED = before


@pytest.fixture
def cluster(etcd, tmp_path):
    """An empty cluster; everything in it ends with the test."""
    made = etcd_cluster.Cluster(tmp_path)
    yield made
    made.close()
