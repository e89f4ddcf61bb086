"""Who may write in a folder: one application writes and thins out, others read.

Two applications that are told one `cluster-name` would delete each other's backups by retention.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from backup import owner as owners

if TYPE_CHECKING:
    from backup import listing as listings


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

    def owner(self, cluster_id: int) -> owners.Owner:
        """What is written when the folder is its own.

        Args:
            cluster_id: of its cluster.
        """
        return owners.Owner(
            self.application, self.model, self.model_uuid, f"{cluster_id:x}", self.token
        )

    def refused(self, listing: listings.Listing, folder: str, cluster_id: int) -> str:
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

    def _owns(self, listing: listings.Listing, folder: str, mine: set[str]) -> bool:
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
