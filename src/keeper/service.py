#!/usr/bin/env python3
"""etcd-keeper, the resident service of every unit: what must not wait for a hook.

It takes backups (`keeper.scheduled`), serves metrics, watches etcd and fences what was replaced.
The charm tells it everything in one file and reads its status from another.
"""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import sys
import threading

from keeper import alarms, fence, metrics, scheduled, systemd_unit
from machine import juju_exec, outside

log = logging.getLogger("etcd-keeper")


def _code() -> int:
    """Changes when the charm is refreshed under a running keeper, whatever times it carries."""
    try:
        return pathlib.Path(__file__).stat().st_ctime_ns
    except OSError:
        return 0


def main() -> int:
    """Run until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    outside.guard_logs()
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    watched = alarms.Watch(juju_exec.wake_now)
    keeper, exporter = scheduled.Keeper(), metrics.Exporter(sight=lambda: watched.sight)
    code = _code()
    for run in (watched.run, fence.Guard(juju_exec.wake_now).run):
        threading.Thread(target=run, args=(stop,), daemon=True).start()
    try:
        exporter.follow()
        while not stop.wait(keeper.step()):
            exporter.follow()
            if _code() not in (code, 0):  # a charm that is gone takes its etcd along
                log.info("the charm was refreshed: starting anew")
                return 0
    finally:
        keeper.close()
    return systemd_unit.ORPHANED  # the guard ends the loop for nothing else


if __name__ == "__main__":
    sys.exit(main())
