"""The stamp of a data directory: whose data it is. And what keeps it from being started."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import errors
from machine import files, outside

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
    member: str

    def to_json(self) -> str:
        """The stamp as `stamp.json` holds it."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Stamp:
        """Read a stamp; ValueError when it is none."""
        try:
            raw = outside.json_object(text)
            cluster_id = raw.get("cluster_id")
            return cls(
                str(raw["token"]),
                int(raw["generation"]),
                None if cluster_id is None else int(cluster_id),
                str(raw.get("member", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a stamp: {error!r}") from error


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


def read_stamp(folder: pathlib.Path) -> Stamp:
    """The stamp of what lies in `folder`.

    Raises:
        errors.DataError: there is none that can be read.
    """
    try:
        return Stamp.from_json(files.read(folder / STAMP))
    except (OSError, ValueError) as error:
        raise errors.DataError(f"the data in {folder} has no readable stamp") from error
