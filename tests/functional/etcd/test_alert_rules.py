"""The alert rules, judged by Prometheus itself over what keepers publish while things happen."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess

import pytest
import yaml

from backup import keeper_files
from keeper import alarms, metrics
from relations import cos
from support import keeper_config

PROMTOOL = pathlib.Path(__file__).resolve().parents[3] / "build" / "prometheus" / "promtool"
TOPOLOGY = {"juju_model": "m", "juju_model_uuid": "12345678-9", "juju_application": "etcd"}
NOW = 1_795_000_000.0
BEFORE, MINUTES = 10, 60  # minutes that are well, and in all
LEADS = "# TYPE etcd_server_has_leader gauge\netcd_server_has_leader {}\n"

pytestmark = pytest.mark.skipif(not PROMTOOL.exists(), reason="the distribution has no promtool")


@dataclasses.dataclass(frozen=True)
class Happens:
    """What happens to a cluster after ten minutes.

    Attributes:
        units: how many there are.
        dead: their machines die: nothing is scraped there any more.
        stopped: only etcd ends there.
        cut_off: their machines see nobody, and nobody sees them.
        certificate: days that a certificate has lived, and days that it has left.
        called: which one.
    """

    units: int = 3
    dead: tuple[int, ...] = ()
    stopped: tuple[int, ...] = ()
    cut_off: tuple[int, ...] = ()
    certificate: tuple[float, float] = (0, 365)
    called: str = "peer"

    def pages(self, minute: int) -> dict[int, str]:
        """What is scraped at each unit, in this minute."""
        if minute < BEFORE:
            return {unit: Happens(self.units).page(unit) for unit in range(self.units)}
        return {unit: self.page(unit) for unit in range(self.units) if unit not in self.dead}

    def page(self, unit: int) -> str:
        lived, left = (
            NOW + sign * days * 86400 for sign, days in zip((-1, 1), self.certificate, strict=True)
        )
        config = keeper_config.told(
            f"etcd/{unit}",
            units=self.units,
            certificates={self.called: left},
            certificates_from={self.called: lived},
        )
        if unit in self.stopped:
            return metrics.render(config, keeper_files.Status(), None, NOW)
        side = [unit] if unit in self.cut_off else self._others
        answers = {f"etcd-{n}": n in side for n in range(self.units)}
        silent = tuple(name for name, answered in answers.items() if not answered)
        sight = alarms.Sight(answers, silent, self.units, len(side))
        seen = metrics.Seen(LEADS.format(int(sight.margin >= 0)), self.units, 0, {"NOSPACE": 0})
        return metrics.render(config, keeper_files.Status(), seen, NOW, sight=sight)

    @property
    def _others(self) -> list[int]:
        gone = {*self.dead, *self.stopped, *self.cut_off}
        return [unit for unit in range(self.units) if unit not in gone]


def series(happens: Happens) -> list[dict[str, str]]:
    """All that Prometheus has of it, as promtool takes it; a page that does not come is a gap."""
    found: dict[str, list[str]] = {}
    for minute in range(MINUTES):
        for unit, page in happens.pages(minute).items():
            labels = ",".join(
                f'{key}="{value}"'
                for key, value in {**TOPOLOGY, "juju_unit": f"etcd/{unit}"}.items()
            )
            for line in ["up 1", *page.splitlines()]:
                if line.startswith("#"):
                    continue
                name, _, value = line.rpartition(" ")
                name, _, own = name.partition("{")
                key = f"{name}{{{labels}{',' + own if own else '}'}"
                values = found.setdefault(key, [])
                values += ["_"] * (minute - len(values)) + [value]
    return [{"series": key, "values": " ".join(values)} for key, values in found.items()]


def firing(folder: pathlib.Path, happens: Happens, expected: set[str], minute: int) -> str:
    """What promtool has to say against these alerts firing at a time, and no others."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(cos.alert_rules(dict(TOPOLOGY), "etcd")))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series(happens),
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1}
                            for name in sorted(expected)
                        ],
                    }
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "test.yaml"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_given_the_rules_when_prometheus_reads_them_then_each_can_be_used(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(cos.alert_rules(dict(TOPOLOGY), "etcd")))
    done = subprocess.run(
        [PROMTOOL, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (Happens(), set()),
        (Happens(1), set()),
        (Happens(2), set()),
        (Happens(dead=(1,)), {"EtcdMemberSilent", "EtcdMembersMissing", "EtcdQuorumAtRisk"}),
        (Happens(5, dead=(1,)), {"EtcdMemberSilent", "EtcdMembersMissing"}),
        (Happens(2, dead=(1,)),
         {"EtcdMemberSilent", "EtcdMembersMissing", "EtcdQuorumLost", "EtcdNoLeader"}),
        (Happens(cut_off=(0,)),
         {"EtcdMemberSilent", "EtcdMembersMissing", "EtcdQuorumAtRisk", "EtcdNoLeader"}),
        (Happens(dead=(0, 1, 2)), {"EtcdNothingScraped"}),
        (Happens(1, dead=(0,)), {"EtcdNothingScraped"}),
        (Happens(stopped=(2,)),
         {"EtcdMemberDown", "EtcdMemberSilent", "EtcdMembersMissing", "EtcdQuorumAtRisk"}),
    ],
    ids=lambda each: str(each) if isinstance(each, Happens) else "-".join(sorted(each)),
)  # fmt: skip
def test_given_what_happens_when_it_stays_so_then_just_its_alerts_fire(
    tmp_path, happens, expected
):
    assert firing(tmp_path, happens, expected, MINUTES - 1) == ""


