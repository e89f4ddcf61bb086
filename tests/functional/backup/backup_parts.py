"""Real parts for the backup tests: an S3 server over TLS, a proxy that hurts, certificates."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from backup import remote_settings
from etcd import config as etcd_config
from etcd import scratch

if TYPE_CHECKING:
    from functional import signing

ACCESS = "AKIDEXAMPLEFORTESTS"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def port() -> int:
    return scratch.free_ports(1)[0]


def modern_rclone() -> pathlib.Path:
    """The rclone with `serve s3`, whatever rclone is under test."""
    return pathlib.Path(sys.executable).parent / "rclone"


def wait_for(port: int, process: subprocess.Popen, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen on {port}")


def end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclasses.dataclass
class S3Server:
    folder: pathlib.Path
    port: int
    ca: str
    process: subprocess.Popen


def s3_server(folder: pathlib.Path, authority: signing.Authority) -> S3Server:
    """`rclone serve s3`: a real S3 server, with signatures and TLS, on loopback."""
    data = folder / "s3"
    data.mkdir()
    pair = authority.issue("s3-server")
    number = port()
    process = subprocess.Popen(
        [
            str(modern_rclone()),
            *("serve", "s3", "--config", "/dev/null", "--cache-dir", str(folder / "cache")),
            *("--addr", f"127.0.0.1:{number}", "--auth-key", f"{ACCESS},{SECRET}"),
            *("--cert", str(pair.cert), "--key", str(pair.key)),
            *("--dir-cache-time", "1ms", str(data)),
        ],
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(number, process)
    return S3Server(data, number, authority.pem.read_text(), process)


class FaultProxy:
    """TCP to a server behind; set `fault` and it hurts every connection from then on.

    Faults: "" (passes), "refuse" (closes at once), "mute" (takes, never answers),
    "cut-down" and "cut-up" (breaks off after `after` bytes in that direction), "slow".
    `times` counts down the connections that are hurt; -1 hurts all.
    """

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.fault = ""
        self.after = 100_000
        self.times = -1
        self.hurt = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in list(self._open):
            self._drop(connection)
        self._thread.join(5)
        for thread in self._threads:
            thread.join(5)

    def _drop(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._open.add(client)
            fault = self.fault if self.times != 0 else ""
            if fault and self.times > 0 and not fault.startswith("cut"):
                self.times -= 1
            if fault == "refuse":
                self.hurt += 1
                self._drop(client)
                continue
            if fault == "mute":
                self.hurt += 1
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.behind), 5)
            except OSError:
                self._drop(client)
                continue
            self._open.add(server)
            for source, target, way in ((client, server, "up"), (server, client, "down")):
                thread = threading.Thread(
                    target=self._pump, args=(source, target, way, fault), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, way: str, fault: str) -> None:
        passed = 0
        try:
            while chunk := source.recv(16384):
                passed += len(chunk)
                if fault == f"cut-{way}" and passed > self.after and self.times != 0:
                    self.times -= 1 if self.times > 0 else 0
                    self.hurt += 1
                    break
                if fault == "slow":
                    time.sleep(0.02)
                target.sendall(chunk)
        except OSError:
            pass
        finally:
            self._drop(source)
            self._drop(target)


def s3_settings(bucket: str, port: int, ca: str, **changes: str) -> remote_settings.Settings:
    given = {
        "bucket": bucket,
        "access_key": ACCESS,
        "secret_key": SECRET,
        "endpoint": f"https://127.0.0.1:{port}",
        "path": "etcd",
        **changes,
    }
    return remote_settings.from_s3(remote_settings.S3(ca_chain=(ca,), **given))


def cluster(
    folder: pathlib.Path, authority: signing.Authority, members: int = 1, **options: int
) -> list[scratch.Member]:
    """As many members of the installed etcd on loopback, founded together.

    Args:
        folder: where they work.
        authority: who signs for them.
        members: how many.
        options: as for `scratch.config`.
    """
    tls = authority.issue("root")
    token = os.urandom(8).hex()
    configs = []
    for number in range(members):
        own = folder / str(number)
        own.mkdir()
        configs.append(scratch.config(f"etcd-{number}", own, tls, token=token, **options))
    founders = ",".join(f"{c.name}={c.advertise_peer_urls[0]}" for c in configs)
    new = {"initial_cluster": founders, "initial": etcd_config.Initial.NEW}
    started = [scratch.start(dataclasses.replace(c, **new)) for c in configs]
    deadline = time.monotonic() + 30

    def in_time() -> None:
        if time.monotonic() > deadline:
            raise RuntimeError("the members do not become healthy")

    try:
        for each in started:
            with each.client(timeout=2.0) as online:
                each.await_healthy(online, in_time)
    except BaseException:
        for each in started:
            each.stop()
        raise
    return started


SWIFT_KEY, SWIFT_SECRET = "test:tester", "testing"

_SWIFT = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/srv
mount_check = false
workers = 1
{more}"""

_SWIFT_STORE = """[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_SWIFT_PROXY = """cert_file = {cert}
key_file = {key}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


@dataclasses.dataclass
class Swift:
    """Swift with one device and its S3 API over TLS, all on loopback."""

    port: int
    ca: str
    objects: pathlib.Path
    processes: list[subprocess.Popen]

    def lose(self, content: bytes) -> None:
        """Lose the object that holds this, behind the back of the listing."""
        found = [p for p in self.objects.rglob("*.data") if content in p.read_bytes()]
        assert len(found) == 1, found
        found[0].unlink()

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def swift(folder: pathlib.Path, authority: signing.Authority) -> Swift:
    programs = pathlib.Path(sys.executable).parent
    (folder / "srv" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    pair = authority.issue("swift")
    user = pwd.getpwuid(os.geteuid()).pw_name
    ports = {kind: port() for kind in ("account", "container", "object", "proxy")}
    made = Swift(ports["proxy"], authority.pem.read_text(), folder / "srv", [])
    for kind, number in ports.items():
        more = _SWIFT_STORE.format(kind=kind)
        if kind == "proxy":
            more = _SWIFT_PROXY.format(cert=pair.cert, key=pair.key, secret=SWIFT_SECRET)
        else:
            builder = [str(programs / "swift-ring-builder"), str(folder / f"{kind}.builder")]
            device = f"--region 1 --zone 1 --ip 127.0.0.1 --port {number} --device d1 --weight 1"
            for step in ("create 2 1 0", f"add {device}", "rebalance"):
                done = subprocess.run(
                    [*builder, *step.split()], capture_output=True, timeout=60, check=False
                )
                assert done.returncode in (0, 1), done.stdout  # 1: a warning
        config = folder / f"{kind}.conf"
        config.write_text(_SWIFT.format(port=number, user=user, folder=folder, more=more))
        made.processes.append(
            subprocess.Popen(
                [str(programs / f"swift-{kind}-server"), str(config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
    for process, number in zip(made.processes, ports.values(), strict=True):
        wait_for(number, process, seconds=40)
    return made
