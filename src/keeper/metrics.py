"""What monitoring reads: etcd's own metrics and the keeper's, over TLS, on loopback only.

The keeper serves them on each unit. etcd's come through its client port, which wants a client
certificate that an agent on the machine does not have; these carry no keys and no values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import logging
import math
import ssl
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, cast

import errors
from backup import keeper_files, schedule
from etcd import client as clients
from etcd import config as etcd_config
from etcd import service

if TYPE_CHECKING:
    import pathlib
    import socket
    from collections.abc import Callable, Iterable, Mapping

    from keeper import alarms
    from tls import pem_files

log = logging.getLogger("etcd-keeper")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ANSWER = 3.0  # seconds for each look at etcd: together under Prometheus's ten
_PATIENCE = 10.0  # seconds that a scraper may take to ask
_POLL = 5.0  # seconds until it notices that it shall end
_DAY = 86400
_SENTENCE = 200  # characters of an error that become a label


@dataclasses.dataclass(frozen=True)
class Seen:
    """What this unit's etcd says when it is asked.

    Attributes:
        text: its own metrics, as it writes them.
        members: voters and learners that it knows, None when it does not tell.
        learners: those without a vote.
        alarms: armed alarms by kind, None when it does not tell.
    """

    text: str
    members: int | None = None
    learners: int = 0
    alarms: Mapping[str, int] | None = None


def look(config: keeper_files.Config) -> Seen | None:
    """Ask this unit's etcd, within seconds; None when it does not answer, or not clients yet."""
    if service.is_closed():
        return None
    seen = None
    online = clients.Client((config.local,), config.tls, _ANSWER)
    with contextlib.suppress(errors.EtcdError), online:
        seen = Seen(online.metrics(config.local))
        members = online.members(linearizable=False).members
        learners = sum(member.learner for member in members)
        seen = dataclasses.replace(seen, members=len(members), learners=learners)
        kinds = [alarm.kind for alarm in online.alarms()]
        alarms = {kind: kinds.count(kind) for kind in ("CORRUPT", "NOSPACE")}
        seen = dataclasses.replace(seen, alarms=alarms)
    return seen


def render(
    config: keeper_files.Config | None,
    status: keeper_files.Status,
    seen: Seen | None,
    now: float,
    closed: bool = False,
    sight: alarms.Sight | None = None,
    reason: str = "",
) -> str:
    """The page: the keeper's metrics, then etcd's.

    Args:
        config: what the charm told the keeper, None when it told nothing.
        status: what the keeper said last.
        seen: what etcd says, None when it does not answer.
        now: seconds since the epoch.
        closed: etcd takes no clients yet, and that is as it should be.
        sight: which members answer this unit, None when it cannot tell.
        reason: why the unit shows what it shows in `juju status`, "" where that is not known.
    """
    up = [_gauge("etcd_charm_member_up", "Whether this unit's etcd answers.", seen is not None)]
    words = "Whether this unit's etcd takes no clients until its restore is confirmed."
    up.append(_gauge("etcd_charm_member_closed", words, closed))
    families = [
        *up,
        *_reason(reason),
        *_cluster(config, seen, now),
        *_others(sight),
        *_backups(config, status, now),
    ]
    return "".join(map(_family, families)) + (seen.text if seen else "")


@dataclasses.dataclass(frozen=True)
class _Gauge:
    name: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def _gauge(name: str, words: str, value: float) -> _Gauge:
    return _Gauge(name, words, (({}, value),))


def _reason(reason: str) -> Iterable[_Gauge]:
    if reason:
        words = "Why the unit shows what it shows in juju status; see docs/statuses.md."
        yield _Gauge("etcd_charm_status", words, (({"reason": reason}, 1),))


def _left(config: keeper_files.Config, now: float) -> Iterable[tuple[str, float]]:
    """How much of each certificate's lifetime is left, 1 for all of it, negative afterwards."""
    for name, end in config.certificates.items():
        if (begin := config.certificates_from.get(name, end)) < end:
            yield name, (end - now) / (end - begin)


def _cluster(
    config: keeper_files.Config | None, seen: Seen | None, now: float
) -> Iterable[_Gauge]:
    if config is not None:
        yield _gauge("etcd_charm_units", "Units that Juju has.", config.units)
        days = {name: (at - now) / _DAY for name, at in config.certificates.items()}
        yield _Gauge(
            "etcd_charm_certificate_days",
            "Days until a certificate of this unit ends, or the authority above it.",
            tuple(({"certificate": name}, left) for name, left in sorted(days.items())),
        )
        yield _Gauge(
            "etcd_charm_certificate_left_ratio",
            "Share of its lifetime that is left; below a third a certificate is renewed.",
            tuple(({"certificate": name}, left) for name, left in sorted(_left(config, now))),
        )
    if seen is not None and seen.members is not None:
        yield _gauge("etcd_charm_members", "Members that etcd knows.", seen.members)
        yield _gauge("etcd_charm_learners", "Members without a vote.", seen.learners)
    if seen is not None and seen.alarms is not None:
        yield _Gauge(
            "etcd_charm_alarms",
            "Members with an armed alarm.",
            tuple(({"alarm": kind}, count) for kind, count in seen.alarms.items()),
        )


def _others(sight: alarms.Sight | None) -> Iterable[_Gauge]:
    """What outlives a machine that has died: the others say it of that one."""
    if sight is None:
        return
    yield _Gauge(
        "etcd_charm_member_answers",
        "Whether a member answers this unit.",
        tuple(({"member": name}, answered) for name, answered in sorted(sight.answers.items())),
    )
    answering = sum(sight.answers.values())
    yield _gauge("etcd_charm_members_answering", "Members that answer this unit.", answering)
    words = "Voters more that may be lost, as this unit sees it; below 0, no quorum answers."
    yield _gauge("etcd_charm_quorum_margin", words, sight.margin)


