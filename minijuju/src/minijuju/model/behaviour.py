"""What differs between the Jujus that minijuju can be: data, with its sources.

Code asks a model for `state.behaviour` and for one of the fields below; nothing else asks for a
version. Each field says in words what differs, how that is known, and which conformance test looks
at it. `docs/differences.md` is made from here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

SEEN = "seen on a controller of 4.0.15 (LXD)"
SOURCE = "source of 3.6 and of 4.1-beta2"
DOCUMENTED = "documentation of ops and of Juju 4"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One row of the table: what differs, how it is known, and what checks it."""

    what: str
    values: tuple[Any, Any]
    """In 3.6 and in 4.0."""
    shown: tuple[str, str]
    """The same in words."""
    source: str
    test: str
    """A function of the conformance suite that holds for both."""


def _differs(
    what: str, old: Any, new: Any, *, shown: tuple[str, str], source: str = SEEN, test: str
) -> Any:
    difference = Difference(what, (old, new), shown, source, test)
    return dataclasses.field(metadata={"difference": difference})


NO = ("no", "yes")
YES = ("yes", "no")


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """One Juju."""

    name: str
    """As `bootstrap --agent-version` takes it."""
    version: str = _differs(
        "The version that hooks and the status see",
        *("3.6.14", "4.0.15"),
        shown=("3.6.14", "4.0.15"),
        test="test_given_a_model_when_its_version_is_asked_then_all_say_the_same",
    )
    key_needed: bool = _differs(
        "`ssh` and `scp` into a new model are refused until `add-ssh-key`",
        *(False, True),
        shown=NO,
        test="test_given_a_new_model_when_entered_without_a_key_then_as_this_juju_does",
    )
    peer_departed: bool = _differs(
        "A unit that is gone: its peers run `departed`, and `relation-list` leaves it out at once "
        "(else when the agent restarts; `goal-state` is right at once in both)",
        *(True, False),
        shown=YES,
        source=f"juju/juju#23326; {SEEN}, not at each removal",
        test="test_given_a_peer_that_is_gone_when_asked_then_as_this_juju_knows",
    )
    new_endpoints: bool = _differs(
        "`refresh` to a charm with an endpoint more",
        *(True, False),
        shown=("works", "refused"),
        test="test_given_a_charm_with_a_new_endpoint_when_refreshed_then_as_this_juju_does",
    )
    own_app_bag: bool = _differs(
        "A unit that does not lead reads its own application's bag of an ordinary relation",
        *(False, True),
        shown=("permission denied", "yes"),
        test="test_given_a_follower_when_it_reads_its_own_app_bag_then_as_this_juju_lets_it",
    )
    checks_parameters: bool = _differs(
        "Parameters of an action that do not fit its schema",
        *(True, False),
        shown=("refused before scheduling", "scheduled; the task fails in the unit"),
        test="test_given_bad_parameters_when_run_then_as_this_juju_refuses_them",
    )
    object_parameters: bool = _differs(
        "A parameter of type `object`",
        *(True, False),
        shown=("taken", 'the task fails: `must be of type object, given "map[...]"`'),
        test="test_given_an_object_as_parameter_when_run_then_as_this_juju_takes_it",
    )
    additional_properties: bool = _differs(
        "Parameters that an action does not declare, where its `additionalProperties` is not said",
        *(True, False),
        shown=("taken", "refused"),
        source=SOURCE,
        test="test_given_an_undeclared_parameter_when_run_then_as_this_juju_takes_it",
    )
    cancelled: str = _differs(
        "Status of a running task after `cancel-task`",
        *("aborted", "completed"),
        shown=("`aborted`", "`completed`"),
        test="test_given_a_task_when_cancelled_then_it_ends_and_the_next_runs",
    )
    shared_ports: bool = _differs(
        "Two units of one machine open the same port",
        *(False, True),
        shown=("the second hook or action fails", "yes"),
        test="test_trap_43_given_two_units_on_a_machine_when_used_then_they_share_it",
    )
    storage_by_uuid: bool = _differs(
        "Place of storage without a location",
        *(False, True),
        shown=("`/var/lib/juju/storage/NAME/N`", "`/var/lib/juju/storage/UUID`"),
        test="test_given_storage_when_placed_and_detached_then_as_this_juju_does",
    )
    persistent: bool = _differs(
        "`persistent` of storage in the pool `lxd`, which outlives its unit in both",
        *(True, False),
        shown=("true", "false"),
        test="test_given_storage_when_placed_and_detached_then_as_this_juju_does",
    )
    detaches_rootfs: bool = _differs(
        "`detach-storage` of what lies on the machine's own disk",
        *(False, True),
        shown=("refused", "taken; its content goes"),
        test="test_given_storage_when_placed_and_detached_then_as_this_juju_does",
    )
    variables: tuple[tuple[str, str], ...] = _differs(
        "Variables of hooks that the other does not have",
        (
            ("JUJU_SLA", "unsupported"),
            ("JUJU_METER_STATUS", "AMBER"),
            ("JUJU_METER_INFO", "not set"),
        ),
        (
            ("JUJU_CHARM_TRACE_CONFIG_CA_CERT", ""),
            ("JUJU_CHARM_TRACE_CONFIG_GRPC", ""),
            ("JUJU_CHARM_TRACE_CONFIG_HTTP", ""),
        ),
        shown=("`JUJU_SLA`, `JUJU_METER_*`", "`JUJU_CHARM_TRACE_CONFIG_*`"),
        test="test_given_a_hook_when_it_runs_then_its_variables_are_this_jujus",
    )
    no_state: str = _differs(
        "`state-get --format=json` of a charm that stored nothing",
        *("{}", "null"),
        shown=("`{}`", "`null`"),
        test="test_given_nothing_stored_when_asked_for_then_as_this_juju_says_it",
    )
    no_network: str = _differs(
        "`network-get` of an endpoint that does not exist",
        'undefined for unit charm: endpoint "{0}" not valid',
        'no network config found for binding "{0}"',
        shown=('`endpoint "x" not valid`', '`no network config found for binding "x"`'),
        test="test_trap_27_given_no_relation_when_asked_then_network_goal_and_address_answer",
    )
    no_application: str = _differs(
        "`integrate` with an application that does not exist",
        'application "{0}" not found',
        "no candidates for {1}: relation endpoint not found",
        shown=('`application "x" not found`', "`no candidates for x:y: ...`"),
        test="test_given_unknown_names_when_used_then_refused",
    )
    no_match: str = _differs(
        "`integrate` of endpoints that do not fit",
        "no relations found",
        "no compatible endpoints found between applications",
        shown=("`no relations found`", "`no compatible endpoints found between applications`"),
        test="test_given_unknown_names_when_used_then_refused",
    )
    leader_settings: bool = _differs(
        "A unit that does not lead runs `leader-settings-changed` once",
        *(True, False),
        shown=YES,
        source=SOURCE,
        test="test_given_a_follower_when_deployed_then_its_hooks_are_this_jujus",
    )
    private_address: bool = _differs(
        "`private-address` stands in a unit's bag beside `ingress-address`",
        *(True, False),
        shown=YES,
        source=SOURCE,
        test="test_given_a_follower_when_deployed_then_its_hooks_are_this_jujus",
    )
    force_seconds: float = _differs(
        "`remove-unit --force` leaves the unit to tear itself down for",
        *(60.0, 0.0),
        shown=("a minute", "no time: its hooks may not run"),
        source=SOURCE,
        test="test_given_a_unit_when_forced_out_then_within_this_jujus_time",
    )
    status_life: bool = _differs(
        "`status --format json` says `life` of applications, units and machines that are alive",
        *(False, True),
        shown=NO,
        test="test_given_the_status_when_read_then_its_fields_are_this_jujus",
    )
    status_lacks: frozenset[str] = _differs(
        "Fields of `status --format json` that only 3.6 has",
        frozenset[str](),
        frozenset({"sla", "display-name", "modification-status", "agent-version-of-machines"}),
        shown=(
            "`sla`, `display-name`, `modification-status`, a machine agent's `version`",
            "none",
        ),
        test="test_given_the_status_when_read_then_its_fields_are_this_jujus",
    )
    binds_juju_info: bool = _differs(
        "`juju-info` stands among an application's bindings",
        *(False, True),
        shown=NO,
        test="test_given_the_status_when_read_then_its_fields_are_this_jujus",
    )


