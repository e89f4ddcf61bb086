"""Backups to a bucket by relation: an S3 server over TLS with an authority of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jubilant
import pytest
from cluster_under_test import Cluster, chaos, eventually
from load import running

UNITS = 3
ROOT = Path(__file__).parents[3]
STORE = "s3/0"
FOLDER = "/srv/s3/data/backups"


@pytest.fixture(scope="module")
def s3_charm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test charm that serves a bucket."""
    charms = ROOT / "tests" / "charms"
    target = tmp_path_factory.mktemp("s3") / "s3.charm"
    argv = [sys.executable, str(charms / "pack.py"), str(charms / "s3"), str(target)]
    subprocess.run(argv, check=True, timeout=60)
    return target


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, s3_charm) -> Cluster:
    """Three units, and a bucket that speaks the interface's older schema; not yet related."""
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent))
    juju.deploy(s3_charm, "s3", config={"schema": 0}, resources={"rclone": str(rclone)})
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config={"backup-interval": "0"})
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def relate(cluster: Cluster) -> None:
    """Relate the bucket, where it is not."""
    if not told(cluster, "leader"):
        cluster.juju.integrate("etcd:s3-credentials", "s3:s3-credentials")
    eventually(lambda: told(cluster, "leader").get("path") == "s3:backups")
    cluster.wait_healthy(UNITS)


def told(cluster: Cluster, unit: str) -> dict:
    """What a unit's keeper was told of the remote, {} for nothing."""
    name = cluster.leader() if unit == "leader" else unit
    return json.loads(
        cluster.shell(name, "cat /etc/etcd/remote.json 2>/dev/null || echo {}", ok=False)
    )


def created(cluster: Cluster) -> str:
    return cluster.run("create-backup", wait=180).results["backup"]["id"]


def listing(cluster: Cluster) -> str:
    return cluster.run("list-backups").results["backups"]


def one_sentence(text: str) -> str:
    assert "\n" not in text, text
    assert "Traceback" not in text, text
    return text


def keys_in(cluster: Cluster) -> set[str]:
    return {told(cluster, unit).get("config", "") for unit in cluster.units()}


def fault(cluster: Cluster, name: str) -> None:
    cluster.juju.config("s3", {"fault": name})
    words = f"Of no use: {name}" if name else "Bucket ready"
    cluster.juju.wait(
        lambda status: (
            status.apps["s3"].units[STORE].workload_status.message == words
            and jubilant.all_agents_idle(status, "s3", "etcd")
        ),
        delay=0.5,
    )


def test_given_a_provider_that_gives_nothing_yet_when_related_then_units_wait_for_it(
    cluster: Cluster,
):
    fault(cluster, "silent")
    cluster.juju.integrate("etcd:s3-credentials", "s3:s3-credentials")
    cluster.juju.wait(
        lambda status: all(
            unit.workload_status.current == "waiting"
            and "Waiting for s3 to give S3 credentials" in unit.workload_status.message
            for unit in status.apps["etcd"].units.values()
        ),
    )
    fault(cluster, "")
    relate(cluster)


@pytest.mark.parametrize("schema", [0, 1])
def test_given_a_bucket_by_relation_when_its_keys_are_replaced_then_backups_go_on(
    cluster: Cluster, schema: int
):
    cluster.juju.config("s3", {"schema": schema})
    cluster.juju.wait(lambda status: jubilant.all_agents_idle(status, "s3"))
    relate(cluster)
    first = created(cluster)
    assert first in listing(cluster)
    before = keys_in(cluster)
    assert len(before) == 1

    cluster.juju.run(STORE, "rotate")
    eventually(lambda: len(keys_in(cluster)) == 1 and not before & keys_in(cluster))
    cluster.wait_healthy(UNITS)
    second = created(cluster)
    assert all(each in listing(cluster) for each in (first, second))
    assert cluster.shell(cluster.leader(), "stat -c %a /etc/etcd/remote.json").strip() == "600"

    cluster.juju.remove_relation("etcd:s3-credentials", "s3:s3-credentials")
    eventually(lambda: not any(told(cluster, unit) for unit in cluster.units()))
    cluster.wait_healthy(UNITS)
    assert "s3-credentials" in one_sentence(cluster.refusal("create-backup"))


def test_given_a_bucket_related_and_a_remote_configured_when_looked_at_then_blocked(
    cluster: Cluster,
):
    relate(cluster)
    cluster.juju.config("etcd", {"backup-remote": "vault:backups"})
    try:
        cluster.juju.wait(
            lambda status: all(
                unit.workload_status.current == "blocked"
                and "Two places for backups" in unit.workload_status.message
                for unit in status.apps["etcd"].units.values()
            ),
        )
        assert "Two places" in one_sentence(cluster.refusal("create-backup"))
        cluster.put("goes", "on")
    finally:
        cluster.juju.cli("config", "etcd", "--reset", "backup-remote")
    cluster.wait_healthy(UNITS)
    created(cluster)


FAULTS = {
    "down": "cannot be reached",
    "read-only": "fails on its own side",
    "wrong-credentials": "refuses the credentials",
    "wrong-ca": "certificate",
}


def test_given_a_bucket_that_fails_when_used_then_a_sentence_says_so_and_writes_go_on(
    cluster: Cluster, tmp_path: Path
):
    relate(cluster)
    folder = cluster.credentials(tmp_path)
    addresses = [unit.public_address for unit in cluster.units().values()]
    with running(addresses, folder) as load:
        for name, words in FAULTS.items():
            fault(cluster, name)
            sentence = one_sentence(cluster.refusal("create-backup"))
            print(f"{name}: {sentence}")
            assert words in sentence
        fault(cluster, "")
        cluster.wait_healthy(UNITS)
    created(cluster)
    assert load.missing() == []
    assert load.longest_gap() < 5


