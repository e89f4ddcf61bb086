"""The one error that reaches a user of the command line."""

from __future__ import annotations


class JujuError(Exception):
    """What `juju` prints as `ERROR <text>`, with its exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
