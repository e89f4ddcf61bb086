"""Who is on a unit without being root gets nothing of the charm's, and our services little."""

from __future__ import annotations

import json
import shlex

import bucket
import pytest
from cluster_under_test import Cluster, eventually

UNITS = 2
MOST = 3.0  # exposure by systemd-analyze, whose scale ends at 10
CHARM = "/var/lib/juju/agents/unit-{}/charm"


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Two units with a remote."""
    store = bucket.serve(juju)[1]
    juju.deploy(etcd_charm, "etcd", num_units=UNITS, config={"backup-interval": "30s"})
    bucket.use(juju, store)
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def as_etcd(cluster: Cluster, unit: str, command: str) -> str:
    """What etcd's user prints; it has no shell of its own."""
    become = "setpriv --reuid=etcd --regid=etcd --clear-groups sh -c"
    return cluster.shell(unit, f"{become} {shlex.quote(command)} 2>&1", ok=False)


def exposure(cluster: Cluster, unit: str, service: str) -> float:
    text = cluster.shell(unit, f"systemd-analyze security --no-pager {service} | tail -1")
    return float(text.split("exposure level for")[1].split(":")[1].split()[0])


def serve(cluster: Cluster, unit: str) -> str:
    """Serve a file of root's to the peers; answers with its URL."""
    charm = CHARM.format(unit.replace("/", "-"))
    code = (
        "import sys, pathlib; from backup import peer_transfer; "
        "at = pathlib.Path('/etc/etcd/tls/peer'); "
        "made = peer_transfer.Share("
        "pathlib.Path('/root/shared file'), sys.argv[1], sys.argv[1], 7379, "
        "*(at / f'{name}.pem' for name in ('cert', 'key', 'ca'))); "
        "made.start(); print(made.url)"
    )
    return cluster.shell(
        unit,
        "umask 077; echo shared > '/root/shared file'; "
        f"cd {charm} && PYTHONPATH=lib:src venv/bin/python -c {shlex.quote(code)} "
        f"{cluster.address(unit)}",
    ).strip()


@pytest.mark.parametrize("service", ["etcd", "etcd-keeper", "etcd-failed", "etcd-orphaned"])
def test_given_a_service_of_ours_when_analyzed_then_it_can_do_little(cluster: Cluster, service):
    assert exposure(cluster, cluster.leader(), f"{service}.service") < MOST


def test_given_a_share_when_a_peer_fetches_then_a_user_of_its_own_serves_it(cluster: Cluster):
    unit, other = cluster.units()
    url = serve(cluster, unit)
    tls = "/etc/etcd/tls/peer"
    fetch = f"curl -sS --cert {tls}/cert.pem --key {tls}/key.pem --cacert {tls}/ca.pem {url}"
    try:
        eventually(lambda: cluster.shell(other, fetch, ok=False) == "shared\n", timeout=15)
        assert exposure(cluster, unit, "etcd-share.service") < MOST
        pid = "$(systemctl show -P MainPID etcd-share)"
        status = cluster.shell(unit, f"cat /proc/{pid}/status")
        assert status.split("Uid:")[1].split()[0] != "0"
        assert int(status.split("CapEff:")[1].split()[0], 16) == 0
    finally:
        cluster.shell(unit, "systemctl stop etcd-share")


def restored(cluster: Cluster) -> bool:
    """Whether the snapshot's value is read: no client is answered before the confirmation."""
    try:
        return cluster.get("kept") == "in the snapshot"
    except AssertionError:
        return False


def test_given_a_restore_of_a_file_when_confirmed_then_it_is_served_no_more(cluster: Cluster):
    cluster.put("kept", "in the snapshot")
    taken = cluster.run("snapshot").results["snapshot"]["path"]
    cluster.put("kept", "after it")
    leader = cluster.leader()
    cluster.run("restore", leader, path=taken)
    assert cluster.shell(leader, "systemctl is-active etcd-share").strip() == "active"
    refused = cluster.refusal("restore", leader, path=taken)
    assert "a restore is under way already" in refused
    assert cluster.shell(leader, "systemctl is-active etcd-share").strip() == "active"
    eventually(lambda: restored(cluster), timeout=120)
    cluster.wait_healthy(UNITS)
    stopped = "systemctl is-active etcd-share || true"
    eventually(lambda: cluster.shell(leader, stopped).strip() == "inactive", timeout=30)


