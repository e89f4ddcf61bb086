"""Who wrote a document that lies on a remote: a code over it, by a key of the application's own.

Whoever may write to the store can write anything there; only who has a key can write what
`Keys.holds` says yes to. A key comes in before anybody signs with it (`_SETTLE`), and goes on
being believed after a newer one has taken its place. A new application has other keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from machine import codec, outside

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "backup-keys"  # noqa: S105  the secret's label, and its one field
_YEAR = 365 * 86400.0  # seconds after which a new key is made
_SETTLE = 86400.0  # seconds until every unit has a new key, and it is used
_MOST = 12  # keys that are believed
_BYTES = 32
_CODE, _KEY = "hmac_sha256", "hmac_key"


@dataclasses.dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: told beside each code; not secret.
        value: hexadecimal.
        made_at: seconds since the epoch.
    """

    name: str
    value: str = dataclasses.field(repr=False)
    made_at: float


@dataclasses.dataclass(frozen=True)
class Keys:
    """The application's keys, newest first; none before the leader has made one."""

    keys: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.keys)

    @property
    def mark(self) -> str:
        """Changes with the keys, and tells nothing about them."""
        return " ".join(key.name for key in self.keys)

    def renewed(self, now: float) -> Keys:
        """These, with a new one in front where the newest is a year old, or there is none.

        Args:
            now: seconds since the epoch.
        """
        if self.keys and now - self.keys[0].made_at < _YEAR:
            return self
        made = Key(secrets.token_hex(4), secrets.token_hex(_BYTES), float(int(now)))
        return Keys((made, *self.keys)[:_MOST])

    def sealed(self, kind: str, document: Mapping[str, Any], now: float) -> dict[str, Any]:
        """A document with its code; without any key, as it is.

        Args:
            kind: what it is: a code of one kind is none of another.
            document: values that JSON has.
            now: seconds since the epoch.
        """
        if not self.keys:
            return dict(document)
        settled = [key for key in self.keys if now - key.made_at >= _SETTLE]
        key = settled[0] if settled else self.keys[-1]
        named = {**document, _KEY: key.name}
        return {**named, _CODE: _code(key, kind, named)}

    def holds(self, kind: str, document: Mapping[str, Any]) -> bool:
        """Whether the document carries the code that one of these keys gives it.

        Args:
            kind: what it should be.
            document: as it was read, with all that is in it.
        """
        code = document.get(_CODE)
        if not isinstance(code, str) or not code.isascii():
            return False
        named = {name: value for name, value in document.items() if name != _CODE}
        fitting = (key for key in self.keys if key.name == document.get(_KEY))
        return any(hmac.compare_digest(_code(key, kind, named), code) for key in fitting)

    def to_json(self) -> str:
        """All of it, the keys included: for files of root's and for the secret."""
        return json.dumps([_STORED.to_object(key) for key in self.keys], sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Keys:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not that.
        """
        try:
            made = tuple(map(_STORED.read, outside.json_list(text, 2 * _MOST)))
        except (TypeError, ValueError) as error:
            raise ValueError("the application's backup keys cannot be read") from error
        return cls(made)


_STORED = codec.Codec(Key, {"value": codec.Form(re.compile("([0-9a-f]{2}){1,64}"))})


def _code(key: Key, kind: str, document: Mapping[str, Any]) -> str:
    """HMAC-SHA256 (RFC 2104) of the kind and of the document's one form."""
    message = f"{kind}\n{canonical(document)}".encode()
    return hmac.new(bytes.fromhex(key.value), message, hashlib.sha256).hexdigest()


def canonical(document: Mapping[str, Any]) -> str:
    """A document's one form: names sorted, no white space, ASCII, Python's way with numbers."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
