"""Where the PEM files of a connection are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib


@dataclasses.dataclass(frozen=True)
class TLSFiles:
    """Paths of PEM files: the CA bundle to trust, and a certificate with its key."""

    ca: pathlib.Path
    cert: pathlib.Path
    key: pathlib.Path
