"""The `rclone-config` secret: the remotes that a user describes for backups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ops

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(model: ops.Model, options: Mapping[str, object]) -> tuple[str | None, str]:
    """An rclone configuration, and environment variables for it, one `NAME=value` a line.

    Args:
        model: the charm's.
        options: the charm's configuration.

    Returns:
        (None, "") when the option is not set, ("", "") when the secret cannot be read.
    """
    uri = options.get("rclone-config")
    if not uri:
        return None, ""
    try:
        content = model.get_secret(id=str(uri)).get_content(refresh=True)
    except (ops.SecretNotFoundError, ops.ModelError):
        return "", ""
    return content.get("rclone-conf", ""), content.get("environment", "")
