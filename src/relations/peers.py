"""The `cluster` peer relation: what units tell each other, and what the leader commits.

Application databag: `generation` and `proposal` (see `cluster.generation`), and free keys under
`state`. Unit databag: `unit` (JSON, see `_to_json`) and free keys under `extras`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import logging
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, cast

import ops
from ops import hookcmds

import outside
import processes
from backup import seal
from cluster import generation as generations
from cluster import view as views
from tls import authority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

AUTHORITIES = "authorities"
"""Label of the secret with the cluster's certificate authorities."""
_MARK = "authorities-mark"
_CERTIFICATES = "certificates"
_KEYS_MARK = "backup-keys-mark"
_GOAL_STATE_TIMEOUT = 60.0
_GOALS = 4 << 20  # bytes: of some ten thousand units


class PeerError(Exception):
    """What another unit or the leader wrote cannot be read; the text is one sentence."""


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Where this unit is reached, by the network spaces of the endpoints `cluster` and `db`.

    Attributes:
        peer: the address for other members, IPv6 without brackets.
        client: the address for clients.
        peer_bind: the address of this machine to listen on for `peer`: another one where
            addresses are translated on the way, or where `peer` is a host name.
        client_bind: the same for `client`.
        peer_sans: every address of the `cluster` binding, and loopback.
        client_sans: every address of the `db` binding, loopback and `localhost`.
    """

    peer: str
    client: str
    peer_bind: str
    client_bind: str
    peer_sans: tuple[str, ...]
    client_sans: tuple[str, ...]


def url(host: str, port: int, scheme: str = "https") -> str:
    """`https://198.18.0.10:2379`, with IPv6 addresses in brackets."""
    bracket = _is_address(host) and ":" in host
    return f"{scheme}://[{host}]:{port}" if bracket else f"{scheme}://{host}:{port}"


def _is_address(host: str) -> bool:
    """Whether that is an IP address and no name: nothing else can be listened on."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def goal_state() -> dict[str, str]:
    """Every unit of the application that Juju still has, with its goal status.

    A unit that Juju is removing has the status `dying`; a removed one is not there.

    Raises:
        PeerError: Juju did not answer.
    """
    try:
        answer = processes.hook_tool(["goal-state", "--format=json"], _GOAL_STATE_TIMEOUT)
        if answer.returncode:
            reason = " ".join(answer.stderr.split())
            raise PeerError(f"Juju does not say which units there are: {reason}")
        found = outside.json_object(answer.stdout, _GOALS)
        goals = cast("dict[str, dict[str, str]]", found.get("units") or {})
        return {name: str(goal["status"]) for name, goal in goals.items()}
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise PeerError(f"Juju does not say which units there are: {error!r}") from error


def told_ahead(relation: int, unit: str) -> dict[str, str]:
    """The databag of a unit that is in scope and whose `joined` hook is still to run here.

    Juju reads it afresh for each hook, for as long as the unit is not in `relation-list`.

    Args:
        relation: its number.
        unit: a unit that the goal state names.

    Returns:
        Its databag, {} while it has not entered the relation.
    """
    try:
        return hookcmds.relation_get(relation, unit=unit)
    except hookcmds.Error:
        return {}


