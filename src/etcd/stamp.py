"""The stamp of a data directory: whose data it is. And what keeps it from being started."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import errors
from machine import codec, files

if TYPE_CHECKING:
    import pathlib

STAMP = "stamp.json"
FENCED = "fenced"
"""What keeps systemd from starting the data beside it; see `keeper.fence`."""


@dataclasses.dataclass(frozen=True)
class Stamp:
    """Which generation some data belongs to.

    Attributes:
        token: the generation's token.
        generation: its number.
        cluster_id: etcd's cluster ID, None until known.
        member: the member name that the data was made for.
    """

    token: str
    generation: int
    cluster_id: int | None
    member: str = ""

    def to_json(self) -> str:
        """The stamp as `stamp.json` holds it."""
        return _STAMP.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Stamp:
        """Read a stamp; ValueError when it is none."""
        return _STAMP.read_json(text)


@dataclasses.dataclass(frozen=True)
class Fence:
    """Why some data must not run any more.

    Attributes:
        number: of the generation that replaces it, 0 where the unit is gone from the machine.
        where: the peer URL that serves that one, "" for none.
        at: when it was found, UTC, ISO 8601.
    """

    number: int
    where: str
    at: str

    def to_json(self) -> str:
        """What the file holds that keeps systemd from starting the data."""
        return _FENCE.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Fence:
        """Read that; ValueError when it is none."""
        return _FENCE.read_json(text)


_STAMP = codec.Codec(Stamp)
_FENCE = codec.Codec(Fence)


def read_stamp(folder: pathlib.Path) -> Stamp:
    """The stamp of what lies in `folder`.

    Raises:
        errors.DataError: there is none that can be read.
    """
    try:
        return Stamp.from_json(files.read(folder / STAMP))
    except (OSError, ValueError) as error:
        raise errors.DataError(f"the data in {folder} has no readable stamp") from error
