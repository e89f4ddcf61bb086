"""Actions, commands in machines, files in and out of them."""

from __future__ import annotations

import os
import re
from typing import Any

from minijuju.cli import argv, context
from minijuju.model import errors, formats

RUN_SECONDS = 60.0
EXEC_SECONDS = 300.0
TARGET = re.compile(r"^[a-z][a-z0-9-]*/(\d+|leader)$")

_SSH_FLAGS_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
"""OpenSSH's options that take a value, which may be the next word."""


def run(ctx: context.Context) -> int:
    """``run UNIT... ACTION [KEY=VALUE...]``."""
    receivers: list[str] = []
    words = list(ctx.words)
    while words and TARGET.match(words[0]):
        receivers.append(words.pop(0))
    if not receivers:
        wrong = f'invalid unit or action name "{words[0]}"' if words else "no unit specified"
        raise argv.UsageError(wrong)
    if not words:
        raise argv.UsageError("no action specified")
    action = words.pop(0)
    answer = ctx.call("run", receivers=receivers, action=action, params=_params(ctx, words))
    return _finish(ctx, answer, RUN_SECONDS)


def _params(ctx: context.Context, words: list[str]) -> dict[str, Any]:
    """The parameters of ``--params FILE``, overlaid by ``key.sub=value`` words."""
    params: dict[str, Any] = {}
    if ctx.flags.given("params"):
        params = context.read_yaml(ctx.flags.text("params"))
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise argv.UsageError(f'argument "{word}" must be of the form key.key.key...=value')
        _insert(params, key.split("."), _typed(value, ctx.flags.on("string-args")))
    return params


def _typed(value: str, as_text: bool) -> Any:
    if as_text:
        return value
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise errors.JujuError(f"cannot parse {value}: {error}") from None