class Peers:
    """Typed access to the peer relation; one instance lives for one hook.

    Args:
        charm: the charm.
        endpoint: name of the peer relation.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = "cluster"):
        self._charm = charm
        self._endpoint = endpoint
        self._goals: dict[str, str] | None = None
        self._ahead: dict[str, dict[str, str]] = {}

    @property
    def _relation(self) -> ops.Relation | None:
        return self._charm.model.get_relation(self._endpoint)

    @property
    def related(self) -> bool:
        """Whether the relation is there: not yet in the hooks before `install`."""
        return self._relation is not None

    @property
    def told(self) -> bool:
        """Whether this unit ever described itself to the others."""
        return "unit" in self._unit_bag()

    @property
    def name(self) -> str:
        """This unit's name."""
        return self._charm.unit.name

    # The leader's records.

    def generation(self) -> generations.Generation | None:
        """The committed record.

        Raises:
            PeerError: it cannot be read.
        """
        return self._record("generation")

    def proposal(self) -> generations.Generation | None:
        """The proposed record.

        Raises:
            PeerError: it cannot be read.
        """
        return self._record("proposal")

    def set_generation(self, record: generations.Generation) -> bool:
        """Commit a record; leader only; answers whether that changed anything."""
        return self._set_app("generation", record.to_json())

    def set_proposal(self, record: generations.Generation | None) -> bool:
        """Propose a record, or withdraw the proposal; leader only."""
        return self._set_app("proposal", record.to_json() if record else "")

    def turn(self) -> tuple[str, int]:
        """Which unit may restart now, and the turn's running number; ("", 0) before the first.

        Raises:
            PeerError: it cannot be read.
        """
        text = self._app_bag().get("turn", "")
        if not text:
            return "", 0
        unit, _, number = text.partition(" ")
        if not number.isdigit():
            raise PeerError(f"the turn {text!r} in the peer relation cannot be read")
        return unit, int(number)

    def set_turn(self, unit: str, number: int) -> bool:
        """Give the turn to a unit; leader only."""
        return self._set_app("turn", f"{unit} {number}")

    def state(self) -> dict[str, str]:
        """The application's free keys.

        Raises:
            PeerError: they cannot be read.
        """
        text = self._app_bag().get("state", "")
        return _strings(text, "the application's state") if text else {}

    def set_state(self, key: str, value: str) -> bool:
        """Set a free key of the application, "" removes it; leader only."""
        return self._set_app("state", _updated(self.state(), key, value))

    # What units say of themselves.

    def units(self) -> tuple[views.Unit, ...]:
        """Every unit that Juju has by its goal state, this one included, by number.

        Another unit whose databag cannot be read is as one that told nothing yet: that is its
        own problem, which it says in its own status.

        Raises:
            PeerError: this unit's databag cannot be read, or Juju does not answer.
        """
        goals = self._goal_state()
        relation = self._relation
        bags: dict[str, Mapping[str, str]] = {}
        if relation is not None:
            bags = {unit.name: relation.data[unit] for unit in relation.units}
            bags[self.name] = relation.data[self._charm.unit]
            bags |= self._told_ahead(relation, goals.keys() - bags.keys())
        names = {*goals, self.name}  # `relation-list` may keep one that is gone (juju#23326)
        return tuple(self._told(name, bags.get(name, {})) for name in sorted(names, key=_number))

    def _told(self, name: str, bag: Mapping[str, str]) -> views.Unit:
        try:
            return self._unit(name, bag)
        except PeerError as error:
            if name == self.name:
                raise
            log.warning("%s: it counts as a unit that told nothing yet", error)
            return views.Unit(name, alive=_alive(self._goal_state().get(name)))

    def look_again(self) -> None:
        """Ask Juju anew which units there are, in a hook that goes on for long."""
        self._goals = None
        self._ahead = {}

    def _told_ahead(
        self, relation: ops.Relation, coming: Iterable[str]
    ) -> dict[str, dict[str, str]]:
        for name in coming:
            if name not in self._ahead and _alive(self._goal_state().get(name)):
                self._ahead[name] = told_ahead(relation.id, name)
        return self._ahead

    def me(self) -> views.Unit:
        """This unit as it last described itself.

        Raises:
            PeerError: it cannot be read. It is not passed over: what a unit once began is in it.
        """
        return self._unit(self.name, self._unit_bag())

    def publish(self, unit: views.Unit) -> bool:
        """Describe this unit to the others; answers whether that changed anything.

        `unit.name` and `unit.alive` are Juju's to tell and are not written.
        """
        return self._set_unit("unit", _to_json(unit))

    def extras(self, unit: str) -> dict[str, str]:
        """The free keys of a unit, {} when it is not (or no longer) in the relation.

        Raises:
            PeerError: they cannot be read.
        """
        relation = self._relation
        if relation is None:
            return {}
        known = {each.name: each for each in (*relation.units, self._charm.unit)}
        if unit not in known:
            return {}
        text = relation.data[known[unit]].get("extras", "")
        return _strings(text, f"the databag of {unit}") if text else {}

    def set_extra(self, key: str, value: str) -> bool:
        """Set a free key of this unit, "" removes it; answers whether that changed anything."""
        return self._set_unit("extras", _updated(self.extras(self.name), key, value))

    # Whose certificates are believed.

    def certificates(self) -> dict[str, str]:
        """What each unit says of its certificates, as `tls.revocation` reads it."""
        return {name: self._certificates_of(name) for name in self._goal_state()}

    def _certificates_of(self, unit: str) -> str:
        try:
            return self.extras(unit).get(_CERTIFICATES, "")
        except PeerError as error:
            log.warning("%s: its certificates are not known", error)
            return ""

    def tell_certificates(self, text: str) -> bool:
        """Say which certificates this unit has."""
        return self.set_extra(_CERTIFICATES, text)

    def issued(self) -> dict[str, str]:
        """What the leader remembers of each unit's certificates.

        Raises:
            PeerError: it cannot be read.
        """
        text = self._app_bag().get("issued", "")
        return _strings(text, "the record of certificates") if text else {}

    def set_issued(self, issued: Mapping[str, str]) -> bool:
        """Remember them; leader only."""
        return self._set_app("issued", json.dumps(dict(issued), sort_keys=True))

    def revoked(self) -> str:
        """Certificates that nobody is to believe any more, as `tls.revocation` reads it."""
        return self._app_bag().get("revoked", "")

    def set_revoked(self, text: str) -> bool:
        """Say so; leader only."""
        return self._set_app("revoked", text)

    # What Juju says.

    def goals(self) -> Mapping[str, bool]:
        """Every unit that Juju has, and whether it stays.

        Raises:
            PeerError: Juju did not answer.
        """
        return {name: _alive(status) for name, status in self._goal_state().items()}

    @property
    def dying(self) -> bool:
        """Whether Juju is removing this unit."""
        return not _alive(self._goal_state().get(self.name))

    def planned(self) -> int:
        """How many units Juju plans: those that are not being removed."""
        return sum(_alive(status) for status in self._goal_state().values())

    def addresses(self) -> Addresses:
        """Where this unit is reached.

        Raises:
            PeerError: Juju has no address for this unit yet.
        """
        peer, peer_bind, peer_sans = self._binding(self._endpoint)
        client, client_bind, client_sans = self._binding("db")
        loopback = ("127.0.0.1", "::1", "localhost")
        return Addresses(
            peer=peer,
            client=client,
            peer_bind=peer_bind,
            client_bind=client_bind,
            peer_sans=tuple(sorted({*peer_sans, *loopback})),
            client_sans=tuple(sorted({*client_sans, *loopback})),
        )

    # Secrets of the application.

    def authorities(self) -> authority.Authorities | None:
        """The cluster's certificate authorities, None until the leader has made them.

        Raises:
            PeerError: the secret does not hold authorities.
        """
        content = self.secret(AUTHORITIES)
        if content is None:
            return None
        try:
            return authority.Authorities.from_secret(content)
        except ValueError as error:
            raise PeerError(str(error)) from error

    def ensure_authorities(self) -> authority.Authorities | None:
        """The authorities; the leader makes them where there are none, and announces them."""
        present = self.authorities()
        if not self._charm.unit.is_leader():
            return present
        if present is None:
            present = authority.Authorities.create(self._charm.app.name)
            self.set_secret(AUTHORITIES, present.to_secret())
        self.set_state(_MARK, present.mark)
        return present

    def ensure_backup_keys(self, known: seal.Keys) -> seal.Keys:
        """The application's keys for manifests; the leader makes and renews them.

        Args:
            known: those that this unit has, which spare it the secret while they are the present.

        Raises:
            PeerError: the secret does not hold keys.
        """
        mark, keys = self.state().get(_KEYS_MARK, ""), known
        leader = self._charm.unit.is_leader()
        if not mark and not leader:
            return seal.Keys()  # there are none yet
        if not mark or known.mark != mark:
            content = self.secret(seal.SECRET) or {}
            try:
                keys = seal.Keys.from_json(content.get("keys", "[]"))
            except ValueError as error:
                raise PeerError(str(error)) from error
        if leader:
            before, keys = keys, keys.renewed(time.time())
            if keys is not before:
                self.set_secret(seal.SECRET, {"keys": keys.to_json()})
            self.set_state(_KEYS_MARK, keys.mark)
        return keys

    @property
    def place(self) -> tuple[str, str, str]:
        """The application's name, the model's name and the model's UUID."""
        return self._charm.app.name, self._charm.model.name, self._charm.model.uuid

    def authorities_mark(self) -> str:
        """`Authorities.mark` of the present ones, "" before there are any.

        Cheaper than the secret: read that only when this differs from what was used last.
        """
        return self.state().get(_MARK, "")

    def secret(self, label: str) -> dict[str, str] | None:
        """Newest content of the application's secret, None while there is none."""
        try:
            found = self._charm.model.get_secret(label=label)
            return dict(found.get_content(refresh=True))
        except ops.SecretNotFoundError:
            return None

    def set_secret(self, label: str, content: dict[str, str]) -> bool:
        """Make or change a secret of the application; leader only.

        Args:
            label: unique in the application.
            content: keys of lower-case letters, digits and dashes, three characters at least.
        """
        try:
            found = self._charm.model.get_secret(label=label)
            if found.get_content(refresh=True) == content:
                return False
        except ops.SecretNotFoundError:
            self._charm.app.add_secret(content, label=label)
            return True
        found.set_content(content)
        return True

    def _unit(self, name: str, bag: Mapping[str, str]) -> views.Unit:
        try:
            unit = _read_unit(name, bag)
        except PeerError as error:
            relation = self._relation
            at = f"{self._endpoint}:{relation.id}" if relation else self._endpoint
            clear = f"juju exec --unit {name} -- relation-set -r {at} unit="
            raise PeerError(f"{error}; `{clear}` clears it") from error
        return dataclasses.replace(unit, alive=_alive(self._goal_state().get(name)))

    def _record(self, key: str) -> generations.Generation | None:
        text = self._app_bag().get(key, "")
        if not text:
            return None
        try:
            outside.json_object(text)
            record = generations.Generation.from_json(text)
            _refuse_record(record)
            return record
        except (ValueError, AttributeError) as error:
            raise PeerError(
                f"the {key} record in the databag of relation {self._endpoint} cannot be read"
                f" ({str(error).rpartition(': ')[2]}); nothing was changed"
            ) from error

    def _app_bag(self) -> Mapping[str, str]:
        relation = self._relation
        return relation.data[self._charm.app] if relation else {}

    def _unit_bag(self) -> Mapping[str, str]:
        relation = self._relation
        return relation.data[self._charm.unit] if relation else {}

    def _set_app(self, key: str, value: str) -> bool:
        relation = self._relation
        return relation is not None and _set(relation.data[self._charm.app], key, value)

    def _set_unit(self, key: str, value: str) -> bool:
        relation = self._relation
        return relation is not None and _set(relation.data[self._charm.unit], key, value)

    def _goal_state(self) -> dict[str, str]:
        if self._goals is None:
            self._goals = goal_state()
        return self._goals

    def _binding(self, endpoint: str) -> tuple[str, str, set[str]]:
        """An endpoint's ingress address, where to listen for it, and every address of both."""
        binding = self._charm.model.get_binding(endpoint)
        network = binding.network if binding else None
        ingress = [str(address) for address in network.ingress_addresses] if network else []
        bound = (
            [str(each.address) for each in network.interfaces if each.address] if network else []
        )
        if not ingress and not bound:
            raise PeerError(f"Juju has no address for this unit on endpoint {endpoint} yet")
        reached = (ingress or bound)[0]
        own = [each for each in bound or ingress if _is_address(each)]
        if not own:
            raise PeerError(
                f"Juju names {reached} for endpoint {endpoint}, and no address of this unit that "
                "etcd could listen on: nothing was changed; see `juju show-machine`"
            )
        return reached, reached if reached in own else own[0], {*ingress, *bound}


