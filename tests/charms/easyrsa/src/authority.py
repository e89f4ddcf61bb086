"""A certificate authority on easy-rsa 3.1 or newer: one directory, one command line."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess

EASYRSA = pathlib.Path("/usr/share/easy-rsa/easyrsa")
TIMEOUT = 300.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Authority:
    """One PKI under `root`; made on first use, idempotent afterwards.

    Args:
        root: holds `pki` and `asked` (what each certificate was issued for).
        days: lifetime of certificates issued from now on.
    """

    def __init__(self, root: pathlib.Path, days: int = 3650):
        self._pki = root / "pki"
        self._asked = root / "asked"
        self._days = days

    def ca(self) -> str:
        """The authority's certificate, PEM; the authority is made when there is none."""
        cert = self._pki / "ca.crt"
        if not cert.exists():
            shutil.rmtree(self._pki, ignore_errors=True)
            shutil.rmtree(self._asked, ignore_errors=True)
            self._asked.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._easyrsa("init-pki")
            self._easyrsa("build-ca", "nopass", cn="easyrsa test CA")
        self._asked.mkdir(mode=0o700, exist_ok=True)
        return cert.read_text()

    def server(self, name: str, sans: list[str]) -> tuple[str, str]:
        """Certificate (with openssl's text before it) and key for a server.

        Issued once; revoked and issued again when the set of names changes.
        """
        return self._issue("serverClient", name, sorted(set(sans)))

    def client(self, name: str) -> tuple[str, str]:
        """Certificate and key for a client, issued once; it has no other names."""
        return self._issue("client", name, [])

    def _issue(self, kind: str, name: str, sans: list[str]) -> tuple[str, str]:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a common name here")
        self.ca()
        cert = self._pki / "issued" / f"{name}.crt"
        key = self._pki / "private" / f"{name}.key"
        note = self._asked / f"{name}.json"
        asked = json.dumps(sans)
        noted = note.read_text() if note.exists() else None
        # As the charm it stands for: a client's certificate is never issued again.
        if noted is None or (kind != "client" and noted != asked):
            if noted is not None and cert.exists():
                self._easyrsa("revoke", name)
            self._forget(name)
            arguments = [f"--subject-alt-name={','.join(map(_san, sans))}"] if sans else []
            self._easyrsa(f"--days={self._days}", *arguments, f"build-{kind}-full", name, "nopass")
            note.write_text(asked)
        return cert.read_text(), key.read_text()

    def _forget(self, name: str) -> None:
        """Take away what a revocation, or a build that died half way, has left."""
        for path in (
            self._asked / f"{name}.json",
            self._pki / "reqs" / f"{name}.req",
            self._pki / "private" / f"{name}.key",
            self._pki / "issued" / f"{name}.crt",
            self._pki / "inline" / f"{name}.inline",
            self._pki / f"{name}.creds",
        ):
            path.unlink(missing_ok=True)

    def _easyrsa(self, *arguments: str, cn: str | None = None) -> None:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(self._pki.parent),
            "EASYRSA_PKI": str(self._pki),
            "EASYRSA_BATCH": "1",
            "EASYRSA_REQ_CN": cn or "ChangeMe",
        }
        done = subprocess.run(
            [str(EASYRSA), "--batch", *arguments],
            cwd=self._pki.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"easyrsa {' '.join(arguments)}: {done.stderr or done.stdout}")


def _san(name: str) -> str:
    address = re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", name)
    return f"IP:{name}" if address else f"DNS:{name}"
