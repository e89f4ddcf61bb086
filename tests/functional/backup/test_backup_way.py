"""The whole way: etcd, snapshot, remote, back, proof; and what can lie on the remote instead."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import pwd
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import backup_parts as parts
import pytest

import errors
from backup import catalog as catalogs
from backup import (
    compression,
    create,
    fetch,
    operations,
    peer_transfer,
    proof,
    rclone,
    rclone_errors,
    remote_settings,
    seal,
    worker,
)
from backup import listing as listings
from backup import manifest as manifests
from cluster import generation as generations
from etcd import snapshot as snapshots
from machine import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcd import scratch
    from functional import signing

ABOUT = create.About("etcd/0", 3, "token", high=10**9)
FOLDER = "model-01234567/etcd"


def reach(etcd, *endpoints: str) -> worker.Cluster:
    return worker.Cluster(endpoints, etcd.endpoint, etcd.config.server_tls)


def take(etcd, remote, tmp_path, **options) -> manifests.Manifest:
    with etcd.client() as client:
        return create.create_backup(
            client,
            reach(etcd, etcd.endpoint),
            catalogs.Catalog(remote, FOLDER),
            tmp_path / "work",
            ABOUT,
            lock=tmp_path / "lock",
            **options,
        )


def stored(manifest: manifests.Manifest) -> fetch.Stored:
    return fetch.Stored(FOLDER, manifest.id, manifest.sha256, manifest.size)


@pytest.fixture(scope="module")
def etcd(
    tmp_path_factory: pytest.TempPathFactory, authority: signing.Authority
) -> Iterator[scratch.Member]:
    """An etcd of this module's own: what others put into theirs may not compress."""
    (started,) = parts.cluster(tmp_path_factory.mktemp("way"), authority)
    yield started
    started.stop()


def fill(etcd, text: str, count: int = 300) -> int:
    with etcd.client() as client:
        revision = 0
        for number in range(count):
            revision = client.put(f"/fill/{number}", text * 100)
        return revision


def test_given_a_cluster_when_backed_up_then_listed_fetched_and_proven(etcd, any_remote, tmp_path):
    revision = fill(etcd, "abc")
    said: list[str] = []
    manifest = take(etcd, any_remote, tmp_path, say=said.append)
    backups = catalogs.Catalog(any_remote, FOLDER, keys=seal.Keys().renewed(time.time()))
    listing = backups.read()
    assert listing.manifests == (manifest,)
    assert listing.problems == ()
    assert manifest.revision >= revision
    assert manifest.high == ABOUT.high, "what the record knows of, above what is in it"
    assert manifest.compression == "zstd"
    assert manifest.members == ("etcd-0",)
    assert said and "MiB uploaded to" in said[-1]
    assert list((tmp_path / "work").iterdir()) == []

    fetched = fetch.fetch(stored(manifest), tmp_path / "got", any_remote)
    assert fetched.sha256 == manifest.sha256
    assert [p.name for p in (tmp_path / "got").iterdir()] == ["snapshot.db"]
    assert snapshots.verify(fetched.path).revision == manifest.revision

    with etcd.client() as client:
        keys = client.count()
        found = proof.prove(
            fetched.path,
            tmp_path / "proof",
            manifest,
            cluster=lambda revision: client.hash_kv(etcd.endpoint, revision),
        )
    assert found.matched is True
    assert found.revision == manifest.revision
    assert found.keys == keys >= 300
    assert not (tmp_path / "proof").exists()
    backups.mark_proven(manifest, time.time(), found.keys)
    assert backups.read().proven.id == manifest.id
    assert backups.read().proven.keys == keys


def test_given_no_zstd_when_backed_up_then_gzip_and_back(etcd, local, tmp_path, monkeypatch):
    which = processes.which
    monkeypatch.setattr(processes, "which", lambda name: None if name == "zstd" else which(name))
    fill(etcd, "gzip")
    manifest = take(etcd, local, tmp_path)
    assert manifest.compression == "gzip"
    assert manifest.file.endswith(".db.gz")
    fetch.fetch(stored(manifest), tmp_path / "got", local)


