"""A machine that is not etcd's alone: other applications, other etcds, and what a unit leaves."""

from __future__ import annotations

import pathlib
import shlex
from typing import TYPE_CHECKING

import jubilant
import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = (
    "/etc/etcd /var/lib/etcd-charm /var/lib/etcd-keeper /run/etcd-charm/idle.json "
    "/usr/local/bin/etcd-admin /home/ubuntu/etcd_client_credentials.tar.gz "
    "/etc/systemd/system/etcd.service /etc/systemd/system/etcd-keeper.service "
    "/etc/systemd/system/etcd-failed.service /etc/systemd/system/etcd-orphaned.service "
    "/etc/systemd/system/etcd-orphaned.path "
    "/etc/systemd/system/etcd-wake.service /etc/systemd/system/etcd-wake.path"
)
SECRET = f"ls -d {OURS} 2>/dev/null; grep -rl 'PRIVATE KEY' /etc /run /usr/local /home || true"
RUNS = "systemctl list-units --all --plain --no-legend 'etcd*' | awk '$3 == \"active\"'"
ENABLED = "systemctl list-unit-files --no-legend 'etcd*' | awk '$2 == \"enabled\"'"


@pytest.fixture(scope="module")
def machine(juju: jubilant.Juju, pack_charm: Callable[..., pathlib.Path], charms) -> str:
    """A machine that stays, because another application's unit is on it."""
    juju.deploy(pack_charm(charms / "probe"), "companion")
    juju.wait(lambda status: bool(placed(status, "companion")), timeout=120)
    return placed(juju.status(), "companion")


def placed(status: jubilant.Status, application: str) -> str:
    """The machine of an application's only unit, "" while it has none."""
    if application not in status.apps:
        return ""
    return next((unit.machine for unit in status.apps[application].units.values()), "")


def on(juju: jubilant.Juju, machine: str, command: str) -> str:
    """What a command prints as root on a machine, whatever units it has."""
    return juju.ssh(machine, f"sudo sh -c {shlex.quote(command)}").strip()


def deploy(juju: jubilant.Juju, charm: pathlib.Path, application: str, machine: str) -> Cluster:
    juju.deploy(charm, application, to=machine)
    return Cluster(juju, application)


@pytest.fixture
def first(juju: jubilant.Juju, etcd_charm: pathlib.Path, machine: str) -> Cluster:
    """An application on it, with a key."""
    if "etcd" in juju.status().apps:
        return Cluster(juju)
    made = deploy(juju, etcd_charm, "etcd", machine)
    made.wait_healthy(1)
    made.put("first", "there")
    return made


def remove(cluster: Cluster, *flags: str) -> None:
    """Remove the application; its machine stays."""
    if flags:
        cluster.juju.cli("remove-application", cluster.app, "--no-prompt", *flags)
    else:
        cluster.juju.remove_application(cluster.app)
    cluster.juju.wait(lambda status: cluster.app not in status.apps, timeout=180)


def blocked(cluster: Cluster, words: str) -> str:
    """The sentence of an application's only unit, once it is blocked and says so."""

    def said(status: jubilant.Status) -> bool:
        shown = [unit.workload_status for unit in status.apps[cluster.app].units.values()]
        return any(s.current == "blocked" and words in s.message for s in shown)

    cluster.juju.wait(said, timeout=120)
    (unit,) = cluster.units().values()
    return unit.workload_status.message


def read(cluster: Cluster, key: str) -> str:
    """What is read, "" while a restore lets no client in."""
    try:
        return cluster.get(key)
    except AssertionError:
        return ""


def traces(juju: jubilant.Juju, machine: str) -> str:
    """Every file of etcd's on the machine but its data, by content, and what runs."""
    look = (
        "find /etc/etcd /usr/local/bin /etc/systemd/system /var/lib/etcd-charm -type f "
        "-exec sha256sum {} + | sort; readlink /etc/etcd/tls/*; "
        "systemctl show -P MainPID etcd etcd-keeper; systemctl is-enabled etcd etcd-keeper; "
        "ls /var/lib/etcd; dpkg-query -l 'etcd*' rclone zstd | sort"
    )
    return on(juju, machine, look)


