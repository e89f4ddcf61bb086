"""The easyrsa test charm with the real easy-rsa; only the hook tools are stood in for."""

from __future__ import annotations

import json
import pathlib
import ssl
import subprocess
import sys
import zipfile

import pytest

from charms import pack
from tls import certificate, store

HERE = pathlib.Path(__file__).parent
CHARM = HERE.parents[1] / "charms" / "easyrsa"
TOOLS = (
    "config-get",
    "is-leader",
    "juju-log",
    "relation-get",
    "relation-ids",
    "relation-list",
    "relation-set",
    "status-set",
)
NAME = "etcd-0-1a2b3c4d"
SANS = ["198.18.0.10", "2001:db8::10", "etcd-0"]

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/usr/share/easy-rsa/easyrsa").exists(), reason="easy-rsa is not installed"
)


class Easyrsa:
    """The packed charm, unpacked, with databags around it."""

    def __init__(self, at: pathlib.Path):
        with zipfile.ZipFile(pack.pack(CHARM, at / "easyrsa.charm")) as archive:
            archive.extractall(at / "charm")
        (at / "charm" / "dispatch").chmod(0o755)
        (at / "tools").mkdir()
        for tool in TOOLS:
            script = at / "tools" / tool
            script.write_text(f"#!{sys.executable}\n{(HERE / 'hooktool.py').read_text()}")
            script.chmod(0o755)
        self._at = at
        self._state = at / "state.json"
        self.state = {"config": {}, "leader": True, "relations": {"client:4": {}}, "ours": {}}

    def ask(self, unit: str, **bag: str) -> None:
        self.state["relations"]["client:4"][unit] = bag

    def configure(self, **options: object) -> None:
        self.state["config"] = options

    def hook(self, name: str = "client-relation-changed") -> dict[str, str]:
        self._state.write_text(json.dumps(self.state))
        subprocess.run(
            [str(self._at / "charm" / "dispatch")],
            cwd=self._at / "charm",
            env={
                "PATH": f"{self._at / 'tools'}:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                "HOOKTOOL_STATE": str(self._state),
                "EASYRSA_ROOT": str(self._at / "root"),
                "JUJU_CHARM_DIR": str(self._at / "charm"),
                "JUJU_DISPATCH_PATH": f"hooks/{name}",
            },
            check=True,
            timeout=60,
        )
        self.state = json.loads(self._state.read_text())
        return self.state["ours"].get("client:4", {})


@pytest.fixture
def easyrsa(tmp_path: pathlib.Path) -> Easyrsa:
    return Easyrsa(tmp_path)


def server(bag: dict[str, str], unit: str = "etcd_0") -> tuple[bytes, bytes, bytes]:
    return (
        certificate.cut(bag[f"{unit}.server.cert"]),
        certificate.cut(bag[f"{unit}.server.key"]),
        certificate.cut(bag["ca"]),
    )


def ask_server(easyrsa: Easyrsa, sans: list[str] = SANS) -> None:
    easyrsa.ask("etcd/0", unit_name="etcd_0", common_name=NAME, sans=json.dumps(sans))


def test_given_no_requests_when_related_then_the_ca_and_a_client_certificate_are_published(
    easyrsa,
):
    bag = easyrsa.hook()
    assert set(bag) == {"ca", "client.cert", "client.key"}
    facts = certificate.parse(certificate.cut(bag["client.cert"]), bag["ca"].encode())
    assert (facts.common_name, facts.sans) == ("client", ())
    assert easyrsa.state["status"] == ["active", "Certificate authority ready"]


def test_given_a_server_request_when_answered_then_our_store_accepts_it(easyrsa, tmp_path):
    ask_server(easyrsa)
    bag = easyrsa.hook()
    assert not bag["etcd_0.server.cert"].startswith("-----BEGIN")
    disk = store.Store(tmp_path / "tls", owner=None)
    assert disk.accept("server", *server(bag), NAME, SANS)
    facts = disk.load("server")
    assert facts is not None
    assert facts.sans == certificate.normal_sans(SANS)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(disk.path("server") / "cert.pem", disk.path("server") / "key.pem")
    context.load_verify_locations(disk.path("server") / "ca.pem")


def test_given_an_answer_when_nothing_changes_then_it_stays_the_same(easyrsa):
    ask_server(easyrsa)
    assert easyrsa.hook() == easyrsa.hook("update-status")


