"""Let the tests into a model's machines: a new model of Juju 4 knows no ssh key."""

from __future__ import annotations

import contextlib
import os
import pathlib

import jubilant

ANY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDvHn0r3lLfPHEv0K9k8q0l5p1m1UqfUeXyTn6c0RrTt tests"
"""minijuju's machines are entered without keys; one must be known all the same."""


def public_keys() -> list[str]:
    """The keys that this user's ssh and juju offer."""
    data = os.environ.get("JUJU_DATA", pathlib.Path.home() / ".local/share/juju")
    folders = [pathlib.Path(data) / "ssh", pathlib.Path.home() / ".ssh"]
    return [file.read_text().strip() for folder in folders for file in folder.glob("*.pub")]


def admit(juju: jubilant.Juju, on_minijuju: bool) -> None:
    """Add keys to a model where none are there by themselves."""
    if int(juju.status().model.version.partition(".")[0]) >= 4:
        for key in [ANY] if on_minijuju else public_keys():
            with contextlib.suppress(jubilant.CLIError):  # it is there already
                juju.add_ssh_key(key)