def test_given_random_content_when_chosen_then_not_packed(tmp_path):
    (tmp_path / "random").write_bytes(parts.os.urandom(2_000_000))
    assert compression.choose(tmp_path / "random") == ""


def test_given_a_remote_that_breaks_when_backed_up_then_nothing_is_listed(
    etcd, s3_server, proxy, bucket, tmp_path
):
    far = rclone.Remote(parts.s3_settings(bucket, proxy.port, s3_server.ca))
    proxy.fault, proxy.after = "cut-up", 1
    with pytest.raises(rclone_errors.RemoteError):
        take(etcd, far, tmp_path)
    proxy.fault = ""
    assert catalogs.Catalog(far, FOLDER).read() == listings.Listing(())
    assert list((tmp_path / "work").iterdir()) == []


def test_given_a_defragmentation_when_backed_up_then_one_sentence(etcd, local, tmp_path):
    with create.member_alone(tmp_path / "lock") as alone:
        assert alone
        with pytest.raises(errors.UnreachableError, match="defragmented"):
            take(etcd, local, tmp_path, patience=0)


def test_given_another_backup_under_way_when_backed_up_then_its_files_stay(etcd, local, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with create.scratch(work) as living:
        dead = work / "etcd-backup-dead"
        dead.mkdir()
        take(etcd, local, tmp_path)
        assert living.exists() and not dead.exists()


def test_given_two_clusters_when_listed_then_neither_sees_the_other(etcd, local, tmp_path):
    mine = take(etcd, local, tmp_path)
    other = catalogs.Catalog(local, "another")
    assert other.read().manifests == ()
    assert [m.id for m in catalogs.Catalog(local, FOLDER).read().manifests] == [mine.id]


@pytest.fixture
def backed(etcd, local, tmp_path) -> tuple[manifests.Manifest, pathlib.Path]:
    """One backup, and the folder that it lies in."""
    fill(etcd, "damage")
    manifest = take(etcd, local, tmp_path)
    return manifest, tmp_path / "disk" / "backups" / FOLDER / "snapshots"


def problem(local) -> str:
    listing = catalogs.Catalog(local, FOLDER).read()
    assert listing.manifests == ()
    assert len(listing.problems) == 1
    return listing.problems[0]


def test_given_a_manifest_without_file_when_listed_then_said(backed, local):
    manifest, folder = backed
    (folder / manifest.file).unlink()
    assert f"{manifest.file} is not" in problem(local)


def test_given_a_file_without_manifest_when_listed_then_said_and_swept_after_a_day(backed, local):
    manifest, folder = backed
    (folder / f"{manifest.id}.json").unlink()
    assert "no manifest yet" in problem(local)
    old = time.time() - 2 * 86400
    parts.os.utime(folder / manifest.file, (old, old))
    backups = catalogs.Catalog(local, FOLDER)
    backups.sweep(backups.read().leftovers)
    assert backups.read() == listings.Listing(())


def test_given_a_truncated_file_when_listed_and_fetched_then_said(backed, local, tmp_path):
    manifest, folder = backed
    with (folder / manifest.file).open("r+b") as file:
        file.truncate(manifest.stored_size - 1)
    assert "bytes" in problem(local)
    with pytest.raises(rclone_errors.RemoteError):
        fetch.fetch(stored(manifest), tmp_path / "got", local)


def test_given_an_altered_file_when_fetched_then_refused_and_nothing_kept(backed, local, tmp_path):
    manifest, folder = backed
    with (folder / manifest.file).open("r+b") as file:
        file.seek(manifest.stored_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 255]))
    with pytest.raises(rclone_errors.RemoteError, match="damaged") as caught:
        fetch.fetch(stored(manifest), tmp_path / "got", local)
    assert caught.value.kind is rclone_errors.Kind.CORRUPT
    assert list((tmp_path / "got").iterdir()) == []


def test_given_another_backups_part_when_fetched_then_it_starts_anew(backed, local, tmp_path):
    manifest, _ = backed
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / f"{manifest.file}.part").write_bytes(b"x" * 1000)
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    assert fetched.sha256 == manifest.sha256


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 99}', json.dumps({"format": 1, "id": "x"}), "\x00\xff"],
)
def test_given_a_garbled_manifest_when_listed_then_said(backed, local, text):
    manifest, folder = backed
    (folder / f"{manifest.id}.json").write_text(text)
    said = problem(local)
    assert manifest.id in said and "\n" not in said
    with pytest.raises(rclone_errors.RemoteError):
        catalogs.Catalog(local, FOLDER).manifest(manifest.id)


