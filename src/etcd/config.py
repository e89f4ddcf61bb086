"""Etcd's configuration: its files, what is in them, and where it listens by them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import pathlib
import re
from typing import Any

import errors
from machine import files
from tls import pem_files

CONFIG = pathlib.Path("/etc/etcd/etcd.conf.yaml")
CLOSED_CONFIG = pathlib.Path("/etc/etcd/etcd-closed.conf.yaml")
GATEWAY = "gateway"
"""Name of what etcd's JSON gateway shows to the client port; its `ca.pem` is who is a client."""
OWN_GATEWAY = (3, 5, 0)
"""From this version on the gateway has a certificate of its own; before, it shows the server's."""
CLOSED_TLS = "founder"
"""Name of the administrator's certificate that an etcd believes which is closed to clients."""
TLS = pathlib.Path("/etc/etcd/tls")
REVOKED = TLS / "revoked.crl"
"""Certificates that etcd refuses: read at every handshake, and believed to be there."""
LISTENING = pathlib.Path("/run/etcd/listening")
TEMPLATES = pathlib.Path(__file__).resolve().parent.parent / "templates"
CIPHERS = tuple(
    f"TLS_ECDHE_{key}_WITH_AES_{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("128_GCM_SHA256", "256_GCM_SHA384")
)
"""What etcd speaks in TLS 1.2, by names that 3.4 to 3.7 know."""
OPENSSL_CIPHERS = "ECDHE+AESGCM"
"""The same for servers of ours."""
TLS_1_2 = "TLS1.2"
TLS_1_3_FROM = {(3, 4): (3, 4, 25), (3, 5): (3, 5, 8)}
"""From which patch of a minor version on etcd can be kept to TLS 1.3; later minors all can."""
GiB = 1024**3


class Initial(enum.Enum):
    """`initial-cluster-state`: whether an empty data directory founds or joins."""

    NEW = "new"
    EXISTING = "existing"


