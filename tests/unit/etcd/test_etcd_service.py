"""Configuration, unit file, state and reasons, without systemd."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import signal
import ssl
import subprocess

import pytest
import yaml

import errors
from cluster import view as views
from etcd import config as etcd_config
from etcd import data, service
from etcd import failure as failures
from etcd import stamp as stamps
from machine import processes

CONFIG = etcd_config.Config(
    name="etcd-0",
    data_dir=pathlib.Path("/var/lib/etcd/current/etcd"),
    version=(3, 5, 16),
    listen_client_urls=("https://198.18.0.10:2379", "https://127.0.0.1:2379"),
    advertise_client_urls=("https://198.18.0.10:2379",),
    listen_peer_urls=("https://198.18.0.10:2380",),
    advertise_peer_urls=("https://198.18.0.10:2380",),
)


@pytest.mark.parametrize("version", [(3, 4, 23), (3, 5, 16), (3, 6, 11), (3, 7, 1)])
def test_given_a_version_when_rendered_then_only_its_options_are_used(version):
    text = etcd_config.render(dataclasses.replace(CONFIG, version=version))
    told = yaml.safe_load(text)
    experimental = [key for key in told if key.startswith("experimental-")]
    assert bool(experimental) == (version < (3, 6, 0))
    assert ("feature-gates" in told) == (version >= (3, 6, 0))
    assert told["initial-cluster-state"] == "existing"
    assert told["pre-vote"] is True and told["strict-reconfig-check"] is True
    assert told["client-transport-security"]["client-cert-auth"] is True
    assert told["peer-transport-security"]["client-cert-auth"] is True
    assert told["quota-backend-bytes"] == 8 * 1024**3
    assert told["auto-compaction-retention"] == "0"
    assert "http://" not in text


def test_given_a_founding_when_rendered_then_the_initial_cluster_is_told():
    founding = dataclasses.replace(
        CONFIG,
        token="abc",
        initial=etcd_config.Initial.NEW,
        initial_cluster="etcd-0=https://198.18.0.10:2380",
    )
    told = yaml.safe_load(etcd_config.render(founding))
    assert told["initial-cluster"] == "etcd-0=https://198.18.0.10:2380"
    assert told["initial-cluster-token"] == "abc"
    assert told["initial-cluster-state"] == "new"


def test_given_a_plaintext_url_when_configured_then_it_is_refused():
    with pytest.raises(errors.EtcdError, match="only serves TLS"):
        dataclasses.replace(CONFIG, metrics_urls=("http://127.0.0.1:2381",))


def test_given_addresses_when_made_urls_then_ipv6_gets_brackets():
    assert etcd_config.url("198.18.0.10", 2379) == "https://198.18.0.10:2379"
    assert etcd_config.url("fd00::1", 2379) == "https://[fd00::1]:2379"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose systemctl is a script that answers from a file and writes down its calls."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("systemctl", "journalctl"):
        (bin_ / name).write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.calls\n'
            f"cat {tmp_path}/{name}.says 2>/dev/null\nexit 0\n"
        )
        (bin_ / name).chmod(0o755)
    etcd = tmp_path / "lib" / "etcd"
    etcd.parent.mkdir()
    etcd.write_text('#!/bin/sh\necho "etcd Version: 3.5.16"\n')
    etcd.chmod(0o755)
    monkeypatch.setattr(processes, "PATH", f"{bin_}:/usr/bin:/bin")
    monkeypatch.setattr(etcd_config, "CONFIG", tmp_path / "etc" / "etcd.conf.yaml")
    monkeypatch.setattr(etcd_config, "CLOSED_CONFIG", tmp_path / "etc" / "etcd-closed.conf.yaml")
    monkeypatch.setattr(etcd_config, "TLS", tmp_path / "tls")
    monkeypatch.setattr(service, "UNIT_FILE", tmp_path / "etcd.service")
    monkeypatch.setattr(service, "STARTED", tmp_path / "started")
    monkeypatch.setattr(service, "INSTALLED", tmp_path / "lib")
    return tmp_path


def test_given_a_configuration_when_ensured_twice_then_only_the_first_changes(machine):
    assert etcd_config.ensure_config(CONFIG)
    assert not etcd_config.ensure_config(CONFIG)
    assert etcd_config.ensure_config(dataclasses.replace(CONFIG, heartbeat_ms=200))


def test_given_a_unit_file_when_ensured_then_it_is_hardened_and_cannot_start_unconfigured(machine):
    assert service.unit_root() is None
    assert service.ensure_unit(pathlib.Path("/srv/etcd"))
    assert service.unit_root() == pathlib.Path("/srv/etcd")
    assert not service.ensure_unit(pathlib.Path("/srv/etcd"))
    text = service.UNIT_FILE.read_text()
    for line in (
        f"ConditionPathExists={etcd_config.CONFIG}",
        "ConditionPathExists=/srv/etcd/current/stamp.json",
        "ConditionPathExists=!/srv/etcd/current/fenced",
        f"ConditionPathExists={service.HOME}",
        f"ExecCondition=+/bin/sh -c '[ ! -e /srv/etcd/current/fenced ] && [ -d {service.HOME} ]'",
        "ReadWritePaths=/srv/etcd",
        "User=etcd",
        "Type=notify",
        "ProtectSystem=strict",
        "NoNewPrivileges=true",
        "PrivateTmp=true",
        "LimitNOFILE=65536",
    ):
        assert line in text.splitlines()
    assert f" {service.INSTALLED}/etcd --config-file $$c'" in text
    assert (machine / "systemctl.calls").read_text() == "daemon-reload\n"


@pytest.mark.parametrize(
    ("active", "restarts", "state"),
    [
        ("active", 0, views.Service.RUNNING),
        ("active", 7, views.Service.RUNNING),
        ("activating", 0, views.Service.RUNNING),
        ("activating", 3, views.Service.FAILED),
        ("failed", 0, views.Service.FAILED),
        ("inactive", 0, views.Service.STOPPED),
        ("deactivating", 0, views.Service.RUNNING),
    ],
)
def test_given_what_systemd_says_when_asked_then_the_state_is_named(
    machine, active, restarts, state
):
    assert service.state() is views.Service.ABSENT
    service.ensure_unit(machine)
    (machine / "systemctl.says").write_text(f"ActiveState={active}\nNRestarts={restarts}\n")
    assert service.state() is state


def test_given_a_failed_service_when_started_then_the_limits_are_reset_first(machine):
    service.ensure_unit(machine)
    (machine / "systemctl.says").write_text("ActiveState=failed\nNRestarts=6\n")
    (machine / "systemctl.calls").unlink()
    assert service.start()
    calls = (machine / "systemctl.calls").read_text().splitlines()
    assert calls[1:] == ["reset-failed etcd.service", "start --no-block etcd.service"]


@pytest.mark.parametrize("late", [False, True])
def test_given_a_cluster_that_ends_when_stopped_then_killed_if_that_takes_long(
    machine, monkeypatch, late
):
    service.ensure_unit(machine)
    (machine / "systemctl.says").write_text("ActiveState=active\n")
    if late:  # it waits for an end that only the kill brings
        script = machine / "bin" / "systemctl"
        wait = f"[ $1 != stop ] || grep -q ^kill {machine}/systemctl.calls || exec sleep 5"
        script.write_text(script.read_text().replace("exit 0", f"{wait}\nexit 0"))
    (machine / "systemctl.calls").unlink()
    monkeypatch.setattr(service, "GRACE", 0.3)
    assert service.stop(last=True)
    calls = (machine / "systemctl.calls").read_text().splitlines()
    killed = ["kill --signal=KILL etcd.service"] if late else []
    stop = "stop etcd.service"
    assert calls[1:] == [stop, *killed, stop, "reset-failed etcd.service"]


def exec_start() -> str:
    """The shell text of ExecStart, as systemd would run it here."""
    text = service.UNIT_FILE.read_text()
    line = next(x for x in text.splitlines() if x.startswith("ExecStart="))
    shell = line.partition("/bin/sh -c '")[2].rstrip("'")
    shell = shell.replace("/run/etcd", str(service.STARTED.parent))
    return shell.replace("%%", "%").replace("$$", "$")


def started(machine) -> str:
    """What ExecStart does; the configuration that etcd is given."""
    shell = exec_start().replace("exec ", "echo ")
    made = subprocess.run(["/bin/sh", "-c", shell], check=True, capture_output=True, text=True)
    return made.stdout.split()[-1]


def test_given_a_machines_environment_when_etcd_starts_then_nothing_of_it_is_passed_on(machine):
    (service.INSTALLED / "etcd").write_text("#!/bin/sh\n/usr/bin/env\n")
    service.ensure_unit(machine)
    poison = {"NOTIFY_SOCKET": "@/systemd/1 2", "PATH": "/usr/bin:/bin", "LD_PRELOAD": ""}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "ETCD_NAME", "TMPDIR"):
        poison[name] = "poison"
    for name in ("LC_ALL", "GODEBUG", "GOMEMLIMIT", "SSL_CERT_FILE", "ETCDCTL_API"):
        poison[name] = "poison"
    made = subprocess.run(
        ["/bin/sh", "-c", exec_start()], env=poison, check=True, capture_output=True, text=True
    )
    of_the_shell = ("PWD=", "_=", "SHLVL=", "OLDPWD=", "ETCD_UNSUPPORTED_ARCH=")
    passed = sorted(x for x in made.stdout.splitlines() if not x.startswith(of_the_shell))
    assert passed == ["LANG=C.UTF-8", "NOTIFY_SOCKET=@/systemd/1 2", f"PATH={processes.PATH}"]
    assert "UnsetEnvironment=LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT" in service.UNIT_FILE.read_text()


@pytest.mark.parametrize("obeys", [True, False])
def test_given_etcd_that_must_end_when_systemd_does_not_obey_then_it_is_killed(
    machine, monkeypatch, obeys
):
    bin_ = machine / "bin"
    (bin_ / "systemctl").write_text(
        '#!/bin/sh\ncase "$1" in\nshow) echo ActiveState=active; echo MainPID=4242;;\n'
        f"stop) exit {0 if obeys else 1};;\nesac\n"
    )
    service.ensure_unit(pathlib.Path("/srv/etcd"))
    killed = []
    monkeypatch.setattr(service.os, "kill", lambda pid, number: killed.append((pid, number)))
    service.end()
    assert killed == ([] if obeys else [(4242, signal.SIGKILL)])


def closed_root(machine) -> data.Root:
    """A unit with restored data that nobody has confirmed yet."""
    root = data.Root(machine / "root", owner=None)
    root.new_current(stamps.Stamp("t", 2, None, "etcd-0"), closed=True)
    service.ensure_unit(root.path)
    etcd_config.ensure_config(CONFIG)
    return root


def test_given_closed_data_when_etcd_starts_then_only_peers_are_believed_at_its_client_port(
    machine,
):
    assert not service.is_closed(), "no unit file yet"
    root = closed_root(machine)
    assert service.is_closed()
    assert started(machine) == str(etcd_config.CLOSED_CONFIG)
    closed = yaml.safe_load(etcd_config.CLOSED_CONFIG.read_text())
    opened = yaml.safe_load(etcd_config.CONFIG.read_text())
    peers = closed.pop("client-transport-security")
    assert peers == closed["peer-transport-security"]
    assert peers["client-cert-auth"] is True and peers["trusted-ca-file"].endswith("peer/ca.pem")
    assert opened.pop("client-transport-security") != peers
    assert closed == opened
    assert not service.stale()
    root.open()
    assert service.stale(), "it still runs closed"
    assert started(machine) == str(etcd_config.CONFIG)
    assert not service.stale()


@pytest.mark.parametrize("ran", [True, False])
def test_given_closed_data_when_opened_then_what_ran_is_started_anew(machine, ran):
    root = closed_root(machine)
    says, script = machine / "systemctl.says", machine / "bin" / "systemctl"
    says.write_text(f"ActiveState={'active' if ran else 'inactive'}\n")
    stops = f"[ $1 != stop ] || echo ActiveState=inactive > {says}"
    script.write_text(script.read_text().replace("exit 0", f"{stops}\nexit 0"))
    (machine / "systemctl.calls").unlink()
    assert service.open_to_clients(root)
    calls = (machine / "systemctl.calls").read_text()
    assert ("start " in calls) == ran and not service.is_closed()
    (machine / "systemctl.calls").unlink()
    assert not service.open_to_clients(root)
    assert not (machine / "systemctl.calls").exists(), "an open etcd is left alone"


@pytest.mark.parametrize("version", [(3, 4, 23), (3, 5, 16), (3, 6, 11), (3, 7, 1)])
def test_given_a_first_start_when_the_usual_config_returns_then_it_is_not_stale(machine, version):
    usual = dataclasses.replace(CONFIG, version=version)
    first = dataclasses.replace(usual, compare=False)
    service.ensure_unit(machine)
    assert etcd_config.ensure_config(first)
    started(machine)
    assert etcd_config.ensure_config(usual)
    assert not service.stale()
    etcd_config.ensure_config(dataclasses.replace(usual, gateway=False))
    assert service.stale()


def test_given_a_running_etcd_when_config_or_trust_changes_then_it_is_stale(machine):
    for name in ("peer", "server"):
        (etcd_config.TLS / name).mkdir(parents=True)
        (etcd_config.TLS / name / "ca.pem").write_text("CA 1")
    service.ensure_unit(machine)
    etcd_config.ensure_config(
        dataclasses.replace(CONFIG, token="t", initial=etcd_config.Initial.NEW)
    )
    assert not service.stale()
    started(machine)
    assert not service.stale()
    etcd_config.ensure_config(
        CONFIG
    )  # `existing` instead of `new`: the running etcd has a log now
    assert not service.stale()
    (etcd_config.TLS / "server" / "cert.pem").write_text("a new leaf")
    assert not service.stale()
    etcd_config.ensure_config(dataclasses.replace(CONFIG, quota_bytes=1024**3))
    assert service.stale()
    started(machine)
    assert not service.stale()
    (etcd_config.TLS / "peer" / "ca.pem").write_text("CA 1\nCA 2")
    assert service.stale()
    started(machine)
    assert not service.stale()
    binary = service.binary("etcd")
    binary.write_text(binary.read_text() + "# a newer one\n")
    assert service.stale()
    started(machine)
    (etcd_config.TLS / "peer" / "ca.pem").unlink()
    assert service.stale()
    started(machine)
    assert not service.stale()


def test_given_a_binary_when_asked_for_its_version_then_it_is_three_numbers(machine):
    assert service.version() == (3, 5, 16)
    assert service.binary("etcd") == machine / "lib" / "etcd"
    with pytest.raises(errors.ToolError):
        service.version(machine / "none")


def zap(level: str, message: str, **more: str | list[str]) -> str:
    return json.dumps(
        {"level": level, "ts": "2026-01-01", "caller": "x.go:1", "msg": message, **more}
    )


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (
            [zap("warn", "server error",
                 error="the member has been permanently removed from the cluster")],
            failures.FailureKind.REMOVED,
        ),
        (
            [zap("panic", "failed to recover v3 backend from snapshot", error="x")],
            failures.FailureKind.CORRUPT,
        ),
        (
            [
                "panic: freepages: failed to get all reachable pages",
                "goroutine 1 [running]:",
                "go.etcd.io/bbolt.(*DB).freepages(0xc00013e6c0)",
                "\t/build/bbolt/db.go:1178 +0x1b5: no space left on device",
            ],
            failures.FailureKind.CORRUPT,
        ),
        ([zap("fatal", "x", error="open /x/db: permission denied")], failures.FailureKind.OTHER),
        (
            [zap("fatal", "failed to open WAL", error="wal: file not found")],
            failures.FailureKind.BAD_WAL,
        ),
        (
            [zap("panic", "tocommit(9) is out of range [lastIndex(3)]. Was the raft log lost?")],
            failures.FailureKind.BAD_WAL,
        ),
        (
            [zap("fatal", "discovery failed", error="member count is unequal")],
            failures.FailureKind.MISMATCH,
        ),
        (
            [zap("fatal", "x", error="write /x: no space left on device")],
            failures.FailureKind.DISK_FULL,
        ),
        (
            [zap("fatal", "invalid downgrade; server version is lower than determined "
                          "cluster version")],
            failures.FailureKind.NEWER,
        ),
        (["etcd.service: Failed with result 'oom-kill'."], failures.FailureKind.MEMORY),
        ([zap("fatal", "something nobody knows")], failures.FailureKind.OTHER),
    ],
)  # fmt: skip
def test_given_last_lines_when_reduced_then_the_reason_is_named(lines, kind):
    chatter = [zap("info", "established TCP streaming connection")]
    found = failures.reason([*chatter, *lines, *chatter])
    assert found is not None and found.kind is kind and found.sentence


def test_given_a_quiet_journal_when_reduced_then_there_is_no_reason():
    assert failures.reason([zap("info", "no space left on device is only mentioned")]) is None
    assert failures.reason([]) is None


FORGED = (
    "the member has been permanently removed from the cluster",
    "wal: crc mismatch",
    "invalid database",
    "panic: freepages: failed to get all reachable pages",
    "data inconsistency",
    "no space left on device",
    "Starting etcd",
)


@pytest.mark.parametrize("text", FORGED)
@pytest.mark.parametrize("level", ["warn", "error"])
def test_given_a_strangers_words_in_a_field_when_reduced_then_only_the_real_cause_counts(
    level, text
):
    rejected = zap(
        level,
        "rejected connection",
        **{"remote-addr": text, "server-name": text, "error": text, "dns-names": text},
    )
    cause = zap("fatal", "discovery failed", error="listen tcp: bind: address already in use")
    assert failures.reason([rejected] * 5) is None
    found = failures.reason([cause, *[rejected] * 50])
    assert found is not None and found.kind is failures.FailureKind.ADDRESS


def test_given_etcds_words_on_other_members_keys_when_reduced_then_they_are_counted():
    differs = "found different hash values from remote peer"
    lines = [
        zap("warn", differs, **{"remote-peer-endpoints": ["https://a:2380"]}),
        zap("warn", differs, **{"remote-peer-endpoints": ["https://b:2380"]}),
        zap("warn", "rejected connection", **{"server-name": f"{differs} remote-peer-endpoints"}),
        zap("fatal", "discovery failed", error="found data inconsistency with peers"),
    ]
    found = failures.reason(lines)
    assert found is not None and found.differs == 2 and not found.data_broken


def test_given_two_starts_in_the_journal_when_asked_then_only_the_last_counts(machine):
    (machine / "journalctl.says").write_text(
        "\n".join(
            [
                zap("fatal", "x", error="no space left on device"),
                "Starting etcd.service - etcd, the cluster's key-value store...",
                zap("fatal", "listen", error="bind: address already in use"),
            ]
        )
    )
    found = failures.why_failed()
    assert found is not None and found.kind is failures.FailureKind.ADDRESS


def test_given_our_own_servers_when_they_speak_tls_then_the_ciphers_are_those_of_etcd():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(etcd_config.OPENSSL_CIPHERS)
    older = {c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"}
    names = {name.removeprefix("TLS_").replace("_WITH_", "_") for name in etcd_config.CIPHERS}
    assert older == {name.replace("AES_", "AES").replace("_", "-") for name in names}


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        ((3, 4, 23), "f2b6177c03827378"),
        ((3, 5, 16), "bd5da487dcc4875c"),
        ((3, 6, 8), "7da7c77cbe43e0b7"),
    ],
)
def test_given_a_refresh_when_no_option_changed_then_etcds_file_is_what_it_was(version, digest):
    """Whatever differs in it, a comment as well, restarts every etcd at a refresh."""
    config = etcd_config.Config(
        name="etcd-0",
        data_dir=pathlib.Path("/var/lib/etcd/current/etcd"),
        version=version,
        listen_client_urls=("https://198.18.0.1:2379", "https://127.0.0.1:2379"),
        advertise_client_urls=("https://198.18.0.1:2379",),
        listen_peer_urls=("https://198.18.0.1:2380",),
        advertise_peer_urls=("https://198.18.0.1:2380",),
        gateway_tls=etcd_config.tls_files(etcd_config.GATEWAY),
        revoked=etcd_config.REVOKED,
    )
    found = hashlib.sha256(etcd_config.render(config).encode()).hexdigest()[:16]
    assert found == digest
