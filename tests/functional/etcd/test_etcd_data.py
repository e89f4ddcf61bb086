"""Data directories of real members: how far they got, swaps, snapshots, salvage."""

from __future__ import annotations

import contextlib
import pathlib
import random
import shutil
import signal
import subprocess
import time

import etcd_cluster
import pytest

import errors
from cluster import generation as generations
from cluster import revisions
from etcd import bolt, data, disk_facts, grpc_calls, offline, service
from etcd import config as etcd_config
from etcd import failure as failures
from etcd import salvage as salvages
from etcd import snapshot as snapshots
from etcd import stamp as stamps
from etcd import wal as wals

BAD_WAL = failures.FailureKind.BAD_WAL


@pytest.fixture
def one(cluster):
    """A cluster of one with 30 keys."""
    cluster.found(1)
    online = cluster.client()
    for number in range(30):
        online.put(f"key-{number:02}", f"value-{number}")
    return cluster


def taken(cluster) -> pathlib.Path:
    path = cluster.folder / "taken.db"
    cluster.client().snapshot(path)
    return path


def restarted(cluster, directory, token="t-2", at="again", **options):
    node = etcd_cluster.Node("etcd-0", cluster.folder / at, cluster.tls)
    cluster.nodes.append(node)
    snapshots.restore(
        directory, node.data_dir, "etcd-0", f"etcd-0={node.peer_url}", token, node.peer_url,
        **options,
    )  # fmt: skip
    node.start(initial_cluster=f"etcd-0={node.peer_url}", token=token)
    cluster.await_healthy(nodes=[node])
    return cluster.client(node), node


def test_given_writes_when_read_from_disk_then_facts_are_what_the_member_said(one):
    online = one.client()
    status, revision = online.status(), online.revision()
    membership = online.members()
    one.nodes[0].stop()
    facts = disk_facts.disk_facts(one.nodes[0].data_dir)
    assert facts is not None
    assert facts.revision == revision
    assert facts.term >= status.raft_term and facts.index >= status.raft_index
    assert facts.index <= status.raft_index + 3
    assert disk_facts.member_ids(one.nodes[0].data_dir) == (
        membership.members[0].id,
        membership.cluster_id,
    )


def test_given_a_running_member_when_read_from_disk_then_it_does_not_mind(one):
    facts = disk_facts.disk_facts(one.nodes[0].data_dir)
    assert facts is not None and facts.index > 30
    one.client().put("still", "there")


def test_given_a_torn_log_when_read_then_the_whole_records_count(one):
    one.nodes[0].stop(signal.SIGKILL)
    log = sorted((one.nodes[0].data_dir / "member" / "wal").glob("*.wal"))[-1]
    before = disk_facts.disk_facts(one.nodes[0].data_dir)
    content = log.read_bytes()
    end = len(content.rstrip(b"\0"))
    with log.open("r+b") as file:
        file.truncate(end - 5)
    after = disk_facts.disk_facts(one.nodes[0].data_dir)
    assert before is not None and after is not None
    assert before.index - 2 <= after.index <= before.index


def test_given_a_follower_behind_when_compared_then_the_other_disk_is_greater(cluster):
    cluster.found(3)
    cluster.nodes[2].stop()
    online = cluster.client(*cluster.nodes[:2])
    for number in range(20):
        online.put(f"{number}", "x")
    for node in cluster.nodes[:2]:
        node.stop()
    facts = [disk_facts.disk_facts(node.data_dir) for node in cluster.nodes]
    assert facts[2] < min(facts[0], facts[1])  # type: ignore[operator,type-var]


def test_given_no_data_when_read_then_there_are_no_facts(tmp_path):
    assert disk_facts.disk_facts(tmp_path) is None
    assert disk_facts.member_ids(tmp_path) is None
    assert not disk_facts.has_data(tmp_path)


def test_given_a_snapshot_when_verified_then_it_tells_what_it_holds(one):
    online = one.client()
    download = online.snapshot(one.folder / "taken.db")
    info = snapshots.verify(download.path)
    assert (info.size, info.sha256) == (download.size, download.sha256)
    assert info.revision == online.revision() == 31
    assert info.total_keys >= 30 and info.hashed and not info.alarms and not info.auth_enabled
    assert info.version == ".".join(str(part) for part in service.version()[:2])


