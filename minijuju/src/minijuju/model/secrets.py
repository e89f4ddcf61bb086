"""Secrets: what a unit may do with them, what it buffers, and which secret hooks are due.

Consumer records (which revision a unit tracks, under which label) are written at once; everything
else waits in `Changes` until the hook succeeds. Rules: Juju 3.6 `domain/secret` and
`worker/uniter/secrets`.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import dataclasses
import datetime
import hashlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

from minijuju.model import errors, leases, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from minijuju.model import store

KEY = re.compile(r"[a-z](?:-?[a-z0-9]){2,}")
URI = re.compile(r"(?:secret:(?://[^/]+/)?)?[0-9a-v]{20}")
REPEAT_SECONDS = 300.0
"""How long until an unanswered rotate or expired hook comes again."""
DAY = 86400.0
ROTATE = {
    "never": 0.0,
    "hourly": 3600.0,
    "daily": DAY,
    "weekly": 7 * DAY,
    "monthly": 30 * DAY,
    "quarterly": 90 * DAY,
    "yearly": 365 * DAY,
}
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
ORDER = ("secret-expired", "secret-rotate", "secret-changed", "secret-remove")
LIMIT_BYTES = 1024 * 1024


def new_id() -> str:
    """Twenty characters of [0-9a-v], sortable by time, as Juju's xid."""
    raw = int(time.time()).to_bytes(4, "big") + os.urandom(8)
    return base64.b32hexencode(raw).decode().rstrip("=").lower()


def plain(data: Mapping[str, str]) -> dict[str, str]:
    """Check content given by a user or charm, and decode values of `key#base64`."""
    found: dict[str, str] = {}
    for key, value in data.items():
        name, encoded, _ = key.partition("#base64")
        if not KEY.fullmatch(name):
            raise errors.JujuError(f'key "{name}" not valid')
        if encoded:
            try:
                value = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise errors.JujuError(f'key "{name}": value is not base64') from None
        found[name] = value
    if not found:
        raise errors.JujuError("missing secret value")
    if sum(len(base64.b64encode(value.encode())) for value in found.values()) > LIMIT_BYTES:
        raise errors.JujuError("secret content exceeds the limit of 1 MiB")
    return found


def checksum(data: Mapping[str, str]) -> str:
    """The same for the same content."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def is_uri(text: str) -> bool:
    """Whether it names a secret by `secret:ID`, `secret://MODEL/ID` or `ID`."""
    return bool(URI.fullmatch(text))


def bare(uri: str) -> str:
    """The id in a secret's URI."""
    identity = uri.rsplit("/", 1)[-1].removeprefix("secret:")
    if not is_uri(uri):
        raise errors.JujuError(f'secret URI "{uri}" not valid')
    return identity


