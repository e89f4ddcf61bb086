"""Where backups go and how to enter there: an rclone configuration, checked before it is used."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import TYPE_CHECKING

from backup import rclone_errors
from machine import codec, outside

if TYPE_CHECKING:
    import configparser

_LARGEST = 64 * 1024  # characters of an rclone configuration
_BUCKETS = ("s3", "google cloud storage", "azureblob", "b2", "swift", "oracleobjectstorage")
_ENCRYPTIONS = ("AES256", "aws:kms")  # as S3's x-amz-server-side-encryption has them
_KMS_KEY = re.compile(r"[A-Za-z0-9:/_.+=@-]{1,2048}")
PASSED = ("AWS_", "AZURE_", "GOOGLE_", "OS_")  # of variables that rclone's backends read


@dataclasses.dataclass(frozen=True)
class Settings:
    """What reaching a remote takes. Holds credentials: write it to 0600 files only.

    Attributes:
        config: an rclone configuration, INI text.
        path: an rclone path, `name:folder`, or an absolute local folder.
        ca: PEM certificates to trust instead of the system's, "" for the system's.
        bandwidth: rclone's `--bwlimit`, bytes per second with a suffix (`10M`), "" for no limit.
        environment: variables for rclone, as a role or the file of a token takes them.
        proxies: the model's proxies, as variables: the way to a remote. Whatever is reached
            without settings of a remote, as other units are, is reached directly.
    """

    config: str = dataclasses.field(repr=False)
    path: str
    ca: str = dataclasses.field(default="", repr=False)
    bandwidth: str = ""
    environment: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    proxies: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse what rclone could never use, or what would put a secret on a command line.

        Raises:
            RemoteError: of kind CONFIG.
        """
        problem = _problem(self)
        if problem:
            raise rclone_errors.RemoteError(rclone_errors.Kind.CONFIG, problem)

    @property
    def fingerprint(self) -> str:
        """Changes whenever anything here does, and tells nothing about it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def type(self) -> str:
        """The kind of remote in rclone's words, such as `s3`; "" for a local folder."""
        parser = _parsed(self.config)
        name = self.path.partition(":")[0]
        return parser.get(name, "type", fallback="") if parser else ""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of this machine that rclone may write to, also through other remotes."""
        parser = _parsed(self.config)
        sections = list(parser.values()) if parser else []
        values = [self.path]
        values += [s.get(key) or "" for s in sections for key in ("remote", "upstreams")]
        found: list[str] = []
        for word in " ".join(values).split():
            name, colon, path = word.partition(":")
            local = colon and parser and parser.get(name, "type", fallback="") == "local"
            if word.startswith("/"):
                found.append(name)
            elif local or name == "local":
                found.append("/" + path.partition(":")[0].lstrip("/"))
        return tuple(dict.fromkeys(found))

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of this machine that it names for rclone to read, such as the file of a token."""
        parser = _parsed(self.config)
        values = [value for _, value in self.environment]
        if parser:
            values += [
                value or "" for name in parser.sections() for _, value in parser.items(name)
            ]
        return tuple(value for value in values if value.startswith("/"))

    def to_json(self) -> str:
        """All of it, credentials included."""
        return _SETTINGS.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote.

        Raises:
            RemoteError: of kind CONFIG.
        """
        try:
            return _SETTINGS.read_json(text)
        except outside.OutsideError as error:
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CONFIG, "the remote's settings on this unit cannot be read"
            ) from error


_SETTINGS = codec.Codec(Settings, otherwise=codec.Form(free=True, longest=outside.LARGEST))


@dataclasses.dataclass(frozen=True)
class S3:
    """What the `s3` interface tells, typed.

    Attributes:
        bucket: its name.
        access_key: access key ID; "" with `secret_key` "" takes a role from the environment.
        secret_key: secret access key.
        endpoint: URL, "" for AWS.
        region: "" for the endpoint's default.
        path: folder in the bucket, "" for its root.
        uri_style: `path` or `host`.
        storage_class: "" for the bucket's default.
        encryption: how the store encrypts, `AES256` or `aws:kms`; "" for the bucket's default.
        kms_key: the key for `aws:kms`, "" for the store's own.
        ca_chain: PEM certificates of the endpoint's authority, empty for the system's.
    """

    bucket: str
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    endpoint: str = ""
    region: str = ""
    path: str = ""
    uri_style: str = "path"
    storage_class: str = ""
    encryption: str = ""
    kms_key: str = ""
    ca_chain: tuple[str, ...] = dataclasses.field(default=(), repr=False)


def from_s3(s3: S3, bandwidth: str = "") -> Settings:
    """Settings for a bucket that a relation describes.

    Raises:
        RemoteError: of kind CONFIG.
    """
    if not s3.bucket:
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CONFIG, "the s3 relation names no bucket"
        )
    if s3.uri_style not in ("", "path", "host"):
        raise rclone_errors.RemoteError(
            rclone_errors.Kind.CONFIG,
            f"the s3 relation asks for uri style {s3.uri_style!r}: not path or host",
        )
    if problem := encryption_problem(s3.encryption, s3.kms_key):
        raise rclone_errors.RemoteError(rclone_errors.Kind.CONFIG, problem)
    amazon = not s3.endpoint or "amazonaws.com" in s3.endpoint
    options = {
        "type": "s3",
        "provider": "AWS" if amazon else "Other",
        "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key,
        "env_auth": "false" if s3.access_key else "true",
        "endpoint": s3.endpoint.rstrip("/"),
        "region": s3.region or "us-east-1",
        "force_path_style": "false" if s3.uri_style == "host" else "true",
        "storage_class": s3.storage_class,
        "server_side_encryption": s3.encryption,
        "sse_kms_key_id": s3.kms_key,
        # Asking for the bucket on every upload needs rights that a good policy does not give.
        "no_check_bucket": "true",
        # The manifest's SHA-256 guards the whole; each part still carries its own MD5.
        "disable_checksum": "true",
    }
    lines = ["[s3]"]
    for key, value in options.items():
        if _unwritable(value):
            raise rclone_errors.RemoteError(
                rclone_errors.Kind.CONFIG, f"the s3 relation's {key} has characters not allowed"
            )
        if value:
            lines.append(f"{key} = {value}")
    folder = s3.path.strip("/")
    return Settings(
        config="\n".join(lines) + "\n",
        path=f"s3:{s3.bucket}" + (f"/{folder}" if folder else ""),
        ca="\n".join(part.strip() for part in s3.ca_chain if part.strip()),
        bandwidth=bandwidth,
    )


def encryption_problem(encryption: str, kms_key: str) -> str:
    """Why S3's encryption cannot be asked for like this, "" when it can.

    Args:
        encryption: `AES256`, `aws:kms`, or "" for the bucket's default.
        kms_key: the key's id or ARN, "" for none.
    """
    if encryption and encryption not in _ENCRYPTIONS:
        return f"the encryption {encryption[:40]!r} is not one of {', '.join(_ENCRYPTIONS)}"
    if kms_key and encryption != "aws:kms":
        return "a KMS key goes with the encryption aws:kms only"
    if kms_key and not _KMS_KEY.fullmatch(kms_key):
        return "the KMS key has characters not allowed"
    return ""


def encrypted(settings: Settings, encryption: str, kms_key: str = "") -> Settings:
    """Settings made by `from_s3` that ask the store for this encryption instead.

    Args:
        settings: where backups go.
        encryption: as for `encryption_problem`.
        kms_key: likewise.
    """
    replaced = ("server_side_encryption =", "sse_kms_key_id =")
    lines = [x for x in settings.config.splitlines() if not x.startswith(replaced)]
    lines += [f"server_side_encryption = {encryption}"]
    lines += [f"sse_kms_key_id = {kms_key}"] if kms_key else []
    return dataclasses.replace(settings, config="\n".join(lines) + "\n")


def from_config(
    path: str,
    config: str,
    bandwidth: str = "",
    environment: str = "",
) -> Settings:
    """Settings for any rclone remote: `backup-remote` and `rclone-config` as configured.

    Args:
        path: an rclone path.
        config: an rclone configuration.
        bandwidth: as in `Settings`.
        environment: lines of `NAME=value`.

    Raises:
        RemoteError: of kind CONFIG.
    """
    lines = [line.strip() for line in environment.splitlines() if line.strip()]
    return Settings(
        config=config.replace("\r\n", "\n"),
        path=path.strip(),
        bandwidth=bandwidth.strip(),
        environment=tuple((k.strip(), v.strip()) for k, _, v in (x.partition("=") for x in lines)),
    )


def _problem(settings: Settings) -> str:
    """Why settings cannot be used, "" when nothing speaks against them."""
    path, config = settings.path, settings.config
    if len(config) > _LARGEST or "RCLONE_ENCRYPT_V0" in config:
        return (
            f"rclone-config is encrypted or longer than {_LARGEST >> 10} KiB: give it in plain "
            "text, a Juju secret protects it"
        )
    if _unwritable(path) or path != path.strip():
        return "backup-remote has characters not allowed"
    if settings.bandwidth and not re.fullmatch(
        r"off|\d+(\.\d+)?[bkmgtpBKMGTP]?", settings.bandwidth
    ):
        return f"the bandwidth limit {settings.bandwidth!r} is not a number with B, K, M or G"
    for variable, value in settings.environment:
        if not re.fullmatch(rf"({'|'.join(PASSED)})[A-Z0-9_]+", variable) or not value:
            return (
                "rclone-config's field environment has a line that is none of AWS_...=, "
                "AZURE_...=, GOOGLE_...=, OS_...= with a value"
            )
    return "" if path.startswith("/") else _path_problem(settings)


def _path_problem(settings: Settings) -> str:
    """Why no remote can be reached by this path, "" when nothing speaks against it."""
    path, config = settings.path, settings.config
    if path.startswith(":"):
        return "backup-remote names options in its path: put them in rclone-config instead"
    name, colon, below = path.partition(":")
    if not colon or not name:
        return f"backup-remote {path!r} is not of the form name:path"
    if "," in name:
        return "backup-remote names options in its path: put them in rclone-config instead"
    names = section_names(config)
    if names is None:
        return "rclone-config is not an rclone configuration: it has no [section] with options"
    if name not in names:
        return f"rclone-config has no section [{name}], which backup-remote names"
    if settings.type in _BUCKETS and not below.strip("/"):
        return (
            f"backup-remote {path!r} names no bucket: write {name}:BUCKET, or {name}:BUCKET/FOLDER"
        )
    if "//" in below:
        return (
            f"backup-remote {path!r} has a folder without a name ('//'): write one '/' between "
            "names"
        )
    return ""


def section_names(config: str) -> tuple[str, ...] | None:
    """The remotes that an rclone configuration defines, None when it is not one."""
    parser = _parsed(config)
    return None if parser is None else tuple(parser.sections())


def _parsed(config: str) -> configparser.RawConfigParser | None:
    import configparser  # costly, and most remotes come by the relation

    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), allow_no_value=True)
    try:
        # The parser's time grows with the square of the white space in a line.
        parser.read_string(re.sub(r"[^\S\n]{64,}", " ", config))
    except (configparser.Error, AttributeError):  # of a name without a value, gone on with
        return None
    return parser


def _unwritable(value: str) -> bool:
    """Could not stand in rclone's configuration as it is."""
    return bool(re.search(r"[\x00-\x1f\x7f]", value)) or value[:1] in ('"', "`") or "%(" in value
