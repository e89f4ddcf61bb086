#!/usr/bin/env python3
"""A charm that defers its start event until /run/go exists."""

import os
import pathlib

import ops

GO = pathlib.Path("/run/go")


class DeferringCharm(ops.CharmBase):
    """One event, deferred."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        framework.observe(self.on.start, self._on_start)

    def _on_start(self, event: ops.StartEvent) -> None:
        if not GO.exists():
            self.unit.status = ops.WaitingStatus("deferred")
            event.defer()
            return
        self.unit.status = ops.ActiveStatus(f"in {os.environ['JUJU_DISPATCH_PATH']}")


if __name__ == "__main__":
    ops.main(DeferringCharm)
