"""A store that means harm: an S3 server whose listing and whose objects are lies."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from backup import catalog as catalogs
from backup import manifest as manifests
from backup import rclone, rclone_errors, remote_settings

if TYPE_CHECKING:
    import pathlib

MANIFEST = manifests.Manifest(
    id="20261121T020849Z-g1-r7-abcdef",
    file="20261121T020849Z-g1-r7-abcdef.db",
    cluster_id=7,
    generation=1,
    token="t",
    revision=7,
    raft_index=9,
    etcd_version="3.5.16",
    storage_version="",
    size=1000,
    sha256="ab" * 32,
    stored_size=1000,
    stored_sha256="ab" * 32,
    compression="",
    keys=3,
    members=("etcd-0",),
    taken_by="etcd/0",
    taken_at=1_795_000_000.0,
    duration=1.0,
)
ENDLESS = None
"""The body of an object that does not end."""
OTHER = MANIFEST.id.replace("abcdef", "0{:05}")


class Store:
    """Objects by name; what the listing says of their sizes may differ."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes | None] = {}
        self.sizes: dict[str, int] = {}
        self.sent = 0
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                split = urllib.parse.urlsplit(self.path)
                name = urllib.parse.unquote(split.path).removeprefix("/bucket").strip("/")
                if not name:
                    self.page(store.listing(urllib.parse.parse_qs(split.query)))
                elif name not in store.objects:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.object(name, body=body)

            def page(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def object(self, name: str, *, body: bool) -> None:
                content = store.objects[name]
                self.send_response(200)
                self.send_header("Last-Modified", "Sat, 21 Nov 2026 02:08:49 GMT")
                self.send_header("ETag", '"0"')
                if content is not None or not body:
                    self.send_header("Content-Length", str(store.size(name)))
                else:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                with contextlib.suppress(OSError):
                    while body:
                        self.wfile.write(content if content is not None else b"[" * 65536)
                        store.sent += 65536
                        if content is not None:
                            break

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def size(self, name: str) -> int:
        content = self.objects[name]
        return self.sizes.get(name, len(content) if content is not None else 1000)

    def listing(self, asked: dict[str, list[str]]) -> str:
        prefix = asked.get("prefix", [""])[0]
        found = "".join(
            f"<Contents><Key>{name}</Key><Size>{self.size(name)}</Size><ETag>0</ETag>"
            "<LastModified>2026-11-21T02:08:49.000Z</LastModified></Contents>"
            for name in sorted(self.objects)
            if name.startswith(prefix)
        )
        return (
            '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>false'
            f"</IsTruncated><Prefix>{prefix}</Prefix>{found}</ListBucketResult>"
        )

    @property
    def remote(self) -> rclone.Remote:
        port = self.server.server_address[1]
        return rclone.Remote(
            remote_settings.from_s3(
                remote_settings.S3("bucket", "a" * 8, "b" * 8, endpoint=f"http://127.0.0.1:{port}")
            )
        )

    def add(self, manifest: manifests.Manifest) -> None:
        self.objects[f"here/snapshots/{manifest.file}"] = b"x" * manifest.stored_size
        self.objects[f"here/snapshots/{manifest.id}.json"] = manifest.to_json().encode()


@pytest.fixture
def store():
    made = Store()
    made.add(MANIFEST)
    yield made
    made.server.shutdown()
    made.server.server_close()


def named(number: int) -> str:
    return f"here/snapshots/{OTHER.format(number)}.json"


def test_given_odd_objects_when_listed_then_the_good_backup_is_there_and_each_is_told(
    store, tmp_path: pathlib.Path
):
    """Nested brackets, times that no calendar has, numbers that are none, not even text."""
    good = MANIFEST.to_json()
    odd = [
        b"[" * 200_000,
        b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
        good.replace("1795000000.0", "1e18").encode(),
        good.replace("1795000000.0", "NaN").encode(),
        good.replace('"revision": 7', '"revision": ' + "9" * 5000).encode(),
        good.replace('"t"', '"\\u001b[31m"').encode(),
        b"\xff" * 1000,
        b"",
    ]
    for number, content in enumerate(odd):
        store.objects[named(number)] = content
    store.objects["here/snapshots/\u202e\u0085odd"] = b"x"
    began = time.monotonic()
    listing = catalogs.Catalog(store.remote, "here", tmp_path / "cache").read()
    assert time.monotonic() - began < 60
    assert listing.manifests == (MANIFEST,)
    assert len(listing.problems) == len(odd) + 1
    assert all(problem.isprintable() and len(problem) < 300 for problem in listing.problems)


def test_given_manifests_that_do_not_end_when_listed_then_the_others_are_read_and_no_disk_fills(
    store, tmp_path: pathlib.Path
):
    for number in range(2):
        store.objects[named(number)] = ENDLESS
    listing = catalogs.Catalog(store.remote, "here", tmp_path / "cache").read()
    assert listing.manifests == (MANIFEST,)
    assert any("cannot be read" in problem for problem in listing.problems)
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) < 2**20


def test_given_a_snapshot_that_does_not_end_when_got_then_no_more_than_announced_is_written(
    store, tmp_path: pathlib.Path
):
    store.objects[f"here/snapshots/{MANIFEST.file}"] = ENDLESS
    backups = catalogs.Catalog(store.remote, "here")
    with pytest.raises(rclone_errors.RemoteError):
        backups.get(MANIFEST, tmp_path / "got")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1001
    assert store.sent < 64 * 2**20


def test_given_a_manifest_that_does_not_end_when_asked_for_alone_then_refused(store):
    store.objects[f"here/snapshots/{MANIFEST.id}.json"] = ENDLESS
    with pytest.raises(rclone_errors.RemoteError, match="cannot be used"):
        catalogs.Catalog(store.remote, "here").manifest(MANIFEST.id)


def test_given_more_objects_than_anybody_takes_when_listed_then_one_sentence(store, monkeypatch):
    monkeypatch.setattr(rclone, "_LISTING", 10_000)
    for number in range(100):
        store.objects[named(number)] = dataclasses.replace(MANIFEST).to_json().encode()
    with pytest.raises(rclone_errors.RemoteError, match="more than 10000 bytes"):
        store.remote.list("here")