def test_given_several_that_do_not_answer_when_judged_then_each_has_an_alert_of_its_own(tmp_path):
    """`firing` counts one each, so that it has to complain here."""
    expected = {
        "EtcdMemberSilent", "EtcdMembersMissing", "EtcdQuorumLost", "EtcdNoLeader",
    }  # fmt: skip
    told = firing(tmp_path, Happens(dead=(0, 1)), expected, MINUTES - 1)
    assert 'alertname="EtcdMemberSilent"} 2' in " ".join(told.split())


@pytest.mark.parametrize(
    ("certificate", "fires"),
    [
        ((0.5, 0.5), False),  # of a day, to be renewed in four hours
        ((0.7, 0.3), False),  # to be renewed now
        ((0.9, 0.1), True),
        ((1, -0.1), True),
        ((8, 2.5), False),
        ((9, 1), True),
        ((350, 15), False),
        ((352, 13), True),
        ((3300, 350), False),  # EasyRSA's, of ten years
        ((3640, 10), True),
    ],
)
def test_given_a_certificate_of_any_length_when_it_was_not_renewed_then_only_then_its_alert_fires(
    tmp_path, certificate, fires
):
    expected = {"EtcdCertificateEnds"} if fires else set[str]()
    happens = Happens(1, certificate=certificate)
    assert firing(tmp_path, happens, expected, MINUTES - 1) == ""


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ((3200, 450), set[str]()),
        ((3300, 350), {"EtcdAuthorityEnds"}),
        ((3640, 10), {"EtcdAuthorityEnds", "EtcdAuthorityEndsSoon"}),
        ((10, 80), set[str]()),  # an intermediate one of ninety days
        ((80, 10), {"EtcdAuthorityEnds", "EtcdAuthorityEndsSoon"}),
    ],
)
def test_given_an_authority_when_it_comes_to_its_end_then_its_alerts_fire_one_by_one(
    tmp_path, certificate, expected
):
    happens = Happens(1, certificate=certificate, called="server-authority")
    assert firing(tmp_path, happens, expected, MINUTES - 1) == ""


def test_given_a_machine_dies_when_three_minutes_have_passed_then_its_alert_fires(tmp_path):
    for minute, expected in ((BEFORE + 2, set()), (BEFORE + 4, {"EtcdMemberSilent"})):
        told = firing(tmp_path, Happens(5, dead=(1,)), expected, minute)
        assert told == "", told
