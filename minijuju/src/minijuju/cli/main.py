"""``minijuju VERB ...``: the command line of ``juju`` for a controller on this machine.

State lives under $MINIJUJU_HOME. The model is the one of ``--model``, else of $MINIJUJU_MODEL, or
of $JUJU_MODEL, or the current one. Data goes to stdout; ``ERROR <text>`` and progress go to
stderr. Exit codes: 0, 1 for an error, 2 for a command line that makes no sense.
"""

from __future__ import annotations

import importlib
import os
import sys

from minijuju.cli import argv

_MODEL = "model,m="
_SHOW = "format= output,o="
_FORCED = "force no-wait no-prompt"

VERBS: dict[str, tuple[str, str]] = {
    "actions": ("showing.actions", f"{_MODEL} {_SHOW} schema"),
    "add-cloud": (
        "models.refused",
        "client controller,c= credential= file,f= force target-controller=",
    ),
    "add-credential": ("models.refused", "client controller,c= file,f= region="),
    "add-machine": (
        "applications.add_machine",
        f"{_MODEL} base= constraints=* disks=* n= private-key= public-key= series=",
    ),
    "add-model": ("models.add_model", "config=* controller,c= credential= no-switch owner="),
    "add-secret": ("secrets.add_secret", f"{_MODEL} file= info="),
    "add-space": ("models.add_space", _MODEL),
    "add-ssh-key": ("models.ssh_key", _MODEL),
    "add-storage": ("applications.add_storage", _MODEL),
    "add-unit": ("applications.add_unit", f"{_MODEL} attach-storage= num-units,n= to="),
    "attach-resource": ("applications.attach_resource", _MODEL),
    "attach-storage": ("applications.attach_storage", _MODEL),
    "bootstrap": (
        "models.bootstrap",
        "no-switch agent-version= bootstrap-base= bootstrap-constraints=* config=* constraints=* "
        "credential= force model-default=* storage-pool=* to= metadata-source=",
    ),
    "cancel-task": ("tasks.cancel_task", f"{_MODEL} {_SHOW}"),
    "chaos": ("models.chaos", f"{_MODEL} from= to= leave-mib= iops="),
    "config": ("applications.config", f"{_MODEL} {_SHOW} file= reset= color no-color"),
    "constraints": ("applications.constraints", f"{_MODEL} {_SHOW}"),
    "consume": ("models.refused", _MODEL),
    "controllers": ("models.controllers", f"{_SHOW} refresh managed"),
    "debug-log": (
        "showing.debug_log",
        f"{_MODEL} limit= lines,n= replay tail no-tail include,i=* exclude,x=* include-module=* "
        "exclude-module=* include-labels=* exclude-labels=* level,l= date ms utc location color "
        "retry retry-delay= format= firehose",
    ),
    "deploy": (
        "applications.deploy",
        f"{_MODEL} attach-storage= base= series= bind= channel= config=* constraints=* device=* "
        "dry-run force map-machines= num-units,n= overlay=* resource=* revision= "
        "storage=* to= trust",
    ),
    "destroy-model": (
        "models.destroy_model",
        f"{_MODEL} {_FORCED},y destroy-storage release-storage timeout,t=",
    ),
    "detach-storage": ("applications.detach_storage", f"{_MODEL} force no-wait"),
    "down": ("models.down", ""),
    "exec": (
        "tasks.execute",
        f"{_MODEL} {_SHOW} unit,u= machine= application,app,a= all wait= background utc color "
        "no-color parallel execution-group= operator",
    ),
    "expose": ("applications.expose", f"{_MODEL} endpoints= to-spaces= to-cidrs="),
    "grant-secret": ("secrets.grant_secret", _MODEL),
    "integrate": ("applications.integrate", f"{_MODEL} via="),
    "machines": ("showing.machines", f"{_MODEL} {_SHOW} utc color"),
    "model-config": (
        "models.model_config",
        f"{_MODEL} {_SHOW} file= reset= color no-color ignore-read-only-fields",
    ),
    "model-constraints": ("models.model_constraints", f"{_MODEL} {_SHOW}"),
    "models": ("models.models", f"{_SHOW} controller,c= all uuid user= exact-time"),
    "offer": ("models.refused", "controller,c="),
    "operations": (
        "tasks.operations",
        f"{_MODEL} {_SHOW} utc limit= offset= units= machines= apps= status= actions=",
    ),
    "refresh": (
        "applications.refresh",
        f"{_MODEL} base= channel= config=* force force-base force-series force-units path= "
        "resource=* revision= storage=* switch= trust bind=",
    ),
    "remove-application": (
        "applications.remove_application",
        f"{_MODEL} {_FORCED} destroy-storage dry-run {_SHOW}",
    ),
    "remove-machine": (
        "applications.remove_machine",
        f"{_MODEL} {_FORCED} keep-instance dry-run {_SHOW}",
    ),
    "remove-relation": ("applications.remove_relation", f"{_MODEL} force"),
    "remove-secret": ("secrets.remove_secret", f"{_MODEL} revision="),
    "remove-ssh-key": ("models.ssh_key", _MODEL),
    "remove-storage": ("applications.remove_storage", f"{_MODEL} force no-destroy no-wait"),
    "remove-unit": (
        "applications.remove_unit",
        f"{_MODEL} {_FORCED} destroy-storage dry-run num-units= {_SHOW}",
    ),
    "resolved": ("applications.resolved", f"{_MODEL} no-retry all"),
    "resources": ("applications.resources", f"{_MODEL} {_SHOW} details"),
    "retry-provisioning": ("models.refused", f"{_MODEL} all"),
    "revoke-secret": ("secrets.grant_secret", _MODEL),
    "run": (
        "tasks.run",
        f"{_MODEL} {_SHOW} wait= background params= string-args utc color no-color parallel "
        "execution-group=",
    ),
    "scp": ("tasks.scp", f"{_MODEL} container= no-host-key-checks proxy remote"),
    "secrets": ("secrets.secrets", f"{_MODEL} {_SHOW} owner="),
    "set-constraints": ("applications.constraints", _MODEL),
    "set-model-constraints": ("models.set_model_constraints", _MODEL),
    "show-application": ("showing.show_application", f"{_MODEL} {_SHOW}"),
    "show-machine": ("showing.machines", f"{_MODEL} {_SHOW} utc color"),
    "show-model": ("models.show_model", f"{_MODEL} {_SHOW}"),
    "show-operation": ("tasks.operations", f"{_MODEL} {_SHOW} utc wait= watch"),
    "show-secret": ("secrets.show_secret", f"{_MODEL} {_SHOW} reveal revisions revision,r="),
    "show-status-log": (
        "showing.show_status_log",
        f"{_MODEL} {_SHOW} type= n= days= from-date= utc",
    ),
    "show-storage": ("applications.storage", f"{_MODEL} {_SHOW}"),
    "show-task": ("tasks.show_task", f"{_MODEL} {_SHOW} utc wait= watch"),
    "show-unit": ("showing.show_unit", f"{_MODEL} {_SHOW} app endpoint= related-unit="),
    "spaces": ("models.spaces", f"{_MODEL} {_SHOW} short"),
    "ssh": ("tasks.ssh", f"{_MODEL} container= no-host-key-checks proxy pty= remote"),
    "status": (
        "showing.status",
        f"{_MODEL} {_SHOW} relations integrations storage color no-color utc "
        "watch= retry-count= retry-delay=",
    ),
    "subnets": ("models.subnets", f"{_MODEL} {_SHOW} space= zone="),
    "storage": ("applications.storage", f"{_MODEL} {_SHOW} filesystem volume"),
    "suspend-relation": ("models.refused", f"{_MODEL} message="),
    "switch": ("models.switch", f"controller,c= {_MODEL}"),
    "trust": ("applications.trust", f"{_MODEL} remove scope="),
    "unexpose": ("applications.expose", f"{_MODEL} endpoints="),
    "up": ("models.up", ""),
    "update-cloud": ("models.refused", "client controller,c= file,f="),
    "update-secret": ("secrets.update_secret", f"{_MODEL} file= info= name= auto-prune"),
    "version": ("models.version", f"{_SHOW} all"),
    "whoami": ("models.whoami", f"{_SHOW} controller,c="),
}
"""Where each verb is implemented, and its flags."""

