"""The controller's memory: tables of records, kept in SQLite, changed only in transactions.

Code reads records under `Store.lock`; code that changes them does so inside
`with store.transaction():`, which writes what differs when the block ends and puts everything
back when it raises. SQLite runs with a write-ahead log, so a controller killed at any moment
finds its last finished transaction again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import threading
import types
import typing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minijuju.model import behaviour, records

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

T = TypeVar("T")


def decode(hint: Any, value: Any) -> Any:
    """Rebuild a value of the hinted type from what JSON gave."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        chosen = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else decode(chosen[0], value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(
            **{key: decode(hints[key], item) for key, item in value.items() if key in hints}
        )
    if origin is dict:
        number = arguments[0] is int
        return {int(k) if number else k: decode(arguments[1], v) for k, v in value.items()}
    if origin is list:
        return [decode(arguments[0], item) for item in value]
    return tuple(value) if origin is tuple else value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


def encode(record: Any) -> str:
    """A record as JSON text."""
    return json.dumps(record, default=vars, separators=(",", ":"))


class Table(Generic[T]):
    """The records of one kind in one model, by key."""

    def __init__(self, kind: type[T], store: Store, scope: str, name: str) -> None:
        self._kind, self._store, self._scope, self._name = kind, store, scope, name
        self._rows: dict[str, T] = {}
        self._saved: dict[str, str] = {}
        self._touched: set[str] = set()

    def __contains__(self, key: object) -> bool:
        return str(key) in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[T]:
        """All records, in the order in which they were made."""
        if self._store.writing:
            self._touched.update(self._rows)
        return iter(list(self._rows.values()))

    def names(self) -> list[str]:
        """All keys."""
        return list(self._rows)

    def __getitem__(self, key: object) -> T:
        record = self._rows[str(key)]
        if self._store.writing:
            self._touched.add(str(key))
        return record

    def get(self, key: object) -> T | None:
        """The record, or None."""
        return self[key] if str(key) in self._rows else None

    def add(self, key: object, record: T) -> T:
        """Put in a new record (inside a transaction)."""
        self._store.require_writing()
        self._rows[str(key)] = record
        self._touched.add(str(key))
        return record

    def remove(self, key: object) -> None:
        """Take a record out (inside a transaction); absent is fine."""
        self._store.require_writing()
        self._rows.pop(str(key), None)
        self._touched.add(str(key))

    def load(self, key: str, body: str) -> None:
        """Fill in one stored row."""
        self._rows[key] = decode(self._kind, json.loads(body))
        self._saved[key] = body

    def collect(self) -> list[tuple[str, str, str, str | None]]:
        """Rows that differ from what is stored: (scope, table, key, body or None when removed)."""
        changes: list[tuple[str, str, str, str | None]] = []
        for key in self._touched:
            body = encode(self._rows[key]) if key in self._rows else None
            if body != self._saved.get(key):
                changes.append((self._scope, self._name, key, body))
        return changes

    def settle(self) -> None:
        """Take the present content as stored."""
        for key in self._touched:
            if key in self._rows:
                self._saved[key] = encode(self._rows[key])
            else:
                self._saved.pop(key, None)
        self._touched.clear()

    def rollback(self) -> None:
        """Put touched records back as they are stored."""
        for key in self._touched:
            if key in self._saved:
                self._rows[key] = decode(self._kind, json.loads(self._saved[key]))
            else:
                self._rows.pop(key, None)
        self._touched.clear()


class ModelState:
    """All tables of one model."""

    def __init__(self, store: Store, uuid: str) -> None:
        def table(kind: type[T], name: str) -> Table[T]:
            return Table(kind, store, uuid, name)

        self.store = store
        self.uuid = uuid
        self.charms = table(records.Charm, "charms")
        self.applications = table(records.Application, "applications")
        self.units = table(records.Unit, "units")
        self.machines = table(records.MachineRecord, "machines")
        self.relations = table(records.Relation, "relations")
        self.secrets = table(records.Secret, "secrets")
        self.storage = table(records.StorageInstance, "storage")
        self.resources = table(records.Resource, "resources")
        self.operations = table(records.Operation, "operations")
        self.tasks = table(records.Task, "tasks")
        self.tables: dict[str, Table[Any]] = {
            name: value for name, value in vars(self).items() if isinstance(value, Table)
        }

    @property
    def model(self) -> records.Model:
        """The model's own record."""
        return self.store.models[self.uuid]

    @property
    def behaviour(self) -> behaviour.Behaviour:
        """Which Juju the model is."""
        return behaviour.of(self.model.agent_version)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def units_of(self, application: str) -> list[records.Unit]:
        """Units of an application, by number."""
        found = [unit for unit in self.units if unit.application == application]
        return sorted(found, key=lambda unit: unit.number)

    def units_on(self, machine: str) -> list[records.Unit]:
        """Units on a machine, subordinates too."""
        return [unit for unit in self.units if unit.machine == machine]

    def subordinates_of(self, principal: str) -> list[records.Unit]:
        """Subordinate units of a principal unit."""
        return [unit for unit in self.units if unit.principal == principal]

    def relations_of(self, application: str) -> list[records.Relation]:
        """Relations in which an application takes part."""
        return [relation for relation in self.relations if relation.involves(application)]

    def storage_of(self, unit: str) -> list[records.StorageInstance]:
        """Storage instances attached to (or on their way to or from) a unit."""
        return [instance for instance in self.storage if instance.owner == unit]


