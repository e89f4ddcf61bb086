"""The `cluster` peer relation: what units tell each other, and what the leader commits.

Application databag: `generation` and `proposal` (see `cluster.generation`), and free keys under
`state`. Unit databag: `unit` (see `databag`) and free keys under `extras`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from typing import TYPE_CHECKING

import ops

from backup import seal
from cluster import generation as generations
from cluster import view as views
from machine import outside
from relations import databag, juju_units, network, peer_bag
from tls import authority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)
AUTHORITIES = "authorities"
"""Label of the secret with the cluster's certificate authorities."""
_MARK = "authorities-mark"
_CERTIFICATES = "certificates"
_HANDED_OUT = "handed-out"
_CHAIN = "serves-with"
_KEYS_MARK = "backup-keys-mark"


class Peers(peer_bag.PeerBag):
    """What the peer relation tells, typed; one instance lives for one hook."""

    def __init__(self, charm: ops.CharmBase, endpoint: str = "cluster"):
        super().__init__(charm, endpoint)
        self._goals: dict[str, str] | None = None
        self._ahead: dict[str, dict[str, str]] = {}

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
        return self._set_record("generation", databag.record_text(record))

    def set_proposal(self, record: generations.Generation | None) -> bool:
        """Propose a record, or withdraw the proposal; leader only."""
        return self._set_record("proposal", databag.record_text(record) if record else "")

    def turn(self) -> views.Turn:
        """Which unit may restart now.

        Raises:
            PeerError: it cannot be read.
        """
        return databag.read_turn(self._app_bag().get("turn", ""))

    def set_turn(self, turn: views.Turn) -> bool:
        """Give the turn to a unit; leader only."""
        return self._set_record("turn", databag.turn_text(turn))

    def state(self) -> dict[str, str]:
        """The application's free keys.

        Raises:
            PeerError: they cannot be read.
        """
        text = self._app_bag().get("state", "")
        return databag.strings(text, "the application's state") if text else {}

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
        return tuple(
            self._told(name, bags.get(name, {})) for name in sorted(names, key=databag.number)
        )

    def _told(self, name: str, bag: Mapping[str, str]) -> views.Unit:
        try:
            return self._unit(name, bag)
        except databag.PeerError as error:
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
                self._ahead[name] = juju_units.told_ahead(relation.id, name)
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
        return self._set_unit("unit", databag.unit_text(unit))

    def extras(self, unit: str) -> dict[str, str]:
        """The free keys of a unit, {} when Juju does not have it (any more).

        Raises:
            PeerError: they cannot be read.
        """
        relation = self._relation
        if relation is None:
            return {}
        known = {each.name: each for each in (*relation.units, self._charm.unit)}
        bag: Mapping[str, str] = {}
        if unit in known:
            bag = relation.data[known[unit]]
        else:
            bag = self._told_ahead(relation, [unit]).get(unit, {})
        text = bag.get("extras", "")
        return databag.strings(text, f"the databag of {unit}") if text else {}

    def set_extra(self, key: str, value: str) -> bool:
        """Set a free key of this unit, "" removes it; answers whether that changed anything."""
        return self._set_unit("extras", _updated(self.extras(self.name), key, value))

    # Whose certificates are believed.

    def certificates(self) -> dict[str, str]:
        """What each unit says of its certificates, as `tls.revocation` reads it."""
        return {name: self._extra_of(name, _CERTIFICATES) for name in self._goal_state()}

    def tell_certificates(self, text: str) -> bool:
        """Say which certificates this unit has."""
        return self.set_extra(_CERTIFICATES, text)

    def handed_out(self) -> tuple[str, ...]:
        """Client certificates that people were handed, as `tls.handed_out` reads them.

        What the application remembers, then what each unit tells of.
        """
        told = (self._extra_of(name, _HANDED_OUT) for name in self._goal_state())
        return tuple(filter(None, (self._app_bag().get("handed-out", ""), *told)))

    def tell_handed_out(self, text: str) -> bool:
        """Say which ones this unit made."""
        return self.set_extra(_HANDED_OUT, text)

    def remember_handed_out(self, text: str) -> bool:
        """Keep them for when their units are gone; leader only."""
        return self._set_app("handed-out", text)

    def chains(self) -> dict[str, str]:
        """PEM of the authorities that each unit's server certificate hangs on.

        "" where that is the cluster's own, or the unit has not told.
        """
        return {name: self._extra_of(name, _CHAIN) for name in self._goal_state()}

    def tell_chain(self, pem: str) -> bool:
        """Say which authorities this unit's server certificate hangs on, "" for our own."""
        return self.set_extra(_CHAIN, pem)

    def _extra_of(self, unit: str, key: str) -> str:
        try:
            return self.extras(unit).get(key, "")
        except databag.PeerError as error:
            log.warning("%s: its %s are not known", error, key)
            return ""

    def issued(self) -> dict[str, str]:
        """What the leader remembers of each unit's certificates.

        Raises:
            PeerError: it cannot be read.
        """
        text = self._app_bag().get("issued", "")
        return databag.strings(text, "the record of certificates") if text else {}

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

    def addresses(self) -> network.Addresses:
        """Where this unit is reached.

        Raises:
            PeerError: Juju has no address for this unit yet.
        """
        return network.of(self._charm.model, self._endpoint)

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
            raise databag.PeerError(str(error)) from error

    def ensure_authorities(self) -> authority.Authorities | None:
        """The authorities; the leader makes them where there are none, and announces them."""
        leads = self.leads()
        present = self.authorities()
        if not leads:
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
        leader = self.leads()
        if not mark and not leader:
            return seal.Keys()  # there are none yet
        if not mark or known.mark != mark:
            content = self.secret(seal.SECRET) or {}
            try:
                keys = seal.Keys.from_json(content.get("keys", "[]"))
            except ValueError as error:
                raise databag.PeerError(str(error)) from error
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
            unit = databag.read_unit(name, bag)
        except databag.PeerError as error:
            relation = self._relation
            at = f"{self._endpoint}:{relation.id}" if relation else self._endpoint
            clear = f"juju exec --unit {name} -- relation-set -r {at} unit="
            raise databag.PeerError(f"{error}; `{clear}` clears it") from error
        return dataclasses.replace(unit, alive=_alive(self._goal_state().get(name)))

    def _record(self, key: str) -> generations.Generation | None:
        text = self._app_bag().get(key, "")
        if not text:
            return None
        try:
            return databag.read_record(text)
        except outside.OutsideError as error:
            raise databag.PeerError(
                f"the {key} record in the databag of relation {self._endpoint} cannot be read"
                f" ({error}); nothing was changed"
            ) from error

    def _goal_state(self) -> dict[str, str]:
        if self._goals is None:
            self._goals = juju_units.goal_state()
        return self._goals


def _alive(status: str | None) -> bool:
    return status is not None and status not in ("dying", "dead")


def _updated(present: dict[str, str], key: str, value: str) -> str:
    new = {**present, key: value}
    if not value:
        del new[key]
    return json.dumps(new, sort_keys=True) if new else ""