def test_given_a_snapshot_when_restored_then_a_new_cluster_holds_its_keys(one):
    path = taken(one)
    online = one.client()
    old = online.members().cluster_id
    online.put("later", "lost")
    restored, node = restarted(one, path, bump=1000)
    assert restored.get("later") is None
    assert restored.get("key-07").value == b"value-7"
    assert restored.members().cluster_id != old
    assert restored.revision() == 1031
    with pytest.raises(errors.CompactedError):
        online_at(restored, 20)
    with pytest.raises(errors.CompactedError):
        online_at(restored, 1030)
    assert restored.put("after", "x") == 1032
    with pytest.raises(errors.TargetError, match="not empty"):
        snapshots.restore(path, node.data_dir, "etcd-0", "etcd-0=https://127.0.0.1:1", "t", "x")


def online_at(online, revision):
    request = grpc_calls.messages().RangeRequest(key=b"key-01", revision=revision)
    return online._call("kvstub", "Range", request)


def test_given_two_restored_founders_when_started_then_they_are_one_cluster(one):
    path = taken(one)
    founders = [etcd_cluster.Node(f"etcd-{i}", one.folder / f"new-{i}", one.tls) for i in range(2)]
    one.nodes += founders
    listed = ",".join(f"{n.name}={n.peer_url}" for n in founders)
    for node in founders:
        snapshots.restore(path, node.data_dir, node.name, listed, "t-9", node.peer_url)
        node.start(initial_cluster=listed, token="t-9")
    one.await_healthy(nodes=founders)
    online = one.client(*founders)
    assert len(online.members().members) == 2
    hashes = {online.hash_kv(n.client_url, online.revision()).hash for n in founders}
    assert len(hashes) == 1


