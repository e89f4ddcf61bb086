"""What can go wrong with etcd: each error's text is the sentence an operator reads."""

from __future__ import annotations


class EtcdError(Exception):
    """Base of all errors of this package; `str()` of it is one sentence."""


class UnfinishedError(EtcdError):
    """No answer says what became of the request.

    Attributes:
        sent: it may have reached etcd, so it may have been applied, or may yet be.
    """

    def __init__(self, sentence: str, sent: bool = False) -> None:
        super().__init__(sentence)
        self.sent = sent


class UnreachableError(UnfinishedError):
    """No endpoint answered in time."""


class NoQuorumError(UnfinishedError):
    """An endpoint answered, but the cluster has no leader or cannot commit."""


class RefusedError(EtcdError):
    """The cluster answered, and said no.

    Attributes:
        reason: etcd's own words.
    """

    def __init__(self, sentence: str, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason or sentence


class UnhealthyError(RefusedError):
    """The strict reconfiguration check: a member is down, or changes follow too fast (5 s)."""


class NotInSyncError(RefusedError):
    """A learner is not yet in sync with the leader."""


class TooManyLearnersError(RefusedError):
    """The cluster has its one learner already."""


class NoSuchMemberError(RefusedError):
    """The cluster has no member of this ID."""


class LearnerError(RefusedError):
    """The endpoint is a learner, which does not serve this request."""


class PermissionDeniedError(RefusedError):
    """Authentication is on and this client may not do that."""


class CompactedError(RefusedError):
    """The revision asked for was compacted."""


class NoSpaceError(RefusedError):
    """The database reached its quota: etcd refuses writes."""


class CorruptError(RefusedError):
    """A CORRUPT alarm is armed: etcd refuses requests."""


class ToolError(EtcdError):
    """A program (`etcdutl`, `etcdctl`, `systemctl`, ...) failed.

    Attributes:
        output: what it printed, for the log.
    """

    def __init__(self, sentence: str, output: str = "") -> None:
        super().__init__(sentence)
        self.output = output


class DataError(EtcdError):
    """A data directory cannot be used as asked."""


class SnapshotError(EtcdError):
    """A snapshot file cannot be taken, verified or restored."""


class MissingError(SnapshotError):
    """There is no such file."""


class TruncatedError(SnapshotError):
    """The file ends too early."""


class ForeignFileError(SnapshotError):
    """The file is not a snapshot of etcd's v3 store."""


class BadHashError(SnapshotError):
    """The file's content does not match its hash, or it has none."""


class NewerError(SnapshotError):
    """The snapshot was taken from a newer etcd than the one installed."""


class TargetError(SnapshotError):
    """The directory to restore into cannot be used."""


class OptionsError(EtcdError):
    """etcd cannot start with the options it is to have; those of before stay in use."""


class InstallError(EtcdError):
    """etcd cannot be installed from what was given; nothing was changed."""
