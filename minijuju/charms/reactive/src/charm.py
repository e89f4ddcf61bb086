"""Tell the other side a word, and show what it told: hooks and states of charmhelpers alone."""

import pathlib
import site
import sys

CHARM = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(CHARM / "venv"))
site.addsitedir(str(CHARM / "venv"))  # for its .pth: charmhelpers imports distutils

from charmhelpers.core import hookenv, unitdata  # noqa: E402

hooks = hookenv.Hooks()


@hooks.hook("install", "start", "update-status")
def show():
    """Show what was heard; without any, what is waited for."""
    heard = unitdata.kv().get("heard")
    if not heard:
        hookenv.status_set("waiting", "for a word")
        return
    hookenv.status_set("active", f"{heard['word']} from {heard['address']}, Juju {heard['juju']}")


@hooks.hook("config-changed", "source-relation-joined", "sink-relation-joined")
def tell():
    """Tell all that are related."""
    for endpoint in ("source", "sink"):
        for relation in hookenv.relation_ids(endpoint):
            address = hookenv.network_get(endpoint, relation)["ingress-addresses"][0]
            hookenv.relation_set(
                relation_id=relation,
                word=hookenv.config("word"),
                relation_settings={
                    "address": address,
                    "juju": hookenv.juju_version().strip(),
                    "lines": "one\ntwo: 'three'\n" * 20,
                },
            )


@hooks.hook("source-relation-changed", "sink-relation-changed")
def hear():
    """Keep what a unit tells, once all of it is there."""
    told = hookenv.relation_get()
    if told.get("word"):
        assert told["lines"].count("'three'") == 20
        unitdata.kv().set("heard", {key: told[key] for key in ("word", "address", "juju")})
    show()


@hooks.hook("source-relation-broken", "sink-relation-broken")
def forget():
    """Wait for another."""
    unitdata.kv().unset("heard")
    show()


def main():
    """Run the hook that Juju names."""
    try:
        hooks.execute([hookenv.hook_name()])
    except hookenv.UnregisteredHookError:
        hookenv.log(f"nothing to do in {hookenv.hook_name()}")
    unitdata.kv().flush()


if __name__ == "__main__":
    main()