ALIASES = {
    "relate": "integrate",
    "add-relation": "integrate",
    "list-models": "models",
    "list-controllers": "controllers",
    "list-machines": "machines",
    "list-actions": "actions",
    "list-secrets": "secrets",
    "list-storage": "storage",
    "list-resources": "resources",
    "list-operations": "operations",
    "charm-resources": "resources",
    "show-status": "status",
    "upgrade-charm": "refresh",
    "debug-logs": "debug-log",
    "resolve": "resolved",
}

_IN_ORDER = ("ssh", "scp")
"""Verbs whose flags end at the first positional."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    while words and words[0] in ("--debug", "--verbose", "--quiet", "-q", "--show-log"):
        words = words[1:]
    if not words or words[0] in ("help", "--help", "-h"):
        print(_usage(words[1:]))
        return 0
    if words[0] == "--version":
        words = ["version"]
    verb = ALIASES.get(words[0], words[0])
    if verb not in VERBS:
        print(
            f'ERROR minijuju: "{words[0]}" is not a minijuju command. See "minijuju --help".',
            file=sys.stderr,
        )
        return 2
    from minijuju.model import errors

    try:
        return _run(verb, words[1:])
    except argv.UsageError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 2
    except errors.JujuError as error:
        print(f"ERROR {error.text}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _run(verb: str, words: list[str]) -> int:
    place, spec = VERBS[verb]
    flags = argv.parse(spec, words, mixed=verb not in _IN_ORDER)
    if flags.on("help"):
        print(_usage([verb]))
        return 0
    from minijuju.cli import context
    from minijuju.model import formats

    module, _, function = place.partition(".")
    action = getattr(importlib.import_module(f"minijuju.cli.verbs.{module}"), function)
    try:
        code = action(context.Context(verb, flags))
        sys.stdout.flush()
        return code
    except formats.FormatError as error:
        raise argv.UsageError(str(error)) from None


def _usage(words: list[str]) -> str:
    verb = ALIASES.get(words[0], words[0]) if words else ""
    if verb in VERBS:
        place, spec = VERBS[verb]
        module, _, function = place.partition(".")
        action = getattr(importlib.import_module(f"minijuju.cli.verbs.{module}"), function)
        flags = " ".join(
            f"[--{word.partition('=')[0].partition(',')[0]}{' VALUE' if '=' in word else ''}]"
            for word in spec.split()
        )
        return f"Usage: minijuju {verb} {flags} ...\n\n{(action.__doc__ or '').strip()}"
    listed = "\n".join(f"  {name}" for name in sorted(VERBS))
    return f"Usage: minijuju VERB ...\n\n{(__doc__ or '').strip()}\n\nVerbs:\n{listed}"


if __name__ == "__main__":
    sys.exit(main())