def _backups(
    config: keeper_files.Config | None, status: keeper_files.Status, now: float
) -> Iterable[_Gauge]:
    on = config is not None and not config.off
    yield _gauge(
        "etcd_backup_interval_seconds",
        "Time between two backups, 0 is off.",
        config.interval if config is not None and on else 0,
    )
    if not on:
        return
    yield _gauge(
        "etcd_backup_age_seconds",
        "Age of the newest backup, infinite without one or when its time lies in the future.",
        _age(status.newest_at, now),
    )
    yield _gauge(
        "etcd_backup_exposed_seconds",
        "Time in which writes came, or may have come, that no backup holds.",
        _age(status.covered_at(now), now),
    )
    yield _gauge(
        "etcd_backup_revision_lag",
        "Revisions that the newest backup does not hold.",
        status.revision - status.newest_revision if status.newest else math.inf,
    )
    yield _gauge(
        "etcd_backup_proven_age_seconds",
        "Age of the newest backup that was proven by restoring it, infinite without one.",
        _age(status.proven_at, now),
    )
    yield _gauge(
        "etcd_backup_worst_case_seconds",
        "Most that a loss of everything costs: the interval and the time that a backup takes.",
        status.worst_case,
    )
    yield _gauge("etcd_backup_stored", "Backups on the remote.", status.count)
    yield _gauge("etcd_backup_holder", "Whether this unit takes them.", status.role == "holder")
    yield _gauge("etcd_backup_failures", "Failed tries in a row.", status.failures)
    yield _gauge(
        "etcd_backup_problems", "Objects on the remote that are not right.", len(status.problems)
    )
    sentences = (("backup", status.error or status.foreign), ("proof", status.proof_error))
    yield _Gauge(
        "etcd_backup_last_error",
        "Why the last backup or the last proof failed; absent when it did not.",
        tuple(({"of": of, "error": text[:_SENTENCE]}, 1) for of, text in sentences if text),
    )


def _age(at: float, now: float) -> float:
    known = 0 < at <= now + schedule.SKEW  # of the future nobody knows
    return max(now - at, 0.0) if known else math.inf


def _family(gauge: _Gauge) -> str:
    lines = [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
    for labels, value in gauge.samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = "+Inf" if value == math.inf else f"{float(value):.16g}"
        lines.append(f"{gauge.name}{{{inside}}} {number}" if inside else f"{gauge.name} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Exporter:
    """Serves the page on the port that the charm named, from a thread of its own."""

    def __init__(
        self,
        config: pathlib.Path = keeper_files.CONFIG,
        status: pathlib.Path = keeper_files.STATUS,
        tls: pem_files.TLSFiles | None = None,
        sight: Callable[[], alarms.Sight | None] = lambda: None,
    ) -> None:
        """Serve nothing yet.

        Args:
            config: the charm's file.
            status: the keeper's file.
            tls: certificate and key to show, by default those that etcd's clients see.
            sight: tells which members answer this unit.
        """
        self._config = config
        self._status = status
        self._tls = tls or etcd_config.tls_files("server")
        self._sight = sight
        self._server: _Server | None = None
        self._told = ""

    def follow(self) -> None:
        """Serve where the charm wants it now; a port that is taken is tried again next time."""
        try:
            port = keeper_files.Config.read(self._config).metrics_port
        except ValueError:
            port = 0
        if self._server is not None and self._server.server_port == port:
            return
        self.close()
        if not port:
            return
        try:
            self._server = _Server(port, self)
        except OSError as error:
            self._tell(
                f"metrics are not served: {keeper_files.METRICS_HOST}:{port}: {error.strerror}"
            )
            return
        self._tell(
            f"metrics are served on https://{keeper_files.METRICS_HOST}:{port}{keeper_files.METRICS_PATH}"
        )
        poll = {"poll_interval": _POLL}
        threading.Thread(target=self._server.serve_forever, kwargs=poll, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def page(self) -> str:
        """The page as it is now."""
        try:
            config = keeper_files.Config.read(self._config)
        except ValueError:
            config = None
        seen = look(config) if config is not None else None
        status = keeper_files.Status.read(self._status)
        closed, reason = service.is_closed(), keeper_files.reason()
        return render(config, status, seen, time.time(), closed, self._sight(), reason)

    def context(self) -> ssl.SSLContext:
        """What to show a scraper; read anew for each connection, so that it follows etcd's."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        with contextlib.suppress(ValueError):  # the charm has told the keeper nothing yet
            if keeper_files.Config.read(self._config).tls_min_version != etcd_config.TLS_1_2:
                made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.set_ciphers(etcd_config.OPENSSL_CIPHERS)
        made.load_cert_chain(self._tls.cert, self._tls.key)
        return made

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            log.info("%s", sentence)
        self._told = sentence


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, port: int, exporter: Exporter) -> None:
        super().__init__((keeper_files.METRICS_HOST, port), _Handler)
        self.exporter = exporter

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread: a silent client stops nobody else."""
        plain: socket.socket = request
        plain.settimeout(_PATIENCE)
        with self.exporter.context().wrap_socket(plain, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is the scraper's to tell."""
        log.debug("a scraper's connection broke off", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the page."""
        if urllib.parse.urlsplit(self.path).path != keeper_files.METRICS_PATH:
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        body = cast("_Server", self.server).exporter.page().encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing: a scraper comes each minute."""
