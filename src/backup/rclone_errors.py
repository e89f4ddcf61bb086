"""Why a remote did not do what was asked: rclone's words, in one sentence of ours."""

from __future__ import annotations

import enum
import re
from typing import Any, cast

from machine import outside


class Kind(enum.Enum):
    """What is wrong, for callers that decide by it."""

    UNREACHABLE = "unreachable"
    READ_ONLY = "read-only"
    LOCKED = "locked"
    CLOCK = "clock"
    FULL = "full"
    CREDENTIALS = "credentials"
    CA = "ca"
    NOT_FOUND = "not-found"
    LOST = "lost"
    SERVER = "server"
    CONFIG = "config"
    TIMEOUT = "timeout"
    CORRUPT = "corrupt"
    TOOL = "tool"
    OTHER = "other"


class RemoteError(Exception):
    """A remote did not do what was asked; `str()` is the sentence that an operator reads.

    Attributes:
        kind: what is wrong.
    """

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind

    @property
    def passing(self) -> bool:
        """It may be over at the next try."""
        return self.kind in _PASSING

    @property
    def stays(self) -> bool:
        """What is stored may not be deleted or written anew: it is locked, or a right lacks."""
        return self.kind in (Kind.LOCKED, Kind.READ_ONLY)


_PASSING = {Kind.LOST, Kind.SERVER, Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OTHER}