def _insert(params: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        inner = params.get(name)
        if not isinstance(inner, dict):
            inner = params[name] = {}
        params = inner
    params[last] = value


def execute(ctx: context.Context) -> int:
    """``exec --unit U | --machine M | --application A | --all -- COMMAND``."""
    ctx.at_least(1, "commands")
    units, machines = ctx.flags.csv("unit"), ctx.flags.csv("machine")
    applications, everywhere = ctx.flags.csv("application"), ctx.flags.on("all")
    if not (units or machines or applications or everywhere):
        raise argv.UsageError(
            "You must specify a target, either through --all, --machine, --application or --unit"
        )
    answer = ctx.call(
        "execute",
        command=command_string(ctx.words),
        units=units,
        machines=machines,
        applications=applications,
        everywhere=everywhere,
        timeout=max(EXEC_SECONDS, ctx.flags.seconds("wait", EXEC_SECONDS)),
    )
    return _finish(ctx, answer, EXEC_SECONDS)


def command_string(words: list[str]) -> str:
    """Words as the shell is to read them, quoted where Juju quotes (utils.CommandString).

    One word is a script as it is. Of several, those with blanks, quotes, dollars or backslashes
    are put in double quotes; nothing else is, so that `a;b` remains two commands.
    """
    if len(words) == 1:
        return words[0]
    return " ".join(_double_quoted(word) for word in words)


def _double_quoted(word: str) -> str:
    escaped = re.sub(r'(["$\\])', r"\\\1", word)
    return f'"{escaped}"' if escaped != word or re.search(r"\s", word) else word


def _tag(receiver: str) -> str:
    return f"machine-{receiver}" if receiver.isdigit() else f"unit-{receiver.replace('/', '-')}"


def _finish(ctx: context.Context, answer: dict[str, Any], default: float) -> int:
    """Wait for an operation's tasks and print their results."""
    tasks: list[dict[str, str]] = answer["tasks"]
    operation = answer["operation"]
    if not tasks:
        context.say(f"Operation {operation} failed to schedule any tasks:", *answer["errors"])
        return 0
    if answer["errors"]:
        context.say("Some actions could not be scheduled:", *answer["errors"], "")
    if ctx.flags.on("background"):
        return _background(operation, tasks)
    noun = "task" if len(tasks) == 1 else "tasks"
    context.say(f"Running operation {operation} with {len(tasks)} {noun}")
    context.say(*[f"  - task {one['id']} on {_tag(one['receiver'])}" for one in tasks], "")
    context.say(*[f"Waiting for task {one['id']}..." for one in tasks])
    wait = ctx.flags.seconds("wait", default)
    found = ctx.call("wait-tasks", tasks=[one["id"] for one in tasks], timeout=wait)
    late = [one for one in tasks if not _ended(found[one["id"]])]
    done = [found[one["id"]] for one in tasks if _ended(found[one["id"]])]
    if done:
        _print_results(ctx, done)
    if late:
        names = ", ".join(_receiver(one["receiver"]) for one in late)
        raise errors.JujuError(f"timed out waiting for results from: {names}")
    return _verdict(done)


def _receiver(name: str) -> str:
    return f"machine {name}" if name.isdigit() else f"unit {name}"


def _ended(task: dict[str, Any]) -> bool:
    return task["status"] in ("completed", "failed", "cancelled", "aborted", "error")


def _background(operation: str, tasks: list[dict[str, str]]) -> int:
    """Name what was scheduled: on stdout only several tasks, in YAML whatever the format."""
    if len(tasks) == 1:
        shown, which = f"task {tasks[0]['id']}", tasks[0]["id"]
    else:
        shown, which = f"{len(tasks)} tasks", "<id>"
    context.say(f"Scheduled operation {operation} with {shown}")
    if len(tasks) > 1:
        print(formats.dump({one["receiver"]: {"id": one["id"]} for one in tasks}, "yaml"))
    context.say(
        f"Check operation status with 'juju show-operation {operation}'",
        f"Check task status with 'juju show-task {which}'",
    )
    return 0


def _print_results(ctx: context.Context, done: list[dict[str, Any]]) -> None:
    from minijuju.controller import views

    shown = {task["receiver"]: views.task_shown(task) for task in done}
    if ctx.flags.text("format", "plain") != "plain":
        ctx.emit(shown)
        return
    for task in done:
        for _, text in task.get("log") or []:
            context.say(text)
    ctx.emit(shown, "\n".join(_plain(one, len(done) > 1) for one in done).rstrip("\n"), "plain")


def _plain(task: dict[str, Any], named: bool) -> str:
    """One task's results as a person reads them."""
    results = dict(task.get("results") or {})
    results.pop("return-code", None)
    out, err = results.pop("stdout", ""), results.pop("stderr", "")
    lines: list[str] = []
    if named:
        lines.append(f"{task['receiver']}:")
    if task["status"] == "failed" and task.get("message"):
        lines.append(f"Action id {task['id']} failed: {task['message']}")
    if results:
        lines.append(formats.dump(formats.ordered(results), "yaml"))
    if out:
        lines.append(str(out).rstrip("\n"))
    if err:
        context.say(str(err).rstrip("\n"))
    return "\n".join(lines)


def _verdict(done: list[dict[str, Any]]) -> int:
    """Exit code and last words: only a return code other than 0 counts as a failure."""
    failed = [one for one in done if (one.get("results") or {}).get("return-code", 0)]
    failed += [one for one in done if one["status"] in ("error", "aborted") and one not in failed]
    if not failed:
        return 0
    noun = "task" if len(failed) == 1 else "tasks"
    listed = "\n".join(
        f' - id "{one["id"]}" with return code {(one.get("results") or {}).get("return-code", 1)}'
        for one in failed
    )
    context.say(
        f"ERROR the following {noun} failed:\n{listed}\n\nuse 'juju show-task' to inspect the "
        f"failure{'s' if len(failed) > 1 else ''}"
    )
    return 1


def cancel_task(ctx: context.Context) -> int:
    """``cancel-task TASK...``."""
    ctx.at_least(1, "task IDs")
    for task in ctx.words:
        ctx.call("cancel-task", task=task)
    return 0


def show_task(ctx: context.Context) -> int:
    """``show-task TASK``."""
    return ctx.emit(ctx.view("task", task=ctx.one("task ID")))


def operations(ctx: context.Context) -> int:
    """``operations`` and ``show-operation ID``."""
    found = ctx.view("operations")
    if ctx.verb == "show-operation":
        name = ctx.one("operation ID")
        if name not in found:
            raise errors.JujuError(f'operation "{name}" not found')
        return ctx.emit(found[name])
    rows = [
        [name, one["status"], one["timing"]["enqueued"], ",".join(one["tasks"]), one["summary"]]
        for name, one in found.items()
    ]
    header = ["ID", "Status", "Enqueued", "Task IDs", "Summary"]
    return ctx.emit(found, formats.table(header, rows), "plain")


def ssh(ctx: context.Context) -> int:
    """``ssh [USER@]TARGET [OPENSSH OPTIONS] [COMMAND...]``."""
    ctx.at_least(1, "target name")
    user, at, target = ctx.words[0].rpartition("@")
    command = without_ssh_options(ctx.words[1:])
    return int(ctx.stream("ssh", target=target, command=command, user=user if at else "ubuntu"))


def without_ssh_options(words: list[str]) -> list[str]:
    """The command that follows OpenSSH's own options, which mean nothing without a network."""
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        index += 1
        if word == "--":
            break
        if len(word) == 2 and word[1] in _SSH_FLAGS_WITH_VALUE:
            index += 1
    return words[index:]


def scp(ctx: context.Context) -> int:
    """``scp [-- SCP OPTIONS] SOURCE... DESTINATION``."""
    words = list(ctx.words)
    recursive = False
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        recursive = recursive or (not word.startswith("--") and "r" in word[1:])
        if len(word) == 2 and word[1] in "cFiJloPSX" and words:
            words.pop(0)
    if len(words) < 2:
        raise errors.JujuError("at least two arguments required")
    *sources, destination = [_place(word) for word in words]
    for source in sources:
        if (":" in source) == (":" in destination) and _remote(source) == _remote(destination):
            raise errors.JujuError("one of source and destination must be in a machine")
        ctx.call("copy", source=source, destination=destination, recursive=recursive)
    return 0


def _remote(word: str) -> bool:
    return ":" in word and not word.startswith(("/", "./", "../"))


def _place(word: str) -> str:
    """A path in a machine as it is, one of the host made absolute (a final slash stays)."""
    if _remote(word):
        return word
    slash = "/" if word.endswith("/") and word != "/" else ""
    return os.path.abspath(word) + slash
