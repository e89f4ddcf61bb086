"""A target for each reader of bytes from outside: real inputs, and what it may raise."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import tarfile
import tempfile
import types
from typing import TYPE_CHECKING

import errors
from backup import claimant as claimants
from backup import compression, keeper_files, rclone, rclone_errors, remote_settings, seal
from backup import listing as listings
from backup import manifest as manifests
from backup import owner as owners
from etcd import bolt, data, disk_facts, offline, service, upkeep
from etcd import failure as failures
from etcd import release as releases
from etcd import snapshot as snapshots
from etcd import stamp as stamps
from etcd import wal as wals
from machine import outside, processes
from relations import certificates, databag, juju_units, peers, s3
from support import keeper_config
from tls import authority, certificate, served

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = pathlib.Path(__file__).parent / "seeds"


@dataclasses.dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: reads an input in a directory of its own, and raises only `allowed`.
        seeds: makes real inputs.
        allowed: our errors.
    """

    read: Callable[[bytes, pathlib.Path], object]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[Exception], ...] = ()


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _owners() -> list[bytes]:
    made = claimants.Claimant("etcd", "prod", "01234567-89ab", "token").owner(0xABC)
    return [made.to_json().encode()]


def _read_owner(raw: bytes, _: pathlib.Path) -> None:
    owners.Owner.from_json(_text(raw))


def _keys() -> list[bytes]:
    return [seal.Keys().renewed(0.0).to_json().encode()]


def _read_keys(raw: bytes, _: pathlib.Path) -> None:
    found = seal.Keys.from_json(_text(raw))
    found.holds("manifest", found.sealed("manifest", {"id": "a"}, 1e9))


def _manifests() -> list[bytes]:
    found = manifests.Manifest(
        id="20261121T020849Z-g1-r7-abcdef",
        file="20261121T020849Z-g1-r7-abcdef.db.zst",
        cluster_id=7, generation=1, token="t", revision=7, raft_index=9, etcd_version="3.5.16",
        storage_version="", size=1000, sha256="ab" * 32, stored_size=900,
        stored_sha256="cd" * 32, compression="zstd", keys=3, members=("etcd-0", "etcd-1"),
        taken_by="etcd/0", taken_at=1_795_000_000.0, duration=1.5, proven_at=1_795_000_100.0,
    )  # fmt: skip
    return [found.to_json().encode()]


def _read_manifest(raw: bytes, _: pathlib.Path) -> None:
    found = manifests.Manifest.from_json(_text(raw))
    # What list-backups and the keeper do with it.
    manifests.stamp(found.taken_at)
    manifests.stamp(found.proven_at or 0)
    assert all(part.isprintable() for part in (found.id, found.taken_by, found.etcd_version))
    assert manifests.Manifest.from_json(found.to_json()) == found


def _listings() -> list[bytes]:
    objects = [
        {"Path": f"20261121T020849Z-g1-r7-abcde{n}.{kind}", "Name": "x", "Size": 1000 + n,
         "ModTime": "2026-11-21T02:08:49.123456789Z", "IsDir": False}
        for n in range(3) for kind in ("db", "json")
    ]  # fmt: skip
    return [json.dumps(objects).encode(), b"[]"]


class _Said(rclone.Remote):
    def __init__(self, said: bytes) -> None:
        super().__init__(remote_settings.Settings(config="[x]\ntype = local\n", path="x:y"))
        self._said = said

    def _run(self, *_: object, **__: object) -> bytes:
        return self._said


def _read_listing(raw: bytes, _: pathlib.Path) -> None:
    found = listings.judge(_Said(raw).list(), {}, 1_795_000_000.0)
    assert all(problem.isprintable() for problem in found.problems)


def _bags() -> list[bytes]:
    unit = {
        "peer_url": "https://198.18.0.10:2380", "client_url": "https://[fd00::1]:2379",
        "token": "0123456789abcdef", "member_id": "8e9e05c52164694d", "started": True,
        "prepared": None, "failure": ["abc", "it failed"], "stale": False, "begun": 2,
        "facts": {"term": 2, "index": 30, "revision": 9}, "voters": ["etcd/0", "etcd/1"],
        "voters_of": "abc", "joins": 1, "member": "etcd-0", "turn_done": 3,
        "listed": "https://198.18.0.10:2380",
    }  # fmt: skip
    return [json.dumps(unit).encode()]