# First match wins: specific causes stand before the general words that accompany them.
_CAUSES: tuple[tuple[Kind, str], ...] = (
    (Kind.CA, r"x509:|certificate (is|has|signed)|unknown authority|tls: .*certificate"),
    (Kind.CA, r"server gave HTTP response to HTTPS|first record does not look like a TLS"),
    (Kind.FULL, r"no space left|quota ?exceeded|insufficient ?storage|disk quota|\b507\b"),
    (
        Kind.FULL,
        r"storage ?full|over ?quota|not enough space|too big for remaining disk|XMinioStorageFull",
    ),
    (Kind.CONFIG, r"didn't find section|couldn't find type|unknown backend|can't be blank"),
    (Kind.CONFIG, r"unable to decrypt configuration|Failed to (load|parse) config|unknown flag"),
    (
        Kind.CONFIG,
        r"InvalidBucketName|need (user|pass|bucket|url)|password not set|must be set|obscure",
    ),
    (Kind.CLOCK, r"RequestTimeTooSkewed|request time and the (server|current) time|clock skew"),
    (Kind.LOCKED, r"\bWORM\b|object ?lock|\blegal hold|retention (period|policy)|\bimmutab"),
    (Kind.LOCKED, r"BlobImmutable"),
    (Kind.CREDENTIALS, r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken"),
    (Kind.CREDENTIALS, r"NoCredentialProviders|no valid credential|unable to authenticate"),
    (Kind.CREDENTIALS, r"\b401\b|Unauthorized|invalid_grant|Login incorrect|bad credentials"),
    (Kind.READ_ONLY, r"read-only|permission denied|MethodNotAllowed|\b405\b|AccessDenied"),
    (Kind.READ_ONLY, r"\b403\b|Forbidden"),
    (Kind.CORRUPT, r"corrupted on transfer|failed to authenticate decrypted|bad magic|BadDigest"),
    (Kind.UNREACHABLE, r"connection refused|no such host|no route to host|network is unreach"),
    (Kind.UNREACHABLE, r"dial tcp|server misbehaving|lookup .* on |couldn't connect"),
    (Kind.LOST, r"connection reset|unexpected EOF|\bEOF\b|broken pipe|use of closed network"),
    (Kind.LOST, r"i/o timeout|timeout awaiting|deadline exceeded|connection (was )?closed"),
    (Kind.LOST, r"Incomplete ?Body|RequestTimeout"),
    (Kind.SERVER, r"\b50[0234]\b|SlowDown|ServiceUnavailable|InternalError"),
    (Kind.NOT_FOUND, r"NoSuchBucket|NoSuchKey|not found|doesn't exist|no such file|\b404\b"),
)

_NUMBERS = re.compile(r"status code: \d+, request id: ")
"""Begins the line below the cause in which older clients of S3 give a request's numbers."""

_PHRASES = {
    Kind.UNREACHABLE: "cannot be reached: ",
    Kind.READ_ONLY: "does not permit this: ",
    Kind.LOCKED: "keeps it locked: ",
    Kind.CLOCK: "finds that the clock of this unit is wrong (set it): ",
    Kind.FULL: "is full: ",
    Kind.CREDENTIALS: "refuses the credentials: ",
    Kind.CA: "cannot be trusted, its certificate does not fit the authorities given: ",
    Kind.NOT_FOUND: "does not have it: ",
    Kind.LOST: "broke the connection off: ",
    Kind.SERVER: "fails on its own side: ",
    Kind.CONFIG: "is not configured rightly: ",
    Kind.TIMEOUT: "is too slow: ",
    Kind.CORRUPT: "answers with damaged data: ",
    Kind.TOOL: "cannot be used: ",
    Kind.OTHER: "failed: ",
}


def refusal(words: str, code: int, said: str, config: str) -> RemoteError:
    """The error for what rclone said as it failed.

    Args:
        words: where the remote is, safe to show.
        code: rclone's exit code.
        said: what it wrote on standard error.
        config: its configuration, of which no secret is shown.
    """
    kind, reason = classify(code, said)
    return RemoteError(kind, f"{words} {_PHRASES[kind]}{_scrub(reason, config)}")


def classify(code: int, said: str) -> tuple[Kind, str]:
    """What rclone's exit code and words mean, and the words cut down to the reason.

    Args:
        code: rclone's exit code (3 and 4: folder, file not found).
        said: what it wrote on standard error, JSON lines or plain ones.
    """
    messages: list[str] = []
    for line in said.splitlines():
        _, words = heard(line)
        if words:
            messages.append(words)
    text = "\n".join(messages)
    causes = [words for words in messages if not _NUMBERS.match(words)] or messages
    reason = _reason(causes[-1] if causes else f"rclone ended with code {code}")
    for kind, pattern in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return kind, reason
    if code in (3, 4):
        return Kind.NOT_FOUND, reason
    return (Kind.LOST if code == 5 else Kind.OTHER), reason


def _reason(message: str) -> str:
    """The end of rclone's chain of wrapped errors, which is where the cause stands."""
    message = re.sub(r"\s+", " ", message).strip()
    message = re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\w+ +: )?", "", message)
    message = re.sub(r"^Failed to \S+( with \d+ errors)?: (last error was: )?", "", message)
    message = re.sub(
        r"https response error StatusCode: \d+, RequestID: \S*, HostID: \S*,", "", message
    )
    message = re.sub(r"\s+(status code: \d+, )?request id: .*$", "", message)
    message = outside.printable(message, len(message))
    return message if len(message) <= 240 else "... " + message[-236:]


def heard(line: str) -> tuple[int | None, str]:
    """One line of rclone's standard error: bytes moved when it says so, and its message."""
    if not line.startswith("{"):
        return None, line.strip()
    try:
        raw = outside.json_object(line)
    except outside.OutsideError:
        return None, line.strip()
    stats = raw.get("stats")
    if isinstance(stats, dict):
        moved = cast("dict[str, Any]", stats).get("bytes")
        return moved if isinstance(moved, int) else 0, ""
    if raw.get("level") in ("info", "debug"):
        return None, ""
    return None, str(raw.get("msg", "")).strip()


def _scrub(text: str, config: str) -> str:
    """`text` without any value of an option that sounds secret."""
    for line in config.splitlines():
        key, _, value = line.partition("=")
        if re.search(r"key|pass|secret|token|credential|account", key, re.IGNORECASE):
            value = value.strip()
            if len(value) >= 6:
                text = text.replace(value, "***")
    return text
