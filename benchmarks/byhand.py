"""A cluster founded by hand beside the charm's, on the same machines: what to compare with."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import subprocess
import tempfile
from typing import TYPE_CHECKING

from benchmarks import bench
from etcd import client as clients
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_under_test import Cluster

CLIENT, PEER = 12379, 12380
"""The ports of its members, which the charm's do not use."""


@dataclasses.dataclass
class ByHand:
    """What was founded.

    Attributes:
        cluster: the deployed cluster whose machines it shares.
        folder: the directory on the host with the authority and the certificates.
        where: unit to its address.
        seconds: what the founding took.
    """

    cluster: Cluster
    folder: pathlib.Path
    where: dict[str, str]
    seconds: float = 0.0

    @property
    def addresses(self) -> list[str]:
        """Where its members are."""
        return list(self.where.values())

    @property
    def tls(self) -> pem_files.TLSFiles:
        """A client certificate that every member believes."""
        unit = next(iter(self.where)).replace("/", "-")
        return pem_files.TLSFiles(
            self.folder / "ca.crt", self.folder / f"{unit}.crt", self.folder / f"{unit}.key"
        )

    def leader(self) -> str:
        """The unit on whose machine its raft leader is."""
        with self.client() as online:
            members = {member.id: member.name for member in online.members().members}
            return members[online.leader() or 0].replace("-", "/")

    def client(self) -> clients.Client:
        """A client of it."""
        urls = [f"https://{address}:{CLIENT}" for address in self.addresses]
        return clients.Client(urls, self.tls, timeout=5)

    def start(self, unit: str) -> None:
        """Copy a member's certificates and start it, without waiting for it."""
        name, address = unit.replace("/", "-"), self.where[unit]
        for part in ("ca.crt", f"{name}.crt", f"{name}.key"):
            self.cluster.juju.scp(f"{self.folder}/{part}", f"{unit}:/tmp/{part}")
        initial = ",".join(
            f"{u.replace('/', '-')}=https://{a}:{PEER}" for u, a in self.where.items()
        )
        tls = " ".join(
            f"--{kind}cert-file=/tmp/{name}.crt --{kind}key-file=/tmp/{name}.key "
            f"--{kind}trusted-ca-file=/tmp/ca.crt --{kind}client-cert-auth"
            for kind in ("", "peer-")
        )
        self.cluster.shell(
            unit,
            "systemd-run --quiet --unit=byhand --service-type=notify --no-block "
            "--property=Restart=always --property=RestartSec=3 "
            f"etcd --name={name} --data-dir=/var/lib/byhand {tls} --initial-cluster={initial} "
            f"--listen-client-urls=https://{address}:{CLIENT} "
            f"--advertise-client-urls=https://{address}:{CLIENT} "
            f"--listen-peer-urls=https://{address}:{PEER} "
            f"--initial-advertise-peer-urls=https://{address}:{PEER}",
        )

    def wait(self) -> None:
        """Until it is healthy, seen from one of its members."""
        unit = next(iter(self.where))
        name = unit.replace("/", "-")
        endpoints = ",".join(f"https://{address}:{CLIENT}" for address in self.addresses)
        self.cluster.shell(
            unit,
            "for i in $(seq 100); do ETCDCTL_API=3 etcdctl --command-timeout=2s "
            f"--cacert=/tmp/ca.crt --cert=/tmp/{name}.crt --key=/tmp/{name}.key "
            f"--endpoints={endpoints} endpoint health && exit; sleep 0.1; done; exit 1",
        )


@contextlib.contextmanager
def founded(cluster: Cluster) -> Iterator[ByHand]:
    """Authority, certificates, start, health on every machine of `cluster`; gone at the end."""
    units = list(cluster.units())
    with tempfile.TemporaryDirectory() as folder:
        made = ByHand(cluster, pathlib.Path(folder), {u: cluster.address(u) for u in units})
        with bench.stopwatch() as seconds:
            _authority(made.folder, made.where)
            bench.together(made.start, units)
            made.wait()
            made.seconds = seconds()
        try:
            yield made
        finally:
            bench.together(
                lambda unit: cluster.shell(unit, "systemctl stop byhand; rm -rf /var/lib/byhand"),
                units,
            )


def _authority(folder: pathlib.Path, where: dict[str, str]) -> None:
    """An authority and a certificate for each member, as a person makes them with openssl."""

    def openssl(*words: str) -> None:
        subprocess.run(
            ["openssl", *words], check=True, capture_output=True, cwd=folder, timeout=60
        )

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *ec, "-subj", "/CN=byhand", "-keyout", "ca.key", "-out", "ca.crt")
    for unit, address in where.items():
        name = unit.replace("/", "-")
        (folder / "ext").write_text(
            f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        openssl(
            "req", *ec, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "ext", "-out", f"{name}.crt",
        )  # fmt: skip
