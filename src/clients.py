"""What the applications that use the cluster are told, and what a person is handed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from etcd import service
from relations import db
from tls import authority, certificate

if TYPE_CHECKING:
    import pathlib

    import node as node_

CREDENTIALS = "db-client"  # app-owned secret: one client certificate, the same from every unit
RENEW_BELOW = 90  # days left at which the leader signs a new one
DAYS = 365


def publish(node: node_.Node, relation: db.Db, *, leader: bool) -> None:
    """Tell the `db` relation where the cluster is; nothing until this unit's member is started."""
    if not relation.related or not node.me.started:
        return
    held = node.peers.secret(CREDENTIALS)
    if leader and (held is None or _is_due(node, held)):
        pair = _sign(node, "client", DAYS)
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


def hand_out(node: node_.Node, common_name: object, days: object) -> pathlib.Path:
    """Sign a client certificate and pack it for a person; answers with the tar's path.

    Raises:
        bundle.BundleError: the name or the number of days cannot be used.
    """
    from tls import bundle  # costly, and most hooks pack nothing

    if isinstance(common_name, bool | int | float):
        raise bundle.BundleError(
            f"Juju read common-name as {json.dumps(common_name)}, not as a text; nothing was made:"
            f" run `juju run {node.unit} generate-client-certificates --string-args"
            " common-name=NAME`"
        )
    name = bundle.check_common_name(common_name)
    pair = _sign(node, name, bundle.check_days(days))
    urls = [u.client_url for u in node.peers.units() if u.alive and u.client_url]
    return bundle.write(pair, server_ca(node), urls)


def server_ca(node: node_.Node) -> bytes:
    """What a client must believe to verify every member, b"" before there are certificates."""
    try:
        return node.tls().ca.read_bytes()
    except FileNotFoundError:
        return b""


def _sign(node: node_.Node, name: str, days: int) -> authority.Pair:
    authorities = node.peers.authorities()
    if authorities is None:
        from tls import bundle

        raise bundle.BundleError(
            "the cluster has no client authority yet: wait until it is healthy"
        )
    return authorities.client.sign(name, (), authority.Usage.CLIENT, days)


def _is_due(node: node_.Node, held: dict[str, str]) -> bool:
    """Whether the shared client certificate ends soon, or its authority is believed no more."""
    authorities = node.peers.authorities()
    if authorities is None:
        return False
    try:
        facts = certificate.parse(held["client-cert"].encode(), authorities.client.ca)
    except certificate.CertificateError:
        return True
    return facts.days_left(time.time()) < RENEW_BELOW