@pytest.mark.minijuju
def test_given_a_bucket_without_room_when_used_then_a_sentence_says_so_and_nothing_is_listed(
    cluster: Cluster,
):
    relate(cluster)
    cluster.put("much", "x" * 100_000)
    before = listing(cluster)
    machine = cluster.juju.status().apps["s3"].units[STORE].machine
    with chaos(cluster.juju, "fill-disk", machine, undo="free-disk"):
        sentence = one_sentence(cluster.refusal("create-backup"))
        assert "fails on its own side" in sentence
        assert listing(cluster) == before
        cluster.agree(UNITS)
    created(cluster)


def test_given_a_bucket_named_by_the_host_when_used_then_backups_go_there(cluster: Cluster):
    relate(cluster)
    address = cluster.juju.status().apps["s3"].units[STORE].public_address
    cluster.exec_all(f"echo {address} s3.internal backups.s3.internal >> /etc/hosts")
    cluster.juju.config("s3", {"uri-style": "host"})
    eventually(
        lambda: all(
            "force_path_style = false" in told(cluster, unit).get("config", "")
            for unit in cluster.units()
        )
    )
    cluster.wait_healthy(UNITS)
    made = created(cluster)
    assert made in listing(cluster)
    assert made in store(cluster, "ls")
    cluster.run("verify-backup", wait=180, backup_id=made)


def store(cluster: Cluster, command: str) -> str:
    return cluster.shell(STORE, f"cd {FOLDER}/*/etcd/snapshots && {command}")


def test_given_a_remote_in_disorder_when_listed_and_restored_then_each_is_a_sentence(
    cluster: Cluster,
):
    relate(cluster)
    ids = []
    for number in range(4):
        cluster.put("counted", str(number))
        ids.append(created(cluster))
    headless, lonely, short, altered = ids
    store(cluster, f"rm {headless}.json")
    store(cluster, f"rm {lonely}.db*")
    store(cluster, f"truncate -s -100 {short}.db*")
    store(cluster, f"printf x | dd of=$(ls {altered}.db*) bs=1 seek=2000 conv=notrunc")
    store(cluster, "echo hello > notes.txt; echo '{}' > 20200101T000000Z-g1-r1-abcdef.json")
    # The server remembers listings for a while, as some object stores do.
    cluster.shell(STORE, "systemctl restart s3")
    eventually(lambda: "notes.txt" in listing(cluster), timeout=60)

    told = listing(cluster).splitlines()
    for about, words in (
        (headless, "has no manifest"),
        (lonely, "is not"),
        (short, "bytes"),
        ("notes.txt", "left alone"),
        ("20200101T000000Z", "manifest"),
    ):
        assert any(about in line and words in line for line in told), (about, told)
    before = cluster.members(cluster.leader())["header"]["cluster_id"]
    for broken in (headless, lonely, short):
        assert broken in one_sentence(cluster.refusal("restore", backup_id=broken))
        assert broken in one_sentence(cluster.refusal("verify-backup", backup_id=broken))
    assert "damaged" in one_sentence(cluster.refusal("verify-backup", backup_id=altered))
    cluster.run("restore", backup_id=altered)  # found out by the units, before anything stops
    leader = cluster.leader()
    eventually(
        lambda: "was given up" in cluster.units()[leader].workload_status.message, timeout=180
    )
    cluster.wait_healthy(UNITS)
    assert cluster.members(leader)["header"]["cluster_id"] == before
    assert cluster.get("counted") == "3"


def second_listing(second: Cluster) -> str:
    """The backups that another application sees, "" before it was told of the bucket."""
    with contextlib.suppress(jubilant.TaskError):
        return second.run("list-backups", format="json").results["backups"]
    return ""


def test_given_a_second_application_when_told_the_same_folder_then_it_touches_nothing_until_told(
    cluster: Cluster, etcd_charm: Path
):
    relate(cluster)
    cluster.juju.config("s3", reset="uri-style")
    cluster.juju.config("etcd", {"cluster-name": "shared"})
    cluster.wait_healthy(UNITS)
    first = created(cluster)
    cluster.juju.deploy(etcd_charm, "second", config={"backup-interval": "0"})
    second = Cluster(cluster.juju, "second")
    second.wait_healthy(1)
    cluster.juju.integrate("second:s3-credentials", "s3:s3-credentials")
    second.juju.config(
        "second",
        {"cluster-name": "shared", "backup-interval": "30s", "backup-retention": "last=1"},
    )
    eventually(lambda: first in second_listing(second), timeout=180)
    said = second.says("second/0", "belongs to", timeout=180)
    assert "nothing is written or deleted there" in said
    assert "`juju run second/leader create-backup take-over=true`" in said
    assert "belongs to" in one_sentence(second.refusal("create-backup"))
    kept = cluster.shell(STORE, f"ls -lR {FOLDER}/shared")
    time.sleep(40)  # longer than an interval
    assert cluster.shell(STORE, f"ls -lR {FOLDER}/shared") == kept

    taken = second.run("create-backup", wait=180, take_over=True).results["backup"]["id"]
    assert "belongs to application second" in one_sentence(cluster.refusal("create-backup"))
    cluster.juju.config("etcd", {"backup-interval": "30s"})
    said = cluster.says(cluster.leader(), "belongs to application second", timeout=180)
    assert "`juju run etcd/leader create-backup take-over=true`" in said
    assert taken in cluster.run("list-backups", format="json").results["backups"]
    cluster.juju.config("etcd", {"backup-interval": "0"})
    cluster.juju.config("etcd", reset="cluster-name")
    cluster.wait_healthy(UNITS)
