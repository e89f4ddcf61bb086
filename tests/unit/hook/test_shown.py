"""Which of several sentences a unit shows, and the reason that it tells."""

from __future__ import annotations

import pytest

import errors
from backup import keeper_files
from cluster import plan as plans
from cluster import reasons
from hook import backups as unit_backups
from hook import certificates as unit_certificates
from hook import owner, shown

WELL = plans.Plan((), plans.State.HEALTHY, "Healthy")
LOST = plans.Plan((), plans.State.QUORUM_LOST, "no quorum")
TRUST = unit_certificates.Trust(True)
LATE = unit_certificates.Trust(True, "waiting for another certificate")
NONE = unit_certificates.Trust(False, "no certificate yet")
WRONG = unit_certificates.Trust(True, "the certificate is another's", wrong=True)
FAILS = unit_backups.Problem("Backups fail")
AWAITED = unit_backups.Problem("waiting for the bucket", waiting=True)
OPTIONS = unit_backups.Problem("etcd cannot start with it", reason="configuration")


@pytest.mark.parametrize(
    ("plan", "trust", "problem", "reason", "status", "sentence"),
    [
        (WELL, TRUST, None, "healthy", "active", "Healthy"),
        (WELL, LATE, None, "healthy", "active", "Healthy; waiting for another certificate"),
        (LOST, NONE, FAILS, "certificates", "waiting", "no certificate yet"),
        (WELL, WRONG, FAILS, "certificates", "blocked", "the certificate is another's"),
        (LOST, TRUST, FAILS, "quorum-lost", "blocked", "no quorum"),
        (WELL, LATE, FAILS, "backups", "blocked", "Backups fail"),
        (WELL, TRUST, AWAITED, "backups", "waiting", "waiting for the bucket"),
        (WELL, TRUST, OPTIONS, "configuration", "blocked", "etcd cannot start with it"),
    ],
)
def test_given_several_things_to_say_when_shown_then_the_gravest_goes_first(
    plan, trust, problem, reason, status, sentence
):
    assert shown.of(plan, trust, problem, "") == shown.Shown(reason, status, sentence)
    assert reason in reasons.REASONS


def test_given_a_reason_when_told_then_it_is_read_and_another_units_file_is_left_alone():
    shown.of(LOST, TRUST, None, "").tell()
    assert keeper_files.reason() == "quorum-lost"
    shown.fault(owner.ForeignError("another's")).tell()
    shown.Shown("", "maintenance", "removed").tell()
    assert keeper_files.reason() == "quorum-lost"
    shown.fault(errors.ToolError("no room")).tell()
    assert keeper_files.reason() == "machine-tool"
