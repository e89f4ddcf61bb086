"""This unit's certificates: who signs them, when they are renewed, whether etcd may start.

Two trust domains (docs/decisions.md): peers believe only the cluster's own authority; clients are
believed by our client authority, whoever signed what the servers show. An etcd that is closed to
clients believes the peers' authority alone: `founder` is the administrator's certificate for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import TYPE_CHECKING

from cluster import generation as generations
from etcd import files, service
from relations import certificates, peers
from tls import authority, certificate, request, revocation, served, store

if TYPE_CHECKING:
    from collections.abc import Callable

    import node as node_

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ADMIN = "root"  # the user that etcd's own auth wants for administration
FRESH = 6 * 3600  # seconds that certificates found in order are not looked at without an event
_LEAVING = 30.0  # seconds between two looks whether a unit that leaves has left


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


def revoke(node: node_.Node) -> bool:
    """Leader: remember the certificates of all units, and give up those of units that are gone.

    A unit is gone when Juju has it no more and no member is its: certificates are not what takes
    a member out. What another unit has, too, stays believed: a unit says itself what it has.

    Args:
        node: this unit, which has looked at etcd.

    Returns:
        Whether a unit is leaving: no event tells of its end, so the charm is woken.
    """
    members = node.seen[0].members if node.seen else None
    if members is None:
        return False
    cluster = node.peers
    now, goals = time.time(), cluster.goals()
    issued = {unit: revocation.of_unit(text) for unit, text in cluster.issued().items()}
    for unit, text in cluster.certificates().items():
        issued[unit] = revocation.merged(issued.get(unit, {}), revocation.of_unit(text))
    names = {member.name for member in members}
    settled = "" not in names  # a member that has no name yet may be anybody's
    gone = [u for u in issued if u not in goals and generations.member_name(u) not in names]
    given_up = revocation.of_all(cluster.revoked())
    for unit in gone if settled else ():
        given_up |= issued.pop(unit)
    had = {serial for serials in issued.values() for serial in serials}
    given_up = {serial: until for serial, until in given_up.items() if serial not in had}
    cluster.set_issued({u: revocation.to_text(s) for u, s in sorted(issued.items()) if s})
    cluster.set_revoked(revocation.to_text(revocation.latest(given_up, now=now)))
    leaving = any(not goals.get(unit) for unit in issued)
    if leaving:
        node.wake_in(_LEAVING)
    return leaving


class Keyring:
    """The certificates of this unit: `peer`, `server`, `gateway`, `client` and `founder`.

    `ca.pem` beside `client` verifies what the servers show, the one beside `gateway` says who is a
    client of etcd.

    Args:
        disk: where they are.
        cluster: the peer relation.
        relation: the `certificates` relation.
        unit: this unit's name.
        application: the application's name.
        model_uuid: the model's.
        token: token of the data that this unit has now, None without any.
        trust_clients: clients of the `certificates` relation's authority are believed as well.
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
        trust_clients: bool = False,
    ):
        self._disk = disk
        self._checked = disk.path("server").with_name("checked.json")
        self._peers = cluster
        self._relation = relation
        self._token = token
        self._trust_clients = trust_clients
        self._member = generations.member_name(unit)
        self._common_name = certificates.common_name(application, unit, model_uuid)

    def is_fresh(self) -> bool:
        """Whether `ensure` found all in order lately, with the authorities of today."""
        names = ("peer", "server", "client", service.GATEWAY, service.CLOSED_TLS)
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
        self.heed()
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
            self._tell()

    def heed(self) -> Trust:
        """Have etcd refuse the certificates that the leader says are believed no more.

        This unit's own stay believed, whatever it is told. etcd reads the list at its next
        handshake.
        """
        told = self._peers.revoked()
        listed, noted = (self._disk.path("server").with_name(n) for n in ("revoked.crl", "heeded"))
        with contextlib.suppress(OSError):
            if listed.exists() and noted.read_text() == told:
                return Trust(True)
        if (authorities := self._peers.authorities()) is not None:
            own = self._own()
            refused = {k: v for k, v in revocation.of_all(told).items() if k not in own}
            files.write(listed, revocation.render(authorities.peer, refused), 0o644)
            files.write(noted, told, 0o644)
        return Trust(True)

    def _own(self) -> dict[str, int]:
        """The certificates of this unit that one of our authorities signed."""
        found = {name: self._disk.load(name) for name in ("peer", "server", "client", "founder")}
        peer, server = found["client"], found["server"]
        if server and peer and server.signer != peer.signer:
            del found["server"]  # another authority's serial numbers mean nothing beside ours
        return {f.serial: int(f.not_after) for f in found.values() if f and f.serial}

    def _tell(self) -> None:
        """Tell the leader which certificates this unit has."""
        self._peers.tell_certificates(revocation.to_text(self._own()))

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
        trust = self._kept_trust(trust)
        self._sign("client", authorities.client, ADMIN, (), trust)
        self._tell()
        # Nobody's name: etcd takes the one in it for the user's, where HTTP has no Accept header.
        believed = trust if self._trust_clients and self._relation.related else None
        self._sign(service.GATEWAY, authorities.client, "", (), believed or authorities.client.ca)
        if answer.state is certificates.State.NOT_RELATED:
            ours = authorities.client
            self._sign("server", ours, self._member, server_sans, ours.ca)
            self._tell()
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
            clients = (ADMIN, "")
            usage = authority.Usage.CLIENT if common_name in clients else authority.Usage.BOTH
            pair = signer.sign(common_name, sans, usage, uris=uris or ())
            self._disk.publish(name, pair.cert, pair.key, ca)
        else:
            self._disk.publish(name, held[0], held[1], ca)
