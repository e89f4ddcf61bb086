"""Options on their way to etcd: nothing is put in place that it is not known to start with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib

import pytest
import yaml

import errors
from cluster import view as views
from etcd import config as etcd_config
from etcd import failure as failures
from etcd import install, service, trial
from etcd import stamp as stamps
from hook import config as configs
from hook import notes, options
from hook import unit as units
from machine import files, juju_exec
from support import fake_unit

CONFIG = yaml.safe_load((pathlib.Path(__file__).parents[3] / "config.yaml").read_text())
DEFAULTS = {key: o["default"] for key, o in CONFIG["options"].items() if "default" in o}
TAKEN = "another program listens on port 2390 of 198.18.0.1"


class Application:
    """Units that share a configuration and a databag, each with a machine of its own."""

    def __init__(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path
        self.monkeypatch = monkeypatch
        self.raw = dict(DEFAULTS)
        self.state: dict[str, str] = {}
        self.told: dict[str, views.Unit] = {}
        self.problems: dict[str, str | errors.EtcdError] = {}
        self.tried: list[str] = []
        self.woken: list[str] = []
        monkeypatch.setattr(trial, "why_not", self.why_not)
        monkeypatch.setattr(service, "version", lambda: (3, 5, 16))
        monkeypatch.setattr(install, "await_install", lambda: None)
        monkeypatch.setattr(juju_exec, "wake", lambda _, unit, *__: self.woken.append(unit))

    def why_not(self, config: etcd_config.Config, _: pathlib.Path) -> str:
        self.tried.append(config.name)
        found = self.problems.get(config.name.replace("-", "/"), "")
        if isinstance(found, errors.EtcdError):
            raise found
        return found

    def add(self, unit: str) -> None:
        """A unit that runs etcd with the configuration of now."""
        self.told[unit] = views.Unit(unit)
        with self.hook(unit) as made:
            made.root.new_current(stamps.Stamp("one", 1, None, made.member))
        with self.hook(unit) as made:
            options.put_in_place(made, told=False)
            self.run(made)

    def run(self, made: units.Node) -> None:
        """What a restart in its turn comes to."""
        made.me = dataclasses.replace(made.me, options=made.configured)

    @contextlib.contextmanager
    def hook(self, unit: str):
        """A hook of a unit, on its own machine; what it says is told when it ends."""
        at = self.folder / unit.replace("/", "-")
        for name in ("CONFIG", "CLOSED_CONFIG", "LISTENING"):
            self.monkeypatch.setattr(etcd_config, name, at / "etc" / name.lower())
        self.monkeypatch.setattr(files, "MEMORY", at / "run")
        self.monkeypatch.setattr(notes, "SINCE", at / "run" / "since")
        for name in ("TRIED", "CONFIGURED"):
            self.monkeypatch.setattr(units, name, at / "run" / name.lower())
        told = self.told.get(unit)
        others = tuple(each for name, each in self.told.items() if name != unit)
        juju = fake_unit.Peers(unit, told=told, others=others, free=self.state)

        def read(own: views.Failure | None = None) -> configs.Settings:
            return options.read(self.raw, juju, "etcd", own)  # type: ignore[arg-type]

        made = fake_unit.made(at, juju, settings=read(), ready=True, reread=read)
        made.leads = unit == "etcd/0"
        yield made
        self.told[unit] = made.me

    def text(self, unit: str) -> str:
        """What the next start of etcd reads on a unit."""
        return (self.folder / unit.replace("/", "-") / "etc" / "config").read_text()

    def all_agree(self) -> None:
        """A hook of the leader while all is well."""
        with self.hook("etcd/0") as made:
            options.agree(made, healthy=True)


@pytest.fixture
def application(tmp_path, monkeypatch) -> Application:
    """Three units that run with the usual options, and agree on them."""
    made = Application(tmp_path, monkeypatch)
    for number in range(3):
        made.add(f"etcd/{number}")
    made.all_agree()
    assert json.loads(made.state[options.AGREED])["port"] == 2379
    assert made.tried == [], "what nobody has chosen is known to start"
    return made


def test_given_options_that_etcd_refuses_when_told_then_its_next_start_reads_those_of_before(
    application,
):
    before = application.text("etcd/1")
    application.raw["peer-port"] = 2390
    application.problems["etcd/1"] = TAKEN
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
        assert made.settings.peer_port == 2380
        assert made.settings.problem == (
            f"etcd cannot start with peer-port=2390: {TAKEN} (etcd/1); peer-port=2380 stays in "
            "use: choose another value, or run `juju config etcd peer-port=2380`"
        )
    assert application.text("etcd/1") == before
    assert application.told["etcd/1"].refused is not None


def test_given_a_refusal_when_others_hear_of_it_then_they_go_back_and_try_nothing(application):
    before = {unit: application.text(unit) for unit in application.told}
    application.raw["peer-port"] = 2390
    with application.hook("etcd/0") as made:  # it was the first, and etcd could start there
        options.put_in_place(made, told=False)
    assert application.text("etcd/0") != before["etcd/0"]
    application.problems["etcd/1"] = TAKEN
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
    application.tried.clear()
    for unit in ("etcd/0", "etcd/2"):
        with application.hook(unit) as made:
            options.put_in_place(made, told=True)
            assert "etcd/1" in made.settings.problem
    assert {unit: application.text(unit) for unit in application.told} == before
    assert application.tried == []


def test_given_a_refusal_when_its_unit_goes_then_it_stays_known_until_the_option_changes(
    application,
):
    application.raw["peer-port"] = 2390
    application.problems["etcd/1"] = TAKEN
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
    application.all_agree()
    del application.told["etcd/1"]
    with application.hook("etcd/2") as made:
        assert made.settings.peer_port == 2380
    assert json.loads(application.state[options.AGREED])["peer-port"] == 2380
    application.raw["peer-port"] = 2391
    with application.hook("etcd/2") as made:
        options.put_in_place(made, told=False)
        assert (made.settings.peer_port, made.settings.problem) == (2391, "")
    application.all_agree()
    assert options.REFUSED not in application.state


def test_given_a_refusal_when_a_unit_is_added_then_it_starts_with_what_the_others_have(
    application,
):
    application.raw["max-txn-ops"] = 500
    application.problems["etcd/1"] = "it is too much"
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
    application.add("etcd/3")
    assert "max-txn-ops: 128" in application.text("etcd/3")
    assert application.tried == ["etcd-1"]


def test_given_an_etcd_that_would_pass_over_an_option_when_told_then_it_is_refused(
    application, monkeypatch
):
    monkeypatch.setattr(service, "version", lambda: (3, 4, 23))
    application.raw["tls-min-version"] = "TLS1.3"
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
        assert made.settings.tls_min_version == "TLS1.2"
        assert made.settings.problem == (
            "etcd cannot start with tls-min-version=TLS1.3: etcd 3.4.23 cannot be kept to TLS1.3: "
            "3.5.8, or 3.4.25, or later can (etcd/1); tls-min-version=TLS1.2 stays in use: choose "
            "another value, or run `juju config etcd tls-min-version=TLS1.2`"
        )
    assert "tls-min-version" not in application.text("etcd/1")


def test_given_no_options_of_before_when_etcd_refuses_then_nothing_is_written(
    tmp_path, monkeypatch
):
    first = Application(tmp_path, monkeypatch)
    first.raw["max-txn-ops"] = 500
    first.problems["etcd/0"] = "it is too much"
    with (
        pytest.raises(configs.SettingsError, match=r"it is too much.*nothing was changed: "),
        first.hook("etcd/0") as made,
    ):
        options.put_in_place(made, told=False)
    assert not etcd_config.CONFIG.exists()


def test_given_a_value_out_of_range_when_read_then_what_was_configured_before_stays_in_use(
    application,
):
    application.raw |= {"port": 443, "backup-interval": "2h"}
    with application.hook("etcd/2") as made:
        options.put_in_place(made, told=False)
        assert (made.settings.port, made.settings.backup_interval) == (2379, 3600.0)
        assert made.settings.problem == (
            "port is 443: set it to a whole number from 1024 to 65535; what was configured before "
            "stays in use"
        )
    application.all_agree()
    assert json.loads(application.state[options.AGREED])["port"] == 2379


def test_given_a_unit_that_can_try_nothing_now_when_told_then_it_says_so_and_tries_again(
    application,
):
    before = application.text("etcd/1")
    application.raw["max-txn-ops"] = 500
    application.problems["etcd/1"] = errors.DataError("the disk is full")
    for told in (False, True):
        with application.hook("etcd/1") as made:
            options.put_in_place(made, told=told)
            assert made.settings.problem == "the disk is full"
        assert application.text("etcd/1") == before
        assert application.told["etcd/1"].refused is None
    assert application.tried == ["etcd-1"] * 2
    assert application.woken == ["etcd/1"] * 2
    del application.problems["etcd/1"]
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=True)
    assert "max-txn-ops: 500" in application.text("etcd/1")


def test_given_a_tried_configuration_when_a_hook_comes_then_it_is_not_tried_again(application):
    application.raw["max-txn-ops"] = 500
    for _ in range(2):
        with application.hook("etcd/1") as made:
            options.put_in_place(made, told=False)
            made.configure(compare=False)
    assert application.tried == ["etcd-1"]


@pytest.mark.parametrize(
    ("kind", "back"),
    [
        (failures.FailureKind.ADDRESS, True),
        (failures.FailureKind.OTHER, True),
        (failures.FailureKind.DISK_FULL, False),
        (failures.FailureKind.CORRUPT, False),
    ],
)
def test_given_an_etcd_that_fails_in_its_turn_when_judged_then_it_has_the_options_of_before(
    application, monkeypatch, kind, back
):
    before = application.text("etcd/1")
    restarted = []
    failure = failures.Failure(kind, "something is wrong")
    monkeypatch.setattr(failures, "why_failed", lambda: failure)
    monkeypatch.setattr(service, "state", lambda: views.Service.FAILED)
    monkeypatch.setattr(service, "restart", restarted.append)
    application.raw["max-txn-ops"] = 500
    with application.hook("etcd/1") as made:
        options.put_in_place(made, told=False)
        options.judge(made, 5.0)
    assert (application.text("etcd/1") == before) is back
    assert restarted == ([5.0] if back else [])
    assert (application.told["etcd/1"].refused is not None) is back


def test_given_an_etcd_that_fails_with_the_options_it_had_when_judged_then_they_are_not_blamed(
    application, monkeypatch
):
    monkeypatch.setattr(service, "state", lambda: views.Service.FAILED)
    monkeypatch.setattr(
        failures, "why_failed", lambda: failures.Failure(failures.FailureKind.OTHER, "x")
    )
    with application.hook("etcd/1") as made:
        options.judge(made, 5.0)
    assert application.told["etcd/1"].refused is None


@pytest.mark.parametrize("amiss", ["unhealthy", "behind", "stale"])
def test_given_a_unit_that_has_other_options_when_all_is_looked_at_then_they_are_not_agreed_on(
    application, amiss
):
    application.raw["max-txn-ops"] = 500
    for unit in ("etcd/0", "etcd/1", "etcd/2"):
        if amiss == "behind" and unit == "etcd/2":
            continue
        with application.hook(unit) as made:
            options.put_in_place(made, told=False)
            application.run(made)
            made.me = dataclasses.replace(made.me, stale=amiss == "stale" and unit == "etcd/1")
    with application.hook("etcd/0") as made:
        options.agree(made, healthy=amiss != "unhealthy")
    assert json.loads(application.state[options.AGREED])["max-txn-ops"] == 128


def test_given_another_port_when_configured_then_etcd_is_asked_where_it_listens_until_it_restarts(
    application,
):
    service_started = 'listen-client-urls: "https://198.18.0.1:2379,https://127.0.0.1:2379"\n'
    application.raw["port"] = 2399
    with application.hook("etcd/1") as made:
        etcd_config.LISTENING.write_text(service_started)
        options.put_in_place(made, told=False)
        assert "https://198.18.0.1:2399" in application.text("etcd/1")
        assert made.local_url == "https://127.0.0.1:2379"
        assert made.client_url == "https://198.18.0.1:2379"
        etcd_config.LISTENING.write_text(service_started.replace("2379", "2399"))
        assert made.local_url == "https://127.0.0.1:2399"
        assert made.client_url == "https://198.18.0.1:2399"
        # A hook in which Juju is not asked for addresses.
        made.quiet = True
        made.me = dataclasses.replace(
            made.me, client_url="https://[fd00::1]:2379", peer_url="https://[fd00::1]:2380"
        )
        assert made.client_url == "https://[fd00::1]:2399"
        assert made.peer_url == "https://[fd00::1]:2380"


@pytest.mark.parametrize(
    "text",
    [
        "",
        'listen-client-urls: "https://127.0.0.1:99999999"\n',
        'listen-client-urls: "http://evil/:1"\n',
        "x" * (2 << 20),
    ],
)
def test_given_what_etcds_user_may_write_when_asked_where_it_listens_then_only_a_place_counts(
    application, text
):
    with application.hook("etcd/1"):
        etcd_config.LISTENING.write_text(text)
        assert etcd_config.client_port() == 2379, "the file of root's says so"
        assert etcd_config.listening() == frozenset()
