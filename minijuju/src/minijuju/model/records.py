"""What a controller knows: one dataclass for each kind of thing.

Times are Unix seconds (float). Records are kept by `store.Store` and changed only in its
transactions.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

ALIVE = "alive"
DYING = "dying"
DEAD = "dead"


@dataclasses.dataclass
class Status:
    """A status value as `juju status` shows it."""

    current: str = "unknown"
    message: str = ""
    since: float = dataclasses.field(default_factory=time.time)
    data: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Model:
    """One model; `sequences` hands out numbers that are never used again."""

    name: str
    uuid: str
    index: int = 0
    """Which machine network (0-based) belongs to the model."""
    created: float = dataclasses.field(default_factory=time.time)
    life: str = ALIVE
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    constraints: dict[str, str] = dataclasses.field(default_factory=dict)
    spaces: dict[str, str] = dataclasses.field(default_factory=dict)
    """Subnet to its space, for those that are not in `alpha`."""
    agent_version: str = ""
    """Which Juju this is, by its name in `behaviour`."""
    ssh_keys: list[str] = dataclasses.field(default_factory=list)
    sequences: dict[str, int] = dataclasses.field(default_factory=dict)

    def next(self, sequence: str) -> int:
        """The next number of a sequence, from 0; call it inside a transaction."""
        number = self.sequences.get(sequence, 0)
        self.sequences[sequence] = number + 1
        return number


@dataclasses.dataclass
class Charm:
    """One uploaded charm revision; `directory` holds its unpacked files on the host."""

    url: str
    """`local:NAME-REVISION`."""
    name: str
    revision: int
    directory: str
    sha256: str = ""


@dataclasses.dataclass
class Lease:
    """Who leads an application.

    A live holder renews silently; one whose machine cannot speak has an `expiry`.
    """

    holder: str = ""
    renewed: float = 0.0
    expiry: float | None = None


@dataclasses.dataclass
class Application:
    """One application."""

    name: str
    charm_url: str
    charm_modified_version: int = 0
    """Grows with each refresh and resource upload; a unit that lags runs `upgrade-charm`."""
    force_units: bool = False
    subordinate: bool = False
    life: str = ALIVE
    created: float = dataclasses.field(default_factory=time.time)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values the user set, already of the option's type."""
    trust: bool = False
    exposed: bool = False
    base: str = "ubuntu@24.04"
    constraints: dict[str, str] = dataclasses.field(default_factory=dict)
    bindings: dict[str, str] = dataclasses.field(default_factory=dict)
    storage: dict[str, str] = dataclasses.field(default_factory=dict)
    """Storage directives `[pool,][count,][size]` by storage name."""
    lease: Lease = dataclasses.field(default_factory=Lease)
    status: Status | None = None
    """What the leader set with `status-set --application`, if it ever did."""
    destroy_storage: bool = False


@dataclasses.dataclass
class Hook:
    """One hook with all that its environment needs."""

    name: str
    """`install`, `db-relation-joined`, `data-storage-attached`, `secret-changed` ..."""
    relation: int | None = None
    remote_unit: str = ""
    remote_app: str = ""
    departing: str = ""
    storage: str = ""
    secret: str = ""
    secret_label: str = ""
    secret_revision: int | None = None

    @property
    def kind(self) -> str:
        """The name without its subject: `relation-joined`, `storage-attached`, `install`."""
        for family in ("relation", "storage"):
            subject = self.relation if family == "relation" else self.storage
            if subject not in (None, ""):
                return f"{family}-{self.name.rsplit('-', 1)[1]}"
        return self.name


@dataclasses.dataclass
class LocalRelation:
    """What one unit's agent has processed of a relation."""

    members: dict[str, int] = dataclasses.field(default_factory=dict)
    """Bag version seen, by remote unit that has joined."""
    app_version: int = 0
    changed_pending: str = ""
    """A unit whose `joined` ran and whose `changed` must follow at once."""


