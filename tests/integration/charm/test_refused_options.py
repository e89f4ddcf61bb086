"""Options that etcd cannot have, and a machine's environment: no member is lost to either."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from cluster_under_test import Cluster, eventually

if TYPE_CHECKING:
    import pathlib

SQUATTER = "systemd-run --quiet --unit=squatter /usr/bin/python3 -m http.server 2390"
POISON = "HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9 ETCD_NAME=poison LC_ALL=xx"
LATE = """
import socket, time
until = time.monotonic() + 200
def listens(address):
    with socket.socket() as asked:
        asked.settimeout(0.2)
        return asked.connect_ex((address, {port})) == 0
while time.monotonic() < until and not any(listens(address) for address in {addresses}):
    time.sleep(0.05)
with socket.socket() as taken:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("", {port}))
    taken.listen()
    time.sleep(max(0, until - time.monotonic()))
"""
"""Takes a port when the first member listens on it: the other members' turns are still to come."""
PID = "systemctl show etcd --property=MainPID --value"


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm) -> Cluster:
    """Three healthy units that agree on the usual options."""
    juju.deploy(etcd_charm, "etcd", num_units=3)
    deployed = Cluster(juju)
    deployed.wait_healthy(3)
    return deployed


def peer_urls(cluster: Cluster) -> list[str]:
    """Those that etcd lists."""
    return [url for m in cluster.members(cluster.leader())["members"] for url in m["peerURLs"]]


def says(cluster: Cluster, *words: str) -> bool:
    """Whether each unit is blocked and says all this."""
    return all(
        unit.workload_status.current == "blocked"
        and all(word in unit.workload_status.message for word in words)
        for unit in cluster.units().values()
    )


def test_given_a_port_of_another_program_when_configured_then_refused_and_no_member_restarts(
    cluster: Cluster,
):
    unit = next(name for name, unit in cluster.units().items() if not unit.leader)
    cluster.shell(unit, SQUATTER)
    before = cluster.everywhere(PID)
    files = cluster.everywhere("grep -v ^initial- /etc/etcd/etcd.conf.yaml")
    cluster.juju.config("etcd", {"peer-port": 2390})
    eventually(
        lambda: says(
            cluster,
            "cannot start with peer-port=2390: another program listens on port 2390",
            f"({unit})",
            "`juju config etcd peer-port=2380`",
        ),
        timeout=120,
    )
    eventually(
        lambda: cluster.everywhere("grep -v ^initial- /etc/etcd/etcd.conf.yaml") == files,
        timeout=60,
    )
    cluster.agree(3)
    restarted = [u for u, pid in cluster.everywhere(PID).items() if before[u] != pid]
    assert unit not in restarted
    cluster.shell(unit, "systemctl stop squatter")
    cluster.juju.config("etcd", reset="peer-port")
    cluster.wait_healthy(3)


def test_given_a_port_that_is_taken_after_the_trial_when_it_fails_in_its_turn_then_all_go_back(
    cluster: Cluster, tmp_path: pathlib.Path
):
    addresses = [unit.public_address for unit in cluster.units().values()]
    code = LATE.format(addresses=addresses, port=2391)
    for unit in cluster.units():
        late = f"systemd-run --quiet --unit=late /usr/bin/python3 -c {shlex.quote(code)}"
        cluster.shell(unit, late)
    with cluster.writing(tmp_path) as load:
        cluster.juju.config("etcd", {"peer-port": 2391})
        eventually(
            lambda: says(
                cluster,
                "cannot start with peer-port=2391: another program listens on",
                "`juju config etcd peer-port=2380`",
            ),
            timeout=240,
        )
        cluster.agree(3)
        eventually(lambda: all(url.endswith(":2380") for url in peer_urls(cluster)), timeout=120)
    for unit in cluster.units():
        cluster.shell(unit, "systemctl stop late", ok=False)
    cluster.juju.config("etcd", reset="peer-port")
    cluster.wait_healthy(3)
    cluster.check(3, load)
    assert load.longest_gap() < 20


def test_given_a_port_of_the_systems_when_configured_then_the_options_own_sentence(
    cluster: Cluster,
):
    before = cluster.everywhere(PID)
    cluster.juju.config("etcd", {"port": 443})
    eventually(lambda: says(cluster, "port is 443: set it to a whole number from 1024"))
    assert cluster.everywhere(PID) == before
    cluster.juju.config("etcd", reset="port")
    cluster.wait_healthy(3)


def test_given_a_poisonous_environment_when_members_restart_in_turns_then_nothing_of_it_is_theirs(
    cluster: Cluster,
):
    folder = "/etc/systemd/system.conf.d"
    text = f"[Manager]\\nDefaultEnvironment={POISON}\\n"
    cluster.everywhere(f"mkdir -p {folder}; printf '{text}' > {folder}/poison.conf")
    cluster.everywhere("systemctl daemon-reexec")
    before = cluster.everywhere(PID)
    cluster.juju.config("etcd", {"peer-port": 2399, "max-txn-ops": 500})
    eventually(
        lambda: all(pid != before[unit] for unit, pid in cluster.everywhere(PID).items()),
        timeout=180,
    )
    cluster.wait_healthy(3)
    for text in cluster.everywhere(f"cat /proc/$({PID})/environ | tr '\\0' ' '").values():
        assert sorted(word.partition("=")[0] for word in text.split()) == [
            "LANG",
            "NOTIFY_SOCKET",
            "PATH",
        ]
    cluster.everywhere(f"rm -r {folder}; systemctl daemon-reexec")