def test_given_an_answer_when_the_order_of_names_changes_then_it_stays_the_same(easyrsa):
    ask_server(easyrsa)
    before = dict(easyrsa.hook())
    ask_server(easyrsa, SANS[::-1])
    assert easyrsa.hook() == before


def test_given_an_answer_when_the_names_change_then_it_is_issued_again(easyrsa):
    ask_server(easyrsa)
    before = server(easyrsa.hook())
    ask_server(easyrsa, ["198.18.0.11"])
    after = server(easyrsa.hook())
    assert before[0] != after[0]
    assert certificate.check_pair(*after, NAME, ["198.18.0.11"]).sans == ("198.18.0.11",)
    assert (easyrsa._at / "root" / "pki" / "index.txt").read_text().count("R\t") == 1


def test_given_a_build_that_died_half_way_when_asked_again_then_it_is_built(easyrsa):
    easyrsa.hook("install")
    pki = easyrsa._at / "root" / "pki"
    (pki / "reqs" / f"{NAME}.req").write_text("half")
    (pki / "private" / f"{NAME}.key").write_text("half")
    ask_server(easyrsa)
    assert certificate.check_pair(*server(easyrsa.hook()), NAME, SANS)


def test_given_batches_of_requests_when_answered_then_each_has_its_certificate(easyrsa):
    easyrsa.ask(
        "k8s/3",
        cert_requests=json.dumps({"a.example": {"sans": ["a.example"]}}),
        client_cert_requests=json.dumps({"reader": {"sans": ["ignored"]}}),
    )
    bag = easyrsa.hook()
    servers = json.loads(bag["k8s_3.processed_requests"])
    clients = json.loads(bag["k8s_3.processed_client_requests"])
    ca = bag["ca"].encode()
    made = servers["a.example"]
    pair = certificate.cut(made["cert"]), certificate.cut(made["key"])
    assert certificate.check_pair(*pair, ca, "a.example", ["a.example"])
    assert certificate.parse(certificate.cut(clients["reader"]["cert"]), ca).sans == ()


def test_given_a_name_with_a_slash_when_asked_then_it_is_left_unanswered(easyrsa):
    easyrsa.ask("etcd/0", unit_name="etcd_0", common_name="../../etc", sans="[]")
    assert "etcd_0.server.cert" not in easyrsa.hook()


def test_given_a_unit_that_does_not_lead_when_asked_then_it_does_not_answer(easyrsa):
    easyrsa.state["leader"] = False
    ask_server(easyrsa)
    assert easyrsa.hook() == {}
    assert easyrsa.state["status"][0] == "waiting"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("wrong-name", f"the certificate is for 'not-{NAME}', not for '{NAME}'"),
        ("wrong-key", "the private key does not belong to the certificate"),
        ("wrong-ca", "the certificate is not signed by the certificate authority that came with"),
    ],
)
def test_given_a_fault_when_answered_then_our_store_refuses_and_keeps_what_it_had(
    easyrsa, tmp_path, fault, sentence
):
    ask_server(easyrsa)
    disk = store.Store(tmp_path / "tls", owner=None)
    right = server(easyrsa.hook())
    disk.accept("server", *right, NAME, SANS)
    easyrsa.configure(fault=fault)
    with pytest.raises(certificate.CertificateError, match=sentence):
        disk.accept("server", *server(easyrsa.hook("config-changed")), NAME, SANS)
    assert disk.read("server") == right
    easyrsa.configure()
    assert server(easyrsa.hook("config-changed")) == right


def test_given_garbage_asked_for_when_answered_then_there_is_no_pem_in_it(easyrsa):
    ask_server(easyrsa)
    easyrsa.configure(fault="garbage")
    cert, key, ca = server(easyrsa.hook())
    assert (cert, key) == (b"", b"")
    assert certificate.split(ca)


def test_given_an_unknown_fault_when_configured_then_blocked(easyrsa):
    easyrsa.configure(fault="nonsense")
    easyrsa.hook("config-changed")
    assert easyrsa.state["status"][0] == "blocked"


def test_given_the_same_sources_when_packed_twice_then_the_archive_is_the_same(tmp_path):
    first = pack.pack(CHARM, tmp_path / "a.charm").read_bytes()
    assert first == pack.pack(CHARM, tmp_path / "b.charm").read_bytes()
