"""Real etcd members on loopback with TLS, without systemd."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import errors
from etcd import client as clients
from etcd import config as etcd_config
from etcd import scratch, service
from functional import signing

if TYPE_CHECKING:
    import pathlib


def _ports():
    """Ports below those that the kernel hands out, of another stretch for each test worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    stretch = list(range(20000 + worker * 1200, 20000 + (worker + 1) * 1200))
    random.shuffle(stretch)  # another run may be under way
    while True:
        yield from stretch


_PORTS = _ports()


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            found.append(port)
    return found


class Node:
    """One member: a data directory, a configuration, sometimes a process."""

    def __init__(self, name, folder, tls, host="127.0.0.1", **options) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.tls = tls
        client_port, peer_port = free_ports(2, host)
        self.client_url = etcd_config.url(host, client_port)
        self.peer_url = etcd_config.url(host, peer_port)
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self.member: scratch.Member | None = None
        urls = (self.client_url, self.peer_url)
        options = {"log_level": "info", "quota_bytes": 8 * etcd_config.GiB, **options}
        self.config = scratch.config(name, folder, tls, urls, **options)

    def start(self, **changes) -> Node:
        self.member = scratch.start(dataclasses.replace(self.config, **changes))
        return self

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self.member.process if self.member else None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        member, self.member = self.member, None
        if member is not None:
            member.stop(how)

    def wait_end(self, seconds: float = 20) -> list[str]:
        assert self.process is not None
        self.process.wait(seconds)
        return self.log.read_text(errors="replace").splitlines()


class Cluster:
    """Members that found together, and those that join."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.authority = signing.Authority(folder / "tls")
        self.tls = self.authority.issue("root")
        self.nodes: list[Node] = []
        self.clients: list[clients.Client] = []

    def node(self, host="127.0.0.1", **options) -> Node:
        name = f"etcd-{len(self.nodes)}"
        tls = self.authority.issue(name)
        node = Node(name, self.folder / name, tls, host, **options)
        self.nodes.append(node)
        return node

    def found(self, count: int, token: str = "t-1", **options) -> Cluster:
        nodes = [self.node(**options) for _ in range(count)]
        initial_cluster = ",".join(f"{n.name}={n.peer_url}" for n in nodes)
        for node in nodes:
            node.start(
                initial_cluster=initial_cluster, token=token, initial=etcd_config.Initial.NEW
            )
        self.await_healthy()
        return self

    def client(self, *nodes: Node, timeout: float = 5.0) -> clients.Client:
        chosen = nodes or tuple(self.nodes)
        made = clients.Client([n.client_url for n in chosen], self.tls, timeout)
        self.clients.append(made)
        return made

    def etcdctl(self, *arguments: str) -> str:
        command = [
            str(service.binary("etcdctl")),
            f"--endpoints={self.nodes[0].client_url}",
            f"--cacert={self.tls.ca}",
            f"--cert={self.tls.cert}",
            f"--key={self.tls.key}",
            *arguments,
        ]
        environment = {"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True, env=environment
        ).stdout

    def await_healthy(self, seconds: float = 20, nodes=()) -> None:
        until = time.monotonic() + seconds
        online = self.client(*nodes)
        while True:
            try:
                for endpoint in online.endpoints:
                    online.health(endpoint)
                return
            except errors.EtcdError:  # noqa: PERF203 - until it works
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def join(self, seconds: float = 20) -> Node:
        """Add one more member the charm's way: learner, in sync, promoted."""
        online = self.client(*[n for n in self.nodes if n.process])
        node = self.node()
        added = online.add_learner([node.peer_url])
        node.start(initial_cluster=added.initial_cluster(node.name))
        promote(online, added.member.id, seconds)
        return node

    def close(self) -> None:
        for made in self.clients:
            made.close()
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            node.stop()


def promote(online: clients.Client, member_id: int, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            online.promote(member_id)
            return
        except (errors.NotInSyncError, errors.UnhealthyError):  # noqa: PERF203 - until it works
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