def differences() -> dict[str, Difference]:
    """All rows of the table, by the field's name."""
    return {
        field.name: field.metadata["difference"]
        for field in dataclasses.fields(Behaviour)
        if "difference" in field.metadata
    }


def _made(name: str, column: int) -> Behaviour:
    return Behaviour(name, **{key: row.values[column] for key, row in differences().items()})


BEHAVIOURS = {name: _made(name, column) for column, name in enumerate(("3.6", "4.0"))}
DEFAULT = "3.6"


def of(version: str) -> Behaviour:
    """The behaviour of a version such as `3.6`, `4.0` or `4.0.15`; raises KeyError."""
    return BEHAVIOURS[".".join((version or DEFAULT).split(".")[:2])]


@dataclasses.dataclass(frozen=True)
class Lack:
    """One thing that Juju does and minijuju does not."""

    what: str
    here: str
    """What minijuju does instead."""
    check: str
    """The test that expects it, or why there is none."""


LACKS = (
    Lack(
        "Charmhub, bundles, `ch:` names",
        "`deploy` takes the path of a `.charm` file; all else is refused by a sentence",
        "test_given_what_minijuju_lacks_when_asked_for_then_one_sentence_refuses",
    ),
    Lack(
        "Offers, cross-model relations, several controllers, clouds, credentials, users",
        "refused by a sentence; one controller, one cloud, one user",
        "test_given_what_minijuju_lacks_when_asked_for_then_one_sentence_refuses",
    ),
    Lack(
        "`suspend-relation`, `retry-provisioning`, `set-constraints`",
        "refused by a sentence",
        "test_given_what_minijuju_lacks_when_asked_for_then_one_sentence_refuses",
    ),
    Lack(
        "Constraints, devices, placement other than a machine's number, availability zones",
        "constraints are shown and have no effect; placement is refused",
        "test_given_what_minijuju_lacks_when_asked_for_then_one_sentence_refuses",
    ),
    Lack(
        "An image of Ubuntu; a base of its own for each application",
        "all machines are Debian that calls itself Ubuntu 24.04",
        "none: charms read /etc/os-release, where it says Ubuntu",
    ),
    Lack(
        "A lost agent is noticed after 20 s to 3 min",
        "at once",
        "none: a test that waits for it passes on both",
    ),
    Lack(
        "After an agent's restart a peer relation may run `broken`, and `JUJU_REMOTE_APP` may be "
        "empty (a defect)",
        "never",
        "none: not at each restart",
    ),
    Lack(
        "4.0: a dying unit without relations may be gone before `stop` and `remove` have run "
        "(a defect)",
        "both run",
        "none: not at each removal",
    ),
    Lack(
        "Series upgrades, payloads, metrics, `leader-set`",
        "hook tools that do nothing",
        "none: gone in Juju 4",
    ),
    Lack(
        "`juju-exec --relation`, `--remote-unit`, `--remote-app`",
        "taken, without effect",
        "none: no charm here uses them",
    ),
    Lack(
        "Secret backends, storage providers, resources from Charmhub, OCI images",
        "secrets in the controller; the pools `rootfs`, `tmpfs`, `loop`, and host directories for "
        "any other name; resources are uploaded",
        "none: no way to ask",
    ),
    Lack(
        "`expose` opens a cloud's firewall",
        "a mark in the status; every port is open",
        "none: LXD does not either",
    ),
    Lack(
        "Credentials are checked, API and agents speak TLS on port 17070",
        "a socket in $MINIJUJU_HOME that root may use; `JUJU_API_ADDRESSES` leads nowhere",
        "none: charms do not speak to the API",
    ),
    Lack(
        "The default of a filesystem in 4.0 on LXD is the pool `lxd`, and its size is kept to "
        "where the pool can",
        "the pool `rootfs`; sizes are shown",
        "none: tests name the pool",
    ),
    Lack(
        "`ssh` and `scp` are OpenSSH's: keys, options, a server",
        "a login shell by namespaces; OpenSSH's options are taken and mean nothing",
        "none: what arrives is the same",
    ),
)
"""What Juju does and minijuju does not, as far as known."""
