"""Why etcd ended: what its last lines in the journal say, in our words."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from typing import TYPE_CHECKING, Any, cast

from etcd import service
from machine import processes

if TYPE_CHECKING:
    from collections.abc import Sequence


class FailureKind(enum.Enum):
    """Why etcd does not run."""

    REMOVED = "removed"  # the cluster removed this member: its data is of no use
    CORRUPT = "corrupt"  # the database, or it differs from the peers'
    BAD_WAL = "bad-wal"  # the log cannot be read, or lost entries that were committed
    MISMATCH = "mismatch"  # the initial cluster is not the member list, or is bootstrapped
    FOREIGN = "foreign"  # its peers are of another cluster
    NEWER = "newer"  # the data is of a newer etcd
    DISK_FULL = "disk-full"
    CERTIFICATE = "certificate"
    ADDRESS = "address"  # cannot listen
    MEMORY = "memory"
    OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A reason with the sentence for the operator.

    Attributes:
        differs: how many members etcd found to hold other keys, which says nothing of whose are
            wrong: it gives up for one.
        last_index: the last one of its log by etcd's words, where it was told of later ones.
    """

    kind: FailureKind
    sentence: str
    differs: int = 0
    last_index: int | None = None

    @property
    def data_broken(self) -> bool:
        """No etcd can use the data any more, if the disk says the same (`offline.confirms`)."""
        return not self.differs and self.kind in (
            FailureKind.REMOVED,
            FailureKind.CORRUPT,
            FailureKind.BAD_WAL,
        )


_REASONS: tuple[tuple[str, FailureKind, str], ...] = (
    # First: their errors repeat URLs that others chose.
    (r"member count is unequal|unmatched member while checking PeerURLs|"
     r"error validating peerURLs|couldn't find local name|has different advertised",
     FailureKind.MISMATCH, "the initial cluster differs from the member list"),
    (r"permanently removed from the cluster", FailureKind.REMOVED,
     "the cluster removed this member"),
    (r"no space left on device", FailureKind.DISK_FULL, "the disk is full"),
    (r"oom-kill|killed by the OOM killer", FailureKind.MEMORY, "the machine ran out of memory"),
    (r"bind: address already in use", FailureKind.ADDRESS,
     "another program listens on etcd's port"),
    (r"cannot assign requested address", FailureKind.ADDRESS,
     "the address to listen on is not one of this machine"),
    (r"cannot be downgraded|is lower than determined cluster version|"
     r"invalid downgrade|storage version.*(?:higher|unsupported)", FailureKind.NEWER,
     "the data was written by a newer etcd than the one installed"),
    (r"has already been bootstrapped", FailureKind.MISMATCH,
     "a member of this name and address was founded before"),
    (r"listen tcp\S* .*permission denied|bind: permission denied", FailureKind.ADDRESS,
     "the etcd user may not listen on its port"),
    (r"permission denied", FailureKind.OTHER,
     "the etcd user may not read or write one of its files"),
    (r"another etcd process is using", FailureKind.OTHER,
     "another etcd process uses the same data"),
    (r"data inconsistency|checkInitialHashKV failed|alarm raised.*\bCORRUPT\b|"
     r"corruption check failed|invalid database|freepages: |"
     r"[Pp]age expected to be|unexpected page type|"
     r"page \d+: (?:multiple references|already freed|unreachable)|"
     r"failed to open (?:database|backend)|failed to recover v3 backend|"
     r"failed to find database snapshot|file size too small|checksum error|SIGBUS|"
     r"snap: (?:crc mismatch|empty snapshot)|failed to unmarshal",
     FailureKind.CORRUPT, "its database is corrupt"),
    (r"crc mismatch|failed to (?:open|read|repair|create) WAL|wal: |walpb|tocommit\(|"
     r"cannot be repaired|Was the raft log corrupted|unexpected EOF.*wal|"
     r"discovery failed: proto: |cannot use none as id",
     FailureKind.BAD_WAL, "its write-ahead log cannot be used"),
    (r"cluster ID mismatch", FailureKind.FOREIGN, "its peers belong to another cluster"),
    (r"private key does not match|failed to find any PEM data|x509: |"
     r"open \S*\.(?:pem|crt|key): |no such file or directory.*\.pem|tls: failed",
     FailureKind.CERTIFICATE, "its certificates cannot be used"),
)  # fmt: skip
_REMOVED = "the member has been permanently removed from the cluster"
_COMPARED = re.compile(r"data inconsistency|checkInitialHashKV failed")
_BEHIND = re.compile(r"tocommit\(\d+\) is out of range \[lastIndex\((\d{1,20})\)\]")
_DYING = ("panic: ", "fatal error: ", "unexpected fault address", "[signal ")
_KILLED = re.compile(r"etcd\.service: .*(oom-kill|killed by the OOM killer)")


