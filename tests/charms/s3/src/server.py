"""rclone's S3 server as a service, over TLS, with certificates of openssl."""

from __future__ import annotations

import json
import pathlib
import secrets
import subprocess

UNIT = pathlib.Path("/etc/systemd/system/s3.service")
PORT = 9000
NAME = "s3.internal"  # of the server, with buckets below it, where the host names them
TIMEOUT = 60.0
_CA = "basicConstraints=critical,CA:TRUE"


class Server:
    """One server under `root`: `data` holds a folder for each bucket.

    Args:
        root: holds everything that outlives a hook.
        rclone: the program.
    """

    def __init__(self, root: pathlib.Path, rclone: pathlib.Path):
        self._root = root
        self._rclone = rclone
        self._tls = root / "tls"
        self._keys = root / "keys.json"

    def keys(self) -> tuple[str, str]:
        """Access key and secret key."""
        if not self._keys.exists():
            self.rotate()
        access, secret = json.loads(self._keys.read_text())
        return access, secret

    def rotate(self) -> None:
        """Replace the credentials."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keys.write_text(json.dumps([secrets.token_hex(10).upper(), secrets.token_hex(20)]))

    def chain(self, name: str = "root") -> list[str]:
        """The intermediate and the root authority, PEM, or an authority of another name alone."""
        if name != "root":
            self._authority(name)
            return [(self._tls / f"{name}.pem").read_text()]
        return [(self._tls / f"{each}.pem").read_text() for each in ("intermediate", "root")]

    def ensure(
        self, address: str, bucket: str, *, running: bool, read_only: bool, style: str
    ) -> None:
        """Serve a bucket at this address, named in the `path` or the `host`, or nothing."""
        self._certify(address)
        (self._root / "data" / bucket).mkdir(parents=True, exist_ok=True)
        environment = self._root / "environment"
        access, secret = self.keys()
        keys = f"RCLONE_AUTH_KEY='\"{access},{secret}\"'\n"  # read as a line of CSV
        changed = _write(environment, keys) | _write(UNIT, self._unit(read_only, style))
        _run("systemctl", "daemon-reload")
        _run("systemctl", ("restart" if changed else "start") if running else "stop", UNIT.name)

    def _unit(self, read_only: bool, style: str) -> str:
        options = "--read-only " if read_only else ""
        options += "--force-path-style=false " if style == "host" else ""
        return (
            "[Service]\n"
            f"ExecStart={self._rclone} serve s3 {options}--addr :{PORT} --config /dev/null "
            f"--cert {self._tls}/server-chain.pem --key {self._tls}/server.key "
            f"--cache-dir {self._root}/cache --no-cleanup "
            f"{self._root}/data\n"
            f"EnvironmentFile={self._root}/environment\n"
            "Restart=on-failure\n"
        )

    def _certify(self, address: str) -> None:
        """A root, an intermediate that it signed, and the server's certificate."""
        self._authority("root")
        if not (self._tls / "intermediate.pem").exists():
            self._sign("intermediate", "root", f"{_CA}\nkeyUsage=keyCertSign")
        if not (self._tls / "server.pem").exists():
            names = f"subjectAltName=IP:{address},DNS:{NAME},DNS:*.{NAME}"
            self._sign("server", "intermediate", names)
            pems = [(self._tls / f"{name}.pem").read_text() for name in ("server", "intermediate")]
            (self._tls / "server-chain.pem").write_text("".join(pems))

    def _authority(self, name: str) -> None:
        if (self._tls / f"{name}.pem").exists():
            return
        self._tls.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN=s3 test {name}", "-days", "3650", "-addext", "keyUsage=keyCertSign"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )

    def _sign(self, name: str, signer: str, extensions: str) -> None:
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN=s3 test {name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        (self._tls / f"{name}.ext").write_text(f"{extensions}\n")
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-days", "3650"),
            *("-CAkey", f"{signer}.key", "-CAcreateserial", "-extfile", f"{name}.ext"),
            *("-out", f"{name}.pem"),
        )

    def _openssl(self, *arguments: str) -> None:
        _run("openssl", *arguments, folder=self._tls)


def _write(path: pathlib.Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    path.touch(0o600)
    path.write_text(text)
    return True


def _run(*argv: str, folder: pathlib.Path | None = None) -> None:
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[:2])}: {done.stderr or done.stdout}")
