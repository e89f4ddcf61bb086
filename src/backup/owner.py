"""Whose folder it is: one application writes and thins out, others read.

Two applications that are told one `cluster-name` would delete each other's backups by retention.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import outside

if TYPE_CHECKING:
    from backup import catalog

FILE = "owner.json"
FORMAT = 1
_LARGEST = 64 * 1024  # bytes


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who writes in a folder; the JSON beside its backups.

    Attributes:
        application: its name in Juju.
        model: the model's name.
        model_uuid: the model's UUID.
        cluster_id: etcd's, hexadecimal.
        token: the founding of the cluster.
    """

    application: str
    model: str
    model_uuid: str
    cluster_id: str
    token: str

    def to_json(self) -> str:
        """The document as the remote holds it."""
        raw = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(raw, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Owner:
        """Read the document.

        Raises:
            ValueError: it is none, or a newer format's.
        """
        raw: dict[str, Any] = outside.json_object(text, _LARGEST, depth=4)
        if raw.get("format") != FORMAT:
            raise ValueError("its format is not the one known here")
        values = {field.name: raw.get(field.name) for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
                raise ValueError(f"it lacks or garbles {name}")
        return cls(**{name: str(value) for name, value in values.items()})

    @property
    def words(self) -> str:
        """Which application that is."""
        return f"application {self.application} of model {self.model} ({self.model_uuid[:8]})"


@dataclasses.dataclass(frozen=True)
class Claimant:
    """Who wants to write in a folder.

    Attributes:
        application: its name in Juju; "" where that was not told: it claims nothing.
        model: the model's name.
        model_uuid: the model's UUID.
        token: the founding of its cluster.
        continues: hexadecimal ID of the cluster from whose backup it was founded, "" for none.
    """

    application: str = ""
    model: str = ""
    model_uuid: str = ""
    token: str = ""
    continues: str = ""

    def owner(self, cluster_id: int) -> Owner:
        """What is written when the folder is its own.

        Args:
            cluster_id: of its cluster.
        """
        return Owner(self.application, self.model, self.model_uuid, f"{cluster_id:x}", self.token)

    def refused(self, listing: catalog.Listing, folder: str, cluster_id: int) -> str:
        """Why this application does not write in the folder, one sentence; "" when it may.

        Args:
            listing: what the folder holds.
            folder: its name on the remote.
            cluster_id: of this application's cluster, 0 where there is none.
        """
        if not self.application or self._owns(listing, folder, {f"{cluster_id:x}"} - {"0"}):
            return ""
        whose = listing.owner.words if listing.owner else "another cluster"
        return (
            f"the folder {folder} on the remote belongs to {whose}: nothing is written or deleted "
            "there; set another cluster-name, or, when that one is gone for good, run `juju run "
            f"{self.application}/leader create-backup take-over=true`"
        )

    def _owns(self, listing: catalog.Listing, folder: str, mine: set[str]) -> bool:
        clusters = {*mine, self.continues} - {""}
        owner = listing.owner
        if owner is not None:
            same = (owner.model_uuid, owner.application) == (self.model_uuid, self.application)
            return same or owner.cluster_id in clusters
        if listing.claimed:  # by somebody whose document cannot be read
            return False
        # Earlier revisions of the charm claimed nothing: the newest backup tells.
        newest = listing.newest
        named = f"{self.model}-{self.model_uuid[:8]}/{self.application}"
        return (
            newest is None
            or folder == named
            or newest.id in listing.authentic
            or newest.token == self.token
            or f"{newest.cluster_id:x}" in clusters
        )