def test_given_a_machine_of_an_application_when_another_comes_and_goes_then_nothing_is_touched(
    juju: jubilant.Juju, etcd_charm: pathlib.Path, machine: str, first: Cluster
):
    before = traces(juju, machine)
    second = deploy(juju, etcd_charm, "second", machine)
    said = blocked(second, "belongs to etcd/0")
    print(said)
    assert "juju add-unit second" in said
    assert "juju remove-unit second/0" in said
    refused = second.refusal("generate-client-certificates", "second/0")
    assert "nothing was done" in refused
    juju.config("second", {"port": 12379})
    juju.wait(lambda status: jubilant.all_agents_idle(status, "second"), timeout=60)
    assert traces(juju, machine) == before
    remove(second)
    first.wait_healthy(1)
    assert traces(juju, machine) == before
    assert first.get("first") == "there"


def reboot(juju: jubilant.Juju, machine: str) -> None:
    juju.cli("chaos", "reboot", machine)
    running = "systemctl is-system-running || true"
    eventually(lambda: on(juju, machine, running) in ("running", "degraded"), timeout=90)


def nothing_is_left(juju: jubilant.Juju, machine: str) -> None:
    """Nothing that runs, starts at boot or is secret."""
    assert on(juju, machine, RUNS) == ""
    assert on(juju, machine, ENABLED) == ""
    assert on(juju, machine, SECRET) == ""
    assert on(juju, machine, "pgrep -x etcd || true") == ""


@pytest.mark.minijuju
def test_given_a_machine_that_stays_when_the_application_is_removed_then_its_data_alone_is_left(
    juju: jubilant.Juju, etcd_charm: pathlib.Path, machine: str, first: Cluster
):
    first.run("generate-client-certificates")
    remove(first)
    nothing_is_left(juju, machine)
    kept = on(juju, machine, "ls -d /var/lib/etcd-removed/*")
    assert "etcd-0" in kept
    assert kept in juju.cli("debug-log", "--replay", "--no-tail", "--include", "etcd/0")
    assert on(juju, machine, f"test -f {kept}/current/etcd/member/snap/db && echo yes") == "yes"
    assert on(juju, machine, "stat -c '%U %a' /var/lib/etcd-removed") == "root 700"
    reboot(juju, machine)
    nothing_is_left(juju, machine)
    second = deploy(juju, etcd_charm, "next", machine)
    second.wait_healthy(1)
    assert second.get("first") == ""
    restored = second.run(
        "restore",
        path=f"{kept}/current/etcd/member/snap/db",
        allow_missing_hash=True,
    )
    assert restored.results
    eventually(lambda: read(second, "first") == "there", timeout=120)
    second.wait_healthy(1)
    remove(second)
    nothing_is_left(juju, machine)


@pytest.mark.minijuju
@pytest.mark.parametrize("idle", [False, True], ids=["keeper runs", "keeper is dead"])
def test_given_a_machine_that_stays_when_removed_by_force_then_its_data_alone_is_left(
    juju: jubilant.Juju, etcd_charm: pathlib.Path, machine: str, idle: bool
):
    gone = deploy(juju, etcd_charm, "idle" if idle else "forced", machine)
    gone.wait_healthy(1)
    gone.put("first", "there")
    on(juju, machine, f"systemctl {'stop' if idle else 'is-active'} etcd-keeper")
    remove(gone, "--force", "--no-wait")
    secrets = f"ls -d {OURS} 2>/dev/null | grep -v etcd-charm; true"
    eventually(lambda: on(juju, machine, secrets) == "", timeout=60)
    eventually(lambda: on(juju, machine, RUNS + "; " + ENABLED) == "", timeout=30)
    assert on(juju, machine, "pgrep -x etcd || true") == ""
    reboot(juju, machine)
    assert on(juju, machine, RUNS + "; " + ENABLED + "; pgrep -x etcd || true") == ""
    assert on(juju, machine, "stat -c '%U %a' /var/lib/etcd") == "root 700"
    assert on(juju, machine, "ls /var/lib/etcd/current/etcd") == "member"
    before = on(juju, machine, "find /var/lib/etcd -type f | sort | xargs sha256sum")
    later = deploy(juju, etcd_charm, "again" if idle else "later", machine)
    said = blocked(later, "in model")
    print(said)
    assert before == on(juju, machine, "find /var/lib/etcd -type f | sort | xargs sha256sum")
    aside = said.partition("`sudo sh -c '")[2].partition("'`")[0]
    on(juju, machine, aside)
    juju.config(later.app, {"heartbeat-interval": 150})
    later.wait_healthy(1)
    assert later.get("first") == ""
    remove(later)
    nothing_is_left(juju, machine)