def reason(lines: Sequence[str]) -> Failure | None:
    """What etcd died of by its last log lines (zap's JSON), None when they do not say.

    Only its own last words count: what strangers send stands in the fields of other lines.
    """
    fallback = ""
    for line in reversed(lines):
        text = _last_words(line)
        if not text:
            continue
        for pattern, kind, sentence in _REASONS:
            if re.search(pattern, text):
                return _failure(kind, sentence, text, lines)
        fallback = fallback or text
    return Failure(FailureKind.OTHER, _printable(fallback)) if fallback else None


_PLAIN = re.compile(r"[0-9-]{10} [0-9:.]+ [CE] \| (?:[a-z/]+: )?(.+)")
"""What etcd 3.4 prints before it has its logger."""


def last_complaint(lines: Sequence[str]) -> Failure | None:
    """What etcd complained of last, of whatever level, where no stranger can write into its log.

    Of a file that it cannot read it says no more than a warning before it ends.
    """
    for line in reversed(lines):
        entry = _entry(line)
        if entry.get("error"):
            words = f"{entry.get('msg', '')}: {entry['error']}"
            return Failure(FailureKind.OTHER, _printable(words))
        if plain := _PLAIN.match(line):
            return Failure(FailureKind.OTHER, _printable(plain[1]))
    return None


def _failure(kind: FailureKind, sentence: str, text: str, lines: Sequence[str]) -> Failure:
    if _COMPARED.search(text) and (differs := _differing(lines)):
        return Failure(kind, "members hold other keys", differs)
    behind = _BEHIND.search(text)
    return Failure(kind, sentence, last_index=int(behind[1]) if behind else None)


def _differing(lines: Sequence[str]) -> int:
    """How many peers etcd says in these lines to hold other keys, by their endpoints."""
    entries = (_entry(line) for line in lines)
    return len(
        {
            json.dumps(entry.get("remote-peer-endpoints"))
            for entry in entries
            if str(entry.get("msg")).startswith("found different hash values from remote peer")
        }
    )


def _last_words(line: str) -> str:
    """What a line says of etcd's end, "" when it is about anything else.

    zap's message and the error that belongs to it, at a level that etcd does not survive; what
    Go's runtime and systemd print; and how a member ends that was removed, which is a warning.
    """
    entry = _entry(line)
    if not entry:
        return line if line.startswith(_DYING) or _KILLED.match(line) else ""
    message, error = str(entry.get("msg", "")), str(entry.get("error", ""))
    if entry.get("level") in ("fatal", "panic"):
        return f"{message}: {error}" if error else message
    return _REMOVED if (message, error) == ("server error", _REMOVED) else ""


def _entry(line: str) -> dict[str, Any]:
    """A line of zap's JSON, {} when it is none."""
    if not line.startswith("{"):
        return {}
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def why_failed() -> Failure | None:
    """Why etcd ended the last time, from its journal; None when the journal does not tell."""
    completed = processes.completed(
        ["journalctl", "--unit", service.UNIT, "--output", "cat", "--no-pager", "--lines", "300"],
        timeout=20,
    )
    lines = completed.stdout.splitlines()
    # Only what belongs to the last attempt counts.
    for position in range(len(lines) - 1, -1, -1):
        if lines[position].startswith(("Starting etcd", f"Starting {service.UNIT}")):
            lines = lines[position:]
            break
    return reason(lines)
