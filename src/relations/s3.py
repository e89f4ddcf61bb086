"""The `s3-credentials` relation: a bucket for backups, from providers of both schema versions."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any, cast

import ops

from backup import rclone_errors, remote_choice, remote_settings
from machine import outside
from tls import certificate

if TYPE_CHECKING:
    import object_storage

ENDPOINT = "s3-credentials"
_SSE = "x-amz-server-side-encryption"
_KMS_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
_ATTRIBUTES = 100


class S3:
    """Typed access to the relation; the exchange itself is `object_storage`'s.

    Args:
        charm: the charm.
        endpoint: name of the endpoint.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = ENDPOINT):
        self._charm = charm
        self._endpoint = endpoint
        self._requirer: object_storage.S3Requirer | None = None
        if os.environ.get("JUJU_DISPATCH_PATH") != "hooks/update-status":
            self._ensure()  # it observes events, and a tick brings none of its own

    def _ensure(self) -> None:
        if self._requirer is None and self._charm.model.relations[self._endpoint]:
            self._requirer = self._made()

    def _made(self) -> object_storage.S3Requirer:
        import object_storage  # costly, and most applications have no such relation

        return object_storage.S3Requirer(self._charm, self._endpoint)

    def choice(self, encryption: str = "", kms_key: str = "") -> remote_choice.Choice:
        """What the relation offers: nothing, not yet, a bucket, or something unusable.

        Args:
            encryption: how the bucket shall encrypt, instead of what the relation says.
            kms_key: with which key.
        """
        offered = self._offered()
        if not encryption or offered.settings is None:
            return offered
        wanted = remote_settings.encrypted(offered.settings, encryption, kms_key)
        return dataclasses.replace(offered, settings=wanted)

    def _offered(self) -> remote_choice.Choice:
        self._ensure()
        relations = self._charm.model.relations[self._endpoint]
        if self._requirer is None or not relations:
            return remote_choice.OFF
        if len(relations) > 1:
            return remote_choice.Choice(
                remote_choice.State.WRONG,
                sentence="Two s3-credentials relations: remove one, backups go to one place",
            )
        relation = relations[0]
        try:
            given = self._requirer.fetch_relation_data([relation.id])[relation.id]
        except (ops.SecretNotFoundError, ops.ModelError):
            return remote_choice.Choice(
                remote_choice.State.WAITING,
                sentence="Waiting for the S3 credentials to be granted",
            )
        except ValueError:
            return remote_choice.Choice(
                remote_choice.State.WRONG,
                sentence="The s3-credentials relation holds no readable data",
            )
        return read(given, relation.app.name if relation.app else "the provider")


def read(given: dict[str, str], provider: str) -> remote_choice.Choice:
    """Judge a provider's answer, all values as raw strings.

    Args:
        given: the provider's keys, secrets resolved.
        provider: its application's name.
    """
    if not given.get("access-key") or not given.get("secret-key"):
        return remote_choice.Choice(
            remote_choice.State.WAITING, sentence=f"Waiting for {provider} to give S3 credentials"
        )
    if not given.get("bucket"):
        return remote_choice.Choice(
            remote_choice.State.WRONG,
            sentence=f"{provider} names no bucket: set its bucket option",
        )
    try:
        headers = _headers(given.get("attributes", ""))
        made = remote_settings.from_s3(
            remote_settings.S3(
                bucket=given["bucket"],
                access_key=given["access-key"],
                secret_key=given["secret-key"],
                endpoint=given.get("endpoint", ""),
                region=given.get("region", ""),
                path=given.get("path", ""),
                uri_style=given.get("s3-uri-style", "") or "path",
                storage_class=given.get("storage-class", ""),
                encryption=headers.get(_SSE, ""),
                kms_key=headers.get(_KMS_KEY, ""),
                ca_chain=_chain(given.get("tls-ca-chain", "")),
            )
        )
    except (rclone_errors.RemoteError, ValueError) as error:
        return remote_choice.Choice(
            remote_choice.State.WRONG, sentence=f"What {provider} gives cannot be used: {error}"
        )
    return remote_choice.Choice(remote_choice.State.READY, made)


def _headers(text: str) -> dict[str, str]:
    """The `attributes`: HTTP headers, a JSON list of `name: value` or `name=value`, names lower.

    Raises:
        ValueError: it is no such list.
    """
    if not text.strip():
        return {}
    try:
        items = outside.json_list(text, _ATTRIBUTES)
    except outside.OutsideError as error:
        raise ValueError(f"attributes: {error}") from error
    found: dict[str, str] = {}
    for item in items:
        name, separator, value = re.sub(r"[=:]", "\n", str(item), count=1).partition("\n")
        if separator:
            found[name.strip().lower()] = value.strip()
    return found


def _chain(text: str) -> tuple[str, ...]:
    """Certificates from a JSON list of PEM, of base64 of PEM, or from plain PEM.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if not text or text in ("[]", "null", '""'):
        return ()
    if len(text) > certificate.LARGEST:
        raise ValueError("tls-ca-chain is too long")
    raw: Any = text
    if text.startswith(("[", '"')):
        try:
            raw = outside.json_value(text)
        except outside.OutsideError as error:
            raise ValueError(f"tls-ca-chain: {error}") from error
    items = cast("list[Any]", raw) if isinstance(raw, list) else [raw]
    return tuple(_pem(str(item)) for item in items if str(item).strip())


def _pem(text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text:
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("tls-ca-chain has an entry that is no certificate") from error
    try:
        found = certificate.authorities(text.encode(errors="replace")).decode()
    except certificate.CertificateError as error:
        raise ValueError(f"tls-ca-chain: {error}") from error
    if not found:
        raise ValueError("tls-ca-chain has an entry that is no certificate")
    return found