def test_given_foreign_objects_when_listed_then_left_alone(backed, local):
    manifest, folder = backed
    (folder / "holiday.jpg").write_bytes(b"x")
    listing = catalogs.Catalog(local, FOLDER).read()
    assert [m.id for m in listing.manifests] == [manifest.id]
    assert listing.problems == ("holiday.jpg is not a backup's: left alone",)
    assert listing.leftovers == ()


def test_given_a_stale_listing_when_read_then_what_is_gone_is_said_and_hides_nothing(
    etcd, swift, swift_server, tmp_path
):
    gone, stays = (fill(etcd, text) and take(etcd, swift, tmp_path) for text in ("a", "b"))
    swift_server.lose(f'"id": "{gone.id}"'.encode())

    listing = catalogs.Catalog(swift, FOLDER).read()
    assert listing.manifests == (stays,)
    assert f"{gone.id} cannot be used: its manifest cannot be read" in listing.problems
    with pytest.raises(rclone_errors.RemoteError, match=gone.id):
        fetch.fetch(stored(gone), tmp_path / "got", swift)
    assert fetch.fetch(stored(stays), tmp_path / "got", swift).sha256 == stays.sha256


def test_given_a_remote_that_fills_up_when_backed_up_then_one_sentence_and_nothing_listed(
    etcd, full_disk, tmp_path
):
    remote = rclone.Remote(remote_settings.from_config(str(full_disk), ""))
    fill(etcd, "x")
    ballast = full_disk / "ballast"
    for pages in range(1, 60):  # at last too few for the manifest alone
        leave(ballast, pages * 4096)
        try:
            made = take(etcd, remote, tmp_path)
        except rclone_errors.RemoteError as error:
            assert error.kind is rclone_errors.Kind.FULL and "\n" not in str(error)
            assert catalogs.Catalog(remote, FOLDER).read() == listings.Listing(())
        else:
            break
    assert made.stored_size > (pages - 2) * 4096
    assert catalogs.Catalog(remote, FOLDER).read().manifests == (made,)


def leave(ballast: pathlib.Path, room: int) -> None:
    """Fill a disk but for this many bytes."""
    ballast.unlink(missing_ok=True)
    free = os.statvfs(ballast.parent)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - room))


def test_given_a_backup_changed_since_chosen_when_fetched_then_refused(backed, local, tmp_path):
    manifest, _ = backed
    chosen = fetch.Stored(FOLDER, manifest.id, "0" * 64, manifest.size)
    with pytest.raises(rclone_errors.RemoteError, match="changed"):
        fetch.fetch(chosen, tmp_path / "got", local)


def test_given_no_such_backup_when_fetched_then_said(local, tmp_path):
    source = fetch.Stored(FOLDER, "20260101T000000Z-g1-r1-abcdef", "", 0)
    with pytest.raises(rclone_errors.RemoteError, match="there is no backup"):
        fetch.fetch(source, tmp_path / "got", local)


def test_given_a_foreign_file_when_proven_then_refused(tmp_path):
    (tmp_path / "foreign").write_bytes(b"not a snapshot" * 1000)
    with pytest.raises(errors.EtcdError):
        proof.prove(tmp_path / "foreign", tmp_path / "proof")
    assert not (tmp_path / "proof").exists()


def test_given_a_backup_of_other_content_when_proven_then_refused(etcd, backed, local, tmp_path):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    with etcd.client() as client:
        real = client.hash_kv(etcd.endpoint, manifest.revision)
    false = type(real)(real.hash ^ 1, real.compact_revision, real.revision)
    with pytest.raises(proof.ProofError, match="not a true copy"):
        proof.prove(fetched.path, tmp_path / "proof", manifest, cluster=lambda _: false)