class Store:
    """All models of one home. `path` None keeps everything in memory (tests)."""

    def __init__(self, path: pathlib.Path | None = None) -> None:
        self.lock = threading.RLock()
        self._depth = 0
        self._writer = 0
        self.models: Table[records.Model] = Table(records.Model, self, "", "models")
        self.states: dict[str, ModelState] = {}
        self.listeners: list[Callable[[set[str]], None]] = []
        self._wake: set[str] = set()
        self._quiet = True
        self._database = sqlite3.connect(
            str(path) if path else ":memory:", check_same_thread=False, isolation_level=None
        )
        self._database.executescript(
            """
            PRAGMA journal_mode=WAL;
            PRAGMA synchronous=NORMAL;
            CREATE TABLE IF NOT EXISTS records (
                scope TEXT, kind TEXT, key TEXT, body TEXT, number INTEGER,
                PRIMARY KEY (scope, kind, key)
            );
            CREATE TABLE IF NOT EXISTS history (
                scope TEXT, entity TEXT, kind TEXT, at REAL, status TEXT, message TEXT
            );
            CREATE INDEX IF NOT EXISTS history_entity ON history (scope, entity);
            CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT);
            """
        )
        self._history: list[tuple[str, str, str, float, str, str]] = []
        self._number = 0
        self._load()

    def _load(self) -> None:
        rows = self._database.execute(
            "SELECT scope, kind, key, body, number FROM records ORDER BY number"
        )
        for scope, kind, key, body, number in rows.fetchall():
            self._number = max(self._number, number)
            if scope == "":
                self.models.load(key, body)
                continue
            if scope not in self.states:
                self.states[scope] = ModelState(self, scope)
            self.states[scope].tables[kind].load(key, body)
        for uuid in self.models.names():
            self.states.setdefault(uuid, ModelState(self, uuid))

    @property
    def writing(self) -> bool:
        """Whether this thread has a transaction open; others may read meanwhile."""
        return bool(self._depth) and self._writer == threading.get_ident()

    def require_writing(self) -> None:
        """Raise if no transaction is open."""
        if not self.writing:
            raise RuntimeError("a record is changed outside a transaction")

    @contextlib.contextmanager
    def transaction(self, *, quiet: bool = False) -> Iterator[None]:
        """Change records, all or nothing; may be nested.

        `quiet`: no agent needs to look (a status, a version).
        """
        with self.lock:
            self._depth += 1
            self._writer = threading.get_ident()
            try:
                yield
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    self._rollback()
                raise
            self._quiet = self._quiet and quiet
            self._depth -= 1
            if self._depth:
                return
            try:
                woken = self._commit()
            except BaseException:
                self._rollback()
                raise
        for listener in self.listeners if woken else []:
            listener(woken)

    def _tables(self) -> Iterator[Table[Any]]:
        yield self.models
        for state in self.states.values():
            yield from state.tables.values()

    def _rollback(self) -> None:
        for table in self._tables():
            table.rollback()
        self._history.clear()
        self._quiet = True

    def _commit(self) -> set[str]:
        changes = [change for table in self._tables() for change in table.collect()]
        if changes or self._history:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for scope, kind, key, body in changes:
                    self._save(scope, kind, key, body)
                self._database.executemany(
                    "INSERT INTO history VALUES (?,?,?,?,?,?)", self._history
                )
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
        for table in self._tables():
            table.settle()
        self._history.clear()
        quiet, self._quiet = self._quiet, True
        return set() if quiet else {scope or key for scope, _, key, _ in changes}

    def _save(self, scope: str, kind: str, key: str, body: str | None) -> None:
        if body is None:
            self._database.execute(
                "DELETE FROM records WHERE scope=? AND kind=? AND key=?", (scope, kind, key)
            )
            return
        self._number += 1
        self._database.execute(
            "INSERT INTO records VALUES (?,?,?,?,?)"
            " ON CONFLICT (scope, kind, key) DO UPDATE SET body=excluded.body",
            (scope, kind, key, body, self._number),
        )

    def new_model(self, model: records.Model) -> ModelState:
        """Make a model (inside a transaction)."""
        self.models.add(model.uuid, model)
        self.states[model.uuid] = ModelState(self, model.uuid)
        return self.states[model.uuid]

    def drop_model(self, uuid: str) -> None:
        """Forget a model and all it holds (inside a transaction)."""
        for table in self.states[uuid].tables.values():
            for key in table.names():
                table.remove(key)
        self.models.remove(uuid)

    def record_status(
        self, state: ModelState, entity: str, kind: str, status: records.Status
    ) -> None:
        """Add to the status history (inside a transaction).

        `kind`: workload, juju-unit, application, machine, juju-machine.
        """
        self.require_writing()
        self._history.append(
            (state.uuid, entity, kind, status.since, status.current, status.message)
        )

    def history(self, state: ModelState, entity: str, limit: int = 20) -> list[dict[str, Any]]:
        """The newest `limit` status changes of a unit, application or machine, oldest first."""
        with self.lock:
            rows = self._database.execute(
                "SELECT kind, at, status, message FROM history WHERE scope=? AND entity=?"
                " ORDER BY at DESC LIMIT ?",
                (state.uuid, entity, limit),
            ).fetchall()
        return [
            dict(zip(("kind", "since", "status", "message"), row, strict=True))
            for row in reversed(rows)
        ]

    def setting(self, key: str, value: str | None = None) -> str:
        """Read, or write and return, a setting of the home such as `current-model`."""
        with self.lock:
            if value is not None:
                self._database.execute(
                    "INSERT OR REPLACE INTO settings VALUES (?,?)", (key, value)
                )
            row = self._database.execute(
                "SELECT value FROM settings WHERE key=?", (key,)
            ).fetchone()
        return row[0] if row else ""

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            self._database.close()
