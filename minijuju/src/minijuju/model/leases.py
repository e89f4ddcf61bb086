"""Leadership: one lease for each application.

A holder that can speak renews every half term; nothing is written for that. When its machine falls
silent the lease gets an expiry: one term after the last renewal it can have made. The term is 60 s
unless the model option `minijuju-lease-seconds` says otherwise.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from minijuju.model import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from minijuju.model import store

TERM_SECONDS = 60.0


def term(state: store.ModelState) -> float:
    """How long a claim lasts, in seconds."""
    return float(state.model.config.get("minijuju-lease-seconds") or TERM_SECONDS)


def leads(state: store.ModelState, unit: records.Unit) -> bool:
    """Whether a unit holds its application's lease."""
    return state.applications[unit.application].lease.holder == unit.name


def leader(state: store.ModelState, application: str) -> str:
    """The leader's unit name, or ""."""
    return state.applications[application].lease.holder


def release(state: store.ModelState, unit: records.Unit) -> None:
    """Give a lease up, when its holder is dead (inside a transaction)."""
    application = state.applications.get(unit.application)
    if application and application.lease.holder == unit.name:
        application.lease = records.Lease()


def settle(
    state: store.ModelState, speaks: Callable[[records.Unit], bool], now: float | None = None
) -> float | None:
    """Bring all leases up to date (inside a transaction).

    `speaks(unit)`: whether the unit's agent can reach the controller. Returns the next moment at
    which a lease may run out.
    """
    now = time.time() if now is None else now
    deadlines: list[float] = []
    for application in state.applications:
        lease = application.lease
        units = state.units_of(application.name)
        holder = next((unit for unit in units if unit.name == lease.holder), None)
        if holder is None:
            lease.holder, lease.expiry = "", None
        elif speaks(holder):
            if lease.expiry is not None and now < lease.expiry:
                lease.renewed, lease.expiry = now, None
        elif lease.expiry is None:
            half = term(state) / 2
            renewals = int((now - lease.renewed) // half)
            lease.expiry = lease.renewed + renewals * half + term(state)
        if lease.expiry is not None and now >= lease.expiry:
            lease.holder, lease.expiry = "", None
        if not lease.holder:
            _claim(application, [unit for unit in units if speaks(unit)], now)
        if lease.expiry is not None:
            deadlines.append(lease.expiry)
    return min(deadlines, default=None)


def _claim(application: records.Application, claimants: list[records.Unit], now: float) -> None:
    staying = [unit for unit in claimants if unit.life == records.ALIVE] or claimants
    if staying:
        holder = random.choice(staying)
        application.lease = records.Lease(holder.name, now)