def test_given_little_memory_when_proven_then_given_up(backed, local, tmp_path):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    with pytest.raises(proof.HinderedError, match="memory"):
        proof.prove(fetched.path, tmp_path / "proof", manifest, limits=proof.Limits(1 << 20))


def test_given_little_time_when_proven_then_given_up(backed, local, tmp_path):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    with pytest.raises(proof.HinderedError, match=r"0 s"):
        proof.prove(fetched.path, tmp_path / "proof", manifest, limits=proof.Limits(1 << 30, 0.01))


def test_given_a_full_disk_when_proven_then_the_backup_is_not_blamed(
    backed, local, tmp_path, full_disk
):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    with pytest.raises(proof.HinderedError):
        proof.prove(fetched.path, full_disk / "proof", manifest)
    assert not (full_disk / "proof").exists()


def test_given_a_disk_that_fills_while_etcd_starts_when_proven_then_the_backup_is_not_blamed(
    backed, local, tmp_path
):
    """The data fits, etcd's preallocated log does not."""
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    small = tmp_path / "small"
    small.mkdir()
    size = (manifest.size >> 20) + 8
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "none", str(small)]
    if subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(proof.HinderedError):
            proof.prove(fetched.path, small / "proof", manifest)
        assert not (small / "proof").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True, timeout=10)


def provers() -> set[int]:
    """Who runs a scratch etcd of a proof now."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"--config-file\0/proc/self/fd/" in (process / "cmdline").read_bytes():
                found.add(process.stat().st_uid)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has others work")
def test_given_a_proof_when_made_then_by_a_user_without_rights_and_nothing_of_it_is_left(
    backed, local, tmp_path
):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    seen: set[int] = set()
    proof.prove(
        fetched.path, tmp_path / "proof", manifest, cluster=lambda _: seen.update(provers())
    )
    assert seen == {pwd.getpwnam("nobody").pw_uid}
    assert not (tmp_path / "proof").exists() and provers() == set()


_AS_THE_KEEPER = """
import pathlib
from machine import processes
processes.WORKER, processes.PATH = "nobody", {path!r}
from backup import proof
left = pathlib.Path({folder!r})
found = proof.prove(pathlib.Path({snapshot!r}), left)
print(found.revision, found.memory > 0, left.exists())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can let capabilities go")
def test_given_roots_few_capabilities_of_the_keeper_when_proven_then_it_works_and_is_cleared(
    backed, local, tmp_path
):
    manifest, _ = backed
    fetched = fetch.fetch(stored(manifest), tmp_path / "got", local)
    source = pathlib.Path(proof.__file__).parent.parent
    os.chown(tmp_path, 0, 0)
    code = _AS_THE_KEEPER.format(
        path=processes.PATH, folder=str(tmp_path / "proof"), snapshot=str(fetched.path)
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == [str(manifest.revision), "True", "False"], done.stderr


def test_given_sources_when_written_and_read_then_the_same():
    for source in (
        fetch.File("/a/b", "0" * 64, 5),
        fetch.Shared("https://127.0.0.1:1/snapshot.db", "0" * 64, 5),
        fetch.Stored(FOLDER, "id", "0" * 64, 5),
    ):
        detail = dataclasses.replace(fetch.to_detail(source), bump=7)
        assert fetch.from_detail(detail) == source
    with pytest.raises(ValueError, match="does not say"):
        fetch.from_detail(generations.Detail())


def test_given_200_backups_when_listed_then_quickly_and_newest_first(local, tmp_path, etcd):
    manifest = take(etcd, local, tmp_path)
    folder = tmp_path / "disk" / "backups" / FOLDER / "snapshots"
    for number in range(200):
        at = manifest.taken_at - 3600 * (number + 1)
        name = manifests.new_id(at, 3, 100)
        other = catalogs.dataclasses.replace(manifest, id=name, file=name + ".db", compression="")
        other = catalogs.dataclasses.replace(other, taken_at=at, stored_size=3)
        (folder / other.file).write_bytes(b"abc")
        (folder / f"{name}.json").write_text(other.to_json())
    began = time.monotonic()
    listing = catalogs.Catalog(local, FOLDER, cache=tmp_path / "cache").read()
    assert time.monotonic() - began < 5
    assert len(listing.manifests) == 201
    assert listing.manifests[0] == manifest


def test_given_a_share_and_its_detail_when_fetched_then_verified(authority, tmp_path):
    (tmp_path / "snap.db").write_bytes(parts.os.urandom(300_000))
    mine = authority.issue("unit-0")
    at = ("127.0.0.1", "127.0.0.1", parts.port())
    served = peer_transfer.Share(tmp_path / "snap.db", *at, mine.cert, mine.key, authority.pem)
    with (tmp_path / "snap.db").open("rb") as file:
        process = subprocess.Popen(served.argv(), stdin=file, stderr=subprocess.DEVNULL)
    try:
        parts.wait_for(served.port, process)
        found = compression.digest(tmp_path / "snap.db")
        tls = (mine.cert, mine.key, authority.pem)
        source = fetch.Shared(served.url, found.sha256, found.size)
        assert fetch.fetch(source, tmp_path / "got", tls=tls).sha256 == found.sha256
        wrong = fetch.Shared(served.url, "0" * 64, found.size)
        with pytest.raises(rclone_errors.RemoteError, match="sha256"):
            fetch.fetch(wrong, tmp_path / "other", tls=tls)
    finally:
        parts.end(process)


def test_given_a_host_name_and_a_models_proxy_when_a_peer_fetches_then_directly_from_there(
    authority, tmp_path, monkeypatch
):
    name = socket.gethostname()
    bind = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)[0][4][0]
    for variable in processes.PROXIES[:2]:
        for each in (variable, variable.lower(), f"JUJU_CHARM_{variable}"):
            monkeypatch.setenv(each, "http://127.0.0.1:9")  # nobody is there
    (tmp_path / "snap.db").write_bytes(parts.os.urandom(300_000))
    found = compression.digest(tmp_path / "snap.db")
    mine = authority.issue("unit-named", name)
    at = (name, str(bind), parts.port())
    served = peer_transfer.Share(tmp_path / "snap.db", *at, mine.cert, mine.key, authority.pem)
    with (tmp_path / "snap.db").open("rb") as file:
        process = subprocess.Popen(served.argv(), stdin=file, stderr=subprocess.DEVNULL)
    try:
        source = fetch.Shared(served.url, found.sha256, found.size)
        tls = (mine.cert, mine.key, authority.pem)
        assert eventually(lambda: fetch.fetch(source, tmp_path / "got", tls=tls)).size == 300_000
    finally:
        parts.end(process)


