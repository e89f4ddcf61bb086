"""Etcd's options on their way to etcd: tried first, agreed on by all, put back where refused.

What all units run with is kept in the application's databag, and so is what etcd cannot start with
on some unit, until Juju has other values: no unit puts that in place, and those that did go back.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, cast

import errors
from cluster import view as views
from etcd import config as etcd_config
from etcd import failure as failures
from etcd import service
from hook import config as configs
from machine import outside

if TYPE_CHECKING:
    from hook import unit as units
    from relations import peers

log = logging.getLogger(__name__)

AGREED = "options"
REFUSED = "refused-options"
RETRY = 60.0  # seconds until what could not be tried is tried again
_OPTIONS = (failures.FailureKind.ADDRESS, failures.FailureKind.OTHER)
"""How etcd fails where its options may be why."""


def read(
    raw: configs.Raw,
    peers: peers.Peers,
    application: str,
    own: views.Failure | None = None,
) -> configs.Settings:
    """The configuration in use.

    Args:
        raw: `config-get`'s answer.
        peers: the peer relation.
        application: its name.
        own: what etcd just refused on this unit, and why.

    Raises:
        configs.SettingsError: it cannot be used, and there is none of before.
        peers.PeerError: the peer relation cannot be read.
    """
    state = peers.state()
    mark, _, why = state.get(REFUSED, "").partition(" ")
    refused = {mark: why} if mark else {}
    told = [unit.refused for unit in peers.units()]
    refused |= {each.of: each.reason for each in (*told, own) if each}
    return configs.resolve(raw, _agreed(state.get(AGREED, "")), refused, application)


def _agreed(text: str) -> configs.Raw:
    if not text:
        return {}
    try:
        return cast("configs.Raw", outside.json_object(text))
    except outside.OutsideError:
        log.warning("what all units last ran with cannot be read")
        return {}


def put_in_place(node: units.Node, *, told: bool) -> None:
    """Put in place what etcd is to start with, or leave what is there where etcd refuses that.

    Args:
        node: this unit.
        told: nothing that etcd is told has changed but, perhaps, the options.

    Raises:
        configs.SettingsError: there are no options of before.
    """
    if node.me.refused and node.me.refused.of != node.settings.wanted:
        node.me = dataclasses.replace(node.me, refused=None)
    started = node.root.stamp() is not None
    if told and (not started or node.configured == node.settings.fingerprint):
        return
    try:
        if started:
            node.keep_configured()
        elif node.ready and not etcd_config.CONFIG.exists():
            node.try_options()
    except errors.OptionsError as error:
        if node.settings.fingerprint == node.me.options:
            log.warning("etcd's configuration stays as it was: %s", error)
            return  # it has these: something else has changed
        log.warning("etcd cannot have these options: %s", error)
        node.refuse_options(str(error))
        node.keep_configured()
    except errors.EtcdError as error:
        if not started:
            raise
        log.warning("etcd's configuration could not be tried: %s", error)
        node.settings = dataclasses.replace(node.settings, problem=str(error))
        node.wake(RETRY)


def judge(node: units.Node, wait: float) -> None:
    """After a restart in this unit's turn: an etcd that fails with new options gets the old ones.

    Args:
        node: this unit.
        wait: seconds for it to be ready with those.
    """
    if node.me.options in ("", node.settings.fingerprint):
        return
    if service.state() is not views.Service.FAILED:
        return
    failure = failures.why_failed()
    if failure is None or failure.kind not in _OPTIONS:
        return
    log.warning("etcd failed with new options, and gets those of before: %s", failure.sentence)
    try:
        node.refuse_options(failure.sentence)
    except configs.SettingsError as error:
        log.warning("there are none of before: %s", error)
        return
    node.configure()
    service.restart(wait)


def agree(node: units.Node, *, healthy: bool) -> None:
    """Juju's leader: keep for all what every unit runs with, and what etcd cannot have.

    Args:
        node: this unit; nothing is kept where it does not lead.
        healthy: all members are well.
    """
    if not node.leads:
        return
    used = node.settings
    units = [node.me, *(u for u in node.peers.units() if u.alive and u.name != node.unit)]
    refused = {u.refused.of: u.refused.reason for u in units if u.refused}
    if used.wanted in refused:
        node.peers.set_state(REFUSED, f"{used.wanted} {refused[used.wanted]}")
    elif node.peers.state().get(REFUSED, "").partition(" ")[0] not in ("", used.wanted):
        node.peers.set_state(REFUSED, "")
    same = all(u.options == used.fingerprint and not u.stale for u in units)
    if healthy and same and not used.problem:
        node.peers.set_state(AGREED, json.dumps(dict(used.raw), sort_keys=True))
