"""How a hook tool is called: its arguments, its output, its exit code.

`call` runs one tool of `hooktools` and says what it prints and how it exits, as Juju 3.6's `jujuc`
does: 0, 1 for a failure, 2 for wrong usage, `ERROR <text>` on stderr.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import yaml

from minijuju.model import charm, errors, formats

if TYPE_CHECKING:
    from collections.abc import Callable

    from minijuju.agent import hookcontext

FORMATS = ("smart", "json", "yaml")


class Usage(errors.JujuError):
    """Wrong arguments: exit 2."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


@dataclasses.dataclass
class Call:
    """One call of a tool: its context, parsed arguments, and the way to the caller's files."""

    context: hookcontext.Context
    tool: str
    flags: dict[str, Any]
    words: list[str]
    read: Callable[[str], bytes]
    """The content of a file inside the machine; "-" is the caller's stdin."""
    services: Any
    """What only the agent can do: `log`, `set_status`, `fetch_resource`, `network`."""

    def flag(self, name: str) -> str:
        """A flag's text, or ""."""
        return str(self.flags.get(name) or "")

    def word(self, index: int, default: str = "") -> str:
        """A positional argument."""
        return self.words[index] if index < len(self.words) else default

    def relation(self) -> int:
        """The relation meant by `-r`, or that of the hook."""
        given = self.flag("r") or self.flag("relation")
        if given:
            number = given.rsplit(":", 1)[-1]
            try:
                relation = self.context.relation(int(number))
            except (ValueError, errors.JujuError):
                raise Usage(f'invalid value "{given}" for option -r: relation not found') from None
            return relation.id
        hook = self.context.hook
        if hook is None or hook.relation is None:
            raise Usage("no relation id specified")
        return hook.relation


@dataclasses.dataclass(frozen=True)
class Spec:
    """How a tool is called: its flags with a value, its boolean flags, its default format."""

    run: Callable[[Call], Any]
    values: frozenset[str]
    switches: frozenset[str]
    format: str
    needs_task: bool
    free: bool
    """Whether it runs without the store's lock: it takes long, or changes nothing stored."""


TOOLS: dict[str, Spec] = {}


def tool(
    name: str,
    *,
    values: str = "",
    switches: str = "",
    form: str = "",
    needs_task: bool = False,
    free: bool = False,
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a tool. With `form`, it takes `--format` and its result is printed so."""

    def register(run: Callable[[Call], Any]) -> Callable[[Call], Any]:
        wanted = {*values.split(), *(("format", "o", "output") if form else ())}
        TOOLS[name] = Spec(
            run, frozenset(wanted), frozenset(switches.split()), form, needs_task, free
        )
        return run

    return register


@dataclasses.dataclass(frozen=True)
class Plain:
    """Output that is printed as it is, whatever the format."""

    text: str


def call(
    context: hookcontext.Context,
    argv: list[str],
    read: Callable[[str], bytes],
    services: Any,
) -> tuple[int, str, str]:
    """Run a tool; returns exit code, stdout, stderr."""
    spec = TOOLS.get(argv[0])
    if spec is None:
        return 1, "", f"ERROR unknown command {argv[0]}\n"
    if _wants_help(argv):
        return 0, _help(argv[0], spec), ""
    try:
        flags, words = parse(spec, argv[1:])
        form = str(flags.get("format") or spec.format)
        if spec.format and form not in FORMATS:
            raise Usage(f'invalid value "{form}" for option --format: unknown format "{form}"')
        if spec.needs_task and (context.task is None or context.task.name == "juju-exec"):
            raise errors.JujuError("not running an action")
        result = _run(spec, Call(context, argv[0], flags, words, read, services))
    except errors.JujuError as error:
        return error.code, "", f"ERROR {error.text}\n"
    if isinstance(result, Plain):
        return 0, result.text, ""
    return 0, render(form, result) if spec.format else "", ""


def _wants_help(argv: list[str]) -> bool:
    flags = argv[: argv.index("--")] if "--" in argv else argv
    return "--help" in flags or "-h" in flags


def _help(name: str, spec: Spec) -> str:
    """What `--help` prints: charms look for the flags in it that they may use."""
    flags = [f"{_dashed(flag)} (= false)" for flag in spec.switches]
    flags += [f"{_dashed(flag)}  VALUE" for flag in spec.values]
    listed = "".join(f"{flag}\n" for flag in sorted(flags, key=lambda flag: flag.lstrip("-")))
    summary = (spec.run.__doc__ or "").strip().partition("\n")[0]
    return f"Usage: {name} [options] ...\n\nSummary:\n{summary}\n\nOptions:\n{listed}"


def _dashed(flag: str) -> str:
    return f"-{flag}" if len(flag) == 1 else f"--{flag}"


def _run(spec: Spec, asked: Call) -> Any:
    """Run a tool with the store held, but never while it waits for the caller's files."""
    if spec.free:
        return spec.run(asked)
    lock, read = asked.context.state.store.lock, asked.read

    def unlocked(name: str) -> bytes:
        lock.release()
        try:
            return read(name)
        finally:
            lock.acquire()

    with lock:
        return spec.run(dataclasses.replace(asked, read=unlocked))


def parse(spec: Spec, argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Go-style flags anywhere among positional arguments; `--` ends them."""
    flags: dict[str, Any] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, given, value = word.lstrip("-").partition("=")
        if name in spec.switches:
            if value and value not in charm.TRUE + charm.FALSE:
                raise Usage(f'invalid boolean value "{value}" for option --{name}')
            flags[name] = value in charm.TRUE if given else True
        elif name in spec.values:
            if not given and not rest:
                raise Usage(f"option needs an argument: --{name}")
            value = value if given else rest.pop(0)
            flags[name] = [*flags.get(name, []), value] if name == "file-list" else value
        else:
            dashes = "--" if word.startswith("--") else "-"
            raise Usage(f"option provided but not defined: {dashes}{name}")
    return flags, words


def render(form: str, value: Any) -> str:
    """A result as the tool prints it."""
    if form == "json":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
    if form == "yaml":
        return formats.yaml_text(formats.ordered(value))
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"{value}\n"
    if isinstance(value, list):
        return "".join(f"{item}\n" for item in value)
    return render("yaml", value) if isinstance(value, dict) else f"{value}\n"


def settings(call: Call, words: list[str]) -> dict[str, str]:
    """`key=value` arguments over the map of `--file`."""
    values: dict[str, str] = {}
    if call.flag("file"):
        try:
            read = yaml.load(call.read(call.flag("file")), Loader=yaml.CSafeLoader) or {}
        except yaml.YAMLError as error:
            raise errors.JujuError(f"cannot parse settings: {error}") from None
        if not isinstance(read, dict):
            raise errors.JujuError("cannot parse settings: not a map")
        values = {str(k): "" if v is None else text(v) for k, v in read.items()}
    for word in words:
        key, given, value = word.partition("=")
        if not given or not key:
            raise Usage(f'expected "key=value", got "{word}"')
        values[key] = value
    return values


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)