def _refuse_record(record: generations.Generation) -> None:
    """Refuse a record with what is no name, no URL or no text: it becomes paths and options."""
    _matching(_TOKEN, record.token)
    for founder in record.founders:
        _matching(_UNIT, founder.unit)
        _matching(_URL, founder.peer_url)
    for text in (record.keep, *(text for pair in record.detail for text in pair)):
        if not text.isprintable():
            raise ValueError(f"unexpected {outside.printable(repr(text), 60)}")


def _alive(status: str | None) -> bool:
    return status is not None and status not in ("dying", "dead")


def _number(unit: str) -> tuple[str, int]:
    application, _, number = unit.partition("/")
    return application, int(number or 0)


def _set(bag: ops.RelationDataContent, key: str, value: str) -> bool:
    if bag.get(key, "") == value:
        return False
    bag[key] = value
    return True


def _updated(present: dict[str, str], key: str, value: str) -> str:
    new = {**present, key: value}
    if not value:
        del new[key]
    return json.dumps(new, sort_keys=True) if new else ""


def _strings(text: str, where: str) -> dict[str, str]:
    try:
        raw = outside.json_object(text)
    except outside.OutsideError as error:
        raise PeerError(f"{where} cannot be read ({error}); nothing was changed") from error
    return {key: str(value) for key, value in raw.items()}


