"""Actions: checking parameters, queueing, and running one on a unit."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

from minijuju.agent import hookcontext
from minijuju.model import errors, records, relations

if TYPE_CHECKING:
    from minijuju.agent import ports
    from minijuju.model import store

EXEC = "juju-exec"
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


# -- schemas


def with_defaults(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Parameters with the schema's defaults filled in, nested ones too."""
    filled = dict(value)
    for name, spec in (schema.get("properties") or {}).items():
        if not isinstance(spec, dict):
            continue
        if name not in filled and "default" in spec:
            filled[name] = spec["default"]
        if spec.get("type") == "object" and spec.get("properties"):
            nested = with_defaults(spec, filled.get(name) or {})
            if nested:
                filled[name] = nested
    return filled


def problems(schema: dict[str, Any], value: Any, path: str = "(root)") -> list[str]:
    """Why a value does not fit a JSON schema: one sentence each, as gojsonschema puts it."""
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else kind or []
    if kinds and not any(_is(value, one) for one in kinds):
        return [f"{path} : must be of type {' or '.join(kinds)}, given {value!r}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(
            f"{path} : must match one of the enum values {schema['enum']}, given {value!r}"
        )
    if isinstance(value, dict):
        found += _object_problems(schema, value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += problems(schema.get("items") or {}, item, f"{path}.{index}")
    elif isinstance(value, str):
        found += _string_problems(schema, value, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found += _number_problems(schema, value, path)
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, KINDS.get(kind, (object,)))


def _object_problems(schema: dict[str, Any], value: dict[str, Any], path: str) -> list[str]:
    declared = schema.get("properties") or {}
    found = [
        f'{path} : "{name}" property is missing and required'
        for name in schema.get("required") or []
        if name not in value
    ]
    extra = schema.get("additionalProperties", True)
    for name, item in value.items():
        inner = name if path == "(root)" else f"{path}.{name}"
        if name in declared:
            found += problems(
                declared[name] or {}, item, f"(root).{inner}".replace("(root).(root)", "(root)")
            )
        elif extra is False:
            found.append(f'{path} : additional property "{name}" is not allowed')
        elif isinstance(extra, dict):
            found += problems(extra, item, inner)
    return found


def _string_problems(schema: dict[str, Any], value: str, path: str) -> list[str]:
    found: list[str] = []
    if len(value) < schema.get("minLength", 0):
        found.append(f"{path} : length must be greater or equal {schema['minLength']}")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        found.append(f"{path} : length must be less or equal {schema['maxLength']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path} : does not match pattern '{schema['pattern']}'")
    return found


def _number_problems(schema: dict[str, Any], value: float, path: str) -> list[str]:
    found: list[str] = []
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{path} : must be greater than or equal to {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        found.append(f"{path} : must be less than or equal to {schema['maximum']}")
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        found.append(f"{path} : must be a multiple of {schema['multipleOf']}")
    return found


def misfits(state: store.ModelState, schema: dict[str, Any], params: dict[str, Any]) -> list[str]:
    """Why parameters do not fit an action's schema, as this Juju has it."""
    found = [
        f'(root).{name} : must be of type object, given "map{sorted(params[name])}"'
        for name, spec in (schema.get("properties") or {}).items()
        if isinstance(params.get(name), dict) and (spec or {}).get("type") == "object"
    ]
    if found and not state.behaviour.object_parameters:
        return found
    default = {"additionalProperties": state.behaviour.additional_properties}
    return problems(default | schema, params)


# -- queueing


def enqueue(
    state: store.ModelState, receivers: list[str], action: str, params: dict[str, Any]
) -> dict[str, Any]:
    """Make an operation with a task for each receiver that takes the action."""
    operation = records.Operation(str(state.model.next("task") + 1), f"{action} run on")
    state.operations.add(operation.id, operation)
    made: list[dict[str, str]] = []
    reasons: list[str] = []
    for receiver in receivers:
        try:
            task = _task(state, operation, receiver, action, params)
        except errors.JujuError as error:
            reasons.append(error.text)
            continue
        made.append({"id": task.id, "receiver": task.receiver})
    return {"operation": operation.id, "tasks": made, "errors": reasons}


def resolve_receiver(state: store.ModelState, receiver: str) -> records.Unit:
    """The unit meant by a name or by `app/leader`."""
    if receiver.endswith("/leader"):
        name = receiver.rsplit("/", 1)[0]
        if name not in state.applications:
            raise errors.JujuError(f'application "{name}" not found')
        receiver = state.applications[name].lease.holder
        if not receiver:
            raise errors.JujuError(f'could not determine leader for "{name}"')
    unit = state.units.get(receiver)
    if unit is None:
        raise errors.JujuError(f'unit "{receiver}" not found')
    return unit


def _task(
    state: store.ModelState,
    operation: records.Operation,
    receiver: str,
    action: str,
    params: dict[str, Any],
) -> records.Task:
    unit = resolve_receiver(state, receiver)
    declared = relations.running(state, unit).actions.get(action)
    if declared is None:
        raise errors.JujuError(f'action "{action}" not defined on unit "{unit.name}"')
    filled = with_defaults(declared.schema, params)
    if state.behaviour.checks_parameters:
        wrong = misfits(state, declared.schema, filled)
        if wrong:
            raise errors.JujuError(f"validation failed: {'; '.join(wrong)}")
    task = add_task(state, operation, unit.name, action, filled)
    task.parallel, task.execution_group = declared.parallel, declared.execution_group
    return task


def add_task(
    state: store.ModelState,
    operation: records.Operation,
    receiver: str,
    name: str,
    params: dict[str, Any],
) -> records.Task:
    """A new pending task of an operation."""
    task = records.Task(str(state.model.next("task") + 1), operation.id, receiver, name, params)
    operation.tasks.append(task.id)
    return state.tasks.add(task.id, task)


def finish(task: records.Task, status: str, message: str = "") -> None:
    """Record a task's end (inside a transaction)."""
    task.status, task.message, task.completed = status, message, time.time()


# -- running


def perform(owner: ports.Owner, identity: str) -> None:
    """Run a pending task on its unit."""
    task = owner.state.tasks[identity]
    locked = not task.parallel or bool(task.execution_group)
    with owner.machine_lock() if locked else contextlib.nullcontext():
        with owner.store.transaction(quiet=True):
            task = owner.state.tasks[identity]
            if task.status != "pending":
                return
            task.status, task.started = "running", time.time()
            what = "juju-exec command" if task.name == EXEC else f"action {task.name}"
            before = owner.unit.agent
            if before.current != "error":
                owner.agent_status("executing", f"running {what}")
        if task.name == EXEC:
            _perform_command(owner, identity)
        elif wrong := _wrong_parameters(owner, task):
            with owner.store.transaction():
                _record(owner, identity, "failed", f"validation failed: {wrong}", {})
        else:
            _perform_action(owner, identity)
    owner.host.told()


def _wrong_parameters(owner: ports.Owner, task: records.Task) -> str:
    """Why a unit refuses a task whose parameters nobody has checked; "" when they fit."""
    if owner.state.behaviour.checks_parameters:
        return ""
    declared = relations.running(owner.state, owner.unit).actions[task.name]
    return "; ".join(misfits(owner.state, declared.schema, task.params))


def _perform_command(owner: ports.Owner, identity: str) -> None:
    task = owner.state.tasks[identity]
    code, out, err = owner.shell(
        str(task.params["command"]), task, float(task.params.get("timeout") or 0) or None
    )
    if owner.host.lost():
        return
    with owner.store.transaction():
        task = owner.state.tasks[identity]
        task.results = _results({}, code, out, err)
        aborted = task.status == "aborting"
        finish(task, owner.state.behaviour.cancelled if aborted else "completed")


def _perform_action(owner: ports.Owner, identity: str) -> None:
    task = owner.state.tasks[identity]
    context = hookcontext.Context(owner.state, owner.unit_name, owner.bags, owner.home, task=task)
    text: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def line(stream: str, one: str) -> None:
        text[stream].append(one + "\n")
        level = "DEBUG" if stream == "stdout" else "WARNING"
        owner.services.log(level, f"unit.{owner.unit_name}.{task.name}", one)

    code = owner.script(context, f"actions/{task.name}", line)
    if owner.ended():
        return
    missing = code == owner.SKIPPED
    status, message = _verdict(context, code, owner.unit_name, missing=missing)
    out, err = "".join(text["stdout"]), "".join(text["stderr"])
    try:
        with owner.store.transaction():
            if code == 0:
                context.flush()
            _record(owner, identity, status, message, _results(context.results, code, out, err))
    except errors.JujuError as error:
        with owner.store.transaction():
            results = _results(context.results, 0, out, err)
            _record(owner, identity, "failed", f"cannot flush: {error.text}", results)


def _record(
    owner: ports.Owner, identity: str, status: str, message: str, results: dict[str, Any]
) -> None:
    task = owner.state.tasks[identity]
    if task.status == "aborting":
        status, message = owner.state.behaviour.cancelled, ""
    task.results = results
    finish(task, status, message)


def _verdict(
    context: hookcontext.Context, code: int, unit: str, *, missing: bool
) -> tuple[str, str]:
    if missing:
        return "failed", f'action not implemented on unit "{unit}"'
    if code < 0:
        return "failed", f"signal: {-code}" if code != -9 else "signal: killed"
    if code:
        return "failed", f"exit status {code}"
    if context.failure is not None:
        return "failed", context.failure
    return "completed", ""


def _results(results: dict[str, Any], code: int, out: str, err: str) -> dict[str, Any]:
    found = {**results, "return-code": code if code >= 0 else 128 - code}
    if out:
        found["stdout"] = out
    if err:
        found["stderr"] = err
    return found
