"""Whose folder it is, as the document beside its backups says."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from machine import outside

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
