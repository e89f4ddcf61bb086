"""Whose folder it is, as the document beside its backups says."""

from __future__ import annotations

import dataclasses
import json

from machine import codec, outside

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
        raw = {"format": FORMAT, **_OWNER.to_object(self)}
        return json.dumps(raw, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Owner:
        """Read the document.

        Raises:
            ValueError: it is none, or a newer format's.
        """
        raw = outside.json_object(text, _LARGEST, depth=4)
        if raw.get("format") != FORMAT:
            raise ValueError("its format is not the one known here")
        return _OWNER.read(raw)

    @property
    def words(self) -> str:
        """Which application that is."""
        return f"application {self.application} of model {self.model} ({self.model_uuid[:8]})"


_OWNER = codec.Codec(Owner, otherwise=codec.Form(longest=256))