def tls_files(name: str, root: pathlib.Path | None = None) -> pem_files.TLSFiles:
    """The published certificate directory `name` (`peer`, `server`, `client`) of this unit."""
    folder = (root or TLS) / name
    return pem_files.TLSFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def served_tls(root: pathlib.Path | None = None) -> pem_files.TLSFiles:
    """What the client port shows, and the authorities whose clients it believes.

    Who signed what it shows is another matter: an outside authority signs servers, not clients.
    """
    shown = tls_files("server", root)
    return dataclasses.replace(shown, ca=tls_files(GATEWAY, root).ca)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that etcd is told.

    Attributes:
        name: member name, `etcd-0`.
        data_dir: etcd's `--data-dir`.
        version: of the etcd that will read it; chooses the names of some options.
        listen_client_urls: where to serve clients.
        advertise_client_urls: where clients are told to go.
        listen_peer_urls: where to serve peers.
        advertise_peer_urls: where peers are told to go.
        server_tls: what clients see, and the CAs that sign clients.
        gateway_tls: what the JSON gateway shows to the client port, None for what clients see.
        peer_tls: this member among its peers, and their CA.
        token: `initial-cluster-token`.
        initial_cluster: `etcd-0=https://...,etcd-1=https://...`; "" once data exists.
        initial: whether an empty data directory founds or joins.
        heartbeat_ms: milliseconds between heartbeats.
        election_ms: milliseconds without a heartbeat until an election, at least 5 heartbeats.
        quota_bytes: database size that arms the NOSPACE alarm.
        auto_compaction_mode: `periodic` or `revision`.
        auto_compaction_retention: hours or a duration, or a number of revisions; "0" is off.
        snapshot_count: raft entries between two raft snapshots.
        max_request_bytes: largest request.
        max_txn_ops: most operations of a transaction.
        watch_progress: seconds after which an idle watch that asks is told how far it is.
        log_level: debug, info, warn, error.
        tls_min_version: `TLS1.2` or `TLS1.3`, see `unknown`.
        gateway: serve the JSON gateway.
        compare: compare the keys with the peers' before serving (initial corruption check).
        metrics_urls: further URLs for metrics and health only; never plaintext.
        revoked: the list of certificates to refuse, None for no list.
    """

    name: str
    data_dir: pathlib.Path
    version: tuple[int, int, int]
    listen_client_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    listen_peer_urls: tuple[str, ...]
    advertise_peer_urls: tuple[str, ...]
    server_tls: pem_files.TLSFiles = dataclasses.field(default_factory=served_tls)
    gateway_tls: pem_files.TLSFiles | None = None
    peer_tls: pem_files.TLSFiles = dataclasses.field(default_factory=lambda: tls_files("peer"))
    token: str = ""
    initial_cluster: str = ""
    initial: Initial = Initial.EXISTING
    heartbeat_ms: int = 100
    election_ms: int = 1000
    quota_bytes: int = 8 * GiB
    auto_compaction_mode: str = "periodic"
    auto_compaction_retention: str = "0"
    snapshot_count: int = 10000
    max_request_bytes: int = 1536 * 1024
    max_txn_ops: int = 128
    watch_progress: int = 5
    log_level: str = "info"
    tls_min_version: str = TLS_1_2
    gateway: bool = True
    metrics_urls: tuple[str, ...] = ()
    compare: bool = True
    revoked: pathlib.Path | None = None

    def __post_init__(self) -> None:
        """Refuse plaintext: there is no road to it."""
        for address in (
            *self.listen_client_urls,
            *self.advertise_client_urls,
            *self.listen_peer_urls,
            *self.advertise_peer_urls,
            *self.metrics_urls,
        ):
            if not address.startswith("https://"):
                raise errors.EtcdError(f"{address} is not an https URL: etcd only serves TLS")


def url(host: str, port: int) -> str:
    """`https://host:port`, an IPv6 address in brackets."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def render(config: Config, force_new_cluster: bool = False) -> str:
    """The configuration file's text.

    Args:
        config: what to say.
        force_new_cluster: start a one-member cluster from existing data; for copies only.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values |= {
        "data_dir": str(config.data_dir),
        "initial": config.initial.value,
        "gates": [
            f"InitialCorruptCheck={str(config.compare).lower()}",
            "CompactHashCheck=true",
            "StopGRPCServiceOnDefrag=true",
        ],
        "ciphers": CIPHERS,
        "own_gateway": OWN_GATEWAY,
        "force_new_cluster": force_new_cluster,
        "revoked": config.revoked and str(config.revoked),
    }
    return template("etcd.conf.yaml.j2").render(values)


def unknown(config: Config) -> str:
    """Why this etcd would not do what it is told, "" when it would.

    Versions before 3.5 pass over what they do not know in their file.
    """
    version = config.version
    first = TLS_1_3_FROM.get(version[:2], TLS_1_3_FROM[3, 5])
    if config.tls_min_version == TLS_1_2 or version >= first:
        return ""
    here = ".".join(map(str, version))
    return (
        f"etcd {here} cannot be kept to {config.tls_min_version}: 3.5.8, or 3.4.25, or later can"
    )


def ensure_config(config: Config) -> bool:
    """Write the configuration, and the one for data that is closed to clients.

    Returns:
        Whether anything changed. A running etcd does not notice.
    """
    CONFIG.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    wrote = files.write(CLOSED_CONFIG, render(closed_to_clients(config)), 0o644)
    return files.write(CONFIG, render(config), 0o644) or wrote


def digest(config: Config) -> str:
    """Tells configurations apart that etcd would not start alike with; see `in_place`."""
    return hashlib.sha256(lasting(render(config)).encode()).hexdigest()


def in_place(config: Config) -> bool:
    """Whether the file that the next start reads says the same, but for what is for one start."""
    with contextlib.suppress(OSError):
        return lasting(CONFIG.read_text()) == lasting(render(config))
    return False


def lasting(text: str) -> str:
    """A configuration without what is for one start."""
    lines = (x for x in text.splitlines(keepends=True) if not re.match(FOUNDING, x))
    return "".join(re.sub(COMPARING, "", line) for line in lines)


def closed_to_clients(config: Config) -> Config:
    """The same, but the client port is the peers': their authority signed no client's certificate.

    It shows the peer certificate, with which etcd's gateway then dials etcd itself.
    """
    return dataclasses.replace(config, server_tls=config.peer_tls, gateway_tls=None, gateway=True)


_LISTEN = re.compile(r'^listen-(client|peer)-urls: "([^"\n]{1,2000})"$', re.MULTILINE)
_PLACE = re.compile(r"https://[0-9A-Za-z.:\[\]-]{1,260}:([0-9]{1,5})")


def listening() -> frozenset[str]:
    """URLs that the running etcd listens on, by what it was started with; none where none runs."""
    return frozenset(url for urls in _places(LISTENING).values() for url in urls)


def client_port() -> int | None:
    """Port on which the etcd of this unit serves clients, as it was started, or else will be.

    None where none was configured yet.
    """
    urls = (_places(LISTENING) or _places(CONFIG)).get("client", ())
    found = _PLACE.fullmatch(urls[-1]) if urls else None
    return int(found[1]) if found else None


def _places(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Where a configuration says to listen; etcd's user may have put anything there."""
    with contextlib.suppress(OSError, ValueError):
        found = {kind: tuple(urls.split(",")) for kind, urls in _LISTEN.findall(files.read(path))}
        if all(_PLACE.fullmatch(url) for urls in found.values() for url in urls):
            return found
    return {}


def template(name: str) -> Any:
    """One of the charm's templates, a `jinja2.Template`."""
    import jinja2  # costly, and most hooks render nothing

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML and systemd syntax; strings go through tojson
    )
    return environment.get_template(name)


FOUNDING = "^initial-"
COMPARING = "(initial-corrupt-check: |InitialCorruptCheck=)(true|false)"
