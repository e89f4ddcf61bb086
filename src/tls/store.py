"""Certificates on disk: a versioned directory for each name, published by one rename.

etcd reads certificate and key again on every handshake, as two reads (etcd client/pkg/transport,
`baseConfig`), so a pair must never be seen half replaced: the directory is swapped, not the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import stat
from typing import TYPE_CHECKING

from machine import codec, outside
from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = pathlib.Path("/etc/etcd/tls")
ADMINISTRATORS = ("client", "founder")
"""Names of pairs that make whoever holds them etcd's administrator."""
_NAME = re.compile(r"[a-z]+")


class Store:
    """The certificates under one root.

    All of them are the caller's: who could change them could lead root elsewhere with a link.

    Args:
        root: holds `<name>` (a symbolic link) and `<name>-<n>` (what it points to).
        owner: user whose group may read them, but the administrator's; None for nobody.
    """

    def __init__(self, root: pathlib.Path = ROOT, owner: str | None = "etcd"):
        self._root = root
        self._owner = owner

    def path(self, name: str) -> pathlib.Path:
        """The directory to name in a configuration: `cert.pem`, `key.pem` and `ca.pem` in it."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"a name of lower-case letters is wanted, not {name!r}")
        return self._root / name

    def read(self, name: str) -> tuple[bytes, bytes, bytes] | None:
        """What is published: certificate, key, authorities; None when nothing is."""
        try:
            # Resolved once, so that the three files are of one publication.
            at = self.path(name).resolve(strict=True)
            return (_read(at / "cert.pem"), _read(at / "key.pem"), _read(at / "ca.pem"))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # of an earlier revision, which gave them away
                return None
            raise

    def holds(self, name: str, cert: bytes, key: bytes) -> bool:
        """Whether exactly this certificate and key are published."""
        present = self.read(name)
        return present is not None and present[:2] == (cert, key)

    def load(self, name: str) -> certificate.Facts | None:
        """What the published certificate says; None when nothing usable is published.

        The facts were parsed when it was published and are believed as long as they belong to
        the files beside them.
        """
        present = self.read(name)
        if present is None:
            return None
        try:
            text = (self.path(name) / "facts.json").read_text()
            raw = outside.json_object(text)
            if raw.get("digest") == _digest(*present):
                return _FACTS.read(raw)
        except (FileNotFoundError, ValueError):
            pass
        try:
            return certificate.parse(present[0], present[2])
        except certificate.CertificateError:
            return None

    def publish(self, name: str, cert: bytes, key: bytes, ca: bytes) -> bool:
        """Make this the published pair; answers whether anything changed.

        Raises:
            CertificateError: it is not a certificate, or it does not chain to `ca`.
        """
        path = self.path(name)
        if self.read(name) == (cert, key, ca) and self._is_kept(name) and self._is_noted(name):
            return False
        facts = certificate.parse(cert, ca)
        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
        number = max((n for n, _ in self._versions(name)), default=0) + 1
        target = self._root / f"{name}-{number}"
        target.mkdir(mode=0o700)
        record = {**_FACTS.to_object(facts), "digest": _digest(cert, key, ca)}
        _write(target / "cert.pem", cert)
        _write(target / "ca.pem", ca)
        _write(target / "key.pem", key)
        _write(target / "facts.json", json.dumps(record, sort_keys=True).encode())
        if (readers := self._readers(name)) is not None:
            self._show(target, readers)
        _sync(target)
        link = self._root / f".{name}.new"
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(target.name)
        previous = os.readlink(path) if path.is_symlink() else ""
        link.replace(path)
        _sync(self._root)
        self._prune(name, keep={target.name, previous})
        return True

    def accept(
        self,
        name: str,
        cert: bytes,
        key: bytes,
        ca: bytes,
        common_name: str,
        sans: Iterable[str],
        trust: bytes = b"",
    ) -> bool:
        """Publish what an authority answered, if it is new and fits; answers what changed.

        The same bytes as published are not judged again: a changed `sans` is then something the
        authority has not answered yet, which `needs_renewal` tells.

        Args:
            name: under which name.
            cert: PEM certificate as answered.
            key: PEM private key.
            ca: PEM of the answering authority.
            common_name: who was asked for.
            sans: what was asked for.
            trust: PEM of further authorities to publish in `ca.pem`.

        Raises:
            CertificateError: see `certificate.check_pair`; what was published stays.
        """
        if not self.holds(name, cert, key):
            certificate.check_pair(cert, key, ca, common_name, sans)
        return self.publish(name, cert, key, certificate.bundle(trust, ca))

    def remove(self, name: str) -> bool:
        """Take a name and all its versions away; answers whether there was anything."""
        path = self.path(name)
        present = path.is_symlink()
        if present:
            path.unlink()
        self._prune(name, keep=set())
        return present

    def _versions(self, name: str) -> list[tuple[int, pathlib.Path]]:
        found: list[tuple[int, pathlib.Path]] = []
        for path in self._root.glob(f"{name}-*"):
            match = re.fullmatch(rf"{name}-(\d+)", path.name)
            if match:
                found.append((int(match.group(1)), path))
        return found

    def _prune(self, name: str, keep: set[str]) -> None:
        for _, path in self._versions(name):
            if path.name not in keep:
                shutil.rmtree(path)

    def _readers(self, name: str) -> int | None:
        """The group that may read a published pair, None for nobody.

        etcd needs what it serves with; the administrator's key would make its user etcd's root.
        """
        if self._owner is None or name in ADMINISTRATORS:
            return None
        return pwd.getpwnam(self._owner).pw_gid

    def _is_kept(self, name: str) -> bool:
        """Whether the published directory is ours alone, and its readers those that need it."""
        details, readers = self.path(name).stat(), self._readers(name)
        mode = stat.S_IMODE(details.st_mode)
        expected = (os.geteuid(), 0o700 if readers is None else 0o750)
        return (details.st_uid, mode) == expected and readers in (None, details.st_gid)

    def _is_noted(self, name: str) -> bool:
        """Whether the published facts are all that a certificate says today."""
        facts = self.load(name)
        return facts is not None and facts.serial != "" and facts.chain_ends > 0

    @staticmethod
    def _show(directory: pathlib.Path, readers: int) -> None:
        """Let a group read a directory of ours and its files."""
        for path in (*directory.iterdir(), directory):
            os.chown(path, -1, readers)
            path.chmod(0o750 if path == directory else 0o640)


_FACTS = codec.Codec(
    certificate.Facts,
    {
        "sans": codec.Form(count=10_000),
        "not_before": codec.Form(least=-1e12),
        "chain_begins": codec.Form(least=-1e12),
    },
    otherwise=codec.Form(told=True),  # an authority may put anything into a name
)


def _digest(cert: bytes, key: bytes, ca: bytes) -> str:
    return hashlib.sha256(b"\0".join((cert, key, ca))).hexdigest()


def _read(path: pathlib.Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read()


def _write(path: pathlib.Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
