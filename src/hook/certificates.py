"""This unit's certificates: who signs them, when they are renewed, whether etcd may start.

Two trust domains (docs/decisions.md): peers believe only the cluster's own authority; clients are
believed by our client authority, whoever signed what the servers show. An etcd that is closed to
clients believes the peers' authority alone: `founder` is the administrator's certificate for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from typing import TYPE_CHECKING

from cluster import generation as generations
from etcd import config as etcd_config
from machine import files
from relations import certificates, peers
from tls import authority, certificate, csr, revocation, served, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hook import unit as units

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ADMIN = "root"  # the user that etcd's own auth wants for administration
_NAMES = ("peer", "server", "client", etcd_config.GATEWAY, etcd_config.CLOSED_TLS)
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


def revoke(node: units.Node) -> bool:
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
        extra_sans: names and addresses of the server certificate that Juju does not know.
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
        extra_sans: Iterable[str] = (),
    ):
        self._disk = disk
        self._checked = disk.path("server").with_name("checked.json")
        self._peers = cluster
        self._relation = relation
        self._token = token
        self._trust_clients = trust_clients
        self._extra_sans = tuple(extra_sans)
        self._member = generations.member_name(unit)
        self._common_name = certificates.common_name(application, unit, model_uuid)

    def is_fresh(self) -> bool:
        """Whether `ensure` found all in order lately, with the authorities of today."""
        if not all(self._disk.path(name).exists() for name in _NAMES):
            return False
        try:
            noted = json.loads(self._checked.read_text())
            if self._was_due(float(noted["at"])):
                return False
            age = time.time() - float(noted["at"])
            uris = self._uris()
            told = uris is None or noted["uris"] == list(uris)
            same = noted["chains"] == self._chains_mark()
            same = same and noted["mark"] == self._peers.authorities_mark()
            return told and same and 0 <= age < FRESH
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
                "chains": self._chains_mark(),
                "uris": self._uris(),
            }
            files.write(self._checked, json.dumps(noted))
        return trust

    def announce(self) -> None:
        """Have the peer certificate name the committed generation before etcd starts its data.

        Whoever runs an older one stops when it meets this certificate (see `keeper.fence`).
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

    def _was_due(self, since: float) -> bool:
        """Whether a certificate has become due: a short one does within `FRESH`."""
        held = [self._disk.load(name) for name in _NAMES]
        return certificate.next_due([each for each in held if each], since) <= time.time()

    def _ensure(self) -> Trust:
        addresses = self._peers.addresses()
        known = {*addresses.client_sans, *LOOPBACK, self._member}
        server_sans = tuple(sorted({*known, *self._extra_sans}))
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
        self._sign(etcd_config.CLOSED_TLS, signer, ADMIN, (), signer.ca)

        answer = self._relation.answer(self._common_name, server_sans, asked)
        trust = self._all_authorities(authorities.client, answer.ca)
        self._sign("client", authorities.client, ADMIN, (), trust)
        self._tell()
        # Nobody's name: etcd takes the one in it for the user's, where HTTP has no Accept header.
        believed = trust if self._trust_clients and self._relation.related else None
        self._sign(
            etcd_config.GATEWAY, authorities.client, "", (), believed or authorities.client.ca
        )
        ours = authorities.client
        if answer.state is certificates.State.NOT_RELATED:
            self._sign("server", ours, self._member, server_sans, ours.ca)
            self._tell()
            self._tell_chain(ours)
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
                    trust=ours.ca,
                )
            except certificate.CertificateError as error:
                answer = self._relation.refuse(error)
        self._tell_chain(ours)
        ready = answer.state is certificates.State.READY
        return Trust(True) if ready else self._without(answer, ours)

    def _all_authorities(self, ours: authority.Authority, answered: bytes) -> bytes:
        """What verifies every member: all that any unit serves with, or is about to.

        The same for every unit that heard the same: whoever reads one of them can ask them all.
        """
        held = self._disk.read("server")
        chains = [chain.encode() for chain in self._peers.chains().values()]
        own = held[2] if held else b""
        return certificate.union(ours.ca, self._relation.client_ca(), answered, own, *chains)

    def _tell_chain(self, ours: authority.Authority) -> None:
        """Tell the others what verifies this unit, and drop here what verifies nobody any more."""
        held, client = self._disk.read("server"), self._disk.read("client")
        chain = certificate.without(held[2], ours.ca) if held else b""
        if self._peers.tell_chain(chain.decode()) and client is not None:
            believed = self._all_authorities(ours, b"")
            self._disk.publish("client", client[0], client[1], believed)

    def _chains_mark(self) -> str:
        """Which authorities the units say that they serve with."""
        told = json.dumps(sorted(self._peers.chains().items()))
        return hashlib.sha256(told.encode()).hexdigest()

    def _request(self, sans: tuple[str, ...]) -> csr.Request:
        """The signing request, made anew when the certificate that answered it ends soon."""
        served, facts = self._disk.read("server"), self._disk.load("server")
        due = served and facts and certificate.ends_soon(facts, time.time())
        spent = served[1] if due and served else b""
        requests = csr.Requests(self._disk.path("server").with_name("request.json"))
        return requests.ensure(self._common_name, sans, spent)

    def _without(self, answer: certificates.Answer, ours: authority.Authority) -> Trust:
        """What served goes on serving while another certificate is waited for.

        To leave the authority is advised only where nothing serves: it would take away the
        certificate that does.
        """
        facts, message = self._disk.load("server"), answer.message
        serves = facts is not None and facts.not_after > time.time()
        if facts is not None and serves and facts.signer != ours.fingerprint:
            until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts.not_after))
            message = f"{message}; etcd serves with the one that it has, until {until} UTC"
        ways = ", or ".join(filter(None, (answer.mend, "" if serves else answer.leave)))
        wrong = answer.state is certificates.State.WRONG
        if facts is not None and not wrong:
            message = message[:1].lower() + message[1:]  # it stands behind that all is well
        return Trust(facts is not None, f"{message}: {ways}" if ways else message, wrong)

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
