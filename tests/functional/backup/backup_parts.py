"""Real parts for the backup tests: an S3 server over TLS, a proxy that hurts, certificates."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backup import remote
from etcd import client as clients
from etcd import errors, service

ACCESS = "AKIDEXAMPLEFORTESTS"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def modern_rclone() -> pathlib.Path:
    """The rclone with `serve s3`, whatever rclone is under test."""
    return pathlib.Path(sys.executable).parent / "rclone"


@dataclasses.dataclass(frozen=True)
class Pair:
    cert: pathlib.Path
    key: pathlib.Path


class Authority:
    """A certificate authority of its own, for one test."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = folder / f"{name}-ca.pem"
        cert = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem.write_bytes(cert.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject, key):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        cert = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


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


def s3_server(folder: pathlib.Path, authority: Authority) -> S3Server:
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


def s3_settings(bucket: str, port: int, ca: str, **changes: str) -> remote.Settings:
    given = {
        "bucket": bucket,
        "access_key": ACCESS,
        "secret_key": SECRET,
        "endpoint": f"https://127.0.0.1:{port}",
        "path": "etcd",
        **changes,
    }
    return remote.from_s3(remote.S3(ca_chain=(ca,), **given))


@dataclasses.dataclass
class Etcd:
    """A one-member cluster of the installed etcd on loopback, over TLS."""

    folder: pathlib.Path
    endpoint: str
    tls: clients.TLSFiles
    process: subprocess.Popen

    def client(self, timeout: float = 5.0) -> clients.Client:
        return clients.Client([self.endpoint], self.tls, timeout=timeout)


def cluster(folder: pathlib.Path, authority: Authority, members: int = 1) -> list[Etcd]:
    """As many members, founded together."""
    pair = authority.issue("root")
    tls = clients.TLSFiles(authority.pem, pair.cert, pair.key)
    urls = [tuple(f"https://127.0.0.1:{port()}" for _ in range(2)) for _ in range(members)]
    token = os.urandom(8).hex()
    started = []
    for number, (client_url, peer_url) in enumerate(urls):
        own = folder / str(number)
        own.mkdir()
        config = service.Config(
            name=f"etcd-{number}",
            data_dir=own / "data",
            version=service.version(),
            listen_client_urls=(client_url,),
            advertise_client_urls=(client_url,),
            listen_peer_urls=(peer_url,),
            advertise_peer_urls=(peer_url,),
            server_tls=tls,
            peer_tls=tls,
            token=token,
            initial_cluster=",".join(f"etcd-{n}={peer}" for n, (_, peer) in enumerate(urls)),
            initial=service.Initial.NEW,
            log_level="error",
            gateway=False,
        )
        (own / "etcd.conf.yaml").write_text(service.render(config))
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(service.binary("etcd")), "--config-file", str(own / "etcd.conf.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        started.append(Etcd(own, client_url, tls, process))
    deadline = time.monotonic() + 30
    for each in started:
        with each.client(timeout=2.0) as online:
            while not _healthy(online):
                if time.monotonic() > deadline or each.process.poll() is not None:
                    for other in started:
                        end(other.process)
                    raise RuntimeError((each.folder / "log").read_text())
                time.sleep(0.1)
    return started


def _healthy(online: clients.Client) -> bool:
    try:
        online.health()
    except errors.EtcdError:
        return False
    return True


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


def swift_programs() -> pathlib.Path | None:
    """Where OpenStack Swift's programs are, if they are: SWIFT_BIN, this environment, PATH."""
    beside = pathlib.Path(sys.executable).parent
    found = shutil.which("swift-proxy-server") or ""
    for folder in (os.environ.get("SWIFT_BIN", ""), beside, pathlib.Path(found).parent):
        if folder and (pathlib.Path(folder) / "swift-proxy-server").exists():
            return pathlib.Path(folder)
    return None


@dataclasses.dataclass
class Swift:
    """Swift with one device and its S3 API over TLS, all on loopback."""

    port: int
    ca: str
    processes: list[subprocess.Popen]

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def swift(folder: pathlib.Path, authority: Authority, programs: pathlib.Path) -> Swift:
    (folder / "srv" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    pair = authority.issue("swift")
    user = pwd.getpwuid(os.geteuid()).pw_name
    ports = {kind: port() for kind in ("account", "container", "object", "proxy")}
    made = Swift(ports["proxy"], authority.pem.read_text(), [])
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
