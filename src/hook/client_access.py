"""What the applications that use the cluster are told, and what a person is handed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from etcd import service
from relations import db
from tls import authority, certificate, handed_out, revocation

if TYPE_CHECKING:
    import pathlib

    from hook import unit as units

CREDENTIALS = "db-client"  # app-owned secret: one client certificate, the same from every unit
RENEW_BELOW = 90  # days left at which the leader signs a new one
DAYS = 365


def publish(node: units.Node, relation: db.Db, *, leader: bool) -> None:
    """Tell the `db` relation where the cluster is; nothing until this unit's member is started."""
    if not relation.related or not node.me.started:
        return
    held = node.peers.secret(CREDENTIALS)
    if leader and (held is None or _is_due(node, held)):
        pair = _authority(node).sign("client", (), authority.Usage.CLIENT, DAYS)
        held = {"client-cert": pair.cert.decode(), "client-key": pair.key.decode()}
        node.peers.set_secret(CREDENTIALS, held)
    if held is None:
        return
    urls = [u.client_url for u in node.peers.units() if u.alive and u.started and u.client_url]
    relation.publish(
        db.Credentials(
            client_cert=held["client-cert"],
            client_key=held["client-key"],
            client_ca=server_ca(node).decode(),
            connection_string=db.connection_string(urls),
            version=".".join(map(str, service.version())),
        )
    )


def hand_out(
    node: units.Node, common_name: object, days: object, key_type: str = "ec"
) -> pathlib.Path:
    """Sign a client certificate and pack it for a person; answers with the tar's path.

    Args:
        node: this unit.
        common_name: etcd's user, with authentication on.
        days: how long it is valid.
        key_type: `ec` or `rsa`.

    Raises:
        client_archive.BundleError: the name or the number of days cannot be used.
    """
    from tls import client_archive  # costly, and most hooks pack nothing

    if isinstance(common_name, bool | int | float):
        raise client_archive.BundleError(
            f"Juju read common-name as {json.dumps(common_name)}, not as a text; nothing was made:"
            f" run `juju run {node.unit} generate-client-certificates --string-args"
            " common-name=NAME`"
        )
    name = client_archive.check_common_name(common_name)
    signer = _authority(node)
    lifetime = client_archive.check_days(days)
    kind = authority.KeyType(key_type)
    pair = signer.sign(name, (), authority.Usage.CLIENT, lifetime, key_type=kind)
    urls = [u.client_url for u in node.peers.units() if u.alive and u.client_url]
    path = client_archive.write(pair, server_ca(node), urls)
    facts = certificate.parse(pair.cert, signer.ca)
    made = handed_out.Handed(facts.serial, name, int(time.time()), int(facts.not_after), node.unit)
    known = [each for each in handed(node) if each.unit == node.unit]
    node.peers.tell_handed_out(handed_out.to_text(handed_out.added(known, made)))
    return path


def handed(node: units.Node) -> tuple[handed_out.Handed, ...]:
    """The client certificates that people were handed and that have not ended, newest first."""
    each = (one for text in node.peers.handed_out() for one in handed_out.read(text))
    return handed_out.latest(each, now=time.time())


def remember(node: units.Node) -> None:
    """Leader: keep what units tell of certificates that they handed out: units go."""
    node.peers.remember_handed_out(handed_out.to_text(handed(node)))


def refused(node: units.Node) -> dict[str, int]:
    """What members refuse, or will once they have heard: serial number to its end."""
    return revocation.of_all(node.peers.revoked())


def take_back(node: units.Node, serial: str, name: str) -> tuple[handed_out.Handed, ...]:
    """Leader: have all members refuse client certificates; answers with them.

    A member refuses them at the next connection, once its unit has heard.

    Args:
        node: this unit.
        serial: of the one, hexadecimal, "" to go by the name.
        name: the common name of all that are meant, "" to go by the number.

    Raises:
        client_archive.BundleError: none is meant, or none is there.
    """
    from tls import client_archive

    if bool(serial) == bool(name):
        raise client_archive.BundleError("give serial or common-name; nothing was revoked")
    known = refused(node)
    wanted = serial.lower().replace(":", "").lstrip("0")
    found = [
        one
        for one in handed(node)
        if (one.serial == wanted if serial else one.name == name) and one.serial not in known
    ]
    if not found:
        which = f"the serial {serial!r}" if serial else f"the common name {name!r}"
        raise client_archive.BundleError(
            f"no client certificate with {which} is believed; nothing was revoked: "
            "list-client-certificates shows those there are"
        )
    listed = {**known, **{one.serial: one.until for one in found}}
    node.peers.set_revoked(revocation.to_text(revocation.latest(listed, now=time.time())))
    return tuple(found)


def server_ca(node: units.Node) -> bytes:
    """What a client must believe to verify every member, b"" before there are certificates."""
    try:
        return node.tls().ca.read_bytes()
    except FileNotFoundError:
        return b""


def _authority(node: units.Node) -> authority.Authority:
    authorities = node.peers.authorities()
    if authorities is None:
        from tls import client_archive

        raise client_archive.BundleError(
            "the cluster has no client authority yet: wait until it is healthy"
        )
    return authorities.client


def _is_due(node: units.Node, held: dict[str, str]) -> bool:
    """Whether the shared client certificate ends soon, or its authority is believed no more."""
    authorities = node.peers.authorities()
    if authorities is None:
        return False
    try:
        facts = certificate.parse(held["client-cert"].encode(), authorities.client.ca)
    except certificate.CertificateError:
        return True
    return facts.days_left(time.time()) < RENEW_BELOW
