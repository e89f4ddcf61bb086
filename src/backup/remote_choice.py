"""Which remote backups go to: what is configured and what is related, weighed; pure."""

from __future__ import annotations

import dataclasses
import enum

from backup import rclone_errors, remote_settings


class State(enum.Enum):
    """What an operator has to know of the remote."""

    OFF = "off"  # neither related nor configured
    WAITING = "waiting"
    READY = "ready"  # can be tried; whether it works, `Remote.check` tells
    WRONG = "wrong"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Where backups go.

    Attributes:
        state: whether there is such a place.
        settings: how to reach it, when READY.
        sentence: for `juju status`, when WAITING or WRONG.
    """

    state: State
    settings: remote_settings.Settings | None = None
    sentence: str = ""


OFF = Choice(State.OFF)


def choose(
    related: Choice,
    path: str,
    config: str | None,
    bandwidth: int = 0,
    environment: str = "",
    proxies: tuple[tuple[str, str], ...] = (),
) -> Choice:
    """Weigh the relation against the configuration.

    Args:
        related: what the `s3-credentials` relation says.
        path: `backup-remote` as configured, "" for none.
        config: content of the `rclone-config` secret; None when the option is not set, "" when the
            secret cannot be read.
        bandwidth: KiB per second, 0 for no limit.
        environment: the secret's other field: lines of `NAME=value`.
        proxies: the model's, see `remote_settings.Settings.proxies`.
    """
    chosen = _weigh(related, path, config, bandwidth, environment)
    if chosen.settings is None or not proxies:
        return chosen
    settings = dataclasses.replace(chosen.settings, proxies=proxies)
    return dataclasses.replace(chosen, settings=settings)


def _weigh(
    related: Choice, path: str, config: str | None, bandwidth: int, environment: str
) -> Choice:
    path = path.strip()
    limit = f"{bandwidth}K" if bandwidth > 0 else ""
    if not path:
        if related.settings and limit:
            limited = dataclasses.replace(related.settings, bandwidth=limit)
            return dataclasses.replace(related, settings=limited)
        return related
    if related.state is not State.OFF:
        return Choice(
            State.WRONG,
            sentence="Two places for backups: reset backup-remote, or remove the s3-credentials "
            "relation",
        )
    if config == "":
        return Choice(
            State.WRONG,
            sentence="The secret rclone-config cannot be read: grant it to this application, with "
            "the field rclone-conf",
        )
    try:
        return Choice(
            State.READY, remote_settings.from_config(path, config or "", limit, environment)
        )
    except rclone_errors.RemoteError as error:
        return Choice(State.WRONG, sentence=f"{str(error)[:1].upper()}{str(error)[1:]}")
