"""The secret that describes the remotes for backups, as its owner granted it."""

from __future__ import annotations

import ops
import pytest
from ops import testing

from relations import rclone_config

CONTENT = {"rclone-conf": "[vault]\ntype = local\n", "environment": "AWS_REGION=here"}


@pytest.mark.parametrize(
    ("content", "granted", "told"),
    [
        (CONTENT, True, (CONTENT["rclone-conf"], CONTENT["environment"])),
        ({"rclone-conf": "[vault]"}, True, ("[vault]", "")),
        ({"other": "field"}, True, ("", "")),
        (CONTENT, False, ("", "")),
        (None, True, (None, "")),
    ],
)
def test_given_a_secret_of_a_user_when_read_then_told_or_empty(content, granted, told):
    config = {"options": {"rclone-config": {"type": "secret"}}}
    context = testing.Context(ops.CharmBase, meta={"name": "etcd"}, config=config)
    secret = testing.Secret(content or CONTENT, owner=None)
    state = testing.State(
        secrets=[secret] if granted else [],
        config={"rclone-config": secret.id} if content else {},
    )
    with context(context.on.update_status(), state) as manager:
        assert rclone_config.read(manager.charm.model, manager.charm.config) == told
