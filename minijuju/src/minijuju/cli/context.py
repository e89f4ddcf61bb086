"""What every verb of the command line needs: flags, model, the daemon, places to write."""

from __future__ import annotations

import os
import sys
from typing import Any

from minijuju.cli import argv
from minijuju.controller import daemon
from minijuju.model import errors, formats


class Context:
    """One call of the command line.

    Attributes:
        verb: the subcommand.
        flags: what was given to it.
    """

    def __init__(self, verb: str, flags: argv.Flags) -> None:
        self.verb = verb
        self.flags = flags

    @property
    def words(self) -> list[str]:
        """The positional arguments."""
        return self.flags.positionals

    @property
    def model(self) -> str:
        """The model asked for; "" means the current one."""
        named = self.flags.text("model")
        return named or os.environ.get("MINIJUJU_MODEL") or os.environ.get("JUJU_MODEL") or ""

    def one(self, what: str) -> str:
        """The only positional argument; *what* names it in the error."""
        self.at_least(1, what)
        self.at_most(1)
        return self.words[0]

    def at_least(self, count: int, what: str) -> None:
        """Refuse fewer than *count* positional arguments."""
        if len(self.words) < count:
            raise argv.UsageError(f"no {what} specified")

    def at_most(self, count: int) -> None:
        """Refuse more than *count* positional arguments."""
        if len(self.words) > count:
            rest = ", ".join(f'"{word}"' for word in self.words[count:])
            raise argv.UsageError(f"unrecognized args: [{rest}]")

    def call(self, verb: str, **params: Any) -> Any:
        """Ask the controller for a verb in this model."""
        return daemon.call(verb, {"model": self.model, **params})

    def plain(self, verb: str, **params: Any) -> Any:
        """Ask the controller for a verb that belongs to no model."""
        return daemon.call(verb, params)

    def stream(self, verb: str, **params: Any) -> Any:
        """Ask for a verb that runs a command on this process' standard streams."""
        return daemon.call(verb, {"model": self.model, **params}, fds=(0, 1, 2))

    def view(self, name: str, **params: Any) -> Any:
        """Ask for one of the `views`."""
        return self.call("view", name=name, **params)

    def emit(self, data: Any, table: str | None = None, default: str = "yaml") -> int:
        """Print *data* as ``--format`` says, or *table* for ``tabular``.

        It goes to stdout, or to the file of ``--output``.

        Returns:
            0, so that a verb can end with it.
        """
        form = self.flags.text("format", default)
        if table is not None and form in ("tabular", "plain", "smart"):
            text = table
        else:
            text = formats.dump(data, form)
        output = self.flags.text("output")
        if output:
            with open(output, "w") as stream:
                stream.write(text + "\n")
        elif text:
            print(text)
        return 0

    def confirm(self, warning: str) -> None:
        """Ask a person before something is destroyed, unless ``--no-prompt`` was given."""
        if self.flags.on("no-prompt"):
            return
        say(warning)
        print("\nContinue [y/N]? ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise errors.JujuError(f"{self.verb}: aborted")


def say(*lines: str) -> None:
    """Tell the person something: on stderr, because stdout is for data."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def read_file(path: str) -> str:
    """Text of a file of the caller (``-`` is stdin).

    Raises:
        errors.JujuError: if it cannot be read.
    """
    if path == "-":
        return sys.stdin.read()
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise errors.JujuError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def read_yaml(path: str) -> dict[str, Any]:
    """A mapping from a YAML file of the caller.

    Raises:
        errors.JujuError: if it cannot be read or is no mapping.
    """
    import yaml

    try:
        data = yaml.safe_load(read_file(path))
    except yaml.YAMLError as error:
        raise errors.JujuError(f"cannot parse {path}: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise errors.JujuError(f"{path} must contain a YAML map")
    return {str(key): value for key, value in data.items()}


def scalar(value: Any) -> str:
    """A YAML scalar as a person would have typed it on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def settings(items: list[str]) -> dict[str, str]:
    """Options from ``key=value`` words, where ``key=@file`` reads the file."""
    values = argv.pairs(items)
    return {
        key: read_file(value[1:]) if value.startswith("@") else value
        for key, value in values.items()
    }