def eventually(fetch, seconds: float = 20.0):
    """What it answers, once the server listens."""
    until = time.monotonic() + seconds
    while True:
        try:
            return fetch()
        except rclone_errors.RemoteError:  # noqa: PERF203 - until it works
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def by_hand(etcd, remote, tmp_path, *endpoints: str) -> operations.Operations:
    return operations.Operations(remote, FOLDER, ABOUT, tmp_path / "work", reach(etcd, *endpoints))


def test_given_an_operator_when_backups_are_asked_for_then_made_proven_listed_and_deleted(
    etcd, local, tmp_path
):
    fill(etcd, "by hand")
    asked = by_hand(etcd, local, tmp_path, etcd.endpoint)
    first, second = asked.create(print), asked.create(print)
    manifest, found = asked.verify(first.id)
    assert manifest == first and found.matched
    assert [each["id"] for each in operations.records(asked.listing())] == [
        second.id,
        first.id,
    ]
    with pytest.raises(operations.BackupError, match="newest proven backup"):
        asked.delete(first.id)
    assert asked.delete("latest") == second
    for wrong in ("nonsense", second.id):
        with pytest.raises(operations.BackupError, match="there is no backup"):
            asked.verify(wrong)
    assert asked.listing("another").manifests == ()
    with pytest.raises(operations.BackupError, match="has more than letters"):
        asked.listing("../else where")
    assert list((tmp_path / "work").iterdir()) == []


def test_given_no_etcd_when_a_backup_is_verified_then_proven_and_not_compared(
    etcd, local, tmp_path
):
    made = take(etcd, local, tmp_path)
    _, found = by_hand(etcd, local, tmp_path).verify(made.id)
    assert found.matched is None and found.revision == made.revision