@pytest.mark.minijuju
def test_given_an_etcd_run_by_hand_when_deployed_beside_it_then_it_runs_on_and_two_ways_are_named(
    juju: jubilant.Juju, etcd_charm: pathlib.Path, machine: str
):
    """The distribution's package is on the machine."""
    on(juju, machine, "apt-get -qq update; apt-get -qq install etcd-server etcd-client")
    on(juju, machine, "rm -rf /var/lib/etcd; install -d -o etcd -g etcd /var/lib/etcd")
    on(juju, machine, "systemctl start etcd.service && ETCDCTL_API=3 etcdctl put by hand")
    before = on(juju, machine, "systemctl show -P MainPID etcd")
    application = deploy(juju, etcd_charm, "beside", machine)
    said = blocked(application, "etcd of its own")
    print(said)
    assert on(juju, machine, "ETCDCTL_API=3 etcdctl get by --print-value-only") == "hand"
    assert on(juju, machine, "systemctl show -P MainPID etcd") == before
    remove(application)
    assert on(juju, machine, "ETCDCTL_API=3 etcdctl get by --print-value-only") == "hand"
    assert on(juju, machine, "systemctl show -P MainPID etcd") == before
    application = deploy(juju, etcd_charm, "following", machine)
    said = blocked(application, "etcd of its own")
    on(juju, machine, said.partition("`sudo sh -c '")[2].partition("'`")[0])
    juju.config("following", {"heartbeat-interval": 150})
    application.wait_healthy(1)
    path = said.partition("path=")[2].partition(" ")[0]
    application.run("restore", path=path, allow_missing_hash=True)
    eventually(lambda: read(application, "by") == "hand", timeout=120)


@pytest.mark.minijuju
def test_given_a_unit_that_left_when_its_keys_come_back_then_the_cluster_believes_them_no_more(
    juju: jubilant.Juju, etcd_charm: pathlib.Path
):
    """Somebody has copied them before the unit was removed."""
    juju.deploy(etcd_charm, "revoking", num_units=2)
    cluster = Cluster(juju, "revoking")
    cluster.wait_healthy(2)
    stays = cluster.leader()
    leaves = next(unit for unit in cluster.units() if unit != stays)
    copied = cluster.shell(leaves, "tar -C /etc/etcd -czh tls | base64 -w0").strip()
    cluster.shell(
        stays, f"mkdir /root/stolen && echo {copied} | base64 -d | tar -C /root/stolen -xz"
    )
    pid = cluster.shell(stays, "systemctl show -P MainPID etcd")

    def believed(name: str) -> bool:
        """Whether etcd talks to who has copied these; peers look at addresses as well."""
        at = f"/root/stolen/tls/{name}"
        url = f"https://{cluster.address(stays)}:2379/version"
        told = cluster.shell(
            stays,
            f"curl -s --http1.1 --cert {at}/cert.pem --key {at}/key.pem -k {url} || true",
        )
        return "etcdserver" in told

    assert believed("client")
    assert believed("server")
    juju.remove_unit(leaves)
    cluster.wait_healthy(1)
    eventually(lambda: not believed("client"), timeout=120)
    assert not believed("server")
    cluster.put("still", "there")
    assert cluster.shell(stays, "systemctl show -P MainPID etcd") == pid
    juju.add_unit("revoking")
    cluster.wait_healthy(2)
