"""The `certificates` relation (interface tls-certificates), as the requirer.

The older protocol, which EasyRSA speaks: everything is in unit databags, the authority makes the
private key, and it answers in the databag of one of its units under our unit's name with an
underscore (`etcd_0.server.cert`). An authority that works on signing requests answers in its
application databag under `certificates`; both kinds can be asked at once, neither minds the
other's keys.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import TYPE_CHECKING

from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import ops

_CN_LONGEST = 64


class State(enum.Enum):
    """How far the authority is."""

    NOT_RELATED = "not-related"
    WAITING = "waiting"
    READY = "ready"
    WRONG = "wrong"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the authority has answered.

    Attributes:
        state: how far it is.
        message: one sentence for `juju status` when it waits or is wrong.
        cert: PEM certificate, from the BEGIN line on; empty unless ready.
        key: PEM private key.
        ca: PEM of the authority.
    """

    state: State
    message: str = ""
    cert: bytes = b""
    key: bytes = dataclasses.field(default=b"", repr=False)
    ca: bytes = b""


def common_name(application: str, unit: str, model_uuid: str) -> str:
    """A CN that no other application of the same authority has: `etcd-0-1a2b3c4d`.

    At most 64 characters (RFC 5280), no slash: the authority uses it as a file name.
    """
    number = unit.rpartition("/")[2]
    tail = f"-{number}-{model_uuid[:8]}"
    return application[: _CN_LONGEST - len(tail)] + tail


class Certificates:
    """Typed access to the relation; one instance lives for one hook.

    Args:
        charm: the charm.
        endpoint: name of the endpoint.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = "certificates"):
        self._charm = charm
        self._endpoint = endpoint

    @property
    def _relation(self) -> ops.Relation | None:
        # The relation that is going away is not asked any more.
        relations = self._charm.model.relations[self._endpoint]
        return next((each for each in relations if each.active), None)

    @property
    def related(self) -> bool:
        """Whether there is an authority to ask."""
        return self._relation is not None

    def request(self, common_name: str, sans: Iterable[str]) -> bool:
        """Ask for a server certificate; answers whether the request changed.

        The authority issues again when the set of `sans` for the same name changes.
        """
        relation = self._relation
        if relation is None:
            return False
        wanted = {
            "unit_name": _key(self._charm.unit.name),
            "common_name": common_name,
            "certificate_name": common_name,
            "sans": _sans(sans),
        }
        bag = relation.data[self._charm.unit]
        changed = {key: value for key, value in wanted.items() if bag.get(key) != value}
        for key, value in changed.items():
            bag[key] = value
        return bool(changed)

    def answer(self, common_name: str, sans: Iterable[str]) -> Answer:
        """What the authority has answered to the request for this name; nothing is parsed here.

        The bytes of a ready answer are to be judged by `tls.store.Store.accept`; what that
        raises goes through `refuse`.
        """
        relation = self._relation
        if relation is None:
            return Answer(State.NOT_RELATED)
        asked = relation.data[self._charm.unit]
        if (asked.get("common_name"), asked.get("sans")) != (common_name, _sans(sans)):
            return Answer(State.WAITING, f"No certificate asked of {relation.app.name} yet")
        found: Answer | None = None
        for unit in sorted(relation.units, key=lambda unit: unit.name):
            found = self._read(relation.data[unit])
            if found is not None and found.state is State.READY:
                return found
        return found or Answer(
            State.WAITING, f"Waiting for a certificate from {relation.app.name}"
        )

    def client_ca(self) -> bytes:
        """PEM of the authority, whether or not it has answered us; b"" without one."""
        relation = self._relation
        if relation is None:
            return b""
        units = sorted(relation.units, key=lambda unit: unit.name)
        found = (_authorities(relation.data[unit]) for unit in units)
        return next((pem for pem in found if pem), b"")

    def refuse(self, error: certificate.CertificateError) -> Answer:
        """The answer as one that cannot be used, with the command that ends it."""
        relation = self._relation
        remote = relation.app.name if relation else self._endpoint
        ours = self._charm.app.name
        return Answer(
            State.WRONG,
            f"{remote} answered with a certificate that cannot be used: {error};"
            f" mend {remote}, or `juju remove-relation {ours} {remote}`",
        )

    def _read(self, bag: Mapping[str, str]) -> Answer | None:
        """What one unit of the authority answered, None when it has not."""
        name = _key(self._charm.unit.name)
        cert, key = bag.get(f"{name}.server.cert", ""), bag.get(f"{name}.server.key", "")
        ca = _authorities(bag)
        if not cert or not key or not bag.get("ca"):
            return None
        parts = {
            "certificate": certificate.cut(cert),
            "private key": certificate.cut(key),
            "certificate authority": ca,
        }
        for what, pem in parts.items():
            if not pem:
                return self.refuse(certificate.CertificateError(f"the {what} is not PEM"))
        return Answer(
            State.READY,
            cert=parts["certificate"],
            key=parts["private key"],
            ca=ca,
        )


def _key(unit: str) -> str:
    """A unit's name as this interface writes it in keys."""
    return unit.replace("/", "_")


def _sans(sans: Iterable[str]) -> str:
    return json.dumps(certificate.normal_sans(sans))


def _authorities(bag: Mapping[str, str]) -> bytes:
    """The authority and what signed it (`chain`, which only some send); b"" when garbled."""
    try:
        return certificate.bundle(bag.get("ca", "").encode(), bag.get("chain", "").encode())
    except certificate.CertificateError:
        return b""
