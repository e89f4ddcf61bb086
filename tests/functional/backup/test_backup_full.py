"""A full etcd takes no writes and gives no lease: a backup matters most then."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import backup_parts as parts
import pytest
import test_backup_keeper as keeping

import errors
from keeper import scheduled

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from etcd import scratch
    from functional import signing

QUOTA = 4 << 20  # bytes


@pytest.fixture
def full(
    tmp_path: pathlib.Path, authority: signing.Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[scratch.Member]]:
    """Three members under NOSPACE."""
    monkeypatch.setattr(scheduled, "_LIST", (0.0, 1.0))
    (tmp_path / "etcd").mkdir()
    started = parts.cluster(tmp_path / "etcd", authority, members=3, quota_bytes=QUOTA)
    with started[0].client() as online, contextlib.suppress(errors.NoSpaceError):
        for number in range(64):
            online.put(f"/fill/{number}", "x" * 250_000)
    with started[0].client() as online:
        deadline = time.monotonic() + 20
        while not any(alarm.kind == "NOSPACE" for alarm in online.alarms()):
            assert time.monotonic() < deadline
        with pytest.raises(errors.NoSpaceError):
            online.grant(15)
    yield started
    for each in started:
        each.stop()


def test_given_nospace_when_the_keepers_start_then_one_takes_backups_and_health_tells(
    full, local, tmp_path
):
    (tmp_path / "remote.json").write_text(local.settings.to_json())
    units = [
        keeping.Unit(each, tmp_path, number, prove_every=0) for number, each in enumerate(full)
    ]
    for unit in units:
        unit.write(dataclasses.replace(unit.config, interval=20.0))
    try:
        with full[0].client() as online:
            status = online.status(full[0].endpoint)
            leader = online.members().by_id(status.leader).name
            revision = online.revision()
        deadline = time.monotonic() + 60
        while not (taken := [unit.step() for unit in units])[0].newest:
            assert time.monotonic() < deadline, taken
            time.sleep(0.2)
        for _ in range(3):
            taken = [unit.step() for unit in units]
        followers = sorted({"etcd-0", "etcd-1", "etcd-2"} - {leader})
        told = {status.unit.replace("/", "-"): status for status in taken}
        first = told[followers[0]]
        assert first.newest_revision == revision and first.error == "" and first.count == 1
        assert "etcd takes no writes (NOSPACE)" in first.words(time.time())
        with full[0].client() as online:
            online.delete("/fill/0")
        again = keeping.Unit(full[int(followers[1][-1])], tmp_path, 9, prove_every=0)
        again.write(
            dataclasses.replace(again.config, member=followers[1], interval=1.0, unit="etcd/9")
        )
        units.append(again)
        second = again.until(lambda s: s.count == 2, seconds=90)
        assert second.newest_revision > revision, "the second takes over where the first does not"
    finally:
        for unit in units:
            unit.keeper.close()
