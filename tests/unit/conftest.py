"""For all unit tests: the machine belongs to the unit under test."""

from __future__ import annotations

import pytest

from backup import keeper_files
from hook import owner


@pytest.fixture(autouse=True)
def _own_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(keeper_files, "REASON", tmp_path_factory.getbasetemp() / "reason")
    monkeypatch.setattr(owner, "claim", lambda *_: False)
    monkeypatch.setattr(owner, "check", lambda *_: None)
