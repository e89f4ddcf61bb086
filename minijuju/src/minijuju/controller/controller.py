"""The controller's verbs: what the command line asks for.

The daemon calls `Controller.call(verb, params)` with a verb that is a public method's name (dashes
allowed) and JSON parameters. A verb records its change and returns; agents act later. Results are
JSON-ready. What a user did wrong raises `errors.JujuError(text, code)`.

Every verb takes `model`: a name as jubilant writes it (`m`, `admin/m`, `minijuju:admin/m`), or ""
for the current model. `view` runs a pure function of the `views` module over the stored records.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from minijuju.agent import actions
from minijuju.controller import controller_machines, controller_secrets, deployment
from minijuju.machines import manager
from minijuju.model import behaviour, errors, lifecycle, records, relations, storage, store

if TYPE_CHECKING:
    import pathlib

MODEL_DEFAULTS: dict[str, Any] = {
    "automatically-retry-hooks": True,
    "default-base": "",
    "development": False,
    "logging-config": "<root>=INFO",
    "type": "lxd",
    "update-status-hook-interval": "5m",
}
DESTROY_SECONDS = 600.0


class Controller(controller_machines.MachineVerbs, controller_secrets.SecretVerbs):
    """All verbs. One instance lives in the daemon of one $MINIJUJU_HOME."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        self.store = store.Store(home / "state.db")
        self.manager = manager.Manager(self.store, home)

    def start(self) -> None:
        """Begin to act on what is recorded."""
        self.manager.start()

    def stop(self) -> None:
        """Stop acting; machines run on."""
        self.manager.stop()
        self.store.close()

    def call(self, verb: str, params: dict[str, Any]) -> Any:
        """Run a verb by name."""
        name = verb.replace("-", "_")
        method = getattr(self, name, None)
        if name.startswith("_") or name in ("call", "start", "stop", "state") or method is None:
            raise errors.JujuError(f'unknown verb "{verb}"', 2)
        if name not in ("ssh", "attach_console"):
            params = {k: v for k, v in params.items() if k not in ("fds", "caller")}
        return method(**params)

    def bootstrap(self, version: str = "") -> str:
        """Choose which Juju models made from now on are; returns its whole version."""
        if version:
            self.store.setting("agent-version", self._named(version))
        return behaviour.of(self._version()).version

    def _version(self) -> str:
        return self.store.setting("agent-version") or behaviour.DEFAULT

    @staticmethod
    def _named(version: str) -> str:
        try:
            return behaviour.of(version).name
        except KeyError:
            known = " or ".join(behaviour.BEHAVIOURS)
            raise errors.JujuError(f'no agent version "{version}": minijuju is {known}') from None

    # -- models

    def state(self, model: str) -> store.ModelState:
        """A model's records by its name."""
        name = model.rsplit(":", 1)[-1].rsplit("/", 1)[-1] or self.switch()
        if not name:
            raise errors.JujuError("No selected model.\n\nUse `juju switch` to choose one.")
        for record in self.store.models:
            if record.name == name:
                return self.store.states[record.uuid]
        raise errors.JujuError(f"model admin/{name} not found")

    def add_model(
        self, name: str, config: dict[str, str] | None = None, switch: bool = True
    ) -> dict[str, Any]:
        r"""Make a model. Raises "model \"x\" already exists"; returns {"name", "uuid"}."""
        with self.store.transaction():
            if any(record.name == name for record in self.store.models):
                raise errors.JujuError(
                    f'failed to create new model: model "{name}" for admin already exists'
                )
            record = records.Model(name, str(uuid.uuid4()))
            options = dict(config or {})
            record.agent_version = self._named(options.pop("agent-version", "") or self._version())
            record.config = {key: self._typed(key, text) for key, text in options.items()}
            self.store.new_model(record)
        if switch:
            self.store.setting("current-model", name)
        return {"name": name, "uuid": record.uuid}

    def destroy_model(
        self,
        model: str,
        force: bool = False,
        destroy_storage: bool = False,
        release_storage: bool = False,
        timeout: float | None = None,
        no_wait: bool = False,
    ) -> None:
        """Remove everything in a model and the model; returns when it is gone.

        With detachable storage left and neither storage flag, refuses as Juju does.
        """
        state = self.state(model)
        if not (destroy_storage or release_storage) and any(i.detachable for i in state.storage):
            raise errors.JujuError(
                f'cannot destroy model "{state.name}"\n\nThe model has persistent storage '
                "remaining. Use --destroy-storage or --release-storage."
            )
        with self.store.transaction():
            state.model.life = records.DYING
            for application in state.applications:
                lifecycle.destroy_application(
                    state, application, force=force, no_wait=True, destroy_storage=destroy_storage
                )
            for machine in state.machines:
                if not state.units_on(machine.id):
                    machine.life = records.DEAD
        gone = self.manager.wait(
            lambda: not len(state.machines) and not len(state.units),
            timeout or DESTROY_SECONDS,
        )
        if not gone and not force:
            raise errors.JujuError("timeout: model is still being destroyed")
        self._bury(state)

    def _bury(self, state: store.ModelState) -> None:
        with self.store.transaction():
            for unit in state.units:
                lifecycle.force_out(state, unit)
            for machine in state.machines:
                machine.life = records.DEAD
        self.manager.wait(lambda: not len(state.machines), 60)
        name = state.name
        with self.store.transaction():
            self.store.drop_model(state.uuid)
        self.manager.drop(state)
        if self.store.setting("current-model") == name:
            self.store.setting("current-model", "")

    def switch(self, model: str = "") -> str:
        """Make a model current ("" only asks); returns the current model's name."""
        if model:
            self.store.setting("current-model", self.state(model).name)
        return self.store.setting("current-model")

    def model_config(
        self, model: str, values: dict[str, str] | None = None, reset: list[str] | None = None
    ) -> dict[str, Any]:
        """Set and reset options, then return all as {key: {"Value", "Source"}}."""
        state = self.state(model)
        with self.store.transaction():
            for key in reset or []:
                state.model.config.pop(key, None)
            for key, text in (values or {}).items():
                state.model.config[key] = self._typed(key, text)
        merged = {
            key: {"Value": value, "Source": "default"} for key, value in MODEL_DEFAULTS.items()
        }
        for key, value in state.model.config.items():
            merged[key] = {"Value": value, "Source": "model"}
        merged["agent-version"] = {"Value": state.behaviour.version, "Source": "model"}
        merged["name"] = {"Value": state.name, "Source": "model"}
        merged["uuid"] = {"Value": state.uuid, "Source": "model"}
        return dict(sorted(merged.items()))

    @staticmethod
    def _typed(key: str, text: Any) -> Any:
        if isinstance(MODEL_DEFAULTS.get(key), bool):
            return str(text).lower() in ("true", "1", "t")
        return str(text)

    def model_constraints(
        self, model: str, values: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Set (if given) and return the model's constraints."""
        state = self.state(model)
        if values is not None:
            with self.store.transaction(quiet=True):
                state.model.constraints = dict(values)
        return dict(state.model.constraints)

    # -- applications and units

    def application(self, state: store.ModelState, name: str) -> records.Application:
        """An application's record."""
        found = state.applications.get(name)
        if found is None:
            raise errors.JujuError(f'application "{name}" not found')
        return found

    def deploy(
        self,
        model: str,
        charm: str,
        application: str = "",
        num_units: int | None = None,
        config: dict[str, str] | None = None,
        resources: dict[str, str] | None = None,
        storage: dict[str, str] | None = None,
        attach_storage: list[str] | None = None,
        to: list[str] | None = None,
        base: str = "",
        constraints: dict[str, str] | None = None,
        bind: str = "",
        trust: bool = False,
        force: bool = False,
    ) -> dict[str, Any]:
        """Deploy a local charm: an absolute path of a `.charm` file or of a charm directory.

        `config` values are strings as typed (the option's type decides); `resources` maps names to
        absolute host paths; `storage` maps names to directives. Returns {"application", "charm"
        (URL), "units": [names], "messages": [lines for stderr]}.
        """
        state = self.state(model)
        if application:
            deployment.check_name(state, application)
        uploaded = deployment.upload_charm(state, self.home, charm)
        options: dict[str, Any] = {
            "config": config,
            "resources": resources,
            "storage": storage,
            "attach_storage": attach_storage,
            "base": base,
            "constraints": constraints,
            "bind": bind,
            "trust": trust,
            "force": force,
        }
        with self.store.transaction():
            return deployment.deploy(
                state,
                self.home,
                state.charms[uploaded.url],
                application,
                num_units,
                to or [],
                options,
            )

    def refresh(
        self,
        model: str,
        application: str,
        charm: str = "",
        config: dict[str, str] | None = None,
        resources: dict[str, str] | None = None,
        storage: dict[str, str] | None = None,
        trust: bool = False,
        force: bool = False,
        force_units: bool = False,
    ) -> dict[str, Any]:
        """Upload `charm` as a new revision and switch the application to it; returns {"charm"}."""
        state = self.state(model)
        self.application(state, application)
        uploaded = deployment.upload_charm(state, self.home, charm) if charm else None
        options: dict[str, Any] = {
            "config": config,
            "resources": resources,
            "storage": storage,
            "trust": trust,
            "force_units": force_units or force,
        }
        with self.store.transaction():
            record = self.application(state, application)
            deployment.refresh(state, self.home, record, uploaded, options)
            return {"charm": record.charm_url}

    def add_unit(
        self,
        model: str,
        application: str,
        num_units: int = 1,
        to: list[str] | None = None,
        attach_storage: list[str] | None = None,
    ) -> list[str]:
        """Add units; returns their names."""
        state = self.state(model)
        with self.store.transaction():
            record = self.application(state, application)
            given = storage.detached(state, attach_storage or [])
            return deployment.add_units(state, self.home, record, num_units, to or [], given)

    def remove_unit(
        self,
        model: str,
        units: list[str],
        num_units: int | None = None,
        force: bool = False,
        no_wait: bool = False,
        destroy_storage: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Remove units.

        Returns {"messages": [stdout lines `will remove unit x/0` ...], "errors": [stderr texts],
        "code"}. With `num_units`, `units` is one application, whose newest units go.
        """
        state = self.state(model)
        messages: list[str] = []
        failed: list[str] = []
        with self.store.transaction():
            if num_units is not None:
                self.application(state, units[0])
                newest = [unit.name for unit in state.units_of(units[0])][-num_units:]
                units = newest if num_units else []
            for name in units:
                unit = state.units.get(name)
                if unit is None:
                    failed.append(f'removing unit {name} failed: unit "{name}" not found')
                    continue
                if unit.principal:
                    failed.append(
                        f'removing unit {name} failed: unit "{name}" is a subordinate, to remove '
                        "use remove-relation. Note: this will remove all units of "
                        f'"{unit.application}"'
                    )
                    continue
                messages.append(f"will remove unit {name}")
                messages += storage.farewell(state, unit, destroy=destroy_storage)
                if not dry_run:
                    lifecycle.destroy_unit(
                        state, unit, force=force, no_wait=no_wait, destroy_storage=destroy_storage
                    )
        return {"messages": messages, "errors": failed, "code": 1 if failed else 0}

    def remove_application(
        self,
        model: str,
        applications: list[str],
        force: bool = False,
        no_wait: bool = False,
        destroy_storage: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Remove applications; returns the same shape as `remove_unit`."""
        state = self.state(model)
        messages: list[str] = []
        failed: list[str] = []
        with self.store.transaction():
            for name in applications:
                record = state.applications.get(name)
                if record is None:
                    failed.append(
                        f'removing application {name} failed: application "{name}" not found'
                    )
                    continue
                messages.append(f"will remove application {name}")
                for unit in state.units_of(name):
                    messages.append(f"- will remove unit {unit.name}")
                    messages += storage.farewell(state, unit, destroy=destroy_storage)
                if not dry_run:
                    lifecycle.destroy_application(
                        state,
                        record,
                        force=force,
                        no_wait=no_wait,
                        destroy_storage=destroy_storage,
                    )
        return {"messages": messages, "errors": failed, "code": 1 if failed else 0}

    def integrate(self, model: str, first: str, second: str) -> dict[str, Any]:
        """Relate `app[:endpoint]` to `app[:endpoint]`; returns {"id", "key"}."""
        state = self.state(model)
        with self.store.transaction():
            relation = relations.integrate(state, first, second)
        return {"id": relation.id, "key": relation.key}

    def remove_relation(
        self, model: str, first: str, second: str = "", force: bool = False
    ) -> None:
        """Remove a relation given by two endpoints, or by id in `first`."""
        state = self.state(model)
        with self.store.transaction():
            relation = relations.find(state, first, second)
            relations.destroy(state, relation, force=force)

    def config(
        self,
        model: str,
        application: str,
        values: dict[str, str] | None = None,
        reset: list[str] | None = None,
    ) -> None:
        """Set options (strings as typed; `@file` is the command line's work) and reset others."""
        state = self.state(model)
        with self.store.transaction():
            record = self.application(state, application)
            deployment.set_config(state, record, values or {}, reset or [])

    def trust(self, model: str, application: str, remove: bool = False) -> None:
        """Give or take the application's access to the cloud credential."""
        state = self.state(model)
        with self.store.transaction():
            self.application(state, application).trust = not remove

    def expose(self, model: str, application: str, exposed: bool = True) -> None:
        """Mark an application exposed or not."""
        state = self.state(model)
        with self.store.transaction(quiet=True):
            self.application(state, application).exposed = exposed

    def resolved(
        self,
        model: str,
        units: list[str],
        no_retry: bool = False,
        everything: bool = False,
    ) -> None:
        """End a unit's hook error."""
        state = self.state(model)
        with self.store.transaction():
            if everything:
                units = [unit.name for unit in state.units if unit.agent.current == "error"]
            for name in units:
                unit = state.units.get(name)
                if unit is None:
                    raise errors.JujuError(f'unit "{name}" not found')
                if unit.agent.current != "error":
                    raise errors.JujuError(f'unit "{name}" is not in an error state')
                unit.resolved = "no-retry" if no_retry else "retry"

    # -- actions

    def run(
        self, model: str, receivers: list[str], action: str, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Enqueue an action on units or `app/leader`.

        Returns {"operation": id, "tasks": [{"id", "receiver"}], "errors": [reasons]}; when no task
        was made, the caller prints "Operation N failed to schedule any tasks:\\n<reasons>".
        """
        state = self.state(model)
        with self.store.transaction():
            return actions.enqueue(state, receivers, action, params or {})

    def execute(
        self,
        model: str,
        command: str,
        units: list[str] | None = None,
        machines: list[str] | None = None,
        applications: list[str] | None = None,
        everywhere: bool = False,
        timeout: float = 300,
    ) -> dict[str, Any]:
        """Enqueue `juju exec`; returns the same shape as `run`."""
        state = self.state(model)
        params = {"command": command, "timeout": timeout}
        with self.store.transaction():
            targets = [actions.resolve_receiver(state, unit).name for unit in units or []]
            for name in applications or []:
                self.application(state, name)
                targets += [unit.name for unit in state.units_of(name)]
            hosts = list(machines or [])
            if everywhere:
                hosts += state.machines.names()
            for name in hosts:
                if name not in state.machines:
                    raise errors.JujuError(f"machine {name} not found")
            operation = records.Operation(
                str(state.model.next("task") + 1), f"exec run on {', '.join([*targets, *hosts])}"
            )
            state.operations.add(operation.id, operation)
            tasks = [
                actions.add_task(state, operation, target, actions.EXEC, params)
                for target in [*targets, *hosts]
            ]
        for task in tasks:
            if "/" not in task.receiver:
                self.run_on_machine(state, task.id)
        made = [{"id": task.id, "receiver": task.receiver} for task in tasks]
        return {"operation": operation.id, "tasks": made, "errors": []}

    def wait_tasks(self, model: str, tasks: list[str], timeout: float) -> dict[str, Any]:
        """Wait until tasks end or `timeout` seconds pass; returns {task id: record as a dict}."""
        state = self.state(model)
        known = [state.tasks[identity] for identity in tasks if identity in state.tasks]

        def done() -> bool:
            return all(state.tasks[task.id].done for task in known if task.id in state.tasks)

        self.manager.wait(done, timeout)
        with self.store.lock:
            return {task.id: {**vars(state.tasks[task.id])} for task in known}

    def cancel_task(self, model: str, task: str) -> None:
        """Cancel a pending task, or send TERM to a running one."""
        state = self.state(model)
        running = ""
        with self.store.transaction():
            record = state.tasks.get(task)
            if record is None:
                raise errors.JujuError(f'task "{task}" not found')
            if record.status == "pending":
                record.status, record.completed = "cancelled", time.time()
            elif record.status == "running":
                record.status, running = "aborting", record.receiver
        unit = state.units.get(running)
        agent = self.manager.agent(state, unit) if unit else None
        if agent:
            agent.interrupt()
        self.manager.wake()

    # -- resources and storage

    def attach_resource(self, model: str, application: str, name: str, path: str) -> None:
        """Upload a host file as a new revision of a resource."""
        state = self.state(model)
        with self.store.transaction():
            record = self.application(state, application)
            deployment.add_resource(state, self.home, record, name, path)

    def _unit(self, state: store.ModelState, name: str) -> records.Unit:
        unit = state.units.get(name)
        if unit is None:
            raise errors.JujuError(f'unit "{name}" not found')
        return unit

    def add_storage(self, model: str, unit: str, storage: dict[str, str]) -> list[str]:
        """Add storage by directive to a live unit; returns the new ids."""
        state = self.state(model)
        with self.store.transaction():
            record = self._unit(state, unit)
            return [
                identity
                for name, directive in storage.items()
                for identity in _storage.add(state, record, name, directive, self.home)
            ]

    def attach_storage(self, model: str, unit: str, storage: list[str]) -> None:
        """Attach detached instances to a unit."""
        state = self.state(model)
        with self.store.transaction():
            for instance in _storage.detached(state, storage):
                _storage.attach(state, self._unit(state, unit), instance)

    def detach_storage(self, model: str, storage: list[str], force: bool = False) -> None:
        """Detach instances from their units."""
        state = self.state(model)
        with self.store.transaction():
            for identity in storage:
                _storage.detach(state, _storage.instance_of(state, identity), force=force)

    def remove_storage(
        self, model: str, storage: list[str], force: bool = False, destroy: bool = True
    ) -> None:
        """Remove instances; an attached one only with `force`."""
        state = self.state(model)
        with self.store.transaction():
            for identity in storage:
                _storage.remove(state, _storage.instance_of(state, identity), force=force)

    # -- reading

    def view(self, model: str, name: str, **params: Any) -> Any:
        """Call `views.<name>(state, controller, **params)` under the store's lock.

        `state` is the `store.ModelState`, or the whole `store.Store` for model "*".
        """
        from minijuju.controller import views

        function = getattr(views, name.replace("-", "_"), None)
        if function is None or name.startswith("_"):
            raise errors.JujuError(f'unknown view "{name}"', 2)
        with self.store.lock:
            scope = self.store if model == "*" else self.state(model)
            return function(scope, self, **params)

    def debug_log(
        self, model: str, limit: int = 0, include: list[str] | None = None, level: str = ""
    ) -> list[dict[str, Any]]:
        """Log records, oldest first: {"entity", "time", "level", "module", "message"}."""
        return self.manager.log(self.state(model)).read(limit, include, level)

    def status_history(self, model: str, entity: str, limit: int = 20) -> list[dict[str, Any]]:
        """Status changes of an entity: {"kind", "since", "status", "message"}, oldest first."""
        return self.store.history(self.state(model), entity, limit)


_storage = storage
