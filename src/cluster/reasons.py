"""Why a unit shows what it shows: one table of every sentence in `juju status`.

`docs/statuses.md` is this table; its keys are the label of a metric, and a key of `health`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping  # noqa: TC003 - a public type of this module


@dataclasses.dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
        status: Juju's word for it: active, waiting, maintenance or blocked.
        says: the sentences that it shows; `…` stands for particulars.
        cause: what has happened.
        charm: what the charm does about it.
        operator: what to do, with the command as it is typed; "" where there is nothing to do.
    """

    status: str
    says: tuple[str, ...]
    cause: str
    charm: str
    operator: str = ""


_LEADER = "`juju run etcd/leader"
_FORCE = "`juju remove-unit --force UNIT`"

REASONS: Mapping[str, Reason] = {
    "installing": Reason(
        "maintenance",
        ("installing etcd",),
        "Etcd, its certificates or its configuration are not on the machine yet.",
        "It installs the packages, and asks for certificates.",
    ),
    "founding": Reason(
        "waiting",
        (
            "waiting for units to found the cluster: …",
            "founding the cluster",
            "founding the cluster anew: its first founders are gone",
            "too few of the units that were to found the cluster are left, and …",
        ),
        "The units that Juju plans are not all ready, or start the first generation just now.",
        "It founds the cluster once, when all of them are ready.",
        "Wait. For a unit that never comes up: " + _FORCE + ".",
    ),
    "held": Reason(
        "blocked",
        ("not founded: …",),
        "`recover-total-loss` is on, and the backups on the remote need a decision, or cannot be "
        "read.",
        "It founds no empty cluster beside the backups of another.",
        "Do what the sentence says of the backups, or `juju config etcd "
        "recover-total-loss=false` for an empty cluster.",
    ),
    "joining": Reason(
        "waiting",
        (
            "joining the cluster",
            "catching up as a learner",
            "waiting for … to join first",
            "waiting for a quorum of members to answer",
        ),
        "The unit is new, or its data was replaced.",
        "It adds one learner at a time, and makes it a voter once it has caught up.",
    ),
    "healthy": Reason(
        "active",
        ("Healthy with … known peers", "Healthy with … known peers; …"),
        "Units, members and voters are the same, all of them healthy, and there is no alarm.",
        "Nothing is left to do.",
    ),
    "degraded": Reason(
        "waiting",
        (
            "waiting for a quorum of members to answer",
            "… does not answer…",
            "… yet…",
            "… run… the committed generation…",
            "no member leads…",
            "… is the member of no unit: …",
            "… has no unit any more…",
            "… as corrupt…",
            "… catches up as a learner…",
            "… cannot dial other members…",
            "…alarm NOSPACE on …",
        ),
        "The cluster serves, or will again by itself, but something is missing.",
        "It removes members without a unit, and brings back those that it can.",
        "Start the machines that the sentence names. After an alarm NOSPACE make room, then "
        + _LEADER
        + " alarm-disarm`. For a member of no unit: "
        + _LEADER
        + " member-remove member=ID`.",
    ),
    "restoring": Reason(
        "maintenance",
        (
            "preparing the restore: …",
            "starting the restored cluster…",
            "letting clients reach the restored cluster",
        ),
        "A restore was asked for, or `recover-total-loss` began one.",
        "It prepares the data on every founder, stops the old cluster and starts the new one, and "
        "lets clients in once that is confirmed.",
    ),
    "rolled-back": Reason(
        "maintenance",
        ("the restore failed, returning to the old data: …",),
        "The restored cluster did not become healthy in time.",
        "It starts the data again that was replaced. No client reached the restored cluster.",
        "Mend what the sentence names, and restore again.",
    ),
    "quorum-lost": Reason(
        "blocked",
        (
            "no quorum of members answers: …",
            "no quorum of members answers, since etcd knows …",
            "no quorum of members is left: …",
            "a majority of members was removed: …",
            "a majority of members was removed, and …",
        ),
        "A majority of the voters is gone or cannot be reached, and writes are impossible.",
        "It waits for them. It recovers by itself only with `recover-quorum-loss`, and where Juju "
        "says that the units are gone.",
        "Start the machines, or mend the network. Where they are lost for good, and the sentence "
        "names it: " + _LEADER + " recover`.",
    ),
    "recovering": Reason(
        "maintenance",
        (
            "preparing the data of …",
            "starting the cluster from the data of …",
            "no unit has data left: restoring the newest proven backup",
            "founding the cluster from the attached disks…",
            "a majority of members was removed",
            "a majority of members was removed, waiting for …",
        ),
        "A recovery was asked for, or its option is on.",
        "It founds a new generation from the disk that holds most, and keeps the others' data.",
        "Where it waits for a machine that is lost: " + _FORCE + ".",
    ),
    "not-recovered": Reason(
        "blocked",
        ("… whose disk holds most, could not found the cluster: …",),
        "The disk that holds most could not found the cluster: no room, or damaged data.",
        "It tries again each minute, and takes no lesser disk unasked.",
        "Mend what the sentence names, or " + _LEADER + " recover unit=UNIT`.",
    ),
    "leaving": Reason(
        "maintenance",
        ("leaving the cluster", "leaving the cluster; …"),
        "The unit is being removed.",
        "It takes its member out when the others are a quorum without it.",
        "Do what the sentence waits for: start a machine, or `juju add-unit etcd`.",
    ),
    "corrupt": Reason(
        "blocked",
        ("data unusable (…",),
        "Etcd cannot use the data of this unit, and its replacement would cost the quorum.",
        "It keeps the data until the other members can spare this one, and joins anew then.",
        "Start the other machines. If they never come back: "
        + _LEADER
        + " restore backup-id=latest`.",
    ),
    "different": Reason(
        "blocked",
        ("etcd found that its members hold different keys …",),
        "Members hold different keys, and etcd lets nobody write while it is not known whose are "
        "wrong.",
        "It makes the member anew that a majority disagrees with.",
        "Where no majority agrees: `juju remove-unit etcd/N` with the unit that is wrong, or "
        + _LEADER
        + " restore backup-id=latest`.",
    ),
    "clock": Reason(
        "blocked",
        ("the other members' certificates are not valid by the clock of this machine…",),
        "The machine's clock is wrong, or all others' are.",
        "It changes nothing.",
        "Set the clock: `juju ssh UNIT timedatectl`.",
    ),
    "down": Reason(
        "blocked",
        ("etcd cannot run: …",),
        "Etcd ends at its start, and not because of its data: no room, a port in use, a file.",
        "It starts etcd again until the cause is gone.",
        "Mend what the sentence names: `juju ssh UNIT journalctl -u etcd`.",
    ),
    "fenced": Reason(
        "waiting",
        ("etcd was stopped here: generation … is served…",),
        "A later generation is served elsewhere, and Juju has not told this unit of it yet.",
        "Its etcd stays stopped; the unit joins when Juju tells it.",
    ),
    "stuck": Reason(
        "blocked",
        ("this unit was added … times within an hour …",),
        "The unit was added as a learner too often and did not catch up.",
        "It leaves the unit alone for an hour.",
        "`juju remove-unit UNIT` and `juju add-unit etcd`.",
    ),
    "conflict": Reason(
        "blocked",
        ("attached disks hold data of different clusters, …",),
        "Attached disks hold data of several clusters, and no record says which one is ours.",
        "It starts none of them.",
        _LEADER + " recover unit=UNIT` with the unit whose data to use.",
    ),
    "data-lost": Reason(
        "blocked",
        ("no unit has the cluster's data any more…",),
        "Every unit has said that it has none of the cluster's data.",
        "It founds nothing: only an operator says what to restore.",
        _LEADER + " restore backup-id=latest`.",
    ),
    "certificates": Reason(
        "waiting",
        ("…certificate…", "…authority…"),
        "The authority on `certificates` has not answered, or its answer cannot be used; then the "
        "status is blocked.",
        "Etcd serves with the certificate that it has. Where it has none, it waits.",
        "Look at the application on the other side, or `juju remove-relation etcd APPLICATION`: "
        "the cluster's own authority signs then.",
    ),
    "configuration": Reason(
        "blocked",
        ("… set it to …", "etcd cannot start with …"),
        "An option, or several together, cannot be used.",
        "Etcd goes on with the values of before.",
        "Set the option as the sentence says; `juju config etcd` shows all of them.",
    ),
    "relation": Reason(
        "blocked",
        ("… cannot be read …",),
        "What another unit wrote cannot be read.",
        "Nothing is changed.",
        "Look at that unit: `juju show-unit UNIT`.",
    ),
    "backups": Reason(
        "blocked",
        (
            "Backups …",
            "The newest … is …",
            "The newest backup lies …",
            "Old backups stay: …",
            "the keeper and etcd-admin were not told …",
        ),
        "Backups are not as they should be. While another application's answer is awaited, the "
        "status is waiting.",
        "Etcd serves. The keeper tries again, and tells when it worked.",
        "Mend what the sentence names; " + _LEADER + " create-backup` tries at once.",
    ),
    "packages": Reason(
        "blocked",
        ("apt cannot install …", "the etcd resource …", "the installation of etcd …"),
        "Etcd could not be installed.",
        "It tries again at each tick.",
        "Mend what the sentence names: `juju ssh UNIT tail /var/log/apt/term.log`.",
    ),
    "machine": Reason(
        "blocked",
        ("the etcd of this machine belongs to …", "… does not have the etcd of its machine…"),
        "The machine has an etcd that is not this unit's.",
        "It touches nothing there.",
        "`juju add-unit etcd`, and then `juju remove-unit UNIT`.",
    ),
    "machine-tool": Reason(
        "blocked",
        ("…",),
        "A tool of the machine, or its disk, refused what the hook needed.",
        "Etcd runs as it did; the next hook tries again.",
        "Mend what the sentence names.",
    ),
}
"""Key to what it means. The first ones are the planner's, by `State`."""
