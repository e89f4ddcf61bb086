"""Backups every 30 s while holders die, and which of 200 older ones stay."""

from __future__ import annotations

import datetime
import hashlib
import io
import itertools
import json
import pathlib
import tarfile
import time

import bucket
import pytest
from cluster_under_test import Cluster, eventually
from load import running

from backup import manifest as manifests

UNITS = 3
INTERVAL = 30

pytestmark = [pytest.mark.minijuju, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def machine(juju) -> str:
    """The machine that serves the bucket."""
    return bucket.serve(juju)[0]


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, machine) -> Cluster:
    """Three units with a backup every 30 seconds."""
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config={"backup-interval": f"{INTERVAL}s"})
    bucket.use(juju, juju.status().machines[machine].dns_name)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def listed(cluster: Cluster) -> list[dict]:
    return json.loads(cluster.run("list-backups", format="json").results["backups"])


def seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def holder(cluster: Cluster) -> str:
    """The unit whose keeper takes the backups, "" while nobody does."""
    for unit in cluster.units():
        told = cluster.shell(unit, "cat /var/lib/etcd-keeper/status.json", ok=False)
        if '"role": "holder"' in told:
            return unit
    return ""


def test_given_a_holder_that_dies_twice_when_writes_go_on_then_backups_have_no_gap(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    units = cluster.units()
    addresses = [unit.public_address for unit in units.values()]
    with running(addresses, folder, rate=10.0) as load:
        eventually(lambda: listed(cluster))
        began = time.time()
        killed = []
        for _ in range(2):
            dead = eventually(lambda: holder(cluster))
            machine = units[dead].machine
            cluster.juju.cli("chaos", "kill", machine)
            killed.append(dead)
            count = len(alive(cluster))
            eventually(lambda count=count: len(alive(cluster)) >= count + 2, timeout=180, every=3)
            cluster.juju.cli("chaos", "start", machine)
            cluster.wait_healthy(UNITS)
    assert load.missing() == []
    taken = sorted(seconds(each["taken-at"]) for each in listed(cluster))
    taken = [at for at in taken if at >= began - INTERVAL]
    gaps = [b - a for a, b in itertools.pairwise(taken)]
    print(f"holders {killed}, gaps {gaps}")
    # The interval, the lease of a dead holder, and what a loaded machine takes to notice.
    assert max(gaps) <= INTERVAL + 60


def alive(cluster: Cluster) -> list[dict]:
    """The listing, asked of a unit that runs."""
    status = cluster.juju.status().apps["etcd"].units
    unit = next(name for name, u in status.items() if u.juju_status.current != "lost")
    task = cluster.juju.run(unit, "list-backups", {"format": "json"}, wait=120)
    return json.loads(task.results["backups"])


def fakes(now: float, cluster_id: int) -> list[manifests.Manifest]:
    """A backup each hour of the last 200; only the oldest but one was ever proven."""
    made = []
    for hours in range(1, 201):
        taken_at = now - hours * 3600
        name = manifests.new_id(taken_at, 1, 1000 - hours)
        content = name.encode()
        digest = hashlib.sha256(content).hexdigest()
        made.append(
            manifests.Manifest(
                id=name,
                file=f"{name}.db",
                cluster_id=cluster_id,
                generation=1,
                token="fake",
                revision=1000 - hours,
                raft_index=1000 - hours,
                etcd_version="3.5.16",
                storage_version="",
                size=len(content),
                sha256=digest,
                stored_size=len(content),
                stored_sha256=digest,
                compression="",
                keys=0,
                members=("etcd-0",),
                taken_by="etcd/0",
                taken_at=taken_at,
                duration=1.0,
                proven_at=taken_at + 60 if hours == 199 else None,
            )
        )
    return made


def stored(manifests: list[manifests.Manifest], target: pathlib.Path) -> None:
    """A tar of these backups' files and manifests."""
    with tarfile.open(target, "w") as tar:
        for manifest in manifests:
            for name, content in (
                (manifest.file, manifest.id.encode()),
                (f"{manifest.id}.json", manifest.to_json().encode()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                entry.mtime = int(manifest.taken_at)
                tar.addfile(entry, io.BytesIO(content))


def kept(taken: dict[str, float], now: float) -> set[str]:
    """What `last=3 hourly=12 daily=5 weekly=2 age=7d` keeps, counted by hand."""
    newest_first = sorted(taken, key=lambda name: taken[name], reverse=True)
    keep = set(newest_first[:3])
    for form, count in (("%Y-%m-%d %H", 12), ("%Y-%m-%d", 5), ("%G-%V", 2)):
        heads: dict[str, str] = {}
        for name in newest_first:
            moment = datetime.datetime.fromtimestamp(taken[name], datetime.timezone.utc)
            heads.setdefault(moment.strftime(form), name)
        keep |= set(list(heads.values())[:count])
    return {name for name in keep if now - taken[name] <= 7 * 86400}


def is_still(cluster: Cluster) -> bool:
    """Whether a thinning that was under way is over: ten seconds pass without a change."""
    before = listed(cluster)
    time.sleep(10)
    return listed(cluster) == before


def test_given_200_older_backups_when_thinned_then_the_rules_and_the_newest_proven_stay(
    cluster: Cluster, machine: str, tmp_path: pathlib.Path
):
    cluster.juju.config("etcd", {"backup-interval": "0", "cluster-name": "old"})
    cluster.wait_healthy(UNITS)
    now = time.time()
    cluster_id = cluster.members(cluster.leader())["header"]["cluster_id"]
    manifests = fakes(now, cluster_id)
    stored(manifests, tmp_path / "old.tar")
    cluster.juju.scp(str(tmp_path / "old.tar"), f"{machine}:/tmp/old.tar")
    folder = f"{bucket.FOLDER}/old/snapshots"
    unpack = f"sudo mkdir -p {folder} && sudo tar -C {folder} -xf /tmp/old.tar"
    cluster.juju.ssh(machine, f"{unpack} && sudo systemctl restart s3")
    assert len(listed(cluster)) == 200

    retention = "last=3 hourly=12 daily=5 weekly=2 age=7d"
    cluster.put("something", "changed")
    cluster.juju.config("etcd", {"backup-interval": f"{INTERVAL}s", "backup-retention": retention})
    eventually(lambda: len(listed(cluster)) < 60, timeout=240, every=2)
    cluster.juju.config("etcd", {"backup-interval": "0"})
    cluster.wait_healthy(UNITS)
    eventually(lambda: is_still(cluster), every=3)

    left = {each["id"] for each in listed(cluster)}
    fake = {manifest.id for manifest in manifests}
    new = {name: time.time() for name in left - fake}
    assert new
    taken = {manifest.id: manifest.taken_at for manifest in manifests}
    proven = manifests[198].id
    assert left == kept(taken | new, time.time()) | {proven}
    files = set(cluster.juju.ssh(machine, f"ls {folder}").split()) - {"owner.json"}
    assert {name.partition(".")[0] for name in files} == left
    assert len(files) == 2 * len(left)