@dataclasses.dataclass
class AgentState:
    """What a unit's agent remembers across its own restarts."""

    hook: Hook | None = None
    step: str = ""
    """While `hook` is set: `queued` (not begun) or `pending` (failed, or the agent died in it)."""
    context_id: str = ""
    """The last script's context: what still carries it after a restart is a stray."""
    deployed: bool = False
    installed: bool = False
    started: bool = False
    stopped: bool = False
    removed: bool = False
    leader: bool = False
    leader_settings_seen: bool = False
    status_set: bool = False
    reboot_wanted: bool = False
    config_hash: str = ""
    trust_hash: str = ""
    address_hash: str = ""
    relations: dict[int, LocalRelation] = dataclasses.field(default_factory=dict)
    storage: list[str] = dataclasses.field(default_factory=list)
    """Storage ids whose `attached` hook is done."""
    secrets_seen: dict[str, int] = dataclasses.field(default_factory=dict)
    """Latest revision for which `secret-changed` was run, by secret id."""
    secrets_obsolete: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """Revisions for which `secret-remove` was run, by secret id."""
    manifest: list[str] = dataclasses.field(default_factory=list)
    charm_state: dict[str, str] = dataclasses.field(default_factory=dict)
    """`state-set` values."""


@dataclasses.dataclass
class Unit:
    """One unit; `charm_url` is the revision it runs, which lags behind the application's."""

    name: str
    application: str
    number: int
    machine: str
    principal: str = ""
    life: str = ALIVE
    created: float = dataclasses.field(default_factory=time.time)
    workload: Status = dataclasses.field(
        default_factory=lambda: Status("waiting", "waiting for machine")
    )
    agent: Status = dataclasses.field(default_factory=lambda: Status("allocating"))
    """allocating, executing, idle, error (shown as workload error), failed, rebooting."""
    charm_url: str = ""
    charm_modified_version: int = -1
    workload_version: str = ""
    resolved: str = ""
    """`retry` or `no-retry` after `juju resolved`, until the agent has acted on it."""
    ports: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Opened ranges: {"endpoint": "" for all, "protocol", "from", "to"}."""
    force_at: float | None = None
    """When a forced removal stops waiting for the agent."""
    destroy_storage: bool = False
    state: AgentState = dataclasses.field(default_factory=AgentState)


@dataclasses.dataclass
class MachineRecord:
    """One machine as the controller knows it; `machine.Machine` is the thing itself."""

    id: str
    hostname: str
    instance_id: str
    address: str = ""
    gateway: str = ""
    mac: str = ""
    """Of its interface, known once it is up."""
    base: str = "ubuntu@24.04"
    life: str = ALIVE
    created: float = dataclasses.field(default_factory=time.time)
    keep: bool = False
    """Made by `add-machine`: may be empty before its first unit, and goes with its last."""
    wanted: str = "running"
    """`running`, or `stopped` after it was killed or shut down and must not be started by us."""
    status: Status = dataclasses.field(default_factory=lambda: Status("pending"))
    """Instance status: pending, allocating, running, `provisioning error`."""
    agent: Status = dataclasses.field(default_factory=lambda: Status("pending"))
    """Agent status: pending, started, down, stopped."""
    constraints: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Endpoint:
    """One end of a relation."""

    application: str
    name: str
    interface: str
    role: str
    """provider, requirer or peer."""
    implicit: bool = False


@dataclasses.dataclass
class Bag:
    """Relation data of one unit or one application; `version` grows with each real change."""

    data: dict[str, str] = dataclasses.field(default_factory=dict)
    version: int = 0
    in_scope: bool = False


@dataclasses.dataclass
class Relation:
    """One relation; a peer relation has one endpoint."""

    id: int
    endpoints: list[Endpoint]
    scope: str = "global"
    """global or container."""
    life: str = ALIVE
    created: float = dataclasses.field(default_factory=time.time)
    units: dict[str, Bag] = dataclasses.field(default_factory=dict)
    apps: dict[str, Bag] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """`wordpress:db mysql:server`, or `etcd:cluster` for a peer relation."""
        return " ".join(f"{end.application}:{end.name}" for end in self.endpoints)

    @property
    def peer(self) -> bool:
        """Whether this is a peer relation."""
        return len(self.endpoints) == 1

    def end(self, application: str) -> Endpoint:
        """The endpoint of one application."""
        return next(end for end in self.endpoints if end.application == application)

    def other(self, application: str) -> Endpoint:
        """The endpoint opposite to an application; in a peer relation its own."""
        return next((e for e in self.endpoints if e.application != application), self.endpoints[0])

    def endpoint(self, application: str) -> Endpoint:
        """The application's own endpoint."""
        return next(end for end in self.endpoints if end.application == application)

    def involves(self, application: str) -> bool:
        """Whether the application has an endpoint here."""
        return any(end.application == application for end in self.endpoints)


