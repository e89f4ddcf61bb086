"""What `generate-client-certificates` hands out: a tar with all that a client needs."""

from __future__ import annotations

import io
import os
import pathlib
import pwd
import secrets
import shlex
import tarfile
import time
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tls import authority

_HOME = pathlib.Path("/home/ubuntu")
PATH = _HOME / "etcd_client_credentials.tar.gz"
LONGEST_NAME = 64
LONGEST_DAYS = 3650
_ENV = """\
# Source this in the directory that it is in: . ./env
export ETCDCTL_API=3
export ETCDCTL_ENDPOINTS={endpoints}
export ETCDCTL_CACERT="$PWD/ca.crt"
export ETCDCTL_CERT="$PWD/client.crt"
export ETCDCTL_KEY="$PWD/client.key"
# The cluster is reached directly, whatever proxy there is.
NO_PROXY={hosts}"${{NO_PROXY:+,$NO_PROXY}}${{no_proxy:+,$no_proxy}}"
no_proxy=$NO_PROXY
export NO_PROXY no_proxy
"""
_README = """\
Credentials for an etcd cluster. Keep client.key secret.

- ca.crt: verifies the servers
- client.crt: what to show to them
- client.key: its private key
- env: settings for etcdctl

These lines work as they are, in this directory:

    . ./env
    etcdctl endpoint health
    etcdctl put greeting hello
    etcdctl get greeting
    etcdctl del greeting

Without the settings, in a shell that has not read env:

    etcdctl --endpoints {endpoints} --cacert ca.crt --cert client.crt --key client.key member list
"""


class BundleError(Exception):
    """The bundle cannot be made as asked; the text is one sentence, nothing was changed."""


def check_common_name(name: object) -> str:
    """A common name that can stand in a certificate and names an etcd user.

    Raises:
        BundleError: it is not a text, empty, too long, or has a slash or unprintable characters.
    """
    if not isinstance(name, str):
        raise BundleError(
            f"common-name must be a text, not {name!r}: `juju run --string-args` passes what you "
            "type as text"
        )
    if not name.strip():
        raise BundleError("common-name must not be empty")
    if "/" in name:
        raise BundleError("common-name must not contain a slash")
    size = len(name.encode(errors="replace"))
    if size > LONGEST_NAME:
        raise BundleError(
            f"common-name must have at most {LONGEST_NAME} characters in UTF-8, not {size}"
        )
    # Lone surrogates are not printable either.
    if not name.isprintable():
        raise BundleError("common-name must have printable characters only")
    if name != name.strip():
        raise BundleError("common-name must not begin or end with a space")
    return name


def check_days(days: object, longest: int = LONGEST_DAYS) -> int:
    """A lifetime in whole days, between 1 and `longest`.

    Raises:
        BundleError: it is anything else.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= longest:
        raise BundleError(
            f"validity-days must be a whole number from 1 to {longest}, not {days!r}"
        )
    return days


def write(
    pair: authority.Pair,
    ca: bytes,
    endpoints: Sequence[str],
    path: pathlib.Path = PATH,
    owner: str | None = "ubuntu",
) -> pathlib.Path:
    """Write the tar and give it to `owner`, readable by nobody else.

    The directory belongs to a user, so nothing in it is followed: the file is made new under a
    random name and then renamed.

    Args:
        pair: the client's certificate and key.
        ca: PEM of what verifies the servers.
        endpoints: client URLs for the settings file.
        path: where to; an older file there is replaced.
        owner: user that gets the file, None to leave it with the caller.

    Raises:
        BundleError: the directory or the owner is missing, or there is no room.
    """
    content = _tar(pair, ca, endpoints)
    try:
        person = pwd.getpwnam(owner) if owner else None
    except KeyError:
        raise BundleError(f"there is no user {owner} on this machine to own {path}") from None
    temporary = f".{path.name}.{secrets.token_hex(8)}"
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if person:
                    os.fchown(file.fileno(), person.pw_uid, person.pw_gid)
            os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            _unlink(temporary, directory)
            raise BundleError(f"cannot write {path}: {error.strerror}") from error
    finally:
        os.close(directory)
    return path


def copy_command(unit: str, path: pathlib.Path = PATH) -> str:
    """The command that brings a file of a unit to where the operator sits.

    `juju scp` begins in the home of `ubuntu`. Juju breaks results that reach beyond column 80 into
    lines, and a command that is pasted in two does something else.

    Args:
        unit: `etcd/0`.
        path: the file, absolute.
    """
    shown = path.relative_to(_HOME) if path.is_relative_to(_HOME) else path
    return f"juju scp {shlex.quote(f'{unit}:{shown}')} ."


def _tar(pair: authority.Pair, ca: bytes, endpoints: Sequence[str]) -> bytes:
    files = {
        "ca.crt": (ca, 0o644),
        "client.crt": (pair.cert, 0o644),
        "client.key": (pair.key, 0o600),
        "env": (_env(endpoints).encode(), 0o644),
        "README": (_README.format(endpoints=shlex.quote(",".join(endpoints))).encode(), 0o644),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member, (content, mode) in files.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode, info.mtime = len(content), mode, int(time.time())
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _env(endpoints: Sequence[str]) -> str:
    hosts = dict.fromkeys(urllib.parse.urlsplit(each).hostname or "" for each in endpoints)
    return _ENV.format(
        endpoints=shlex.quote(",".join(endpoints)),
        hosts=shlex.quote(",".join(filter(None, hosts))),
    )


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
