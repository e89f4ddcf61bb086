"""Three units and an authority: what a user of the cluster does, on one deployed model."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shlex
import tarfile

import pytest
from cluster_under_test import TLS, Cluster, eventually, run_on_host

UNITS = 3


@pytest.fixture(scope="module")
def cluster(juju, etcd_charm, easyrsa_charm) -> Cluster:
    """Three units of etcd whose client certificates come from EasyRSA."""
    juju.deploy(easyrsa_charm, "easyrsa")
    juju.deploy(etcd_charm, "etcd", num_units=UNITS)
    juju.integrate("etcd:certificates", "easyrsa:client")
    deployed = Cluster(juju)
    deployed.wait_healthy(UNITS)
    return deployed


def test_given_three_units_when_deployed_then_all_vote_in_one_cluster(cluster: Cluster):
    statuses = cluster.statuses()
    assert len(statuses) == UNITS
    assert len({each["Status"]["header"]["cluster_id"] for each in statuses}) == 1
    assert not any(each["Status"].get("isLearner") for each in statuses)
    assert len(cluster.hashes()) == 1


def test_given_a_cluster_when_looked_at_in_status_then_version_and_port_are_there(
    cluster: Cluster,
):
    status = cluster.juju.status().apps["etcd"]
    assert status.version.startswith("3.")
    assert all("2379/tcp" in unit.open_ports for unit in status.units.values())


@pytest.mark.parametrize("port", [2379, 2380])
def test_given_a_port_when_asked_in_plaintext_then_it_refuses(cluster: Cluster, port: int):
    for unit in cluster.units():
        url = f"http://{cluster.address(unit)}:{port}/version"
        answer = cluster.shell(
            unit,
            "python3 -c 'import urllib.request,sys\n"
            f'try: print(urllib.request.urlopen("{url}", timeout=5).status)\n'
            "except Exception as error: print(type(error).__name__, error)'",
        )
        assert not answer.startswith("200"), answer


def test_given_a_client_of_another_authority_when_it_asks_then_it_is_refused(cluster: Cluster):
    unit = cluster.leader()
    make = (
        "cd $(mktemp -d) && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=root -days 1 "
        "-keyout key.pem -out cert.pem 2>/dev/null && ETCDCTL_API=3 etcdctl --command-timeout=4s "
        f"--endpoints=https://127.0.0.1:2379 --cacert={TLS}/ca.pem --cert=cert.pem --key=key.pem "
        "get key 2>&1 || echo refused"
    )
    assert cluster.shell(unit, make).rstrip().endswith("refused")


def test_given_a_client_certificate_when_used_as_a_peer_then_it_is_refused(cluster: Cluster):
    unit = cluster.leader()
    ask = (
        f"echo | openssl s_client -connect 127.0.0.1:2380 -cert {TLS}/cert.pem -key {TLS}/key.pem "
        "-CAfile /etc/etcd/tls/peer/ca.pem -quiet -ign_eof 2>&1 | head -20; "
        f"python3 - <<'EOF'\n"
        "import http.client, ssl\n"
        "context = ssl.create_default_context(cafile='/etc/etcd/tls/peer/ca.pem')\n"
        "context.check_hostname = False\n"
        f"context.load_cert_chain('{TLS}/cert.pem', '{TLS}/key.pem')\n"
        "try:\n"
        "    connection = http.client.HTTPSConnection('127.0.0.1', 2380, context=context)\n"
        "    connection.request('GET', '/members')\n"
        "    print('answered', connection.getresponse().status)\n"
        "except OSError as error:\n"
        "    print('refused', error)\n"
        "EOF"
    )
    assert "answered" not in cluster.shell(unit, ask)


def test_given_a_cluster_when_health_is_asked_then_words_and_keys_agree(cluster: Cluster):
    results = cluster.run("health").results
    assert results["members"] == str(UNITS) or len(results["members"]) == UNITS
    assert "summary" in results
    print(json.dumps(results, indent=1))


def test_given_credentials_when_used_on_the_host_then_keys_are_put_and_got(
    cluster: Cluster, tmp_path: pathlib.Path
):
    folder = cluster.credentials(tmp_path)
    found = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert {"ca.crt", "client.crt", "client.key"} <= set(found)
    where = next(folder.rglob("ca.crt")).parent
    for unit in cluster.units():
        answer = run_on_host(
            "env",
            "ETCDCTL_API=3",
            "etcdctl",
            f"--endpoints=https://{cluster.address(unit)}:2379",
            f"--cacert={where}/ca.crt",
            f"--cert={where}/client.crt",
            f"--key={where}/client.key",
            "put",
            f"from-the-host-{unit}",
            "value",
        )
        assert answer.returncode == 0, answer.stderr


def serves(cluster: Cluster, folder: pathlib.Path) -> list[bool]:
    """Whether each member answers a client with what is in a folder."""
    where = next(folder.rglob("ca.crt")).parent
    tls = [f"--cacert={where}/ca.crt", f"--cert={where}/client.crt", f"--key={where}/client.key"]
    order = ["env", "ETCDCTL_API=3", "etcdctl", "--command-timeout=5s", *tls]
    return [
        run_on_host(*order, f"--endpoints={url}", "get", "any").returncode == 0
        for url in cluster.endpoints()
    ]


def test_given_a_client_certificate_when_revoked_then_every_member_refuses_it_and_no_other(
    cluster: Cluster, tmp_path: pathlib.Path
):
    for name in ("stays", "leaver"):
        (tmp_path / name).mkdir()
        cluster.credentials(tmp_path / name, name)
    assert all(serves(cluster, tmp_path / "stays") + serves(cluster, tmp_path / "leaver"))
    table = cluster.run("list-client-certificates").results["certificates"]
    assert "leaver" in table and "believed" in table
    cluster.run("revoke-client-certificate", common_name="leaver")
    eventually(lambda: not any(serves(cluster, tmp_path / "leaver")), timeout=60)
    assert all(serves(cluster, tmp_path / "stays"))
    text = cluster.run("list-client-certificates", format="json").results["certificates"]
    states = {each["common-name"]: each["state"] for each in json.loads(text)}
    assert (states["leaver"], states["stays"]) == ("revoked", "believed")
    assert "nothing was revoked" in cluster.refusal(
        "revoke-client-certificate", common_name="leaver"
    )


def test_given_a_tar_when_the_lines_of_its_readme_are_pasted_then_each_works(
    cluster: Cluster, tmp_path: pathlib.Path
):
    task = cluster.run("generate-client-certificates", common_name="root", key_type="rsa")
    assert "warning" not in task.results  # nobody asks who a client is
    folder = cluster.credentials(tmp_path, "pasting", key_type="rsa")
    where = next(folder.rglob("README")).parent
    lines = [line.strip() for line in (where / "README").read_text().splitlines()]
    pasted = [line for line in lines if line.startswith((". ./env", "etcdctl "))]
    assert len(pasted) == 6
    for told, shell in (("hello", pasted[:-1]), ("etcd-0", pasted[-1:])):
        printed = run_on_host("bash", "-ec", "\n".join([f"cd {where}", *shell]))
        assert printed.returncode == 0, printed.stderr
        assert told in printed.stdout
    key = run_on_host("openssl", "pkey", "-in", f"{where}/client.key", "-noout", "-text")
    assert "3072 bit" in key.stdout


def test_given_a_unit_when_its_certificates_are_listed_then_openssl_sees_the_same(
    cluster: Cluster,
):
    unit = cluster.leader()
    listed = json.loads(cluster.run("certificates", unit, format="json").results["certificates"])
    server, client = (next(e for e in listed if e["name"] == n) for n in ("server", "client"))
    at = f"{cluster.address(unit)}:2379"
    fetch = f"openssl s_client -connect {at} </dev/null 2>/dev/null"
    shown = run_on_host("bash", "-c", f"{fetch} | openssl x509 -noout -fingerprint -sha256 -text")
    digest = shown.stdout.splitlines()[0].rpartition("=")[2].replace(":", "").lower()
    assert digest == server["sha256"]
    # openssl writes IPv6 addresses out.
    assert all(san in shown.stdout for san in server["sans"] if ":" not in san)
    assert server["usages"] == ["server", "client"] and client["usages"] == ["client"]
    assert cluster.address(unit) in server["sans"]
    signs = {each["subject"] for each in listed if "sign" in each["usages"]}
    assert {server["issuer"], client["issuer"]} <= signs
    table = cluster.run("certificates", unit).results["certificates"]
    assert "NEEDED BY" in table and table == cluster.shell(unit, "etcd-admin certificates").strip()
    days = cluster.run("health", unit).results["certificate-days"]
    assert int(days["peer-authority"]) > 3600 and int(days["peer"]) < 366


def test_given_a_unit_when_logged_in_then_etcd_admin_answers_as_the_actions_do(cluster: Cluster):
    unit = cluster.leader()
    assert "IS LEARNER" in cluster.shell(unit, "etcd-admin member list")
    assert len(json.loads(cluster.shell(unit, "etcd-admin endpoint status -o json"))) == UNITS
    assert "cluster is healthy" in cluster.shell(unit, "etcd-admin health")
    ours = cluster.run("health", unit).results
    twin = json.loads(cluster.shell(unit, "etcd-admin health -o json"))
    assert twin["reason"] == ours["reason"] == "healthy"
    for name, days in ours["certificate-days"].items():
        assert twin[f"certificate-days.{name}"] == days
    assert twin["backups"] == ours["backups"]
    assert "no alarm" in cluster.shell(unit, "etcd-admin alarm list")
    assert "IS LEARNER" in cluster.run("member-list").results["members"]
    assert len(json.loads(cluster.run("endpoint-status", format="json").results["endpoints"])) == 3


def test_given_a_voter_when_leadership_is_moved_to_it_then_it_leads(cluster: Cluster):
    (follower, *_) = [
        each["Status"]["header"]["member_id"]
        for each in cluster.statuses()
        if each["Status"]["header"]["member_id"] != each["Status"]["leader"]
    ]
    cluster.run("move-leader", to=f"{follower:x}")
    assert {each["Status"]["leader"] for each in cluster.statuses()} == {follower}


def test_given_a_member_with_a_unit_when_its_removal_is_asked_then_it_is_refused(cluster: Cluster):
    sentence = cluster.refusal("member-remove", member="etcd-0")
    assert "juju remove-unit etcd/0" in sentence
    typed = "etcd-admin member remove etcd-0 2>&1"
    assert sentence in cluster.shell(cluster.leader(), typed, ok=False)
    assert "there is no member" in cluster.refusal("member-remove", member="nobody")
    cluster.agree(UNITS)


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, 123, True])
def test_given_a_common_name_that_cannot_be_used_when_asked_then_one_sentence_says_so(
    cluster: Cluster, name: object
):
    words = cluster.refusal("generate-client-certificates", common_name=name)
    assert "common-name" in words
    assert ("--string-args common-name=" in words) == (not isinstance(name, str))
    assert "\n" not in words


def test_given_a_snapshot_when_restored_then_the_whole_cluster_is_as_it_was(
    cluster: Cluster, tmp_path: pathlib.Path
):
    leader = cluster.leader()
    cluster.put("kept", "before")
    before = cluster.statuses()[0]["Status"]["header"]
    taken = cluster.run("snapshot", leader).results
    command = shlex.split(taken["copy"]["cmd"])
    assert command[:2] == ["juju", "scp"]
    cluster.juju.scp(command[2], tmp_path)
    copied = (tmp_path / pathlib.Path(command[2].partition(":")[2]).name).read_bytes()
    assert hashlib.sha256(copied).hexdigest() == taken["snapshot"]["sha256"]
    cluster.put("kept", "after")
    cluster.put("late", "lost")

    answer = cluster.run("restore", leader, path=taken["snapshot"]["path"]).results
    assert answer["revision"] == taken["snapshot"]["revision"]
    eventually(
        lambda: "before" in cluster.etcdctl(leader, "get kept 2>&1", ok=False).splitlines(),
        timeout=240,
    )
    cluster.wait_healthy(UNITS)

    assert cluster.get("late") == ""
    after = cluster.statuses()[0]["Status"]["header"]
    assert after["cluster_id"] != before["cluster_id"]
    assert after["revision"] > before["revision"]
    assert len(cluster.hashes()) == 1
    kept = cluster.shell(leader, "ls -d /var/lib/etcd/kept/*")
    assert kept.strip()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("rm -f {}", "no such"),
        ("echo hello > {}", "not a snapshot"),
        ("head -c 9000 $(ls /home/ubuntu/etcd-snapshots/*.db | head -1) > {}", "truncated"),
    ],
)
def test_given_a_file_that_is_no_snapshot_when_restored_then_nothing_changes(
    cluster: Cluster, make: str, words: str
):
    leader = cluster.leader()
    before = cluster.members(leader)["header"]["cluster_id"]
    cluster.run("snapshot", leader)
    cluster.shell(leader, make.format("/root/bad.db"))
    sentence = cluster.refusal("restore", leader, path="/root/bad.db")
    assert "\n" not in sentence
    print(sentence, words)
    assert cluster.members(leader)["header"]["cluster_id"] == before
    cluster.agree(UNITS)


def test_given_a_target_that_cannot_be_written_when_asked_then_nothing_changes(cluster: Cluster):
    assert "/proc" in cluster.refusal("snapshot", target="/proc/nowhere")
    taken = cluster.run("snapshot", cluster.leader()).results["snapshot"]["path"]
    assert "/proc" in cluster.refusal("restore", path=taken, target="/proc/nowhere")
    cluster.agree(UNITS)


def test_given_timings_that_exclude_each_other_when_configured_then_blocked_and_undisturbed(
    cluster: Cluster,
):
    cluster.juju.config("etcd", {"election-timeout": 100})
    try:
        cluster.juju.wait(
            lambda status: all(
                unit.workload_status.current == "blocked"
                and "election-timeout" in unit.workload_status.message
                for unit in status.apps["etcd"].units.values()
            ),
            timeout=120,
        )
        cluster.agree(UNITS)
    finally:
        cluster.juju.config("etcd", reset="election-timeout")
    cluster.wait_healthy(UNITS)


def test_given_a_new_heartbeat_when_configured_then_members_restart_one_after_another(
    cluster: Cluster,
):
    before = cluster.members(cluster.leader())["header"]["cluster_id"]
    cluster.juju.config("etcd", {"heartbeat-interval": 120})
    try:
        eventually(
            lambda: all(
                "heartbeat-interval: 120" in cluster.shell(unit, "cat /etc/etcd/etcd.conf.yaml")
                for unit in cluster.units()
            )
        )
        cluster.wait_healthy(UNITS)
        assert cluster.members(cluster.leader())["header"]["cluster_id"] == before
    finally:
        cluster.juju.config("etcd", reset="heartbeat-interval")
    cluster.wait_healthy(UNITS)


def test_given_tar_when_listed_then_only_its_owner_can_read_it(cluster: Cluster):
    task = cluster.run("generate-client-certificates", cluster.leader())
    remote = shlex.split(task.results["copy"]["cmd"])[2].partition(":")[2]
    assert cluster.shell(cluster.leader(), f"stat -c '%U %a' ~ubuntu/{remote}").split() == [
        "ubuntu",
        "600",
    ]


def verified(cluster: Cluster, name: str) -> bool:
    """Whether a client that dials each unit by this name verifies what it is shown."""
    told = [
        cluster.shell(
            unit,
            f"echo | openssl s_client -connect {cluster.address(unit)}:2379 -CAfile {TLS}/ca.pem "
            f"-verify_hostname {name.format(unit=unit.replace('/', '-'))} 2>&1",
            ok=False,
        )
        for unit in cluster.units()
    ]
    return all("Verify return code: 0 (ok)" in each for each in told)


def test_given_names_that_juju_does_not_know_when_configured_then_clients_verify_them(
    cluster: Cluster,
):
    look = "systemctl show etcd --property=MainPID"
    before = [cluster.shell(unit, look) for unit in cluster.units()]
    assert not verified(cluster, "{unit}.etcd.example")
    cluster.juju.config("etcd", {"certificate-extra-sans": "{unit}.etcd.example 203.0.113.9"})
    eventually(lambda: verified(cluster, "{unit}.etcd.example"), timeout=120)
    cluster.juju.config("etcd", {"certificate-extra-sans": "https://etcd.example"})
    eventually(
        lambda: all(
            "certificate-extra-sans has 'https://etcd.example'" in unit.workload_status.message
            for unit in cluster.units().values()
        )
    )
    assert verified(cluster, "{unit}.etcd.example"), "what was there before stays"
    cluster.juju.config("etcd", {"certificate-extra-sans": "{unit}.etcd.example"})
    cluster.wait_healthy(UNITS)
    assert [cluster.shell(unit, look) for unit in cluster.units()] == before, "none restarted"


def test_given_the_authority_goes_when_unrelated_then_the_cluster_signs_for_itself(
    cluster: Cluster, tmp_path: pathlib.Path
):
    cluster.juju.remove_relation("etcd:certificates", "easyrsa:client")
    eventually(
        lambda: (
            "easyrsa"
            not in json.dumps(
                [a.relations for a in [cluster.juju.status().apps["etcd"]]], default=str
            )
        )
    )
    cluster.wait_healthy(UNITS)
    folder = cluster.credentials(tmp_path)
    assert tarfile.is_tarfile(next(folder.glob("*.tar.gz")))
    cluster.put("own", "authority")
    assert cluster.get("own") == "authority"
    assert verified(cluster, "{unit}.etcd.example"), "by its own authority, too"
    cluster.juju.config("etcd", reset="certificate-extra-sans")
    eventually(lambda: not verified(cluster, "{unit}.etcd.example"), timeout=120)
