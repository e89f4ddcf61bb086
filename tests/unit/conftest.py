"""For all unit tests: the machine belongs to the unit under test."""

from __future__ import annotations

import pytest

import owner


@pytest.fixture(autouse=True)
def _own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "claim", lambda *_: False)
    monkeypatch.setattr(owner, "check", lambda *_: None)
