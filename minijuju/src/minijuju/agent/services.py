"""What hook tools need from the agent: its log, statuses, resource files, addresses."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import signal
from typing import TYPE_CHECKING, Any

from minijuju.agent import hookcontext
from minijuju.model import errors, records, spaces

if TYPE_CHECKING:
    from minijuju.agent import ports


class Services:
    """One for each agent."""

    def __init__(self, owner: ports.Owner) -> None:
        self._agent = owner
        self._state = owner.state

    def log(self, level: str, module: str, message: str) -> None:
        """A line in the model's log and in the unit's own."""
        self._agent.host.log(self._agent.unit_name, level, module, message)

    def told(self) -> None:
        """Wake those who wait for tasks."""
        self._agent.host.told()

    def interrupt(self, context: hookcontext.Context) -> None:
        """Kill the running script."""
        self._agent.interrupt(signal.SIGKILL)

    def set_status(
        self, context: hookcontext.Context, status: records.Status, *, app: bool
    ) -> None:
        """Record a status at once."""
        store = self._state.store
        with store.transaction(quiet=True):
            if app:
                context.application.status = status
                name = context.application.name
                store.record_status(self._state, name, "application", status)
                return
            unit = context.unit
            unit.state.status_set = True
            unchanged = (unit.workload.current, unit.workload.message) == (
                status.current,
                status.message,
            )
            if unchanged:
                status.since = unit.workload.since
            unit.workload = status
            if not unchanged:
                store.record_status(self._state, unit.name, "workload", status)

    def fetch_resource(self, context: hookcontext.Context, name: str) -> str:
        """The path inside of a resource's file, brought there if it is not."""
        declared = context.meta.resources.get(name)
        stored = self._state.resources.get(f"{context.application.name}/{name}")
        if declared is None or stored is None:
            raise errors.JujuError(
                f'could not download resource: resource "{context.application.name}/{name}" '
                "not found"
            )
        inside = (
            f"{hookcontext.AGENTS}/{hookcontext.tag(context.unit_name)}/resources/{name}/"
            f"{declared['filename']}"
        )
        target = self._agent.host.path(inside)
        if not target.exists() or _digest(target) != stored.sha384:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            try:
                shutil.copyfile(stored.path, part)
                part.rename(target)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise errors.JujuError(f"could not download resource: {error}") from None
        return inside

    def network(
        self, context: hookcontext.Context, endpoint: str, *, legacy: bool
    ) -> dict[str, Any]:
        """What `network-get` answers; `legacy` adds the old keys of YAML output."""
        application = context.state.applications[context.unit.application]
        space = spaces.bound(application, endpoint)
        return self._agent.host.network_info(space, legacy=legacy)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha384").hexdigest()