def _to_json(unit: views.Unit) -> str:
    """What a unit says of itself, without what it has nothing to say about."""
    raw = dataclasses.asdict(unit)
    del raw["name"], raw["alive"]
    if unit.member_id is not None:
        raw["member_id"] = f"{unit.member_id:x}"
    nothing = dataclasses.asdict(views.Unit(unit.name))
    said = {key: value for key, value in raw.items() if value != nothing[key]}
    return json.dumps(said, sort_keys=True)


def _read_unit(name: str, bag: Mapping[str, str]) -> views.Unit:
    text = bag.get("unit", "")
    if not text:
        return views.Unit(name)
    try:
        raw = outside.json_object(text, _LARGEST, depth=4)
        return views.Unit(
            name=name,
            peer_url=_matching(_URL, raw.get("peer_url")),
            client_url=_matching(_URL, raw.get("client_url")),
            token=_matching(_TOKEN, raw.get("token")),
            member_id=_member_id(raw.get("member_id")),
            started=_flag(raw.get("started", False)),
            prepared=_matching(_TOKEN, raw.get("prepared")),
            failure=_failure(raw.get("failure")),
            facts=_facts(raw.get("facts")),
            stale=_flag(raw.get("stale", False)),
            begun=_count(raw.get("begun", 0)),
            voters=tuple(_matching(_UNIT, each) or "" for each in _few(raw.get("voters", []))),
            voters_of=_matching(_TOKEN, raw.get("voters_of") or None) or "",
            joins=_count(raw.get("joins", 0)),
            member=_matching(_MEMBER, raw.get("member") or None) or "",
            turn_done=_count(raw.get("turn_done", 0)),
            listed=_matching(_URL, raw.get("listed") or None) or "",
            heard=_matching(_TOKEN, raw.get("heard") or None) or "",
            broken=_flag(raw.get("broken", False)),
            unanswered=_flag(raw.get("unanswered", False)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError(
            f"the databag of {name} in the peer relation cannot be read ({error}), nothing was"
            " changed"
        ) from error


_LARGEST = 64 * 1024  # characters of what a unit says of itself
_MOST = 100  # entries of a list in it: etcd has seven voters
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNIT = re.compile(r"[a-z0-9-]{1,100}/[0-9]{1,9}")
_MEMBER = re.compile(r"[A-Za-z0-9._-]{1,110}")


def _matching(form: re.Pattern[str], value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"unexpected {outside.printable(repr(value), 60)}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ValueError(f"expected a number, not {outside.printable(repr(value), 60)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {outside.printable(repr(value), 60)}")
    return value


def _few(value: Any) -> list[Any]:
    entries = cast("list[Any]", value) if isinstance(value, list) else None
    if entries is None or len(entries) > _MOST:
        raise ValueError("expected a short list")
    return entries


def _member_id(value: Any) -> int | None:
    found = _matching(re.compile(r"[0-9a-f]{1,16}"), value)
    return None if found is None else int(found, 16)


def _failure(value: Any) -> tuple[str, str] | None:
    if value is None:
        return None
    token, sentence = _few(value)
    return _matching(_TOKEN, token) or "", outside.printable(str(sentence))


def _facts(value: Any) -> views.DiskFacts | None:
    if value is None:
        return None
    return views.DiskFacts(*(_count(value[key]) for key in ("term", "index", "revision")))
