"""A context of the library of tests that knows this charm's files."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import yaml
from ops import testing

import charm

ROOT = pathlib.Path(__file__).parents[2]
ACTIONS: dict[str, Any] = yaml.safe_load((ROOT / "actions.yaml").read_text())


def context(**names: Any) -> testing.Context[charm.EtcdCharm]:
    """The charm as its files say it; the library knows one type for a parameter, and no list.

    Args:
        names: of application and unit, as `testing.Context` takes them.
    """
    actions = copy.deepcopy(ACTIONS)
    for action in actions.values():
        for param in action.get("params", {}).values():
            param["type"] = param["type"][0] if isinstance(param["type"], list) else param["type"]
    meta, config = (
        yaml.safe_load((ROOT / f"{name}.yaml").read_text()) for name in ("metadata", "config")
    )
    return testing.Context(charm.EtcdCharm, meta=meta, actions=actions, config=config, **names)
