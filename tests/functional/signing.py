"""A certificate authority for a test's servers and clients, all on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tls import authority, pem_files

if TYPE_CHECKING:
    import pathlib

_SANS = ("127.0.0.1", "::1", "localhost")


class Authority:
    """Signs for loopback; what it made lies in its folder."""

    def __init__(self, folder: pathlib.Path, name: str = "test") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._own = authority.Authority.create(f"{name} CA", days=1)
        self.pem = folder / f"{name}-ca.pem"
        self.pem.write_bytes(self._own.ca)

    def issue(self, common_name: str, *names: str) -> pem_files.TLSFiles:
        pair = self._own.sign(common_name, (*_SANS, *names), days=1)
        base = self.folder / common_name
        files = pem_files.TLSFiles(self.pem, base.with_suffix(".pem"), base.with_suffix(".key"))
        files.cert.write_bytes(pair.cert)
        files.key.write_bytes(pair.key)
        return files
