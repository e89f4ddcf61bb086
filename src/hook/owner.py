"""Whose the etcd of this machine is: a record that is read before anything here is touched.

A machine has one etcd, with one data root, one service and one keeper, and Juju may place several
applications on it. The unit that takes the machine writes down that it did; a unit that finds
another one's record, or an etcd that no record tells of, touches nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import shutil
import time
from typing import TYPE_CHECKING

import errors
from backup import keeper_files
from etcd import config as etcd_config
from etcd import service
from keeper import systemd_unit
from machine import codec, files, systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

LOCAL = pathlib.Path("/var/lib/etcd-charm")
"""What outlives a reboot: the record, and the notes of the unit that it names."""
FILE = LOCAL / "owner.json"
AGENTS = service.HOME.parent
ASIDE = pathlib.Path("/var/lib/etcd-before")
"""Where an operator is told to move what was found here."""
_CONFIGS = (etcd_config.CONFIG, etcd_config.CLOSED_CONFIG, etcd_config.TLS, keeper_files.CONFIG)
_CLEANING = 60.0  # seconds
_KEEPER = keeper_files.STATUS.parent


class ForeignError(errors.EtcdError):
    """The machine's etcd is not this unit's; the text says whose, and what to do."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """A unit of one application of one model.

    Attributes:
        model_uuid: the model's UUID.
        model: its name.
        application: the application's name.
        unit: `etcd/0`.
    """

    model_uuid: str
    model: str
    application: str
    unit: str

    @property
    def home(self) -> str:
        """The name of the directory that the unit has among Juju's agents."""
        return f"unit-{self.unit.replace('/', '-')}"

    def is_kin(self, other: Owner) -> bool:
        """Whether both are of one application."""
        mine = (self.model_uuid, self.application)
        return mine == (other.model_uuid, other.application)

    def to_json(self) -> str:
        """The record's text."""
        return _OWNER.to_json(self) + "\n"


_OWNER = codec.Codec(Owner)


def read() -> Owner | None:
    """The record of this machine, None where there is none that can be read."""
    try:
        return _OWNER.read_json(files.read(FILE))
    except (OSError, ValueError):
        return None


def claim(me: Owner, began: Callable[[], bool]) -> bool:
    """Take the machine's etcd for this unit; True when it has yet to be installed for it.

    Args:
        me: this unit.
        began: tells whether it was at work here before there were records.

    Raises:
        ForeignError: another unit has it, or there is an etcd that is nobody's; nothing was
            touched.
    """
    found = read()
    if found == me:
        return False
    _await_cleaning()
    if found is not None and found.home != me.home and (AGENTS / found.home).is_dir():
        raise ForeignError(
            f"the etcd of this machine belongs to {found.unit} and was left alone: run `juju "
            f"add-unit {me.application}`, which gets a machine of its own, and then `juju "
            f"remove-unit {me.unit}`"
        )
    known = began() if found is None else found.unit == me.unit and found.is_kin(me)
    # A unit of this application that was removed by force is succeeded as it stands.
    if not known and not (found is not None and found.is_kin(me)):
        if there := remains():
            raise ForeignError(_words(me, found, there))
        _clear()
    try:
        files.ensure_dir(LOCAL)
        files.write(FILE, me.to_json(), 0o644)
    except OSError as error:
        if not known:
            raise
        log.warning("whose this etcd is could not be written down: %s", error)
    return not known


def _await_cleaning() -> None:
    """Wait, within bounds, while systemd cleans up after a unit that is gone."""
    until = time.monotonic() + _CLEANING
    while systemd.service_active(systemd_unit.ORPHANED_UNIT) and time.monotonic() < until:
        time.sleep(0.5)


def check(me: Owner, began: Callable[[], bool]) -> None:
    """Refuse what would touch another unit's etcd.

    Args:
        me: this unit.
        began: as for `claim`.

    Raises:
        ForeignError: the machine is not this unit's.
    """
    found = read()
    if found != me and not (found is None and began()):
        raise ForeignError(
            f"{me.unit} does not have the etcd of its machine: nothing was done; its status in "
            "`juju status` says why"
        )


def remains() -> tuple[str, ...]:
    """What of an etcd is on this machine: a running service by its name, and paths.

    Programs that are only installed are no etcd: nobody loses anything when they are used.
    """
    there = [service.UNIT] if systemd.service_active(service.UNIT) else []
    if has_files(service.DATA_ROOT):
        there.append(str(service.DATA_ROOT))
    if any(os.path.lexists(path) for path in _CONFIGS):
        there.append(str(etcd_config.CONFIG.parent))
    if os.path.lexists(service.UNIT_FILE):
        there.append(str(service.UNIT_FILE))
    return tuple(there)


def _words(me: Owner, found: Owner | None, there: tuple[str, ...]) -> str:
    """Whose it is, that it was left alone, and the ways on."""
    whose = f"of {found.unit} in model {found.model}, which is gone" if found else "of its own"
    paths = [*(path for path in there if path.startswith("/")), *([str(LOCAL)] if found else [])]
    aside = _unused(ASIDE)
    steps = [f"systemctl disable --now {service.UNIT}"] if service.UNIT in there else []
    if paths:
        steps += [f"mkdir -m 700 {aside}", f"mv {' '.join(paths)} {aside}/"]
    database = next((p for p in _files(service.DATA_ROOT) if p.name == "db"), None)
    onward = ""
    if database is not None:
        moved = aside / database.relative_to(service.DATA_ROOT.parent)
        onward = (
            f"; to go on with its data, run `juju run {me.application}/leader restore "
            f"path={moved} allow-missing-hash=true` when the new cluster is healthy"
        )
    return (
        f"this machine has an etcd {whose} ({', '.join(there)}), which was left alone: take "
        f"another machine, or set it aside there with `sudo sh -c '{' && '.join(steps)}'`{onward}"
    )


def has_files(folder: pathlib.Path) -> bool:
    """Whether anything but directories is in a directory, at any depth."""
    return next(_files(folder), None) is not None


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Everything in a directory, at any depth, that is no directory."""
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (pathlib.Path(where, name) for name in sorted(names))


def _unused(path: pathlib.Path) -> pathlib.Path:
    """The path, or one like it where nothing is."""
    number = 1
    found = path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _clear() -> None:
    """Forget what another application noted on this machine."""
    for folder in (LOCAL, _KEEPER):
        shutil.rmtree(folder, ignore_errors=True)
    forget_memory()


def forget_memory() -> None:
    """Delete what need not outlive a reboot, but for the state of hooks that may be running."""
    with contextlib.suppress(FileNotFoundError):
        for path in files.MEMORY.iterdir():
            if path.suffix != ".db":
                files.remove(path)