def test_given_etcds_user_when_it_looks_around_then_it_has_what_etcd_runs_on(cluster: Cluster):
    unit = cluster.leader()
    cluster.run("defrag", unit)  # which makes the lock
    shell = cluster.shell(unit, "getent passwd etcd").strip().rpartition(":")[2]
    assert shell.endswith(("/nologin", "/false"))
    assert as_etcd(cluster, unit, "ls /var/lib/etcd/current/etcd").strip() == "member"
    assert "BEGIN" in as_etcd(cluster, unit, "head -1 /etc/etcd/tls/peer/key.pem")
    for command in (
        "cat /etc/etcd/tls/client/key.pem",
        "cat /etc/etcd/tls/founder/key.pem",
        "cat /etc/etcd/remote.json",
        "cat /etc/etcd/backup-keys.json",
        "ls /var/lib/etcd/kept",
        "ln -s /etc/gshadow /var/lib/etcd/fetched",
        "ln -s /etc/profile.d /var/lib/etcd/current/x",
        "rm /etc/etcd/tls/peer/ca.pem",
        "exec 9< /run/etcd-charm/member.lock",
    ):
        assert "ermission denied" in as_etcd(cluster, unit, command), command


def test_given_a_root_of_an_earlier_revision_when_a_hook_runs_then_it_is_taken_back(
    cluster: Cluster,
):
    """Also what the distribution's package does to it whenever it is configured."""
    unit = cluster.leader()
    cluster.shell(
        unit,
        "touch /root/before; chmod 700 /var/lib/etcd; "
        "chown -R etcd: /var/lib/etcd /etc/etcd/tls/peer-* /etc/etcd/tls/client-*",
    )
    plant = (
        "rm -rf /var/lib/etcd/backup && ln -s /etc/profile.d /var/lib/etcd/backup && echo planted"
    )
    assert as_etcd(cluster, unit, plant).strip() == "planted"
    cluster.juju.config("etcd", {"heartbeat-interval": 150})
    look = "stat -c '%U:%G %a' /var/lib/etcd /var/lib/etcd/current"
    eventually(lambda: cluster.shell(unit, look).split("\n")[0] == "root:etcd 710", timeout=90)
    cluster.wait_healthy(UNITS)
    assert "Permission denied" in as_etcd(cluster, unit, "cat /etc/etcd/tls/client/key.pem")
    assert cluster.shell(unit, "find /etc/profile.d -newer /root/before").strip() == ""
    cluster.run("create-backup", unit, wait=180)
    assert cluster.shell(unit, "stat -c %F /var/lib/etcd/backup").strip() == "directory"
    cluster.put("still", "there")
    assert cluster.get("still") == "there"


def test_given_a_directory_of_a_stranger_when_root_asks_etcd_admin_there_then_its_modules_stay_out(
    cluster: Cluster,
):
    unit = cluster.leader()
    trap = "open('/root/owned', 'w').write(__file__); raise SystemExit(3)"
    plant = "; ".join(f'echo "$TRAP" > {name}.py' for name in ("dataclasses", "json", "backup"))
    cluster.shell(
        unit,
        f"TRAP={shlex.quote(trap)}; mkdir -p /tmp/shared && cd /tmp/shared && {plant}; "
        "printf '#!/bin/sh\ntouch /root/owned\n' | tee rclone etcdutl env python > /dev/null; "
        "chmod 755 rclone etcdutl env python; chown -R nobody: /tmp/shared",
    )
    made = cluster.shell(
        unit,
        "cd /tmp/shared && umask 0 && PATH=/tmp/shared:$PATH PYTHONPATH=/tmp/shared "
        "ETCDCTL_ENDPOINTS=x RCLONE_CONFIG=/tmp/shared/x HTTPS_PROXY=http://127.0.0.1:1 "
        "/usr/local/bin/etcd-admin backup create -o json",
    )
    name = json.loads(made)["id"]
    proven = cluster.shell(
        unit, f"cd /tmp/shared && /usr/local/bin/etcd-admin backup verify {name}"
    )
    assert "is proven" in proven
    assert cluster.shell(unit, "test ! -e /root/owned && echo none").strip() == "none"
    loose = "find /var/lib/etcd /etc/etcd /run/etcd-charm -perm /022 ! -type l"
    assert cluster.shell(unit, loose).strip() == ""