def flip(path: pathlib.Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


def cut(path: pathlib.Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def test_given_a_damaged_file_when_verified_then_one_sentence_says_how(one):
    good = taken(one)
    size = good.stat().st_size

    def copy() -> pathlib.Path:
        return pathlib.Path(shutil.copy(good, one.folder / "bad.db"))

    with pytest.raises(errors.MissingError, match="no file"):
        snapshots.verify(one.folder / "none")
    with pytest.raises(errors.MissingError, match="not a file"):
        snapshots.verify(one.folder)
    bad = copy()
    cut(bad, size - 10)
    with pytest.raises(errors.TruncatedError, match="truncated"):
        snapshots.verify(bad)
    bad = copy()
    cut(bad, size // 2)
    with pytest.raises(errors.TruncatedError, match="truncated"):
        snapshots.verify(bad)
    bad = copy()
    cut(bad, size - 32)
    with pytest.raises(errors.BadHashError, match="no hash"):
        snapshots.verify(bad)
    assert snapshots.verify(bad, allow_missing_hash=True).revision == 31
    bad = copy()
    flip(bad, size - 5000)
    with pytest.raises(errors.BadHashError, match="does not match"):
        snapshots.verify(bad)
    bad.write_bytes(b"")
    with pytest.raises(errors.TruncatedError, match="empty"):
        snapshots.verify(bad)
    bad.write_bytes(b"\x1f\x8b" + b"x" * 100)
    with pytest.raises(errors.ForeignFileError, match="gzip"):
        snapshots.verify(bad)
    bad.write_bytes(b"not a snapshot" * 4000)
    with pytest.raises(errors.ForeignFileError, match="not an etcd snapshot"):
        snapshots.verify(bad)
    with pytest.raises(errors.NewerError, match=r"taken from etcd 3\.\d.*but etcd 3\.3\.0"):
        snapshots.verify(good, (3, 3, 0))


def test_given_any_damage_when_verified_then_nothing_but_our_errors_come_out(one, monkeypatch):
    good = taken(one).read_bytes()[:-32]
    monkeypatch.setattr(snapshots, "_status", lambda _: {})
    dice = random.Random(7)
    bad = one.folder / "bad.db"
    for _ in range(400):
        content = bytearray(good)
        for _ in range(dice.choice((1, 3, 20))):
            content[dice.randrange(len(content))] = dice.randrange(256)
        if dice.random() < 0.3:
            del content[dice.randrange(len(content)) :]
        bad.write_bytes(content)
        with contextlib.suppress(errors.SnapshotError):
            snapshots.verify(bad, allow_missing_hash=True)


def test_given_a_damaged_tree_when_verified_then_the_tool_finds_it(one):
    content = bytearray(taken(one).read_bytes()[:-32])
    with bolt.File(one.folder / "taken.db") as file:
        leaf = file.bucket(b"key").offset  # type: ignore[union-attr]
    content[leaf + 8 : leaf + 10] = b"\x10\x00"
    bad = one.folder / "bad.db"
    bad.write_bytes(content)
    with pytest.raises(errors.SnapshotError, match="damaged"):
        snapshots.verify(bad, allow_missing_hash=True)


@pytest.mark.parametrize("allowed", [False, True])
def test_given_a_database_copied_while_etcd_wrote_when_verified_then_no_leave_helps(one, allowed):
    content = bytearray(taken(one).read_bytes()[:-32])
    with bolt.File(one.folder / "taken.db") as file:
        root, size = file.meta.root, file.meta.page_size
    torn = one.folder / "torn.db"
    for page in (bytes(size), content[:size]):  # a page of another moment where the root was
        content[root * size : (root + 1) * size] = page
        torn.write_bytes(content)
        with pytest.raises(errors.BadHashError, match="copied while etcd wrote") as caught:
            snapshots.verify(torn, allow_missing_hash=allowed)
        assert "allow-missing-hash" not in str(caught.value)


def test_given_a_member_database_when_verified_then_it_needs_leave_and_restores(one):
    one.nodes[0].stop()
    copy = shutil.copy(one.nodes[0].data_dir / "member" / "snap" / "db", one.folder / "db")
    with pytest.raises(errors.BadHashError, match="copy of a member's database"):
        snapshots.verify(pathlib.Path(copy))
    info = snapshots.verify(pathlib.Path(copy), allow_missing_hash=True)
    assert not info.hashed and info.revision == 31
    restored, _ = restarted(one, pathlib.Path(copy), skip_hash_check=True)
    assert restored.get("key-29").value == b"value-29"


def test_given_a_survivor_of_three_when_salvaged_then_all_it_acknowledged_is_there(cluster):
    cluster.found(3)
    online = cluster.client()
    for number in range(50):
        online.put(f"{number}", "x")
    for node in cluster.nodes:
        node.stop(signal.SIGKILL)
    survivor = max(cluster.nodes, key=lambda n: disk_facts.disk_facts(n.data_dir))  # type: ignore[arg-type,return-value]
    before = sorted(p.stat().st_mtime_ns for p in survivor.data_dir.rglob("*"))
    info = salvages.salvage(survivor.data_dir, cluster.folder / "work", timeout=30)
    assert sorted(p.stat().st_mtime_ns for p in survivor.data_dir.rglob("*")) == before
    assert info.revision == 51
    assert [p.name for p in (cluster.folder / "work").iterdir()] == ["salvage.db"]
    restored, _ = restarted(cluster, info.path)
    assert restored.get("49") is not None
    assert [m.name for m in restored.members().members] == ["etcd-0"]


def test_given_a_broken_survivor_when_salvaged_then_the_reason_is_told(one):
    one.nodes[0].stop()
    database = one.nodes[0].data_dir / "member" / "snap" / "db"
    database.write_bytes(b"\0" * database.stat().st_size)
    with pytest.raises(errors.DataError, match="cannot be recovered from: its database"):
        salvages.salvage(one.nodes[0].data_dir, one.folder / "work", timeout=30)
    with pytest.raises(errors.DataError, match="cannot be read"):
        disk_facts.disk_facts(one.nodes[0].data_dir)


def test_given_armed_alarms_when_snapshot_is_restored_then_they_are_seen_and_disarmed(cluster):
    cluster.found(1, quota_bytes=16 * 1024 * 1024)
    online = cluster.client()
    with pytest.raises(errors.NoSpaceError):
        for _ in range(40):
            online.put("big", b"x" * 1_000_000)
    path = taken(cluster)
    assert snapshots.verify(path).alarms
    restored, _ = restarted(cluster, path)
    assert restored.alarms()
    restored.disarm()
    restored.put("a", "b")


def test_given_etcds_files_when_read_then_the_bucket_reader_agrees_with_the_store(one):
    path = taken(one)
    with bolt.File(path) as file:
        rows = list(file.items(file.bucket(b"key")))
        assert len(rows) == 30
        assert file.last(file.bucket(b"key")) == rows[-1]
        for key, value in rows:
            assert file.get(file.bucket(b"key"), key) == value
        assert file.get(file.bucket(b"key"), b"none") is None
        assert file.bucket(b"none") is None


def test_given_a_removed_member_when_it_ends_then_the_reason_is_known(cluster):
    cluster.found(2)
    joined = cluster.join()
    online = cluster.client(*cluster.nodes[:2])
    member = next(m for m in online.members().members if m.name == joined.name)
    joined.stop()
    online.remove(member.id)
    joined.start()
    found = failures.reason(joined.wait_end())
    assert found is not None and found.kind is failures.FailureKind.REMOVED
    listed = {m.id for m in online.members().members}
    assert offline.confirms(found, joined.data_dir, listed)
    assert not offline.confirms(found, joined.data_dir, listed | {member.id})
    assert not offline.confirms(found, joined.data_dir, None)


def test_given_broken_data_when_it_ends_then_each_reason_is_known(one):
    node = one.nodes[0]
    node.stop()
    wal = sorted((node.data_dir / "member" / "wal").glob("*.wal"))[-1]
    good = wal.read_bytes()
    flip(wal, good.index(b"value-7"))
    failure = ended(node)
    assert failure.kind is failures.FailureKind.BAD_WAL, failure
    assert offline.confirms(failure, node.data_dir, None)
    wal.write_bytes(good)
    assert not offline.confirms(failure, node.data_dir, None)
    node.log.write_text("")
    database = node.data_dir / "member" / "snap" / "db"
    good = database.read_bytes()
    database.write_bytes(b"\0" * 16384 + good[16384:])
    failure = ended(node)
    assert failure.kind is failures.FailureKind.CORRUPT, failure
    assert offline.confirms(failure, node.data_dir, None)
    database.write_bytes(good)
    assert not offline.confirms(failure, node.data_dir, None)
    assert not offline.confirms(failures.Failure(BAD_WAL, "", last_index=2), node.data_dir, None)
    _, last = wals.last_entry(node.data_dir)
    assert offline.confirms(failures.Failure(BAD_WAL, "", last_index=last), node.data_dir, None)


def test_given_a_bad_byte_anywhere_in_a_record_when_it_ends_then_the_log_is_to_blame(one):
    """Which words etcd dies with depends on the byte: the length, a tag, a type, a checksum."""
    node = one.nodes[0]
    node.stop()
    (log,) = wals.logs(node.data_dir)
    good, ends = log.read_bytes(), [0, *(record.end for record in wals.records(log))]
    owner, entry = ends[1], ends[-8]  # the second record says whose log it is
    served = 0
    for at in (*range(owner + 8, owner + 16), *range(entry, entry + 24)):
        flip(log, at)
        node.start()
        if serves(one):
            node.stop()
            served += 1
        else:
            failure = failures.reason(node.wait_end())
            assert failure is not None and failure.kind is BAD_WAL, (at, failure)
            assert offline.confirms(failure, node.data_dir, None), (at, failure)
        log.write_bytes(good)
        node.log.write_text("")
    assert served < 12  # where etcd takes the byte for an end that was written in part


@pytest.mark.parametrize("damage", ["no log", "a gap", "no database", "an old database"])
def test_given_data_with_a_part_missing_when_looked_at_then_it_is_broken(cluster, damage):
    cluster.found(1, snapshot_count=10, quota_bytes=2**30)
    node, online = cluster.nodes[0], cluster.client()
    old = None
    for number in range(60):
        online.put(f"key-{number}", "x" * 1000)
        if number == 3:
            node.stop()
            old = (node.data_dir / "member" / "snap" / "db").read_bytes()
            assert not offline.database_broken(node.data_dir)
            node.start()
            cluster.await_healthy()
    node.stop()
    assert not offline.log_broken(node.data_dir) and not offline.database_broken(node.data_dir)
    (log,) = wals.logs(node.data_dir)
    database = node.data_dir / "member" / "snap" / "db"
    if damage == "no log":
        log.unlink()
    elif damage == "a gap":
        log.rename(log.with_name(f"{2:016x}-{5000:016x}.wal"))
    elif damage == "no database":
        database.unlink()
    else:
        database.write_bytes(old)
    of_log = damage in ("no log", "a gap")
    assert offline.log_broken(node.data_dir) is of_log
    assert offline.database_broken(node.data_dir) is not of_log


def test_given_a_stranger_with_a_crafted_name_when_etcd_ends_for_another_cause_then_it_is_ignored(
    one,
):
    """No certificate is needed: etcd logs the name that a refused handshake asked for."""
    node = one.nodes[0]
    host, _, port = node.client_url.removeprefix("https://").rpartition(":")
    removed = "the member has been permanently removed from the cluster"
    names = (removed, "wal: crc mismatch", "invalid database", "panic: freepages: ")
    for name in names:
        for target in (node.client_url, node.peer_url):
            port = target.rpartition(":")[2]
            subprocess.run(
                ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=20,
                check=False,
            )
    eventually(lambda: all(name in node.log.read_text() for name in names))
    node.stop()
    assert failures.reason(node.log.read_text().splitlines()) is None
    node.tls.cert.write_text("nonsense")
    failure = ended(node)
    assert failure.kind is failures.FailureKind.CERTIFICATE, failure


def eventually(check, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_given_bad_certificates_when_it_ends_then_the_reason_is_known(one):
    node = one.nodes[0]
    node.stop()
    node.tls.cert.write_text("nonsense")
    failure = ended(node)
    assert failure.kind is failures.FailureKind.CERTIFICATE, failure
    node.tls.cert.unlink()
    node.log.write_text("")
    failure = ended(node)
    assert failure.kind is failures.FailureKind.CERTIFICATE, failure


def test_given_a_used_port_when_it_ends_then_the_reason_is_known(one):
    other = etcd_cluster.Node("other", one.folder / "other", one.tls)
    one.nodes.append(other)
    taken_url = (one.nodes[0].client_url,)
    other.start(
        listen_client_urls=taken_url,
        initial_cluster=f"other={other.peer_url}",
        initial=etcd_config.Initial.NEW,
    )
    found = failures.reason(other.wait_end())
    assert found is not None and found.kind is failures.FailureKind.ADDRESS, found


def test_given_a_wrong_member_list_when_joining_then_the_reason_is_known(one):
    other = one.node()
    other.start(
        initial_cluster=f"{other.name}={other.peer_url},etcd-0={one.nodes[0].peer_url}",
    )
    found = failures.reason(other.wait_end())
    assert found is not None and found.kind is failures.FailureKind.MISMATCH, found


def serves(cluster: etcd_cluster.Cluster) -> bool:
    """Whether a member of one answers, and not ends."""
    process = cluster.nodes[0].process
    while process is not None and process.poll() is None:
        with contextlib.suppress(errors.EtcdError):
            return bool(cluster.client().get("key-00"))
        time.sleep(0.1)
    return False


def ended(node: etcd_cluster.Node) -> failures.Failure:
    node.start()
    lines = node.wait_end()
    found = failures.reason(lines)
    assert found is not None, lines[-5:]
    return found


@pytest.mark.parametrize("keys", [0, 1, 30, 300])
def test_given_a_tool_that_cannot_bump_when_restored_then_the_result_is_as_if_it_could(
    cluster, monkeypatch, keys
):
    cluster.found(1)
    online = cluster.client()
    batch = "x" * 2000
    for number in range(keys):
        online.put(f"key-{number:04}", batch)
    path = taken(cluster)
    revision = online.revision()
    hashes = []
    node = cluster.nodes[0]
    for attempt, able in enumerate((False, True)):
        if able and (service.version() < (3, 5, 10) or keys == 0):
            continue  # on an empty store the tool counts from 0, etcd from 1
        monkeypatch.setattr(snapshots, "_can_bump", lambda able=able: able)
        node = etcd_cluster.Node("etcd-0", cluster.folder / f"r{attempt}", cluster.tls)
        cluster.nodes.append(node)
        listed = f"etcd-0={node.peer_url}"
        snapshots.restore(
            path, node.data_dir, "etcd-0", listed, "t", node.peer_url, bump=1_000_000
        )
        database = node.data_dir / "member" / "snap" / "db"
        assert snapshots.verify(database, allow_missing_hash=True).revision == revision + 1_000_000
        node.start(initial_cluster=listed, token="t")
        cluster.await_healthy(nodes=[node])
        restored = cluster.client(node)
        assert len(restored.get_prefix("")) == keys
        assert restored.put("after", "x") == revision + 1_000_001
        hashes.append(restored.hash_kv(node.client_url).hash)
        restored.compact(restored.revision(), physical=True)
        restored.defragment(node.client_url)
        node.stop()
        node.start()
        cluster.await_healthy(nodes=[node])
        assert len(restored.get_prefix("")) == keys + 1
    assert len(set(hashes)) == 1


def watched(cluster, node, revision: int) -> str:
    """What a watcher is told that goes on from this revision."""
    asked = [
        str(service.binary("etcdctl")), f"--endpoints={node.client_url}", "watch", "key-00",
        f"--rev={revision}", f"--cacert={cluster.tls.ca}", f"--cert={cluster.tls.cert}",
        f"--key={cluster.tls.key}",
    ]  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):  # it hears nothing, and waits
        told = subprocess.run(
            asked, capture_output=True, text=True, timeout=5, check=False,
            env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"},
        )  # fmt: skip
        return told.stdout + told.stderr
    return ""


def test_given_one_snapshot_restored_twice_when_watched_on_then_the_second_says_compacted(one):
    path = taken(one)
    snapshotted = snapshots.verify(path).revision
    begins = revisions.begin(snapshot=snapshotted, live=one.client().revision())
    first, node = restarted(one, path, bump=begins - snapshotted)
    assert first.revision() == begins
    newest = [first.put("key-00", f"of the first {number}") for number in range(3)][-1]
    assert newest == begins + 3
    node.stop()  # nobody asks it any more: its record and its disk know

    record = generations.Generation(
        2, "t-2", generations.Source.BACKUP, (), generations.Detail(high=begins)
    )
    facts = disk_facts.disk_facts(node.data_dir)
    again = revisions.begin(snapshot=snapshotted, disks=[facts], record=record)
    assert again > newest + revisions.MARGIN - 10
    second, node = restarted(one, path, token="t-3", at="third", bump=again - snapshotted)
    assert second.revision() == again
    second.put("key-00", "of the second")
    for seen in (snapshotted, begins, newest, newest + 1):
        assert "required revision has been compacted" in watched(one, node, seen)


def test_given_the_last_revision_that_programs_tell_apart_when_restored_then_etcd_goes_on(one):
    path = taken(one)
    for attempt in range(2):  # once more, from a snapshot of that
        before = snapshots.verify(path).revision
        begins = revisions.LIMIT - (2 - attempt) * revisions.MARGIN
        online, node = restarted(one, path, at=f"far-{attempt}", bump=begins - before)
        assert online.revision() == begins
        assert online.put("key-00", "after") == begins + 1
        assert online.get("key-00").value == b"after"
        online.compact(begins + 1, physical=True)
        path = one.folder / f"far-{attempt}.db"
        online.snapshot(path)
        node.stop()
        node.start()
        one.await_healthy(nodes=[node])
        assert online.put("key-00", "later") == begins + 2


def test_given_a_member_that_was_refused_when_looked_at_then_it_holds_no_data_yet(
    cluster, tmp_path
):
    """etcd has made an empty database by the time that it learns of a changed list of members."""
    cluster.found(1)
    root = data.Root(tmp_path / "root", owner=None)
    root.ensure()
    stamp = stamps.Stamp("t-1", 1, None, "etcd-1")
    node = cluster.node(initial=etcd_config.Initial.EXISTING)
    there = f"{cluster.nodes[0].name}={cluster.nodes[0].peer_url}"
    node.start(
        data_dir=root.new_current(stamp), initial_cluster=f"{there},etcd-1={node.peer_url}"
    ).process.wait(20)
    assert [path.name for path in root.etcd_dir.rglob("*") if path.is_file()] == ["db"]
    assert root.disk().token is None
    root.new_current(stamp)
    assert not list(root.etcd_dir.iterdir())


def test_given_a_database_that_lost_its_log_when_looked_at_then_it_is_data(cluster, tmp_path):
    cluster.found(1)
    cluster.client().put("kept", "value")
    cluster.nodes[0].stop()
    root = data.Root(tmp_path / "root", owner=None)
    root.ensure()
    place = root.new_current(stamps.Stamp("t-1", 1, None, "etcd-0")) / "member" / "snap"
    place.mkdir(parents=True)
    shutil.copy(cluster.nodes[0].data_dir / "member" / "snap" / "db", place)
    assert root.disk().token == "t-1"
