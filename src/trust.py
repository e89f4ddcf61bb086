"""This unit's certificates: who signs them, when they are renewed, whether etcd may start.

Two trust domains (docs/decisions.md): peers believe only the cluster's own authority; clients
believe the `certificates` relation's authority and our client authority. An etcd that is closed to
clients believes the peers' authority alone: `founder` is the administrator's certificate for that.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

from cluster import generation as generations
from etcd import files, service
from relations import certificates, peers
from tls import authority, certificate, request, served, store

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ADMIN = "root"  # the user that etcd's own auth wants for administration
FRESH = 6 * 3600  # seconds that certificates found in order are not looked at without an event


@dataclasses.dataclass(frozen=True)
class Trust:
    """What came of it.

    Attributes:
        ready: all certificates are on disk: etcd may start.
        message: what is waited for, or what is wrong, in one sentence.
        wrong: the message names a fault that somebody has to mend.
    """

    ready: bool
    message: str = ""
    wrong: bool = False


class Keyring:
    """The certificates of this unit: `peer`, `server`, `client` and `founder`.

    Args:
        disk: where they are.
        cluster: the peer relation.
        relation: the `certificates` relation.
        unit: this unit's name.
        application: the application's name.
        model_uuid: the model's.
        token: token of the data that this unit has now, None without any.
    """

    def __init__(
        self,
        disk: store.Store,
        cluster: peers.Peers,
        relation: certificates.Certificates,
        unit: str,
        application: str,
        model_uuid: str,
        token: Callable[[], str | None] = lambda: None,
    ):
        self._disk = disk
        self._checked = disk.path("server").with_name("checked.json")
        self._peers = cluster
        self._relation = relation
        self._token = token
        self._member = generations.member_name(unit)
        self._common_name = certificates.common_name(application, unit, model_uuid)

    def is_fresh(self) -> bool:
        """Whether `ensure` found all in order lately, with the authorities of today."""
        names = ("peer", "server", "client", service.CLOSED_TLS)
        if not all(self._disk.path(name).exists() for name in names):
            return False
        try:
            noted = json.loads(self._checked.read_text())
            age = time.time() - float(noted["at"])
            uris = self._uris()
            told = uris is None or noted["uris"] == list(uris)
            return told and 0 <= age < FRESH and noted["mark"] == self._peers.authorities_mark()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def ensure(self) -> Trust:
        """Bring the certificates on disk in line with the authorities and addresses."""
        trust = self._ensure()
        if not trust.ready or trust.message:
            self._checked.unlink(missing_ok=True)
        elif not self.is_fresh():
            noted = {
                "at": time.time(),
                "mark": self._peers.authorities_mark(),
                "uris": self._uris(),
            }
            files.write(self._checked, json.dumps(noted))
        return trust

    def announce(self) -> None:
        """Have the peer certificate name the committed generation before etcd starts its data.

        Whoever runs an older one stops when it meets this certificate (see `fence`).
        """
        facts, uris = self._disk.load("peer"), self._uris()
        if facts is None or uris is None or facts.uris == uris:
            return
        authorities = self._peers.authorities()
        if authorities is not None:
            signer = authorities.peer
            self._sign("peer", signer, self._member, facts.sans, signer.ca, uris)

    def _uris(self) -> tuple[str, ...] | None:
        """What the peer certificate is to say, None for what it says already.

        A unit without data can only start that of the committed generation.
        """
        record, token = self._peers.generation(), self._token()
        if record is None or token not in (None, record.token):
            return None
        return (served.Served.of(record.number, record.token).uri,)

    def _ensure(self) -> Trust:
        addresses = self._peers.addresses()
        server_sans = tuple(sorted({*addresses.client_sans, *LOOPBACK, self._member}))
        asked = self._request(server_sans) if self._relation.related else None
        if asked:
            self._relation.request(self._common_name, server_sans, asked)
        authorities = self._peers.ensure_authorities()
        if authorities is None:
            return Trust(False, "waiting for the leader to make the cluster's authorities")
        # It is shown to the other units' charms, too, where etcd is closed to clients.
        peer_sans = tuple(sorted({*addresses.peer_sans, *addresses.client_sans, self._member}))
        signer = authorities.peer
        self._sign("peer", signer, self._member, peer_sans, signer.ca, self._uris())
        self._sign(service.CLOSED_TLS, signer, ADMIN, (), signer.ca)

        answer = self._relation.answer(self._common_name, server_sans, asked)
        # Also before it answers us: the others may serve with its certificates already.
        trust = certificate.bundle(authorities.client.ca, self._relation.client_ca(), answer.ca)
        self._sign("client", authorities.client, ADMIN, (), self._kept_trust(trust))
        if answer.state is certificates.State.NOT_RELATED:
            self._sign("server", authorities.client, self._member, server_sans, trust)
            return Trust(True)
        if answer.state is certificates.State.READY:
            try:
                self._disk.accept(
                    "server",
                    answer.cert,
                    answer.key,
                    answer.ca,
                    self._common_name,
                    server_sans,
                    trust=authorities.client.ca,
                )
            except certificate.CertificateError as error:
                return self._without(self._relation.refuse(error).message, wrong=True)
            return Trust(True)
        return self._without(answer.message, wrong=answer.state is certificates.State.WRONG)

    def _request(self, sans: tuple[str, ...]) -> request.Request:
        """The signing request, made anew when the certificate that answered it ends soon."""
        served, facts = self._disk.read("server"), self._disk.load("server")
        due = served and facts and certificate.ends_soon(facts, time.time())
        spent = served[1] if due and served else b""
        requests = request.Requests(self._disk.path("server").with_name("request.json"))
        return requests.ensure(self._common_name, sans, spent)

    def _without(self, message: str, *, wrong: bool) -> Trust:
        """An old certificate goes on serving while a new one is waited for."""
        return Trust(self._disk.load("server") is not None, message, wrong)

    def _kept_trust(self, trust: bytes) -> bytes:
        """While the relation has not answered, believe what the served certificate chains to."""
        served = self._disk.read("server")
        return certificate.bundle(trust, served[2]) if served else trust

    def _sign(
        self,
        name: str,
        signer: authority.Authority,
        common_name: str,
        sans: tuple[str, ...],
        ca: bytes,
        uris: tuple[str, ...] | None = None,
    ) -> None:
        facts = self._disk.load(name)
        if uris is None and facts is not None:
            uris = facts.uris
        reason = "none yet"
        if facts is not None:
            reason = certificate.needs_renewal(
                facts,
                sans,
                time.time(),
                signer=signer.fingerprint,
                common_name=common_name,
                uris=uris,
            )
        held = self._disk.read(name)
        if reason or held is None:
            usage = authority.Usage.CLIENT if common_name == ADMIN else authority.Usage.BOTH
            pair = signer.sign(common_name, sans, usage, uris=uris or ())
            self._disk.publish(name, pair.cert, pair.key, ca)
        else:
            self._disk.publish(name, held[0], held[1], ca)
