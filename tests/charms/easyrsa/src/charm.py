"""Answer every request on every relation; the same work in every hook."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import authority
import juju

ENDPOINT = "client"
FAULTS = ("", "wrong-name", "wrong-key", "wrong-ca", "garbage")
ROOT = pathlib.Path(os.environ.get("EASYRSA_ROOT", "/var/lib/easyrsa"))


def main() -> None:
    """Run one hook."""
    hook = os.environ.get("JUJU_DISPATCH_PATH", "").rpartition("/")[2]
    if not authority.EASYRSA.exists():
        juju.status("maintenance", "Installing easy-rsa")
        install()
    if hook in ("stop", "remove"):
        return
    if not juju.is_leader():
        juju.status("waiting", "The leader is the certificate authority")
        return
    config = juju.config()
    fault = str(config.get("fault", ""))
    if fault not in FAULTS:
        juju.status("blocked", f"fault must be one of {', '.join(filter(None, FAULTS))}, or empty")
        return
    days = int(config.get("validity-days", 3650))
    ours = Answers(authority.Authority(ROOT, days), authority.Authority(ROOT / "other"), fault)
    for relation in juju.relations(ENDPOINT):
        ours.publish(relation)
    juju.status(
        "active", f"Answering wrongly: {fault}" if fault else "Certificate authority ready"
    )


def install() -> None:
    """Install easy-rsa from the distribution."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    subprocess.run([*apt, "update"], env=environment, check=True, timeout=600)
    subprocess.run(
        [*apt, "install", "--no-install-recommends", "easy-rsa", "openssl"],
        env=environment,
        check=True,
        timeout=600,
    )


class Answers:
    """What this unit publishes: the older protocol's keys, and the faults asked for."""

    def __init__(self, ours: authority.Authority, other: authority.Authority, fault: str):
        self._ours = ours
        self._other = other
        self._fault = fault

    def publish(self, relation: str) -> None:
        """Answer all units of a relation in this unit's databag."""
        cert, key = self._ours.client("client")
        bag = {"ca": self._ours.ca(), "client.cert": cert, "client.key": key}
        for unit in juju.units(relation):
            bag.update(self._answer(unit, juju.read(relation, unit)))
        juju.write(relation, bag)

    def _answer(self, unit: str, asked: dict[str, str]) -> dict[str, str]:
        name = asked.get("unit_name") or unit.replace("/", "_")
        bag: dict[str, str] = {}
        if asked.get("common_name"):
            cert, key = self._server(asked["common_name"], _list(asked.get("sans", "[]")))
            bag[f"{name}.server.cert"], bag[f"{name}.server.key"] = cert, key
        servers = {
            cn: self._server(cn, request.get("sans") or [])
            for cn, request in _map(asked.get("cert_requests", "{}")).items()
        }
        clients = {
            cn: self._ours.client(cn) for cn in _map(asked.get("client_cert_requests", "{}"))
        }
        if servers:
            bag[f"{name}.processed_requests"] = _pairs(servers)
        if clients:
            bag[f"{name}.processed_client_requests"] = _pairs(clients)
        return bag

    def _server(self, common_name: str, sans: list[str]) -> tuple[str, str]:
        try:
            cert, key = self._ours.server(common_name, sans)
        except ValueError as error:
            juju.log(f"request refused: {error}")
            return "", ""
        if self._fault == "wrong-name":
            return self._ours.server(f"not-{common_name}"[:64], sans)
        if self._fault == "wrong-key":
            return cert, self._ours.client("client")[1]
        if self._fault == "wrong-ca":
            return self._other.server(common_name, sans)
        if self._fault == "garbage":
            return "this is not a certificate", "nor is this a key"
        return cert, key


def _pairs(answers: dict[str, tuple[str, str]]) -> str:
    return json.dumps(
        {cn: {"cert": cert, "key": key} for cn, (cert, key) in answers.items()}, sort_keys=True
    )


def _list(text: str) -> list[str]:
    return [str(each) for each in json.loads(text)]


def _map(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


if __name__ == "__main__":
    main()