def moment(text: str) -> float:
    """A time: RFC 3339, or a Go duration from now."""
    parts = re.findall(r"([0-9.]+)(ms|[hms])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() + sum(float(number) * UNITS[unit] for number, unit in parts)
    try:
        parsed = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise errors.JujuError(f'expire time or duration "{text}" not valid') from None
    if parsed.tzinfo is None:
        return calendar.timegm(parsed.timetuple())
    return parsed.timestamp()


def add_revision(
    secret: records.Secret, data: dict[str, str], *, expires: float | None = None
) -> bool:
    """A new revision, unless the content is the latest one's; whether one was made."""
    digest, now = checksum(data), time.time()
    latest = secret.revisions.get(secret.latest)
    if latest and latest.checksum == digest:
        return False
    secret.latest += 1
    secret.revisions[secret.latest] = records.Revision(
        secret.latest, data, digest, created=now, expires=expires
    )
    secret.updated = now
    if secret.next_rotate is not None and secret.next_rotate <= now:
        secret.next_rotate = now + ROTATE[secret.rotate]
    return True


def remove_revision(state: store.ModelState, secret: records.Secret, number: int | None) -> None:
    """Remove one revision, or all; the secret goes with its last one."""
    if number is not None:
        if number not in secret.revisions:
            raise errors.JujuError(f'secret revision {number} for "{secret.id}" not found')
        del secret.revisions[number]
    if number is None or not secret.revisions:
        state.secrets.remove(secret.id)


def prune(state: store.ModelState) -> None:
    """Remove revisions of auto-pruned user secrets which nobody tracks."""
    for secret in state.secrets:
        for number in obsolete(secret) if secret.auto_prune else ():
            del secret.revisions[number]


def obsolete(secret: records.Secret) -> list[int]:
    """Revisions but the latest that no consumer tracks."""
    tracked = {consumer.revision for consumer in secret.consumers.values()}
    return [n for n in secret.revisions if n != secret.latest and n not in tracked]


def manages(state: store.ModelState, unit: records.Unit, secret: records.Secret) -> bool:
    """Whether secret hooks for the owner go to this unit."""
    if secret.owner == unit.name:
        return True
    return secret.owner == unit.application and leases.leads(state, unit)


def due(
    state: store.ModelState, unit: records.Unit, now: float | None = None
) -> tuple[list[records.Hook], float | None]:
    """Secret hooks that a unit is owed, in Juju's order, and when the next one comes due."""
    now = time.time() if now is None else now
    timed: list[tuple[float, records.Hook]] = []
    others: list[records.Hook] = []
    for secret in state.secrets:
        others += _changed(unit, secret)
        if manages(state, unit, secret):
            timed += _timed(secret)
            others += _obsolete(unit, secret)
    hooks = [hook for at, hook in timed if at <= now] + others
    later = [at for at, _ in timed if at > now]
    return sorted(hooks, key=lambda hook: ORDER.index(hook.name)), min(later, default=None)


def _changed(unit: records.Unit, secret: records.Secret) -> Iterator[records.Hook]:
    consumer = secret.consumers.get(unit.name)
    seen = unit.state.secrets_seen.get(secret.id) == secret.latest
    if consumer and consumer.revision < secret.latest and not seen:
        label = consumer.label or (secret.label if secret.owner else "")
        yield _hook("secret-changed", secret, label, secret.latest)


def _timed(secret: records.Secret) -> Iterator[tuple[float, records.Hook]]:
    def repeated(first: float, told: float) -> float:
        return max(first, told + REPEAT_SECONDS) if told else first

    for revision in secret.revisions.values():
        if revision.expires is not None:
            hook = _hook("secret-expired", secret, secret.label, revision.number)
            yield repeated(revision.expires, revision.expired_told), hook
    if secret.next_rotate is not None:
        hook = _hook("secret-rotate", secret, secret.label, None)
        yield repeated(secret.next_rotate, secret.rotate_told), hook


def _obsolete(unit: records.Unit, secret: records.Secret) -> Iterator[records.Hook]:
    told_before = unit.state.secrets_obsolete.get(secret.id, [])
    for number in obsolete(secret):
        if number not in told_before:
            yield _hook("secret-remove", secret, secret.label, number)


def _hook(name: str, secret: records.Secret, label: str, revision: int | None) -> records.Hook:
    return records.Hook(name, secret=secret.id, secret_label=label, secret_revision=revision)


def told(state: store.ModelState, hook: records.Hook) -> None:
    """Remember that a time-driven secret hook has run (inside a transaction)."""
    secret, now = state.secrets.get(hook.secret), time.time()
    if secret is None:
        return
    if hook.name == "secret-rotate" and secret.next_rotate and secret.next_rotate <= now:
        secret.rotate_told = now
    if hook.name == "secret-expired" and hook.secret_revision in secret.revisions:
        secret.revisions[hook.secret_revision].expired_told = now


@dataclasses.dataclass
class Update:
    """A buffered change of an existing secret."""

    data: dict[str, str] = dataclasses.field(default_factory=dict)
    options: dict[str, str] = dataclasses.field(default_factory=dict)


class Changes:
    """A unit's dealings with secrets during one hook."""

    def __init__(self, state: store.ModelState, unit: str) -> None:
        self._state, self._unit = state, unit
        self._application = unit.rsplit("/", 1)[0]
        self._created: dict[str, records.Secret] = {}
        self._updates: dict[str, Update] = {}
        self._grants: list[tuple[str, records.Grant, bool]] = []
        self._removed: list[tuple[str, int | None]] = []

    # -- reading

    def read(
        self, uri: str, label: str, *, refresh: bool, peek: bool, leader: bool
    ) -> dict[str, str]:
        """Content as this unit is to see it; makes or moves its consumer record."""
        secret = self._find(uri, label)
        if secret.id in self._created:
            return dict(self._created[secret.id].revisions[1].data)
        self._may_read(secret)
        update = self._updates.get(secret.id)
        with self._state.store.transaction():
            secret = self._state.secrets[secret.id]
            consumer = secret.consumers.get(self._unit)
            if consumer is None and not peek:
                consumer = records.Consumer(secret.latest)
                secret.consumers[self._unit] = consumer
            if consumer and label and uri:
                self._relabel(secret, label)
                consumer.label = label
            if consumer and refresh:
                consumer.revision = secret.latest
            number = secret.latest if peek or consumer is None else consumer.revision
            prune(self._state)
        if (peek or refresh) and update and update.data:
            return dict(update.data)
        if number not in secret.revisions:
            raise errors.JujuError(f'secret revision "{secret.id}/{number}" not found')
        return dict(secret.revisions[number].data)

    def _relabel(self, secret: records.Secret, label: str) -> None:
        for other in self._state.secrets:
            consumer = other.consumers.get(self._unit)
            if other.id != secret.id and consumer and consumer.label == label:
                raise errors.JujuError(f'secret with label "{label}" already exists')

    def _find(self, uri: str, label: str) -> records.Secret:
        if uri:
            identity = bare(uri)
            found = self._created.get(identity) or self._state.secrets.get(identity)
            if found is None:
                raise errors.JujuError(f'secret "{identity}" not found')
            return found
        for secret in [*self._created.values(), *self._state.secrets]:
            owned = secret.owner in (self._unit, self._application)
            update = self._updates.get(secret.id)
            own = update.options.get("label", secret.label) if update else secret.label
            if owned and own == label:
                return secret
            consumer = secret.consumers.get(self._unit)
            if consumer and consumer.label == label:
                return secret
        raise errors.JujuError(f'consumer label "{label}" not found')

    def _may_read(self, secret: records.Secret) -> None:
        if secret.owner in (self._unit, self._application):
            return
        targets = {grant.target for grant in secret.grants}
        if not targets & {self._unit, self._application}:
            raise errors.JujuError("permission denied")

    def info(self, uri: str, label: str, *, leader: bool) -> dict[str, Any]:
        """What `secret-info-get` prints."""
        secret = self._find(uri, label)
        mine = {self._unit, self._application} if leader else {self._unit}
        if secret.owner not in mine:  # only what a unit manages can be found this way
            raise errors.JujuError(f'secret "{secret.id}" not found')
        shown: dict[str, Any] = {
            "revision": secret.latest,
            "label": secret.label,
            "owner": "unit" if "/" in secret.owner else "application",
            "rotation": secret.rotate,
        }
        if secret.description:
            shown["description"] = secret.description
        if secret.next_rotate is not None:
            shown["rotates"] = _iso(secret.next_rotate)
        expires = secret.revisions[secret.latest].expires
        if expires is not None:
            shown["expiry"] = _iso(expires)
        if secret.grants:
            shown["access"] = [self._access(grant) for grant in secret.grants]
        return {secret.id: shown}

    def _access(self, grant: records.Grant) -> dict[str, str]:
        kind = "unit" if "/" in grant.target else "application"
        relation = self._state.relations.get(grant.relation)
        key = relation.key.replace(" ", "#").replace(":", ".") if relation else ""
        target = grant.target.replace("/", "-")
        return {"target": f"{kind}-{target}", "scope": f"relation-{key}", "role": "view"}

    def owned(self, *, leader: bool) -> list[str]:
        """Ids of stored secrets that this unit manages."""
        owners = {self._unit, self._application} if leader else {self._unit}
        return sorted(secret.id for secret in self._state.secrets if secret.owner in owners)

    # -- buffering

    def add(
        self, owner: str, data: dict[str, str], options: Mapping[str, str], *, leader: bool
    ) -> str:
        """Buffer a new secret; returns its id."""
        if owner not in ("application", "unit"):
            raise errors.JujuError(f'secret owner "{owner}" not valid', 2)
        if owner == "application" and not leader:
            raise errors.JujuError("this unit is not the leader")
        secret = records.Secret(
            new_id(), self._application if owner == "application" else self._unit
        )
        label = options.get("label", "")
        if label and any(other.label == label for other in self._created.values()):
            raise errors.JujuError(f'secret with label "{label}" already exists')
        add_revision(secret, data)
        _set_options(secret, options)
        self._created[secret.id] = secret
        return secret.id

    def update(
        self, uri: str, data: dict[str, str], options: Mapping[str, str], *, leader: bool
    ) -> None:
        """Buffer a change of content or metadata."""
        secret = self._find(uri, "")
        self._may_manage(secret, leader=leader)
        if secret.id in self._created:
            if data:
                secret.revisions[1].data = data
                secret.revisions[1].checksum = checksum(data)
            _set_options(secret, options)
            return
        _set_options(dataclasses.replace(secret), options)  # refuses what is not valid
        update = self._updates.setdefault(secret.id, Update())
        update.data = data or update.data
        update.options.update(options)

    def grant(self, uri: str, grant: records.Grant, *, revoke: bool, leader: bool) -> None:
        """Buffer a grant or its end."""
        secret = self._find(uri, "")
        self._may_manage(secret, leader=leader)
        self._grants.append((secret.id, grant, revoke))

    def remove(self, uri: str, revision: int | None, *, leader: bool) -> None:
        """Buffer a removal."""
        secret = self._find(uri, "")
        self._may_manage(secret, leader=leader)
        if revision is None and self._created.pop(secret.id, None):
            return
        self._removed.append((secret.id, revision))

    def _may_manage(self, secret: records.Secret, *, leader: bool) -> None:
        if secret.owner == self._application and not leader:
            raise errors.JujuError("this unit is not the leader")
        if secret.owner not in (self._application, self._unit):
            raise errors.JujuError("permission denied")

    # -- the end

    def apply(self, *, leader: bool) -> None:
        """Write all that was buffered (inside a transaction)."""
        for secret in self._created.values():
            self._check(secret, leader=leader)
            self._unique(secret, secret.label)
            self._state.secrets.add(secret.id, secret)
        for secret, update in self._each(self._updates.items()):
            self._check(secret, leader=leader)
            if update.options.get("label"):
                self._unique(secret, update.options["label"])
            if update.data:
                add_revision(secret, update.data)
            _set_options(secret, update.options)
        for secret, (grant, revoke) in self._each((i, (g, r)) for i, g, r in self._grants):
            self._check(secret, leader=leader)
            _set_grant(secret, grant, revoke=revoke)
        for secret, revision in self._each(self._removed):
            self._check(secret, leader=leader)
            remove_revision(self._state, secret, revision)

    def _each(self, pairs: Any) -> Iterator[tuple[records.Secret, Any]]:
        for identity, value in pairs:
            secret = self._state.secrets.get(identity)
            if secret is not None:
                yield secret, value

    def _check(self, secret: records.Secret, *, leader: bool) -> None:
        if secret.owner == self._application and not leader:
            raise errors.JujuError("this unit is not the leader")

    def _unique(self, secret: records.Secret, label: str) -> None:
        for other in self._state.secrets:
            if (
                label
                and other.id != secret.id
                and (other.owner, other.label)
                == (
                    secret.owner,
                    label,
                )
            ):
                raise errors.JujuError(f'secret with label "{label}" already exists')


def _set_grant(secret: records.Secret, grant: records.Grant, *, revoke: bool) -> None:
    if not revoke:
        if grant not in secret.grants:
            secret.grants.append(grant)
        return
    secret.grants = [
        other
        for other in secret.grants
        if not (
            (not grant.target or other.target == grant.target)
            and grant.relation in (None, other.relation)
        )
    ]


def _set_options(secret: records.Secret, options: Mapping[str, str]) -> None:
    if "rotate" in options:
        policy = options["rotate"]
        if policy not in ROTATE:
            raise errors.JujuError(f'rotate policy "{policy}" not valid', 2)
        secret.rotate = policy
        secret.next_rotate = time.time() + ROTATE[policy] if ROTATE[policy] else None
        secret.rotate_told = 0.0
    if "expire" in options:
        revision = secret.revisions[secret.latest]
        expires = moment(options["expire"]) if options["expire"] else None
        revision = dataclasses.replace(revision, expires=expires, expired_told=0.0)
        secret.revisions = {**secret.revisions, secret.latest: revision}
    secret.label = options.get("label", secret.label)
    secret.description = options.get("description", secret.description)


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
