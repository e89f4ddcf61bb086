"""The controller's verbs: what the command line asks for.

The daemon calls `Controller.call(verb, params)` with a verb that is a public method's name (dashes
allowed) and JSON parameters. A verb records its change and returns; agents act later. Results are
JSON-ready. What a user did wrong raises `errors.JujuError(text, code)`.

Every verb takes `model`: a name as jubilant writes it (`m`, `admin/m`, `minijuju:admin/m`), or ""
for the current model. `view` runs a pure function of the `views` module over the stored records.
"""

from __future__ import annotations

from typing import Any


class Controller:
    """All verbs. One instance lives in the daemon of one $MINIJUJU_HOME."""

    # -- models

    def add_model(
        self, name: str, config: dict[str, str] | None = None, switch: bool = True
    ) -> dict[str, Any]:
        """Make a model. Raises "model \"x\" already exists"; returns {"name", "uuid"}."""
        raise NotImplementedError

    def destroy_model(
        self,
        model: str,
        force: bool = False,
        destroy_storage: bool = False,
        release_storage: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Remove everything in a model and the model; returns when it is gone.

        With detachable storage left and neither storage flag, refuses as Juju does.
        """
        raise NotImplementedError

    def switch(self, model: str = "") -> str:
        """Make a model current ("" only asks); returns the current model's name."""
        raise NotImplementedError

    def model_config(
        self, model: str, values: dict[str, str] | None = None, reset: list[str] | None = None
    ) -> dict[str, Any]:
        """Set and reset options, then return all as {key: {"Value", "Source"}}."""
        raise NotImplementedError

    def model_constraints(
        self, model: str, values: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Set (if given) and return the model's constraints."""
        raise NotImplementedError

    # -- applications and units

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
        raise NotImplementedError

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
        raise NotImplementedError

    def add_unit(
        self,
        model: str,
        application: str,
        num_units: int = 1,
        to: list[str] | None = None,
        attach_storage: list[str] | None = None,
    ) -> list[str]:
        """Add units; returns their names."""
        raise NotImplementedError

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
        """Remove units (for a subordinate-less application also by name and `num_units`).

        Returns {"messages": [stdout lines `will remove unit x/0` ...], "errors": [stderr texts],
        "code"}.
        """
        raise NotImplementedError

    def remove_application(
        self,
        model: str,
        applications: list[str],
        force: bool = False,
        no_wait: bool = False,
        destroy_storage: bool = False,
    ) -> dict[str, Any]:
        """Remove applications; returns the same shape as `remove_unit`."""
        raise NotImplementedError

    def integrate(self, model: str, first: str, second: str) -> dict[str, Any]:
        """Relate `app[:endpoint]` to `app[:endpoint]`; returns {"id", "key"}."""
        raise NotImplementedError

    def remove_relation(
        self, model: str, first: str, second: str = "", force: bool = False
    ) -> None:
        """Remove a relation given by two endpoints, or by id in `first`."""
        raise NotImplementedError

    def config(
        self,
        model: str,
        application: str,
        values: dict[str, str] | None = None,
        reset: list[str] | None = None,
    ) -> None:
        """Set options (strings as typed; `@file` is the command line's work) and reset others."""
        raise NotImplementedError

    def trust(self, model: str, application: str, remove: bool = False) -> None:
        """Give or take the application's access to the cloud credential."""
        raise NotImplementedError

    def expose(self, model: str, application: str, exposed: bool = True) -> None:
        """Mark an application exposed or not."""
        raise NotImplementedError

    def resolved(
        self, model: str, units: list[str], no_retry: bool = False, everything: bool = False
    ) -> None:
        """End a unit's hook error."""
        raise NotImplementedError

    # -- actions

    def run(
        self, model: str, receivers: list[str], action: str, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Enqueue an action on units or `app/leader`.

        Returns {"operation": id, "tasks": [{"id", "receiver"}], "errors": [reasons]}; when no task
        was made, the caller prints "Operation N failed to schedule any tasks:\\n<reasons>".
        """
        raise NotImplementedError

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
        raise NotImplementedError

    def wait_tasks(self, model: str, tasks: list[str], timeout: float) -> dict[str, Any]:
        """Wait until tasks end or `timeout` seconds pass; returns {task id: record as a dict}."""
        raise NotImplementedError

    def cancel_task(self, model: str, task: str) -> None:
        """Cancel a pending task, or send TERM to a running one."""
        raise NotImplementedError

    # -- resources and storage

    def attach_resource(self, model: str, application: str, name: str, path: str) -> None:
        """Upload a host file as a new revision of a resource."""
        raise NotImplementedError

    def add_storage(self, model: str, unit: str, storage: dict[str, str]) -> list[str]:
        """Add storage by directive to a live unit; returns the new ids."""
        raise NotImplementedError

    def attach_storage(self, model: str, unit: str, storage: list[str]) -> None:
        """Attach detached instances to a unit."""
        raise NotImplementedError

    def detach_storage(self, model: str, storage: list[str], force: bool = False) -> None:
        """Detach instances from their units."""
        raise NotImplementedError

    def remove_storage(
        self, model: str, storage: list[str], force: bool = False, destroy: bool = True
    ) -> None:
        """Remove instances; an attached one only with `force`."""
        raise NotImplementedError

    # -- machines

    def add_machine(
        self, model: str, count: int = 1, base: str = "", constraints: dict[str, str] | None = None
    ) -> list[str]:
        """Add empty machines; returns their ids."""
        raise NotImplementedError

    def remove_machine(
        self, model: str, machines: list[str], force: bool = False, keep: bool = False
    ) -> dict[str, Any]:
        """Remove machines; returns the same shape as `remove_unit`."""
        raise NotImplementedError

    def ssh(
        self,
        model: str,
        target: str,
        command: list[str],
        user: str = "ubuntu",
        fds: list[int] | None = None,
    ) -> int:
        """Run a command (or a login shell) as a user in a unit's or machine's machine.

        `fds` are the caller's stdin, stdout and stderr, passed over the socket; returns the exit
        code. `app/leader` works. The words of `command` are joined by spaces, as ssh does.
        """
        raise NotImplementedError

    def copy(self, model: str, source: str, destination: str, recursive: bool = False) -> None:
        """`scp`: one of the two is `unit:path` or `machine:path`, the other an absolute path."""
        raise NotImplementedError

    def chaos(
        self,
        model: str,
        action: str,
        machine: str,
        others: list[str] | None = None,
        leave_mib: int = 0,
    ) -> None:
        """Hurt a machine (id, unit or hostname): what a real Juju does not offer.

        `action`: kill, start, pause, resume, cut, heal, fill-disk, free-disk, reboot.
        """
        raise NotImplementedError

    # -- user secrets

    def add_secret(self, model: str, name: str, data: dict[str, str], info: str = "") -> str:
        """Make a user secret (keys may end in `#base64`); returns its URI."""
        raise NotImplementedError

    def update_secret(
        self,
        model: str,
        secret: str,
        data: dict[str, str] | None = None,
        info: str | None = None,
        name: str = "",
        auto_prune: bool | None = None,
    ) -> None:
        """Change a user secret given by name or URI."""
        raise NotImplementedError

    def grant_secret(self, model: str, secret: str, applications: list[str]) -> None:
        """Let applications read a user secret."""
        raise NotImplementedError

    def revoke_secret(self, model: str, secret: str, applications: list[str]) -> None:
        """Take that leave back."""
        raise NotImplementedError

    def remove_secret(self, model: str, secret: str, revision: int | None = None) -> None:
        """Remove a user secret or one revision of it."""
        raise NotImplementedError

    # -- reading

    def view(self, model: str, name: str, **params: Any) -> Any:
        """Call `views.<name>(state, controller, **params)` under the store's lock.

        `state` is the `store.ModelState` (None for views over all models, with model "*").
        """
        raise NotImplementedError

    def debug_log(
        self,
        model: str,
        limit: int = 0,
        include: list[str] | None = None,
        level: str = "",
    ) -> list[dict[str, Any]]:
        """Log records, oldest first: {"entity" `unit-a-0`, "time", "level", "module", "message"}."""
        raise NotImplementedError

    def status_history(self, model: str, entity: str, limit: int = 20) -> list[dict[str, Any]]:
        """Status changes of an entity: {"kind", "since", "status", "message"}, oldest first."""
        raise NotImplementedError