def _read_bag(raw: bytes, _: pathlib.Path) -> None:
    found = databag.read_unit("etcd/1", {"unit": _text(raw)})
    told = (found.peer_url, found.client_url, found.token, found.registered_peer_url, found.member)
    assert all(text is None or text.isprintable() for text in told)


def _records() -> list[bytes]:
    record = {
        "number": 2, "token": "0123456789abcdef", "source": "backup", "confirmed": False,
        "founders": [{"unit": "etcd/0", "peer_url": "https://198.18.0.10:2380"}],
        "detail": {"source": "remote", "folder": "a/b", "sha256": "ab" * 32, "size": "1"},
        "keep": "", "skip_backup": False,
    }  # fmt: skip
    return [json.dumps(record).encode()]


def _read_record(raw: bytes, _: pathlib.Path) -> None:
    bag = {"generation": _text(raw)}
    peers.Peers._record(types.SimpleNamespace(_app_bag=lambda: bag, _endpoint="x"), "generation")


def _goals() -> list[bytes]:
    status = {"status": "active", "since": "2026-11-21 02:08:49Z"}
    return [json.dumps({"units": {f"etcd/{n}": status for n in range(3)}}).encode()]


def _read_goals(raw: bytes, _: pathlib.Path) -> None:
    answer = subprocess.CompletedProcess([], 0, _text(raw), "")
    before, processes.hook_tool = processes.hook_tool, lambda *_, **__: answer
    try:
        juju_units.goal_state()
    finally:
        processes.hook_tool = before


@functools.cache
def _signer() -> tuple[authority.Authority, authority.Pair]:
    made = authority.Authority.create("fuzz")
    return made, made.sign("etcd-0", ["198.18.0.10"])


def _certificates() -> list[bytes]:
    signer, pair = _signer()
    old = authority.Authority.create("other")
    return [signer.cert, pair.cert, signer.cert + old.cert, b"Certificate:\n Data:\n" + pair.cert]


def _read_authorities(raw: bytes, _: pathlib.Path) -> None:
    certificate.authorities(raw)


def _read_pair(raw: bytes, _: pathlib.Path) -> None:
    signer, pair = _signer()
    parts = {"cert": pair.cert, "key": pair.key, "ca": signer.cert}
    for part in parts:
        _check(**{**parts, part: raw})


def _check(cert: bytes, key: bytes, ca: bytes) -> None:
    try:
        certificate.check_pair(cert, key, ca, "etcd-0", ["198.18.0.10"])
    except certificate.CertificateError as error:
        assert "\n" not in str(error)


def _uris() -> list[bytes]:
    return [served.Served(3, "0123456789abcdef").uri.encode(), b"urn:other:5\nspiffe://a/b"]


def _read_uris(raw: bytes, _: pathlib.Path) -> None:
    served.Served.read(_text(raw).splitlines())


def _answers() -> list[bytes]:
    signer, pair = _signer()
    entry = {
        "certificate_signing_request": "-----BEGIN CERTIFICATE REQUEST-----",
        "certificate": pair.cert.decode(), "ca": signer.cert.decode(),
        "chain": [pair.cert.decode(), signer.cert.decode()], "revoked": False,
    }  # fmt: skip
    return [json.dumps([entry]).encode()]


def _read_answers(raw: bytes, _: pathlib.Path) -> None:
    for entry in certificates._entries(_text(raw)):
        certificates._chain(entry)


def _buckets() -> list[bytes]:
    signer, _ = _signer()
    given = {
        "bucket": "b", "access-key": "a", "secret-key": "s", "endpoint": "https://s3",
        "path": "p", "s3-uri-style": "path", "tls-ca-chain": json.dumps([signer.cert.decode()]),
    }  # fmt: skip
    return [json.dumps(given).encode()]


def _read_bucket(raw: bytes, _: pathlib.Path) -> None:
    given = {key: str(value) for key, value in outside.json_object(raw).items()}
    assert "\n" not in s3.read(given, "provider").sentence


