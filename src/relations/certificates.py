"""The `certificates` relation (interface tls-certificates), as the requirer.

The older protocol, which EasyRSA speaks: everything is in unit databags, the authority makes the
private key, and it answers in the databag of one of its units under our unit's name with an
underscore (`etcd_0.server.cert`).

The newer protocol: the unit publishes a signing request, the private key stays where it is, and
the authority answers in its application databag under `certificates`. Both kinds are asked at
once on the one endpoint, neither minds the other's keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
from typing import TYPE_CHECKING, Any, cast

from machine import outside
from tls import certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import ops

    from tls import csr

_CN_LONGEST = 64
_ANSWERS = 1000  # of one authority to all units of this application
_NOT_AVAILABLE = 201
"""The code of an error that passes: the authority's own server does not answer it."""
_LONGEST_REASON = 200  # characters of what an authority says against a request
_LARGEST = 4 << 20  # bytes of them


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
        mend: what to do about it, "" where that is to wait.
        leave: the command that does without the authority, where there is such an answer.
        cert: PEM certificate, from the BEGIN line on; empty unless ready.
        key: PEM private key.
        ca: PEM of the authority.
    """

    state: State
    message: str = ""
    mend: str = ""
    leave: str = ""
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

    def request(
        self, common_name: str, sans: Iterable[str], request: csr.Request | None = None
    ) -> bool:
        """Ask for a server certificate; answers whether the request changed.

        The authority issues again when the set of `sans` for the same name changes.

        Args:
            common_name: see `common_name`.
            sans: addresses and host names.
            request: for the same names, for an authority that signs requests.
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
        if request is not None:
            signing = {"certificate_signing_request": request.csr.decode().strip(), "ca": False}
            wanted["certificate_signing_requests"] = json.dumps([signing])
        bag = relation.data[self._charm.unit]
        changed = {key: value for key, value in wanted.items() if bag.get(key) != value}
        for key, value in changed.items():
            bag[key] = value
        return bool(changed)

    def answer(
        self, common_name: str, sans: Iterable[str], request: csr.Request | None = None
    ) -> Answer:
        """What the authority has answered to the request for this name; nothing is parsed here.

        The bytes of a ready answer are to be judged by `tls.store.Store.accept`; what that
        raises goes through `refuse`.

        Args:
            common_name: as requested.
            sans: as requested.
            request: as requested.
        """
        relation = self._relation
        if relation is None:
            return Answer(State.NOT_RELATED)
        asked = relation.data[self._charm.unit]
        if (asked.get("common_name"), asked.get("sans")) != (common_name, _sans(sans)):
            return Answer(State.WAITING, f"No certificate asked of {relation.app.name} yet")
        found: Answer | None = None
        if request is not None and relation.data[relation.app].get("certificates"):
            found = self._signed(relation.data[relation.app]["certificates"], request)
        for unit in sorted(relation.units, key=lambda unit: unit.name) if found is None else ():
            found = self._read(relation.data[unit])
            if found is not None and found.state is State.READY:
                return found
        if request is not None and (found is None or found.state is State.WAITING):
            errors = relation.data[relation.app].get("request_errors", "")
            found = self._denied(errors, request, sans) or found
        return found or Answer(
            State.WAITING, f"Waiting for a certificate from {relation.app.name}"
        )

    def client_ca(self) -> bytes:
        """PEM of all authorities that it answers any of our units with; b"" without one."""
        relation = self._relation
        if relation is None:
            return b""
        found: list[bytes] = []
        for unit in relation.units:
            with contextlib.suppress(certificate.CertificateError):
                found.append(_authorities(relation.data[unit]))
        entries = _entries(relation.data[relation.app].get("certificates", ""))
        distinct = {json.dumps([e.get("chain"), e.get("ca")]): e for e in entries}
        for entry in distinct.values():
            with contextlib.suppress(certificate.CertificateError):
                found.append(_chain(entry)[1])
        return certificate.union(b"", *found)

    def refuse(self, error: certificate.CertificateError) -> Answer:
        """The answer as one that cannot be used, with the commands that end it."""
        relation = self._relation
        remote = relation.app.name if relation else self._endpoint
        return Answer(
            State.WRONG,
            f"{remote} answered with a certificate that cannot be used: {error}",
            mend=f"mend {remote}",
            leave=f"`juju remove-relation {self._charm.app.name} {remote}`",
        )

    def await_another(self) -> Answer:
        """The authority took back what it answered: another certificate follows by itself."""
        relation = self._relation
        remote = relation.app.name if relation else self._endpoint
        return Answer(
            State.WAITING,
            f"Waiting for another certificate from {remote}, which revoked the one of before",
        )

    def _denied(self, text: str, request: csr.Request, sans: Iterable[str]) -> Answer | None:
        """What the authority says against our signing request, None when it says nothing."""
        csr = request.csr.decode().split()
        error = next(
            (each.get("error") for each in _entries(text) if str(each.get("csr")).split() == csr),
            None,
        )
        if not isinstance(error, dict):
            return None
        said = cast("dict[str, Any]", error)
        relation = self._relation
        remote = relation.app.name if relation else self._endpoint
        parts = [str(said[key]) for key in ("message", "reason") if said.get(key)]
        told = ": ".join(parts) or str(said.get("name") or "it does not say why")
        words = outside.printable(told, _LONGEST_REASON)
        if said.get("code") == _NOT_AVAILABLE:
            return Answer(State.WAITING, f"Waiting for {remote}, which cannot sign now: {words}")
        return Answer(
            State.WRONG,
            f"{remote} denied this unit's request for a certificate: {words}",
            mend=f"configure {remote} to sign for {', '.join(certificate.normal_sans(sans))}",
        )

    def _read(self, bag: Mapping[str, str]) -> Answer | None:
        """What one unit of the authority answered, None when it has not."""
        name = _key(self._charm.unit.name)
        cert, key = bag.get(f"{name}.server.cert", ""), bag.get(f"{name}.server.key", "")
        if not cert or not key or not bag.get("ca"):
            return None
        try:
            ca = _authorities(bag)
        except certificate.CertificateError as error:
            return self.refuse(error)
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

    def _signed(self, text: str, request: csr.Request) -> Answer | None:
        """The answer to our signing request, None when there is none yet."""
        csr = request.csr.decode().split()
        revoked = False
        for entry in _entries(text):
            if str(entry.get("certificate_signing_request", "")).split() != csr:
                continue
            if entry.get("revoked"):
                revoked = True
                continue
            try:
                cert, ca = _chain(entry)
            except certificate.CertificateError as error:
                return self.refuse(error)
            if not cert or not ca:
                what = "certificate" if not cert else "certificate authority"
                return self.refuse(certificate.CertificateError(f"the {what} is not PEM"))
            return Answer(State.READY, cert=cert, key=request.key, ca=ca)
        return self.await_another() if revoked else None


