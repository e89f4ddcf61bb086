"""What the charm tells the keeper, and the keeper the charm, as tests need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backup import keeper_files

if TYPE_CHECKING:
    import pathlib

    from tls import pem_files


def told(
    unit: str = "etcd/0",
    local: str = "https://127.0.0.1:2379",
    *,
    tls: pem_files.TLSFiles | None = None,
    folder: pathlib.Path | None = None,
    **changes: Any,
) -> keeper_files.Config:
    """A configuration of one unit that takes no backups.

    Args:
        unit: its name.
        local: client URL of its etcd, the only endpoint.
        tls: what it reaches etcd with; files that are not there without it.
        folder: where it works and is told of its remote.
        changes: any fields.
    """
    given: dict[str, Any] = {"endpoints": (local,)}
    if tls is not None:
        given |= {"ca": str(tls.ca), "cert": str(tls.cert), "key": str(tls.key)}
    if folder is not None:
        given |= {"workdir": str(folder / "work"), "remote": str(folder / "remote.json")}
    plain: dict[str, Any] = {
        "ca": "ca", "cert": "cert", "key": "key", "generation": 1, "token": "t", "folder": "here",
        "interval": 0.0, "retention": "",
    }  # fmt: skip
    member = unit.replace("/", "-")
    return keeper_files.Config(
        unit=unit, member=member, local=local, **{**plain, **given, **changes}
    )


def well(now: float, **changes: Any) -> keeper_files.Status:
    """What a keeper tells whose backups are well: the newest ten minutes old, one proven."""
    plain: dict[str, Any] = {
        "at": now, "unit": "etcd/0", "role": "holder", "interval": 3600.0, "count": 3,
        "newest": "b", "newest_at": now - 600, "newest_revision": 90, "newest_seconds": 20.0,
        "revision": 100, "proven": "a", "proven_at": now - 7200,
    }  # fmt: skip
    return keeper_files.Status(**{**plain, **changes})