@dataclasses.dataclass
class Revision:
    """One revision of a secret; `data` values are plain text."""

    number: int
    data: dict[str, str]
    checksum: str
    created: float = dataclasses.field(default_factory=time.time)
    expires: float | None = None
    expired_told: float = 0.0


@dataclasses.dataclass
class Consumer:
    """One unit's view of a secret."""

    revision: int
    label: str = ""


@dataclasses.dataclass
class Grant:
    """Leave to read: an application or a unit, within a relation (or None for a user secret)."""

    target: str
    """Application name, or unit name."""
    relation: int | None = None


@dataclasses.dataclass
class Secret:
    """A secret; `owner` is an application, a unit, or "" for the model (a user secret)."""

    id: str
    owner: str
    label: str = ""
    """The owner's label; for a user secret its name."""
    description: str = ""
    rotate: str = "never"
    next_rotate: float | None = None
    rotate_told: float = 0.0
    auto_prune: bool = False
    created: float = dataclasses.field(default_factory=time.time)
    updated: float = dataclasses.field(default_factory=time.time)
    revisions: dict[int, Revision] = dataclasses.field(default_factory=dict)
    grants: list[Grant] = dataclasses.field(default_factory=list)
    consumers: dict[str, Consumer] = dataclasses.field(default_factory=dict)
    latest: int = 0


@dataclasses.dataclass
class StorageInstance:
    """One storage instance, such as `data/0`."""

    id: str
    name: str
    pool: str
    size: int
    """MiB."""
    number: int = 0
    """The filesystem id's number."""
    kind: str = "filesystem"
    owner: str = ""
    """The unit it is attached to (or is being attached to or detached from); "" when detached."""
    machine: str = ""
    location: str = ""
    life: str = ALIVE
    attachment: str = ""
    """"" (none), attaching (the host is preparing it), attached, detaching."""
    remove_after_detach: bool = False
    directory: str = ""
    """Host directory of a detachable instance; "" when the machine's own file system holds it."""
    since: float = dataclasses.field(default_factory=time.time)

    @property
    def detachable(self) -> bool:
        """Whether it survives its unit."""
        return bool(self.directory)


@dataclasses.dataclass
class Resource:
    """The uploaded file of one application's resource; key `APP/NAME`."""

    application: str
    name: str
    revision: int
    path: str
    """Host path of the stored copy."""
    sha384: str
    size_bytes: int
    created: float = dataclasses.field(default_factory=time.time)


@dataclasses.dataclass
class Task:
    """One action or exec on one unit or machine; tasks and operations share one sequence."""

    id: str
    operation: str
    receiver: str
    """Unit name, or machine id for `exec --machine`."""
    name: str
    """Action name, or `juju-exec`."""
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    status: str = "pending"
    """pending, running, completed, failed, cancelled, aborting, aborted, error."""
    message: str = ""
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    log: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    enqueued: float = dataclasses.field(default_factory=time.time)
    started: float | None = None
    completed: float | None = None
    parallel: bool = False
    execution_group: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("completed", "failed", "cancelled", "aborted", "error")


@dataclasses.dataclass
class Operation:
    """A group of tasks made by one `juju run` or `juju exec`."""

    id: str
    summary: str
    tasks: list[str] = dataclasses.field(default_factory=list)
    enqueued: float = dataclasses.field(default_factory=time.time)