def _entries(text: str) -> list[dict[str, Any]]:
    """The answers of an authority that signs requests; [] when they cannot be read."""
    try:
        raw = outside.json_list(text or "[]", _ANSWERS, _LARGEST)
    except outside.OutsideError:
        return []
    return [cast("dict[str, Any]", each) for each in raw if isinstance(each, dict)]


def _chain(entry: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The certificate with what stands between, and what to believe; b"" without one.

    Raises:
        certificate.CertificateError: it is garbled, or too much.
    """
    raw = entry.get("chain")
    chain = cast("list[Any]", raw) if isinstance(raw, list) else []
    above = certificate.authorities(*(str(each).encode(errors="replace") for each in chain))
    cert = certificate.bundle(_pem(entry.get("certificate")))
    ca = certificate.authorities(_pem(entry.get("ca")))
    if not cert or not ca:
        return cert, ca
    leaf = certificate.split(cert)[0]
    others = [each for each in certificate.split(above) if each != leaf]
    believed = set(certificate.split(ca))
    between = [each for each in others if each not in believed]
    return certificate.bundle(cert, *between), certificate.bundle(ca, *others)


def _pem(value: Any) -> bytes:
    return str(value or "").encode(errors="replace")[: certificate.LARGEST]


def _key(unit: str) -> str:
    """A unit's name as this interface writes it in keys."""
    return unit.replace("/", "_")


def _sans(sans: Iterable[str]) -> str:
    return json.dumps(certificate.normal_sans(sans))


def _authorities(bag: Mapping[str, str]) -> bytes:
    """The authority and what signed it (`chain`, which only some send); b"" without one.

    Raises:
        certificate.CertificateError: one of them cannot be used.
    """
    return certificate.authorities(_pem(bag.get("ca")), _pem(bag.get("chain")))