def _read_chain(raw: bytes, _: pathlib.Path) -> None:
    given = {"bucket": "b", "access-key": "a", "secret-key": "s", "tls-ca-chain": _text(raw)}
    s3.read(given, "provider")


def _configs() -> list[bytes]:
    return [b"[s3]\ntype = s3\nregion = x\nsecret_access_key = y\n\n[b]\ntype = crypt\n"]


def _read_config(raw: bytes, _: pathlib.Path) -> None:
    remote_settings.from_config("s3:bucket", _text(raw), "10M")


def _databases() -> list[bytes]:
    return [gzip.decompress((SEEDS / "snapshot.gz").read_bytes())]


def _read_database(raw: bytes, folder: pathlib.Path) -> None:
    path = folder / "db"
    path.write_bytes(raw)
    with bolt.File(path) as file:
        for name in (b"key", b"meta", b"alarm", b"cluster"):
            bucket = file.bucket(name)
            file.last(bucket)
            file.get(bucket, b"consistent_index")
            for _ in file.items(bucket):
                pass
        bolt.revision(file)
        snapshots.carries(file)


def _write_database(raw: bytes, folder: pathlib.Path) -> None:
    path = folder / "db"
    path.write_bytes(raw)
    try:
        bolt.bump(path, 1_000_000)
    finally:
        assert path.stat().st_blocks * 512 < 32 << 20
        path.unlink()


def _read_snapshot(raw: bytes, folder: pathlib.Path) -> None:
    path = folder / "db"
    path.write_bytes(raw)
    before, service.version = service.version, lambda *_: (3, 5, 16)
    try:
        snapshots.refuse_newer(path)
    finally:
        service.version = before


def _logs() -> list[bytes]:
    return [gzip.decompress((SEEDS / "wal.gz").read_bytes())]


def _read_log(raw: bytes, folder: pathlib.Path) -> None:
    place = folder / "member" / "wal"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{0:016x}-{0:016x}.wal").write_bytes(raw)
    offline.log_broken(folder)
    disk_facts.member_ids(folder)
    disk_facts.disk_facts(folder)
    wals.commit_tail(folder)


def _releases() -> list[bytes]:
    found = []
    for mode in ("w:gz", "w:"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            content = b"#" * 600
            digest = hashlib.sha256(content).hexdigest()
            sums = "".join(f"{digest}  x/{name}\n" for name in ("etcd", "etcdctl", "etcdutl"))
            names = ("x/README", "x/etcd", "x/etcdctl", "x/etcdutl", "x/" + "long/" * 40)
            members = {**dict.fromkeys(names, content), "x/SHA256SUMS": sums.encode()}
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        found.append(out.getvalue())
    return found


def _read_release(raw: bytes, folder: pathlib.Path) -> None:
    path = folder / "release"
    path.write_bytes(raw)
    releases.unpack(path, folder)


def _packed() -> list[bytes]:
    return [gzip.compress(b"snapshot " * 5000)]


def _read_packed(raw: bytes, folder: pathlib.Path) -> None:
    (folder / "p").write_bytes(raw)
    compression.unpack(folder / "p", folder / "u", "gzip", 45_000)


def _words() -> list[bytes]:
    line = {"level": "error", "msg": "Failed to cat: 403 Forbidden", "stats": {"bytes": 5}}
    return [json.dumps(line).encode() + b"\n2026/11/21 02:08:49 ERROR : x: not found\n"]


def _read_words(raw: bytes, _: pathlib.Path) -> None:
    error = rclone_errors.refusal("s3:b", 1, _text(raw), "key = secret-value\n")
    assert str(error).isprintable()


def _etcd_log() -> list[bytes]:
    lines = [
        {"level": "warn", "msg": "rejected connection", "server-name": "x"},
        {"level": "warn", "msg": "found different hash values from remote peer",
         "remote-peer-endpoints": ["https://a"]},
        {"level": "fatal", "msg": "discovery failed", "error": "found data inconsistency"},
        {"level": "panic", "msg": "tocommit(9) is out of range [lastIndex(3)]"},
    ]  # fmt: skip
    return ["\n".join(json.dumps(line) for line in lines).encode() + b"\npanic: x\n"]


def _read_etcd_log(raw: bytes, _: pathlib.Path) -> None:
    found = failures.reason(_text(raw).splitlines())
    assert found is None or found.sentence.isprintable()


def _orders() -> list[bytes]:
    folder = pathlib.Path("/w")
    config = keeper_config.told(folder=folder, interval=60.0, retention="7d")
    return [config.to_json().encode()]


def _read_orders(raw: bytes, _: pathlib.Path) -> None:
    keeper_files.Config.from_json(_text(raw))


def _statuses() -> list[bytes]:
    status = keeper_files.Status(at=1.0, unit="etcd/0", role="holder", problems=("x",), newest="n")
    return [status.to_json().encode()]


def _read_status(raw: bytes, folder: pathlib.Path) -> None:
    (folder / "s").write_bytes(raw)
    status = keeper_files.Status.read(folder / "s")
    status.trouble(1e9)
    status.words(1e9)


def _settings() -> list[bytes]:
    made = remote_settings.Settings(
        config="[x]\ntype = local\n", path="x:y", environment=(("AWS_X", "b"),)
    )
    return [made.to_json().encode()]


def _read_settings(raw: bytes, _: pathlib.Path) -> None:
    remote_settings.Settings.from_json(_text(raw))


def _stamps() -> list[bytes]:
    return [stamps.Stamp("token", 3, 7, "etcd-0").to_json().encode()]


def _read_stamp(raw: bytes, folder: pathlib.Path) -> None:
    root = data.Root(folder / "root", owner=None)
    kept = root.kept_dir / "one"
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "kept.json").write_bytes(raw)
    (kept / "stamp.json").write_bytes(raw)
    root.kept()
    stamps.Stamp.from_json(_text(raw))


def _pages() -> list[bytes]:
    name = 'grpc_server_{}_total{{grpc_method="Snapshot",grpc_service="x",grpc_type="y"}} {}\n'
    return ["".join(name.format(kind, 3) for kind in ("started", "handled")).encode()]


def _read_page(raw: bytes, _: pathlib.Path) -> None:
    upkeep._streaming(_text(raw))


TARGETS = {
    "manifest": Target(_read_manifest, _manifests, (ValueError,)),
    "owner": Target(_read_owner, _owners, (ValueError,)),
    "keys": Target(_read_keys, _keys, (ValueError,)),
    "listing": Target(_read_listing, _listings, (rclone_errors.RemoteError,)),
    "rclone's words": Target(_read_words, _words),
    "packed backup": Target(_read_packed, _packed, (rclone_errors.RemoteError,)),
    "peer databag": Target(_read_bag, _bags, (databag.PeerError,)),
    "generation record": Target(_read_record, _records, (databag.PeerError,)),
    "goal state": Target(_read_goals, _goals, (databag.PeerError,)),
    "authorities": Target(_read_authorities, _certificates, (certificate.CertificateError,)),
    "certificate": Target(_read_pair, _certificates),
    "certificate's URIs": Target(_read_uris, _uris),
    "signed answers": Target(_read_answers, _answers, (certificate.CertificateError,)),
    "s3 relation": Target(_read_bucket, _buckets, (outside.OutsideError,)),
    "tls-ca-chain": Target(_read_chain, _certificates),
    "rclone-config": Target(_read_config, _configs, (rclone_errors.RemoteError,)),
    "bolt": Target(_read_database, _databases, (bolt.FormatError,)),
    "bolt written": Target(_write_database, _databases, (bolt.FormatError,)),
    "snapshot": Target(_read_snapshot, _databases, (errors.SnapshotError,)),
    "log": Target(_read_log, _logs, (ValueError, errors.DataError)),
    "release": Target(_read_release, _releases, (errors.InstallError,)),
    "etcd's journal": Target(_read_etcd_log, _etcd_log),
    "keeper's orders": Target(_read_orders, _orders, (ValueError,)),
    "keeper's status": Target(_read_status, _statuses),
    "remote's settings": Target(_read_settings, _settings, (rclone_errors.RemoteError,)),
    "stamp": Target(_read_stamp, _stamps, (ValueError,)),
    "metrics page": Target(_read_page, _pages),
}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory for one input's files, in memory where there is room."""
    shared = pathlib.Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
